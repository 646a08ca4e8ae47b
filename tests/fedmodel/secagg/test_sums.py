"""How a site's numbers enter a secure sum, and what comes out of it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmodel.accounting.plan import Plan
from fedmodel.accounting.planning import plan_of
from fedmodel.agreement import Facts, complete
from fedmodel.errors import ConfigError, PrivacyError, ProtocolError, RangeError
from fedmodel.job import (
    Federation,
    Job,
    Privacy,
    Proposal,
    ProposedAggregation,
    ProposedPrivacy,
    ProposedSecAgg,
    SecAgg,
    Train,
)
from fedmodel.mechanisms import shares
from fedmodel.secagg.fixedpoint import FixedPoint
from fedmodel.secagg.ring import centred
from fedmodel.secagg.sums import PlainSum, SharedSum, bits_needed, require_room
from fedmodel.seeds import Entropy
from fedmodel.update import Update
from tests.jobs import NO_WEIGHTS, make_job
from tests.jobs import summed as sums_of

SIZE = 37
POOLED = ProposedPrivacy(mechanism="distributed", epsilon=8.0, delta=1e-4, clip=0.5, rate=0.1)
SITE = ProposedPrivacy(
    mechanism="site", unit="site", epsilon=8.0, delta=1e-3, rate=1.0, evaluation="suppressed"
)


TRAIN = Train(rounds=3, steps=1, batch_size=32)


def job_of(
    sites: int = 5,
    privacy: ProposedPrivacy | None = None,
    train: Train = TRAIN,
    **secagg: Any,
) -> Job:
    """Return the job of a proposal with secure sums, weighted where a largest weight is given."""
    weights: Any = "examples" if "max_weight" in secagg else "uniform"
    proposal = Proposal(
        train=train,
        privacy=privacy or ProposedPrivacy(),
        secagg=ProposedSecAgg(mode="on", **secagg),
        aggregation=ProposedAggregation(weights=weights),
    )
    units = (1,) * sites
    return complete(
        proposal,
        Facts(labels=("a", "b"), weights=NO_WEIGHTS, units=units, rows=1, public_test=True),
    )


def with_bits(job: Job, bits: int) -> Job:
    return replace(job, secagg=SecAgg(mode="on", sums=replace(job.secagg.masked, bits=bits)))


def ring(encode: Any, count: int, tile: int = 10**6) -> Any:
    """Return a site's ring elements, asked for in tiles."""
    out = np.full(count, 0xDEADBEEF, np.uint32)
    for start in range(0, count, tile):
        encode(start, min(start + tile, count), out[start : start + tile])
    return out


def summed(elements: list[Any], bits: int) -> Any:
    total = np.zeros_like(elements[0])
    for each in elements:
        total += each
    return centred(total, bits)


def step(job: Job) -> float:
    sums = job.secagg.masked
    return FixedPoint(bits=sums.bits, parties=job.federation.cohort, range=sums.range).step


def vectors(sites: int, scale: float, seed: int = 0) -> list[Any]:
    generator = np.random.default_rng(seed)
    return [generator.uniform(-scale, scale, SIZE).astype(np.float32) for _ in range(sites)]


# -- plain sums ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [16, 20, 24, 28, 32])
@pytest.mark.parametrize("survivors", [4, 5])
def test_a_plain_sum_is_the_mean_within_half_a_step(bits: int, survivors: int) -> None:
    job = job_of(bits=bits)
    sums, found = PlainSum(job, SIZE), vectors(survivors, 8.0)
    updates = [Update.of(v, 1.0, {"train_loss": i / 3}) for i, v in enumerate(found)]
    total = summed([ring(sums.encode(u), sums.count) for u in updates], bits)
    mean = sums.decode(total, survivors)
    expected = np.mean(np.stack(found).astype(np.float64), axis=0)
    np.testing.assert_allclose(mean.vector, expected, atol=step(job) / 2 + 1e-6)
    assert mean.weight == 1.0
    loss = np.mean([i / 3 for i in range(survivors)])
    assert mean.metrics["train_loss"] == pytest.approx(loss, abs=step(job) / 2 + 1e-9)


