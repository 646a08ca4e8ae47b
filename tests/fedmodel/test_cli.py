import contextlib
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedmodel import cli
from fedmodel._paths import conf_dir
from fedmodel.errors import ConfigError


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fedmodel.cli", *args], capture_output=True, text=True, check=False
    )


@pytest.mark.sample(2)
@pytest.mark.parametrize("args", [["--help"], *([verb, "--help"] for verb in cli.VERBS)])
def test_help_imports_nothing_heavy(args: list[str]) -> None:
    code = (
        "import sys; from fedmodel import cli; rc = cli.main(sys.argv[1:]);"
        "heavy = {'torch', 'hydra', 'flwr', 'numpy', 'rich', 'datasets'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else rc)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "usage: fedmodel" in done.stdout


def test_help_lists_every_group_and_choice() -> None:
    text = run("simulate", "--help").stdout
    for path in conf_dir().glob("*/*.yaml"):
        if path.parent.name != "recipe":
            assert f"{path.parent.name}={path.stem}" in text
    for key in ("train.rounds=", "privacy.epsilon=", "data.rows=", "federation.partition=", "run="):
        assert key in text


@pytest.mark.sample(12)
@pytest.mark.long
@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["simulat"], "unknown verb 'simulat' (did you mean 'simulate'?)"),
        (["simulate", "trian.lr=1"], "unknown key 'trian.lr' (did you mean 'train.lr'?)"),
        (["simulate", "train.lrr=1"], "unknown key 'train.lrr' (did you mean 'train.lr'?)"),
        (["simulate", "train=lroa"], "train=lroa isn't a choice (did you mean 'lora'?)"),
        (["simulate", "train=lroa", "--help"], "train=lroa isn't a choice (did you mean 'lora'?)"),
        (["simulate", "steps=3"], "unknown key 'steps' (did you mean 'train.steps'?)"),
        (["simulate", "train=null"], "train=null isn't a choice"),
        (["simulate", "privacy=recrod"], "did you mean 'record'?"),
        (["simulate", "train.optimizer=adam"], "did you mean 'adamw'?"),
        (["simulate", "train.rounds=ten"], "train.rounds must be a whole number, got 'ten'"),
        (["simulate", "device=gpu"], "device must be auto, cpu or cuda"),
        (["simulate", "nonsense"], "expected key=value"),
        (["simulate", "data=csv"], "data=csv needs data.train=<path>"),
        (["simulate", "data=csv", "data.train=nowhere.csv"], "nowhere.csv"),
        (["simulate", "debug=slow"], "debug=slow isn't a choice"),
        (["simulate", "modle=tiny"], "unknown key 'modle' (did you mean 'model'?)"),
        (["simulate", "seed=0,1"], "put -m right after the verb"),
        (["simulate", "seed=0,1", "-m"], "-m comes right after the verb"),
        (["simulate", "resume=true"], "resume=true needs run="),
        (["simulate", "-m", "seed=0,1", "train.rounds=0"], "train.rounds must be at least 1"),
        (["export"], "export needs run="),
        (["simulate", "budget.epsilon=0"], "budget.epsilon must be > 0"),
        (["simulate", "budget.dataset=../x"], "can't name a file"),
        (["simulate", "budget.unit=patients"], "did you mean 'patient'?"),
        (["budget"], "budget needs state="),
        (["provision"], "provision needs role=site, role=coordinator"),
        (["provision", "role=site"], "provision role=site needs home="),
        (["provision", "role=sit", "home=x"], "did you mean 'site'?"),
        (["provision", "role=demo", "home=x", "name=y"], "name isn't for role=demo, which takes"),
        (["provision", "role=site", "home=x", "request=y"], "request isn't for role=site"),
        (["provision", "role=site", "home=x"], "to make one, say name=<its name>"),
        (
            ["provision", "role=site", "home=x", "renew=roster"],
            "a site and a coordinator renew tls",
        ),
        (["provision", "role=site", "home=x", "name=y", "tls=Y"], "a DNS name in small letters"),
        (["provision", "role=site", "home=x", "name=y", "passphrase=geheim"], "never is one"),
        (["provision", "role=coordinator", "home=x", "name=y"], "needs tls=<the host name"),
        (["provision", "role=consortium", "home=x", "request=y"], "to make one, say name="),
        (["provision", "role=consortium", "home=x", "name=y", "days=0"], "days must be 1 to 397"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    args: list[str],
    says: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(args) == 2
    error = capsys.readouterr().err
    assert says in error
    assert "Traceback" not in error
    assert not list(tmp_path.iterdir())


def test_help_shows_the_defaults_that_a_run_has() -> None:
    composed = cli.compose("simulate", [])
    text = run("simulate", "--help").stdout.split("keys and their defaults:\n")[1]
    shown = dict(re.findall(r"^  ([a-z_0-9.]+)=(\S*) ", text, flags=re.MULTILINE))
    assert {"train.lr", "train.head_lr", "train.steps", "data.rows", "seed"} <= set(shown)
    for key, text in shown.items():
        value: Any = composed
        for name in key.split("."):
            value = value[name]
        assert isinstance(value, dict) or yaml.safe_load(text) in (value, str(value)), key


def test_a_sweep_expands_to_every_combination() -> None:
    assert cli.expand(["a=1,2", "b=x", "c=u,v"]) == [
        ["a=1", "b=x", "c=u"],
        ["a=1", "b=x", "c=v"],
        ["a=2", "b=x", "c=u"],
        ["a=2", "b=x", "c=v"],
    ]
    assert cli.expand(["train.lora.layers=[4,5]"]) == [["train.lora.layers=[4,5]"]]
    with pytest.raises(ConfigError, match="key=value"):
        cli.expand(["a"])


def test_the_command_line_outranks_the_recipe() -> None:
    plain = cli.compose("simulate", [])
    changed = cli.compose("simulate", ["train.lr=0.125"])
    assert plain["train"]["lr"] != 0.125
    assert changed["train"]["lr"] == 0.125


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("data.label_separator=';'", "label_separator", ";"),
        ("data.label_separator=\\;", "label_separator", ";"),
        ("data.label_separator=,", "label_separator", ","),
        ("data.label_separator='|'", "label_separator", "|"),
        ("'data.label_separator=; '", "label_separator", "; "),
        ("'data.train=a file; of notes.csv'", "train", "a file; of notes.csv"),
    ],
)
def test_a_value_that_the_shell_has_taken_the_quotes_off_is_meant_as_it_stands(
    line: str, key: str, value: str
) -> None:
    (overrides,) = cli.expand(shlex.split(line))
    assert cli.compose("simulate", overrides)["data"][key] == value


@pytest.mark.parametrize("word", ["data.train=[a;b", "data.train='a;b", "=;", "a;b", "data.train="])
def test_what_is_no_override_still_is_none(word: str) -> None:
    with contextlib.suppress(ConfigError):
        assert cli.expand([word]) == [[word]]  # an empty value is Hydra's own business
        assert word.endswith("=")
