"""Outcome of steps that were charged: whether they gave something, and what."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from fedmodel import config
from fedmodel.accounting.spends import Kind
from fedmodel.errors import ConfigError, LedgerError
from fedmodel.ledger.fields import require_counts, require_reals
from fedmodel.ledger.line import Line
from fedmodel.ledger.site_line import SiteLine

__all__ = ["OutcomeEntry", "Result"]

Result: TypeAlias = Literal["given", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeEntry(SiteLine):
    """What came of steps that an earlier entry has charged, or made again at no cost.

    There is one for each such entry, whatever came of it, so that the number of entries, which a
    tree head shows, doesn't tell. Where a site's own noise is hidden in secure sums, there is one
    for each attempt that its update was masked for. Where there is none, the process died before
    it was written, or what was made is kept and wasn't asked for again: nobody can tell.

    Args:
        type: ``outcome``.
        of: ``seq`` of the ``spend`` or ``repeat``.
        run: name of the run.
        job: SHA-256 (hex) of the job.
        kind: what the steps were taken for.
        round: of that entry.
        attempt: likewise.
        result: ``given``: something was made, for the coordinator; whether it has it, its own
            ledger says. ``failed``: nothing has left.
        update: SHA-256 (hex) of what leaves. Of an update, in the clear or sealed, it is that of
            its vector (float32, little-endian); of a masked one, of the masked vector's bytes, as
            the site has signed it; of counts, of the canonical JSON of their list. Empty for what
            failed.
        manifest: SHA-256 (hex) of the manifest of the attempt that the update was masked for;
            empty where it isn't masked.
        steps: that were taken; 0 for what failed, for how far it came could be about rows.
        clips: the clip norm after each of them, where it adapts; else none.
    """

    type: Literal["outcome"] = "outcome"
    of: int
    run: str
    job: str
    kind: Kind
    round: int
    attempt: int
    result: Result
    update: str
    manifest: str
    steps: int
    clips: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        Line.__post_init__(self)
        config.require_hex("job", self.job, 64)
        require_counts(self, "of", "round", "attempt", "steps")
        if self.manifest:
            config.require_hex("manifest", self.manifest, 64)
        if self.result == "given":
            config.require_hex("update", self.update, 64)
            if len(self.clips) not in (0, self.steps):
                raise ConfigError(f"{self.steps} steps and {len(self.clips)} clip norms")
        elif (self.update, self.manifest, self.steps, self.clips) != ("", "", 0, ()):
            raise ConfigError("what failed has given nothing, taken no step and moved no clip norm")
        for clip in self.clips:
            require_reals(_Clip(clip), "clip")

    def require_same(self, other: "OutcomeEntry") -> None:
        """Check that what leaves now is what the ledger says.

        Norms that adapt may be known no more: a process that was started anew has the update alone.

        Args:
            other: outcome of the same entry, and of the same attempt at a sum.

        Raises:
            LedgerError: when it is of something else.
        """
        if (self.result, self.update) != (other.result, other.update):
            raise LedgerError(
                f"of entry {self.of} the ledger says that it has {_came(self)}, and now it would "
                f"have {_came(other)}; nothing leaves. What was made anew has to be charged anew"
            )


def _came(outcome: OutcomeEntry) -> str:
    return f"given {outcome.update[:16]}…" if outcome.update else "failed"


@dataclass(frozen=True, slots=True)
class _Clip:
    clip: str
