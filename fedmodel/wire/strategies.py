"""Flower's strategies, fed with vectors: they get replies that hold one array each."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAdam, FedAvg, FedAvgM, FedMedian, Krum
from numpy.typing import NDArray

from fedmodel.job import Aggregation
from fedmodel.update import Vector
from fedmodel.wire.records import pack

__all__ = ["ServerStrategy", "robust_choice"]

_KEY = "vector"
_STATEFUL = ("fedavgm", "fedadam")
# Flower's strategies speak at every call; the run's own display says what matters.
logging.getLogger("flwr").setLevel(logging.WARNING)


def robust_choice(aggregation: Aggregation, vectors: Sequence[Vector]) -> Vector:
    """Return what withstands some poisoned vectors.

    Args:
        aggregation: ``fedmedian`` takes each coordinate's median (arXiv 1803.01498), ``krum`` the
            vector that is nearest to its neighbours (arXiv 1703.02757).
        vectors: one or more, float32 ``[trainable]``, in a fixed order.
    """
    strategy: FedAvg = FedMedian(weighted_by_key="weight")
    if aggregation.optimizer == "krum":
        strategy = Krum(num_malicious_nodes=aggregation.malicious, weighted_by_key="weight")
    return _aggregated(strategy, 1, vectors)


class ServerStrategy:
    """A server optimiser's step on one mean, and its state.

    Args:
        aggregation: which strategy, and its numbers.
    """

    def __init__(self, aggregation: Aggregation) -> None:
        self._name = aggregation.optimizer
        self._strategy: Any = _strategy(aggregation)

    def step(self, round_: int, vector: Vector, arrived: Vector) -> Vector:
        """Return the new parameters.

        Args:
            round_: of the run.
            vector: the parameters before, float32 ``[trainable]``.
            arrived: those at which the sites have arrived on average.
        """
        if self._name not in _STATEFUL:
            return arrived  # FedAvg of one reply is that reply
        arrays: Any = {_KEY: vector}
        if self._name != "fedadam":
            arrays = ArrayRecord({_KEY: pack(vector)})
        self._strategy.current_arrays = arrays
        return _aggregated(self._strategy, round_, [arrived])

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the strategy's state as named arrays (empty before the first step)."""
        if self._name == "fedadam":
            found = {"m": self._strategy.m_t, "v": self._strategy.v_t}
            return {name: value[_KEY] for name, value in found.items() if value}
        if self._name == "fedavgm" and self._strategy.momentum_vector:
            return {"momentum": self._strategy.momentum_vector[0]}
        return {}

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """Set what :meth:`state` gave."""
        if "m" in state:
            self._strategy.m_t = {_KEY: state["m"]}
            self._strategy.v_t = {_KEY: state["v"]}
        if "momentum" in state:
            self._strategy.momentum_vector = [state["momentum"]]


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


def _aggregated(strategy: FedAvg, round_: int, vectors: Sequence[Vector]) -> Vector:
    arrays, _ = strategy.aggregate_train(round_, [_reply(vector) for vector in vectors])
    if arrays is None:
        raise RuntimeError("the strategy returned no parameters")
    return np.asarray(arrays[_KEY].numpy(), dtype=np.float32)


def _reply(vector: Vector) -> Message:
    records: dict[str, ArrayRecord | MetricRecord | ConfigRecord] = {
        "arrays": ArrayRecord({_KEY: pack(vector)}),
        "metrics": MetricRecord({"weight": 1.0}),
    }
    return Message(RecordDict(records), dst_node_id=0, message_type="train")
