"""Local training at one site, plain or differentially private, and evaluation."""
