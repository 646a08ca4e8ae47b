"""Ends of runs that sites haven't heard of, as a coordinator keeps them."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fedmodel import _files
from fedmodel.errors import RunFolderError
from server.leaving import _keep_untold, tell_untold
from server.untold import Ending, Untold, without

GOLDEN = Path(__file__).parents[1] / "vectors" / "untold_v1.json"
ONE = Ending(run="one-12345678", job="a" * 64, failed=False, members={"b" * 64: 7, "c" * 64: 0})
TWO = Ending(run="two-12345678", job="a" * 64, failed=True, members={"b" * 64: 12})


def test_endings_are_kept_for_the_next_process_from_the_oldest(tmp_path: Path) -> None:
    kept = Untold(tmp_path / "home")
    assert kept.endings() == ()
    kept.put(ONE)
    kept.put(TWO)
    assert Untold(tmp_path / "home").endings() == (ONE, TWO)


def test_who_has_heard_is_taken_out_and_an_ending_without_anybody_goes(tmp_path: Path) -> None:
    kept = Untold(tmp_path)
    kept.put(ONE)
    kept.put(without(ONE, {"b" * 64}))
    assert [each.members for each in kept.endings()] == [{"c" * 64: 0}]
    kept.put(without(ONE, {"b" * 64, "c" * 64}))
    assert kept.endings() == ()


def test_a_run_that_goes_on_has_not_ended(tmp_path: Path) -> None:
    kept = Untold(tmp_path)
    kept.put(ONE)
    kept.put(TWO)
    kept.drop(ONE.run, "d" * 64)  # another job under that name
    kept.drop("another", ONE.job)
    assert kept.endings() == (ONE, TWO)
    kept.drop(ONE.run, ONE.job)
    assert kept.endings() == (TWO,)
    kept.told(ONE, {"b" * 64})  # by a process that had read it before
    assert kept.endings() == (TWO,)


def test_who_has_heard_is_noted_and_what_is_left_is_told_after_the_others(tmp_path: Path) -> None:
    kept = Untold(tmp_path)
    kept.put(ONE)
    kept.put(TWO)
    kept.told(ONE, {"b" * 64})
    assert kept.endings() == (TWO, without(ONE, {"b" * 64}))
    kept.told(TWO, set())
    assert kept.endings() == (without(ONE, {"b" * 64}), TWO)
    kept.told(TWO, {"b" * 64})
    assert kept.endings() == (without(ONE, {"b" * 64}),)


def test_whoever_does_not_answer_holds_up_a_joining_once_and_not_for_each_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, now, tried = Untold(tmp_path), [0.0], list[str]()
    kept.put(ONE)
    kept.put(TWO)

    def late(channel: Any, coordinator: Any, ending: Ending) -> set[str]:
        now[0] += 120.0
        tried.append(ending.run)
        return set()

    monkeypatch.setattr("server.leaving._tell", late)
    monkeypatch.setattr("server.leaving.time.monotonic", lambda: now[0])
    job = SimpleNamespace(sha256="d" * 64)
    coordinator: Any = SimpleNamespace(untold=kept, keys=object(), run=ONE.run, job=job)
    for _ in range(3):
        tell_untold(None, coordinator)  # type: ignore[arg-type]
    assert tried == [ONE.run, TWO.run, ONE.run]


def test_nothing_is_written_where_nothing_changes(tmp_path: Path) -> None:
    kept = Untold(tmp_path / "home")
    kept.drop("another", ONE.job)
    kept.told(ONE, set(ONE.members))
    kept.put(without(ONE, set(ONE.members)))
    assert not (tmp_path / "home").exists()


def test_what_a_released_version_kept_is_read(tmp_path: Path) -> None:
    kept = Untold(tmp_path)
    kept.put(ONE)
    kept.put(TWO)
    text = (tmp_path / "untold.json").read_bytes()
    if os.environ.get("FEDMODEL_WRITE_VECTORS"):
        GOLDEN.write_bytes(text)
    assert text == GOLDEN.read_bytes()
    (tmp_path / "untold.json").write_bytes(GOLDEN.read_bytes())
    assert kept.endings() == (ONE, TWO)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"schema": "fedmodel.untold/2"}'])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "untold.json").write_text(text)
    with pytest.raises(RunFolderError, match=r"untold\.json"):
        Untold(tmp_path).endings()


def test_the_oldest_of_too_many_goes_and_that_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("server.untold._MOST", 1)
    kept = Untold(tmp_path)
    kept.put(ONE)
    kept.put(TWO)
    assert kept.endings() == (TWO,)
    assert "budget release=one-12345678" in caplog.text


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    kept = Untold(tmp_path)
    kept.put(ONE)
    monkeypatch.setattr(_files, "write_atomic", full)
    with pytest.raises(RunFolderError, match="free space"):
        kept.put(TWO)
    assert kept.endings() == (ONE,)


def test_who_was_never_there_is_untold_as_is_who_has_not_answered(tmp_path: Path) -> None:
    channel: Any = SimpleNamespace(voice=SimpleNamespace(members={2: 1, 3: 2}))
    keys = SimpleNamespace(roster=SimpleNamespace(keys={1: b"a", 2: b"b", 3: b"c"}))
    coordinator: Any = SimpleNamespace(
        untold=Untold(tmp_path),
        keys=keys,
        run=ONE.run,
        job=SimpleNamespace(sha256=ONE.job),
        memory=SimpleNamespace(entries=lambda node: 10 * node),
    )
    _keep_untold(channel, coordinator, {2}, failed=True)
    (ending,) = Untold(tmp_path).endings()
    assert ending.members == {b"b".hex(): 30, b"c".hex(): 0}
    assert ending.failed
