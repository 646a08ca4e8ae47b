"""Records in a file that only grows: cut, changed, moved."""

import itertools

import pytest

from fedmodel.errors import ConfigError
from fedmodel.transport import records
from fedmodel.transport.records import FIRST, LARGEST, frame

RECORDS = (b"first", b"", bytes(300), b"\xff" * 7)


def framed(texts: tuple[bytes, ...] = RECORDS) -> list[bytes]:
    made: list[bytes] = []
    for text in texts:
        made.append(frame(text, made[-1][-32:] if made else FIRST))
    return made


def test_what_was_written_is_read() -> None:
    frames = framed()
    found = records.read(b"".join(frames))
    assert found.records == RECORDS
    assert found.last == frames[-1][-32:]
    assert found.size == sum(map(len, frames))
    assert records.read(b"") == records.Records(records=(), last=FIRST, size=0)


def test_of_a_file_that_was_cut_what_is_whole_is_read() -> None:
    frames = framed()
    whole = b"".join(frames)
    ends = list(itertools.accumulate(map(len, frames), initial=0))
    for size in range(len(whole)):
        found = records.read(whole[:size])
        count = sum(end <= size for end in ends) - 1
        assert (found.records, found.size) == (RECORDS[:count], ends[count])


def test_zeros_that_a_power_cut_has_left_are_as_good_as_not_there() -> None:
    """They begin where what was never synced does, or at a sector's beginning within it."""
    texts = (b"first", bytes(700), b"x" * 600, b"", b"last" * 200)
    frames = framed(texts)
    whole = b"".join(frames)
    ends = list(itertools.accumulate(map(len, frames), initial=0))
    for synced in ends[1:-1]:
        for cut in (synced, *(c for c in range(0, len(whole), 512) if c > synced)):
            for size in (cut + 1, cut + 9, cut + 100, len(whole), len(whole) + 512):
                found = records.read(whole[:cut].ljust(size, b"\0"))
                count = sum(end <= cut for end in ends) - 1
                assert (found.records, found.size) == (texts[:count], ends[count])


def test_other_zeros_are_no_power_cut() -> None:
    frames = framed((b"first", b"x" * 1500, b"last"))
    whole = b"".join(frames)
    start, end = len(frames[0]), len(frames[0] + frames[1])
    for changed in (
        whole[:start].ljust(end, b"\0") + frames[2],
        whole[:1024].ljust(1536, b"\0") + whole[1536:],
        (frames[0] + frames[1])[:-3] + bytes(3),
        whole[: start + 8].ljust(len(whole), b"\0")[:-1] + b"x",
    ):
        with pytest.raises(ConfigError, match="was changed"):
            records.read(changed)


@pytest.mark.long
def test_no_changed_bit_is_taken_for_a_cut() -> None:
    """Also of a length: a longer one would make all that follows the rest of a last frame."""
    whole = b"".join(framed())
    for bit in range(8 * len(whole)):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ConfigError, match="was changed"):
            records.read(bytes(changed))


@pytest.mark.parametrize(
    "order",
    [(1, 2, 3), (0, 2, 3), (0, 1, 3), (1, 0, 2, 3), (0, 1, 1, 2, 3), (0, 1, 2, 3, 0)],
    ids=str,
)
def test_frames_that_were_moved_are_noticed(order: tuple[int, ...]) -> None:
    frames = framed()
    with pytest.raises(ConfigError, match="was changed"):
        records.read(b"".join(frames[i] for i in order))


def test_another_files_frame_is_noticed() -> None:
    one, two = framed((b"a", b"b")), framed((b"c", b"b"))
    with pytest.raises(ConfigError, match="record 2, at byte 41, was changed"):
        records.read(one[0] + two[1])


@pytest.mark.long
def test_a_record_may_not_be_larger_than_can_be_read() -> None:
    with pytest.raises(ConfigError, match="at most"):
        frame(bytes(LARGEST + 1), FIRST)
    whole = frame(bytes(LARGEST), FIRST)
    assert len(records.read(whole).records[0]) == LARGEST
