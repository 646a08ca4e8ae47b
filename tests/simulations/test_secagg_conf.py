"""Choices of ``secagg`` and of privacy with noise in shares: what composes, and what is refused."""

import itertools
from typing import Any

import pytest

from fedmodel import cli
from fedmodel._paths import conf_dir
from fedmodel.accounting.planning import plan_of
from fedmodel.errors import ConfigError
from fedmodel.job import (
    Federation,
    Job,
    Privacy,
    ProposedSecAgg,
    SecAgg,
    Train,
    masked_sums,
)
from fedmodel.secagg.sums import PlainSum, SharedSum
from simulations.parties import gather
from simulations.scenario import Scenario
from tests.jobs import make_job, summed

METHODS = sorted(p.stem for p in (conf_dir() / "train").glob("*.yaml"))
LEVELS = sorted(p.stem for p in (conf_dir() / "privacy").glob("*.yaml"))
HIDING = sorted(p.stem for p in (conf_dir() / "secagg").glob("*.yaml"))
SHARED = ("distributed", "site")


def scenario(*overrides: str) -> Scenario:
    return Scenario.from_mapping(cli.compose("simulate", list(overrides)))


def test_the_choices_are_these() -> None:
    assert {"auto", "off", "on", "seal"} == set(HIDING)
    assert set(SHARED) < set(LEVELS)


def ways() -> list[Any]:
    """Return all of them; a recipe hangs on the method and the level, hiding on the level."""
    every = itertools.product(METHODS, LEVELS, HIDING)
    return [
        pytest.param(*way, marks=() if way[0] == "head" or way[2] == "auto" else pytest.mark.slow)
        for way in every
    ]


@pytest.mark.long
@pytest.mark.sample(2)
@pytest.mark.parametrize(("method", "level", "hiding"), ways())
def test_every_recipe_composes_with_every_way_of_hiding_that_fits(
    method: str, level: str, hiding: str
) -> None:
    args = (f"train={method}", f"privacy={level}", f"secagg={hiding}")
    if level in SHARED and hiding in ("off", "seal"):
        with pytest.raises(ConfigError, match="needs secagg=on"):
            scenario(*args)
        return
    if (method, level) == ("means", "site"):  # a site's whole update is no sum of its rows'
        with pytest.raises(ConfigError, match="needs another privacy than site"):
            scenario(*args)
        return
    proposal = scenario(*args).proposal
    expected = ("on" if level in SHARED else "off") if hiding == "auto" else hiding
    trained = "head" if method == "means" else method
    assert (proposal.secrecy, proposal.train.method) == (expected, trained)


@pytest.mark.long
@pytest.mark.sample(1)
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("hiding", ["on", "auto"])
def test_a_gathered_job_is_complete(level: str, hiding: str) -> None:
    args = ("debug=fast", "train=head", f"privacy={level}", f"secagg={hiding}")
    job = gather(scenario(*args)).job
    assert Job.from_json(job.json) == job
    secagg = job.secagg.sums
    if secagg is None:
        assert job.secagg.mode == "off"
        return
    numbers = (secagg.colluders, secagg.survivors, secagg.threshold)
    assert numbers == (1, 4, 4)
    assert secagg.bits in (24, 28, 32)
    if job.privacy.shared:
        plan = plan_of(job)
        assert (plan.survivors, plan.honest) == (4, 3)
        assert SharedSum(job, plan, 100, 1).bits == secagg.bits
    else:
        assert PlainSum(job, 100).bits == secagg.bits
        assert (secagg.max_weight == 1) == job.privacy.private


@pytest.mark.slow
@pytest.mark.long
def test_the_same_scenario_gives_the_same_job() -> None:
    for level in SHARED:
        args = ("debug=fast", "train=head", f"privacy={level}")
        assert gather(scenario(*args)).job.sha256 == gather(scenario(*args)).job.sha256


@pytest.mark.parametrize(("sites", "expected"), [(3, (0, 3, 2)), (4, (1, 4, 3)), (10, (1, 8, 6))])
def test_what_is_null_follows_from_the_number_of_sites(sites: int, expected: Any) -> None:
    found = masked_sums(ProposedSecAgg(mode="on"), sites=sites)
    assert (found.colluders, found.survivors, found.threshold) == expected


def test_what_was_given_stays() -> None:
    asked: dict[str, Any] = {
        "colluders": 2,
        "survivors": 7,
        "threshold": 7,
        "bits": 28,
        "max_weight": 9,
    }
    found = masked_sums(ProposedSecAgg(mode="on", **asked), sites=10, max_weight=64, bits=32)
    assert {name: getattr(found, name) for name in asked} == asked


