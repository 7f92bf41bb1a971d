"""Decisions: values in, values out. No clock, no network, no randomness, no logging."""
