"""Answers that are kept: in the pod's memory, in Redis and on disk."""
