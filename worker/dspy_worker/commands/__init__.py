"""Groups of the command line, imported when they are asked for."""
