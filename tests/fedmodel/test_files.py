import errno
import os
from pathlib import Path

import pytest

from fedmodel import _files


def test_folders_are_made_with_those_above_them(tmp_path: Path) -> None:
    _files.make_folder(tmp_path / "a" / "b" / "c")
    _files.make_folder(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()
    (tmp_path / "file").write_text("")
    for name in ("file", "file/x"):
        with pytest.raises(OSError, match="file"):
            _files.make_folder(tmp_path / name)


def test_a_file_is_replaced_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "x"
    _files.write_atomic(path, b"one")
    left = tmp_path / f".x.{os.getpid()}.tmp"
    left.write_bytes(b"of a killed process")
    left.chmod(0o644)
    _files.write_atomic(path, b"two", mode=0o600)
    assert _files.read(path) == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["x"]


def test_a_file_that_cannot_be_replaced_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    _files.write_atomic(path, b"one")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        _files.write_atomic(path, b"two")
    assert _files.read(path) == b"one"
    assert os.listdir(tmp_path) == ["x"]


def test_large_content_is_written_in_as_many_parts_as_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: real(handle, bytes(data[:1000])))
    data = os.urandom(10_500)
    _files.write_atomic(tmp_path / "x", data)
    assert _files.read(tmp_path / "x") == data


def test_a_disk_that_has_room_for_a_part_of_what_is_added_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system says so of the second write only; by that a full disk is known from a broken."""
    real, room = os.write, 4

    def write(handle: int, data: bytes) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = real(handle, bytes(data[:room]))
        room -= written
        return written

    monkeypatch.setattr(os, "write", write)
    with _files.locked(tmp_path / "x", write=True) as file:
        with pytest.raises(OSError, match="No space") as raised:
            file.append(b"0123456789")
        room = 100
        file.append(b"abc")
    assert raised.value.errno == errno.ENOSPC
    assert _files.read(tmp_path / "x") == b"0123abc"


def test_a_stamp_changes_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with _files.locked(path, write=True) as file:
        first = file.stamp()
        file.append(b"abc")
        assert file.stamp() != first
        assert file.read() == b"abc"
        file.cut(1)
        assert file.read() == b"a"
        second = file.stamp()
    path.unlink()
    path.write_bytes(b"a")
    with _files.locked(path, write=False) as file:
        assert file.stamp() != second


def test_a_file_is_replaced_whole_or_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    _files.write_whole(path, [b"one", memoryview(b" two")])
    assert path.read_bytes() == b"one two"
    monkeypatch.setattr(os, "replace", _fails)
    with pytest.raises(OSError, match="no"):
        _files.write_whole(path, [b"three"])
    assert path.read_bytes() == b"one two"
    assert os.listdir(tmp_path) == ["x"]


def _fails(*_: object) -> None:
    raise OSError("no")
