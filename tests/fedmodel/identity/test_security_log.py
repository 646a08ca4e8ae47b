"""The security log: nothing in it is edited, moved or taken out unnoticed."""

import hashlib
import json
import multiprocessing
import os
import pwd
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fedmodel import _files
from fedmodel.errors import LedgerError
from fedmodel.identity.security_log import SecurityLog, whoami

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def log(tmp_path: Path) -> SecurityLog:
    found = SecurityLog(tmp_path / "security.jsonl", lambda: NOW)
    found.add("authority-made", fingerprint="c0" * 16)
    found.add("certificate-issued", name="Klinikum Süd", tls="sued.example.org")
    found.add("revoked", name="north", why="stolen laptop")
    return found


def test_it_says_who_did_what_and_when(log: SecurityLog) -> None:
    rows = log.rows()
    assert [(row.seq, row.event) for row in rows] == [
        (0, "authority-made"),
        (1, "certificate-issued"),
        (2, "revoked"),
    ]
    assert {row.by for row in rows} == {whoami()}
    assert {row.time for row in rows} == {"2026-03-01T12:00:00Z"}
    assert rows[1].about == {"name": "Klinikum Süd", "tls": "sued.example.org"}
    assert log.path.stat().st_mode & 0o777 == 0o600


def test_whoever_has_become_another_account_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = _files.read
    logins = iter([b"4294967295", str(os.geteuid()).encode(), b"987654321", b"x"])

    def read(path: Path, most: int | None = None) -> bytes:
        return next(logins) if path == Path("/proc/self/loginuid") else real(path, most)

    monkeypatch.setattr(_files, "read", read)
    own = pwd.getpwuid(os.geteuid()).pw_name
    assert [whoami() for _ in range(4)] == [own, own, f"{own} (987654321)", own]


def test_without_a_file_there_is_nothing(tmp_path: Path) -> None:
    assert SecurityLog(tmp_path / "none").rows() == []


def lines(log: SecurityLog) -> list[bytes]:
    return log.path.read_bytes().splitlines(keepends=True)


def test_what_was_edited_moved_or_taken_out_is_noticed(log: SecurityLog) -> None:
    one, two, three = lines(log)
    for changed in (
        [one, two.replace(b"sued", b"nord"), three],
        [one.replace(b"authority-made", b"authority-lost"), two, three],
        [one, three],
        [two, three],
        [two, one, three],
        [one, two, two, three],
    ):
        log.path.write_bytes(b"".join(changed))
        with pytest.raises(LedgerError, match="doesn't follow the line before it"):
            log.rows()
    log.path.write_bytes(one + b"{}\n" + three)
    with pytest.raises(LedgerError, match="line 2 isn't a line of a security log"):
        log.rows()


def test_nothing_is_added_to_what_isnt_a_log(log: SecurityLog) -> None:
    log.path.write_bytes(b"something else\n")
    with pytest.raises(LedgerError, match="its last line isn't a line of a security log"):
        log.add("more")
    assert log.path.read_bytes() == b"something else\n"


@pytest.mark.parametrize("left", [1, 40, -1])
def test_a_line_that_a_crash_has_cut_is_kept_as_such(log: SecurityLog, left: int) -> None:
    one, two, three = lines(log)
    log.path.write_bytes(one + two + three[:left])
    assert len(log.rows()) == 2
    log.add("after")
    rows = log.rows()
    assert [row.event for row in rows[2:]] == ["torn", "after"]
    assert three.hex().startswith(rows[2].about["bytes"])


def test_a_first_line_that_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b'{"about"')
    SecurityLog(path).add("after")
    assert [row.event for row in SecurityLog(path).rows()] == ["torn", "after"]


def test_its_end_tells_of_lines_that_were_cut_off(log: SecurityLog) -> None:
    one, two, _ = lines(log)
    noted = log.end()
    assert noted == hashlib.sha256(lines(log)[-1].rstrip(b"\n")).hexdigest()
    log.path.write_bytes(one + two)
    assert len(log.rows()) == 2  # nothing in it says that there was more
    assert log.end() != noted


def test_long_texts_are_cut_and_odd_ones_stay_one_line(log: SecurityLog) -> None:
    log.add("refused", why="x" * 100_000, name="a\nb\u202e\x1b")
    row = log.rows()[-1]
    assert len(row.about["why"]) == 500
    assert json.loads(lines(log)[-1])["about"]["name"] == "a\nb\u202e\x1b"


def add_many(path: Path) -> None:
    for _ in range(20):
        SecurityLog(path).add("one-of-many")


@pytest.mark.slow
@pytest.mark.long
def test_several_processes_make_one_chain(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=add_many, args=(tmp_path / "log",)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(SecurityLog(tmp_path / "log").rows()) == 60
