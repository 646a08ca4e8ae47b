"""Limits of a site's policy: each with more, as much and less than it allows."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.limits import Limits, exceeded
from clients.policy import Policy, SiteFacts, broken_rules, decide
from fedmodel.errors import ConfigError, RefusedError
from fedmodel.job import Aggregation, Job, Privacy, SecAgg, Train
from fedmodel.wire import decode_error
from tests.clients.test_app import PRIVATE, Talk
from tests.clients.test_circumstances import CASES as AROUND
from tests.examples import examples
from tests.jobs import make_job, summed

PLAIN = make_job(train=Train(method="lora", rounds=10, steps=4))
RECORD = Privacy(mechanism="dpsgd", epsilon=2.0, delta=1e-5, clip=0.5, rate=0.1)
JOB = replace(PLAIN, privacy=RECORD)
SEALED, SUMMED = replace(JOB, secagg=SecAgg(mode="seal")), replace(JOB, secagg=summed(6))


class Untouched:
    """Facts of a site that nobody may ask for."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the site's {name} was asked for")


def private(**changed: Any) -> Job:
    return replace(JOB, privacy=replace(RECORD, **changed))


def train(**changed: Any) -> Job:
    return replace(JOB, train=replace(JOB.train, **changed))


PATIENT = private(unit="patient")
WHOLE = replace(
    SUMMED,
    privacy=Privacy(mechanism="site", unit="site", rate=1.0, evaluation="suppressed"),
)

POOLED = replace(
    SUMMED, privacy=replace(RECORD, mechanism="distributed"), train=replace(PLAIN.train, steps=1)
)

COUNTED = replace(JOB, federation=replace(JOB.federation, test="held-out"))
BY_ROWS = replace(PLAIN, aggregation=Aggregation(weights="examples"))

# Limits → jobs that keep them, jobs that don't, and what the refusal says.
CASES: list[tuple[Limits, list[Job], list[Job], str]] = [
    (Limits(private=True), [JOB, SUMMED], [PLAIN], "policy.private=true, and .* privacy=none"),
    (Limits(secagg="on"), [SUMMED], [JOB], "policy.secagg=on, and .* secagg=off"),
    (Limits(secagg="on"), [WHOLE], [SEALED], "policy.secagg=on, and .* secagg=seal"),
    (Limits(secagg="seal"), [SEALED, SUMMED], [JOB], "policy.secagg=seal, and .* secagg=off"),
    (Limits(secagg="off"), [PLAIN, SEALED, SUMMED], [], ""),
    (
        Limits(epsilon=2.0),
        [JOB, private(epsilon=1.0)],
        [private(epsilon=2.001)],
        "policy.epsilon=2, and .* privacy.epsilon=2.001",
    ),
    (Limits(epsilon=1e9), [JOB], [PLAIN], "policy.epsilon=1e.09, and .* privacy=none"),
    (
        Limits(delta=1e-5),
        [JOB, private(delta=1e-6)],
        [private(delta=2e-5)],
        "policy.delta=1e-05, and .* privacy.delta=2e-05",
    ),
    (Limits(delta=0.5), [JOB], [PLAIN], "policy.delta=0.5, and .* privacy=none"),
    (
        Limits(clip=0.5),
        [JOB, PLAIN, private(clip=0.25)],
        [private(clip=0.75)],
        "policy.clip=0.5, and .* privacy.clip=0.75",
    ),
    (
        Limits(clip=1e9),
        [JOB],
        [private(clipping="adaptive")],
        "policy.clip=1e.09, and .* privacy.clipping=adaptive",
    ),
    (
        Limits(rounds=10),
        [JOB, PLAIN, train(rounds=9)],
        [train(rounds=11)],
        "policy.rounds=10, and .* train.rounds=11",
    ),
    (
        Limits(steps=4),
        [JOB, PLAIN, train(steps=3)],
        [train(steps=5)],
        "policy.steps=4, and .* train.steps=5",
    ),
    (
        Limits(train=("head", "lora")),
        [JOB, train(method="head")],
        [train(method="full"), train(method="ffa")],
        r"policy.train=\[head,lora\], and .* train.method=",
    ),
    (
        Limits(units=("patient", "site")),
        [PATIENT, WHOLE, PLAIN],
        [JOB],
        r"policy.units=\[patient,site\], and .* privacy.unit=record",
    ),
    (
        Limits(mechanisms=("dpsgd", "site")),
        [JOB, WHOLE],
        [PLAIN, POOLED],
        r"policy.mechanisms=\[dpsgd,site\], and .* privacy.mechanism=(none|distributed)",
    ),
    (
        Limits(counts=()),
        [JOB, PLAIN, SUMMED],
        [COUNTED, private(clipping="adaptive"), BY_ROWS],
        r"policy.counts=\[\], and .* \(counts: (evaluation|clipping|rows)\)",
    ),
    (
        Limits(counts=("evaluation",)),
        [JOB, COUNTED, replace(COUNTED, privacy=replace(RECORD, evaluation="suppressed"))],
        [private(clipping="adaptive"), BY_ROWS],
        r"policy.counts=\[evaluation\], and .* (privacy.clipping|aggregation.weights)=",
    ),
    (
        Limits(counts=("clipping", "rows")),
        [JOB, BY_ROWS, private(clipping="adaptive")],
        [COUNTED],
        r"policy.counts=\[clipping,rows\], and .* privacy.evaluation=noised",
    ),
]


