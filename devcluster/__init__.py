"""A real Kubernetes for tests and demos, on one Linux machine and without Docker.

The package builds the Kubernetes programs from source, starts them in namespaces of their own,
builds the images of this project, and hands the running cluster to people (`python -m devcluster
up`) and to pytest (`devcluster.pytest_plugin`). It knows neither the operator nor the worker: it
sees Dockerfiles, a chart and CRD files. It needs Python's standard library and root.

Read in this order:

* `layout`        where every file of a cluster lies, and what `purge` may delete
* `binaries`      Go programs, built once per user and machine
* `certificates`, `kubeconfig`   who may talk to whom
* `control_plane` command lines of etcd, the API server and the controllers
* `light`         those alone, on loopback: an API server within seconds, no pods
* `network`, `cgroups`, `node`   address ranges, resource groups and settings of a node
* `plan`          what the supervisor has to start, as one JSON file
* `launcher`, `supervisor`       the two processes between `up` and the components
* `embedded`      up, down and health of the whole cluster
* `archive`, `base`, `images`    container images without a registry
* `release`, `target`            installing the operator; choosing the cluster
* `access`        what a test may ask of any cluster

`docs/design/0002-test-cluster.md` tells why it is built this way.
"""
