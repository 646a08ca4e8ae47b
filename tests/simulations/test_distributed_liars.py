"""Parties of ``privacy=distributed`` that want something else, and runs that are cut short."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import Message

from clients.policy import Policy
from clients.site import Site
from fedmodel import wire
from fedmodel.accounting.claims import epsilon
from fedmodel.errors import QuorumError
from fedmodel.identity import Member, Roster, SigningKey
from fedmodel.identity.signed_roster import SignedMember
from fedmodel.job import ProposedPrivacy
from fedmodel.ledger import Ledger
from fedmodel.runs import RunFolder
from fedmodel.secagg import aggregator
from fedmodel.secagg.agreement import Floors
from fedmodel.secagg.messages import Survivors, decode, encode
from fedmodel.update import vector_sha256
from server import rounds
from server.exchange import summed
from simulations.faults import Fault
from tests.conftest import new_run

POOLED = ProposedPrivacy(mechanism="distributed", epsilon=8.0, delta=1e-3)
WIDE = replace(POOLED, clip=4.0, rate=1.0)


# -- what a site refuses -------------------------------------------------------------------------


def patched_sites(lab: Any, node: int, change: Callable[[Site], Site]) -> None:
    """Give one site something else than the simulation does."""
    lab.changed = lambda at, site: change(site) if at == node else site


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize(
    ("floors", "named"),
    [
        (Floors(survivors=5), "survivors"),
        (Floors(threshold=5), "threshold"),
        (Floors(colluders=2, survivors=4, threshold=4), "colluders"),
        (Floors(honest=4, survivors=4), "survivors less colluders"),
        (Floors(cohort=6), "cohort"),
    ],
)
def test_a_site_whose_floors_are_higher_refuses_and_says_which(
    lab: Any, floors: Floors, named: str
) -> None:
    patched_sites(lab, 4, lambda site: replace(site, policy=Policy(approval="auto", floors=floors)))
    ran = lab.run(lab.job(privacy=POOLED))
    assert set(ran.result.refused) == {4}
    assert f"floor for {named} in secure aggregation" in ran.result.refused[4]
    assert ran.spent(4) == []
    assert ran.rows[-1]["updates"] == 4


def without(site: Any, change: Callable[[list[Member]], list[Member]]) -> Roster:
    roster: Roster = site.roster
    return replace(roster, members=tuple(change(list(roster.members))))


STRANGER = SignedMember(name="stranger", key="11" * 32, tls="stranger.example.org")
ROSTERS: dict[str, tuple[Callable[[list[Member]], list[Member]], str]] = {
    "longer": (lambda members: [*members, STRANGER], "have different rosters"),
    "shuffled": (lambda members: members[::-1], "have different rosters"),
    "without it": (lambda members: [m for m in members if m.name != "s02"], "s02"),
    "with another key": (
        lambda members: [replace(m, key="22" * 32) if m.name == "s02" else m for m in members],
        "another key under this site's name",
    ),
}


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("roster", ROSTERS)
def test_a_site_with_another_roster_takes_no_part(lab: Any, roster: str) -> None:
    change, why = ROSTERS[roster]
    patched_sites(lab, 4, lambda site: replace(site, roster=without(site, change)))
    ran = lab.run(lab.job(privacy=POOLED))
    assert set(ran.result.refused) == {4}
    assert why in ran.result.refused[4]
    assert ran.rows[-1]["updates"] == 4


@pytest.mark.long
def test_a_site_without_a_roster_refuses(lab: Any) -> None:
    patched_sites(lab, 4, lambda site: replace(site, roster=None))
    ran = lab.run(lab.job(privacy=POOLED))
    assert "has no roster" in ran.result.refused[4]


@pytest.mark.long
def test_another_model_for_one_site_is_noticed_there_before_it_spends(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The coordinator itself lies, and signs it."""
    real = rounds._Run.order

    def order(self: Any, node: int, round_: int, vector: Any, model: str) -> Any:
        if node != 4:
            return real(self, node, round_, vector, model)
        other = self.progress.vector.copy()
        other[0] += 1
        return real(self, node, round_, wire.pack(other), vector_sha256(other))

    monkeypatch.setattr(rounds._Run, "order", order)
    ran = lab.run(lab.job(privacy=POOLED, rounds=1))
    assert set(ran.rows[0]["failures"]) == {"4"}
    assert "aren't those of the manifest" in ran.rows[0]["failures"]["4"]
    assert ran.spent(4) == []


