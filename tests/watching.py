"""Watches that note what they are told."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fedmodel.watch import TRAINING

__all__ = ["Noted"]


class Noted:
    """Notes each stage that has ended, with its parts and how many were told as done.

    Args:
        on_step: called after each local step.
        party: whose work it is told of.
    """

    def __init__(self, on_step: Callable[[], None] = lambda: None, party: str = "") -> None:
        self.ended: list[tuple[str, str, int | None, int]] = []
        self._on_step, self._party = on_step, party
        self._open: list[tuple[str, list[int]]] = []

    def of(self, party: str) -> "Noted":
        made = Noted(self._on_step, party)
        made.ended = self.ended
        return made

    @contextmanager
    def stage(self, what: str, total: int | None = None) -> Iterator[None]:
        done = [0]
        self._open.append((what, done))
        try:
            yield
        finally:
            assert self._open.pop() == (what, done)
            self.ended.append((self._party, what, total, done[0]))

    def advance(self, count: int = 1) -> None:
        what, done = self._open[-1]
        done[0] += count
        if what == TRAINING:
            self._on_step()
