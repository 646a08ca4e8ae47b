"""Sites that restart in the midst of a run, and take part again from the next round."""

from typing import Any

import numpy as np
import pytest
from flwr.app import Message

from fedmodel.job import ProposedPrivacy
from fedmodel.ledger import Ledger
from fedmodel.runs import RunFolder
from simulations.faults import Fault
from tests.conftest import new_run
from tests.simulations.conftest import Knowing, Watched

pytestmark = pytest.mark.long

RECORD = ProposedPrivacy(mechanism="dpsgd", epsilon=8.0, delta=1e-3)
POOLED = ProposedPrivacy(mechanism="distributed", epsilon=8.0, delta=1e-3)
ENDS = {"off": "train", "seal": "train", "on": "query.reveal"}  # the last message of a round


def after_round(secagg: str, *nodes: int, times: tuple[int, ...] = (1,)) -> list[Fault]:
    """Restart sites after they have done all of a round."""
    kind = ENDS[secagg]
    return [Fault(what="none", kind=kind, node=n, times=times, restart=True) for n in nodes]


def joinings(ran: Any, node: int) -> int:
    return len(ran.grid.replies("query.join", node))


@pytest.mark.sample(2)
@pytest.mark.parametrize("knowing", [True, False])
@pytest.mark.parametrize("secagg", ["on", "seal", "off"])
def test_a_site_that_restarts_takes_part_again_from_the_next_round(
    lab: Any, secagg: str, *, knowing: bool
) -> None:
    job = lab.job(secagg, rounds=3)
    kind = Knowing if knowing else Watched
    ran = lab.run(job, faults=after_round(secagg, 4), kind=kind)
    # A grid that doesn't know of processes learns of it from the site's own answer.
    assert [row["updates"] for row in ran.rows] == ([5, 5, 5] if knowing else [5, 4, 5])
    assert {joinings(ran, node) for node in ran.sites} == {2}
    if knowing:
        whole = lab.run(job)
        assert ran.vector.tobytes() == whole.vector.tobytes()
        assert ran.rows == whole.rows
        assert {joinings(whole, node) for node in whole.sites} == {1}
    else:
        assert "it takes part when all join anew" in str(ran.rows[1]["failures"]["4"])


@pytest.mark.sample(1)
@pytest.mark.parametrize("secagg", ["on", "off"])
def test_where_too_many_have_restarted_the_round_is_asked_again(lab: Any, secagg: str) -> None:
    job = lab.job(secagg, rounds=3, federation={"quorum": 0.8})
    ran = lab.run(job, faults=after_round(secagg, 3, 5))
    assert [row["updates"] for row in ran.rows] == [5, 5, 5]
    assert {joinings(ran, node) for node in ran.sites} == {2}
    assert ran.vector.tobytes() == lab.run(job).vector.tobytes()


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("secagg", "privacy"), [("on", POOLED), ("on", RECORD), ("seal", RECORD), ("off", RECORD)]
)
def test_a_restart_needs_no_second_reservation_and_no_second_spend(
    lab: Any, secagg: str, privacy: ProposedPrivacy
) -> None:
    job = lab.job(secagg, privacy, rounds=3)
    ran = lab.run(job, faults=after_round(secagg, 3, 4), kind=Knowing)
    assert [row["updates"] for row in ran.rows] == [5, 5, 5]
    for node, site in ran.sites.items():
        entries = Ledger(site.ledger_file).entries()
        assert [e.type for e in entries].count("reserve") == 1
        assert [e.round for e in ran.spent(node)] == [1, 2, 3]
        assert entries[-1].type == "give-back"


@pytest.mark.parametrize("knowing", [True, False])
def test_a_site_that_keeps_restarting_does_not_hold_up_the_others(
    lab: Any, *, knowing: bool
) -> None:
    job = lab.job("on", rounds=3)
    faults = [Fault(what="none", kind="query.join", node=4, restart=True)]
    ran = lab.run(job, faults=faults, kind=Knowing if knowing else Watched)
    assert [row["updates"] for row in ran.rows] == [4, 4, 4]
    # The first joining, and one before each round that it had heard of it.
    assert joinings(ran, 2) == (4 if knowing else 3)
    assert ran.result.refused == {}


