"""Figures of a report where sites differ: whose ε, whose cap, which odds, in which order."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fedmodel.audit.board import sacro
from fedmodel.audit.board.answers import answers
from fedmodel.audit.board.asked import Terms
from fedmodel.audit.board.facts import Facts, facts_of
from fedmodel.audit.board.picture import budget_picture, picture_text
from fedmodel.audit.board.recommendation import recommend
from fedmodel.audit.board.report import Report, report_of
from fedmodel.audit.evidence import FolderEvidence
from fedmodel.audit.record_files import read_records
from fedmodel.audit.records import Records
from fedmodel.audit.verdicts import Check, Verdict
from fedmodel.audit.verify import Findings, verify
from tests.fedmodel.audit.conftest import Forge
from tests.fedmodel.audit.forged import GOLDEN, OLD
from tests.fedmodel.audit.test_outcomes_tampered import CAPS, reserved

MADE = "2027-01-01T00:00:00Z"


def told(kind: str = "record") -> tuple[Findings, Facts]:
    records = read_records(FolderEvidence(GOLDEN / kind))
    assert records.job.value is not None
    return verify(records), facts_of(records, records.job.value)


def unlike(facts: Facts) -> Facts:
    """Three sites that differ, the last of which took no part."""
    first, second, third = facts.sites
    sites = (
        replace(first, epsilon=1.0),
        replace(second, epsilon=2.0),
        replace(third, epsilon=3.0, refused="by its policy", own=False),
    )
    return replace(facts, sites=sites)


def test_whom_it_cost_most_is_one_that_took_part() -> None:
    findings, facts = told()
    first, second, third = unlike(facts).sites
    two = replace(facts, sites=(first, second))
    assert two.worst == 2.0
    assert unlike(facts).lacking == ()
    assert replace(facts, sites=(replace(first, own=False), third)).lacking == (first.name,)
    advice = recommend(findings, facts, termed=True, attacked=True)
    (worst,) = (a for a in answers(findings, unlike(facts), advice, Terms(), None) if a.number == 9)
    assert worst.text[0] == f"By ε: {second.name}, at 2.000."


def test_where_it_cost_all_the_same_nobody_is_named_as_worst() -> None:
    findings, facts = told()
    sites = tuple(replace(site, epsilon=1.0, refused=None) for site in facts.sites)
    for count, said in (
        (3, f"By ε all are alike: {', '.join(site.name for site in sites)}, at 1.000 each."),
        (1, f"By ε: {sites[0].name}, at 1.000."),
    ):
        these = replace(facts, sites=sites[:count])
        advice = recommend(findings, these, termed=True, attacked=True)
        (worst,) = (a for a in answers(findings, these, advice, Terms(), None) if a.number == 9)
        assert worst.text[0] == said


@pytest.mark.parametrize("place", ["ledger", "manifest"])
def test_the_cap_is_that_of_all_that_a_site_ever_spends(forge: Forge, place: str) -> None:
    caps = {**CAPS, "epsilon": "9.0", "run_epsilon": "5.0"}
    if place == "ledger":
        forged = forge()
        reserved(caps=caps)(forged)
    else:
        forged = forge(golden=OLD)
        asked = {**caps, "epsilon": 9.0, "run_epsilon": 5.0}
        forged.edit("manifest.json", lambda found: found["config"].update(budget=asked))
    records = read_records(FolderEvidence(forged.path))
    assert records.job.value is not None
    (site, *_) = facts_of(records, records.job.value).sites
    assert site.cost is not None
    assert site.cost.cap == 9.0


def test_a_sites_own_ledger_goes_before_what_the_coordinator_says(forge: Forge) -> None:
    forged = forge()
    before = told()[1].sites[0].epsilon
    forged.edit("summary.json", lambda s: s["privacy"]["sites"]["site-1"].update(epsilon=0.1))
    records = read_records(FolderEvidence(forged.path))
    assert records.job.value is not None
    assert facts_of(records, records.job.value).sites[0].epsilon == before


def test_each_point_of_a_course_has_its_own_round() -> None:
    (course,) = told("resumed")[1].courses
    assert course.rounds == (1, 2, 3)
    assert len(set(course.epsilons)) == 3


@pytest.mark.parametrize(("epsilon", "stays"), [(20.0, False), (20.01, True)])
def test_from_twenty_on_it_hardly_promises(epsilon: float, *, stays: bool) -> None:
    findings, facts = told()
    some = replace(facts, sites=(replace(facts.sites[0], epsilon=epsilon),))
    found = recommend(findings, some, termed=True, attacked=True)
    assert (found.advice == "don't release") is stays


def test_conditions_stand_in_their_order() -> None:
    findings, facts = told("served")
    unsure = Check("rounds-numbered", "run", Verdict.INCONCLUSIVE, "it may be")
    more: Any = {**findings.checks, "completeness": (unsure,)}
    found = recommend(replace(findings, checks=more), facts, termed=False, attacked=False)
    words = ("INCONCLUSIVE", "ledgers aren't here", "the roster", "attacked", "who may receive")
    places = [next(n for n, c in enumerate(found.conditions) if word in c) for word in words]
    assert places == sorted(places)
    assert found.reason == found.conditions[0]


def test_the_interval_of_an_accuracy_is_that_of_95_percent() -> None:
    findings, facts = told()
    summary = facts.records.summary
    assert summary.value is not None
    assert summary.value.released is not None
    released = replace(summary.value.released, accuracy=0.5, standard_error=0.1)
    known = replace(summary, value=replace(summary.value, released=released))
    some = replace(facts, records=replace(facts.records, summary=known))
    advice = recommend(findings, some, termed=True, attacked=True)
    (price,) = (a for a in answers(findings, some, advice, Terms(), None) if a.number == 10)
    assert "50.0 % right, 30 to 70 % by its noise alone (95 %)." in price.text[0]


# -- texts of others -----------------------------------------------------------------------------

ODD = "\u202esite\x1b[31m"


def reported(change: Callable[[Facts], Facts], records: Records) -> Report:
    found = report_of(verify(records), records, terms=Terms(), made=MADE)
    return replace(found, facts=change(found.facts))


def test_names_of_others_are_escaped_in_tables_and_pictures() -> None:
    records = read_records(FolderEvidence(GOLDEN / "record"))

    def odd(facts: Facts) -> Facts:
        sites = tuple(replace(each, name=f"{ODD}{n}") for n, each in enumerate(facts.sites))
        courses = tuple(replace(each, sites=(ODD,)) for each in facts.courses)
        return replace(facts, sites=sites, courses=courses)

    found = reported(odd, records)
    found = replace(found, advice=replace(found.advice, conditions=(ODD,)))
    files = sacro.sacro_files(found, sacro.tables(found))
    texts = [text.decode() for text in files.values()]
    texts += [*picture_text(found.facts), budget_picture(found.facts) or ""]
    texts.append(str(found.to_mapping()["sites"]))
    assert len(texts) > len(files)
    for text in texts:
        assert not set(ODD) & {"\u202e", "\x1b"} & set(text)


@pytest.mark.parametrize("first", "=+-@")
def test_no_cell_is_a_formula(first: str) -> None:
    assert sacro._cell(f"{first}cmd|'/c calc'!A1").startswith(f"'{first}")
