"""One DSPy program over HTTP, the job that optimizes it, and the practice LM."""
