"""Every YAML in conf/ composes into a valid scenario."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedmodel import cli
from fedmodel._paths import conf_dir
from fedmodel.agreement import Facts, complete
from fedmodel.job import Job, Performance
from simulations.scenario import Scenario

CONF = conf_dir()
NEEDS = {
    "data=csv": ["data.train=x.csv"],
    "data=jsonl": ["data.train=x.jsonl"],
    "data=parquet": ["data.train=x.parquet"],
    "data=excel": ["data.train=x.xlsx"],
    "data=folder": ["data.train=x"],
    "data=hub": ["data.train=a/b"],
    "model=hub": ["model.path=a/b"],
}
CHOICES = sorted(
    f"{p.parent.name}={p.stem}" for p in CONF.glob("*/*.yaml") if p.parent.name != "recipe"
)


def job(*overrides: str) -> Job:
    """Return the job that the command line makes where five sites have 400 rows each."""
    scenario = Scenario.from_mapping(cli.compose("simulate", list(overrides)))
    facts = Facts(labels=("a", "b"), weights="0" * 64, units=(400,) * 5, rows=400, public_test=True)
    return complete(scenario.proposal, facts)


@pytest.mark.sample(2)
@pytest.mark.long
@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_composes(choice: str) -> None:
    assert len(job(choice, *NEEDS.get(choice, [])).sha256) == 64


NAMING = {"kind", "source", "method", "start", "mechanism", "unit", "mode", "optimizer"}


def flat(mapping: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    return {
        key: value
        for name, child in mapping.items()
        for key, value in (
            flat(child, f"{prefix}{name}.")
            if isinstance(child, dict)
            else {f"{prefix}{name}": child}
        ).items()
    }


# Those of a policy say every rule: they are what a site's file begins with.
@pytest.mark.parametrize("choice", [c for c in CHOICES if not c.startswith(("debug", "policy"))])
def test_a_choice_says_only_what_differs_from_the_keys(choice: str) -> None:
    keys = yaml.safe_load((CONF / "keys.yaml").read_text())
    for name, more in yaml.safe_load((CONF / "rows.yaml").read_text()).items():
        keys[name] = {**keys.get(name, {}), **more}
    group, _, name = choice.partition("=")
    said = yaml.safe_load((CONF / group / f"{name}.yaml").read_text())
    said.pop("defaults", None)
    usual = flat(keys[{"noise": "train"}.get(group, group)])
    for key, value in flat(said).items():
        assert key in usual
        assert key in NAMING or value != usual[key], f"{choice} repeats {key}"


def test_there_is_one_recipe_for_each_train_with_noise_in_its_steps() -> None:
    recipes = {p.stem for p in (CONF / "recipe").glob("*.yaml")}
    assert recipes == {f"{p.stem}_dpsgd" for p in (CONF / "train").glob("*.yaml")}


# (rounds, steps, batch_size, optimizer, lr, head_lr, lora.layers) by train and kind of privacy.
ALONE, NOISED = ("none", "site"), ("record", "patient", "distributed")
TRAINED = {
    ("lora", ALONE): (10, 5, 64, "sgd", 1.0, 10.0, [-1]),
    ("lora", NOISED): (10, 1, 512, "sgd", 10.0, 60.0, [-1]),
    ("ffa", ALONE): (10, 5, 64, "sgd", 1.0, 10.0, [-1]),
    ("ffa", NOISED): (10, 1, 512, "sgd", 10.0, 60.0, [-1]),
    ("full", ALONE): (10, 5, 64, "adamw", 5e-5, 0.001, None),
    ("full", NOISED): (10, 1, 512, "sgd", 0.2, 60.0, None),
    ("head", ALONE): (20, 10, 64, "sgd", 1.0, 3.0, None),
    ("head", NOISED): (20, 1, 512, "sgd", 1.0, 40.0, None),
    ("means", ALONE): (1, 1, 64, "sgd", 1.0, 10.0, None),
    ("means", NOISED): (1, 1, 512, "sgd", 1.0, 10.0, None),
}
CASES = [(m, level, row) for (m, levels), row in TRAINED.items() for level in levels]


@pytest.mark.long
@pytest.mark.sample(2)
@pytest.mark.parametrize(("method", "level", "row"), CASES)
def test_a_job_trains_as_measured(method: str, level: str, row: tuple[Any, ...]) -> None:
    rounds, steps, batch_size, optimizer, lr, head_lr, layers = row
    train = cli.compose("simulate", [f"train={method}", f"privacy={level}"])["train"]
    assert train == {
        "method": "head" if method == "means" else method,
        "start": "means" if method == "means" else "auto",
        "rounds": rounds,
        "steps": steps,
        "batch_size": batch_size,
        "physical_batch": 32,
        "optimizer": optimizer,
        "lr": lr,
        "head_lr": head_lr,
        "momentum": 0.0,
        "weight_decay": 0.0,
        "optimizer_state": "reset",
        "precision": "float32",
        "frozen": [],
        "gradient_checkpointing": False,
        "lora": {"rank": 4, "alpha": 4.0, "target_modules": None, "layers": layers},
    }


@pytest.mark.long
def test_neither_the_order_nor_a_default_of_train_and_privacy_matters() -> None:
    for one, other in (
        (["privacy=none", "train=full"], ["train=full", "privacy=none"]),
        (["train=head"], ["train=head", "privacy=record"]),
        (["privacy=none"], ["train=lora", "privacy=none"]),
        ([], ["train=lora", "privacy=record"]),
    ):
        assert cli.compose("simulate", one) == cli.compose("simulate", other)


def test_the_table_has_every_choice_of_train_and_privacy() -> None:
    methods = [p.stem for p in (CONF / "train").glob("*.yaml")]
    levels = [p.stem for p in (CONF / "privacy").glob("*.yaml")]
    assert sorted(case[:2] for case in CASES) == sorted(itertools.product(methods, levels))


@pytest.mark.slow
@pytest.mark.long
def test_debug_fast_makes_any_job_small() -> None:
    for choice in CHOICES:
        if choice.partition("=")[0] not in ("data", "model", "noise", "privacy", "train"):
            continue  # it shares no key with what debug=fast sets
        small = job(choice, "debug=fast", *NEEDS.get(choice, []))
        assert (small.total_steps, small.model.max_length) == (2, 32)


def test_there_is_no_code_in_the_configuration() -> None:
    for path in Path(CONF).rglob("*.yaml"):
        assert "_target_" not in path.read_text()


def test_a_model_path_alone_means_that_model() -> None:
    assert job("model.path=some/model").model.source == "hub"


def test_what_machines_care_for_is_asked_for_among_train_and_privacy() -> None:
    asked = ["train.physical_batch=7", "privacy.engine=hooks", "device=cpu"]
    proposal = Scenario.from_mapping(cli.compose("simulate", asked)).proposal
    assert proposal.performance == Performance(physical_batch=7, engine="hooks", device="cpu")
    assert job(*asked) == job()


def test_weights_follow_privacy() -> None:
    for level, weights in (("none", "examples"), ("record", "uniform")):
        assert job(f"privacy={level}").aggregation.weights == weights
