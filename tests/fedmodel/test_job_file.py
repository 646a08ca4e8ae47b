"""A job in a file of keys means what the same keys mean on a command line."""

from pathlib import Path

import pytest
import yaml

from fedmodel import cli
from fedmodel.cli.job_file import with_file
from fedmodel.cli.jobs import compose_all
from fedmodel.errors import ConfigError

TEXT = """\
train: head
privacy: record
secagg: on
privacy.epsilon: 3
train:
  rounds: 7
"""


def written(path: Path, **keys: object) -> str:
    path.write_text(yaml.safe_dump(keys, allow_unicode=True))
    return f"job={path}"


def test_what_it_says_is_said_before_the_command_line(tmp_path: Path) -> None:
    job = written(
        tmp_path / "a.yaml",
        train="head",
        secagg=True,  # a bare `on` is that to YAML
        privacy={"epsilon": 3, "delta": None},
        purpose='It\'s "sorting", {a: [1]} ${x} \\ 100 %',
        run="2024_01",
        **{"train.rounds": 7, "model.labels": ["a b", "1e3", "x,y"], "device": "cpu"},
    )
    typed = ["train.rounds=9", job]
    (found,) = compose_all("serve", with_file(typed, "job"))
    asked = found.mapping
    assert (asked["train"]["method"], asked["train"]["rounds"]) == ("head", 9)
    assert asked["secagg"]["mode"] == "on"
    assert (asked["privacy"]["epsilon"], asked["privacy"]["delta"]) == (3, None)
    assert asked["purpose"] == 'It\'s "sorting", {a: [1]} ${x} \\ 100 %'
    assert asked["run"] == "2024_01"
    assert asked["model"]["labels"] == ["a b", "1e3", "x,y"]
    assert {"train", "privacy.epsilon", "train.rounds", "job"} <= set(found.given)


def test_a_choice_in_it_brings_its_rates(tmp_path: Path) -> None:
    job = written(tmp_path / "a.yaml", train="head", privacy="none")
    (found,) = compose_all("serve", with_file([job], "job"))
    (typed,) = compose_all("serve", ["train=head", "privacy=none", job])
    assert found.mapping == typed.mapping


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.yaml", TEXT, "the key 'train' a second time"),
        ("a.yaml", "job: b.yaml", "leave it out"),
        ("a.yaml", "- train", "expected keys with values"),
        ("a.txt", "train: head", "expected a file of keys"),
        ("a", "train: head", "neither"),
        ("a.yaml", "model.labels: [[a]]", None),
    ],
)
def test_what_isnt_keys_with_values_is_refused(
    tmp_path: Path, name: str, text: str, says: str | None
) -> None:
    path = tmp_path / name
    path.write_text(text)
    if says is None:
        assert with_file([f"job={path}"], "job")[0] == "model.labels=[['a']]"
        return
    with pytest.raises(ConfigError, match=says):
        with_file([f"job={path}"], "job")


def test_a_whole_job_and_no_job_are_left_as_they_are(tmp_path: Path) -> None:
    for words in (["job=a.json"], ["seed=1"], [], ["job=null"]):
        assert with_file(words, "job") == words
    with pytest.raises(ConfigError, match="can't be read"):
        with_file([f"job={tmp_path / 'none.yaml'}"], "job")


def test_wrong_keys_in_it_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = written(tmp_path / "a.yaml", **{"trian.lr": 1})
    assert cli.main(["serve", job]) == 2
    assert "did you mean 'train.lr'?" in capsys.readouterr().err
    assert cli.main(["serve", "-m", "seed=1"]) == 2
    assert "one thing at a time" in capsys.readouterr().err
