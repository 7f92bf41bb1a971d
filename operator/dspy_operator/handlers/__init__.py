"""kopf's bindings: they only say which object to look at."""
