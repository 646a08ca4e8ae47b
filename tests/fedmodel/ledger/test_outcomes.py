"""Outcomes: each is of steps that were charged, once, and says what left or that nothing did."""

from dataclasses import replace
from typing import Any

import pytest

from fedmodel import config
from fedmodel.errors import ConfigError, FedmodelError, LedgerError, ProtocolError
from fedmodel.ledger import Approval, Grounds, Ledger, OutcomeEntry, SpendEntry
from fedmodel.ledger.caps import Caps
from fedmodel.ledger.grounds import CapsInForce
from fedmodel.ledger.site_line import Begun
from tests.fedmodel.ledger.conftest import FIVE
from tests.fedmodel.ledger.golden_life import approval, grounds

JOB = "ab" * 32


def outcome(spent: SpendEntry, **parts: Any) -> OutcomeEntry:
    usual: dict[str, Any] = {
        "of": spent.seq,
        "run": spent.run,
        "job": spent.job,
        "kind": spent.kind,
        "round": spent.round,
        "attempt": spent.attempt,
        "result": "given",
        "update": "1" * 64,
        "manifest": "",
        "steps": spent.steps,
    }
    return OutcomeEntry(**(usual | parts))


@pytest.fixture
def spent(five: Ledger) -> SpendEntry:
    """The last of three spends."""
    return five.book().of()[0].spent[-1]


def test_an_outcome_is_written_once(five: Ledger, spent: SpendEntry) -> None:
    first = five.note_outcome(outcome(spent, clips=("0.5",) * spent.steps))
    assert five.note_outcome(outcome(spent)) == first  # after a restart norms are known no more
    assert five.book().outcomes.of(spent.seq) == [first]
    outcomes = five.book().outcomes
    assert outcomes.last_charged(spent.run, JOB, spent.round, "1" * 64) == spent
    assert outcomes.last_charged(spent.run, JOB, spent.round + 1, "1" * 64) is None
    five.spend(FIVE, run=spent.run, job=JOB, round=2, clip=0.5, start=Begun(model="2" * 64))
    found = five.book().outcomes.last_charged(spent.run, JOB, 2, "1" * 64)
    assert found is not None
    assert found.attempt == 1
    five.spend(FIVE, run=spent.run, job=JOB, round=2, clip=0.5, start=Begun(model="3" * 64))
    for model in ("2" * 64, "3" * 64):
        last = five.book().outcomes.last_charged(spent.run, JOB, 2, model)
        assert last is not None
        assert last.model == model


def test_an_update_that_is_masked_anew_has_an_outcome_for_each_attempt(
    five: Ledger, spent: SpendEntry
) -> None:
    for attempt in "12":
        five.note_outcome(outcome(spent, manifest=attempt * 64))
    assert len(five.book().outcomes.of(spent.seq)) == 2
    with pytest.raises(LedgerError, match="a second outcome of entry"):
        five.note_outcome(outcome(spent))


@pytest.mark.parametrize("manifest", ["", "5" * 64])
def test_nothing_leaves_under_the_outcome_of_something_else(
    five: Ledger, spent: SpendEntry, manifest: str
) -> None:
    first = five.note_outcome(outcome(spent, manifest=manifest))
    before = five.path.read_bytes()
    with pytest.raises(LedgerError, match=r"has given 1{16}…, and now it would have given 2{16}…"):
        five.note_outcome(outcome(spent, manifest=manifest, update="2" * 64))
    assert five.path.read_bytes() == before
    assert five.book().outcomes.of(spent.seq) == [first]


