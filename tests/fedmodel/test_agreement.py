"""From a proposal and public facts to the one job: what is open is filled in, and nothing else."""

import dataclasses
from fractions import Fraction
from typing import Any

import pytest

from fedmodel import config
from fedmodel.agreement import Facts, complete, public_delta, public_rate
from fedmodel.errors import ConfigError, PrivacyError
from fedmodel.job import (
    Federation,
    Model,
    Performance,
    Privacy,
    Proposal,
    ProposedAggregation,
    ProposedFederation,
    ProposedModel,
    ProposedPrivacy,
    ProposedSecAgg,
    SecAgg,
    Train,
)
from tests.jobs import NO_WEIGHTS

FACTS = Facts(
    labels=("a", "b"), weights=NO_WEIGHTS, units=(40, 60, 50, 30, 70), rows=70, public_test=True
)
STEP = Train(rounds=4, steps=1, batch_size=16)
# A null that means something, and isn't a gap.
MEANT = {
    ("model", "path"),
    ("model", "revision"),
    ("train", "lora", "target_modules"),
    ("train", "lora", "layers"),
    ("federation", "patience"),
    ("secagg", "sums"),
}


def nulls(part: Any, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    if isinstance(part, dict):
        return {found for key, value in part.items() for found in nulls(value, (*path, key))}
    return {path} if part is None else set()


def facts(**change: Any) -> Facts:
    return dataclasses.replace(FACTS, **change)


def shared(kind: str = "distributed", **change: Any) -> ProposedPrivacy:
    given: dict[str, Any] = {"mechanism": kind, "delta": 1e-4, **change}
    if kind == "site":
        given |= {"unit": "site", "evaluation": "suppressed", "delta": change.get("delta", 1e-3)}
    return ProposedPrivacy(**given)


PROPOSALS = [
    Proposal(),
    Proposal(aggregation=ProposedAggregation(weights="auto"), secagg=ProposedSecAgg(mode="on")),
    Proposal(privacy=ProposedPrivacy(mechanism="dpsgd"), secagg=ProposedSecAgg(mode="seal")),
    Proposal(privacy=shared(), train=STEP, secagg=ProposedSecAgg(mode="auto")),
    Proposal(privacy=shared("site"), secagg=ProposedSecAgg(mode="auto")),
]


@pytest.mark.sample(4)
@pytest.mark.long
@pytest.mark.parametrize("proposal", PROPOSALS)
@pytest.mark.parametrize("public", [True, False])
def test_the_same_proposal_and_facts_make_the_same_job_without_a_gap(
    proposal: Proposal, public: bool
) -> None:
    before = config.canonical(proposal)
    one, other = (complete(proposal, facts(public_test=public)) for _ in "ab")
    assert one is not other
    assert (one, one.json, one.sha256) == (other, other.json, other.sha256)
    assert config.canonical(proposal) == before
    found = nulls(config.to_mapping(one))
    assert found <= MEANT
    assert (("secagg", "sums") in found) == (one.secagg.mode != "on")
    assert "auto" not in (one.secagg.mode, one.aggregation.weights)
    assert one.federation == Federation(sites=5, test="public" if public else "held-out")
    means = one.train.start == "means"
    open_ = proposal.train.start == "auto"
    assert means == (open_ and (one.train.steps == 1 or not one.privacy.private))
    assert (one.weights, one.model) == (NO_WEIGHTS, Model(labels=("a", "b"), head_bias=means))
    asked = {f.name: getattr(proposal.train, f.name) for f in dataclasses.fields(proposal.train)}
    assert one.train == Train(**{**asked, "start": one.train.start})


def test_what_was_asked_for_stays_and_machines_have_no_say() -> None:
    asked = Proposal(
        model=ProposedModel(labels=("b", "a", "c"), max_length=9),
        privacy=ProposedPrivacy(mechanism="dpsgd", rate=0.3, clip=0.7),
        federation=ProposedFederation(sites=5, patience=2, fraction=0.8),
        seed=7,
    )
    job = complete(asked, FACTS)
    assert job.model == Model(labels=("b", "a", "c"), max_length=9)
    assert job.train.start == "zero"  # several private steps a round
    assert job.privacy == Privacy(mechanism="dpsgd", rate=0.3, clip=0.7)
    assert job.federation == Federation(sites=5, patience=2, fraction=0.8)
    assert job.seed == 7
    other = dataclasses.replace(asked, performance=Performance(physical_batch=3, engine="hooks"))
    assert complete(other, FACTS).sha256 == job.sha256
    assert complete(asked, facts(weights="1" * 64)).sha256 != job.sha256


def test_the_rate_is_public_and_only_where_it_is_needed() -> None:
    def rate(privacy: ProposedPrivacy, train: Train = STEP) -> float:
        secagg = ProposedSecAgg(mode="auto")
        return complete(Proposal(privacy=privacy, train=train, secagg=secagg), FACTS).privacy.rate

    assert public_rate(16, FACTS.units) == 0.32
    assert rate(ProposedPrivacy(mechanism="dpsgd")) == rate(shared()) == 0.32
    assert rate(ProposedPrivacy()) == rate(shared("site")) == 1.0


@pytest.mark.parametrize(
    ("proposal", "known", "says"),
    [
        (Proposal(federation=ProposedFederation(sites=4)), {}, "sites=4, but 5 sites take part"),
        (
            Proposal(federation=ProposedFederation(patience=1)),
            {"public_test": False},
            "give data.test=PATH or leave patience null",
        ),
        (Proposal(model=ProposedModel(labels=("a", "c"))), {}, r"\['b'\] aren't among"),
        (Proposal(secagg=ProposedSecAgg(mode="on")), {"units": (9, 9)}, "needs 3 sites in a round"),
        (
            Proposal(secagg=ProposedSecAgg(mode="on"), federation=ProposedFederation(fraction=0.4)),
            {},
            "needs 3 sites in a round",
        ),
        # Below 1/units at every site, and not of all their units together.
        (
            Proposal(privacy=shared(delta=0.005), train=STEP, secagg=ProposedSecAgg(mode="on")),
            {},
            "records of all sites together",
        ),
        (
            Proposal(privacy=shared("site", delta=0.2), secagg=ProposedSecAgg(mode="on")),
            {},
            "must be below 1/sites, and there are 5",
        ),
    ],
)
def test_what_cant_be_met_is_one_clear_error(
    proposal: Proposal, known: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        complete(proposal, facts(**known))


def test_the_noise_of_a_sum_is_planned_with_the_evaluation_where_one_is_published() -> None:
    asked = Proposal(
        privacy=shared(evaluation_noise=0.1), train=STEP, secagg=ProposedSecAgg(mode="on")
    )
    complete(asked, FACTS)
    with pytest.raises(PrivacyError):
        complete(asked, facts(public_test=False))


def test_delta_of_sites_by_themselves_isnt_held_against_all_units() -> None:
    alone = Proposal(privacy=ProposedPrivacy(mechanism="dpsgd", delta=0.005))
    assert complete(alone, FACTS).privacy.delta == 0.005


@pytest.mark.parametrize("count", [1, 7, 999, 1000, 1001, 9999, 10_000, 12_345, 10**6, 3 * 10**9])
def test_a_delta_by_itself_is_the_largest_of_one_digit_below_a_tenth(count: int) -> None:
    delta = public_delta(count)
    mantissa, _, power = f"{delta:.0e}".partition("e")
    assert float(f"{mantissa}e{power}") == delta  # one digit
    assert Fraction(str(delta)) * 10 * count < 1
    following = Fraction(str(delta)) + Fraction(10) ** int(power)
    assert delta == 1e-4 or following * 10 * count >= 1


@pytest.mark.sample(2)
@pytest.mark.long
@pytest.mark.parametrize(
    ("privacy", "expected"),
    [
        ({"mechanism": "dpsgd"}, 8e-6),  # the largest site decides
        ({"mechanism": "distributed"}, 7e-6),  # all sites are one pool
        ({"mechanism": "site", "unit": "site", "evaluation": "suppressed"}, 1e-4),
        ({"mechanism": "none"}, 1e-5),
    ],
)
def test_a_delta_that_is_left_open_follows_from_the_sites_sizes(
    privacy: dict[str, Any], expected: float
) -> None:
    units = (12_000, 300, 400, 500, 600)
    secagg = ProposedSecAgg(mode="auto")
    asked = Proposal(privacy=ProposedPrivacy(delta=None, **privacy), train=STEP, secagg=secagg)
    assert complete(asked, facts(units=units, rows=12_000)).privacy.delta == expected


def test_a_delta_too_large_for_the_largest_site_is_told_before_anything_is_loaded() -> None:
    asked = Proposal(privacy=ProposedPrivacy(mechanism="dpsgd", delta=1e-4), train=STEP)
    with pytest.raises(ConfigError, match=r"the largest has 12000; .*=null\), and it is 8e-06"):
        complete(asked, facts(units=(12_000, 300, 400, 500, 600), rows=12_000))


@pytest.mark.parametrize(("malicious", "fraction"), [(2, 1.0), (1, 0.8)])
def test_krum_of_too_few_sites_is_refused(malicious: int, fraction: float) -> None:
    asked = Proposal(
        aggregation=ProposedAggregation(optimizer="krum", malicious=malicious),
        federation=ProposedFederation(fraction=fraction),
    )
    with pytest.raises(ConfigError, match=r"needs \d sites in a round \(2·malicious \+ 3\), got"):
        complete(asked, FACTS)
    enough = ProposedAggregation(optimizer="krum", malicious=1)
    complete(Proposal(aggregation=enough), FACTS)


@pytest.mark.parametrize(
    ("mechanism", "optimizer", "weights"),
    [
        ("none", "fedavg", "examples"),
        ("none", "krum", "uniform"),
        ("none", "fedmedian", "uniform"),
        ("dpsgd", "fedavg", "uniform"),
    ],
)
def test_weights_by_themselves(mechanism: Any, optimizer: Any, weights: str) -> None:
    aggregation = ProposedAggregation(optimizer=optimizer, weights="auto")
    asked = Proposal(privacy=ProposedPrivacy(mechanism=mechanism), aggregation=aggregation)
    assert asked.weights == complete(asked, FACTS).aggregation.weights == weights


@pytest.mark.parametrize(("weights", "bits", "most"), [("uniform", 32, 1), ("auto", 32, 128)])
@pytest.mark.parametrize("asked", [None, 28])
def test_the_numbers_of_a_sum(weights: Any, bits: int, most: int, asked: int | None) -> None:
    secagg = ProposedSecAgg(mode="on", bits=asked)
    proposal = Proposal(secagg=secagg, aggregation=ProposedAggregation(weights=weights))
    sums = complete(proposal, FACTS).secagg.masked
    assert (sums.colluders, sums.survivors, sums.threshold) == (1, 4, 4)
    assert (sums.bits, sums.max_weight) == (asked or bits, most)


@pytest.mark.parametrize(("mode", "made"), [("off", "off"), ("seal", "seal"), ("auto", "off")])
def test_without_sums_there_are_no_numbers(mode: Any, made: Any) -> None:
    asked = Proposal(secagg=ProposedSecAgg(mode=mode, survivors=9))
    assert complete(asked, FACTS).secagg == SecAgg(mode=made)
