"""Audit of a run: what its records say, checked offline and without trusting who wrote them."""
