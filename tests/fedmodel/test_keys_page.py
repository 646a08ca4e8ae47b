"""The page of all keys: written from the configuration, and complete.

FEDMODEL_WRITE_DOCS=1 pytest tests/fedmodel/test_keys_page.py
"""

import os
import re
from pathlib import Path

import pytest
import yaml

from fedmodel import cli
from fedmodel._paths import conf_dir
from fedmodel.cli import help as texts
from fedmodel.cli.composing import compose
from fedmodel.cli.verbs import VERBS

PAGE = Path(__file__).resolve().parents[2] / "docs/keys.md"
HEAD = """# Keys

Every key of `fedmodel simulate`, with its default before any choice, and what each choice sets;
at the end the keys of the other verbs. `fedmodel serve` takes the same choices and keys of a job
(`model.*` to `federation.*`) but for those of a simulation's rows: `data.*` is other there, and
`federation.sites`, `partition` and `alpha` are the roster's.
`fedmodel simulate GROUP=CHOICE … --help` shows the keys with the values of *those* choices. A key
on the command line outranks them all; most that have no effect on the job are refused by name.

This page is written from the configuration by the test that checks it:

```
FEDMODEL_WRITE_DOCS=1 pytest tests/fedmodel/test_keys_page.py
```

"""


def test_the_page_is_what_the_configuration_says() -> None:
    text = HEAD + texts.page(conf_dir())
    if os.environ.get("FEDMODEL_WRITE_DOCS"):
        PAGE.write_text(text, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == text


def leaves(part: object, path: str = "") -> set[str]:
    if not isinstance(part, dict):
        return {path[:-1]}
    return {found for key, value in part.items() for found in leaves(value, f"{path}{key}.")}


def test_every_key_is_there_with_its_meaning() -> None:
    rows = re.findall(r"^\| `([a-z_0-9.]+)` \| `(.*?)` \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    found = {key: meaning for key, _, meaning in rows}
    assert len(found) == len(rows)
    assert found.keys() == leaves(compose("simulate", []))
    assert [key for key, meaning in found.items() if not meaning.strip()] == []


@pytest.mark.parametrize("verb", sorted(cli.VERBS.keys() - {"simulate"}))
def test_the_keys_of_other_verbs_are_there(verb: str) -> None:
    row = rf"^\| `fedmodel {verb}` \| `(.*?)` \| `.*?` \| (.*) \|$"
    rows = re.findall(row, PAGE.read_text(), re.MULTILINE)
    # Those of a job stand there once, and rates of a recipe are no keys of their own.
    shared = (
        leaves(yaml.safe_load((conf_dir() / "keys.yaml").read_text())) if verb == "serve" else {}
    )
    assert {key for key, _ in rows} == leaves(compose(verb, [])) - set(shared)
    assert all(meaning.strip() for _, meaning in rows)


def test_help_of_choices_shows_their_keys_and_values() -> None:
    given = ["data=csv", "train=full", "privacy=none", "train.rounds=7", "debug=fast"]
    text = texts.verb("simulate", "…", conf_dir(), given)
    assert " *train=full" in text
    assert " *data=csv" in text
    shown = dict(
        re.findall(r"^  ([a-z_0-9.]+)=(\S*)", text.split("keys of these")[1], re.MULTILINE)
    )
    composed = compose("simulate", given)
    assert shown["train.rounds"] == "7"
    wrong = []
    for key in leaves(composed):
        value: object = composed
        for name in key.split("."):
            assert isinstance(value, dict)
            value = value[name]
        told = yaml.safe_load(shown[key]) if key in shown else "not shown"
        if told not in (value, str(value)):
            wrong.append((key, value, told))
    assert wrong == []


def test_help_of_a_sweep_is_of_its_first_choices() -> None:
    text = texts.verb("simulate", "…", conf_dir(), ["privacy=site,none", "train=head"])
    assert text == texts.verb("simulate", "…", conf_dir(), ["privacy=site", "train=head"])


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("verb", [None, "simulate", "export"])
def test_a_narrow_terminals_help_breaks_between_words_and_loses_none(
    width: int, verb: str | None
) -> None:
    verbs = {name: text for name, (_, text) in VERBS.items()}
    text = texts.verb(verb, "…", conf_dir(), []) if verb else texts.overview(verbs)
    narrow = texts.folded(text, width)
    assert narrow.split() == text.split()
    assert all(len(line) <= width or " " not in line.strip() for line in narrow.splitlines())
    if width == 200:
        assert narrow == text


def test_a_comment_stays_in_its_own_column_or_below_its_key() -> None:
    text = "\n".join(
        [
            "  key=1      words that are many",
            " *group=a    words that are many",
            "  a.long.key.and=its-value words that are many",
            "  a sentence of many words",
        ]
    )
    assert texts.folded(text, 28).splitlines() == [
        "  key=1      words that are",
        "             many",
        " *group=a    words that are",
        "             many",
        "  a.long.key.and=its-value",
        "      words that are many",
        "  a sentence of many words",
    ]
    assert texts.folded(text, 20).splitlines()[:3] == [
        "  key=1",
        "      words that are",
        "      many",
    ]
    assert texts.folded(text, 20).splitlines()[-2:] == ["  a sentence of many", "  words"]
