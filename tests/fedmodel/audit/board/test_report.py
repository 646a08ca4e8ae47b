"""What a report says of a run: all questions, the ledgers' own figures, no word too much."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from fedmodel.audit.board.asked import QUESTIONS, Terms
from fedmodel.audit.board.page import report_page
from fedmodel.audit.board.report import Report, report_of
from fedmodel.audit.evidence import FolderEvidence
from fedmodel.audit.record_files import read_records
from fedmodel.audit.verdicts import Verdict
from fedmodel.audit.verify import verify
from fedmodel.errors import EvidenceError
from tests.fedmodel.audit.conftest import Forge
from tests.fedmodel.audit.forged import GOLDEN

KINDS = sorted(path.name for path in GOLDEN.iterdir())
MADE = "2027-01-01T00:00:00Z"


def report(path: Path, terms: Terms = Terms()) -> Report:  # noqa: B008 - frozen
    records = read_records(FolderEvidence(path))
    return report_of(verify(records), records, terms=terms, made=MADE)


@pytest.mark.parametrize("kind", KINDS)
def test_every_question_is_answered_or_it_is_said_why_not(kind: str) -> None:
    found = report(GOLDEN / kind)
    assert [each.number for each in found.answers] == list(range(1, 16))
    assert [each.question for each in found.answers] == list(QUESTIONS)
    assert all(line.strip() for each in found.answers for line in each.text)
    assert all(each.text for each in found.answers)
    # What no record holds isn't answered, whatever the run.
    assert not {7, 8, 11} & {each.number for each in found.answers if each.answered}
    told = json.loads(json.dumps(found.to_mapping(), allow_nan=False))
    assert told["schema"] == "fedmodel.board-report/1"
    assert told["recommendation"]["advice"] == found.advice.advice
    assert len(told["questions"]) == 15


@pytest.mark.parametrize("kind", KINDS)
def test_no_word_promises_more_than_records_can_show(kind: str) -> None:
    page = report_page(report(GOLDEN / kind)).lower()
    for word in ("anonym", "complian", "proved", "proven", "guarantee"):
        assert word not in page


def test_its_figures_are_those_of_the_summary_and_the_ledgers() -> None:
    for kind in ("record", "distributed", "shared"):
        path = GOLDEN / kind
        told = json.loads((path / "summary.json").read_bytes())["privacy"]
        found = report(path)
        assert found.facts.worst == pytest.approx(told["epsilon"], rel=1e-3)
        for site in found.facts.sites:
            assert site.own
            assert site.cost is not None
            assert site.cost.after == pytest.approx(
                told["sites"][site.name]["epsilon_total"], rel=1e-3
            )
            assert site.steps == told["sites"][site.name]["steps"]


def test_what_was_spent_before_and_by_whom_is_told() -> None:
    (first, *_) = report(GOLDEN / "shared").facts.sites
    assert first.cost is not None
    assert first.cost.before is not None
    assert first.cost.after is not None
    assert 0 < first.cost.before < first.cost.after
    assert len(first.cost.others) == 1
    answer = report(GOLDEN / "shared").answers[4]
    assert answer.answered
    assert first.cost.others[0] in answer.text[0]


def test_the_course_ends_at_what_training_has_cost() -> None:
    found = report(GOLDEN / "resumed").facts
    (course,) = found.courses
    assert course.sites == ("site-1", "site-2", "site-3")
    assert list(course.epsilons) == sorted(course.epsilons)
    assert course.rounds[-1] == found.job.train.rounds
    # Beside training the run has paid for an evaluation that costs little.
    assert found.worst is not None
    assert 0.99 * found.worst < course.epsilons[-1] < found.worst


def test_a_planted_failure_is_found_and_changes_nothing() -> None:
    path = GOLDEN / "record"
    before = {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}
    found = report(path)
    assert found.planted is not None
    assert found.planted.verdict == Verdict.FAIL
    assert found.findings.count(Verdict.FAIL) == 0
    assert before == {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}
    unkept = report(GOLDEN / "none").planted
    assert unkept is not None
    assert unkept.name == "job-hash"


def test_what_failed_stands_on_the_first_page(forge: Forge) -> None:
    forged = forge()
    forged.write_rows(forged.rows()[:1])
    found = report(forged.path)
    (first, *_) = found.first["Is anything refuted?"]
    assert first.startswith("Yes: rounds-numbered (run).")


def test_a_ledger_that_is_damaged_gives_no_figures(forge: Forge) -> None:
    forged = forge()
    text = forged.ledger().read_bytes().splitlines(keepends=True)
    forged.ledger().write_bytes(b"".join(text[:3] + text[4:]))
    site = next(each for each in report(forged.path).facts.sites if each.name == "site-1")
    assert not site.own
    assert site.cost is None


def test_without_a_job_there_is_none(forge: Forge) -> None:
    forged = forge()
    text = (forged.path / "manifest.json").read_text()
    (forged.path / "manifest.json").write_text(re.sub(r'"format": "fedmodel.job/2",', "", text))
    with pytest.raises(EvidenceError, match="no report can be made"):
        report(forged.path)


def test_terms_are_the_auditors_word() -> None:
    path = GOLDEN / "record"
    assert not report(path).answers[13].answered
    terms = Terms(recipients="the ethics board", until="2027-01-31", contact="Dr Who")
    answer = report(path, terms).answers[13]
    assert answer.answered
    assert "Until: 2027-01-31" in " ".join(answer.text)


def test_what_is_left_is_what_the_sites_own_ledger_allows(forge: Forge) -> None:
    told = " ".join(report(GOLDEN / "patient").answers[4].text)
    assert "their ledgers name no cap" in told
    forged = forge("record")

    def limit(entry: dict[str, Any]) -> None:
        caps = {"epsilon": "90.0", "delta": None, "run_epsilon": None, "unit": "record"}
        entry["grounds"]["caps"] = caps

    forged.change("site-1", lambda entry: entry["type"] == "reserve", limit)
    made = report(forged.path)
    (site,) = (site for site in made.facts.sites if site.name == "site-1")
    assert site.cost is not None
    assert site.cost.after is not None
    assert f"cap is ε = 90, {90 - site.cost.after:.3f} above" in " ".join(made.answers[4].text)


@pytest.mark.parametrize("kind", ["record", "patient", "site"])
def test_what_is_promised_is_told_as_a_bound(kind: str) -> None:
    # At ε = 8 whoever attacks may be right nearly always: nothing is "hardly" told.
    made = report(GOLDEN / kind)
    words = [*made.first["What was promised"], *made.answers[0].text]
    assert not {"hardly", "nearly"} & set(re.findall(r"[a-z]+", " ".join(words)))
    factor = f"{math.exp(made.facts.job.privacy.epsilon):,.0f} times"
    assert factor in made.answers[0].text[0]
