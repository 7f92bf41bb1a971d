"""A fault campaign against the shipped operator: a proxy in front of a real API server.

    user, kubelet ---------------------------+
                                             v
    dspy-operator (a process) -> proxy -> kube-apiserver
                                   |         ^
                             faults, trace   +-- observer: what became true, and when

A scenario (`scenarios`) is run undisturbed first. Its trace (`trace`) tells every request and every
watch line of the operator; `plans` derives from it where a fault could matter. Each plan is a run
of the same scenario with one fault (`faults`, `injector`) at one point. `oracles` compare the run
with the reference. `campaign` runs many of them side by side, each with a namespace, a proxy and an
operator of its own.

The operator is never patched and never imported: it is the program `dspy-operator` with a
kubeconfig. The method is that of Sieve (OSDI '22).
"""