def test_what_has_failed_gives_nothing_later(five: Ledger, spent: SpendEntry) -> None:
    failed = outcome(spent, **FAILED)
    assert five.note_outcome(failed) == five.note_outcome(failed)
    for manifest, why in (("", "has failed, and now it would"), ("5" * 64, "a second outcome")):
        with pytest.raises(LedgerError, match=why):
            five.note_outcome(outcome(spent, manifest=manifest))
    assert len(five.book().outcomes.of(spent.seq)) == 1


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ({"of": 0}, "which charges no steps"),
        ({"of": 99}, "which charges no steps"),
        ({"round": 7}, "isn't of the round and attempt"),
        ({"attempt": 2}, "isn't of the round and attempt"),
        ({"kind": "evaluate"}, "isn't of the round and attempt"),
        ({"run": "other"}, "isn't of the round and attempt"),
        ({"job": "cd" * 32}, "isn't of the round and attempt"),
        ({"steps": 99}, "99 steps were taken, and 5 were charged"),
    ],
)
def test_an_outcome_is_of_steps_that_were_charged(
    five: Ledger, spent: SpendEntry, parts: dict[str, Any], why: str
) -> None:
    before = five.path.read_bytes()
    with pytest.raises(LedgerError, match=why):
        five.note_outcome(outcome(spent, **parts))
    assert five.path.read_bytes() == before


FAILED: dict[str, Any] = {"result": "failed", "update": "", "steps": 0}


@pytest.mark.parametrize(
    "parts",
    [
        {"update": ""},
        {"update": "xyz"},
        {"clips": ("0.5",)},
        {"clips": ("0.5", "0.5", "0.5", "0.5", "0")},
        {"result": "lost"},
        FAILED | {"steps": 1},
        FAILED | {"update": "1" * 64},
        FAILED | {"manifest": "1" * 64},
        FAILED | {"clips": ("0.5",)},
    ],
)
def test_what_makes_no_outcome_is_refused(spent: SpendEntry, parts: dict[str, Any]) -> None:
    made = config.to_mapping(outcome(spent))
    with pytest.raises(ConfigError):
        config.build(OutcomeEntry, made | parts | {"clips": list(parts.get("clips", ()))})
    assert outcome(spent, **FAILED).result == "failed"


def test_a_root_of_the_coordinators_ledger_goes_with_its_entries(spent: SpendEntry) -> None:
    assert replace(spent, coordinator_entries=3, coordinator_root="1" * 64)
    for entries, root in ((3, ""), (0, "1" * 64), (-1, "1" * 64), (3, "1" * 63)):
        with pytest.raises(ConfigError):
            replace(spent, coordinator_entries=entries, coordinator_root=root)
    with pytest.raises(ConfigError):
        replace(spent, model="1" * 63)
    assert Begun().entries == 0


def test_grounds_are_those_of_the_job() -> None:
    agreed = {"format": "fedmodel.job/2", "n": 1}
    made: Grounds = grounds(0, agreed=agreed)
    made.require_job(config.digest(agreed))
    with pytest.raises(ConfigError, match="the agreed job"):
        made.require_job(JOB)
    for wrong in ({"divisor": 0}, {"policy": "x"}, {"needed": -1}):
        with pytest.raises(ConfigError):
            grounds(0, **wrong)
    for caps in (Caps(), Caps(epsilon=8.0, delta=1e-6, run_epsilon=0.1, unit="patient")):
        assert CapsInForce.of(caps).caps() == caps
    with pytest.raises(ConfigError):
        CapsInForce(epsilon="8")


def test_an_approval_is_of_this_run_and_job_and_by_its_key() -> None:
    given: Approval = approval("r", JOB)
    given.check("r", JOB)
    for run, job in (("s", JOB), ("r", "cd" * 32)):
        with pytest.raises(ConfigError, match="expected an approval of"):
            given.check(run, job)
    said = dict(given.decision)
    with pytest.raises(ConfigError):
        replace(given, decision=said | {"verdict": "revoked"}).check("r", JOB)
    with pytest.raises(ProtocolError):
        replace(given, decision=said | {"why": "other words"}).check("r", JOB)
    with pytest.raises(FedmodelError):
        replace(given, decision=said | {"why": float("nan")}).check("r", JOB)
