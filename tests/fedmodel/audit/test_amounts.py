"""Steps of a run whose rounds had to be repeated: fewer at its end, and no fewer than that."""

from pathlib import Path

import pytest

from fedmodel.accounting.planning import plan_of
from fedmodel.accounting.remaining import Remaining, give_up
from fedmodel.audit.amounts import steps_as_planned
from fedmodel.audit.plans import Held
from fedmodel.audit.reading import read_ledger
from fedmodel.audit.verdicts import Outcome, Verdict
from fedmodel.job import Privacy, Train
from fedmodel.ledger import Request, part_of
from fedmodel.ledger.repeated import Decoder
from fedmodel.ledger.site_state import SiteState
from tests.jobs import make_job

# Noise grows, so that early steps cost more than late ones: a first round taken twice leaves too
# little for all of the last.
JOB = make_job(
    train=Train(rounds=3, steps=8),
    privacy=Privacy(mechanism="dpsgd", rate=0.2, epsilon=3.0, decay=1.2),
)
PLAN = plan_of(JOB)


def outcome(folder: Path, *taken: tuple[int, int | None]) -> tuple[Outcome, list[int]]:
    """Spend rounds of so many steps, or as many as ε covers, and look at the ledger."""
    ledger, all_steps = SiteState(folder / "site", "north").ledger(), []
    ledger.reserve(Request.of(PLAN), run="r", job=JOB.sha256, code="test")
    for round_, steps in taken:
        held = ledger.book().of("r", JOB.sha256)
        spent = [spend for each in held for spend in each.done()]
        possible = Remaining(PLAN, spent).affordable(round_, PLAN.steps)
        all_steps.append(possible if steps is None else steps)
        ledger.spend(
            part_of(PLAN, PLAN.spend(round_, all_steps[-1])),
            run="r",
            job=JOB.sha256,
            round=round_,
            clip=PLAN.clip,
            within=lambda spent, held: give_up(PLAN, spent, held),
        )
    read = read_ledger("ledger/north.jsonl", ledger.path.read_bytes(), Decoder())
    return steps_as_planned(Held(JOB, PLAN, read.of_run("r"), read)), all_steps


def test_whole_rounds(tmp_path: Path) -> None:
    found, _ = outcome(tmp_path, (1, 8), (2, 8), (3, 8))
    assert found.verdict == Verdict.PASS
    assert found.reason == "8 steps a round"


def test_a_round_that_epsilon_has_cut_short_is_explained(tmp_path: Path) -> None:
    found, steps = outcome(tmp_path, (1, 8), (1, 8), (2, None))
    assert steps[:2] == [8, 8]
    assert 1 < steps[2] < 8
    assert found.verdict == Verdict.PASS
    assert "1 rounds have fewer, as ε ran out" in found.reason


@pytest.mark.parametrize("at", [0, 1, 2])
def test_any_other_is_not(tmp_path: Path, at: int) -> None:
    taken: list[tuple[int, int | None]] = [(1, 8), (1, 8), (2, None)]
    whole = outcome(tmp_path / "whole", *taken)[1]
    taken[at] = (taken[at][0], whole[at] - 1)
    found, _ = outcome(tmp_path / "less", *taken)
    assert found.verdict == Verdict.FAIL
    assert found.entry == f"ledger/north.jsonl, line {at + 3}"
    assert f"covered {whole[at]}" in found.reason
