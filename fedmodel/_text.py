"""Figures as text, the same wherever a person reads them."""

import math

__all__ = ["show_epsilon"]


def show_epsilon(epsilon: float) -> str:
    """Return an ε with three decimals, rounded up: it is an upper bound.

    >>> show_epsilon(7.9951)
    '7.996'
    """
    return f"{math.ceil(epsilon * 1000) / 1000:.3f}"
