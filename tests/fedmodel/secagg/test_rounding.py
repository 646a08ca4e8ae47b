"""Small updates survive the rounding of a plain sum; where they don't, somebody is told."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fedmodel.job import Federation, Job, Privacy, Train
from fedmodel.report.figures import hiding
from fedmodel.report.notes import notes
from fedmodel.secagg.ring import centred
from fedmodel.secagg.sums import PlainSum, plain_step
from fedmodel.update import Update, root_mean_square
from tests.fedmodel.secagg.test_sums import job_of as proposed
from tests.jobs import make_job, summed

SIZE = 2000


def job_of(sites: int, **secagg: Any) -> Job:
    return make_job(
        secagg=summed(sites, **secagg), federation=Federation(sites=sites), train=Train(rounds=1)
    )


def mean_of(job: Job, vectors: list[Any]) -> Any:
    sums = PlainSum(job, SIZE)
    total = np.zeros(sums.count, np.uint32)
    for vector in vectors:
        out = np.empty(sums.count, np.uint32)
        sums.encode(Update.of(vector, 1.0, {"train_loss": 1.0}))(0, sums.count, out)
        total += out
    return sums.decode(centred(total, sums.bits), len(vectors)).vector


@pytest.mark.parametrize(("sites", "size"), [(55, 2e-5), (200, 1e-4)])
def test_small_updates_of_many_sites_are_not_rounded_to_nothing(sites: int, size: float) -> None:
    """One step of AdamW at a rate of 2e-5, at 55 sites; values around 1e-4, at 200."""
    job = proposed(sites)
    assert job.secagg.masked.bits == 32
    generator = np.random.default_rng(0)
    signs = generator.choice([-1.0, 1.0], SIZE)  # which all sites see alike, as they do
    vectors = [
        (signs * size * generator.uniform(0.5, 1.5, SIZE)).astype(np.float32) for _ in range(sites)
    ]
    expected = np.mean(np.stack(vectors).astype(np.float64), axis=0)
    off = np.linalg.norm(mean_of(job, vectors) - expected) / np.linalg.norm(expected)
    assert off < 0.005
    # 24 bits, which was the default, lose it: this is what the bits are for.
    narrow = job_of(sites, bits=24)
    off = np.linalg.norm(mean_of(narrow, vectors) - expected) / np.linalg.norm(expected)
    assert off > 0.3


def encoded(vector: Any, bits: int = 24) -> Any:
    sums = PlainSum(job_of(55, bits=bits), SIZE)
    values = sums.encode(Update.of(vector))
    out = np.empty(sums.count, np.uint32)
    for start in range(0, sums.count, 512):
        values(start, min(start + 512, sums.count), out[start : start + 512])
    return values


def test_what_rounds_away_is_counted_among_what_is_not_0() -> None:
    step = plain_step(job_of(55, bits=24))
    assert step is not None
    assert PlainSum(job_of(55, bits=24), SIZE).step == step
    vector = np.zeros(SIZE, np.float32)
    vector[:100] = step / 4
    vector[100:110] = 3 * step
    values = encoded(vector)
    assert (values.given, values.kept) == (110, 10)
    assert values.mostly_lost
    vector[:40] = step  # now most is left, though most coordinates are 0
    values = encoded(vector)
    assert (values.given, values.kept) == (110, 50)
    assert values.mostly_lost
    vector[:50] = step
    assert not encoded(vector).mostly_lost
    assert not encoded(np.zeros(SIZE, np.float32)).mostly_lost
    assert not encoded(np.full(SIZE, 2e-5, np.float32), bits=32).mostly_lost
    assert encoded(np.full(SIZE, 2e-5, np.float32)).mostly_lost


def test_only_plain_sums_have_a_step_to_look_at() -> None:
    assert plain_step(make_job()) is None
    pooled = Privacy(mechanism="distributed", rate=0.5, delta=1e-4)
    shared = make_job(
        privacy=pooled,
        secagg=summed(5),
        federation=Federation(sites=5),
        train=Train(rounds=1, steps=1),
    )
    assert plain_step(shared) is None
    assert hiding(shared, 1.0).step is None


def test_a_summary_has_the_step_beside_the_update_and_says_where_it_is_too_coarse() -> None:
    job = job_of(55, bits=24)
    step = plain_step(job)
    assert step is not None
    for update, said in ((step / 2, True), (2 * step, False), (None, False)):
        hidden = hiding(job, update)
        assert (hidden.step, hidden.update) == (step, update)
        told = " ".join(notes(job, None, hidden))
        assert ("smaller changes may be lost" in told) == said
    assert not any("lost" in note for note in notes(job, None, replace(hidden, step=None)))


def test_the_root_mean_square() -> None:
    assert root_mean_square(np.array([3, -4, 0, 0], np.float32)) == 2.5
    assert root_mean_square(np.zeros(0, np.float32)) == 0.0
    assert root_mean_square(np.full(4, 1e30, np.float32)) == pytest.approx(1e30)
