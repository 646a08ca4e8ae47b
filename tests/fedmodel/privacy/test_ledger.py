"""The ledger: what is on disk, what a crash may leave, what an edit can't hide."""

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fedmodel.errors import ConfigError, FedmodelError, PrivacyError, RunFolderError
from fedmodel.privacy import Ledger, Plan, Spend
from fedmodel.privacy.entries import SpendEntry, TornEntry

JOB = "ab" * 32


def write(book: Ledger, plan: Plan, round: int = 0, steps: int = 5) -> SpendEntry:
    return book.spend(plan, steps, run="r", job=JOB, site="a", round=round)


@pytest.fixture
def book(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "state" / "ledger" / "a.jsonl")


@pytest.fixture
def three(book: Ledger, plan: Plan) -> Ledger:
    for i in range(3):
        write(book, plan, i)
    return book


def test_round_trip(three: Ledger, plan: Plan) -> None:
    entries = Ledger(three.path).entries()
    assert [e.seq for e in entries] == [0, 1, 2]
    assert entries[0].prev == "0" * 64
    assert three.spends() == [Spend(plan.rate, plan.noise_multiplier, 5)] * 3
    assert three.spends(run="r", job=JOB) == three.spends()
    assert three.spends(run="other") == three.spends(job="cd" * 32) == []
    assert three.path.stat().st_mode & 0o077 == 0


def test_real_numbers_come_back_exactly(book: Ledger, plan: Plan) -> None:
    odd = dataclasses.replace(plan, rate=1 / 3, noise_multiplier=0.1 + 0.2, delta=1e-9)
    entry = write(book, odd)
    assert (float(entry.rate), float(entry.delta)) == (1 / 3, 1e-9)
    assert book.spends() == [odd.spend(5)]


def test_lines_are_canonical(three: Ledger) -> None:
    for line in three.path.read_bytes().splitlines():
        mapping = json.loads(line)
        assert line == json.dumps(mapping, sort_keys=True, separators=(",", ":")).encode()
        assert mapping["schema"] == "fedmodel.ledger/1"
        assert mapping["type"] == "spend"


def test_missing_file_is_an_empty_ledger(book: Ledger) -> None:
    assert book.entries() == ()
    assert book.spends() == []


def test_two_writers_take_turns(three: Ledger, plan: Plan) -> None:
    other = Ledger(three.path)
    for i in range(3):
        write(other, plan, i)
        write(three, plan, i)
    assert len(Ledger(three.path).entries()) == 9


def swap(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[2], lines[1]]


def edit(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[1].replace(b'"steps":5', b'"steps":1'), lines[2]]


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (swap, 2),
        (edit, 3),
        (lambda x: [x[0], x[2]], 2),
        (lambda x: [x[1], x[2]], 1),
        (lambda x: [x[0], x[0], x[1], x[2]], 2),
        (lambda x: [x[0], x[1][:50], x[2]], 2),
        (lambda x: [x[0], x[1][:50] + x[2]], 2),
        (lambda x: [x[0], b"", x[1], x[2]], 2),
        (lambda x: [x[0].replace(b",", b", "), x[1], x[2]], 1),
        (lambda x: [x[0].replace(b'{"', b'{"steps":1,"', 1), x[1], x[2]], 1),
        (lambda x: [x[0], x[1].replace(b'"rate":"0.1"', b'"rate":"0.10"'), x[2]], 2),
        (lambda x: [x[0], x[1].replace(b'"rate":"0.1"', b'"rate":"nan"'), x[2]], 2),
        (lambda x: [x[0], x[1].replace(b"ledger/1", b"ledger/2"), x[2]], 2),
        (lambda x: [x[0], x[1].replace(b'"spend"', b'"void"'), x[2]], 2),
    ],
)
def test_damage_is_found_and_nothing_is_added(
    three: Ledger, plan: Plan, damage: Callable[[list[bytes]], list[bytes]], line: int
) -> None:
    lines = three.path.read_bytes().splitlines()
    damaged = b"".join(x + b"\n" for x in damage(lines))
    three.path.write_bytes(damaged)
    for reader, where in ((three, "line"), (Ledger(three.path), f"line {line}")):
        with pytest.raises(RunFolderError, match=where):
            reader.entries()
        with pytest.raises(RunFolderError, match=where):
            write(reader, plan)
    assert three.path.read_bytes() == damaged


