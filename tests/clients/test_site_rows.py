"""A site's rows in a job: what it declares of them, which it leaves out, and who hears of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients.declared import Declared
from fedmodel.data import Rows
from fedmodel.job import Federation
from tests.clients.test_app import EVALUATED, LABELS, PLAIN, PRIVATE, SECRET, TEXTS, Talk, refusal


@pytest.fixture
def talk(tmp_path: Path) -> Talk:
    return Talk(tmp_path)


@pytest.mark.parametrize("least", [1, 16], ids=["fewer than a batch", "fewer than min_rows"])
def test_a_site_refuses_by_the_rows_that_it_declares_and_tells_no_others(
    least: int, tmp_path: Path
) -> None:
    declared = Declared(records=(4, 40))
    talk = Talk(tmp_path, rows=Rows(TEXTS[:6], LABELS[:6]), declared=declared)
    job = replace(PLAIN, federation=Federation(min_rows=least))
    reason = refusal(talk.join(job), "RefusedError")
    assert "got 4 by what it declares" in reason
    assert "6" not in reason.replace("16", "")
    assert "join" in refusal(talk.order(), "UnjoinedError")


def test_rows_of_other_classes_are_left_out_and_nothing_is_told_of_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The site trains on what is left, to the bit as if the others had never been there."""
    labels = [*LABELS[:-2], SECRET, "rare"]
    trained = []
    for name, rows in (("all", Rows(TEXTS, labels)), ("left", Rows(TEXTS[:-2], LABELS[:-2]))):
        talk = Talk(tmp_path / name, rows=rows)
        reply = talk.join(replace(PLAIN, federation=Federation(min_rows=1)))
        assert not reply.has_error(), reply.error
        trained.append(talk.train())
    np.testing.assert_array_equal(trained[0].vector, trained[1].vector)
    assert trained[0].metrics == trained[1].metrics
    assert "2 of 16 training rows have labels that the job doesn't list" in caplog.text
    assert SECRET not in caplog.text


def test_a_job_without_any_class_of_the_site_is_refused_by_what_it_declares(tmp_path: Path) -> None:
    rows = Rows(TEXTS, [SECRET] * len(TEXTS))
    reason = refusal(Talk(tmp_path, rows=rows).join(PLAIN), "RefusedError")
    assert "classes that this site declares" in reason
    assert SECRET not in reason
    silent = Declared(records=(16, 16))
    talk = Talk(tmp_path / "silent", rows=rows, declared=silent)
    assert not talk.join(PLAIN).has_error()
    # Without noise it has nothing to give, which is told when it is asked for, as a kind.
    assert refusal(talk.order(), "FedmodelError") == "DataError: see the site's own log"
    assert not talk.join(PRIVATE).has_error()
    assert not talk.order().has_error()  # noise alone


def test_a_delta_too_large_for_what_a_site_declares_is_refused(tmp_path: Path) -> None:
    talk = Talk(tmp_path, declared=Declared(records=(16, 20)))
    job = replace(PRIVATE, privacy=replace(PRIVATE.privacy, delta=0.05))
    assert "declares at most 20 records" in refusal(talk.join(job), "RefusedError")


def test_a_tokeniser_that_quotes_a_row_is_not_quoted(
    talk: Talk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(texts: list[str], **_: Any) -> Any:
        raise ValueError(f"can't read {texts[0]}")

    monkeypatch.setattr(talk.learner, "tokenizer", broken)
    assert not talk.join(PLAIN).has_error()  # an offer's answer tells of no row
    assert "unexpected ValueError" in refusal(talk.order(), "unexpected")
    assert SECRET not in caplog.text
    assert "ValueError" in caplog.text


def test_a_tokeniser_that_fails_at_one_row_asks_nothing_of_a_private_site(
    talk: Talk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Who offers chooses it: if a word in one row could stop a site, it would ask for words."""
    kind = type(talk.learner.tokenizer)
    real = kind.__call__

    def fails_at_some(self: Any, texts: list[str], **how: Any) -> Any:
        if any("note 1" in text for text in texts):
            raise ValueError(texts)
        return real(self, texts, **how)

    monkeypatch.setattr(kind, "__call__", fails_at_some)
    talk.restart(test=Rows(TEXTS[:3], LABELS[:3]))
    for job in (PRIVATE, EVALUATED):
        assert not talk.join(job).has_error()
        assert not talk.order().has_error()
    assert len(talk.run.examples) == sum("note 1" not in text for text in TEXTS) == 9
    assert not talk.evaluate().has_error()
    assert len(talk.run._opened().held_out or ()) == 2
    assert "the job's tokenizer fails at 7 of 16 training rows" in caplog.text
    assert "the job's tokenizer fails at 1 of 3 held-out rows" in caplog.text
    assert SECRET not in caplog.text
