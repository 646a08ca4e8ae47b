"""Keys that make no difference are refused by name; every other key makes one.

The tables name each key of the configuration: one that is added fails here until it says when it
counts.
"""

import copy
import functools
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedmodel import cli
from fedmodel.cli.composing import compose
from fedmodel.errors import ConfigError
from fedmodel.runs import RunFolder
from simulations.idle import check, idle
from simulations.scenario import Scenario

ROOT = Path(__file__).resolve().parents[2]
CSV = ["data=csv", "data.train=train.csv"]
HUB = ["data=hub", "data.train=a/b"]
NONE = ["privacy=none", "train=head"]
HEAD = ["train=head", "data.test_rows=0"]
DISTRIBUTED = ["train=head", "privacy=distributed"]
KRUM = ["aggregation=krum", "privacy=none"]
MULTI = ["model.task=multi-label-classification"]

# A key that needs something: a value, where it counts, and where it doesn't.
NEEDS: dict[str, tuple[str, list[str], list[str]]] = {
    "model.revision": ("abc", ["model=hub", "model.path=a/b"], []),
    "model.normalize": ("false", [], ["model.pooling=cls"]),
    "model.head_bias": ("true", [], ["model.pooling=cls"]),
    "data.train": ("b.csv", CSV, []),
    "data.test": ("b.csv", CSV, []),
    "data.name": ("x", HUB, CSV),
    "data.revision": ("x", HUB, CSV),
    "data.train_split": ("x", HUB, CSV),
    "data.test_split": ("x", HUB, CSV),
    "data.text": ("x", CSV, []),
    "data.label": ("x", CSV, []),
    "data.label_separator": ("x", [*CSV, *MULTI], CSV),
    "data.labels": ("[x]", [*CSV, *MULTI], CSV),
    "data.site": ("x", CSV, []),
    "data.patient": ("x", CSV, []),
    "data.missing": ("drop", CSV, []),
    "data.test_fraction": ("0.3", CSV, [*CSV, "data.test=b.csv"]),
    "data.rows": ("300", [], CSV),
    "data.test_rows": ("40", [], CSV),
    "data.style": ("templated", [], CSV),
    "train.lr": ("0.2", ["train=full"], ["train=head"]),
    "train.start": ("zero", ["train=head"], ["train=lora"]),
    "train.optimizer_state": ("keep", ["train.momentum=0.9"], []),
    "train.momentum": ("0.5", ["train.steps=2"], ["train.steps=1"]),
    "train.lora.rank": ("2", ["train=lora"], ["train=full"]),
    "train.lora.alpha": ("2", ["train=ffa"], ["train=head"]),
    "train.lora.target_modules": ("[query]", ["train=lora"], ["train=head"]),
    "train.lora.layers": ("[-1]", ["train=lora"], ["train=head"]),
    "privacy.unit": ("patient", [*CSV, "data.patient=x"], NONE),
    "privacy.adjacency": ("replace", [], NONE),
    "privacy.epsilon": ("3", [], NONE),
    "privacy.delta": ("1e-6", [], NONE),
    "privacy.clip": ("0.3", [], NONE),
    "privacy.rate": ("0.1", [], NONE),
    "privacy.rows_per_patient": ("3", ["privacy=patient"], []),
    "privacy.engine": ("hooks", [], NONE),
    "privacy.clipping": ("per-layer", [], NONE),
    "privacy.clip_quantile": ("0.4", ["privacy.clipping=adaptive"], []),
    "privacy.clip_rate": ("0.4", ["privacy.clipping=adaptive"], []),
    "privacy.clip_noise": ("8", ["privacy.clipping=adaptive"], []),
    "privacy.decay": ("0.5", [], ["train.rounds=1"]),
    "privacy.evaluation": ("suppressed", HEAD, []),
    "privacy.evaluation_noise": ("8", HEAD, [*HEAD, "privacy.evaluation=suppressed"]),
    "secagg.colluders": ("1", ["secagg=on"], ["secagg=seal"]),
    "secagg.survivors": ("4", ["secagg=on"], []),
    "secagg.threshold": ("4", ["secagg=on"], []),
    "secagg.attempts": ("1", DISTRIBUTED, []),
    "secagg.bits": ("28", DISTRIBUTED, []),
    "secagg.range": ("2", ["secagg=on"], DISTRIBUTED),
    "secagg.overflow": ("refuse", ["secagg=on"], DISTRIBUTED),
    "secagg.max_weight": ("900", ["secagg=on", *NONE], ["secagg=on"]),
    "aggregation.lr": ("0.1", ["aggregation=fedadam"], []),
    "aggregation.momentum": ("0.5", ["aggregation=fedavgm"], ["aggregation=fedadam"]),
    "aggregation.beta1": ("0.5", ["aggregation=fedadam"], ["aggregation=fedavgm"]),
    "aggregation.beta2": ("0.5", ["aggregation=fedadam"], []),
    "aggregation.tau": ("0.5", ["aggregation=fedadam"], []),
    "aggregation.malicious": ("0", KRUM, ["aggregation=fedmedian"]),
    "federation.alpha": ("2", ["federation.partition=dirichlet", "federation.sites=5"], []),
    "budget.epsilon": ("9", [], NONE),
    "budget.delta": ("1e-6", ["budget.epsilon=9"], []),
    "budget.run_epsilon": ("9", [], NONE),
    "budget.unit": ("patient", [], NONE),
    "budget.dataset": ("x", [], NONE),
    "floors.cohort": ("4", ["secagg=on"], []),
    "floors.survivors": ("4", ["secagg=on"], []),
    "floors.honest": ("4", ["secagg=on"], []),
    "floors.threshold": ("4", ["secagg=on"], []),
    "floors.colluders": ("1", ["secagg=on"], []),
}

