"""Predictions and feedback that are kept for later: on disk first, then in a database."""
