"""Overrides that can't be meant so: one line that says what is wrong, and never a traceback."""

from pathlib import Path

import pytest

from fedmodel import cli
from fedmodel.cli.composing import compose, expand
from fedmodel.errors import ConfigError


@pytest.mark.sample(7)
@pytest.mark.long
@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("train=null", "train=null isn't a choice"),
        ("train=glob(h*)", "a sweep's values are listed"),
        ("privacy.epsilon=interval(1,2)", "a sweep's values are listed"),
        ("train=???", "expected one of: ffa, full, head, lora"),
        ("train.lr=???", "train.lr: expected a value"),
        ("train.lr=${x}", "train.lr: expected a value"),
        ("~train", "leave it out, and it has its default"),
        ("~privacy.epsilon", "leave it out, and it has its default"),
        ("+foo=1", "unknown key 'foo'"),
        ("=3", "expected key=value, got '=3'"),
        ("seed=range(1,4,0)", "a sweep's values are listed"),
        ("hydra/job_logging=none", "none of fedmodel's keys"),
        ("hydra.run.dir=x", "none of fedmodel's keys"),
        ("epsilon=3", "did you mean 'privacy.epsilon'?"),
        ("lr=3", "did you mean 'train.lr'?"),
        ("head_lrr=3", "did you mean 'train.head_lr'?"),
        ("train.rouns=3", "did you mean 'train.rounds'?"),
        ("train.lora=null", "train.lora"),
        ("--config-dir=x", "expected key=value"),
    ],
)
def test_it_is_one_line(override: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["simulate", override]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert says in line


@pytest.mark.parametrize("name", ["Müller", "Größe ä/ö ü", "日本", "naïve.csv"])
def test_names_in_any_script_are_one_value_and_no_sweep(name: str) -> None:
    (combination,) = expand([f"run={name}", f"data.train={name}"])
    mapping = compose("simulate", combination)
    assert (mapping["run"], mapping["data"]["train"]) == (name, name)


def test_the_command_line_takes_them_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Müller").mkdir()
    train = "data.train=Müller/Größe.csv"
    assert cli.main(["simulate", "data=csv", train, "run=Käse"]) == 2
    assert "Müller/Größe.csv" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="would take a key away"):
        expand(["~run"])


def test_names_of_classes_may_be_given_in_order() -> None:
    (combination,) = expand(["model.labels=[b,a]"])
    assert compose("simulate", combination)["model"]["labels"] == ["b", "a"]
