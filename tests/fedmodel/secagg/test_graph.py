"""The graph's shape, and its bounds against scipy, a naive count and random rings."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats  # type: ignore[import-untyped]

from fedmodel.errors import ConfigError, FloorError
from fedmodel.secagg import graph
from fedmodel.secagg.graph import COMPLETE, Graph, make_graph, neighbours_needed
from tests.examples import examples

SEED = b"s" * 32
RING = (199, 70, 268, 274)  # where the ring of SEED begins, in every version


def make(sites: int, corrupt: float = 0.1, dropout: float = 0.1, seed: bytes = SEED) -> Graph:
    colluders, dropped = int(sites * corrupt), int(sites * dropout)
    return make_graph(
        [3 * i + 1 for i in range(sites)],
        survivors=sites - dropped,
        colluders=colluders,
        threshold=(sites + colluders) // 2 + 1,
        seed=seed,
    )


def connected(made: Graph, left: set[int]) -> bool:
    seen, ahead = set(), [min(left)]
    while ahead:
        member = ahead.pop()
        if member not in seen:
            seen.add(member)
            ahead += [x for x in made.neighbours(member) if x in left]
    return seen == left


@pytest.mark.parametrize("sites", [1, 2, 3, 10, COMPLETE])
def test_small_cohorts_are_complete_with_their_own_threshold(sites: int) -> None:
    made = make(sites, 0.1, 0.1)
    assert made.complete
    assert made.degree == sites - 1
    assert made.threshold == (sites + int(sites * 0.1)) // 2 + 1
    for member in made.cohort:
        assert made.holders(member) == made.cohort
        assert made.neighbours(member) == tuple(x for x in made.cohort if x != member)


@pytest.mark.long
@pytest.mark.parametrize("sites", [51, 60, 100, 333, pytest.param(1000, marks=pytest.mark.slow)])
def test_large_cohorts_are_symmetric_and_of_one_degree(sites: int) -> None:
    made = make(sites)
    assert not made.complete
    assert made.degree % 2 == 0
    assert made.degree == neighbours_needed(
        sites, int(sites * 0.1) / sites, int(sites * 0.1) / sites
    )
    around = {member: made.neighbours(member) for member in made.cohort}
    for member, near in around.items():
        assert len(near) == len(set(near)) == made.degree
        assert list(near) == sorted(near)
        assert member not in near
        assert made.holders(member) == tuple(sorted((*near, member)))
        assert all(member in around[x] for x in near)


@pytest.mark.sample(8)
@pytest.mark.long
@pytest.mark.parametrize(
    ("sites", "corrupt", "dropout", "needed"),
    [
        (50, 0.1, 0.1, 49),
        (100, 0.1, 0.1, 42),
        (200, 0.1, 0.1, 70),
        (1000, 0.1, 0.1, 274),
        (5000, 0.1, 0.1, 1218),
        (100, 0.33, 0.1, 88),
        (1000, 0.33, 0.1, 798),
        (5000, 0.33, 0.1, 3814),
        (60, 0.33, 0.1, 54),
        (100, 0.9, 0.05, 99),
        (100, 1.0, 1.0, 99),
        (2, 0.0, 0.0, 1),
    ],
)
def test_how_many_neighbours(sites: int, corrupt: float, dropout: float, needed: int) -> None:
    assert neighbours_needed(sites, corrupt, dropout) == needed


@pytest.mark.long
def test_more_trouble_never_needs_fewer_neighbours() -> None:
    for sites in (51, 100, 400):
        grid = {
            (c, d): neighbours_needed(sites, c / 20, d / 20) for c in range(12) for d in range(8)
        }
        for (c, d), needed in grid.items():
            assert needed <= grid.get((c + 1, d), sites)
            assert needed <= grid.get((c, d + 1), sites)


@pytest.mark.parametrize("sites", [51, 100, 700, 3000])
@pytest.mark.parametrize(("corrupt", "dropout"), [(0.1, 0.1), (0.2, 0.05), (0.02, 0.2)])
def test_the_promised_bounds_hold_by_scipy(sites: int, corrupt: float, dropout: float) -> None:
    made = make(sites, corrupt, dropout)
    colluders, dropped = int(sites * corrupt), int(sites * dropout)
    k, t = made.degree, made.threshold
    if made.complete:
        pytest.skip("nothing to bound")
    assert t > colluders
    assert sites * stats.hypergeom.sf(k - t, sites - 1, dropped, k) <= 2.0**-20
    m, q = k // 2, made.colluding
    assert q == colluders
    assert sites * stats.hypergeom.sf(m - q - 1, sites, dropped, m) <= 2.0**-20


def naive_windows(made: Graph, left: set[int]) -> int:
    """Return the fewest survivors among so many in a row as there are neighbours on a side."""
    side, twice = made.degree // 2, made.ring * 2
    return min(sum(x in left for x in twice[i : i + side]) for i in range(len(made.ring)))


@pytest.mark.long
@given(st.data())
@settings(max_examples=examples(60), deadline=None)
def test_survivors_pass_just_where_no_row_is_too_thin(data: st.DataObject) -> None:
    made = make(80)
    side, start = made.degree // 2, data.draw(st.integers(0, 79))
    row = [made.ring[(start + i) % 80] for i in range(side)]
    gone = set(data.draw(st.lists(st.sampled_from(row), unique=True, max_size=side)))
    gone |= set(data.draw(st.lists(st.sampled_from(made.cohort), max_size=4)))
    left = set(made.cohort) - gone
    if naive_windows(made, left) > made.colluding:
        made.check_survivors(left)
        honest = left - set(row[: made.colluding])
        assert connected(made, honest)
    else:
        with pytest.raises(FloorError, match="cut off"):
            made.check_survivors(left)


def test_without_the_check_some_could_be_cut_off_within_the_allowed_dropouts() -> None:
    made = make(200, corrupt=0.01, dropout=0.2)
    side = made.degree // 2
    inside = [made.ring[i] for i in range(side + 3)]
    walls = {made.ring[-i - 1] for i in range(side)} | {
        made.ring[side + 3 + i] for i in range(side)
    }
    left = set(made.cohort) - walls
    assert len(walls) <= 0.2 * 200  # no more than may drop out
    assert all(set(made.neighbours(x)) & left <= set(inside) for x in inside)
    with pytest.raises(FloorError, match="cut off"):
        made.check_survivors(left)


def test_in_a_complete_graph_nobody_can_be_cut_off() -> None:
    made = make(10)
    made.check_survivors(made.cohort[:2])


@pytest.mark.parametrize("chance", [2.0**-20, 2.0**-50, 0.3])
@pytest.mark.parametrize(
    ("total", "marked", "drawn"),
    [(99, 10, 42), (50, 45, 40), (20, 0, 5), (20, 20, 5), (999, 300, 2)],
)
def test_the_tail_is_the_hypergeometric_one(
    total: int, marked: int, drawn: int, chance: float
) -> None:
    t = graph._beyond(total, marked, drawn, chance)
    assert stats.hypergeom.sf(t - 1, total, marked, drawn) <= chance
    assert t == 1 or stats.hypergeom.sf(t - 2, total, marked, drawn) > chance


def test_a_row_of_bad_places_is_as_rare_as_the_bound_says() -> None:
    # On a ring of 9 with 4 bad the exact chance of 3 bad in a row, over all placements.
    rings = list(itertools.combinations(range(9), 4))
    hit = sum(any({p % 9, (p + 1) % 9, (p + 2) % 9} <= set(bad) for p in range(9)) for bad in rings)
    assert hit / len(rings) <= 9 * (4 * 3 * 2) / (9 * 8 * 7) <= 9 * (4 / 9) ** 3


@settings(max_examples=25, deadline=None)
@given(st.integers(51, 300), st.integers(0, 2**32))
def test_what_is_left_hangs_together_and_can_unmask(sites: int, key: int) -> None:
    made = make(sites, seed=key.to_bytes(8))
    draw = random.Random(key)
    bad = int(sites * 0.1)
    colluders = set(draw.sample(made.cohort, bad))
    left = set(made.cohort) - set(draw.sample(made.cohort, bad))
    assert connected(made, left - colluders)
    for member in made.cohort:
        assert len(left.intersection(made.holders(member))) >= made.threshold
        if member not in colluders:
            assert len(colluders.intersection(made.holders(member))) < made.threshold


def test_all_parties_make_the_same_graph_and_it_is_kept() -> None:
    numbers = list(range(1, 101))
    made = [
        make_graph(order, survivors=90, colluders=10, threshold=56, seed=SEED)
        for order in (numbers, numbers[::-1], tuple(numbers))
    ]
    assert made[0] is made[1] is made[2]
    assert len({made[0], made[1]}) == 1
    assert made[0].cohort == tuple(numbers)


def test_the_order_follows_the_seed_alone() -> None:
    one, other = make(100), make(100, seed=b"t" * 32)
    assert one.ring != other.ring
    assert sorted(one.ring) == sorted(other.ring) == list(one.cohort)
    assert one.ring[:4] == make(100).ring[:4] == RING


@pytest.mark.slow
@pytest.mark.long
def test_it_stays_quick_for_thousands() -> None:
    made = make(5000)
    assert sum(len(made.neighbours(member)) for member in made.cohort) == 5000 * made.degree


@pytest.mark.parametrize(
    ("survivors", "colluders", "threshold"),
    [(90, 56, 56), (90, 10, 91), (101, 10, 56), (90, -1, 56), (0, 0, 0)],
)
def test_numbers_that_do_not_go_together_are_refused(
    survivors: int, colluders: int, threshold: int
) -> None:
    with pytest.raises(ConfigError, match=r"colluders < secagg.threshold <= secagg.surv"):
        make_graph(
            range(1, 101), survivors=survivors, colluders=colluders, threshold=threshold, seed=SEED
        )


@pytest.mark.parametrize("cohort", [[], [1, 2, 2]])
def test_a_cohort_is_distinct_sites(cohort: list[int]) -> None:
    with pytest.raises(ConfigError, match="distinct sites"):
        make_graph(cohort, survivors=1, colluders=0, threshold=1, seed=SEED)


def test_a_stranger_has_no_neighbours() -> None:
    for sites in (10, 100):
        with pytest.raises(ConfigError, match="site 2 isn't in this cohort"):
            make(sites).neighbours(2)


@pytest.mark.parametrize(("corrupt", "dropout"), [(-0.1, 0.1), (0.1, 1.1)])
def test_fractions_are_fractions(corrupt: float, dropout: float) -> None:
    with pytest.raises(ConfigError, match="fractions"):
        neighbours_needed(100, corrupt, dropout)