@pytest.mark.parametrize(("limits", "kept", "broken", "says"), CASES)
def test_a_job_within_a_limit_is_taken_and_one_beyond_it_refused(
    limits: Limits, kept: list[Job], broken: list[Job], says: str
) -> None:
    for job in kept:
        assert list(exceeded(job, limits)) == []
    for job in broken:
        with pytest.raises(RefusedError, match=f"(?s)this site's policy allows {says}") as caught:
            decide(job, Policy(limits=limits))
        assert "ask the site's operator" in str(caught.value)
        rule = str(caught.value.rule)
        assert rule.startswith("policy.")
        assert ": asked " in rule
        assert ", allowed " in rule


def test_every_limit_has_a_case() -> None:
    default = Limits()
    tried = {
        each.name
        for limits, broken in [
            *((limits, broken) for limits, _, broken, _ in CASES),
            *((limits, broken) for limits, _, broken, _ in AROUND),
        ]
        if broken
        for each in fields(Limits)
        if getattr(limits, each.name) != getattr(default, each.name)
    }
    assert tried == {each.name for each in fields(Limits)}


def test_all_broken_limits_are_named() -> None:
    limits = Limits(private=True, secagg="on", epsilon=1.0, rounds=1, train=("head",))
    known = SiteFacts(name="north", declared=Untouched())  # type: ignore[arg-type]
    names = []
    for broken in broken_rules(PLAIN, Policy(limits=limits), known):
        names.append(broken.rule)
        if len(names) == 5:
            break
    assert names == [f"policy.{n}" for n in ("private", "secagg", "epsilon", "rounds", "train")]


@pytest.mark.parametrize(
    "limits",
    [{"epsilon": 0.0}, {"delta": -1e-5}, {"clip": 0.0}, {"rounds": 0}, {"steps": -1}]
    + [{name: ()} for name in ("train", "units", "mechanisms")]
    + [{"private": True, "mechanisms": ("none",)}],
)
def test_a_limit_that_no_job_keeps_is_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="policy"):
        Limits(**limits)


SOME_JOBS = st.builds(
    lambda mechanism, mode, epsilon, rounds, method: replace(
        PLAIN,
        privacy=replace(RECORD, epsilon=epsilon) if mechanism else Privacy(),
        secagg=summed(6) if mode == "on" else SecAgg(mode=mode),
        train=replace(PLAIN.train, rounds=rounds, method=method),
    ),
    st.booleans(),
    st.sampled_from(["off", "seal", "on"]),
    st.floats(0.1, 10),
    st.integers(1, 20),
    st.sampled_from(["head", "lora", "ffa", "full"]),
)
SOME_LIMITS = st.builds(
    Limits,
    private=st.booleans(),
    secagg=st.sampled_from(["off", "seal", "on"]),
    epsilon=st.one_of(st.none(), st.floats(0.1, 10)),
    rounds=st.one_of(st.none(), st.integers(1, 20)),
    train=st.one_of(st.none(), st.just(("head",)), st.just(("lora", "full"))),
)


@pytest.mark.long
@settings(max_examples=examples(200))
@given(SOME_JOBS, SOME_LIMITS)
def test_no_job_that_breaks_a_limit_is_taken_and_no_other_is_refused(
    job: Job, limits: Limits
) -> None:
    order = ["off", "seal", "on"]
    fits = (
        (job.privacy.private or not (limits.private or limits.epsilon is not None))
        and order.index(job.secagg.mode) >= order.index(limits.secagg)
        and (limits.epsilon is None or job.privacy.epsilon <= limits.epsilon)
        and (limits.rounds is None or job.train.rounds <= limits.rounds)
        and (limits.train is None or job.train.method in limits.train)
    )
    assert (list(exceeded(job, limits)) == []) is fits


def test_a_refusal_travels_and_costs_nothing(tmp_path: Path) -> None:
    talk = Talk(tmp_path, limits=Limits(secagg="seal", epsilon=1.0))
    reply = talk.join(PRIVATE)
    assert reply.has_error()
    told = decode_error(reply.error)
    assert told.reason.startswith("this site's policy allows policy.secagg=seal, and the job asks")
    assert not told.budget
    assert not talk.site.ledger_file.exists()
    assert talk.app.work(77, 5).rule == "policy.secagg: asked secagg=off, allowed seal"


def test_the_sites_people_are_not_asked_about_what_its_policy_rules_out(tmp_path: Path) -> None:
    talk = Talk(tmp_path, limits=Limits(epsilon=1.0), approval="each")
    assert "policy.epsilon=1" in str(talk.join(PRIVATE).error.reason)
    assert talk.site.approvals.all() == []
    within = replace(PRIVATE, privacy=replace(PRIVATE.privacy, epsilon=1.0))
    assert "waits for the approval" in str(talk.join(within).error.reason)
    assert len(talk.site.approvals.all()) == 1


def test_rules_about_the_job_alone_are_asked_without_facts() -> None:
    decide(replace(JOB, secagg=summed(3)), Policy())  # its floors would need the roster
    with pytest.raises(RefusedError, match=r"policy\.rounds=9"):
        decide(JOB, Policy(limits=Limits(rounds=9)))
