"""What `make demo` runs: the product, shown step by step in a real cluster."""
