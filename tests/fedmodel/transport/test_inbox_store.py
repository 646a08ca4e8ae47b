"""Files of a site's inbox: damaged, cut off, on a full disk, as version one wrote them."""

import errno
import os
import shutil
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from fedmodel import _files
from fedmodel.errors import ReplayError, RunFolderError
from fedmodel.transport import inbox_store, records
from fedmodel.transport.inbox import Inbox, Verdict
from fedmodel.transport.inbox_store import InboxStore
from fedmodel.transport.payloads import digest_of
from tests.fedmodel.identity.killed import killed_at
from tests.fedmodel.transport.stamped import ONE, RUN, stamp

GOLDEN = Path(__file__).parents[2] / "vectors" / "link_v1"


def process(folder: Path, small: int = 100, bound: int = 1 << 20) -> Inbox:
    return Inbox(InboxStore(folder.joinpath, small, bound))


def golden_life(folder: Path) -> None:
    """Five is answered by a large reply, six by a small one, and two is over."""
    inbox = process(folder)
    for seq in (2, 3, 5, 6):
        inbox.admit(stamp(seq, 2))
    inbox.answered(stamp(2, 2), [b"two"])
    inbox.answered(stamp(5, 2), [b"one part\n", b"", bytes(range(256))])
    inbox.acknowledge(RUN, 2, 2)
    inbox.answered(stamp(6, 2), [b"six", b"", b"\n"])


def test_the_files_of_the_first_version_are_written_and_read(tmp_path: Path) -> None:
    golden_life(tmp_path)
    for name in ("inbox.bin", "reply-2-5.bin"):
        assert (tmp_path / RUN / "link" / name).read_bytes() == (GOLDEN / name).read_bytes(), name
    shutil.copytree(GOLDEN, tmp_path / "golden" / RUN / "link")
    inbox = process(tmp_path / "golden")
    assert inbox.unacknowledged(RUN) == (stamp(5, 2), stamp(6, 2))
    assert [bytes(p) for p in inbox.reply(stamp(5, 2))] == [
        b"one part\n", b"", bytes(range(256))
    ]  # fmt: skip
    assert [bytes(p) for p in inbox.reply(stamp(6, 2))] == [b"six", b"", b"\n"]
    assert [inbox.admit(stamp(s, 2)) for s in (2, 3)] == [Verdict.LOST, Verdict.LOST]


def test_files_are_for_their_owner_only_and_nothing_is_left_beside_them(tmp_path: Path) -> None:
    golden_life(tmp_path)
    folder = tmp_path / RUN / "link"
    assert sorted(os.listdir(folder)) == [".lock", "inbox.bin", "reply-2-5.bin"]
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_a_reply_is_not_read_into_memory(tmp_path: Path) -> None:
    inbox = process(tmp_path)
    inbox.admit(stamp(1))
    data = os.urandom(1 << 20)
    inbox.answered(stamp(1), [memoryview(data).cast("I"), data[:5]])
    first, second = inbox.reply(stamp(1))
    assert first.readonly
    inbox.acknowledge(RUN, 1, 1)
    assert not list((tmp_path / RUN / "link").glob("reply*"))
    assert (bytes(first), bytes(second)) == (data, data[:5])


def test_what_was_hashed_before_is_not_hashed_again_and_is_checked_by_the_next_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[bytes | memoryview] = [b"header", b"", b"x" * 300, memoryview(b"y" * 300)]
    views = tuple(memoryview(part) for part in parts)
    inbox = process(tmp_path)
    for seq, sha256 in ((1, digest_of(parts[2:])), (2, "0" * 64)):
        inbox.admit(stamp(seq))
        with monkeypatch.context() as patched:
            patched.setattr(inbox_store, "digest_of", None)
            assert inbox.answered(stamp(seq), parts, 2, sha256)
            assert inbox.reply(stamp(seq)) == views
    assert (tmp_path / RUN / "link" / "reply-1-1.bin").read_bytes() == b"x" * 300 + b"y" * 300
    assert process(tmp_path).reply(stamp(1)) == views
    with pytest.raises(RunFolderError, match="its SHA-256 is another"):
        process(tmp_path).reply(stamp(2))


