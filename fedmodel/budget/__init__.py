"""The verb ``budget``: what sites have spent, hold and have left, and what a job would cost."""

from fedmodel.budget.verb import main

__all__ = ["main"]
