import dataclasses
import json
from typing import Any

import pytest

from fedmodel import config
from fedmodel.accounting.claims import MIN_DELTA
from fedmodel.errors import ConfigError
from fedmodel.job import (
    Federation,
    Job,
    MaskedSums,
    Performance,
    Privacy,
    Proposal,
    ProposedPrivacy,
    ProposedSecAgg,
    SecAgg,
    Train,
)
from fedmodel.job.privacy import _LEAST_DELTA
from fedmodel.seeds import Seed
from tests.jobs import NO_WEIGHTS, make_job, summed

REQUIRED: dict[str, Any] = {
    "format": "fedmodel.job/2",
    "model": {"labels": ["a", "b"]},
    "weights": NO_WEIGHTS,
}


def test_a_job_survives_its_canonical_json() -> None:
    job = make_job(train=Train(method="ffa"), seed=7, secagg=SecAgg(mode="seal"))
    for again in (Job.from_mapping(json.loads(job.json)), Job.from_json(job.json)):
        assert again == job
        assert again.sha256 == job.sha256 == config.sha256(job.json)
        assert hash(again) == hash(job)
    with_sums = make_job(secagg=summed(5), federation=Federation(sites=5))
    assert Job.from_json(with_sums.json) == with_sums


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"null", b"[" * 9999, b"\xff", b"\xef\xbb\xbf{}"]
)
def test_what_isnt_a_jobs_json_is_refused(text: bytes) -> None:
    with pytest.raises(ConfigError):
        Job.from_json(text)


def test_a_jobs_json_has_one_form_only() -> None:
    good = make_job().json
    for bad in (
        good + b" ",
        good.replace(b'"seed":0', b'"seed":0.0'),
        good.replace(b'"seed":0', b'"seed": 0'),
        good.replace(b',"seed":0', b""),  # a default must be written out, and isn't filled in
        json.dumps(json.loads(good)).encode(),
    ):
        assert bad != good
        with pytest.raises(ConfigError, match=r"canonical JSON|seed must be|lacks seed"):
            Job.from_json(bad)


