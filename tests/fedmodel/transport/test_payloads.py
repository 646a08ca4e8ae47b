"""Payloads: pieces of any size, from any byte on, and what doesn't fit."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from fedmodel.errors import ProtocolError, RunFolderError, UnsignedError
from fedmodel.transport.frames import LARGEST_BODY, Chunk, Head, Letter, Partial, decode, encode
from fedmodel.transport.letters import Order, sign_header
from fedmodel.transport.mail import Mail, Source
from fedmodel.transport.payloads import Arrival, Departure, Part, digest_of, size_of
from tests.fedmodel.transport.test_letters import KEY, ORDER

_KINDS = frozenset[type[Head]]((Letter, Chunk))
_LARGE = 2 * LARGEST_BODY + 12_345


def departure(parts: list[Part], seq: int = 4) -> Departure:
    header = replace(ORDER, seq=seq, size=size_of(parts), sha256=digest_of(parts))
    return Departure(seq, sign_header(header, KEY.sign), parts)


def mail(folder: Path, most: int = 1 << 30, *, wanted: bool = True) -> Mail[Order]:
    return Mail(Source(Order, KEY.public, lambda order: wanted, most, folder))


def take(letters: Mail[Order], frames: list[bytes]) -> Arrival[Order] | None:
    last: Arrival[Order] | None = None
    for data in frames:
        frame = decode(data, _KINDS)
        if isinstance(frame.head, Letter):
            _, last = letters.begin(frame.head, frame.body)
        elif isinstance(frame.head, Chunk):
            last = letters.go_on(frame.head, frame.body)
    return last


@pytest.mark.parametrize("sizes", [(), (0,), (5,), (1, 0, 2), (_LARGE,), (7, LARGEST_BODY, 9, 5)])
def test_a_payload_arrives_as_it_left(sizes: tuple[int, ...], tmp_path: Path) -> None:
    parts: list[Part] = [bytes([i + 1]) * size for i, size in enumerate(sizes)]
    sent = departure(parts)
    frames = list(sent.frames())
    arrived = take(mail(tmp_path), frames)
    assert arrived is not None
    assert arrived.complete
    assert arrived.payload() == b"".join(parts)
    # Neither many small frames nor one that the other end would refuse.
    assert len(frames) <= 1 + sum(sizes) // LARGEST_BODY + 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cut", [1, 2])
def test_after_a_cut_only_what_is_missing_is_sent(cut: int, tmp_path: Path) -> None:
    payload = bytes(range(256)) * (_LARGE // 256)
    sent, letters = departure([payload]), mail(tmp_path)
    whole = list(sent.frames())
    arrived = take(letters, whole[:cut])
    assert arrived is not None
    offset = sent.offset_in(letters.partial())
    rest = list(sent.frames(offset))
    assert sum(map(len, rest)) < sum(map(len, whole[cut:])) + 2000
    arrived = take(letters, rest)
    assert arrived is not None
    assert arrived.payload() == payload


def test_what_another_letter_has_is_no_beginning_of_this_one() -> None:
    one, two = departure([b"abc"]), departure([b"abd"])
    partial = [Partial(seq=4, size=2, header=one.header.digest)]
    assert one.offset_in(partial) == 2
    assert two.offset_in(partial) == 0


def test_the_same_letter_from_its_first_byte_again_replaces_what_has_come(tmp_path: Path) -> None:
    sent, letters = departure([bytes(_LARGE)]), mail(tmp_path)
    take(letters, list(sent.frames())[:2])
    arrived = take(letters, list(sent.frames()))
    assert arrived is not None
    assert arrived.payload() == bytes(_LARGE)


def test_changed_bytes_are_noticed_at_the_end(tmp_path: Path) -> None:
    frames = list(departure([bytes(_LARGE)]).frames())
    frames[1] = frames[1][:-1] + b"\1"
    arrived = take(mail(tmp_path), frames)
    assert arrived is not None
    with pytest.raises(ProtocolError, match="isn't the one that its header was signed for"):
        arrived.payload()


def test_a_gap_and_too_many_bytes_are_refused(tmp_path: Path) -> None:
    frames = list(departure([bytes(_LARGE)]).frames())
    with pytest.raises(ProtocolError, match="bytes from"):
        take(mail(tmp_path), [frames[0], frames[2]])
    letters = mail(tmp_path)
    take(letters, frames[:2])
    (came,) = letters.partial()
    with pytest.raises(ProtocolError, match="more bytes than"):
        take(letters, [encode(Chunk(seq=4, offset=came.size), [bytes(20_000)])])


def test_a_letter_larger_than_may_come_is_refused_before_anything_is_kept(tmp_path: Path) -> None:
    with pytest.raises(ProtocolError, match="at most 100 may come"):
        take(mail(tmp_path, most=100), list(departure([bytes(101)]).frames()))


def test_bytes_of_a_letter_that_has_not_begun_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ProtocolError, match="hasn't begun"):
        take(mail(tmp_path), [encode(Chunk(seq=4, offset=0), [b"x"])])


def test_a_letter_that_nobody_wants_is_passed_over(tmp_path: Path) -> None:
    assert take(mail(tmp_path, wanted=False), list(departure([bytes(_LARGE)]).frames())) is None


def test_two_letters_of_one_number_are_refused(tmp_path: Path) -> None:
    letters = mail(tmp_path)
    take(letters, list(departure([bytes(_LARGE)]).frames())[:1])
    with pytest.raises(ProtocolError, match="two letters have the number 4"):
        take(letters, list(departure([b"1" * _LARGE]).frames())[:1])


def test_a_header_that_is_cut_or_signed_by_another_is_refused(tmp_path: Path) -> None:
    sent = departure([b"abc"])
    text, signature = sent.header.text, sent.header.signature
    with pytest.raises(ProtocolError, match="whole header"):
        take(mail(tmp_path), [encode(Letter(header=len(text)), [text])])
    with pytest.raises(UnsignedError):
        take(mail(tmp_path), [encode(Letter(header=len(text)), [text, signature[::-1], b"abc"])])


def test_too_many_letters_at_once_are_refused(tmp_path: Path) -> None:
    letters = mail(tmp_path)
    frames = [next(departure([bytes(_LARGE)], seq).frames()) for seq in range(1, 66)]
    with pytest.raises(ProtocolError, match="more than 64"):
        take(letters, frames)


def test_what_a_full_disk_has_taken_of_a_piece_is_written_over_when_it_comes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload = bytes(range(251)) * (_LARGE // 251)
    frames, letters, write = list(departure([payload]).frames()), mail(tmp_path), os.pwrite
    take(letters, frames[:1])
    room = [1000, 0]  # it takes a bit of a piece, and then no more

    def full(file: int, data: memoryview, place: int) -> int:
        taken = room.pop(0)
        if not taken:
            raise OSError(28, "No space left on device")
        return write(file, data[:taken], place)

    with monkeypatch.context() as patched:
        patched.setattr("os.pwrite", full)
        with pytest.raises(RunFolderError, match="No space left"):
            take(letters, frames[1:2])
    arrived = take(letters, frames[1:])
    assert arrived is not None
    assert arrived.payload() == payload
