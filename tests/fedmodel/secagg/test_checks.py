"""A sum that isn't that of the survivors' vectors is refused, whoever has spoiled it and how."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fedmodel import _hazmat
from fedmodel.errors import EquivocationError, ProtocolError, ReplayError
from fedmodel.job import BITS
from fedmodel.secagg.aggregator import Attempt
from fedmodel.secagg.checks import Checked, check_total, checks, upload_sha256, upload_size
from fedmodel.secagg.masking import TILE
from fedmodel.secagg.messages import Request, Upload, decode, encode
from fedmodel.secagg.ring import packed_size

if TYPE_CHECKING:
    from tests.fedmodel.secagg.conftest import World

REFUSED = r"the sum isn't that of the \d survivors' vectors"
DIGEST = b"d" * 32


# -- the elements --------------------------------------------------------------------------------


def weights(count: int) -> list[int]:
    """Return the public weights, worked out one by one."""
    import hashlib

    text = b"fedmodel.secagg/2 checks\0" + (32).to_bytes(4) + DIGEST
    tiles = -(-count // TILE)
    stream = _hazmat.mask_stream(hashlib.sha256(text).digest()).update(bytes(4 * (TILE + tiles)))
    odd = [int.from_bytes(stream[i : i + 4], "little") | 1 for i in range(0, len(stream), 4)]
    return [odd[i % TILE] * odd[TILE + i // TILE] for i in range(count)]


def elements(vector: Any, bits: int, tile: int) -> Any:
    def write(start: int, stop: int, out: Any) -> None:
        out[:] = vector[start:stop]

    checked = Checked(write, vector.size, bits, DIGEST)
    out = np.full(checked.count, 0xDEADBEEF, np.uint32)
    for start in range(0, checked.count, tile):
        checked(start, min(start + tile, checked.count), out[start : start + tile])
    return out


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("count", [1, 2, 37, TILE + 5])
def test_ones_and_a_weighted_sum_stand_after_the_vector(bits: int, count: int) -> None:
    vector = np.random.default_rng(count).integers(0, 1 << 32, count, dtype=np.uint32)
    ones = checks(bits) - 1
    assert ones * bits >= 128 > (ones - 1) * bits
    found = elements(vector, bits, TILE)
    assert found.size == count + checks(bits)
    assert found[:count].tolist() == vector.tolist()
    assert found[count:-1].tolist() == [1] * ones
    expected = sum(w * v for w, v in zip(weights(count), vector.tolist(), strict=True))
    assert (int(found[-1]) - expected) % (1 << 32) == 0
    for tile in (TILE, 1000, 6) if count < TILE else (TILE, 2 * TILE):
        assert elements(vector, bits, tile).tobytes() == found.tobytes()
    assert upload_size(count, bits) == packed_size(found.size, bits)


@pytest.mark.parametrize("bits", BITS)
def test_an_error_in_any_single_element_shows(bits: int) -> None:
    count, sites = 11, 5
    rng = np.random.default_rng(bits)
    total = np.zeros(count + checks(bits), np.int64)
    for _ in range(sites):
        vector = rng.integers(0, 1 << 32, count, dtype=np.uint32)
        total += elements(vector, bits, TILE).astype(np.int64)
    ring = (1 << bits) - 1
    assert (check_total(total & ring, sites, bits, DIGEST) == total[:count] & ring).all()
    check_total(total, sites, bits, DIGEST)  # any representative will do
    check_total(total - (5 << bits), sites, bits, DIGEST)
    for place in range(total.size):
        for error in (1, -1, 1 << (bits - 1), 3 << (bits - 4)):
            wrong = total.copy()
            wrong[place] += error
            with pytest.raises(ProtocolError, match=REFUSED):
                check_total(wrong, sites, bits, DIGEST)
    for survivors in (sites - 1, sites + 1):
        with pytest.raises(ProtocolError, match="don't come to their number"):
            check_total(total, survivors, bits, DIGEST)
    with pytest.raises(ProtocolError, match="by their weighted sum"):
        check_total(total, sites, bits, b"e" * 32)


@pytest.mark.parametrize("bits", BITS)
def test_what_the_weighted_sum_is_blind_to(bits: int) -> None:
    # Half the ring, in an even number of elements: docs/secure-aggregation.md says so.
    total = elements(np.arange(12, dtype=np.uint32), bits, TILE).astype(np.int64)
    half = 1 << (bits - 1)
    for errors, passes in (([half] * 2, True), ([half] * 3, False), ([half, half + 1], False)):
        wrong = total.copy()
        wrong[: len(errors)] += errors
        with nullcontext() if passes else pytest.raises(ProtocolError, match="weighted sum"):
            check_total(wrong, 1, bits, DIGEST)


# -- what spoils a sum ---------------------------------------------------------------------------


def wrong_pair_seed(world: "World", n: int) -> None:
    opened = world.sites[n]._attempt
    assert opened is not None
    other = next(iter(opened.seeds))
    opened.seeds[other] = b"x" * 32


def wrong_self_seed(world: "World", n: int) -> None:
    opened = world.sites[n]._attempt
    assert opened is not None
    opened.self_seed = b"x" * 32


def ended(world: "World", attempt: Attempt) -> None:
    """Play the rest of an attempt, and check that its sum is refused, and stays so."""
    world.consent(attempt)
    world.reveal(attempt)
    with pytest.raises(ProtocolError, match=REFUSED):
        attempt.total()
    with pytest.raises(ReplayError):
        attempt.total()


@pytest.mark.sample(3)
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("spoil", [wrong_pair_seed, wrong_self_seed])
@pytest.mark.parametrize("dropped", [(), (5,)])
def test_one_wrong_mask_spoils_a_sum_and_not_the_model(
    worlds: "type[World]", spoil: Callable[..., None], bits: int, dropped: tuple[int, ...]
) -> None:
    world = worlds(5, bits=bits)
    x, attempt = world.vectors(), world.begin()
    world.share(attempt)
    spoil(world, 2)
    world.upload(attempt, x, but=dropped)
    ended(world, attempt)
    _, total = world.play(x, round=2)  # an honest round goes on as ever
    assert (total == world.ring_sum(x, world.numbers)).all()


def test_a_stream_that_goes_astray_after_a_while(worlds: "type[World]") -> None:
    """Which the ones alone wouldn't see: they are right."""
    world = worlds(3, count=TILE + 40)
    x, attempt = world.vectors(), world.begin()
    world.share(attempt)
    world.upload(attempt, x)
    assert attempt._sum is not None
    attempt._sum._total[TILE : TILE + 40] += np.arange(40, dtype=np.uint32)
    ended(world, attempt)


