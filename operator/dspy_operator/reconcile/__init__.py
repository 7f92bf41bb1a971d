"""Joins decisions and I/O: gather, decide, act for one app at a time."""
