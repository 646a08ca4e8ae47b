"""A run's file of orders and replies: torn, changed, on a full disk, written by two at once."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fedmodel import _files
from fedmodel.errors import ReplayError, RunFolderError
from fedmodel.transport import records
from fedmodel.transport.inbox import Inbox, Verdict
from fedmodel.transport.inbox_store import InboxStore
from fedmodel.transport.stamps import Standing
from tests.fedmodel.transport.stamped import ONE, RUN, stamp

FILE = Path(RUN) / "link" / "inbox.bin"
_Life = Callable[[], object]


def process(folder: Path, small: int = 100, bound: int = 1 << 20) -> Inbox:
    return Inbox(InboxStore(folder.joinpath, small, bound))


def life(folder: Path) -> list[tuple[int, Standing]]:
    """Return how large the file was, and what a new process read of it, after each step."""
    inbox = process(folder)
    seen = []
    for step in (
        lambda: inbox.obey(RUN, 1, ONE),
        lambda: inbox.admit(stamp(1)),
        lambda: inbox.answered(stamp(1), [b"one", b"\n"]),
        lambda: inbox.admit(stamp(2)),
        lambda: inbox.acknowledge(RUN, 1, 1),
        lambda: inbox.answered(stamp(2), [b"two"]),
        lambda: inbox.admit(stamp(3)),
    ):
        step()
        size = (folder / FILE).stat().st_size
        seen.append((size, process(folder).standing(RUN)))
    assert [size for size, _ in seen] == sorted({size for size, _ in seen})
    return seen


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sync nothing, where a file is read some thousand times."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.mark.long
@pytest.mark.usefixtures("quick")
def test_a_file_that_was_cut_tells_what_it_told_before_its_last_record(tmp_path: Path) -> None:
    """A file that ends within a record is read without it, and that loses nothing.

    Whoever wrote it was ended, or lost its power, before the record's sync had returned. Until then
    an order isn't acted on, an epoch isn't obeyed and a reply isn't told: nobody has gone by it.
    """
    seen = life(tmp_path)
    whole = (tmp_path / FILE).read_bytes()
    # All bytes of a frame: tests of records. Here each of the last one, and some of all others.
    for size in (*range(0, seen[-2][0], 7), *range(seen[-2][0], len(whole))):
        (tmp_path / FILE).write_bytes(whole[:size])
        before = [standing for end, standing in seen if end <= size]
        if not before:
            # The first record is there as soon as the file is: this was no kill.
            with pytest.raises(RunFolderError, match=r"inbox\.bin can't be read"):
                process(tmp_path).admit(stamp(9))
            assert (tmp_path / FILE).read_bytes() == whole[:size]
            continue
        inbox = process(tmp_path)
        assert inbox.standing(RUN) == before[-1]
        assert (tmp_path / FILE).read_bytes() == whole[:size]  # who only reads changes nothing


@pytest.mark.long
def test_what_was_torn_is_written_anew_and_not_added_to(tmp_path: Path) -> None:
    seen = life(tmp_path)
    whole = (tmp_path / FILE).read_bytes()
    for size in range(seen[-2][0] + 1, len(whole), 17):
        (tmp_path / FILE).write_bytes(whole[:size])
        assert process(tmp_path).admit(stamp(3)) is Verdict.DO
        assert process(tmp_path).admit(stamp(3)) is Verdict.LOST
        found = (tmp_path / FILE).read_bytes()
        assert records.read(found).size == len(found) < size


@pytest.mark.long
@pytest.mark.usefixtures("quick")
def test_no_bit_can_be_changed_unnoticed(tmp_path: Path) -> None:
    life(tmp_path)
    whole = (tmp_path / FILE).read_bytes()
    for at in range(0, len(whole), 7):  # each bit of a frame: tests of records
        changed = whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :]
        (tmp_path / FILE).write_bytes(changed)
        inbox = process(tmp_path)
        for ask, arguments in (
            (inbox.standing, (RUN,)),
            (inbox.admit, (stamp(4),)),
            (inbox.obey, (RUN, 2, ONE)),
        ):
            with pytest.raises(RunFolderError, match=r"was changed.*older copy"):
                ask(*arguments)
        assert (tmp_path / FILE).read_bytes() == changed


def test_another_runs_file_is_refused(tmp_path: Path) -> None:
    life(tmp_path)
    other = tmp_path / "other-0123abcd" / "link" / "inbox.bin"
    other.parent.mkdir(parents=True)
    other.write_bytes((tmp_path / FILE).read_bytes())
    with pytest.raises(RunFolderError, match=f"it is of run '{RUN}'"):
        process(tmp_path).standing("other-0123abcd")


def test_a_file_that_changes_under_a_process_is_read_anew(tmp_path: Path) -> None:
    """Whether another process has added to it, has written it anew, or it was damaged."""
    mine, other = process(tmp_path), process(tmp_path, bound=0)
    assert mine.admit(stamp(1)) is Verdict.DO
    assert other.admit(stamp(2)) is Verdict.DO
    assert mine.admit(stamp(2)) is Verdict.LOST
    assert other.answered(stamp(2), [b"two"])
    assert b"".join(mine.reply(stamp(2))) == b"two"
    assert other.admit(stamp(3)) is Verdict.DO
    assert mine.admit(stamp(4)) is Verdict.DO
    assert not other.answered(stamp(3), [b"of an order that the other one holds to be over"])
    assert not mine.answered(stamp(1), [b"likewise"])
    assert mine.unacknowledged(RUN) == (stamp(2),)
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:50])
    with pytest.raises(RunFolderError, match="ends within its first record"):
        mine.admit(stamp(5))


@pytest.mark.long
@pytest.mark.parametrize("small", [0, 100], ids=["large", "small"])
def test_a_file_does_not_grow_with_the_orders(tmp_path: Path, small: int) -> None:
    inbox, bound, largest = process(tmp_path, small, 8000), 8000, 0
    for seq in range(1, 121):
        assert inbox.admit(stamp(seq)) is Verdict.DO
        assert inbox.answered(stamp(seq), [b"x" * 90])
        if seq > 5:
            inbox.acknowledge(RUN, 1, seq - 5)
        largest = max(largest, (tmp_path / FILE).stat().st_size)
    assert bound / 2 < largest < bound + 2000
    open_ = tuple(stamp(seq) for seq in range(116, 121))
    for each in (inbox, process(tmp_path)):
        assert each.unacknowledged(RUN) == open_
        assert {b"".join(each.reply(s)) for s in open_} == {b"x" * 90}


def test_a_file_of_many_open_orders_is_not_written_anew_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox, bound, written = process(tmp_path, bound=1000), 1000, list[Path]()
    real = _files.write_whole

    def write_whole(path: Path, *args: Any, **kwargs: Any) -> None:
        written.append(path)
        real(path, *args, **kwargs)

    monkeypatch.setattr(_files, "write_whole", write_whole)
    for seq in range(1, 41):
        assert inbox.admit(stamp(seq)) is Verdict.DO
        assert inbox.answered(stamp(seq), [b"x" * 90])
    assert (tmp_path / FILE).stat().st_size > 10 * bound
    assert 2 < len(written) < 20  # each time it is larger by half, or more


class Disk:
    """A disk that fails at one call: a full one takes some bytes, or none; a broken one no sync."""

    def __init__(self, call: int, how: str) -> None:
        self._left, self._how = call, how
        names = {name: getattr(os, name) for name in dir(os)}
        names |= {"write": self._write, "fsync": self._fsync}
        self.os = SimpleNamespace(**names)

    @property
    def failed(self) -> bool:
        return self._left <= 0

    def _fails(self) -> bool:
        self._left -= 1
        return self._left == 0

    def _write(self, handle: int, data: Any) -> int:
        if self._how == "no sync" or not self._fails():
            return os.write(handle, data)
        if self._how == "some":
            os.write(handle, bytes(data)[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    def _fsync(self, handle: int) -> None:
        if self._how == "no sync" and self._fails():
            raise OSError(errno.EIO, "Input/output error")
        os.fsync(handle)


@pytest.mark.parametrize("bound", [0, 1 << 20], ids=["anew", "added"])
@pytest.mark.parametrize("small", [0, 100], ids=["large", "small"])
@pytest.mark.parametrize("how", ["none", "some", "no sync"])
def test_a_disk_that_fails_at_any_call_leaves_what_was_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, small: int, bound: int
) -> None:
    call, seq, failed = 1, 0, True
    while failed:
        seq, disk = seq + 1, Disk(call, how)
        told: list[str] = []
        inbox = process(tmp_path, small, bound)
        with monkeypatch.context() as patched, suppress(RunFolderError):
            patched.setattr(_files, "os", disk.os)
            assert inbox.admit(stamp(seq)) is Verdict.DO
            told.append("do")
            assert inbox.answered(stamp(seq), [b"x", b"%d" % seq])
            told.append("answered")
        failed, call = disk.failed, call + 1
        for each in (inbox, process(tmp_path, small, bound)):
            _check_told(each, told, seq, first=each is inbox)
        inbox.acknowledge(RUN, 1, seq)
    assert call > 3


def test_nothing_is_added_to_what_could_not_be_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a sync that has failed another one says nothing of what was written before."""
    inbox = process(tmp_path)
    inbox.admit(stamp(1))
    with monkeypatch.context() as patched:
        patched.setattr(_files, "os", Disk(1, "no sync").os)
        with pytest.raises(RunFolderError, match="Input/output error"):
            inbox.admit(stamp(2))
    before = (tmp_path / FILE).stat().st_ino
    assert inbox.standing(RUN).taken == 2
    assert inbox.admit(stamp(3)) is Verdict.DO
    assert (tmp_path / FILE).stat().st_ino != before


