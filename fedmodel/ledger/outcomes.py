"""Outcomes of a ledger's charged steps: which have one, and which nobody knows the fate of."""

from collections.abc import Sequence
from typing import TypeAlias

from fedmodel.accounting.spends import Kind
from fedmodel.errors import LedgerError
from fedmodel.ledger.entries import OutcomeEntry, RepeatEntry, SpendEntry

__all__ = ["Charged", "Outcomes"]

Charged: TypeAlias = SpendEntry | RepeatEntry


class Outcomes:
    """What came of the entries that charge steps, or make them again at no cost."""

    def __init__(self) -> None:
        self._charged: dict[int, Charged] = {}
        self._of: dict[int, list[OutcomeEntry]] = {}

    def of(self, seq: int) -> Sequence[OutcomeEntry]:
        """Return what came of a ``spend`` or ``repeat``, in order; none: nobody knows.

        Args:
            seq: of that entry.
        """
        return self._of.get(seq, ())

    def last_charged(self, run: str, job: str, round_: int, model: str) -> Charged | None:
        """Return the last entry that charged steps to train, or made them again.

        Args:
            run: its name.
            job: SHA-256 (hex) of its job.
            round_: of the run.
            model: SHA-256 (hex) of the parameters that they start from. An entry of an earlier
                schema doesn't say.
        """
        asked: tuple[str, str, Kind, int] = (run, job, "train", round_)
        for entry in reversed(self._charged.values()):
            if _named(entry) == asked and entry.model in ("", model):
                return entry
        return None

    def charged_in(self, run: str) -> list[Charged]:
        """Return the entries of a run that charge steps, or make them again, in order."""
        return [entry for entry in self._charged.values() if entry.run == run]

    def check(self, entry: OutcomeEntry) -> None:
        """Check that an outcome is of an earlier entry that has none yet.

        Of one that was given there may be more, each for another attempt at a secure sum.

        Raises:
            LedgerError: when it isn't.
        """
        charged = self._charged.get(entry.of)
        if charged is None:
            raise LedgerError(f"an outcome of entry {entry.of}, which charges no steps")
        kind, most = (charged.kind, charged.steps) if charged.type == "spend" else ("train", 1)
        if (
            entry.round != charged.round
            or entry.attempt != charged.attempt
            or entry.kind != kind
            or entry.run != charged.run
            or entry.job != charged.job
        ):
            raise LedgerError(f"an outcome that isn't of the round and attempt of entry {entry.of}")
        if entry.steps > most:
            raise LedgerError(f"{entry.steps} steps were taken, and {most} were charged")
        before = self._of.get(entry.of)
        if before and not all(_masked_twice(known, entry) for known in before):
            raise LedgerError(f"a second outcome of entry {entry.of}")

    def charged(self, entry: Charged) -> None:
        """Take in an entry that charges steps, or makes them again."""
        self._charged[entry.seq] = entry

    def count(self, entry: OutcomeEntry) -> None:
        """Take in an outcome that was checked."""
        self._of.setdefault(entry.of, []).append(entry)

    def count_all(self, spends: Sequence[SpendEntry], outcomes: Sequence[OutcomeEntry]) -> None:
        """Take in spends that were checked, and of each its outcome."""
        numbers = [entry.seq for entry in spends]
        self._charged.update(zip(numbers, spends, strict=True))
        self._of.update(zip(numbers, ([entry] for entry in outcomes), strict=True))


def _named(entry: Charged) -> tuple[str, str, Kind, int]:
    kind: Kind = entry.kind if entry.type == "spend" else "train"
    return entry.run, entry.job, kind, entry.round


def _masked_twice(known: OutcomeEntry, entry: OutcomeEntry) -> bool:
    """Return whether two outcomes of one entry can both be: of different attempts at a sum."""
    return bool(known.manifest and entry.manifest) and known.manifest != entry.manifest
