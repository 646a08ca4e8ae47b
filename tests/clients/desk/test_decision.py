"""Decisions of a hospital's people: what is signed, what is read back, and until when it holds."""

import json
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.desk.decision import Decision, Signed, approvers, parse_decisions, until, written
from fedmodel.errors import ConfigError, RunFolderError
from fedmodel.identity import SigningKey

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
ONE, TWO, OTHER = (SigningKey(bytes([n]) * 32) for n in (1, 2, 3))
KEYS = [ONE.public, TWO.public]


def said(verdict: Any = "approved", days: float | None = 1, **changes: Any) -> Decision:
    ends = None if verdict != "approved" or days is None else NOW + timedelta(days=days)
    return Decision(
        **{
            "run": "demo-01234567",
            "job": "a" * 64,
            "page": "b" * 64,
            "verdict": verdict,
            "at": NOW.isoformat(),
            "expires": None if ends is None else ends.isoformat(),
        }
        | changes
    )


FILE = written([Signed.by(ONE, said()), Signed.by(TWO, said("refused", why="no vote"))])


def test_what_is_written_is_read() -> None:
    assert [s.decision.verdict for s in parse_decisions(FILE, KEYS)] == ["approved", "refused"]
    assert parse_decisions(written([]), KEYS) == []


@pytest.mark.long
def test_every_bit_counts() -> None:
    """A byte changed anywhere is another file or a refused one, never another decision."""
    for place in range(len(FILE) - 1):
        changed = bytearray(FILE)
        changed[place] ^= 1
        with pytest.raises(RunFolderError, match="not decisions of this site"):
            parse_decisions(bytes(changed), KEYS)


@pytest.mark.parametrize(
    "change",
    [
        {"run": "demo-76543210"},
        {"job": "c" * 64},
        {"page": "c" * 64},
        {"expires": (NOW + timedelta(days=400)).isoformat()},
        {"why": "really"},
    ],
)
def test_a_signature_is_for_one_run_of_one_job_and_one_page(change: Any) -> None:
    signed = Signed.by(ONE, said())
    moved = replace(signed, decision=replace(signed.decision, **change))
    with pytest.raises(RunFolderError, match="doesn't verify"):
        parse_decisions(written([moved]), KEYS)


def test_only_who_may_decide_does() -> None:
    with pytest.raises(RunFolderError, match="of nobody who may decide"):
        parse_decisions(written([Signed.by(OTHER, said())]), KEYS)
    stolen = replace(Signed.by(OTHER, said()), key=ONE.public.hex())
    with pytest.raises(RunFolderError, match="doesn't verify"):
        parse_decisions(written([stolen]), KEYS)


PLAIN = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
JSON = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
).map(lambda value: json.dumps(value).encode())


@pytest.mark.long
@given(st.binary(max_size=400) | JSON)
def test_any_bytes_are_decisions_or_one_clear_error(text: bytes) -> None:
    with pytest.raises(RunFolderError):
        parse_decisions(text, KEYS)


def test_sizes_come_first() -> None:
    with pytest.raises(RunFolderError, match="at most 65536 bytes"):
        parse_decisions(b"[" * (1 << 17), KEYS)
    with pytest.raises(ConfigError, match="more than 2000"):
        said(why="x" * 2001)


def test_who_says_no_takes_every_yes_back() -> None:
    yes, no, yes_two = (
        Signed.by(ONE, said()),
        Signed.by(TWO, said("revoked")),
        Signed.by(TWO, said()),
    )
    one, two = ONE.public.hex(), TWO.public.hex()
    assert approvers([yes], NOW) == {one}
    assert approvers([yes, yes_two], NOW) == {one, two}
    assert approvers([yes, no], NOW) == set()
    assert approvers([yes, no, yes_two], NOW) == {two}
    assert approvers([yes], NOW + timedelta(days=1)) == set()  # the last moment isn't within
    # A later approval of the same person replaces the one before, also by a shorter time.
    assert approvers([yes, Signed.by(ONE, said(days=0.01))], NOW + timedelta(hours=1)) == set()


def test_an_approval_expires_and_nothing_else_does() -> None:
    with pytest.raises(ConfigError, match="an approval expires"):
        said(days=None)
    with pytest.raises(ConfigError, match="an approval expires"):
        said("refused", expires=NOW.isoformat())
    for moment in ("2026-12-31", "2026-12-31T00:00:00", "2026-12-31T00:00:00+01:00", "soon", ""):
        with pytest.raises(ConfigError, match="a moment in UTC"):
            said(at=moment)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12h", NOW + timedelta(hours=12)),
        ("14d", NOW + timedelta(days=14)),
        ("2w", NOW + timedelta(days=14)),
        ("2026-11-30", datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC)),
        ("2027-02-28", datetime(2027, 2, 28, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_times_as_people_write_them(text: str, expected: datetime) -> None:
    assert until(text, NOW) == expected


NO_TIMES = (
    *("", "d", "0d", "-1d", "1.5d", "99999w", "²d"),
    *("2026-11-29", "2026-02-30", "31.12.2026", "tomorrow"),
)


@pytest.mark.parametrize("text", NO_TIMES)
def test_other_times_are_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigError, match="expires="):
        until(text, NOW)


@given(st.text(max_size=12))
def test_any_text_is_a_time_ahead_or_an_error(text: str) -> None:
    with suppress(ConfigError):
        assert until(text, NOW) > NOW
