"""Masks cancel, whoever drops out; what they are doesn't change from version to version."""

import hashlib
import json
import random
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedmodel import _hazmat
from fedmodel.errors import ConfigError, ProtocolError
from fedmodel.secagg import masking
from fedmodel.secagg.masking import TILE, Encode, Sum, mask
from fedmodel.secagg.ring import BITS, Unpacker
from tests.examples import examples

Words = NDArray[np.uint32]
GOLDEN = Path(__file__).parents[2] / "vectors" / "masks.json"


def seed(*path: object) -> bytes:
    return hashlib.sha256(repr(path).encode()).digest()


def of(values: Words) -> Encode:
    def encode(start: int, stop: int, out: Words) -> None:
        out[:] = values[start:stop]

    return encode


def numbers(count: int, key: int = 0, bits: int = 32) -> Words:
    return np.random.default_rng(key).integers(0, 2**bits, count, np.uint32)


def unpacked(upload: NDArray[np.uint8], count: int, bits: int) -> Words:
    out = np.empty(count, np.uint32)
    Unpacker(bits, upload, count).get(0, out)
    return out


def stream(key: bytes, count: int) -> Words:
    words: Words = np.frombuffer(_hazmat.mask_stream(key).update(bytes(4 * count)), "<u4")
    return words


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("count", [0, 1, 5, TILE - 1, TILE, TILE + 1, 3 * TILE + 7])
def test_tiles_are_parts_of_one_stream(count: int, bits: int) -> None:
    values = numbers(count)
    upload = mask(of(values), count, bits, add=[seed(1), seed(2)], subtract=[seed(3)])
    want = values + stream(seed(1), count) + stream(seed(2), count) - stream(seed(3), count)
    assert np.array_equal(unpacked(upload, count, bits), want & np.uint32(2**bits - 1))


def test_every_element_is_asked_for_once_and_in_order() -> None:
    asked: list[tuple[int, int, int]] = []

    def encode(start: int, stop: int, out: Words) -> None:
        asked.append((start, stop, out.size))
        out[:] = 0

    mask(encode, 2 * TILE + 3, 24, add=[], subtract=[])
    assert asked == [
        (0, TILE, TILE),
        (TILE, 2 * TILE, TILE),
        (2 * TILE, 2 * TILE + 3, 3),
    ]


@pytest.mark.long
@settings(max_examples=examples(40), deadline=None)
@given(st.sampled_from(BITS), st.integers(2, 9), st.data())
def test_masks_cancel_whoever_drops_out(bits: int, sites: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 50))
    sharers = data.draw(st.sets(st.integers(1, sites), min_size=1))
    uploaders = data.draw(st.sets(st.sampled_from(sorted(sharers)), min_size=1))
    vectors = {i: numbers(count, i) for i in sharers}

    def pair(i: int, j: int) -> bytes:
        return seed("pair", min(i, j), max(i, j))

    total = Sum(count, bits)
    for i in uploaders:
        add = [seed("self", i), *(pair(i, j) for j in sharers if i < j)]
        subtract = [pair(i, j) for j in sharers if i > j]
        total.add_upload(mask(of(vectors[i]), count, bits, add=add, subtract=subtract))
    gone = sharers - uploaders
    total.unmask(
        add=[pair(i, j) for i in uploaders for j in gone if i > j],
        subtract=[
            *(seed("self", i) for i in uploaders),
            *(pair(i, j) for i in uploaders for j in gone if i < j),
        ],
    )
    want = [sum(int(vectors[i][at]) for i in uploaders) for at in range(count)]
    half = 2 ** (bits - 1)
    assert total.total().tolist() == [(w + half) % 2**bits - half for w in want]


def test_one_mask_left_on_hides_everything() -> None:
    upload = mask(of(np.zeros(100_000, np.uint32)), 100_000, 16, add=[seed(1)], subtract=[])
    total = Sum(100_000, 16)
    total.add_upload(upload)
    values = total.total()
    assert abs(values.mean()) < 5 * 2**16 / 12**0.5 / 100_000**0.5
    assert np.bincount((values + 2**15) >> 12).min() > 100_000 / 16 * 0.9