def lying(monkeypatch: pytest.MonkeyPatch, **terms: Any) -> None:
    """Make the coordinator sign manifests that say something else than the job."""
    real = aggregator.Aggregator.begin

    def begin(self: Any, **parts: Any) -> Any:
        known = self.agreement
        self.agreement = replace(known, **terms)
        try:
            return real(self, **parts)
        finally:
            self.agreement = known

    monkeypatch.setattr(aggregator.Aggregator, "begin", begin)


@pytest.mark.sample(2)
@pytest.mark.long
@pytest.mark.parametrize(
    ("terms", "why"),
    [
        ({"threshold": 3}, "lowers the threshold from 4 to 3"),
        ({"survivors": 3, "threshold": 3}, "lowers the threshold from 4 to 3"),
        ({"survivors": 5}, "survivors isn't what was agreed on"),
        ({"colluders": 0}, "colluders isn't what was agreed on"),
        ({"bits": 32}, "bits isn't what was agreed on"),
        ({"roster": "00" * 32}, "roster isn't what was agreed on"),
        ({"job": "00" * 32}, "job isn't what was agreed on"),
        ({"session": "00" * 32}, "session isn't what was agreed on"),
    ],
)
def test_a_coordinator_that_signs_other_terms_gets_nothing(
    lab: Any, terms: Any, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lying(monkeypatch, **terms)
    ran = lab.run(lab.job(privacy=POOLED), error=QuorumError)
    assert f"open: the manifest {why}" in str(ran.error) or why in str(ran.error)
    assert not ran.grid.replies("train")
    assert all(ran.spent(n) == [] for n in ran.sites)


@pytest.mark.long
def test_a_stranger_cannot_begin_a_round(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = SigningKey(b"\7" * 32)

    def protocol(**parts: Any) -> Any:
        return aggregator.Aggregator(**{**parts, "sign": stranger.sign})

    monkeypatch.setattr(summed, "Aggregator", protocol)
    ran = lab.run(lab.job(privacy=POOLED), error=QuorumError)
    assert "signature" in str(ran.error)


@pytest.mark.long
def test_a_coordinator_that_wants_a_sum_of_fewer_is_refused(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = aggregator.Attempt._told
    monkeypatch.setattr(
        aggregator.Attempt, "_told", lambda self: replace(real(self), survivors=(1, 2, 3))
    )
    ran = lab.run(lab.job(privacy=POOLED), error=QuorumError)
    assert "3 survivors are left, 4 are needed" in str(ran.error)
    assert not ran.grid.replies("query.reveal")


@pytest.mark.long
def test_two_sets_of_survivors_get_no_share_revealed(lab: Any) -> None:
    """Some sites are told of one set and some of another: neither has enough signatures."""

    def before(kind: str, node: int, message: Message) -> Message:
        if kind == "query.consent" and node != 4:
            told = decode(Survivors, wire.parcel(message.content, "secagg").tobytes())
            out = 5 if node < 4 else 1
            fewer = tuple(n for n in told.survivors if n != out)
            wire.add_parcel(message.content, "secagg", encode(replace(told, survivors=fewer)))
        return message

    job = lab.job(privacy=POOLED, hide={"attempts": 1})
    ran = lab.run(job, before=before, error=QuorumError)
    assert "1 of 5 survivors agreed on the survivors, 4 must" in str(ran.error)
    assert not ran.grid.replies("query.reveal")


@pytest.mark.long
def test_a_message_that_is_sent_again_gets_the_same_answer_and_nothing_is_spent_for_it(
    lab: Any,
) -> None:
    ran = lab.run(lab.job(privacy=POOLED, rounds=1), replay=4)
    legs = ["query.hello", "query.open", "train", "query.consent", "query.reveal"]
    assert ran.grid.replayed == [(leg, "") for leg in legs]
    assert len(ran.spent(4)) == 1
    assert ran.rows[0]["updates"] == 5


# -- interrupted runs ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("leg", ["query.open", "train", "query.consent", "query.reveal"])
@pytest.mark.parametrize("privacy", [None, POOLED])
def test_a_run_that_was_killed_in_a_round_goes_on_in_a_new_session(
    lab: Any, privacy: Any, leg: str
) -> None:
    job = lab.job(privacy=privacy, rounds=3)

    def before(kind: str, node: int, message: Message) -> Message:
        if kind == leg and message.metadata.group_id == "2.1" and node == 4:
            raise KeyboardInterrupt  # what no handler takes for a failure of the site
        return message

    folder = new_run(lab.folder / "run")
    grids: list[Any] = []
    with pytest.raises(KeyboardInterrupt):
        lab.run(job, folder=folder, before=before, watch=grids.append)
    again = lab.run(job, folder=RunFolder.open(folder.path))
    first = grids[0]
    assert first.hidden_session != again.grid.hidden_session
    masked = [c.arrays["parcels/masked"] for g in (first, again.grid) for c in g.replies("train")]
    assert len(set(masked)) == len(masked)
    keys = [
        c.arrays["parcels/secagg"] for g in (first, again.grid) for c in g.replies("query.join")
    ]
    assert len(set(keys)) == 10
    # Sites that have agreed to a sum in a round don't repeat it: it is lost.
    closed = leg in ("query.consent", "query.reveal")
    assert ["lost" in row for row in again.rows[:2]] == [False, closed]
    if privacy is None:
        assert again.result.rounds == 3
        lost = [Fault(what="there", kind="train", node=2, times=(2,))] if closed else []
        skipping = {"below_quorum": "skip", "quorum": 1.0}
        whole = lab.run(lab.job("off", rounds=3, federation=skipping), faults=lost)
        np.testing.assert_allclose(again.vector, whole.vector, atol=8 * lab.bound(job))
        return
    # All that was ever drawn is charged, and the promise holds.
    for node in again.sites:
        rounds = [e.round for e in again.spent(node)]
        sent = sum(len(g.replies("train", node)) for g in (first, again.grid))
        entries = Ledger(again.sites[node].ledger_file).entries()
        assert sum(e.type in ("spend", "repeat") for e in entries) == sent
        # Of a round's attempts one at most is opened, in whichever session: it is paid once.
        assert rounds == sorted(set(rounds))
        found = epsilon([e.spend() for e in again.spent(node)], job.privacy.delta)
        assert found <= job.privacy.epsilon


@pytest.mark.long
@pytest.mark.sample(1)
@pytest.mark.parametrize("privacy", [POOLED, None])
def test_a_run_that_was_killed_between_rounds_goes_on(
    lab: Any, privacy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, real = lab.job(privacy=privacy, rounds=3), rounds._Run.play

    def play(self: Any) -> None:
        if self.progress.round == 2:
            raise KeyboardInterrupt
        real(self)

    folder = new_run(lab.folder / "run")
    with monkeypatch.context() as patch:
        patch.setattr(rounds._Run, "play", play)
        with pytest.raises(KeyboardInterrupt):
            lab.run(job, folder=folder)
    again = lab.run(job, folder=RunFolder.open(folder.path))
    assert again.result.rounds == 3
    assert [row["round"] for row in again.rows] == [1, 2, 3]
    if privacy is not None:
        for node in again.sites:
            assert [e.round for e in again.spent(node)] == [1, 2, 3]
