"""Decisions of the worker: values in, values out; no clock, no network, no randomness."""
