import ast
import re
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from fedmodel import job
from fedmodel.config import to_mapping
from fedmodel.errors import ConfigError
from fedmodel.report.card import model_card
from fedmodel.report.particulars import Particulars
from fedmodel.report.usage import Exported
from fedmodel.runs import ReleasedScore
from tests.fedmodel.report.conftest import PLAIN, RELEASED, private
from tests.jobs import make_job

APART = Exported(form="adapter", base=False)


def test_card_with_privacy() -> None:
    model = job.Model(source="hub", path="google/bert", labels=("a|b", "`c`"))
    asked = job.Privacy(mechanism="dpsgd", epsilon=3, clip=0.5)
    mapping = to_mapping(make_job(model=model, privacy=asked, train=job.Train(method="ffa")))
    card = model_card(mapping, private(), folder=APART)
    front = card.split("---")[1]
    assert 'base_model: "google/bert"' in front
    assert "differential-privacy" in front
    assert "pipeline_tag: text-classification" in front
    assert "\n# license: fill in" in front
    assert not re.search("^license:", front, flags=re.MULTILINE)
    for text in ("2.980", "1e-05", "add-remove", "0.5", "0.9123", "| Rounds | 7 |", "`a/b`, `'c'`"):
        assert text in card
    assert "trust_remote_code" not in card
    code = card.split("```python")[1].split("```")[0]
    compile(code, "card", "exec")
    assert '"google/bert", num_labels=2, problem_type="single_label_classification"' in code
    assert 'labels = ["a|b", "`c`"]' in code
    assert "truncation=True" in code


def test_a_private_card_tells_of_the_sites_own_rows_only_what_was_released() -> None:
    model = job.Model(labels=("a", "b"))
    asked = job.Privacy(mechanism="dpsgd", unit="patient")
    mapping = to_mapping(make_job(model=model, privacy=asked))
    summary = replace(private(unit="patient"), test="held out from the sites", released=RELEASED)
    card = model_card(mapping, summary)
    assert "0.9123" not in card
    assert "| accuracy, from noised counts | 0.8765 ± 0.0321 |" in card
    assert "| accuracy of always saying the commonest class | not released" in card
    assert "several sites" in card
    hidden = model_card(mapping, replace(summary, released=None))
    assert "0.9123" not in hidden
    assert "no figure on them was released" in hidden
    lost = replace(RELEASED, accuracy=None, standard_error=None)
    swamped = model_card(mapping, replace(summary, released=lost))
    assert "swamps every figure" in swamped
    assert "0.9123" not in swamped


def test_the_card_of_sets_of_labels_says_how_to_read_the_logits() -> None:
    model = job.Model(
        task="multi-label-classification", source="hub", path="google/bert", labels=("a|b", "c")
    )
    mapping = to_mapping(make_job(model=model))
    final = {"accuracy": 0.25, "micro_f1": 0.5, "majority": 0.125, "f1.a|b": 0.75}
    card = model_card(mapping, replace(PLAIN, final=final), folder=APART)
    for text in (
        "# Multi-label text classifier",
        "- multi-label-classification",
        "pipeline_tag: text-classification",
        "Labels, in the order of the logits: `a/b`, `c`.",
        "torch.sigmoid(logits) > 0.5",
        "| micro F1 | 0.5 |",
        "| F1 of `a/b` | 0.75 |",
        "| accuracy of always giving the commonest set of labels | 0.125 |",
        'num_labels=2, problem_type="multi_label_classification"',
    ):
        assert text in card


def test_a_card_shows_the_scores_that_the_noise_left() -> None:
    model = job.Model(task="multi-label-classification", labels=("a", "b"))
    asked = job.Privacy(mechanism="dpsgd")
    scores = {
        "micro_f1": ReleasedScore(value=0.4321, standard_error=0.0123),
        "f1.a": ReleasedScore(value=None, standard_error=None),
        "accuracy.b": ReleasedScore(value=0.625, standard_error=0.05),
    }
    lost = replace(RELEASED, accuracy=None, standard_error=None, scores=scores)
    summary = replace(private(), test="held out from the sites", released=lost)
    card = model_card(to_mapping(make_job(model=model, privacy=asked)), summary)
    assert "| micro F1, likewise | 0.4321 ± 0.0123 |" in card
    assert "| accuracy of `b`, likewise | 0.625 ± 0.05 |" in card
    assert "F1 of `a`" not in card
    assert "0.9123" not in card


def test_card_without_privacy_says_so() -> None:
    mapping = to_mapping(make_job(model=job.Model(labels=("a", "b"))))
    card = model_card(mapping, replace(PLAIN, final={}), folder=Exported(code=True))
    assert "**No differential privacy.**" in card
    assert "base_model:" not in card
    assert "trust_remote_code=True" in card
    assert "No evaluation was recorded." in card
    base = model_card(mapping, PLAIN, folder=Exported(form="adapter", code=True))
    assert 'model=".", trust_remote_code=True)' in base
    assert "peft" not in base.split("```")[1]