def leaves(part: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for key, value in part.items():
        inner = isinstance(value, dict)
        found += leaves(value, (*path, key)) if inner else [(*path, key)]
    return found


@pytest.mark.parametrize("whole", [make_job(), make_job(secagg=summed(5))])
def test_every_field_changes_the_name_of_the_job(whole: Job) -> None:
    plain = config.to_mapping(whole)
    names = {whole.sha256}
    changed = 0
    for path in leaves(plain):
        value = plain
        for key in path:
            value = value[key]
        if not isinstance(value, int | float) or isinstance(value, bool) or value == 0.0:
            continue
        if path[-1] == "bits":
            other: Any = 32
        elif path[-1] in ("survivors", "threshold", "colluders"):
            other = {"survivors": 5, "threshold": 3, "colluders": 0}[path[-1]]
        elif path == ("federation", "fraction"):
            other = 0.9  # of five sites still five
        elif path == ("privacy", "rate"):
            other = 0.5
        else:
            other = value * 0.5 if isinstance(value, float) else value + 1
        mapping = json.loads(json.dumps(plain))
        part = mapping
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = other
        names.add(Job.from_mapping(mapping).sha256)
        changed += 1
    assert changed > 20
    assert len(names) == changed + 1
    assert dataclasses.replace(whole, weights="1" * 64).sha256 not in names


def test_a_machines_affairs_are_no_part_of_the_job() -> None:
    own = {field.name for field in dataclasses.fields(Performance)}
    assert own == {"physical_batch", "engine", "gradient_checkpointing", "device"}
    named = {key for path in leaves(config.to_mapping(make_job(secagg=summed(5)))) for key in path}
    assert not own & named
    for part, key in (("train", "physical_batch"), ("privacy", "engine")):
        with pytest.raises(ConfigError, match=f"unknown key '{part}.{key}'"):
            Job.from_mapping(REQUIRED | {part: {key: 1}})


def test_the_name_is_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    real = config.canonical

    def counted(value: Any) -> bytes:
        made.append(value)
        return real(value)

    monkeypatch.setattr(config, "canonical", counted)
    one, other = make_job(seed=1), make_job(seed=1)
    assert one.sha256 == one.sha256 == one.sha256
    assert (one.json, len(made)) == (one.json, 1)
    assert made[0] is one
    # Another object works out its own; a changed copy doesn't keep the old one's.
    assert other.sha256 == one.sha256
    assert len(made) == 2
    assert dataclasses.replace(one, seed=2).sha256 != one.sha256
    assert len(made) == 3


def test_a_job_and_its_parts_never_change() -> None:
    job = make_job()
    with pytest.raises(dataclasses.FrozenInstanceError):
        job.seed = 3  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        job.privacy.rate = 0.5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("mapping", "says"),
    [
        (
            {"privacy": {"mechanism": "dpsgd"}, "aggregation": {"weights": "examples"}},
            "DP promises",
        ),
        ({"train": {"rounds": 0}}, "train.rounds must be at least 1, got 0"),
        ({"privacy": {"epsilon": -1}}, "privacy.epsilon must be > 0"),
        ({"privacy": {"clip": 9e-7}}, "privacy.clip must be at least 1e-06, got 9e-07: gradients'"),
        ({"model": {"source": "hub"}}, "model.path=<hub id or folder>"),
        ({"model": {"labels": ["a", "a"]}}, "must differ"),
        ({"federation": {"quorum": 0}}, "federation.quorum must be in (0, 1]"),
        ({"train": {"methd": "lora"}}, "did you mean 'method'?"),
        ({"seed": 2**53}, "seed must be in [0, 2**53)"),
        ({"seed": -1}, "seed must be in [0, 2**53)"),
        ({"weights": "0" * 63}, "weights must be 64 digits of lower-case hex"),
        ({"weights": "A" * 64}, "weights must be 64 digits of lower-case hex"),
        ({"secagg": {"mode": "on"}}, "secagg.mode=on and secagg.sums go together"),
        ({"performance": {}}, "unknown key 'performance'"),
        # What a proposal may leave open, a job may not.
        ({"privacy": {"rate": None}}, "privacy.rate must be a number, got None"),
        ({"model": {"labels": None}}, "model.labels must be a list of text"),
        ({"federation": {"sites": None}}, "federation.sites must be a whole number"),
        ({"aggregation": {"weights": "auto"}}, "isn't a choice"),
        ({"secagg": {"mode": "auto"}}, "isn't a choice"),
        ({"secagg": {"mode": "on", "sums": {"colluders": 1}}}, "missing key"),
    ],
)
def test_impossible_jobs_are_refused_with_the_fix(mapping: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Job.from_mapping(REQUIRED | mapping)
    assert says in str(caught.value)


@pytest.mark.parametrize("format_", ["fedmodel.job/1", "fedmodel.job/3", "", None, 2])
def test_a_job_of_another_format_is_refused_by_its_name(format_: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        Job.from_mapping(REQUIRED | {"format": format_, "unheard": "of"})
    assert f"expected a job of format 'fedmodel.job/2', got {format_!r}" in str(caught.value)


@pytest.mark.parametrize("missing", ["format", "model", "weights"])
def test_what_a_job_must_say_is_missed(missing: str) -> None:
    mapping = {key: value for key, value in REQUIRED.items() if key != missing}
    with pytest.raises(ConfigError, match="got None" if missing == "format" else missing):
        Job.from_mapping(mapping)


@pytest.mark.parametrize(
    ("secagg", "says"),
    [
        ({"mode": "off", "sums": True}, "got mode=off with sums"),
        ({"mode": "seal", "sums": True}, "got mode=seal with sums"),
        ({"mode": "on"}, "got mode=on without sums"),
    ],
)
def test_sums_go_with_secure_sums_only(secagg: dict[str, Any], says: str) -> None:
    sums = summed(5).sums if secagg.pop("sums", False) else None
    with pytest.raises(ConfigError, match=says):
        SecAgg(**secagg, sums=sums)


def test_only_secure_sums_have_numbers() -> None:
    for mode in ("off", "seal"):
        hidden = SecAgg(mode=mode)
        assert not hidden.on
        with pytest.raises(ConfigError, match=f"secagg={mode} has no masked sums"):
            _ = hidden.masked
    on = summed(5)
    assert on.on
    assert on.masked is on.sums
    assert on.masked.honest == on.masked.survivors - on.masked.colluders == 3


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        ({"survivors": 3}, "at least 3, got 3 - 1"),
        ({"threshold": 5}, r"secagg.threshold \(5\) must not be above secagg.survivors"),
        ({"colluders": -1}, "secagg.colluders must be at least 0"),
        ({"attempts": 0}, "secagg.attempts must be at least 1"),
        ({"max_weight": 0}, "secagg.max_weight must be at least 1"),
        ({"bits": 25}, "secagg.bits must be 16, 20, 24, 28, 32"),
        ({"range": 0.0}, "secagg.range must be > 0"),
    ],
)
def test_the_numbers_of_sums_are_checked_in_a_job_too(numbers: dict[str, Any], says: str) -> None:
    good: dict[str, Any] = {"colluders": 1, "survivors": 4, "threshold": 4}
    MaskedSums(**good)
    with pytest.raises(ConfigError, match=says):
        MaskedSums(**good | numbers)


