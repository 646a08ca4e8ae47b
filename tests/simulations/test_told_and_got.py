"""What a site's ledger says of its steps, and what the coordinator's says that it got, agree."""

from collections.abc import Iterator

import pytest

from fedmodel import config
from fedmodel.ledger import Ledger, OutcomeEntry, RepeatEntry, SpendEntry, merkle
from fedmodel.ledger.coordinator_entries import (
    EvaluationEntry,
    ResultEntry,
    RoundEntry,
    StartEntry,
    UnmaskEntry,
)
from fedmodel.ledger.coordinator_ledger import CoordinatorLedger
from fedmodel.runs import RunFolder
from tests.fedmodel.audit.played import play

KINDS = ("record", "repeated", "patient", "on", "distributed", "site", "seal", "resumed")


@pytest.fixture(params=KINDS, scope="module")
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return RunFolder(play(request.param, tmp_path_factory.mktemp("played")))


def told(run: RunFolder) -> Iterator[tuple[int, Ledger]]:
    """Yield the number of each site, and its ledger."""
    entries = CoordinatorLedger(run.own_ledger).entries()
    start = next(e for e in entries if isinstance(e, StartEntry))
    for number, name in start.members.items():
        yield int(number), Ledger(run.ledger(name))


def outcomes(ledger: Ledger, kind: str, round_: int) -> list[OutcomeEntry]:
    found = [e for e in ledger.entries() if isinstance(e, OutcomeEntry)]
    return [e for e in found if (e.kind, e.round) == (kind, round_)]


@pytest.mark.long
@pytest.mark.sample(2)
def test_what_a_site_told_is_what_the_coordinator_got(run: RunFolder) -> None:
    ledgers, entries = dict(told(run)), CoordinatorLedger(run.own_ledger).entries()
    compared = 0
    for entry in entries:
        if isinstance(entry, UnmaskEntry):
            for number, vector in entry.vectors.items():
                found = outcomes(ledgers[int(number)], "train", entry.round)
                assert (vector, entry.digest) in {(e.update, e.manifest) for e in found}
        elif isinstance(entry, ResultEntry | EvaluationEntry):
            kind, round_ = ("train", entry.round) if entry.type == "result" else ("evaluate", 0)
            for given in entry.given:
                found = outcomes(ledgers[given.member], kind, round_)
                assert given.update in {e.update for e in found if e.result == "given"}
                compared += 1
    assert compared >= 4
    _check_steps(run, ledgers)


def _check_steps(run: RunFolder, ledgers: dict[int, Ledger]) -> None:
    entries = CoordinatorLedger(run.own_ledger).entries()
    asked = {(e.kind, e.round): e.model for e in entries if isinstance(e, RoundEntry)}
    job, tree = run.manifest.job, merkle.Tree()
    for line in run.own_ledger.read_bytes().splitlines():
        tree.append(merkle.leaf_hash(line))
    for ledger in ledgers.values():
        book = ledger.book()
        (held,) = book.of()
        assert held.end is not None
        assert held.end.coordinator_entries == len(tree) - 1  # all but that who has heard the end
        grounds = held.entry.grounds
        assert grounds is not None
        assert config.digest(grounds.agreed) == run.manifest.job_sha256
        assert grounds.preflight == ("none" if job["privacy"]["mechanism"] == "site" else "passed")
        assert {"torch", "opacus", "numpy"} <= set(grounds.packages)
        assert (grounds.divisor >= 1, grounds.needed, grounds.approved) == (True, 0, ())
        for entry in ledger.entries():
            if not isinstance(entry, SpendEntry | RepeatEntry):
                continue
            if isinstance(entry, SpendEntry) and entry.kind == "evaluate":
                assert entry.model == asked["evaluate", job["train"]["rounds"]]
            else:
                assert entry.model == asked["train", entry.round]
            assert entry.coordinator_entries > 0
            assert entry.coordinator_root == tree.root(entry.coordinator_entries).hex()
            for outcome in book.outcomes.of(entry.seq):
                assert outcome.steps == (entry.steps if isinstance(entry, SpendEntry) else 1)
                adapts = job["privacy"]["clipping"] == "adaptive" and outcome.kind == "train"
                assert len(outcome.clips) == (outcome.steps if adapts else 0)
        lost = [e for r in book.of() for e in r.spent if not book.outcomes.of(e.seq)]
        assert not lost
