"""Names, paths and texts of a configuration are text as typed, or refused with one line.

YAML reads ``2024_01`` as the number 202401: with that as a name there were two ledgers of one
dataset, and a cap that wasn't over both.
"""

import dataclasses
import types
import typing
from pathlib import Path
from typing import Any

import pytest

from clients.desk.arguments import Ask as SiteAsk
from clients.join import Ask as JoinAsk
from clients.limits import Limits
from fedmodel import budget, cli, config, export, provision
from fedmodel.audit.board.verb import Ask as ReportAsk
from fedmodel.audit.bundles.verb import Ask as BundleAsk
from fedmodel.audit.verb import Ask as VerifyAsk
from fedmodel.budget.verb import Ask as BudgetAsk
from fedmodel.data import Source
from fedmodel.errors import ConfigError
from fedmodel.export import Ask as ExportAsk
from fedmodel.job import Proposal
from fedmodel.provision.ask import Ask as ProvisionAsk
from fedmodel.runs import run_path
from server.ask import Ask as ServeAsk
from simulations.scenario import Asked, Homes, Scenario

ODD = ["2024_01", "1_0", "1e3", "1.50", "nan", "inf", "true", "False", "0x10", "2024-01-01", "-0"]
# What a configuration is made into: verb → (prefix of its keys, class).
READ: dict[str, list[tuple[str, Any]]] = {
    "simulate": [
        ("", Asked),
        ("budget.", Homes),
        ("policy.", Limits),
        ("data.", Source),
        ("", Proposal),
    ],
    "export": [("", ExportAsk)],
    "budget": [("", BudgetAsk)],
    "provision": [("", ProvisionAsk)],
    "serve": [("", ServeAsk), ("", Proposal)],
    "join": [("", JoinAsk)],
    "site": [("", SiteAsk)],
    "verify": [("", VerifyAsk)],
    "report": [("", ReportAsk)],
    "bundle": [("", BundleAsk)],
}
LISTS = {
    *("train.frozen", "train.lora.target_modules", "model.labels", "federation.exclude"),
    *("policy.bases", "policy.code", "approvers"),
}
# Given by the keys `state`, `purpose` and `policy.*`.
NOT_ASKED = {
    *("budget.state", "budget.purpose"),
    *("budget.policy.limits.begins", "budget.policy.limits.ends"),
}


def text_fields(cls: Any, prefix: str, *, lists: bool = False) -> set[str]:
    """Return the dotted keys of a dataclass that are text, or lists of it."""
    found = set()
    for name, hint in typing.get_type_hints(cls).items():
        union = isinstance(hint, types.UnionType)
        kinds = set(typing.get_args(hint)) if union else {hint}
        for kind in kinds:
            if dataclasses.is_dataclass(kind):
                found |= text_fields(kind, f"{prefix}{name}.", lists=lists)
        if (tuple[str, ...] if lists else str) in kinds:
            found.add(prefix + name)
    return found - NOT_ASKED


def at(mapping: Any, key: str) -> Any:
    for name in key.split("."):
        mapping = mapping[name]
    return mapping


@pytest.mark.long
@pytest.mark.parametrize("verb", list(cli.VERBS))
def test_the_list_of_texts_is_that_of_the_types(verb: str) -> None:
    found = {key for prefix, cls in READ[verb] for key in text_fields(cls, prefix)}
    if verb in ("site", "bundle", "report"):
        found = found - {"signer"} | {"as"}  # a word of Python's
    assert found == cli.TEXTS[verb]


def test_the_list_of_lists_of_texts_is_that_of_the_types() -> None:
    assert cli.LISTS["simulate"] == LISTS | text_fields(Source, "data.", lists=True)
    assert not cli.LISTS["export"] | cli.LISTS["budget"] | cli.LISTS["provision"]


@pytest.mark.long
@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("[2]", ("2",)),
        ("[2, 1_0,a b,on]", ("2", "1_0", "a b", "on")),
        ("[2024_01,site-2]", ("2024_01", "site-2")),
        ("['1,5',\"2\"]", ("1,5", "2")),
        ("[]", ()),
    ],
)
def test_a_list_of_names_is_taken_as_typed(value: str, names: tuple[str, ...]) -> None:
    # Hospitals have numbers, and a shell takes quotes off.
    typed = cli.as_typed([f"federation.exclude={value}"], cli.LISTS["simulate"])
    (overrides,) = cli.expand(typed)
    mapping = cli.compose("simulate", overrides)
    assert Scenario.from_mapping(mapping).homes.exclude == names


@pytest.mark.sample(2)
@pytest.mark.parametrize("verb", list(cli.VERBS))
def test_a_text_is_taken_as_typed(verb: str) -> None:
    keys = sorted(cli.TEXTS[verb])
    typed = {key: ODD[i % len(ODD)] for i, key in enumerate(keys)}
    overrides = cli.as_typed([f"{key}={value}" for key, value in typed.items()], cli.TEXTS[verb])
    (overrides,) = cli.expand(overrides)
    mapping = cli.compose(verb, overrides)
    assert {key: at(mapping, key) for key in keys} == typed