# Keys of files of some kinds: what the source of the rows refuses by itself.
OF_FILES = {
    "data.separator": ("tab", CSV, ["data=jsonl", "data.train=a.jsonl"]),
    "data.encoding": ("cp1252", CSV, ["data=parquet", "data.train=a.parquet"]),
    "data.sheet": ("x", ["data=excel", "data.train=a.xlsx"], CSV),
    "data.train_only": (["x"], CSV, [*CSV, "data.test=b.csv"]),
}

# What counts always, with a value that shows it on made-up notes without privacy.
ALWAYS = {
    "model.task": "multi-label-classification",
    "model.source": "minilm",
    "model.path": "other",
    "model.pooling": "cls",
    "model.max_length": "6",
    "model.dropout": "0.3",
    "model.labels": "[a, b]",
    "data.kind": "csv",
    "train.method": "full",
    "train.rounds": "3",
    "train.steps": "2",
    "train.batch_size": "5",
    "train.optimizer": "adamw",
    "train.head_lr": "0.3",
    "train.weight_decay": "0.2",
    "train.precision": "bf16",
    "train.frozen": "[encoder.embeddings]",
    "privacy.mechanism": "dpsgd",
    "policy.private": "true",
    "policy.secagg": "seal",
    "policy.epsilon": "9",
    "policy.delta": "1e-4",
    "policy.clip": "3",
    "policy.rounds": "1",
    "policy.steps": "1",
    "policy.train": "[lora]",
    "policy.units": "[record, patient]",
    "policy.mechanisms": "[dpsgd]",
    "policy.counts": "[]",
    "policy.bases": f"[{'5a' * 32}]",
    "policy.code": "['0.0.1']",
    "policy.begins": "'2099-01-31'",
    "policy.ends": "'2026-01-31'",
    "policy.offers": "9",
    "secagg.mode": "seal",
    "aggregation.optimizer": "fedmedian",
    "aggregation.weights": "uniform",
    "federation.sites": "4",
    "federation.partition": "iid",
    "federation.fraction": "0.5",
    "federation.quorum": "1.0",
    "federation.below_quorum": "skip",
    "federation.exclude": "[site-1]",
    "federation.min_rows": "60",
    "federation.patience": "1",
    "seed": "3",
}
# Memory and time are theirs, and where things are kept.
MACHINE = (
    "device",
    "run",
    "purpose",
    "approval",
    "approvers",
    "needed",
    "resume",
    "state",
    "train.physical_batch",
    "train.gradient_checkpointing",
)


def leaves(part: Any, path: str = "") -> set[str]:
    if not isinstance(part, dict):
        return {path[:-1]}
    return {found for key, value in part.items() for found in leaves(value, f"{path}{key}.")}


@functools.cache  # it takes its time, and most keys stand in the same few configurations
def composed(overrides: tuple[str, ...]) -> dict[str, Any]:
    return compose("simulate", list(overrides))


def scenario(overrides: list[str], key: str = "", value: Any = None) -> Scenario:
    mapping = copy.deepcopy(composed(tuple(overrides)))
    if key:
        part = mapping
        *groups, name = key.split(".")
        for group in groups:
            part = part[group]
        part[name] = yaml.safe_load(value) if isinstance(value, str) else value
    return Scenario.from_mapping(mapping)


def test_every_key_says_when_it_counts() -> None:
    keys = yaml.safe_load((ROOT / "conf/keys.yaml").read_text())
    rows = yaml.safe_load((ROOT / "conf/rows.yaml").read_text())
    own = yaml.safe_load((ROOT / "conf/simulate.yaml").read_text())
    del own["defaults"]
    assert leaves(keys) | leaves(rows) | leaves(own) == {
        *NEEDS,
        *OF_FILES,
        *ALWAYS,
        *MACHINE,
    }