@pytest.mark.parametrize("method", ["head", "lora", "ffa", "full"])
def test_a_job_that_learns_nothing_is_refused(method: Any) -> None:
    """Its ε would be spent like any other's."""
    still: dict[str, Any] = {"lr": 0.0} if method == "head" else {"head_lr": 0.0}
    with pytest.raises(ConfigError, match=r"nothing would be learned with .*train\.head_lr=0"):
        Train(method=method, lr=0.0, head_lr=0.0)
    moving: dict[str, Any] = {"head_lr": 0.5} if method == "head" else {"lr": 0.5}
    Train(method=method, **still, **moving)


def test_a_delta_that_no_accountant_takes_is_refused_before_anything_is_loaded() -> None:
    assert _LEAST_DELTA == MIN_DELTA
    for kind in (Privacy, ProposedPrivacy):
        kind(mechanism="dpsgd", delta=MIN_DELTA)
        with pytest.raises(ConfigError, match=r"delta must be at least 1e-12, got 1e-18"):
            kind(mechanism="dpsgd", delta=1e-18)


@pytest.mark.parametrize(("fraction", "size"), [(1.0, 7), (0.5, 4), (0.01, 1)])
def test_a_cohort_is_rounded_up(fraction: float, size: int) -> None:
    assert Federation(sites=7, fraction=fraction).cohort == size


# -- what only a machine cares for ----------------------------------------------------------------


def test_an_engine_that_runs_backward_twice_is_gone() -> None:
    with pytest.raises(ConfigError, match=r"privacy\.engine=ghost.*use privacy\.engine=fast"):
        Performance(engine="ghost")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"privacy\.engine='ghost' isn't a choice"):
        Proposal.from_mapping({"privacy": {"engine": "ghost"}})


@pytest.mark.parametrize("mechanism", ["none", "dpsgd", "distributed"])
@pytest.mark.parametrize("engine", ["fast", "hooks"])
def test_checkpointing_goes_with_the_fast_engine_where_there_is_privacy(
    engine: Any, mechanism: Any
) -> None:
    asked, privacy = Performance(engine=engine, gradient_checkpointing=True), Privacy()
    asked.check(privacy)
    privacy = Privacy(mechanism=mechanism)
    if mechanism == "none" or engine == "fast":
        asked.check(privacy)
        return
    with pytest.raises(ConfigError, match=f"privacy.engine=fast, not with {engine}"):
        asked.check(privacy)
    dataclasses.replace(asked, gradient_checkpointing=False).check(privacy)


def test_a_proposal_is_refused_where_its_performance_cant_keep_it() -> None:
    secagg = ProposedSecAgg(mode="auto")
    with pytest.raises(ConfigError, match=r"privacy\.engine=fast, not with hooks"):
        Proposal(
            privacy=ProposedPrivacy(mechanism="dpsgd", unit="patient"),
            secagg=secagg,
            performance=Performance(engine="hooks", gradient_checkpointing=True),
        )
    with pytest.raises(ConfigError, match="physical_batch must be at least 1, got 0"):
        Performance(physical_batch=0)


@pytest.mark.parametrize(
    ("mapping", "says"),
    [
        ({"train": {"physical_batch": "x"}}, "train.physical_batch must be a whole number"),
        ({"train": {"physical_batch": 0}}, "train.physical_batch must be at least 1"),
        ({"train": {"gradient_checkpointing": 3}}, "train.gradient_checkpointing must be true or"),
        ({"privacy": {"engine": "hook"}}, "did you mean 'hooks'?"),
        ({"device": "tpu"}, "device must be auto, cpu or cuda, got 'tpu'"),
    ],
)
def test_a_wrong_wish_about_machines_is_named_where_it_was_written(
    mapping: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        Proposal.from_mapping(mapping)
    assert says in str(caught.value)


def test_seeds_are_a_tree_without_collisions() -> None:
    paths: list[tuple[str | int, ...]] = [("a",), ("a", "b"), ("ab",), ("1",), (1,), ("a", 1)]
    values = {Seed(0).child(*path).value for path in paths} | {Seed(1).child("a").value}
    assert len(values) == len(paths) + 1
    assert Seed(0).child("a").numpy().random() == Seed(0).child("a").numpy().random()


def test_survivors_of_a_sum_are_among_the_sites_of_a_round_not_of_the_job() -> None:
    sums = summed(6, survivors=5)
    make_job(secagg=sums, federation=Federation(sites=12, fraction=0.5))
    with pytest.raises(ConfigError, match="the sites in a round"):
        make_job(secagg=sums, federation=Federation(sites=12, fraction=0.25))


@pytest.mark.parametrize("sites", range(3, 30))
def test_the_threshold_that_is_left_open_is_the_least_that_is_safe(sites: int) -> None:
    sums = summed(sites).masked
    assert 2 * sums.threshold > sites + sums.colluders >= 2 * (sums.threshold - 1)
