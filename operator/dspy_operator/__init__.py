"""The Kubernetes side: turns `DSPyApp` objects into Deployments, Services and their like."""
