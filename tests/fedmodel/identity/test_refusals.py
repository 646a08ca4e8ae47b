"""Refusals in a security log: each once, a bounded number a day, over restarts."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fedmodel.errors import LedgerError, RunFolderError
from fedmodel.identity.refusals import RefusalLog
from fedmodel.identity.security_log import SecurityLog

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


def events(folder: Path) -> list[str]:
    return [row.event for row in SecurityLog(folder / "security.jsonl").rows()]


def refuse(folder: Path, now: datetime, *runs: str, most: int = 3) -> None:
    for run in runs:  # each time by another process
        log = RefusalLog(folder, lambda: now, most)
        log.add("job-refused", same=(run, "policy.rounds"), run=run, asked=f"at {now}")


def test_the_same_refusal_is_written_once(tmp_path: Path) -> None:
    home = tmp_path / "new" / "home"
    for minute in range(5):
        refuse(home, NOON + timedelta(minutes=minute), "one")
    refuse(home, NOON, "two")
    assert events(home) == ["job-refused"] * 2
    refuse(home, NOON + timedelta(days=2), "one")
    assert events(home) == ["job-refused"] * 2


def test_a_flood_is_cut_off_with_one_row_a_day_that_says_so(tmp_path: Path) -> None:
    refuse(tmp_path, NOON, *(f"run-{number}" for number in range(50)))
    assert events(tmp_path) == ["job-refused"] * 3 + ["refusals-left-out"]
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    # Not even past midnight, while the three are of the last 24 hours.
    later = NOON + timedelta(hours=13)
    refuse(tmp_path, later, *(f"later-{number}" for number in range(50)))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == size
    refuse(tmp_path, NOON + timedelta(hours=24), "run-9", "next-1", "next-2", "next-3")
    assert events(tmp_path)[4:] == ["job-refused"] * 3 + ["refusals-left-out"]
    last = SecurityLog(tmp_path / "security.jsonl").rows()[-1]
    assert dict(last.about) == {"more_than": "3"}


def test_a_log_or_file_that_is_broken_is_named(tmp_path: Path) -> None:
    (tmp_path / "security.jsonl").write_bytes(b"{}\n")
    with pytest.raises(LedgerError, match=r"security\.jsonl"):
        refuse(tmp_path, NOON, "one")
    (tmp_path / "refusals.json").write_bytes(b"[]")
    with pytest.raises(RunFolderError, match=r"refusals\.json"):
        refuse(tmp_path, NOON, "one")