@pytest.mark.parametrize("bits", BITS)
def test_an_upload_of_another_size_is_refused_and_leaves_the_sum(bits: int) -> None:
    total = Sum(5, bits)
    good = mask(of(np.arange(5, dtype=np.uint32)), 5, bits, add=[], subtract=[])
    total.add_upload(good)
    for wrong in (good[:-1], np.append(good, np.uint8(0)), good[:0]):
        with pytest.raises(ProtocolError, match=f"5 numbers of {bits} bits"):
            total.add_upload(wrong)
    assert total.total().tolist() == [0, 1, 2, 3, 4]


def test_unknown_bits_are_refused() -> None:
    with pytest.raises(ConfigError, match="bits"):
        Sum(5, 23)
    with pytest.raises(ConfigError, match="bits"):
        mask(of(np.zeros(5, np.uint32)), 5, 23, add=[], subtract=[])


def golden() -> dict[str, str]:
    """Digests of uploads, and a short one, for seeds and values that anybody can make."""
    count = 32_771
    values = np.arange(count, dtype=np.uint32) * np.uint32(2654435761)
    add, subtract = [bytes(range(32)), bytes(32)], [b"\xff" * 32]
    uploads = {bits: mask(of(values), count, bits, add=add, subtract=subtract) for bits in BITS}
    small = mask(of(values), 5, 20, add=add, subtract=subtract)
    return {
        **{f"sha256_{b}": hashlib.sha256(u.tobytes()).hexdigest() for b, u in uploads.items()},
        "five_of_20_bits": small.tobytes().hex(),
    }


def test_the_bytes_are_those_of_every_version() -> None:
    want = json.loads(GOLDEN.read_text())
    assert golden() == want["uploads"]


def test_another_tile_size_gives_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    values = numbers(1001)
    made = {}
    for tile in (2, 64, TILE):
        monkeypatch.setattr(masking, "TILE", tile)
        upload = mask(of(values), 1001, 28, add=[seed(1)], subtract=[seed(2)])
        made[upload.tobytes()] = tile
    assert len(made) == 1


@pytest.mark.parametrize("bits", [20, 24, 32])
def test_memory_beyond_the_upload_is_a_few_tiles(bits: int) -> None:
    count = 2_000_000
    values = numbers(count)
    seeds = [seed(i) for i in range(10)]
    tracemalloc.start()
    try:
        upload = mask(of(values), count, bits, add=seeds[:5], subtract=seeds[5:])
        assert tracemalloc.get_traced_memory()[1] <= upload.nbytes + 0.5 * count
    finally:
        tracemalloc.stop()


def test_unmasking_takes_no_memory_but_a_tile() -> None:
    total = Sum(2_000_000, 24)
    seeds = [seed(i) for i in range(4)]
    tracemalloc.start()
    try:
        total.unmask(add=seeds, subtract=seeds)
        assert tracemalloc.get_traced_memory()[1] <= 1_000_000
    finally:
        tracemalloc.stop()
    assert not total.total().any()


def test_the_order_of_uploads_does_not_matter() -> None:
    uploads = [mask(of(numbers(99, i)), 99, 24, add=[seed(i)], subtract=[]) for i in range(5)]
    totals = set()
    for key in range(4):
        random.Random(key).shuffle(uploads)
        total = Sum(99, 24)
        for upload in uploads:
            total.add_upload(upload)
        totals.add(total.total().tobytes())
    assert len(totals) == 1


@pytest.mark.parametrize("bits", BITS)
def test_a_sum_is_taken_in_its_own_memory(bits: int) -> None:
    count = 2 * TILE + 5
    elements = np.random.default_rng(bits).integers(0, 2**32, count, dtype=np.uint32)
    elements[:4] = (0, 2 ** (bits - 1), 2 ** (bits - 1) - 1, 2**32 - 1)
    made = Sum.of_masked(elements, bits)
    expected = made.total()
    taken = made.taken()
    assert taken.dtype == np.int32
    assert np.shares_memory(taken, elements)
    assert (taken == expected).all()