# -- a vector on its way -------------------------------------------------------------------------


def test_a_relay_cannot_change_a_masked_vector(world: "World") -> None:
    x, attempt = world.vectors(), world.begin()
    world.share(attempt)
    sent = {}
    for n, site in world.sites.items():
        site.deliver(attempt.deliver_for(n))
        sent[n] = site.upload(world.writer(x[n]))
    header, packed = sent[1]
    signed = decode(Upload, header)
    assert signed.vector == upload_sha256(packed)
    for place in (0, 60, packed.size - 1):
        changed = packed.copy()
        changed[place] ^= 1
        with pytest.raises(ProtocolError, match="site 1 isn't the one that it has signed"):
            attempt.take_upload(1, header, changed)
        renamed = encode(replace(signed, vector=upload_sha256(changed)))
        with pytest.raises(ProtocolError, match="signature doesn't verify"):
            attempt.take_upload(1, renamed, changed)
    with pytest.raises(ProtocolError, match="site 1 isn't the one that it has signed"):
        attempt.take_upload(1, header, sent[2][1])
    for n, (head, vector) in sent.items():
        attempt.take_upload(n, head, vector)
    attempt.close_uploads()
    world.consent(attempt)
    world.reveal(attempt)
    assert (attempt.total() == world.ring_sum(x, world.numbers)).all()


def test_nobody_reveals_for_a_vector_that_its_site_has_not_signed(world: "World") -> None:
    attempt = world.at("reveal")
    request = decode(Request, attempt.request_for(1))
    pledges = (replace(request.pledges[0], vector="7" * 64), *request.pledges[1:])
    with pytest.raises(EquivocationError, match="site 2 hasn't signed that it masked"):
        world.sites[1].reveal(encode(replace(request, pledges=pledges)))
    with pytest.raises(EquivocationError, match="site 2 hasn't signed that it masked"):
        world.sites[1].reveal(encode(replace(request, pledges=request.pledges[1:])))
    world.sites[1].reveal(encode(request))
