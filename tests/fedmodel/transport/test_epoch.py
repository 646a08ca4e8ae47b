"""The epoch of a coordinator's start grows with each, whenever the one before was killed."""

from pathlib import Path

import pytest

from fedmodel.errors import RunFolderError
from fedmodel.transport.epoch import next_epoch
from tests.conftest import FakeEntropy
from tests.fedmodel.identity.killed import killed_at

GOLDEN = Path(__file__).parents[2] / "vectors" / "link_v1" / "epoch.json"


def test_each_start_counts_one_up_and_is_another(tmp_path: Path) -> None:
    entropy = FakeEntropy()
    found = [next_epoch(tmp_path, entropy) for _ in range(3)]
    assert [epoch for epoch, _ in found] == [1, 2, 3]
    assert len({start for _, start in found}) == 3
    assert all(len(start) == 32 for _, start in found)


def test_the_file_of_the_first_version(tmp_path: Path) -> None:
    path = tmp_path / "epoch.json"
    for _ in range(3):
        next_epoch(tmp_path, FakeEntropy())
    assert path.read_bytes() == GOLDEN.read_bytes()
    path.write_bytes(GOLDEN.read_bytes())
    assert next_epoch(tmp_path, FakeEntropy())[0] == 4


def test_a_kill_never_gives_an_epoch_twice(tmp_path: Path) -> None:
    call, used = 1, 0
    while True:
        told: list[int] = []

        def life(told: list[int] = told) -> None:
            told.append(next_epoch(tmp_path, FakeEntropy())[0])

        killed = killed_at(call, life)
        if told:
            assert told[0] > used
            used = told[0]
        if not killed:
            break
        again, _ = next_epoch(tmp_path, FakeEntropy())
        assert again > used
        used, call = again, call + 1
    assert call > 5


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b'{"epoch":0,"schema":"fedmodel.epoch/1","start":"' + b"1" * 32 + b'"}\n',
        b'{"epoch":3,"schema":"fedmodel.epoch/2","start":"' + b"1" * 32 + b'"}\n',
        b'{"epoch":3,"schema":"fedmodel.epoch/1","start":"1"}\n',
        b"x" * 10000,
    ],
    ids=["empty", "cut", "zero", "newer", "start", "long"],
)
def test_a_damaged_file_is_refused_by_name_and_stays(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "epoch.json"
    path.write_bytes(text)
    with pytest.raises(RunFolderError, match=r"epoch\.json can't be read .* Restore it"):
        next_epoch(tmp_path, FakeEntropy())
    assert path.read_bytes() == text


def test_what_cannot_be_read_or_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "epoch.json").mkdir()
    with pytest.raises(RunFolderError, match=r"can't read .*epoch\.json: Is a directory"):
        next_epoch(tmp_path, FakeEntropy())
    with pytest.raises(RunFolderError, match=r"can't write .*epoch\.json: No such file"):
        next_epoch(tmp_path / "none", FakeEntropy())