def test_every_cut_of_the_last_line(three: Ledger, plan: Plan) -> None:
    whole = three.path.read_bytes()
    start = whole[:-1].rindex(b"\n") + 1
    for cut in [*range(start, len(whole), 29), len(whole) - 2, len(whole) - 1]:
        three.path.write_bytes(whole[:cut])
        complete = cut == len(whole) - 1
        assert len(Ledger(three.path).spends()) == (3 if complete else 2)
        book = Ledger(three.path)
        write(book, plan, 7)
        entries = Ledger(three.path).entries()
        assert len(book.spends()) == (4 if complete else 3)
        torn = [e for e in entries if isinstance(e, TornEntry)]
        assert len(torn) == (0 if complete or cut == start else 1)
        if torn:
            assert bytes.fromhex(torn[0].start) == whole[start:cut]


@pytest.mark.parametrize("gone", [True, False])
def test_lines_taken_off_the_end_while_it_runs(three: Ledger, plan: Plan, gone: bool) -> None:
    lines = three.path.read_bytes().splitlines(keepends=True)
    if gone:
        three.path.unlink()
    else:
        three.path.write_bytes(b"".join(lines[:2]))
    where = "line 1" if gone else "line 3"
    with pytest.raises(RunFolderError, match=where):
        three.spends()
    with pytest.raises(RunFolderError, match=where):
        write(three, plan)


def test_unfinished_line_that_does_not_follow_is_an_error(three: Ledger, plan: Plan) -> None:
    first = three.path.read_bytes().splitlines()[0]
    with three.path.open("ab") as file:
        file.write(first)
    with pytest.raises(RunFolderError, match="line 4"):
        three.spends()
    with pytest.raises(RunFolderError, match="line 4"):
        write(three, plan)


class Fault:
    """Makes the n-th call of a system function fail, after doing part of its work."""

    def __init__(self, real: Callable[..., Any], at: int, part: float | None) -> None:
        self.real, self.left, self.part = real, at, part

    def __call__(self, file: int, *rest: Any) -> Any:
        self.left -= 1
        if self.left >= 0:
            return self.real(file, *rest)
        if self.part is not None:
            return self.real(file, rest[0][: int(len(rest[0]) * self.part)])
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("name", "part"),
    [("write", None), ("write", 0.0), ("write", 0.5), ("fsync", None), ("ftruncate", None)],
)
@pytest.mark.parametrize("at", [0, 1, 3])
@pytest.mark.parametrize("torn", [False, True])
def test_a_disk_that_fails(
    three: Ledger,
    plan: Plan,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    part: float | None,
    at: int,
    torn: bool,
) -> None:
    if torn:
        with three.path.open("ab") as file:
            file.write(b'{"adjacency":')
    confirmed = 3
    with monkeypatch.context() as patch:
        patch.setattr(os, name, Fault(getattr(os, name), at, part))
        for i in range(6):
            try:
                write(three, plan, i)
            except RunFolderError:
                break
            confirmed += 1
            assert len(Ledger(three.path).spends()) == confirmed
    # A spend that was confirmed is never lost; one that wasn't may count.
    found = len(Ledger(three.path).spends())
    assert confirmed <= found <= confirmed + 1
    write(three, plan)
    assert len(Ledger(three.path).spends()) == found + 1


def test_folder_that_cannot_be_made(tmp_path: Path, plan: Plan) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match=r"can't write.*Nothing may be released"):
        write(Ledger(tmp_path / "file" / "a.jsonl"), plan)
    with pytest.raises(RunFolderError, match="can't read"):
        Ledger(tmp_path).entries()


