"""Sampling of a step's units: each on its own, also where there are more than fit one tile."""

import numpy as np
import pytest

from fedmodel.mechanisms import sampling
from fedmodel.mechanisms.sampling import choose, poisson
from fedmodel.seeds import Entropy

TILE = 1 << 17  # units whose random bytes are drawn together


def test_units_of_different_tiles_are_drawn_independently() -> None:
    assert sampling._TILE == TILE
    drawn = poisson(Entropy(), 4 * TILE, 0.01)
    tiles = [set((drawn[drawn // TILE == i] % TILE).tolist()) for i in range(4)]
    mean = 0.01 * TILE
    for i, tile in enumerate(tiles):
        assert len(tile) == pytest.approx(mean, abs=8 * mean**0.5)
        for other in tiles[:i]:
            # 13 are in both by chance, 1,311 where both tiles are drawn from the same bytes; nor
            # are the bytes the same turned round.
            assert len(tile & other) < 60
            assert len(tile & {TILE - 1 - unit for unit in other}) < 60


def test_a_last_tile_that_is_not_full_is_sampled_at_the_same_rate() -> None:
    drawn = poisson(Entropy(), TILE + 20_000, 0.25)
    last = drawn[drawn >= TILE]
    assert len(last) == pytest.approx(5_000, abs=6 * (20_000 * 0.25 * 0.75) ** 0.5)
    assert drawn.max() < TILE + 20_000
    assert np.all(np.diff(drawn) > 0)


def test_which_rows_of_a_patient_enter_is_drawn_from_entropy_each_time(fake: Entropy) -> None:
    rows = np.arange(1000, 1060)
    one, other, again = (choose(e, rows, 30) for e in (fake, fake, type(fake)()))
    assert (one != other).any()
    assert (one == again).all()
    assert len(set(one)) == 30
    assert set(one) <= set(rows)