@pytest.mark.parametrize("change", ["cut", "longer", "bit", "empty", "folder"])
def test_a_damaged_reply_is_named(tmp_path: Path, change: str) -> None:
    golden_life(tmp_path)
    path = tmp_path / RUN / "link" / "reply-2-5.bin"
    data = path.read_bytes()
    path.unlink()
    if change == "folder":
        path.mkdir()
    else:
        changed = {
            "cut": data[:-1],
            "longer": data + b"x",
            "bit": data[:-1] + b"x",
            "empty": b"",
        }
        path.write_bytes(changed[change])
    inbox = process(tmp_path)
    for ask in (
        lambda: inbox.standing(RUN),
        lambda: inbox.unacknowledged(RUN),
        lambda: inbox.reply(stamp(5, 2)),
        lambda: inbox.admit(stamp(5, 2)),
        lambda: inbox.admit(stamp(7, 2)),
    ):
        with pytest.raises(RunFolderError, match=r"the reply in .*reply-2-5\.bin can't be read"):
            ask()
    if change != "folder":
        path.unlink()
        assert inbox.admit(stamp(5, 2)) is Verdict.LOST


def written(*lines: bytes) -> bytes:
    """Return a file of records."""
    made, last = b"", records.FIRST
    for line in lines:
        frame = records.frame(line, last)
        made, last = made + frame, frame[-32:]
    return made


_WHOLE = (GOLDEN / "inbox.bin").read_bytes()
_LINES = records.read(_WHOLE).records


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"x" * (1 << 21),
        _WHOLE[:99],
        _WHOLE + written(_LINES[0]),
        written(b"{}\n"),
        written(b"[]\n"),
        written(b"\xff\n"),
        written(_LINES[0].replace(b"inbox/1", b"inbox/2")),
        written(_LINES[0].replace(RUN.encode(), b"other-0123abcd")),
        written(*_LINES[:3], _LINES[3].replace(b'"seq":3', b'"seq":7')),
        written(_LINES[0].replace(b'"epoch":2', b'"epoch":0')),
        written(_LINES[0] + b"x"),
        written(_LINES[5]),
        written(*_LINES[:5], _LINES[5] + bytes(266)),
        written(*_LINES, _LINES[6]),
        None,
    ],
    ids=[
        "empty", "short", "long", "cut", "other", "none", "list", "bytes", "newer", "run", "order",
        "epoch", "more", "no note", "too much", "over twice", "missing",
    ],
)  # fmt: skip
def test_a_damaged_file_is_named_and_nothing_is_done(tmp_path: Path, text: bytes | None) -> None:
    golden_life(tmp_path)
    path = tmp_path / RUN / "link" / "inbox.bin"
    path.unlink()
    if text is not None:
        path.write_bytes(text)
    inbox = process(tmp_path)
    for ask in (
        lambda: inbox.standing(RUN),
        lambda: inbox.check(RUN, 3, ONE),
        lambda: inbox.obey(RUN, 3, ONE),
        lambda: inbox.admit(stamp(9, 3)),
    ):
        with pytest.raises(RunFolderError, match=r"inbox\.bin (can't be read|is missing)"):
            ask()
    assert text is None or path.read_bytes() == text


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    golden_life(tmp_path)
    inbox = process(tmp_path)
    assert inbox.admit(stamp(7, 2)) is Verdict.DO

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(RunFolderError, match=r"Nothing was done .* Free space"):
            inbox.admit(stamp(8, 2))
        with pytest.raises(RunFolderError, match=r"hasn't left the site.* Free space"):
            inbox.answered(stamp(7, 2), [b"seven"])
        assert inbox.admit(stamp(7, 2)) is Verdict.BUSY
    assert inbox.unacknowledged(RUN) == (stamp(5, 2), stamp(6, 2))
    assert inbox.admit(stamp(8, 2)) is Verdict.DO
    assert inbox.answered(stamp(7, 2), [b"seven"])
    assert inbox.unacknowledged(RUN) == (stamp(5, 2), stamp(6, 2), stamp(7, 2))


def test_what_is_not_noted_costs_no_reply_and_what_is_not_kept_takes_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox, folder = process(tmp_path), tmp_path / RUN / "link"
    golden_life(tmp_path)
    inbox.admit(stamp(7, 2))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(_files.LockedFile, "append", full)
        with pytest.raises(RunFolderError, match="hasn't left the site"):
            inbox.answered(stamp(7, 2), [b"x" * 200])
        assert not (folder / "reply-2-7.bin").exists()
        patched.setattr(_files, "write_whole", full)
        with pytest.raises(RunFolderError):
            inbox.obey(RUN, 3, ONE)
    for each in (inbox, process(tmp_path)):
        assert each.standing(RUN).epoch == 2
        assert b"".join(each.reply(stamp(5, 2))).endswith(bytes(range(256)))
    assert inbox.answered(stamp(7, 2), [b"x" * 200])