CHILD = """
import sys
from fedmodel.privacy import Ledger, Plan
plan = Plan(unit="record", adjacency="add-remove", mechanism="dpsgd", clip=1.0,
            noise_multiplier=1.0, rate=0.5, steps=9, delta=1e-5, epsilon=1.0, expected_batch=4)
book = Ledger(sys.argv[1])
for i in range(1000000):
    book.spend(plan, 1, run=sys.argv[2], job="ab" * 32, site="a", round=i)
    print(i, flush=True)
"""


def test_two_processes_and_sigkill(book: Ledger, plan: Plan) -> None:
    book.path.parent.mkdir(parents=True)
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(book.path), name], stdout=subprocess.PIPE, text=True
        )
        for name in ("x", "y")
    ]
    lines = [child.stdout for child in children if child.stdout]
    for out in lines:
        out.readline()
    time.sleep(0.1)
    confirmed = []
    for child, out in zip(children, lines, strict=True):
        child.send_signal(signal.SIGKILL)
        rest = out.read()
        confirmed.append(1 + rest.count("\n"))
        out.close()
        child.wait(10)
    for name, count in zip(("x", "y"), confirmed, strict=True):
        assert count <= len(book.spends(run=name)) <= count + 1
    before = len(book.spends())
    write(book, plan)
    assert len(Ledger(book.path).spends()) == before + 1


def test_wrong_values_leave_no_file(book: Ledger, plan: Plan) -> None:
    with pytest.raises(PrivacyError, match="at least 1"):
        write(book, plan, steps=0)
    with pytest.raises(ConfigError, match="SHA-256"):
        book.spend(plan, 1, run="r", job="xyz", site="a", round=0)
    with pytest.raises(ConfigError, match="negative"):
        book.spend(plan, 1, run="r", job=JOB, site="a", round=-1)
    with pytest.raises(ConfigError, match="canonical"):
        book.spend(plan, 1, run="\ud800", job=JOB, site="a", round=0)
    assert not book.path.parent.exists()


LINE = (
    b'{"adjacency":"add-remove","attempt":1,"clip":"0.5","delta":"1e-05","job":"' + JOB.encode()
) + (
    b'","noise_multiplier":"1.25","prev":"' + b"0" * 64 + b'","rate":"0.1","round":0,"run":"r",'
    b'"schema":"fedmodel.ledger/1","seq":0,"site":"a","steps":5,"type":"spend","unit":"record"}\n'
)


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    raw=st.one_of(
        st.binary(max_size=200),
        st.tuples(st.binary(max_size=40), st.just(LINE), st.binary(max_size=40)).map(b"".join),
        st.tuples(st.integers(0, len(LINE)), st.integers(0, 8), st.binary(max_size=8)).map(
            lambda x: LINE[: x[0]] + x[2] + LINE[x[0] + x[1] :]
        ),
    )
)
@example(raw=LINE)
@example(raw=b"[" * 100_000 + b"\n")
@example(raw=b"9" * 10_000 + b"\n")
@example(raw=LINE.replace(b'"r"', b'"\\ud800"'))
@example(raw=LINE.replace(b"5,", b"5" * 400 + b","))
@example(raw=LINE.replace(b'"spend"', b"[]"))
@example(raw=b"\xff\xfe\n")
@example(raw=b"\x00" * 4096)
def test_reader_survives_anything(tmp_path: Path, plan: Plan, raw: bytes) -> None:
    path = tmp_path / "fuzz.jsonl"
    path.write_bytes(raw)
    try:
        found = len(Ledger(path).spends())
        write(Ledger(path), plan)
    except FedmodelError:
        assert path.read_bytes() == raw
    else:
        assert len(Ledger(path).spends()) == found + 1


def test_the_fuzzed_line_is_what_is_written(book: Ledger, plan: Plan) -> None:
    write(book, plan)
    assert book.path.read_bytes() == LINE
