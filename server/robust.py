"""Updates of a round → one, without a mean: for those who fear that some site's is poisoned.

By Flower's own strategies. They need every site's update as it is, so they don't go with sums of
which the coordinator sees nothing else.
"""

from collections.abc import Sequence

import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg, FedMedian, Krum

from fedmodel import wire
from fedmodel.job import Aggregation
from fedmodel.update import Update

__all__ = ["combine"]

_KEY = "vector"


def combine(aggregation: Aggregation, updates: Sequence[Update]) -> Update:
    """Return what stands for a round's updates: their weighted mean, or what is robust.

    Args:
        aggregation: of the job: ``fedmedian`` takes each coordinate's median (arXiv 1803.01498),
            ``krum`` the update that is nearest to its neighbours (arXiv 1703.02757), each of the
            updates as they are, without weights; all others the mean.
        updates: one or more, in a fixed order.
    """
    mean = Update.total(updates).mean()
    if not aggregation.robust:
        return mean
    strategy: FedAvg = FedMedian(weighted_by_key="weight")
    if aggregation.optimizer == "krum":
        strategy = Krum(num_malicious_nodes=aggregation.malicious, weighted_by_key="weight")
    replies = [_reply(update.mean()) for update in updates]
    arrays, _ = strategy.aggregate_train(1, replies)
    if arrays is None:
        raise RuntimeError("the strategy returned no parameters")
    chosen = np.asarray(arrays[_KEY].numpy(), dtype=np.float32)
    return Update(vector=chosen, weight=1.0, metrics=mean.metrics)


def _reply(update: Update) -> Message:
    content = RecordDict(
        {
            "arrays": ArrayRecord({_KEY: wire.pack(update.vector)}),
            "metrics": MetricRecord({"weight": 1.0}),
        }
    )
    return Message(content, dst_node_id=0, message_type="train")
