"""The server's step on a released mean, by Flower's own strategies.

They get one reply that holds the mean, so that it doesn't matter how the mean came about.
"""

import logging
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAdam, FedAvg, FedAvgM
from numpy.typing import NDArray

from fedmodel import wire
from fedmodel.job import Aggregation

__all__ = ["ServerOptimizer"]

_KEY = "vector"
# Flower's strategies speak at every call; the run's own display says what matters.
logging.getLogger("flwr").setLevel(logging.WARNING)


def _strategy(aggregation: Aggregation) -> FedAvg:
    common: dict[str, Any] = {"weighted_by_key": "weight"}
    if aggregation.optimizer == "fedavgm":
        return FedAvgM(
            server_learning_rate=aggregation.lr, server_momentum=aggregation.momentum, **common
        )
    if aggregation.optimizer == "fedadam":
        return FedAdam(
            eta=aggregation.lr,
            beta_1=aggregation.beta1,
            beta_2=aggregation.beta2,
            tau=aggregation.tau,
            **common,
        )
    return FedAvg(**common)


class ServerOptimizer:
    """Applies a mean update to the model; its state can be saved and restored.

    Args:
        aggregation: which strategy, and its numbers.
    """

    def __init__(self, aggregation: Aggregation) -> None:
        self._name = aggregation.optimizer
        self._strategy = _strategy(aggregation)

    def step(
        self, round_: int, vector: NDArray[np.float32], mean: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the new parameters from the old ones and the mean change."""
        arrived = vector + mean
        if self._name not in ("fedavgm", "fedadam"):
            return arrived  # FedAvg of one reply is that reply
        current = {_KEY: vector}
        if self._name == "fedadam":
            self._strategy.current_arrays = current  # type: ignore[attr-defined]
        else:
            self._strategy.current_arrays = ArrayRecord({_KEY: wire.pack(vector)})  # type: ignore[attr-defined]
        content = RecordDict(
            {
                "arrays": ArrayRecord({_KEY: wire.pack(arrived)}),
                "metrics": MetricRecord({"weight": 1.0}),
            }
        )
        reply = Message(content, dst_node_id=0, message_type="train")
        arrays, _ = self._strategy.aggregate_train(round_, [reply])
        if arrays is None:
            raise RuntimeError("the strategy returned no parameters")
        return np.asarray(arrays[_KEY].numpy(), dtype=np.float32)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the strategy's state as named arrays (empty before the first step)."""
        if self._name == "fedadam":
            found = {"m": self._strategy.m_t, "v": self._strategy.v_t}  # type: ignore[attr-defined]
            return {name: value[_KEY] for name, value in found.items() if value}
        if self._name == "fedavgm" and self._strategy.momentum_vector:  # type: ignore[attr-defined]
            return {"momentum": self._strategy.momentum_vector[0]}  # type: ignore[attr-defined]
        return {}

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """Set what :meth:`state` gave."""
        if "m" in state:
            self._strategy.m_t = {_KEY: state["m"]}  # type: ignore[attr-defined]
            self._strategy.v_t = {_KEY: state["v"]}  # type: ignore[attr-defined]
        if "momentum" in state:
            self._strategy.momentum_vector = [state["momentum"]]  # type: ignore[attr-defined]