@pytest.mark.parametrize(
    ("value", "run"),
    [
        ("2024_01", "2024_01"),
        ("1e3", "1e3"),
        ("nan", "nan"),
        ("true", "true"),
        ("0x10", "0x10"),
        ("2024-01-01", "2024-01-01"),
        ("'1_0'", "1_0"),
        (" 5 ", "5"),
        ("off", "off"),
        ("null", None),
        ("'null'", "null"),
    ],
)
def test_what_becomes_of_a_runs_name(value: str, run: str | None) -> None:
    overrides = cli.as_typed([f"run={value}"], cli.TEXTS["export"])
    assert config.build(ExportAsk, cli.compose("export", overrides)).run == run


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("Notes: of 'nobody', 2020 (English), a=b", "Notes: of 'nobody', 2020 (English), a=b"),
        ("2024_01", "2024_01"),
        ("C:\\\\new\\'s \\ \\\\", "C:\\\\new\\'s \\ \\\\"),
        ("{a: [1, ${form}]} and \\\\${run} $HOME", "{a: [1, ${form}]} and \\\\${run} $HOME"),
        ("two\nlines", "two lines"),
        ("'in quotes, as it is'", "in quotes, as it is"),
        ("'it\\'s'", "it's"),
        ("'this' and 'that'", "'this' and 'that'"),
        ("'", "'"),
        ('"Sic", he said', '"Sic", he said'),
        ("null", None),
    ],
)
def test_a_sentence_is_taken_as_it_stands(
    value: str, sentence: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def main(mapping: Any, given: Any) -> int:
        seen.append(mapping)
        return 0

    monkeypatch.setattr(export, "main", main)
    assert cli.main(["export", f"card.data={value}"]) == 0
    assert seen[0]["card"]["data"] == sentence


@pytest.mark.parametrize("value", ["[a]", "{a: 1}", "${form_}", ".", "..", "' '", ""])
def test_what_names_no_run_is_one_line(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["export", f"run={value}", "to=x"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_sweep_over_a_name_needs_quotes() -> None:
    texts = cli.TEXTS["simulate"]
    with pytest.raises(ConfigError, match=r"data\.train is text.*202401.*in quotes"):
        cli.as_typed(["data.train=2024_01,x"], texts)
    with pytest.raises(ConfigError, match="in quotes"):
        cli.as_typed(["run=range(1,3)"], texts)
    for override in ("data.train='2024_01',x", "seed=0,1", "model.path=a,b"):
        assert cli.as_typed([override], texts) == [override]
    assert cli.expand(cli.as_typed(["data.train='2024_01',x"], texts)) == [
        ["data.train='2024_01'"],
        ["data.train=x"],
    ]


@pytest.mark.parametrize("odd", [202401, 1000.0, float("nan"), True])
@pytest.mark.parametrize(
    "key",
    sorted(cli.TEXTS["simulate"] | text_fields(Source, "data.", lists=True) | LISTS),
)
def test_a_number_from_a_file_is_refused_by_name(key: str, odd: object) -> None:
    mapping: dict[str, Any] = {}
    *groups, last = key.split(".")
    inner = mapping
    for name in groups:
        inner = inner.setdefault(name, {})
    lists = key in LISTS | {"data.labels", "data.train_only"}
    inner[last] = [odd] if lists else odd
    with pytest.raises(ConfigError) as caught:
        Scenario.from_mapping(mapping)
    said = str(caught.value)
    assert said.startswith(f"{key}[0] must be text" if lists else f"{key} must be text")
    assert "put it in quotes" in said
    assert repr(odd) in said


@pytest.mark.parametrize("verb", ["export", "budget", "provision"])
def test_other_verbs_refuse_numbers_for_names(verb: str) -> None:
    run = {"export": export.main, "budget": budget.main, "provision": provision.main}[verb]
    others = {"role": "site", "home": "x"} if verb == "provision" else {}
    for key in cli.TEXTS[verb]:
        group, _, name = key.rpartition(".")
        with pytest.raises(ConfigError, match=f"{key} must be text.*got 5"):
            run(others | {group: {name: 5}} if group else others | {name: 5})


def test_a_switch_is_no_text() -> None:
    with pytest.raises(ConfigError, match="resume must be true or false, got 'false'"):
        Scenario.from_mapping({"resume": "false"})


def test_a_state_without_a_name_is_refused() -> None:
    for make in (lambda: Asked.of({"state": ""}), lambda: config.build(BudgetAsk, {"state": " "})):
        with pytest.raises(ConfigError, match="state is empty"):
            make()


def test_names_that_yaml_takes_for_numbers_are_folders_of_their_own() -> None:
    assert len({run_path(name) for name in ("2024_01", "202401", "1e3", "1000.0")}) == 4


def test_one_name_is_one_ledger() -> None:
    # 2023_12 was the ledger `202312`, and '2023_12' another: two caps over the same rows.
    for value in ("2023_12", "'2023_12'"):
        overrides = [f"budget.dataset={value}", f"state={value}"]
        mapping = cli.compose("simulate", cli.as_typed(overrides, cli.TEXTS["simulate"]))
        homes = Scenario.from_mapping(mapping).homes
        assert (homes.dataset, homes.state) == ("2023_12", Path("2023_12"))


def test_the_command_line_takes_names_as_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for state in ("2024_01", "1e3", "true"):
        assert cli.main(["budget", f"state={state}"]) == 2
        assert f"fedmodel: there is no folder {state}; give state=" in capsys.readouterr().err
