"""The server's optimiser: its step on a mean update, by Flower's own strategies.

They get one reply that holds the mean, so that it doesn't matter how the mean came about.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmodel.job import Aggregation
from fedmodel.wire.strategies import ServerStrategy

__all__ = ["ServerOptimizer"]


class ServerOptimizer:
    """Applies a mean update to the model; its state can be saved and restored.

    Args:
        aggregation: which strategy, and its numbers.
    """

    def __init__(self, aggregation: Aggregation) -> None:
        self._strategy = ServerStrategy(aggregation)

    def step(
        self, round_: int, vector: NDArray[np.float32], mean: NDArray[np.float32], sites: int = 1
    ) -> NDArray[np.float32]:
        """Return the new parameters from the old ones and the mean change over some sites."""
        return self._strategy.step(round_, vector, vector + mean)

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the optimiser's state as named arrays (empty before the first step)."""
        return self._strategy.state()

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """Set what :meth:`state` gave."""
        self._strategy.restore(state)