@pytest.mark.sample(2)
@pytest.mark.parametrize("leg", ["query.open", "train", "query.consent", "query.reveal"])
@pytest.mark.parametrize("what", ["there", "back"])
def test_one_that_dies_in_any_leg_is_back_in_the_next_round(lab: Any, leg: str, what: Any) -> None:
    job = lab.job("on", rounds=2)
    fault = Fault(what=what, kind=leg, node=4, times=(1,), restart=True)
    ran = lab.run(job, faults=[fault], kind=Knowing)
    in_it = leg in ("query.consent", "query.reveal")
    assert [row["updates"] for row in ran.rows] == [5 if in_it else 4, 5]
    lost = [Fault(what="there", kind="train", node=4, times=(1,))]
    expected = lab.run(lab.job("off", rounds=2), faults=[] if in_it else lost)
    np.testing.assert_allclose(ran.vector, expected.vector, atol=4 * lab.bound(job))


@pytest.mark.slow
def test_all_that_restart_amid_the_reveals_finish_the_round(lab: Any) -> None:
    job = lab.job("on", rounds=2)
    faults = [Fault(what="there", kind="query.reveal", node=n, times=(1, 2), restart=True)
              for n in range(2, 7)]  # fmt: skip
    ran = lab.run(job, faults=faults, kind=Knowing)
    assert ran.rows[0].get("lost") or ran.rows[0]["updates"] == 5
    assert ran.rows[1]["updates"] == 5


# -- what a repeated order costs -----------------------------------------------------------------


class DiedError(BaseException):
    """The coordinator's process ended."""


def spent_once(ran: Any, rounds: int) -> None:
    for node in ran.sites:
        assert [e.round for e in ran.spent(node)] == list(range(1, rounds + 1))


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("secagg", "privacy"), [("on", POOLED), ("on", RECORD), ("seal", RECORD), ("off", RECORD)]
)
@pytest.mark.parametrize("restarted", [False, True])
def test_a_round_in_which_the_coordinator_died_is_paid_once(
    lab: Any, secagg: str, privacy: ProposedPrivacy, *, restarted: bool
) -> None:
    """The sites that had trained give the updates that they have paid for, whoever restarted; by
    noise in shares they draw anew, and of a round's attempts one at most is opened.
    """

    def before(kind: str, node: int, sent: Message) -> Message:
        if kind == "train" and node == 6 and sent.metadata.group_id.startswith("2"):
            raise DiedError
        return sent

    job, folder = lab.job(secagg, privacy, rounds=3), new_run(lab.folder / "run")
    with pytest.raises(DiedError):
        lab.run(job, folder=folder, before=before)
    faults = [Fault(what="back", kind="query.join", node=3, times=(1,), restart=True)]
    again = lab.run(
        job,
        folder=RunFolder.open(folder.path),
        faults=faults if restarted else [],
        kind=Knowing,
    )
    assert [row["updates"] for row in again.rows] == [5, 5, 5]
    spent_once(again, 3)


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("secagg", "privacy"), [("on", POOLED), ("on", RECORD), ("seal", RECORD), ("off", RECORD)]
)
def test_a_round_that_is_asked_again_is_paid_once(
    lab: Any, secagg: str, privacy: ProposedPrivacy
) -> None:
    job = lab.job(secagg, privacy, rounds=3, federation={"quorum": 0.8})
    lost = [Fault(what="back", kind="train", node=n, times=(2,), restart=True) for n in (3, 5)]
    ran = lab.run(job, faults=lost, kind=Knowing)
    assert {joinings(ran, node) for node in ran.sites} == {2}
    assert [row["updates"] for row in ran.rows] == [5, 5, 5]
    spent_once(ran, 3)
