"""One DSPy program over HTTP."""
