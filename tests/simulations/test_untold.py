"""Sites that were away when a run ended hear of it before they join the coordinator's next one."""

from typing import Any

import pytest

from fedmodel.errors import QuorumError
from fedmodel.job import ProposedPrivacy
from fedmodel.ledger import Ledger
from fedmodel.runs import RunFolder
from server.untold import Untold
from simulations.faults import Fault

pytestmark = pytest.mark.long

RECORD = ProposedPrivacy(mechanism="dpsgd", epsilon=8.0, delta=1e-3)
LOST = [Fault(what="there", kind="query.leave", node=4)]


def ends(ran: Any, node: int) -> list[tuple[str, str]]:
    """Return run and kind of each end of a reservation in a site's ledger."""
    entries = Ledger(ran.sites[node].ledger_file).entries()
    return [(e.run, e.type) for e in entries if e.type in ("give-back", "abort")]


@pytest.mark.sample(1)
@pytest.mark.parametrize("secagg", ["on", "off"])
def test_the_end_of_a_run_is_told_before_the_next_one_is_joined(lab: Any, secagg: str) -> None:
    lab.state = lab.folder / "state"
    untold = Untold(lab.state / "coordinator")
    first = lab.run(lab.job(secagg, RECORD), faults=LOST)
    (ending,) = untold.endings()
    assert (ending.run, ending.failed) == (first.folder.run, False)
    assert set(ending.members) == {first.sites[4].state.key.public.hex()}
    assert ends(first, 4) == []
    assert ends(first, 3) == [(first.folder.run, "give-back")]
    second = lab.run(lab.job(secagg, RECORD, rounds=3))
    assert [row["updates"] for row in second.rows] == [5, 5, 5]
    for node in second.sites:
        both = [(r.folder.run, "give-back") for r in (first, second)]
        assert ends(second, node) == both
    assert untold.endings() == ()
    # Who had nothing to be told was told nothing.
    assert len(second.grid.replies("query.leave", 4)) == 2
    assert len(second.grid.replies("query.leave", 3)) == 1


def test_who_is_still_away_is_told_another_time_and_an_answer_that_was_lost_does_no_harm(
    lab: Any,
) -> None:
    lab.state = lab.folder / "state"
    untold = Untold(lab.state / "coordinator")
    first = lab.run(lab.job("off", RECORD), faults=LOST)
    heard = [Fault(what="back", kind="query.leave", node=4, times=(1,))]
    second = lab.run(lab.job("off", RECORD, rounds=3), faults=heard)
    assert ends(second, 4) == [(r.folder.run, "give-back") for r in (first, second)]
    assert [ending.run for ending in untold.endings()] == [first.folder.run]
    third = lab.run(lab.job("off", RECORD, rounds=1))
    assert [run for run, _ in ends(third, 4)] == [r.folder.run for r in (first, second, third)]
    assert untold.endings() == ()


def test_a_run_that_failed_untold_and_goes_on_is_not_ended_behind_its_back(lab: Any) -> None:
    lab.state = lab.folder / "state"
    untold = Untold(lab.state / "coordinator")
    job = lab.job("off", RECORD, rounds=2)
    gone = [Fault(what="there", kind="train", times=(1,)), *LOST]
    first = lab.run(job, faults=gone, error=QuorumError)
    assert [ending.failed for ending in untold.endings()] == [True]
    again = lab.run(job, folder=RunFolder.open(first.folder.path))
    assert untold.endings() == ()
    assert again.result.rounds == 2
    # Node 4 went on with the reservation that it had held all the while.
    assert ends(again, 4) == [(first.folder.run, "give-back")]
    assert ends(again, 3) == [(first.folder.run, "abort"), (first.folder.run, "give-back")]


def test_a_run_whose_sites_are_away_keeps_what_they_hold_and_goes_on_with_it(lab: Any) -> None:
    job = lab.job("off", RECORD, rounds=3)
    gone = [Fault(what="there", kind="train", times=(2,))]
    first = lab.run(job, faults=gone, error=QuorumError)
    assert first.grid.replies("query.leave") == []
    assert all(ends(first, node) == [] for node in first.sites)
    again = lab.run(job, folder=RunFolder.open(first.folder.path))
    for node, site in again.sites.items():
        entries = Ledger(site.ledger_file).entries()
        assert [e.type for e in entries].count("reserve") == 1
        assert [e.round for e in again.spent(node)] == [1, 2, 3]
