"""What is recommended: one reason against it outweighs all else, and it is the one that is told."""

from pathlib import Path
from typing import Any

import pytest

from fedmodel import _hazmat
from fedmodel.audit.board.asked import Terms
from fedmodel.audit.board.facts import facts_of
from fedmodel.audit.board.recommendation import Recommendation, recommend
from fedmodel.audit.evidence import FolderEvidence
from fedmodel.audit.record_files import read_records
from fedmodel.audit.verify import verify
from fedmodel.errors import ConfigError
from fedmodel.identity.signed_roster import SignedRoster, read_roster
from tests.fedmodel.audit.conftest import Forge
from tests.fedmodel.audit.forged import GOLDEN, OLD


def recommended(path: Path, consortium: str | None = None, **named: Any) -> Recommendation:
    records = read_records(FolderEvidence(path), None, consortium)
    assert records.job.value is not None
    told = {"termed": False, "attacked": False} | named
    return recommend(verify(records), facts_of(records, records.job.value), **told)


def consortium_of(path: Path) -> str:
    (part,) = path.glob("rosters/*.json")
    roster = read_roster(part.read_bytes())
    assert isinstance(roster, SignedRoster)
    return _hazmat.fingerprint(bytes.fromhex(roster.consortium))


def test_where_nothing_is_left_open_it_may_leave() -> None:
    path = GOLDEN / "record"
    found = recommended(path, consortium_of(path), termed=True, attacked=True)
    assert (found.advice, found.conditions) == ("release", ())


@pytest.mark.parametrize(
    ("named", "reason"),
    [
        ({"termed": True, "attacked": True}, "may have written the roster"),
        ({"attacked": True}, "may have written the roster"),
    ],
)
def test_without_the_consortiums_fingerprint_there_is_a_condition(
    named: dict[str, Any], reason: str
) -> None:
    found = recommended(GOLDEN / "record", None, **named)
    assert found.advice == "release under conditions"
    assert reason in found.reason == found.conditions[0]
    assert len(found.conditions) == 1 + (not named.get("termed", False))


def test_who_has_not_attacked_it_says_so() -> None:
    path = GOLDEN / "record"
    found = recommended(path, consortium_of(path), termed=True)
    assert found.advice == "release under conditions"
    assert "nobody has attacked" in found.reason


def test_what_is_inconclusive_is_a_condition_before_all_others() -> None:
    found = recommended(OLD / "patient")
    assert found.advice == "release under conditions"
    assert "INCONCLUSIVE" in found.reason


def test_ledgers_that_are_not_here_are_named() -> None:
    found = recommended(GOLDEN / "served")
    assert found.advice == "release under conditions"
    assert "site-1, site-3" in found.reason


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("none", "no differential privacy"), ("interrupted", "hasn't come to its end")],
)
def test_without_a_promise_or_an_end_it_stays(kind: str, reason: str) -> None:
    found = recommended(GOLDEN / kind)
    assert found.advice == "don't release"
    assert reason in found.reason


def test_one_check_that_fails_outweighs_all_that_pass(forge: Forge) -> None:
    forged = forge()
    forged.write_rows(forged.rows()[:1])
    found = recommended(forged.path, termed=True, attacked=True)
    assert found.advice == "don't release"
    assert "rounds-numbered (run) was refuted" in found.reason
    assert not found.conditions


@pytest.mark.parametrize("day", ["31.1.2027", "2027-02-30", "20270131", "2027-01-31T00:00:00"])
def test_a_day_that_is_none_is_refused(day: str) -> None:
    with pytest.raises(ConfigError, match="until must be a day such as"):
        Terms(until=day)


def test_terms_are_whole_with_who_and_until_when() -> None:
    assert Terms(recipients="the board", until="2027-01-31").whole
    assert not Terms(recipients="the board").whole
    with pytest.raises(ConfigError, match="1 to 500 characters"):
        Terms(recipients="x" * 501)
