"""The coordinator's part of a run that nobody has played: its ledger, and its roster."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

from fedmodel import config
from fedmodel.identity.roster import Member, Roster
from fedmodel.job import Job
from fedmodel.ledger.coordinator_entries import (
    AttemptEntry,
    EndEntry,
    Given,
    JoiningEntry,
    ResultEntry,
    RoundEntry,
    RunEntry,
    StartEntry,
    UnmaskEntry,
)
from fedmodel.ledger.coordinator_lines import encode
from fedmodel.runs import RunFolder
from fedmodel.secagg.fields import VERSION
from fedmodel.secagg.manifest import Manifest, digest
from fedmodel.secagg.messages import Survivors
from simulations.benchmarks.verify_lines import Written, key_of

__all__ = ["Coordinator", "model_after", "update_of"]

_JOINING = "1" * 64


def model_after(round_: int) -> str:
    """Return the SHA-256 of the parameters after a round."""
    return hashlib.sha256(f"model {round_}".encode()).hexdigest()


def update_of(site: str, round_: int) -> str:
    """Return the SHA-256 of what a site gives in a round."""
    return hashlib.sha256(f"{site} {round_}".encode()).hexdigest()


class Coordinator:
    """Writes the coordinator's ledger of a run in which everybody gives an update in every round.

    Args:
        folder: of the run.
        job: of it.
        sites: the ledgers of all, which are written meanwhile.
        model: SHA-256 of the last parameters.
    """

    def __init__(self, folder: RunFolder, job: Job, sites: Sequence[Written], model: str) -> None:
        self.ledger = Written("coordinator", folder.run, encode)
        self._folder, self._job, self._sites, self._model = folder, job, sites, model
        self._members = tuple(range(1, len(sites) + 1))
        self._roster = Roster(
            coordinator=self.ledger.key.public.hex(),
            seal="2" * 64,
            members=tuple(Member(name=s.party, key=s.key.public.hex()) for s in sites),
        )
        folder.keep_roster(self._roster.sha256, self._roster.to_json())
        key = self.ledger.key.public.hex()
        self.ledger.append(RunEntry(ledger=self.ledger.name, key=key, run=folder.run))
        self.ledger.append(
            StartEntry(
                job=config.to_mapping(job),
                job_sha256=job.sha256,
                roster=self._roster.sha256,
                members={str(n): s.party for n, s in enumerate(sites, start=1)},
                round=0,
                model=model_after(0),
                code="a benchmark",
                packages={},
            )
        )
        nodes = {str(n + 1): n for n in self._members}
        self.ledger.append(JoiningEntry(joining=_JOINING, nodes=nodes, failed=()))

    def asks(self, round_: int) -> Iterator[str]:
        """Ask for a round; yield the manifest's SHA-256 while the sites write; tell what came."""
        model = model_after(round_ - 1)
        self.ledger.append(
            RoundEntry(kind="train", round=round_, model=model, members=self._members)
        )
        manifest = self._attempt(round_, model) if self._job.secagg.on else ""
        yield manifest
        if manifest:
            self._unmask(round_, manifest)
        self.ledger.append(
            ResultEntry(
                round=round_,
                given=self._given(round_),
                absent=0,
                failed=(),
                mean=model_after(-round_),
                model=self._model if round_ == self._job.train.rounds else model_after(round_),
                finished=True,
                stopped=False,
            )
        )

    def end(self) -> None:
        """Tell of the end, and write the ledger."""
        rounds, model = self._job.train.rounds, self._model
        told = tuple(replace(given, update="") for given in self._given(rounds))
        self.ledger.append(EndEntry(failed=False, round=rounds, model=model, told=told))
        self._folder.own_ledger.write_bytes(self.ledger.text)
        self._folder.own_head.write_bytes(self.ledger.head().to_json() + b"\n")

    def _given(self, round_: int) -> tuple[Given, ...]:
        return tuple(
            Given(
                member=n,
                entries=len(site.lines),
                root=site.root,
                update=update_of(site.party, round_),
            )
            for n, site in enumerate(self._sites, start=1)
        )

    def _attempt(self, round_: int, model: str) -> str:
        sums, members = self._job.secagg.masked, self._members
        unsigned = Manifest(
            version=VERSION,
            session=_JOINING,
            job=self._job.sha256,
            roster=self._roster.sha256,
            round=round_,
            attempt=1,
            model=model,
            cohort=members,
            keys=tuple(f"{n:064x}" for n in members),
            survivors=sums.survivors,
            colluders=sums.colluders,
            threshold=sums.threshold,
            bits=sums.bits,
            count=1000,
            signature="0" * 128,
        )
        signature = self.ledger.key.sign(unsigned.signed()).hex()
        manifest = replace(unsigned, signature=signature)
        named = digest(manifest).hex()
        told = config.to_mapping(manifest)
        self.ledger.append(AttemptEntry(round=round_, attempt=1, manifest=told, digest=named))
        return named

    def _unmask(self, round_: int, named: str) -> None:
        members = self._members
        told = Survivors(manifest=named, takers=members, survivors=members).signed()
        parties = {str(n): site.party for n, site in enumerate(self._sites, start=1)}
        self.ledger.append(
            UnmaskEntry(
                round=round_,
                attempt=1,
                digest=named,
                takers=members,
                survivors=members,
                vectors={n: update_of(party, round_) for n, party in parties.items()},
                consents={n: key_of(party).sign(told).hex() for n, party in parties.items()},
            )
        )