@pytest.mark.parametrize("form", ["merged", "adapter", "sentence-transformers", "onnx"])
def test_the_card_says_that_empty_texts_have_no_answer_just_where_that_is_so(form: Any) -> None:
    mapping = to_mapping(make_job())
    said = [
        "Leave empty texts out" in model_card(mapping, PLAIN, folder=Exported(form=form, blank=one))
        for one in (True, False)
    ]
    assert said == [False, True]


@pytest.mark.parametrize(
    ("adjacency", "says"),
    [("add-remove", "whether or not any one unit was"), ("replace", "exchanging any one unit")],
)
def test_what_epsilon_says_is_of_its_neighbours(adjacency: Any, says: str) -> None:
    asked = job.Privacy(mechanism="dpsgd", adjacency=adjacency)
    card = model_card(to_mapping(make_job(privacy=asked)), private(adjacency=adjacency))
    (line,) = (line for line in card.splitlines() if line.startswith("What this says: "))
    assert says in line
    assert f"| Neighbouring datasets | `{adjacency}` of one unit |" in card


@pytest.mark.parametrize(
    ("clipping", "shown"),
    [
        ("flat", "0.5"),
        ("per-layer", "0.5, shared out to the layers"),
        ("adaptive", "0.5 at first, then it follows a quantile of the norms"),
    ],
)
def test_a_norm_that_moves_isnt_told_as_one_that_stays(clipping: Any, shown: str) -> None:
    asked = job.Privacy(mechanism="dpsgd", clip=0.5, clipping=clipping)
    card = model_card(to_mapping(make_job(privacy=asked)), private())
    assert f"| Clip norm | {shown} |" in card


def test_a_rate_without_effect_isnt_told() -> None:
    shown = {
        method: model_card(to_mapping(make_job(train=job.Train(method=method))), PLAIN)
        for method in ("head", "full")
    }
    assert "| Site optimiser | sgd, lr of the head 1 |" in shown["head"]
    assert "| Site optimiser | sgd, lr 0.1, head 1 |" in shown["full"]


def test_every_adversary_stands_in_the_card() -> None:
    mapping = to_mapping(make_job(privacy=job.Privacy(mechanism="dpsgd")))
    card = model_card(mapping, private(adversaries={"coordinator": 1.2341, "another site": 1.5}))
    order = ["ε spent", "| ε against: coordinator | 1.235 |", "| ε against: another site | 1.500 |"]
    places = [card.index(text) for text in (*order, "ε allowed")]
    assert places == sorted(places)


HELD_OUT: dict[str, Any] = {"test": "held out from the sites", "released": RELEASED}
DPSGD = to_mapping(make_job(privacy=job.Privacy(mechanism="dpsgd")))


def test_words_of_the_publisher_stand_where_they_are_looked_for() -> None:
    words = Particulars(
        data="Abstracts of\nPubMed, 2019, English.",
        license="cc-by-4.0",
        authors="A {Person} and `others`",
    )
    card = model_card(DPSGD, private(), particulars=words, year="2026")
    front = yaml.safe_load(card.split("---")[1])
    assert front["license"] == "cc-by-4.0"
    assert front["library_name"] == "transformers"
    for text in (
        "## Data\n\nAbstracts of PubMed, 2019, English.\n",
        "  author = {A Person and others},\n  year = {2026},\n",
        f"@misc{{fedmodel-{'0f' * 6},",
        "Licence: cc-by-4.0, by the word of",
    ):
        assert text in card
    blank = model_card(DPSGD, private())
    assert yaml.safe_load(blank.split("---")[1]).keys().isdisjoint({"license"})
    assert blank.lower().count("fill in") == 3


@pytest.mark.parametrize(
    "name",
    ["no", "yes", "on", "off", "n", "true", "null", "1.0", "007", "1e3", "0x1f", "2020-01-01"],
)
def test_a_licence_is_text_to_every_reader_of_yaml(name: str) -> None:
    """YAML 1.1 and 1.2 differ in what they take for a truth value, a number, or a day."""
    front = model_card(DPSGD, private(), particulars=Particulars(license=name)).split("---")[1]
    assert yaml.safe_load(front)["license"] == name
    assert f'\nlicense: "{name}"\n' in front


@pytest.mark.parametrize(
    "words", [{"license": "MIT License"}, {"license": ""}, {"majority": 0.0}, {"majority": 1.5}]
)
def test_words_that_would_break_a_card_are_refused(words: Any) -> None:
    with pytest.raises(ConfigError, match=rf"card\.{next(iter(words))} must be"):
        Particulars(**words)


