import json
from typing import Any

import pytest

from fedmodel import config
from fedmodel.errors import ConfigError
from fedmodel.job import Job
from fedmodel.seeds import Seed


def test_a_job_survives_its_canonical_json() -> None:
    job = Job.from_mapping({"model": {"labels": ["a", "b"]}, "train": {"method": "ffa"}, "seed": 7})
    again = Job.from_mapping(json.loads(job.to_json()))
    assert again == job
    assert again.sha256 == job.sha256


def test_every_field_changes_the_name_of_the_job() -> None:
    plain = config.to_mapping(Job())

    def leaves(part: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
        found = []
        for key, value in part.items():
            inner = isinstance(value, dict)
            found += leaves(value, (*path, key)) if inner else [(*path, key)]
        return found

    names = {Job().sha256}
    changed = 0
    for path in leaves(plain):
        value = plain
        for key in path:
            value = value[key]
        if not isinstance(value, int | float) or isinstance(value, bool) or value == 0.0:
            continue
        mapping = json.loads(json.dumps(plain))
        part = mapping
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = value * 0.5 if isinstance(value, float) else value + 1
        names.add(Job.from_mapping(mapping).sha256)
        changed += 1
    assert len(names) == changed + 1


@pytest.mark.parametrize(
    ("mapping", "says"),
    [
        (
            {"privacy": {"mechanism": "dpsgd"}, "aggregation": {"weights": "examples"}},
            "DP promises",
        ),
        ({"train": {"rounds": 0}}, "train.rounds must be at least 1, got 0"),
        ({"privacy": {"epsilon": -1}}, "privacy.epsilon must be > 0"),
        ({"model": {"source": "hub"}}, "model.path=<hub id or folder>"),
        ({"model": {"labels": ["a", "a"]}}, "must differ"),
        ({"federation": {"quorum": 0}}, "federation.quorum must be in (0, 1]"),
        ({"train": {"methd": "lora"}}, "did you mean 'method'?"),
        ({"format": "fedmodel.job/2"}, "isn't a choice"),
    ],
)
def test_impossible_jobs_are_refused_with_the_fix(mapping: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Job.from_mapping(mapping)
    assert says in str(caught.value)


def test_seeds_are_a_tree_without_collisions() -> None:
    paths: list[tuple[str | int, ...]] = [("a",), ("a", "b"), ("ab",), ("1",), (1,), ("a", 1)]
    values = {Seed(0).child(*path).value for path in paths} | {Seed(1).child("a").value}
    assert len(values) == len(paths) + 1
    assert Seed(0).child("a").numpy().random() == Seed(0).child("a").numpy().random()