def _check_told(inbox: Inbox, told: list[str], seq: int, *, first: bool) -> None:
    """Check what a process says of an order: the one that it came to, or the next."""
    if "answered" in told:
        assert inbox.admit(stamp(seq)) is Verdict.AGAIN
        assert b"".join(inbox.reply(stamp(seq))) == b"x%d" % seq
    elif told and first:
        assert inbox.admit(stamp(seq)) is Verdict.BUSY
        assert inbox.answered(stamp(seq), [b"x", b"%d" % seq])
        told.append("answered")
    else:
        assert inbox.admit(stamp(seq)) in (Verdict.DO, Verdict.LOST)


def test_an_acknowledgement_makes_room_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = process(tmp_path, small=0)
    inbox.admit(stamp(1))
    inbox.answered(stamp(1), [b"large"])
    with monkeypatch.context() as patched:
        patched.setattr(_files, "os", Disk(1, "some").os)
        inbox.acknowledge(RUN, 1, 1)
    assert not list((tmp_path / FILE).parent.glob("reply*"))
    with pytest.raises(ReplayError, match="acknowledged"):
        inbox.admit(stamp(1))
    assert process(tmp_path).admit(stamp(1)) is Verdict.LOST
    assert inbox.admit(stamp(2)) is Verdict.DO
    assert process(tmp_path).admit(stamp(2)) is Verdict.LOST


