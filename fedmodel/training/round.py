"""One round of a site's own work: which, on which machine, by what randomness, and who is told."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fedmodel.accounting.spends import Spend
from fedmodel.job import Performance
from fedmodel.seeds import Entropy
from fedmodel.update import Vector

__all__ = ["Round", "Start"]


def _allow(spend: Spend) -> None:
    """Let every step be taken: nothing is promised."""


def _silent() -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What a round of local work is given besides a network and rows.

    Args:
        number: of the run, from 1; noise may change from round to round.
        entropy: private sampling, noise and dropout.
        performance: how this machine goes about it.
        before_step: told what each private step spends, before it is taken; may refuse.
        on_step: called after each step.
    """

    number: int = 1
    entropy: Entropy = field(default_factory=Entropy)
    performance: Performance = field(default_factory=Performance)
    before_step: Callable[[Spend], None] = _allow
    on_step: Callable[[], None] = _silent


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a round of local training starts from.

    Args:
        vector: the parameters, float32 ``[trainable]``.
        state: file of the optimiser's state, when it is kept between rounds.
        clip: where an adaptive clip norm got to in the rounds before.
    """

    vector: Vector
    state: Path | None = None
    clip: float | None = None
