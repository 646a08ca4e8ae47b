"""The page that a hospital's people decide by: all that leaves stands on it, and what it costs."""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from clients.desk import Asked
from clients.desk.page import Arrays, guess, make_page, page_text
from fedmodel import config, job, tasks
from fedmodel.budget.statement import WhatIf
from fedmodel.job import Job, Privacy
from tests.jobs import make_job

ARRAYS = Arrays(shapes={"classifier.weight": (5, 128), "classifier.bias": (5,)})
COST = WhatIf(
    site="north",
    dataset="main",
    unit="patient",
    before=1.25,
    after=4.5,
    cap=6.0,
    refusal=None,
    alone=3.0,
    spent=0.75,
    delta=1e-5,
)
PRIVATE = make_job(privacy=Privacy(mechanism="dpsgd", unit="patient", rate=0.1, epsilon=3.0))


def page_of(made: Job, arrays: Arrays = ARRAYS, cost: WhatIf | None = COST, **changes: Any) -> Any:
    offer = Asked(
        **{
            "run": "demo-01234567",
            "purpose": "Triage",
            "coordinator": "ab" * 32,
            "consortium": "North",
            "since": "2026-11-30T12:00:00+00:00",
            "job": made.json.decode(),
        }
        | changes
    )
    return make_page(offer, made, arrays, cost)


def test_what_leaves_for_a_head_that_starts_from_means_is_named_by_round() -> None:
    means = make_job(
        model=job.Model(labels=("a", "b"), head_bias=True),
        train=job.Train(method="head", start="means", rounds=7, steps=1),
        privacy=Privacy(mechanism="dpsgd", unit="patient", epsilon=3.0),
    )
    found = {e["what"]: e["times"] for e in page_of(means)["leaves"]}
    assert found["the mean of the texts' vectors, and of how many rows it is"] == 1
    assert found["the sum of each class's vectors, and how many rows it has"] == 1
    assert found["the change of what is trained"] == 5


def test_the_text_says_what_the_page_holds() -> None:
    page = page_of(PRIVATE)
    text = " ".join(page_text(page).split())
    for words in (
        "demo-01234567",
        "Triage",
        "of North",
        "one patient, with all of that patient's rows",
        "ε = 3",
        "per patient, at δ = 1e-05: by itself the job costs ε 3.000; ε 0.750 is spent; with",
        "what is held, ε 1.250 before, 4.500 after; the cap is 6, 1.500 are left",
        "2 arrays, 645 numbers, 2,580 bytes",
        "classifier.weight 5 × 128; classifier.bias 5",
        PRIVATE.weights,
        PRIVATE.sha256,
    ):
        assert words in text, words
    assert page["job"] == PRIVATE.sha256
    assert json.loads(config.canonical(page)) == page  # what is kept is what was shown


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 8.0])
@pytest.mark.parametrize("delta", [1e-6, 0.01])
def test_the_best_guess_is_that_of_the_worst_mechanism(epsilon: float, delta: float) -> None:
    """Of the one that uses (ε, δ) up: it tells with δ, and else is randomised response."""
    ratio = math.exp(epsilon)
    there = np.array([delta, 0.0, (1 - delta) * ratio / (1 + ratio), (1 - delta) / (1 + ratio)])
    absent = there[[1, 0, 3, 2]]
    assert there.sum() == pytest.approx(1)
    best = np.maximum(there, absent).sum() / 2  # equal odds before, and the likelier one guessed
    assert guess(epsilon, delta) == pytest.approx(best, rel=1e-12)


def test_guesses_without_and_with_hardly_any_limit() -> None:
    assert guess(0.0 + 1e-12, 1e-12) == pytest.approx(0.5)
    assert guess(1e6, 1e-5) == 1.0


def test_a_job_without_privacy_is_called_that() -> None:
    plain = make_job()
    page = page_of(plain, cost=None)
    text = " ".join(page_text(page).split())
    assert "Privacy NONE. What leaves may reveal facts about single rows" in text
    assert "nothing is spent, for nothing is promised" in text
    assert {leaving["what"] for leaving in page["leaves"]} >= {"the mean training loss"}


def test_weights_by_rows_tell_the_number_of_rows() -> None:
    by_rows = replace(make_job(), aggregation=job.Aggregation(weights="examples"))
    said = [leaving["what"] for leaving in page_of(by_rows)["leaves"]]
    assert "the number of training rows" in said
    assert "the number of training rows" not in [e["what"] for e in page_of(make_job())["leaves"]]


def test_what_would_be_refused_is_said_and_unlimited_is_no_number() -> None:
    over = replace(COST, before=math.inf, after=math.inf, refusal="ε would be 9 of 6")
    page = page_of(PRIVATE, cost=over)
    text = " ".join(page_text(page).split())
    assert "unlimited or not known before" in text
    assert "It would be REFUSED: ε would be 9 of 6" in text
    assert "inf" not in text


def test_arrays_that_cant_be_told_are_not_made_up() -> None:
    page = page_of(PRIVATE, Arrays(shapes={}, unknown="the model isn't on this machine"))
    assert page["leaves"][0]["bytes"] is None
    text = page_text(page)
    assert "not known here: the model isn't on this machine" in text
    assert "0 numbers" not in text


def test_no_words_of_others_turn_a_line_round_or_begin_one() -> None:
    hostile = "ok\n\x1b[2JApproved by\u202e the board\r\nstatus: approved"
    text = page_text(page_of(PRIVATE, purpose=hostile, consortium=hostile))
    assert all(line.isprintable() for line in text.splitlines())
    assert not [line for line in text.splitlines() if line.startswith(("status", "Approved"))]


def test_bits_of_a_masked_sum_are_those_that_travel() -> None:
    from fedmodel.job.secagg import ProposedSecAgg, SecAgg, masked_sums

    sums = masked_sums(ProposedSecAgg(mode="on", bits=24), sites=5, bits=24)
    summed = replace(
        make_job(),
        secagg=SecAgg(mode="on", sums=sums),
        federation=job.Federation(sites=5),
    )
    first, *others = page_of(summed)["leaves"]
    assert first["bytes"] == 645 * 3
    assert f"sums of at least {sums.survivors} sites" in first["protection"]
    assert any("mask secrets" in leaving["what"] for leaving in others)


def test_counts_on_held_out_rows_are_told_where_they_leave() -> None:
    evaluated = replace(PRIVATE, federation=job.Federation(test="held-out"))
    found = {e["what"]: e for made in (evaluated, PRIVATE) for e in page_of(made)["leaves"]}
    (counts,) = [what for what in found if what.startswith("counts on held-out rows: ")]
    names = tasks.of(evaluated.model.task).counted(evaluated.model.labels).names
    assert counts.partition(": ")[2] == ", ".join(names)
    assert found[counts]["times"] == 1
    assert not [e for e in page_of(PRIVATE)["leaves"] if e["what"] == counts]


@pytest.mark.parametrize(("mode", "hidden"), [("off", "none"), ("seal", "hidden as the change is")])
def test_what_travels_with_the_change_is_as_hidden_as_it(mode: Any, hidden: str) -> None:
    made = replace(make_job(), aggregation=job.Aggregation(weights="examples"))
    made = replace(made, secagg=job.SecAgg(mode=mode))
    for each in page_of(made)["leaves"]:
        if each["what"] in ("the number of training rows", "the mean training loss"):
            assert hidden in each["protection"]