@pytest.mark.sample(4)
@pytest.mark.long
@pytest.mark.parametrize(
    ("args", "why"),
    [
        (["secagg=on", "federation.sites=2"], "needs 3 sites in a round"),
        (["secagg=on", "secagg.survivors=6"], "needs 6 sites in a round"),
        (["secagg=on", "secagg.colluders=2", "secagg.survivors=4"], "to be at least 3, got 4 - 2"),
        (["secagg=on", "secagg.threshold=3"], r"must be above \(sites \+ colluders\) / 2 = 3"),
        (["secagg=on", "secagg.threshold=5"], "must not be above secagg.survivors"),
        (["secagg=on", "secagg.bits=12"], "secagg.bits must be 16, 20, 24, 28, 32 or null"),
        (["secagg=on", "secagg.attempts=0"], "secagg.attempts must be at least 1"),
        (["secagg=on", "secagg.range=0"], "secagg.range must be > 0"),
        (["secagg=on", "secagg.rnage=1"], "range"),
        (["secagg=on", "secagg.overflow=wrap"], "overflow"),
        (["secagg=on", "federation.fraction=0.4"], "needs 3 sites in a round"),
        (["privacy=distributed", "train.steps=2"], "train.rounds=4 train.steps=1"),
        (["privacy=distributed", "train.momentum=0.5"], "fedavgm"),
        (["privacy=distributed", "train.optimizer=adamw"], "fedadam"),
        (["privacy=distributed", "train.optimizer_state=keep"], "optimizer_state=reset"),
        (["privacy=distributed", "privacy.clipping=adaptive"], "adaptive releases a count"),
        (["privacy=distributed", "secagg=off"], "needs secagg=on, got secagg=off"),
        (["privacy=distributed", "secagg=seal"], "needs secagg=on, got secagg=seal"),
        (["privacy=distributed", "aggregation.weights=examples"], "weights=uniform"),
        (["privacy=distributed", "privacy.unit=site"], "unit=site and privacy.mechanism=site"),
        (["privacy=distributed", "privacy.delta=0.1"], "records of all sites together"),
        (["privacy=distributed", "federation.sites=2"], "needs 3 sites in a round"),
        (["privacy=site", "privacy.unit=record"], "go together"),
        (["privacy=site", "privacy.rate=0.5"], "must be 1 or null"),
        (["privacy=site", "privacy.evaluation=noised"], "evaluation=suppressed"),
        (["privacy=site", "privacy.clipping=per-layer"], "clipping=flat"),
        (["privacy=site", "train.optimizer=adamw-bc"], "adamw-bc corrects for noise"),
        (["privacy=site", "privacy.delta=0.3"], "must be below 1/sites"),
        (["privacy=site", "secagg=off"], "needs secagg=on"),
        (
            [
                "privacy=site",
                "secagg.bits=16",
                "privacy.epsilon=500",
                "federation.sites=40",
                "data.rows=2000",
            ],
            "secagg.bits=16 leave room",
        ),
    ],
)
def test_what_does_not_go_together_is_one_clear_error(args: list[str], why: str) -> None:
    with pytest.raises(ConfigError, match=why.replace(".", r"\.") if "\\" not in why else why):
        gather(scenario("debug=fast", "train=head", *args))


def test_a_job_from_outside_is_checked_as_strictly() -> None:
    good = summed(5)
    for privacy, train, why in [
        (Privacy(mechanism="distributed"), Train(steps=2, rounds=3), "train.rounds=6"),
        (Privacy(mechanism="distributed"), Train(steps=1, momentum=0.1), "takes the optimiser"),
    ]:
        with pytest.raises(ConfigError, match=why):
            make_job(privacy=privacy, train=train, secagg=good, federation=Federation(sites=5))
    with pytest.raises(ConfigError, match="spreads the noise over the sites"):
        make_job(privacy=Privacy(mechanism="distributed"), train=Train(steps=1))


def test_sums_go_with_secagg_on_and_only_with_it() -> None:
    with pytest.raises(ConfigError, match="go together, got mode=on without sums"):
        SecAgg(mode="on")
    with pytest.raises(ConfigError, match="go together, got mode=seal with sums"):
        SecAgg(mode="seal", sums=summed(10).sums)
    with pytest.raises(ConfigError, match="has no masked sums"):
        SecAgg(mode="off").masked  # noqa: B018
    assert summed(10).masked.honest == 7


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("unit", ["record", "patient"])
def test_distributed_takes_records_and_patients(unit: str) -> None:
    args = ("debug=fast", "train=head", "privacy=distributed", f"privacy.unit={unit}")
    assert gather(scenario(*args)).job.privacy.unit == unit
