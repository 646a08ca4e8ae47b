"""Robust aggregation: one update for a round's, for those who fear that some site's is poisoned.

It needs every site's update as it is, so it doesn't go with sums of which the coordinator sees
nothing else.
"""

from collections.abc import Iterable

from fedmodel.job import Aggregation
from fedmodel.update import Total, Update
from fedmodel.wire.strategies import robust_choice

__all__ = ["Combination", "combine"]


class Combination:
    """What stands for a round's updates: their weighted mean, or what is robust.

    What is robust takes each of the updates as they are, without weights, and needs them all. For
    all others they are added as they come, and none is kept.

    Args:
        aggregation: of the job (see :func:`fedmodel.wire.strategies.robust_choice`).
    """

    def __init__(self, aggregation: Aggregation) -> None:
        self._aggregation = aggregation
        self._total = Total()
        self._kept: list[Update] = []

    def add(self, update: Update) -> None:
        """Add an update; the order is that of the sum."""
        self._total.add(update)
        if self._aggregation.robust:
            self._kept.append(update)

    def result(self) -> Update:
        """Return what stands for the one or more updates that were added."""
        mean = self._total.sum().mean()
        if not self._aggregation.robust:
            return mean
        chosen = robust_choice(self._aggregation, [u.mean().vector for u in self._kept])
        return Update(vector=chosen, weight=1.0, metrics=mean.metrics)


def combine(aggregation: Aggregation, updates: Iterable[Update]) -> Update:
    """Return what stands for a round's updates (see :class:`Combination`).

    Args:
        aggregation: of the job.
        updates: one or more, in a fixed order.
    """
    combination = Combination(aggregation)
    for update in updates:
        combination.add(update)
    return combination.result()
