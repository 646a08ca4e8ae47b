"""Robust aggregation: one update for a round's, for those who fear that some site's is poisoned.

It needs every site's update as it is, so it doesn't go with sums of which the coordinator sees
nothing else.
"""

from collections.abc import Sequence

from fedmodel.job import Aggregation
from fedmodel.update import Update
from fedmodel.wire.strategies import robust_choice

__all__ = ["combine"]


def combine(aggregation: Aggregation, updates: Sequence[Update]) -> Update:
    """Return what stands for a round's updates: their weighted mean, or what is robust.

    Args:
        aggregation: of the job (see :func:`fedmodel.wire.strategies.robust_choice`). What is
            robust takes each of the updates as they are, without weights; all others the mean.
        updates: one or more, in a fixed order.
    """
    mean = Update.total(updates).mean()
    if not aggregation.robust:
        return mean
    chosen = robust_choice(aggregation, [update.mean().vector for update in updates])
    return Update(vector=chosen, weight=1.0, metrics=mean.metrics)
