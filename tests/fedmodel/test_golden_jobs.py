"""Jobs that were once written: every later version reads them, names them and plans them alike."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from fedmodel.accounting.planning import plan_of
from fedmodel.agreement import Facts, complete
from fedmodel.errors import ConfigError
from fedmodel.job import Job, Proposal

FILE = Path(__file__).parents[1] / "vectors" / "job_v2.json"
FACTS = Facts(
    labels=("a", "b", "c"),
    weights="5e" * 32,
    units=(900, 1100, 1300, 700, 1000),
    rows=1300,
    public_test=False,
)
ASKED: dict[str, dict[str, Any]] = {
    "plain": {"privacy": {"mechanism": "none"}, "aggregation": {"weights": "auto"}},
    "record": {"privacy": {"mechanism": "dpsgd"}, "train": {"batch_size": 64}},
    "patient, decaying": {
        "privacy": {"mechanism": "dpsgd", "unit": "patient", "decay": 0.5, "epsilon": 3.0},
        "train": {"method": "lora", "lora": {"layers": [-1]}, "steps": 1},
    },
    "plain sums by rows": {
        "secagg": {"mode": "on", "overflow": "refuse"},  # what was the default when it was written
        "aggregation": {"weights": "examples", "optimizer": "fedadam"},
    },
    "sealed": {"secagg": {"mode": "seal"}, "model": {"task": "multi-label-classification"}},
    "distributed": {
        "privacy": {"mechanism": "distributed", "adjacency": "replace"},
        "secagg": {"mode": "auto", "overflow": "refuse"},
        "train": {"steps": 1},
    },
    "site": {
        "privacy": {"mechanism": "site", "unit": "site", "evaluation": "suppressed"},
        "secagg": {"mode": "auto", "overflow": "refuse", "attempts": 3},
    },
}


def made(asked: dict[str, Any]) -> dict[str, Any]:
    # Before heads could start from means all started from zero, and no job said so.
    train = {"start": "zero", **asked.get("train", {})}
    job = complete(Proposal.from_mapping({**asked, "train": train}), FACTS)
    found: dict[str, Any] = {"job": job.json.decode(), "sha256": job.sha256}
    if job.privacy.private:
        found["noise_multiplier"] = plan_of(job).noise_multiplier
    return found


if os.environ.get("FEDMODEL_WRITE_VECTORS") == "job_v2":  # once, when the format was new
    whole = {name: made(asked) for name, asked in ASKED.items()}
    FILE.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

GOLDEN: dict[str, dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", GOLDEN)
def test_a_job_that_was_written_is_read_and_has_its_name(name: str) -> None:
    text = GOLDEN[name]["job"].encode()
    job = Job.from_json(text)
    assert job.json == text
    assert job.sha256 == GOLDEN[name]["sha256"]


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("name", [n for n in GOLDEN if "noise_multiplier" in GOLDEN[n]])
def test_its_plan_is_what_it_was(name: str) -> None:
    plan = plan_of(Job.from_json(GOLDEN[name]["job"].encode()))
    assert plan.noise_multiplier == pytest.approx(GOLDEN[name]["noise_multiplier"], rel=1e-9)


@pytest.mark.long
@pytest.mark.parametrize("name", ASKED)
def test_the_same_proposal_and_facts_still_make_it(name: str) -> None:
    assert made(ASKED[name])["job"] == GOLDEN[name]["job"]


@pytest.mark.parametrize("name", GOLDEN)
def test_nothing_in_it_is_open(name: str) -> None:
    """Null stands only where it is a meaning of its own."""
    meant = {"path", "revision", "patience", "target_modules", "layers", "sums"}

    def nulls(part: Any, key: str = "") -> set[str]:
        if isinstance(part, dict):
            return {k for name, value in part.items() for k in nulls(value, name)}
        return {key} if part is None else set()

    assert nulls(json.loads(GOLDEN[name]["job"])) <= meant


def test_a_job_of_another_format_is_refused_by_name() -> None:
    for other in ("fedmodel.job/1", "fedmodel.job/3", None, 2):
        mapping = json.loads(GOLDEN["plain"]["job"]) | {"format": other}
        with pytest.raises(ConfigError, match=r"format 'fedmodel\.job/2', got .*earlier version"):
            Job.from_mapping(mapping)


@pytest.mark.parametrize("name", GOLDEN)
def test_a_job_that_lacks_anything_is_none(name: str) -> None:
    """No default stands in for what was to be agreed on: not a rate, not a list of labels."""
    mapping = json.loads(GOLDEN[name]["job"])
    parts = [
        (part, key) for part in mapping if isinstance(mapping[part], dict) for key in mapping[part]
    ]
    for part, key in parts:
        less = json.loads(GOLDEN[name]["job"])
        del less[part][key]
        with pytest.raises(ConfigError):
            Job.from_mapping(less)
    with pytest.raises(ConfigError, match=r"lacks privacy\.rate"):
        Job.from_mapping(
            mapping | {"privacy": {k: v for k, v in mapping["privacy"].items() if k != "rate"}}
        )


def test_a_job_whose_parts_contradict_each_other_is_none() -> None:
    distributed = json.loads(GOLDEN["distributed"]["job"])
    distributed["federation"]["sites"] = 3
    with pytest.raises(ConfigError, match=r"secagg\.survivors can't be more"):
        Job.from_mapping(distributed)
    plain = json.loads(GOLDEN["plain"]["job"])
    with pytest.raises(ConfigError, match="must name the job's classes"):
        Job.from_mapping(plain | {"model": plain["model"] | {"labels": []}})
    with pytest.raises(ConfigError, match="stops early by a public test set"):
        Job.from_mapping(plain | {"federation": plain["federation"] | {"patience": 2}})
