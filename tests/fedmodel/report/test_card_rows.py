"""What stands in a card's front matter, lines and tables is that of the job and the run."""

import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import yaml

from fedmodel import job
from fedmodel._forms import ExportForm
from fedmodel.config import to_mapping
from fedmodel.export import exported
from fedmodel.models.modeling import FedmodelConfig
from fedmodel.report.card import model_card
from fedmodel.report.usage import Exported
from tests.fedmodel.report.conftest import PLAIN, private, site
from tests.jobs import make_job, summed

SETS = job.Model(task="multi-label-classification", labels=("a", "b"))
HIDDEN = (
    job.Privacy(mechanism="distributed"),
    job.Privacy(mechanism="site", unit="site", evaluation="suppressed"),
)


def rows(card: str) -> dict[str, str]:
    """Return a card's rows of two cells."""
    return dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", card, re.MULTILINE))


@pytest.mark.parametrize(
    ("form", "library", "cut"),
    [
        ("merged", "transformers", "`truncation=True` cuts a text after 77 tokens"),
        ("adapter", "peft", "`truncation=True` cuts a text after 77 tokens"),
        ("sentence-transformers", "sentence-transformers", "\nA text is cut after 77 tokens"),
        ("onnx", "onnx", "`truncation=True` cuts a text after 77 tokens"),
    ],
)
def test_a_form_names_its_library_and_who_cuts(form: Any, library: str, cut: str) -> None:
    mapping = to_mapping(make_job(model=job.Model(labels=("a", "b"), max_length=77)))
    card = model_card(mapping, PLAIN, folder=Exported(form=form))
    assert yaml.safe_load(card.split("---")[1])["library_name"] == library
    assert cut in card
    assert rows(card)["Tokens read"] == "77"


@pytest.mark.parametrize("form", ["merged", "adapter"])
@pytest.mark.parametrize("code", [True, False])
def test_code_that_wants_trust_is_explained_just_where_there_is_some(form: Any, code: bool) -> None:
    card = model_card(to_mapping(make_job()), PLAIN, folder=Exported(form=form, code=code))
    assert ("Read it first" in card) == code
    assert ("The folder holds no code" in card) != code


@pytest.mark.parametrize("form", ["merged", "sentence-transformers", "onnx"])
def test_a_set_of_labels_is_what_lies_above_a_half(form: Any) -> None:
    card = model_card(to_mapping(make_job(model=SETS)), PLAIN, folder=Exported(form=form))
    code = card.split("```python")[1].split("```")[0]
    assert re.findall(r" > ([\d.]+)", code) == ["0.5"]
    assert "softmax" not in code
    assert "argmax" not in code


def test_what_a_folder_holds_hangs_on_its_form() -> None:
    class Words:
        def __call__(self, text: str) -> dict[str, list[int]]:
            return {"input_ids": [1] * len(text)}

    own: Any = SimpleNamespace(config=SimpleNamespace(name_or_path="google/bert"))
    mean: Any = SimpleNamespace(config=FedmodelConfig(name_or_path="google/bert"))
    for form in get_args(ExportForm):
        folder = exported(own, Words(), form)
        assert folder == Exported(form=form, base=form != "adapter", blank=False)
        code = form in ("merged", "adapter")
        assert exported(mean, Words(), form) == Exported(form=form, code=code, blank=False)


@pytest.mark.parametrize("asked", HIDDEN, ids=["distributed", "site"])
def test_whole_federations_that_are_private_are_found_by_their_tag(asked: job.Privacy) -> None:
    mapping = to_mapping(make_job(privacy=asked, secagg=summed(5), train=job.Train(steps=1)))
    summary = private(mechanism=asked.mechanism, unit=asked.unit)
    card = model_card(mapping, summary)
    assert "differential-privacy" in yaml.safe_load(card.split("---")[1])["tags"]
    told = {"distributed": "DP-SGD on all sites' rows together", "site": "whole sites"}
    assert told[asked.mechanism] in rows(card)["Mechanism"]
    person = {"record": "a person with several rows", "site": "a patient at several sites"}
    assert person[asked.unit] in card


def test_a_plain_run_has_no_tag_of_privacy() -> None:
    tags = yaml.safe_load(model_card(to_mapping(make_job()), PLAIN).split("---")[1])["tags"]
    assert "differential-privacy" not in tags


def test_what_was_asked_for_isnt_what_was_spent() -> None:
    asked = job.Privacy(mechanism="dpsgd", epsilon=3.0)
    mapping = to_mapping(make_job(privacy=asked, federation=job.Federation(sites=6)))
    told = rows(model_card(mapping, private(sites={"north": site(2.98)})))
    assert told["ε allowed"] == "3"
    assert told["ε spent (the worst site's)"] == "2.980"
    assert told["Sites"] == "6"  # though one alone took part


@pytest.mark.parametrize(
    ("pooling", "normalize", "told"),
    [
        ("mean", True, "mean of the tokens, scaled to length 1"),
        ("mean", False, "mean of the tokens"),
        ("cls", True, "the architecture's own head"),
    ],
)
def test_features_are_told_as_the_head_reads_them(pooling: Any, normalize: bool, told: str) -> None:
    model = job.Model(labels=("a", "b"), pooling=pooling, normalize=normalize)
    card = model_card(to_mapping(make_job(model=model)), replace(PLAIN, final={}))
    assert rows(card)["Pooling"] == told
