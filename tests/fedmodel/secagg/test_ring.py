"""Packing against a naive bit-by-bit oracle, whatever the tiles."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedmodel.errors import ConfigError, ProtocolError
from fedmodel.secagg.ring import BITS, Packer, Unpacker, centred, packed_size

Words = NDArray[np.uint32]


def random(count: int, seed: int = 0) -> Words:
    return np.random.default_rng(seed).integers(0, 2**32, count, np.uint32)


def pack(values: Words, bits: int, tile: int) -> NDArray[np.uint8]:
    out = np.full(packed_size(values.size, bits), 0xA5, np.uint8)
    packer = Packer(bits, out, values.size)
    for start in reversed(range(0, values.size, tile)):
        packer.put(start, values[start : start + tile])
    return out


def naive(values: Words, bits: int) -> bytes:
    """The planes as the module describes them, one element at a time."""
    numbers = [int(v) % 2**bits for v in values]
    if bits == 32:
        return b"".join(v.to_bytes(4, "little") for v in numbers)
    out = b"".join((v % 2**16).to_bytes(2, "little") for v in numbers)
    rest = [v >> 16 for v in numbers]
    if bits in (24, 28):
        out += bytes(v % 256 for v in rest)
        rest = [v >> 8 for v in rest]
    if bits in (20, 28):
        rest += [0] * (len(rest) % 2)
        out += bytes(rest[at] | rest[at + 1] << 4 for at in range(0, len(rest), 2))
    return out


@given(st.sampled_from(BITS), st.integers(0, 70), st.integers(1, 40), st.integers(0, 99))
def test_packing_is_as_described_and_comes_back(
    bits: int, count: int, half: int, seed: int
) -> None:
    values = random(count, seed)
    packed = pack(values, bits, 2 * half)
    assert packed.tobytes() == naive(values, bits)
    back = np.full(count, 0xFFFFFFFF, np.uint32)
    unpacker = Unpacker(bits, packed, count)
    for start in range(0, count, 2 * half):
        unpacker.get(start, back[start : start + 2 * half])
    assert np.array_equal(back, values & np.uint32(2**bits - 1))


@pytest.mark.parametrize(("bits", "size"), [(16, 14), (20, 18), (24, 21), (28, 25), (32, 28)])
def test_the_size_is_what_the_bits_need(bits: int, size: int) -> None:
    assert packed_size(7, bits) == size == -(-(7 * bits + (4 if bits % 8 else 0)) // 8)
    assert packed_size(10**6, bits) == 10**6 * bits // 8
    assert packed_size(0, bits) == 0


@pytest.mark.parametrize("bits", [0, 8, 17, 33, -16])
def test_other_bits_are_refused(bits: int) -> None:
    with pytest.raises(ConfigError, match=r"secagg.bits must be one of 16, 20, 24, 28, 32"):
        packed_size(7, bits)


@pytest.mark.parametrize("kind", [Packer, Unpacker])
@pytest.mark.parametrize(
    "data", [np.zeros(20, np.uint8), np.zeros(22, np.uint8), np.zeros((3, 7), np.uint8)]
)
def test_another_size_is_refused(
    kind: type[Packer] | type[Unpacker], data: NDArray[np.uint8]
) -> None:
    with pytest.raises(ProtocolError, match="7 numbers of 24 bits must be 21 bytes, got uint8"):
        kind(24, data, 7)
    with pytest.raises(ProtocolError, match="must be 21 bytes, got int8"):
        kind(24, np.zeros(21, np.int8), 7)


@pytest.mark.parametrize(("start", "size"), [(6, 2), (-2, 2), (8, 1)])
def test_a_tile_beyond_the_vector_is_refused(start: int, size: int) -> None:
    for bits in BITS:
        data, tile = np.zeros(packed_size(7, bits), np.uint8), np.zeros(size, np.uint32)
        for use in (Packer(bits, data, 7).put, Unpacker(bits, data, 7).get):
            with pytest.raises(ProtocolError, match="packed vector that has 7"):
                use(start, tile)


@pytest.mark.parametrize(("start", "size"), [(1, 2), (2, 3)])
def test_a_tile_that_splits_a_byte_is_refused(start: int, size: int) -> None:
    data, tile = np.zeros(packed_size(7, 20), np.uint8), np.zeros(size, np.uint32)
    for use in (Packer(20, data, 7).put, Unpacker(20, data, 7).get):
        with pytest.raises(ProtocolError, match="must start and end at an even element"):
            use(start, tile)


@pytest.mark.parametrize("bits", BITS)
def test_centred_is_the_representative_nearest_to_0(bits: int) -> None:
    half = 2 ** (bits - 1)
    signed = [0, 1, -1, half - 1, -half, 12345 % half]
    for junk in (0, 2**bits) if bits < 32 else (0,):
        ring = np.array([(v % 2**bits) + junk for v in signed], np.uint32)
        got = centred(ring, bits)
        assert got.dtype == np.int64
        assert got.tolist() == signed
