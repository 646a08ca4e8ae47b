"""Honest parties: the sum is exact, or nothing is unmasked; no mask is ever used twice."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedmodel.errors import QuorumError
from fedmodel.secagg.agreement import Floors
from tests.examples import examples

if TYPE_CHECKING:
    from tests.fedmodel.secagg.conftest import World

STAGES = ("shares", "upload", "consent", "reveal")
SAID = {
    "shares": "shared their secrets",
    "upload": "sent a vector",
    "consent": "agreed on the survivors",
    "reveal": "revealed their shares",
}
QUICK = settings(
    deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    """Draw the numbers of an agreement that keeps the floors."""

    def number(low: int, high: int) -> int:
        return draw(st.integers(low, high))

    sites = number(3, 12)
    colluders = number(0, min(3, sites - 3))
    lowest = max((sites + colluders) // 2 + 1, colluders + 3)
    survivors = number(min(lowest, sites), sites)
    threshold = number((sites + colluders) // 2 + 1, survivors)
    return {
        "sites": sites,
        "colluders": colluders,
        "survivors": survivors,
        "threshold": threshold,
        "bits": draw(st.sampled_from((16, 20, 24, 28, 32))),
        "count": number(1, 30),
        "seed": number(0, 1 << 30),
    }


def fate(world: "World", drops: dict[str, set[int]]) -> str | None:
    """Return the stage at which too few sites are left, worked out from their numbers alone."""
    agreed, left = world.agreement, set(world.numbers)
    for stage in STAGES:
        left -= drops[stage]
        least = agreed.survivors if stage in ("shares", "upload") else agreed.threshold
        if len(left) < least:
            return stage
    return None


def check(world: "World", drops: dict[str, set[int]], seed: int) -> str | None:
    """Play an attempt, and compare it with what should come of it."""
    vectors = world.vectors(seed)
    failed = fate(world, drops)
    if failed is None:
        attempt, total = world.play(vectors, drops=drops)
        left = [n for n in world.numbers if n not in drops["shares"] | drops["upload"]]
        assert attempt.survivors == tuple(left)
        assert total.dtype == np.int32
        assert (total == world.ring_sum(vectors, left)).all()
        return None
    attempt = world.begin()

    def play() -> None:
        world.share(attempt, drops["shares"])
        world.upload(attempt, vectors, drops["upload"])
        world.consent(attempt, drops["consent"])
        world.reveal(attempt, drops["consent"] | drops["reveal"])
        attempt.total()

    with pytest.raises(QuorumError, match=SAID[failed]):
        play()
    if attempt._sum is not None and world.agreement.count > 5:
        masked = attempt._sum.total()[: world.agreement.count]
        assert (masked != world.ring_sum(vectors, attempt._pledges)).any()
    return failed


@pytest.mark.long
@settings(QUICK, max_examples=examples(80))
@given(case=cases(), data=st.data())
def test_sum_is_exact_or_refused(
    worlds: "type[World]", case: dict[str, Any], data: st.DataObject
) -> None:
    seed = case.pop("seed")
    world = worlds(seed=seed, **case)
    chosen = data.draw(
        st.lists(
            st.sampled_from((None, None, None, None, *STAGES)),
            min_size=case["sites"],
            max_size=case["sites"],
        )
    )
    drops = {s: {n for n, c in zip(world.numbers, chosen, strict=True) if c == s} for s in STAGES}
    check(world, drops, seed)


@pytest.mark.sample(4)
@pytest.mark.long
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("sites", [4, 7])
def test_quorum_at_each_stage(worlds: "type[World]", sites: int, stage: str) -> None:
    world = worlds(sites)
    agreed = world.agreement
    least = agreed.survivors if stage in ("shares", "upload") else agreed.threshold
    for gone, expected in ((sites - least, None), (sites - least + 1, stage)):
        drops = {s: set(world.numbers[:gone]) if s == stage else set[int]() for s in STAGES}
        assert check(worlds(sites), drops, 1) == expected


@pytest.mark.parametrize("stage", STAGES)
def test_one_site_gone_at_each_stage_of_the_fewest(worlds: "type[World]", stage: str) -> None:
    # Of four sites, three of which suffice, each may fall silent anywhere.
    for gone in (1, 2, 3, 4):
        world = worlds(4, survivors=3, threshold=3)
        drops = {s: {gone} if s == stage else set[int]() for s in STAGES}
        assert check(world, drops, gone) is None


@pytest.mark.slow
@pytest.mark.long
@settings(QUICK, max_examples=2)
@given(seed=st.integers(0, 1000), data=st.data())
def test_sum_is_exact_among_neighbours(
    worlds: "type[World]", seed: int, data: st.DataObject
) -> None:
    sites, survivors, colluders = data.draw(
        st.sampled_from(((51, 44, 0), (51, 45, 1), (55, 48, 1)))
    )
    world = worlds(sites, survivors=survivors, colluders=colluders, count=9, seed=seed)
    gone = data.draw(st.permutations(world.numbers))[: sites - survivors]
    drops = {s: set(gone[at::4]) for at, s in enumerate(STAGES)}
    vectors = world.vectors(seed)
    attempt, total = world.play(vectors, drops=drops)
    assert not attempt._graph.complete
    left = set(world.numbers) - drops["shares"] - drops["upload"]
    assert (total == world.ring_sum(vectors, sorted(left))).all()


def test_a_secret_that_lacks_shares_leaves_the_sum_masked(world: "World") -> None:
    # As among neighbours, where enough sites may reveal, but not enough of one site's.
    attempt = world.at("reveal")
    world.reveal(attempt)
    for n in (2, 3, 4):
        told = attempt._reveals[n]
        others = tuple(share for share in told.self_seeds if share.owner != 1)
        attempt._reveals[n] = replace(told, self_seeds=others)
    with pytest.raises(QuorumError, match="2 shares of site 1's secret were revealed, 3 are"):
        attempt.total()


@pytest.mark.slow
@pytest.mark.long
def test_a_secret_that_lacks_shares_among_neighbours(worlds: "type[World]") -> None:
    # Enough sites reveal, but not enough of one site's neighbours.
    world = worlds(51, survivors=44, threshold=26, count=9)
    attempt = world.at("reveal")
    graph = attempt._graph
    alone = world.numbers[20]
    silent = set(graph.holders(alone)[: graph.degree + 2 - graph.threshold])
    world.reveal(attempt, silent)
    assert len(attempt._reveals) >= world.agreement.threshold
    with pytest.raises(QuorumError, match=f"shares of site .*'s secret.* {graph.threshold} are"):
        attempt.total()
    for n in silent:
        attempt.take_reveal(n, world.sites[n].reveal(attempt.request_for(n)))
    assert (attempt.total() == world.ring_sum(world.vectors(), world.numbers)).all()


def test_rounds_follow_one_another(worlds: "type[World]") -> None:
    world = worlds(6, rounds=4)
    for round_ in (1, 2, 4):
        vectors = world.vectors(round_)
        cohort = world.numbers[round_ % 2 :]
        attempt, total = world.play(vectors, round=round_, cohort=cohort)
        assert attempt.survivors == cohort
        assert (total == world.ring_sum(vectors, cohort)).all()


def test_a_second_attempt_masks_anew(worlds: "type[World]") -> None:
    world = worlds(5, survivors=4)
    vectors, first, second = world.vectors(), worlds.view(), worlds.view()
    attempt = world.begin()
    world.share(attempt, view=first)
    with pytest.raises(QuorumError, match="sent a vector"):
        world.upload(attempt, vectors, but=(1, 2), view=first)
    _, total = world.play(vectors, attempt=2, view=second)
    assert (total == world.ring_sum(vectors, world.numbers)).all()
    for n in world.numbers:
        one, two = (view.uploads[n][1] for view in (first, second))
        # The same vector: the difference would be 0 under one mask.
        assert np.count_nonzero(world.strip([one]) - world.strip([two])) > 35


@pytest.mark.long
def test_no_two_uploads_share_a_mask(worlds: "type[World]") -> None:
    # Vectors of zeros: what is uploaded is the mask. Same keys and seeds in "another session"
    # would be the worst case, but a session draws them anew.
    masks = []
    for session in range(3):
        world = worlds(4, seed=session, rounds=3, bits=32, floors=Floors())
        zeros = {n: np.zeros(world.agreement.count, np.int64) for n in world.numbers}
        for round_, number in ((1, 1), (1, 2), (2, 1), (3, 2)):
            view = worlds.view()
            attempt = world.begin(round=round_, attempt=number)
            world.share(attempt)
            world.upload(attempt, zeros, view=view)
            masks += [world.strip([packed]) for _, packed in view.uploads.values()]
    ring = np.stack(masks)
    assert len(ring) == 3 * 4 * 4
    for at, mask in enumerate(ring):
        for other in ring[at + 1 :]:
            # One equal element in 2**32 is chance; neither sum nor difference is constant.
            assert np.count_nonzero(mask == other) <= 1
            assert np.count_nonzero(mask == -other) <= 1
            assert len(np.unique(mask - other)) >= len(mask) - 1
    # And each looks uniform: bits are balanced over all of them.
    ones = np.unpackbits(ring.astype("<i4").view(np.uint8)).mean()
    assert abs(ones - 0.5) < 0.01


@pytest.mark.long
def test_masks_cancel_over_every_set_of_survivors(worlds: "type[World]") -> None:
    zeros = {n: np.zeros(40, np.int64) for n in range(1, 6)}
    for gone in ((), (1,), (5,), (3,), (1, 2), (2, 4), (4, 5)):
        for stage in ("shares", "upload"):
            _, total = worlds(5).play(zeros, drops={stage: gone})
            assert not total.any()


def test_a_vector_is_written_as_it_is(world: "World") -> None:
    # Elements beyond the ring wrap; negative ones are what they are modulo the ring.
    vectors = world.vectors()
    vectors[1][:] = -7
    vectors[2][:] = (1 << 24) + 3
    _, total = world.play(vectors)
    assert (total == world.ring_sum(vectors, world.numbers)).all()


def test_a_manifest_can_be_looked_at(world: "World") -> None:
    attempt = world.at("upload")
    assert world.sites[1].manifest == attempt.manifest
    assert repr(world.sites[1]) == "Participant(1)"
