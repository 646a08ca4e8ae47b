from dataclasses import replace

from fedmodel import job
from fedmodel.config import to_mapping
from fedmodel.report.card import model_card
from fedmodel.runs import ReleasedScore
from tests.fedmodel.report.conftest import PLAIN, RELEASED, private
from tests.jobs import make_job


def test_card_with_privacy() -> None:
    model = job.Model(source="hub", path="google/bert", labels=("a|b", "`c`"))
    asked = job.Privacy(mechanism="dpsgd", epsilon=3, clip=0.5)
    mapping = to_mapping(make_job(model=model, privacy=asked, train=job.Train(method="ffa")))
    card = model_card(mapping, private(), form="adapter")
    front = card.split("---")[1]
    assert 'base_model: "google/bert"' in front
    assert "differential-privacy" in front
    assert "pipeline_tag: text-classification" in front
    assert "license" not in front
    for text in ("2.980", "1e-05", "add-remove", "0.5", "0.9123", "| Rounds | 7 |", "`a/b`, `'c'`"):
        assert text in card
    assert "trust_remote_code" not in card
    loaded = '"google/bert", num_labels=2, problem_type="single_label_classification"'
    assert f"from_pretrained({loaded})" in card


def test_a_private_card_tells_of_the_sites_own_rows_only_what_was_released() -> None:
    model = job.Model(labels=("a", "b"))
    asked = job.Privacy(mechanism="dpsgd", unit="patient")
    mapping = to_mapping(make_job(model=model, privacy=asked))
    summary = replace(private(unit="patient"), test="held out from the sites", released=RELEASED)
    card = model_card(mapping, summary, form="merged")
    assert "0.9123" not in card
    assert "0.8765" in card
    assert "0.0321" in card
    assert "several sites" in card
    hidden = model_card(mapping, replace(summary, released=None), form="merged")
    assert "0.9123" not in hidden
    assert "no figure on them was released" in hidden


def test_the_card_of_sets_of_labels_says_how_to_read_the_logits() -> None:
    model = job.Model(
        task="multi-label-classification", source="hub", path="google/bert", labels=("a|b", "c")
    )
    mapping = to_mapping(make_job(model=model))
    final = {"accuracy": 0.25, "micro_f1": 0.5, "majority": 0.125, "f1.a|b": 0.75}
    card = model_card(mapping, replace(PLAIN, final=final), form="adapter")
    for text in (
        "# Multi-label text classifier",
        "- multi-label-classification",
        "pipeline_tag: text-classification",
        "Labels, in the order of the logits: `a/b`, `c`.",
        "torch.sigmoid(logits) > 0.5",
        "| micro F1 | 0.5 |",
        "| F1 of `a/b` | 0.75 |",
        "| accuracy of always giving the commonest set of labels | 0.125 |",
        'num_labels=2, problem_type="multi_label_classification")',
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
    card = model_card(mapping, replace(PLAIN, final={}), carries_code=True)
    assert "**No differential privacy.**" in card
    assert "base_model:" not in card
    assert "trust_remote_code=True" in card
    assert "No evaluation was recorded." in card
    base = model_card(mapping, PLAIN, form="adapter", carries_code=True)
    assert "from_pretrained(folder, trust_remote_code=True)" in base
    assert "peft" not in base.split("```")[1]


def test_every_adversary_stands_in_the_card() -> None:
    mapping = to_mapping(make_job(privacy=job.Privacy(mechanism="dpsgd")))
    card = model_card(mapping, private(adversaries={"coordinator": 1.2341, "another site": 1.5}))
    order = ["ε spent", "| ε against: coordinator | 1.235 |", "| ε against: another site | 1.500 |"]
    places = [card.index(text) for text in (*order, "ε allowed")]
    assert places == sorted(places)