@pytest.mark.long
@given(
    st.lists(st.integers(1, 500), min_size=5, max_size=5),
    st.integers(0, 2**32 - 1),
    st.sampled_from([24, 28, 32]),
)
def test_a_weighted_sum_is_the_weighted_mean(weights: list[int], seed: int, bits: int) -> None:
    job = job_of(max_weight=512, bits=bits)
    sums, found = PlainSum(job, SIZE), vectors(5, 2.0, seed)
    updates = [
        Update.of(v, float(w), {"train_loss": w / 100}) for v, w in zip(found, weights, strict=True)
    ]
    mean = sums.decode(summed([ring(sums.encode(u), sums.count) for u in updates], bits), 5)
    whole = sum(weights)
    expected = sum(w * v.astype(np.float64) for v, w in zip(found, weights, strict=True)) / whole
    bound = 5 * step(job) / 2 * 512 / whole + 1e-5
    np.testing.assert_allclose(mean.vector, expected, atol=bound)
    loss = sum(w * w / 100 for w in weights) / whole
    assert mean.metrics["train_loss"] == pytest.approx(loss, abs=bound)


@pytest.mark.parametrize("sites", [3, 5, 50])
@pytest.mark.parametrize("bits", [16, 24, 32])
def test_all_sites_at_the_end_of_the_range_do_not_wrap_around(sites: int, bits: int) -> None:
    job = job_of(sites, bits=bits, range=3.0)
    sums = PlainSum(job, SIZE)
    for sign in (1, -1):
        update = Update.of(np.full(SIZE, 3.0 * sign, np.float32), 1.0, {"train_loss": 3.0})
        total = summed([ring(sums.encode(update), sums.count)] * sites, bits)
        mean = sums.decode(total, sites)
        np.testing.assert_allclose(mean.vector, 3.0 * sign, atol=step(job) / 2)
        assert mean.metrics["train_loss"] == pytest.approx(3.0, abs=step(job) / 2)


def test_all_sites_with_the_largest_weight_at_the_end_of_the_range_do_not_wrap() -> None:
    job = job_of(max_weight=4096)
    sums = PlainSum(job, SIZE)
    update = Update.of(np.full(SIZE, -8.0, np.float32), 4096.0, {"train_loss": 8.0})
    mean = sums.decode(summed([ring(sums.encode(update), sums.count)] * 5, sums.bits), 5)
    np.testing.assert_allclose(mean.vector, -8.0, atol=1e-6)


@given(st.integers(1, 50), st.booleans())
def test_tiles_of_any_size_give_the_same_elements(tile: int, private: bool) -> None:
    privacy = ProposedPrivacy(mechanism="dpsgd", rate=0.5) if private else None
    sums = PlainSum(job_of(privacy=privacy), SIZE)
    assert sums.count == SIZE + (1 if private else 2)
    encode = sums.encode(Update.of(vectors(1, 1.0)[0], 1.0, {} if private else {"train_loss": 1.0}))
    assert ring(encode, sums.count, tile).tobytes() == ring(encode, sums.count).tobytes()


def test_a_private_sum_has_no_loss_in_it() -> None:
    sums = PlainSum(job_of(privacy=ProposedPrivacy(mechanism="dpsgd", rate=0.5)), SIZE)
    encode = sums.encode(Update.of(vectors(1, 1.0)[0]))
    assert sums.decode(summed([ring(encode, sums.count)] * 5, sums.bits), 5).metrics == {}


@pytest.mark.parametrize(("weight", "counts"), [(0.5, 1), (1.6, 2), (513.0, 512), (1e9, 512)])
def test_a_weight_beyond_the_largest_counts_as_that_and_nobody_refuses(
    weight: float, counts: int
) -> None:
    """A refusal would tell the coordinator how many rows a site has."""
    sums, found = PlainSum(job_of(max_weight=512), SIZE), vectors(5, 2.0)
    weights = (weight, 1.0, 2.0, 3.0, 4.0)
    updates = [Update.of(v, w, {"train_loss": 0.5}) for v, w in zip(found, weights, strict=True)]
    mean = sums.decode(summed([ring(sums.encode(u), sums.count) for u in updates], sums.bits), 5)
    shares = np.array([counts, 1, 2, 3, 4]) / (counts + 10)
    expected = sum(s * v for s, v in zip(shares, found, strict=True))
    np.testing.assert_allclose(mean.vector, expected, atol=1e-4)
    assert mean.metrics["train_loss"] == pytest.approx(0.5, abs=1e-4)
    with pytest.raises(ProtocolError, match="expected weight 1, got 2"):
        PlainSum(job_of(), SIZE).encode(Update.of(found[0], 2.0))


@pytest.mark.parametrize(
    ("weights", "secagg"),
    [
        ([4], {}),
        ([6], {}),
        ([0], {}),
        ([-5], {}),
        ([4], {"max_weight": 8}),
        ([41], {"max_weight": 8}),
    ],
)
def test_a_sum_of_weights_that_cannot_be_is_refused(weights: Any, secagg: Any) -> None:
    sums = PlainSum(job_of(**secagg), SIZE)
    total = np.zeros(sums.count, np.int64)
    total[SIZE] = weights[0]
    with pytest.raises(ProtocolError, match="sum of 5 sites' weights"):
        sums.decode(total, 5)


