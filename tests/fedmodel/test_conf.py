"""Every YAML in conf/ composes into a valid scenario."""

import itertools
from pathlib import Path

import pytest

from fedmodel import cli
from fedmodel._paths import conf_dir
from simulations.scenario import Scenario

CONF = conf_dir()
NEEDS = {
    "data=csv": ["data.train=x.csv"],
    "data=jsonl": ["data.train=x.jsonl"],
    "data=parquet": ["data.train=x.parquet"],
    "data=folder": ["data.train=x"],
    "data=hub": ["data.train=a/b"],
    "model=hub": ["model.path=a/b"],
}
CHOICES = sorted(
    f"{p.parent.name}={p.stem}" for p in CONF.glob("*/*.yaml") if p.parent.name != "recipe"
)


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_composes(choice: str) -> None:
    mapping = cli.compose("simulate", [choice, *NEEDS.get(choice, [])])
    scenario = Scenario.from_mapping(mapping)
    assert len(scenario.job.sha256) == 64


def test_every_recipe_is_reached_and_sets_known_keys() -> None:
    methods = sorted(p.stem for p in (CONF / "train").glob("*.yaml"))
    levels = sorted(p.stem for p in (CONF / "privacy").glob("*.yaml"))
    recipes = {p.stem for p in (CONF / "recipe").glob("*.yaml")}
    assert recipes == {f"{m}_{p}" for m, p in itertools.product(methods, levels)}
    for method, level in itertools.product(methods, levels):
        mapping = cli.compose("simulate", [f"train={method}", f"privacy={level}"])
        assert Scenario.from_mapping(mapping).job.train.method == method


def test_debug_fast_makes_any_job_small() -> None:
    for choice in CHOICES:
        if choice.startswith("debug"):
            continue
        mapping = cli.compose("simulate", [choice, "debug=fast", *NEEDS.get(choice, [])])
        assert Scenario.from_mapping(mapping).job.total_steps == 2


def test_there_is_no_code_in_the_configuration() -> None:
    for path in Path(CONF).rglob("*.yaml"):
        assert "_target_" not in path.read_text()


def test_a_model_path_alone_means_that_model() -> None:
    mapping = cli.compose("simulate", ["model.path=some/model"])
    assert Scenario.from_mapping(mapping).job.model.source == "hub"


def test_weights_follow_privacy() -> None:
    for level, weights in (("none", "examples"), ("record", "uniform")):
        mapping = cli.compose("simulate", [f"privacy={level}"])
        assert Scenario.from_mapping(mapping).job.aggregation.weights == weights