def test_a_reply_that_came_from_an_order_of_two_threads_does_not_stop_a_later_coordinator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = process(tmp_path, small=0)
    inbox.admit(stamp(1))
    real = _files.write_whole

    def meanwhile(path: Path, *args: object, **kwargs: object) -> None:
        monkeypatch.undo()
        process(tmp_path).obey(RUN, 2, ONE)
        real(path, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(_files, "write_whole", meanwhile)
    assert not inbox.answered(stamp(1), [b"for nobody"])
    assert not list((tmp_path / RUN / "link").glob("*reply*"))
    assert inbox.standing(RUN).epoch == 2


@pytest.mark.long
@pytest.mark.parametrize("bound", [0, 1 << 20], ids=["anew", "added"])
@pytest.mark.parametrize("small", [0, 100], ids=["large", "small"])
def test_a_kill_between_any_two_calls_leaves_an_order_done_once_or_never(
    tmp_path: Path, small: int, bound: int
) -> None:
    """What was told DO is never told so again; what was told answered stays answered."""
    call, seq = 1, 0
    while True:
        seq += 1
        told: list[str] = []

        def life(told: list[str] = told, one: int = seq) -> None:
            inbox = process(tmp_path, small, bound)
            assert inbox.admit(stamp(one)) is Verdict.DO
            told.append("do")
            inbox.answered(stamp(one), [b"x" * 10, str(one).encode()])
            told.append("answered")
            inbox.acknowledge(RUN, 1, one)
            told.append("over")

        killed = killed_at(call, life)
        inbox = process(tmp_path, small, bound)
        if not killed:
            break
        _check_after(inbox, seq, told)
        call += 1
    assert call > 15
    assert set(os.listdir(tmp_path / RUN / "link")) <= {".lock", "inbox.bin"}


def _check_after(inbox: Inbox, seq: int, told: list[str]) -> None:
    verdict = None
    with suppress(ReplayError):
        verdict = inbox.admit(stamp(seq))
    allowed: dict[tuple[str, ...], set[Verdict | None]] = {
        (): {Verdict.DO, Verdict.LOST},
        ("do",): {Verdict.LOST, Verdict.AGAIN},
        ("do", "answered"): {Verdict.AGAIN, Verdict.LOST},  # LOST: its acknowledgement was begun
        ("do", "answered", "over"): {Verdict.LOST, None},
    }
    assert verdict in allowed[tuple(told)]
    if verdict is Verdict.AGAIN:
        assert b"".join(inbox.reply(stamp(seq))) == b"x" * 10 + str(seq).encode()
        inbox.acknowledge(RUN, 1, seq)


def test_what_kills_have_left_of_replies_is_removed_with_the_next_order(tmp_path: Path) -> None:
    golden_life(tmp_path)
    folder = tmp_path / RUN / "link"
    for name in (
        ".reply-2-4.bin.1.tmp",
        ".reply-1-9.bin.77.tmp",
        "reply-1-9.bin",
        ".inbox.bin.7.tmp",
    ):
        (folder / name).write_bytes(b"x")
    process(tmp_path).admit(stamp(7, 2))
    assert sorted(os.listdir(folder)) == [".lock", "inbox.bin", "reply-2-5.bin"]


def test_a_second_process_does_no_order_of_the_first(tmp_path: Path) -> None:
    one, two = process(tmp_path), process(tmp_path)
    assert one.admit(stamp(1)) is Verdict.DO
    assert two.admit(stamp(1)) is Verdict.LOST
    assert one.answered(stamp(1), [b"x"])
    assert two.admit(stamp(1)) is Verdict.AGAIN


def test_threads_of_a_process_share_an_inbox(tmp_path: Path) -> None:
    """One acts on orders, the other tells where the site stands, and drops what is over."""
    inbox, done = process(tmp_path), threading.Event()
    seen: list[int] = []

    def tell() -> None:
        while not done.is_set():
            for each in inbox.standing(RUN).has:
                seen.append(each)
                inbox.acknowledge(RUN, 1, each)

    other = threading.Thread(target=tell)
    other.start()
    try:
        for seq in range(1, 40):
            assert inbox.admit(stamp(seq)) is Verdict.DO
            assert inbox.answered(stamp(seq), [b"x" * seq])
    finally:
        done.set()
        other.join()
    assert len(seen) == len(set(seen))
    assert len(inbox.unacknowledged(RUN)) + len(seen) == 39