def test_beyond_the_range_is_refused_or_clipped_as_the_job_says() -> None:
    vector = np.zeros(SIZE, np.float32)
    vector[[1, 2]] = 8.001, -1e30
    refusing = PlainSum(job_of(overflow="refuse"), SIZE)
    with pytest.raises(RangeError, match=r"secagg\.range"):
        ring(refusing.encode(Update.of(vector)), refusing.count)
    clipping = PlainSum(job_of(), SIZE)  # unless a job says otherwise: who refuses tells
    total = summed([ring(clipping.encode(Update.of(vector)), clipping.count)] * 5, clipping.bits)
    mean = clipping.decode(total, 5).vector
    np.testing.assert_allclose(mean[:4], [0, 8, -8, 0], atol=1e-4)
    for bad in (np.nan, np.inf):
        vector[0] = bad
        for sums in (refusing, clipping):
            with pytest.raises(RangeError, match="NaN or infinite"):
                ring(sums.encode(Update.of(vector)), sums.count)


def test_a_loss_beyond_the_range_is_clipped_and_stops_nobody() -> None:
    sums = PlainSum(job_of(), SIZE)
    update = Update.of(np.zeros(SIZE, np.float32), 1.0, {"train_loss": 1e6})
    total = summed([ring(sums.encode(update), sums.count)] * 5, sums.bits)
    assert sums.decode(total, 5).metrics["train_loss"] == pytest.approx(8.0, abs=1e-4)


def test_weights_that_the_ring_has_no_room_for_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"secagg\.bits=32"):
        PlainSum(job_of(max_weight=1 << 21, bits=24), SIZE)
    PlainSum(job_of(max_weight=1 << 20, bits=32), SIZE)


# -- how many bits -------------------------------------------------------------------------------


def test_bits_are_the_jobs_own_or_what_its_sums_need() -> None:
    for job, bits in ((job_of(), 32), (job_of(max_weight=64), 32), (job_of(bits=20), 20)):
        assert job.secagg.masked.bits == PlainSum(job, SIZE).bits == bits
    assert job_of(max_weight=64, bits=28).secagg.masked.bits == 28


def test_a_job_without_secure_sums_has_none() -> None:
    for mode in ("off", "seal"):
        with pytest.raises(ConfigError, match=f"secagg={mode} has no masked sums"):
            PlainSum(make_job(secagg=SecAgg(mode=mode)), SIZE)


@pytest.mark.parametrize(("privacy", "sites"), [(POOLED, 5), (POOLED, 2000), (SITE, 60)])
def test_a_shared_sum_gets_room_for_a_whole_batch_that_agrees(
    privacy: ProposedPrivacy, sites: int
) -> None:
    job = job_of(sites, privacy)
    plan = plan_of(job)
    bits = job.secagg.masked.bits
    assert bits == bits_needed(plan, sites)
    whole = plan.clip * plan.expected_batch
    limit = shares.Shares(std=plan.noise_std(1), honest=plan.honest, parties=sites, bits=bits).limit
    assert limit >= whole
    assert bits >= 24


def test_a_quiet_sum_of_a_large_batch_takes_more_bits() -> None:
    # Much less noise than what is summed: a narrow ring would clip the sum at every site.
    quiet = replace(POOLED, epsilon=1000.0)
    job = job_of(privacy=quiet, train=Train(rounds=1, steps=1, batch_size=4096))
    found = job.secagg.masked.bits
    plan = plan_of(with_bits(job, 24))
    room = shares.Shares(std=plan.noise_std(1), honest=plan.honest, parties=5, bits=24).limit
    assert (found == 24) == (room >= plan.clip * plan.expected_batch)


def test_own_bits_that_leave_no_room_for_one_unit_are_refused() -> None:
    says = r"secagg\.bits=16 leave room for .* less than one contribution"
    with pytest.raises(ConfigError, match=says):
        job_of(500, POOLED, bits=16)
    with pytest.raises(ConfigError, match="16 bits have no room for the noise of 2000 sites"):
        job_of(2000, POOLED, bits=16)
    plan = plan_of(job_of(500, POOLED))
    with pytest.raises(ConfigError, match=says):
        bits_needed(plan, 500, 16)
    with pytest.raises(ConfigError, match=says):
        require_room(plan, 500, 16)
    # Nor in a job that somebody else has completed.
    privacy = Privacy(mechanism="distributed", epsilon=8.0, delta=1e-4, clip=0.5, rate=0.1)
    federation = Federation(sites=500)
    job = make_job(
        train=TRAIN, privacy=privacy, secagg=sums_of(500, bits=16), federation=federation
    )
    with pytest.raises(ConfigError, match=says):
        SharedSum(job, plan_of(job), SIZE, 1)


