"""What leaves the process: language models, keys on disk, metrics and logs."""
