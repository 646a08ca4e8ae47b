"""Clean runs of every kind pass all that applies to them."""

from collections.abc import Set
from pathlib import Path

import pytest

from fedmodel.audit.verdicts import Verdict
from tests.fedmodel.audit.conftest import Forge, findings_of, found
from tests.fedmodel.audit.forged import GOLDEN, OLD
from tests.fedmodel.audit.played import KINDS, play

# Of a run over a state of its own the sites' own tree heads aren't in the folder.
OWN_HEADS = {"own-head-form", "own-head-signed", "own-head"}
SHOWN_HEADS = {"shown-head-form", "shown-head-signed", "shown-head"}
ELSEWHERE = OWN_HEADS | SHOWN_HEADS
NO_LEDGERS = {
    *(
        "ledger-present",
        "heads-form",
        "ledger-form",
        "own-head-form",
        "ledger-chain",
        "ledger-entries",
        "ledger-times",
    ),
    *("heads-signed", "ledger-owner", "own-head-signed", "heads-by-members", "roster-key"),
    *("own-head", "coordinator-head", "heads-have-ledgers", "attempts-numbered"),
    *("rounds-paid", "steps-told", "evaluation-paid", "updates-paid", "publications-paid"),
    *("asked-for", "paid-for", "outcomes-told", "started-from", "given-got", "sums-vectors"),
    *("coordinator-one-story", "coordinator-seen"),
    *SHOWN_HEADS,
}
# A coordinator that serves has tree heads, and its figures are the plan's.
AT_COORDINATOR = {"heads-form", "heads-signed", "heads-by-members", "heads-told"}
NOT_PUBLISHED = {"evaluation-paid", "publications-paid"}
EXPORTS = {"export-files", "export-named"}
UNASKED = {"heads-told", "roster-consortium", "people-agreed", *EXPORTS}
# Those of the coordinator's own ledger, which runs of before don't have.
OF_SUMS = {"sums-floors", "sums-manifests", "sums-consents", "sums-once", "sums-counted"}
OF_SUMS |= {"sums-vectors"}
OF_COORDINATOR = OF_SUMS | {
    *("coordinator-present", "coordinator-form", "coordinator-head-form", "coordinator-chain"),
    *("coordinator-beginning", "coordinator-owner", "coordinator-signed", "coordinator-key"),
    *(
        "coordinator-times",
        "coordinator-members",
        "coordinator-own-head",
        "coordinator-rounds",
        "coordinator-told",
    ),
    *(
        "coordinator-job",
        "coordinator-times",
        "asked-for",
        "paid-for",
        "model-rounds",
        "model-named",
    ),
}
UNSEEN = {"coordinator-one-story", "coordinator-seen", *SHOWN_HEADS}
OF_OUTCOMES = {"outcomes-told", "started-from", "given-got", "plan-grounds"}
NO_CAP, NO_SUMS, NO_SHARES = {"caps-kept"}, OF_SUMS, {"epsilon-adversaries"}
NO_PRIVACY = {
    *("plan-unit", "plan-mechanism", "plan-rate", "plan-noise", "plan-clip", "plan-steps"),
    *("plan-epsilon", "epsilon-bounds", "epsilon-told", "epsilon-kept", "epsilon-total"),
    *("epsilon-worst", "job-named", "plan-grounds"),
}
OF_LEDGERS = NO_PRIVACY - {"plan-epsilon", "epsilon-worst"}
UNFINISHED = {
    *("summary-form", "steps-told", "job-named", "summary-promise", "epsilon-told"),
    *("epsilon-total", "epsilon-worst", "sums-agreed", "model-checkpoint"),
}
PLAIN = UNASKED | NO_CAP | NO_SUMS | NO_SHARES
UNTESTED = {
    "none": PLAIN | NO_LEDGERS | NO_PRIVACY,
    "record": PLAIN - NO_CAP,
    "resumed": PLAIN,
    "interrupted": PLAIN | NOT_PUBLISHED | UNFINISHED,
    "repeated": UNASKED | NO_CAP | NOT_PUBLISHED,
    "shared": PLAIN | ELSEWHERE | NOT_PUBLISHED,
    "handed-in": (PLAIN | OWN_HEADS | {"epsilon-total"}) - AT_COORDINATOR,
    "handed-shared": (UNASKED | NO_CAP | OWN_HEADS | {"epsilon-total"}) - AT_COORDINATOR,
    "served": (PLAIN | NO_LEDGERS | OF_LEDGERS) - AT_COORDINATOR,
    "distributed": UNASKED | NO_CAP | NOT_PUBLISHED,
    "site": UNASKED | NO_CAP | NOT_PUBLISHED,
    "on": UNASKED | NO_CAP | NOT_PUBLISHED | NO_SHARES,
    "recovered": UNASKED | NO_CAP | NOT_PUBLISHED | NO_SHARES,
    "lost": UNASKED | NO_CAP | NOT_PUBLISHED,
    "skipped": PLAIN,
    "means": PLAIN,
}
UNSURE_BEFORE = {"patient": {"plan-clip"}}


def check(
    path: Path, kind: str, more: Set[str] = frozenset(), unsure: Set[str] = frozenset()
) -> None:
    named: dict[Verdict, set[str]] = {verdict: set() for verdict in Verdict}
    for checks in findings_of(path).checks.values():
        for each in checks:
            named[each.verdict].add(each.name)
    assert named[Verdict.FAIL] == set()
    assert named[Verdict.INCONCLUSIVE] == unsure
    assert named[Verdict.NOT_TESTED] == UNTESTED.get(kind, PLAIN | NOT_PUBLISHED) | more
    assert named[Verdict.PASS]


@pytest.mark.parametrize("kind", KINDS)
def test_a_golden_run_passes_all_that_applies(kind: str) -> None:
    check(GOLDEN / kind, kind)


@pytest.mark.parametrize("path", sorted(OLD.iterdir()), ids=lambda path: path.name)
def test_a_golden_run_of_before_passes_what_its_records_can_tell(path: Path) -> None:
    unsure = UNSURE_BEFORE.get(path.name, set())
    headless = {"one-head"} if path.name == "none" else set()
    check(path, path.name, OF_COORDINATOR | UNSEEN | OF_OUTCOMES | headless, unsure)


@pytest.mark.long
@pytest.mark.sample(2)
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_is_played_now_passes_all_that_applies(kind: str, tmp_path: Path) -> None:
    check(play(kind, tmp_path), kind)


def test_where_no_ledger_was_handed_in_it_is_said_how_they_come_here(forge: Forge) -> None:
    reasons = {e.reason for e in found(forge("served").path, Verdict.NOT_TESTED)["ledger-chain"]}
    (said,) = reasons
    assert "fedmodel site hand-in" in said
    assert "fedmodel bundle run=NAME with=[FILE,…]" in said