@pytest.mark.long
def test_a_schedule_of_noise_has_room_in_its_quietest_round() -> None:
    job = job_of(privacy=replace(POOLED, decay=0.01))
    plan = plan_of(job)
    bits = job.secagg.masked.bits
    for round_ in (1, 2, 3):
        assert SharedSum(job, plan, SIZE, round_).bits == bits


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("decay", [0.1, 10.0])
def test_no_round_of_a_schedule_clips_a_whole_batch_that_agrees(decay: float) -> None:
    job = job_of(
        privacy=replace(POOLED, epsilon=1000.0, decay=decay),
        train=Train(rounds=3, steps=1, batch_size=2000),
    )
    plan = plan_of(job)
    found = [SharedSum(job, plan, SIZE, round_)._shares for round_ in (1, 2, 3)]
    assert all(own.limit >= plan.clip * plan.expected_batch for own in found)
    loudest = max(found, key=lambda own: own.std)  # which alone would fit into fewer bits
    assert replace(loudest, bits=24).limit >= plan.clip * plan.expected_batch
    assert job.secagg.masked.bits == 28


# -- shared sums ---------------------------------------------------------------------------------


def shared(size: int, sites: int = 5, **changes: Any) -> tuple[SharedSum, Plan]:
    job = job_of(sites, replace(POOLED, **changes))
    plan = plan_of(job)
    return SharedSum(job, plan, size, 1), plan


def test_a_shared_sum_is_the_sum_with_noise_of_the_promised_size(fake: Entropy) -> None:
    size, sites = 40_000, 5
    sums, plan = shared(size)
    contribution = np.linspace(-1, 1, size)
    parts = [ring(sums.encode(contribution, fake), size) for _ in range(sites)]
    mean = sums.decode(summed(parts, sums.bits), sites)
    assert mean.dtype == np.float32
    whole = mean.astype(np.float64) * sites * plan.expected_batch
    values = (whole - sites * contribution) / plan.noise_std(1)
    assert abs(values.mean()) < 6 * (sites / plan.honest / size) ** 0.5
    assert values.var() == pytest.approx(sites / plan.honest, rel=5 * (2 / size) ** 0.5 + 1e-3)
    assert abs(np.corrcoef(values, contribution)[0, 1]) < 6 / size**0.5


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("round_", [3, 2, 1])
def test_the_noise_of_a_shared_sum_is_that_of_its_round(round_: int, fake: Entropy) -> None:
    size, sites = 20_000, 5
    job = job_of(sites, replace(POOLED, decay=0.1))
    plan = plan_of(job)
    sums = SharedSum(job, plan, size, round_)
    parts = [ring(sums.encode(np.zeros(size), fake), size) for _ in range(sites)]
    mean = sums.decode(summed(parts, sums.bits), sites).astype(np.float64)
    values = mean * sites * plan.expected_batch / plan.noise_std(round_)
    assert values.var() == pytest.approx(sites / plan.honest, rel=5 * (2 / size) ** 0.5 + 1e-3)
    assert plan.noise_std(3) == pytest.approx(plan.noise_std(1) / 10)


def test_each_encoding_has_noise_of_its_own_and_a_tile_may_be_asked_for_again(
    fake: Entropy,
) -> None:
    sums, _ = shared(SIZE)
    one, other = (sums.encode(np.zeros(SIZE), fake) for _ in range(2))
    assert ring(one, SIZE).tobytes() == ring(one, SIZE, 7).tobytes()
    assert ring(one, SIZE).tobytes() != ring(other, SIZE).tobytes()


def test_all_sites_at_the_limit_do_not_wrap_around(fake: Entropy) -> None:
    size = 2000
    for sites in (5, 50):
        sums, plan = shared(size, sites)
        limit = sums._shares.limit
        for sign in (1.0, -1.0):
            huge = np.full(size, sign * limit * 1e6)
            parts = [ring(sums.encode(huge, fake), size) for _ in range(sites)]
            whole = sums.decode(summed(parts, sums.bits), sites) * sites * plan.expected_batch
            assert np.abs(whole - sign * sites * limit).max() < 40 * plan.noise_std(1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_contribution_that_is_not_finite_is_refused(bad: float, fake: Entropy) -> None:
    sums, _ = shared(SIZE)
    contribution = np.zeros(SIZE)
    contribution[3] = bad
    with pytest.raises(PrivacyError, match=r"finite|NaN"):
        sums.encode(contribution, fake)