def test_class_counts_stand_there_where_they_are_no_secret() -> None:
    counts = {"train": {"a": 70, "b": 30}, "test": {"a": 6, "b": 4}}
    plain = to_mapping(make_job())
    card = model_card(plain, replace(PLAIN, classes=counts))
    assert "| | rows to train on | test rows |\n|---|---:|---:|\n| `a` | 70 | 6 |" in card
    public = model_card(DPSGD, replace(private(), classes={"test": counts["test"]}))
    assert "| | test rows |\n|---|---:|\n| `a` | 6 |\n| `b` | 4 |" in public
    assert "isn't told" in public
    labels = tuple(f"c{i:02}" for i in range(50))
    many = to_mapping(make_job(model=job.Model(labels=labels)))
    card = model_card(many, replace(PLAIN, classes={"train": dict.fromkeys(labels, 2)}))
    assert "| `c39` | 2 |\n| 10 more | 20 |" in card


def test_the_accuracy_stands_beside_the_majoritys() -> None:
    open_ = model_card(DPSGD, private())
    assert "| accuracy | 0.9123 |\n| accuracy of always saying the commonest class | 0.5 |" in open_
    told = replace(private(), **HELD_OUT)
    card = model_card(DPSGD, told, particulars=Particulars(majority=0.35))
    assert "0.8765 ± 0.0321 |\n| accuracy of always saying the commonest class | 0.35 |" in card
    assert "## Caveats" not in card


def test_where_figures_mislead_the_card_says_so_and_tells_no_secret_by_it() -> None:
    wide = replace(RELEASED, standard_error=0.041)
    summary = replace(private(), test="held out from the sites", released=wide)
    summary = replace(summary, privacy=replace(summary.privacy, epsilon=57.0))
    swings: list[dict[str, Any]] = [{"accuracy": 0.9}, {"accuracy": 0.6}]
    card = model_card(DPSGD, summary, rounds=swings)
    caveats = card.split("## Caveats")[1].split("##")[0]
    assert "ε = 57 promises hardly anything: whether a row was there" in caveats
    patient = replace(summary, privacy=replace(summary.privacy, unit="patient"))
    assert "hardly anything: whether a patient was there" in model_card(DPSGD, patient)
    assert "margin of 8%" in caveats
    # What the exact majority (0.5) and the rounds say of the sites' rows isn't covered by ε.
    assert "50%" not in caveats
    assert "fell by" not in caveats
    assert "always saying the commonest class 35%" in model_card(
        DPSGD, summary, particulars=Particulars(majority=0.35)
    )
    public = model_card(DPSGD, private(), rounds=swings)
    assert "The accuracy fell by 30 points" in public


def test_the_card_says_what_the_seed_decides() -> None:
    card = model_card(to_mapping(make_job(seed=7)), PLAIN)
    assert "| Seed | 7: of first weights" in card
    assert "Noise" not in card
    assert "drawn from the system and never by it" in model_card(DPSGD, private())


def test_labels_in_the_lines_of_an_adapters_card_turn_no_line_round() -> None:
    labels = ("a\u202eb", "c\x1b[2J", "\u00e9\U0001f600", "\U000e0001", 'd\\"\n```')
    hub = job.Model(source="hub", path="google/bert", labels=labels)
    card = model_card(to_mapping(make_job(model=hub)), PLAIN, folder=APART)
    assert all(line.isprintable() for line in card.splitlines())
    (line,) = re.findall(r"^labels = (.*)$", card, flags=re.MULTILINE)
    assert ast.literal_eval(line) == list(labels)


def test_the_lines_for_a_graph_take_logits_of_any_size(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Session:
        def __init__(self, _: str) -> None: ...

        def get_modelmeta(self) -> Any:
            return SimpleNamespace(custom_metadata_map={"labels": '["a", "b"]'})

        def run(self, *_: Any) -> Any:
            return [np.array([[0.0, 200.0], [-200.0, -300.0]], np.float32)]

    card = model_card(to_mapping(make_job()), PLAIN, folder=Exported(form="onnx"))
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(InferenceSession=Session))
    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", lambda _: lambda *_, **__: {})
    exec(card.split("```python")[1].split("```")[0], {})
    assert capsys.readouterr().out == "b 1.0\na 1.0\n"


def test_a_base_model_is_pinned_or_a_folder_of_which_only_the_name_is_told() -> None:
    hub = job.Model(source="hub", path="google/bert", revision="abc", labels=("a", "b"))
    card = model_card(to_mapping(make_job(model=hub)), PLAIN, folder=APART)
    assert '"google/bert", revision="abc", num_labels=2' in card
    assert "| Base model | `google/bert` at `abc` |" in card
    for path in ("/home/me/secret/bert-nl", "~/secret/bert-nl/", "a/secret/bert-nl"):
        own = job.Model(source="hub", path=path, labels=("a", "b"))
        card = model_card(to_mapping(make_job(model=own)), PLAIN, folder=Exported(form="adapter"))
        assert "| Base model | `bert-nl`, a folder of whoever trained this |" in card
        assert "secret" not in card
