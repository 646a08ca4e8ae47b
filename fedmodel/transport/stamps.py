"""Stamps of orders, and where a site stands among them: by these nothing is done or counted twice.

A *run* has one coordinator after another. Each start of it has an *epoch*, one more than the last,
and a *start*, which is random: so that of two that call themselves the same epoch one is noticed.
Each order has a *seq*, a number that grows within the epoch.
"""

from dataclasses import dataclass

from fedmodel import config
from fedmodel.errors import ConfigError
from fedmodel.runs.names import check_run

__all__ = ["LARGEST", "Stamp", "Standing", "require_start"]

LARGEST = 1 << 53  # what JSON has whole numbers below


def require_start(epoch: int, start: str) -> None:
    """Check for a coordinator's start.

    Args:
        epoch: whole number, from 1.
        start: 16 bytes, hex.

    Raises:
        ConfigError: for anything else.
    """
    _require_number("epoch", epoch, 1)
    config.require_hex("start", start, 32)


def _require_number(name: str, number: int, least: int) -> None:
    if type(number) is not int or not least <= number < LARGEST:
        raise ConfigError(f"{name} must be a whole number from {least}, got {number!r:.40}")


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells one order from all others.

    Args:
        run: the run's name.
        epoch: of the coordinator.
        start: of the coordinator, 16 bytes as hex.
        seq: the order's number, from 1.
        digest: SHA-256 (hex) of the order's signed header.
    """

    run: str
    epoch: int
    start: str
    seq: int
    digest: str

    def __post_init__(self) -> None:
        check_run(self.run)
        require_start(self.epoch, self.start)
        _require_number("seq", self.seq, 1)
        config.require_hex("digest", self.digest, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a site stands in a run: what it tells a coordinator when it connects.

    Args:
        epoch: the highest that it has obeyed; 0: it knows no coordinator of the run.
        start: of that coordinator; empty where there was none.
        taken: the highest number of an order that it has accepted of that coordinator; 0: none.
        digest: of that order; empty where there was none.
        has: numbers of the orders that it has replies to, on disk; not of those that the
            coordinator has acknowledged.
    """

    epoch: int = 0
    start: str = ""
    taken: int = 0
    digest: str = ""
    has: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _require_number("epoch", self.epoch, 0)
        _require_number("taken", self.taken, 0)
        for name, text, digits in (("start", self.start, 32), ("digest", self.digest, 64)):
            if text:
                config.require_hex(name, text, digits)
        if bool(self.epoch) is not bool(self.start) or bool(self.taken) is not bool(self.digest):
            raise ConfigError(
                "an epoch comes with its start, and an order's number with its digest"
            )
        if any(type(seq) is not int or not 1 <= seq <= self.taken for seq in self.has):
            raise ConfigError(f"has must be numbers of orders up to {self.taken}, got {self.has!r}")
        if self.taken and not self.epoch:
            raise ConfigError("orders must be some coordinator's, got epoch 0")
