"""A researcher's machine: plays all parts at once, through the real server and clients apps."""
