"""Real numbers in a ring: the error's bound, and that no sum of allowed values wraps around."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from fedmodel.errors import ConfigError, RunError
from fedmodel.secagg.fixedpoint import FixedPoint
from fedmodel.secagg.ring import BITS, centred
from tests.examples import examples

CODE = FixedPoint(bits=24, parties=10, range=8.0)
KINDS = st.sampled_from([np.dtype(name) for name in ("f2", "f4", "f8")])
FLOATS: list[type[np.floating]] = [np.float32, np.float64]


def encode(
    code: FixedPoint, values: NDArray[np.floating], *, clip: bool = False
) -> NDArray[np.uint32]:
    out = np.full(values.shape, 0xDEADBEEF, np.uint32)
    code.encode(values, out, clip=clip)
    return out


def signed(ring: NDArray[np.uint32]) -> list[int]:
    numbers: list[int] = ring.view(np.int32).tolist()
    return numbers


@st.composite
def codes(draw: st.DrawFn) -> FixedPoint:
    bits = draw(st.sampled_from(BITS))
    parties = draw(st.integers(1, 2 ** (bits - 1) // 40))
    reserve = draw(st.integers(0, 2 ** (bits - 1) // 4))
    scale = draw(st.floats(1e-6, 1e6))
    return FixedPoint(bits=bits, parties=parties, range=scale, reserve=reserve)


@pytest.mark.long
@given(codes())
def test_headroom_is_proved_and_the_step_is_the_finest_power_of_two(code: FixedPoint) -> None:
    assert code.parties * code.largest + code.reserve < 2 ** (code.bits - 1)
    assert math.frexp(code.step)[0] == 0.5
    most = (2 ** (code.bits - 1) - 1 - code.reserve) // code.parties
    assert code.range / code.step <= most < 2 * code.range / code.step
    assert abs(code.largest - code.range / code.step) <= 0.5


@pytest.mark.long
@settings(max_examples=examples(200))
@given(codes(), KINDS, st.data())
def test_a_value_is_off_by_half_a_step_at_most(
    code: FixedPoint, kind: np.dtype[np.floating], data: st.DataObject
) -> None:
    parts = data.draw(hnp.arrays(np.float64, st.integers(1, 20), elements=st.floats(-1, 1)))
    top = min(code.range, float(np.finfo(kind).max))
    values = np.nextafter((parts * top).astype(kind), kind.type(0))
    ring = encode(code, values)
    # Python's round is exact on a fraction and rounds halves to even.
    want = [round(float(v) / code.step) for v in values]
    assert signed(ring) == want
    assert max(map(abs, want)) <= code.largest
    total = centred(ring, code.bits)
    assert total.tolist() == want
    error = np.abs(code.decode(total) - values.astype(np.float64))
    assert error.max() <= code.step / 2


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_halves_go_to_the_even_number(kind: type[np.floating]) -> None:
    halves = np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5], kind) * kind(CODE.step)
    assert signed(encode(CODE, halves)) == [0, 2, 2, 0, -2, -2]


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize(("parties", "reserve"), [(1, 0), (3, 1), (10, 500), (800, 0)])
def test_all_at_the_ends_with_all_of_the_reserve_do_not_wrap(
    bits: int, parties: int, reserve: int
) -> None:
    code = FixedPoint(bits=bits, parties=parties, range=1.0, reserve=reserve)
    for sign in (-1, 1):
        one = encode(code, np.array([sign * 1.0]))
        total = one * np.uint32(parties) + np.uint32(sign * reserve % 2**32)
        got = code.decode(centred(total, bits) - sign * reserve)
        assert abs(got[0] - sign * parties) <= parties * code.step / 2


def test_one_party_more_than_agreed_can_wrap() -> None:
    # The bound isn't slack by more than the rounding of the step to a power of two.
    code = FixedPoint(bits=16, parties=4, range=2.0**13 - 1)
    assert code.step == 1.0
    one = encode(code, np.array([code.range]))
    wrapped = centred((one * np.uint32(5)) % np.uint32(2**16), 16)
    assert code.decode(wrapped)[0] == 5 * (2**13 - 1) - 2**16


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_beyond_the_range_is_refused_without_the_value_or_clipped(kind: type[np.floating]) -> None:
    for values in ([0.0, 8.125], [-8.125, 1.0], [60000.0, -60000.0]):
        array = np.array(values, kind)
        with pytest.raises(RunError, match=r"beyond secagg.range \(8\)") as caught:
            encode(CODE, array)
        assert not any(str(v) in str(caught.value) for v in values if v not in (0.0, 1.0))
        before = array.copy()
        want = np.clip(array.astype(np.float64), -8, 8)
        got = CODE.decode(centred(encode(CODE, array, clip=True), 24))
        assert np.array_equal(got, want)
        assert np.array_equal(array, before)


def test_the_ends_are_inside_and_the_next_number_is_not() -> None:
    for kind, end in itertools.product(FLOATS, (8.0, -8.0)):
        encode(CODE, np.array([end], kind))
        with pytest.raises(RunError):
            encode(CODE, np.array([np.nextafter(kind(end), kind(2 * end))], kind))


@pytest.mark.parametrize("scale", [0.1, 0.3, 1 / 3, 1e-5, 12345.678])
def test_clipping_never_exceeds_the_largest_integer(scale: float) -> None:
    for bits, kind in itertools.product(BITS, FLOATS):
        code = FixedPoint(bits=bits, parties=3, range=scale)
        huge = np.array([scale * 2, -scale * 2, 3e38, -3e38], kind)
        assert max(map(abs, signed(encode(code, huge, clip=True)))) <= code.largest


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_what_is_no_number_is_refused(bad: float, clip: bool, kind: type[np.floating]) -> None:
    for values in ([bad], [1.0, bad, 9.0], [9.0] * 100 + [bad]):
        with pytest.raises(RunError, match="NaN or infinite"):
            encode(CODE, np.array(values, kind), clip=clip)


def test_nothing_is_encoded_as_nothing() -> None:
    assert encode(CODE, np.empty(0, np.float32)).size == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bits": 18}, "secagg.bits must be one of"),
        ({"parties": 0}, "at least one party"),
        ({"reserve": -1}, "reserve of at least 0"),
        ({"range": 0.0}, "secagg.range"),
        ({"range": -1.0}, "secagg.range"),
        ({"range": math.nan}, "secagg.range"),
        ({"range": math.inf}, "secagg.range"),
        ({"bits": 16, "parties": 2048}, "15 units for each of 2048.*more secagg.bits"),
        ({"reserve": 2**23 - 150}, "14 units.*less noise"),
        ({"reserve": 2**24}, "leave 0 units"),
    ],
)
def test_what_leaves_too_little_room_is_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FixedPoint(**{"bits": 24, "parties": 10, "range": 8.0, **changes})  # type: ignore[arg-type]