_ONE_OF_TWO = """
import sys
from contextlib import suppress
from pathlib import Path
from fedmodel.errors import ReplayError
from fedmodel.transport.inbox import Inbox, Verdict
from fedmodel.transport.inbox_store import InboxStore
from tests.fedmodel.transport.stamped import RUN, stamp
inbox = Inbox(InboxStore(Path(sys.argv[1]).joinpath, 20, 3000))
print("here", flush=True)
sys.stdin.readline()
for seq in range(1, 81):
    with suppress(ReplayError):
        if inbox.admit(stamp(seq)) is Verdict.DO:
            print(seq, flush=True)
            if inbox.answered(stamp(seq), [b"%d" % seq * (1 + seq % 40)]) and seq % 3:
                inbox.acknowledge(RUN, 1, seq)
"""


@pytest.mark.long
def test_two_processes_at_once_act_on_no_order_twice(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _ONE_OF_TWO, str(tmp_path)]
    both = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        for each in both:
            assert each.stdout is not None
            assert each.stdout.readline() == "here\n"
        for each in both:
            assert each.stdin is not None
            each.stdin.write("go\n")
            each.stdin.flush()
        done = [int(seq) for each in both for seq in each.communicate(timeout=60)[0].split()]
    finally:
        for each in both:
            each.kill()
            each.communicate()
    assert [each.returncode for each in both] == [0, 0]
    assert len(done) == len(set(done))
    inbox = process(tmp_path, 20)
    assert inbox.standing(RUN).taken == 80 == max(done)
    for answered in inbox.unacknowledged(RUN):
        assert answered.seq in done
        expected = b"%d" % answered.seq * (1 + answered.seq % 40)
        assert b"".join(inbox.reply(answered)) == expected
