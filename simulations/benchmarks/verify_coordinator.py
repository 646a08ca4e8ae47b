"""The coordinator's part of a run folder that nobody has trained in: its ledger, and its roster."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from fedmodel import _hazmat, config
from fedmodel.identity.keys import SigningKey
from fedmodel.identity.roster import Member, Roster
from fedmodel.job import Job, MaskedSums
from fedmodel.ledger import merkle
from fedmodel.ledger.coordinator_entries import (
    AttemptEntry,
    CoordinatorEntry,
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
from fedmodel.ledger.tree_head import TreeHead
from fedmodel.runs import RunFolder
from fedmodel.secagg.fields import VERSION
from fedmodel.secagg.manifest import Manifest, digest
from fedmodel.secagg.messages import Survivors

__all__ = ["key_of", "write_coordinator"]

_TIME = "2026-01-01T00:00:00Z"
_JOINING = "1" * 64


def key_of(party: str) -> SigningKey:
    """Return the key that is made for a party."""
    return SigningKey(hashlib.sha256(party.encode()).digest())


def write_coordinator(
    folder: RunFolder, job: Job, lines_of: Mapping[str, Sequence[bytes]], model: str
) -> None:
    """Write the coordinator's ledger of a run in which everybody gave an update in every round.

    Args:
        folder: of the run.
        job: of it.
        lines_of: site → the lines of its ledger: three, then one for each round, then one more.
        model: SHA-256 of its last parameters.
    """
    key, names = key_of("coordinator"), list(lines_of)
    roster = Roster(
        coordinator=key.public.hex(),
        seal="2" * 64,
        members=tuple(Member(name=name, key=key_of(name).public.hex()) for name in names),
    )
    folder.keep_roster(roster.sha256, roster.to_json())
    trees = [merkle.Tree(merkle.leaf_hash(line) for line in lines_of[name]) for name in names]
    lines, last = [], "0" * 64
    for number, entry in enumerate(_entries(folder.run, job, roster, trees, model)):
        line = encode(replace(entry, seq=number, prev=last, nonce=f"{number:032x}", time=_TIME))
        last = hashlib.sha256(line).hexdigest()
        lines.append(line)
    folder.own_ledger.write_bytes(b"".join(line + b"\n" for line in lines))
    head = TreeHead(
        ledger=f"{_hazmat.fingerprint(key.public)}/{folder.run}",
        key=key.public.hex(),
        size=len(lines),
        root=merkle.root_of([merkle.leaf_hash(line) for line in lines]).hex(),
        last=last,
        time=_TIME,
    )
    folder.own_head.write_bytes(head.signed(key).to_json() + b"\n")


def _entries(
    run: str, job: Job, roster: Roster, trees: Sequence[merkle.Tree], model: str
) -> Iterator[CoordinatorEntry]:
    key, members = key_of("coordinator"), tuple(range(1, len(trees) + 1))
    yield RunEntry(ledger=f"{_hazmat.fingerprint(key.public)}/{run}", key=key.public.hex(), run=run)
    yield StartEntry(
        job=config.to_mapping(job),
        job_sha256=job.sha256,
        roster=roster.sha256,
        members={str(n): member.name for n, member in enumerate(roster.members, start=1)},
        round=0,
        model=_model(0),
        code="a benchmark",
        packages={},
    )
    yield JoiningEntry(joining=_JOINING, nodes={str(n + 1): n for n in members}, failed=())
    rounds = job.train.rounds
    for number in range(1, rounds + 1):
        before, after = _model(number - 1), model if number == rounds else _model(number)
        yield RoundEntry(kind="train", round=number, model=before, members=members)
        if job.secagg.sums is not None:
            yield from _sum(job, job.secagg.sums, roster, number, before)
        yield ResultEntry(
            round=number,
            given=_given(trees, 3 + number),
            absent=0,
            failed=(),
            mean=_model(-number),
            model=after,
            finished=True,
            stopped=False,
        )
    yield EndEntry(failed=False, round=rounds, model=model, told=_given(trees, 4 + rounds))


def _model(round_: int) -> str:
    return hashlib.sha256(str(round_).encode()).hexdigest()


def _given(trees: Sequence[merkle.Tree], size: int) -> tuple[Given, ...]:
    return tuple(
        Given(member=n, entries=size, root=tree.root(size).hex())
        for n, tree in enumerate(trees, start=1)
    )


def _sum(
    job: Job, sums: MaskedSums, roster: Roster, round_: int, model: str
) -> Iterator[CoordinatorEntry]:
    """Yield an attempt at a sum over all sites, to which all consent."""
    members = tuple(range(1, len(roster.members) + 1))
    unsigned = Manifest(
        version=VERSION,
        session=_JOINING,
        job=job.sha256,
        roster=roster.sha256,
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
    signature = key_of("coordinator").sign(unsigned.signed()).hex()
    manifest = replace(unsigned, signature=signature)
    named = digest(manifest).hex()
    yield AttemptEntry(round=round_, attempt=1, manifest=config.to_mapping(manifest), digest=named)
    told = Survivors(manifest=named, takers=members, survivors=members).signed()
    keys = [key_of(member.name) for member in roster.members]
    yield UnmaskEntry(
        round=round_,
        attempt=1,
        digest=named,
        takers=members,
        survivors=members,
        vectors={str(n): _model(round_ * 1000 + n) for n in members},
        consents={str(n): keys[n - 1].sign(told).hex() for n in members},
    )
