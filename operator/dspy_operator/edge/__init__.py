"""What leaves the process: the Kubernetes API, the workers' reports, metrics and probes."""