@pytest.mark.long
@pytest.mark.sample(2)
@pytest.mark.parametrize("key", list(NEEDS))
def test_a_key_without_effect_is_refused_and_one_with_it_isnt(key: str) -> None:
    value, counts, doesnt = NEEDS[key]
    check([scenario(counts, key, value)], [[key]])
    with pytest.raises(ConfigError, match=rf"^{key} has no effect on this job: .*Leave it out$"):
        check([scenario(doesnt, key, value)], [[key]])
    # In a sweep it has to count once.
    check([scenario(doesnt, key, value), scenario(counts, key, value)], [[key], [key]])


@pytest.mark.sample(2)
@pytest.mark.long
@pytest.mark.parametrize("key", list(OF_FILES))
def test_a_key_of_other_files_is_refused(key: str) -> None:
    value, counts, doesnt = OF_FILES[key]
    check([scenario(counts, key, value)], [[key]])
    with pytest.raises(ConfigError, match=rf"^{key} .*leave it out"):
        scenario(doesnt, key, value)


@pytest.mark.long
@pytest.mark.parametrize("key", [*ALWAYS, *MACHINE])
def test_what_counts_always_is_never_refused(key: str) -> None:
    for overrides in ([], NONE, DISTRIBUTED, CSV, ["train=full", "aggregation=fedadam"]):
        assert not list(idle(scenario(overrides), [key]))


@pytest.mark.long
def test_the_command_line_refuses_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["simulate", "train=head", "train.lr=3"]) == 2
    assert "train.lr has no effect on this job: with train=head" in capsys.readouterr().err
    assert cli.main(["simulate", "-m", "train=head,ffa", "privacy=none", "privacy.clip=1"]) == 2
    assert "privacy.clip has no effect" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


# -- what comes of it ------------------------------------------------------------------------------


def outcome(tmp_path: Path, overrides: list[str]) -> dict[str, Any]:
    """Return what a run brings, of what doesn't change from one run to the next."""
    run = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
    code = cli.main(["simulate", "debug=fast", *overrides, f"run='{run}'"])
    if code:
        return {"code": code}
    folder = RunFolder.open(run)
    summary = folder.summary()
    assert summary is not None
    traffic = summary.traffic
    assert traffic is not None
    rows = [{k: v for k, v in row.items() if not k.endswith("_s")} for row in folder.metrics()]
    sites = {name: (each.steps, each.refused) for name, each in summary.privacy.sites.items()}
    model = {name: value.tobytes() for name, value in folder.model().items()}
    return {"rows": rows, "sites": sites, "model": model, "traffic": traffic.bytes_up}


# Values that need more than made-up notes, a model that isn't here, or a round that fails.
_ELSEWHERE = {
    *("model.task", "model.source", "model.path", "data.kind", "privacy.mechanism"),
    *("federation.below_quorum", "model.labels"),
    # of private jobs, of more than a step, and of several runs
    *("policy.clip", "policy.units", "policy.steps", "policy.offers"),
}
_SHOWN_IN = {
    "train.frozen": ["train=full"],
    "federation.quorum": ["federation.exclude=[site-1,site-2]"],
    "federation.patience": ["train.rounds=6", "train.head_lr=1e-9"],
    "model.dropout": ["train=full"],
}


@pytest.mark.soak
@pytest.mark.parametrize("key", sorted(ALWAYS.keys() - _ELSEWHERE))
def test_what_counts_always_makes_a_difference(key: str, tmp_path: Path) -> None:
    # Steps, and no sums of all rows before them.
    base = ["privacy=none", *_SHOWN_IN.get(key, ["train=head", "train.start=zero"])]
    assert outcome(tmp_path, base) == outcome(tmp_path, base)
    given = [o for o in base if not o.startswith(f"{key}=")]
    assert outcome(tmp_path, base) != outcome(tmp_path, [*given, f"{key}={ALWAYS[key]}"])


@pytest.mark.soak
@pytest.mark.parametrize("key", sorted(k for k in NEEDS if not k.startswith(("data", "model.rev"))))
def test_what_is_refused_would_have_made_none(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value, _, doesnt = NEEDS[key]
    base = ["privacy=none", "train=head", *(o for o in doesnt if "privacy=" not in o)]
    if not list(idle(scenario(base, key, value), [key])):
        pytest.skip("it is without effect only where there is noise, which differs each time")
    monkeypatch.setattr("simulations.run.check_given", lambda *_: None)
    assert outcome(tmp_path, base) == outcome(tmp_path, [*base, f"{key}={value}"])
