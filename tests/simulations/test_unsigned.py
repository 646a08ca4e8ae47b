"""Whole federations in which somebody on the way, or a false coordinator, isn't believed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, Message, RecordDict

import server.assemble
from clients.site import Site
from fedmodel import wire
from fedmodel.errors import QuorumError
from fedmodel.identity import SigningKey
from fedmodel.identity.provision import CoordinatorKeys
from fedmodel.job import Privacy, ProposedPrivacy, SecAgg
from fedmodel.ledger.site_state import SiteState
from fedmodel.wire import Offer
from simulations import play as playing
from simulations.faults import Fault
from tests.conftest import new_run

pytestmark = pytest.mark.long

RECORD = ProposedPrivacy(mechanism="dpsgd", epsilon=8.0, delta=1e-3)
KINDS = ("query.join", "train", "evaluate", "query.open", "query.consent", "query.reveal")


def again(content: RecordDict, sent: Message) -> Message:
    return Message(content, sent.metadata.dst_node_id, sent.metadata.message_type,
                   group_id=sent.metadata.group_id)  # fmt: skip


def rewritten(**changed: Any) -> Any:
    """Return a relay that offers another job instead."""

    def before(kind: str, node: int, sent: Message) -> Message:
        if kind != "query.join":
            return sent
        offer = wire.decode_offer(sent.content)
        other = wire.encode_offer(replace(offer, job=replace(offer.job, **changed)))
        if "signed" in sent.content:
            other["signed"] = sent.content["signed"]
        return again(other, sent)

    return before


@pytest.mark.parametrize("changed", [{"secagg": SecAgg()}, {"privacy": Privacy()}])
def test_a_relay_that_rewrites_the_offer_gets_nothing(lab: Any, changed: dict[str, Any]) -> None:
    """Before offers were signed five sites of five sent it plain updates without noise."""
    ran = lab.run(lab.job("on", RECORD), error=QuorumError, before=rewritten(**changed))
    assert "0 of 5 sites joined" in str(ran.error)
    assert "isn't what the coordinator signed" in str(ran.error)
    assert ran.grid.replies("train") == ran.grid.replies("query.join") == []
    for node, site in ran.sites.items():
        assert ran.spent(node) == []
        assert not site.ledger_file.exists()


def without_voice(monkeypatch: pytest.MonkeyPatch, **changed: Any) -> None:
    """Let the coordinator of the next runs have other keys than the roster says, or none."""
    real = server.assemble.make_coordinator

    def make_coordinator(job: Any, folder: Any, known: Any, **parts: Any) -> Any:
        keys = known.keys
        if changed:
            made = CoordinatorKeys(roster=keys.roster, signer=changed["signer"], seal=keys.seal)
            return real(job, folder, replace(known, keys=made), **parts)
        return real(job, folder, replace(known, keys=None), **parts)

    monkeypatch.setattr(playing, "make_coordinator", make_coordinator)


@pytest.mark.parametrize("privacy", [None, RECORD])
def test_a_coordinator_that_signs_nothing_gets_nothing(
    lab: Any, monkeypatch: pytest.MonkeyPatch, privacy: Any
) -> None:
    without_voice(monkeypatch)
    ran = lab.run(lab.job("off", privacy), error=QuorumError)
    assert "expected 'query.join' with the signature of the key" in str(ran.error)
    assert not any(site.ledger_file.exists() for site in ran.sites.values())


def test_a_coordinator_with_another_key_than_the_rosters_gets_nothing(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_voice(monkeypatch, signer=SigningKey(b"\x77" * 32))
    ran = lab.run(lab.job("off", RECORD), error=QuorumError)
    assert "another key signed it" in str(ran.error)
    assert not any(site.ledger_file.exists() for site in ran.sites.values())


@pytest.mark.sample(1)
@pytest.mark.parametrize("secagg", ["on", "seal", "off"])
def test_all_that_a_coordinator_says_is_signed_for_who_gets_it(lab: Any, secagg: str) -> None:
    ran = lab.run(lab.job(secagg, RECORD))
    key = bytes.fromhex(ran.sites[2].roster.coordinator)
    seen = set()
    for crossed in ran.grid.crossed:
        if crossed.reply:
            continue
        told = wire.signed_by(crossed.message.content, crossed.kind, key)
        assert told.run == ran.folder.run
        assert told.job == ran.job.sha256
        assert told.joining == ran.grid.hidden_session
        assert told.member == (0 if crossed.kind == "query.hello" else crossed.node - 1)
        if crossed.kind in KINDS[1:]:
            assert told.round in (1, 2)
        seen.add(crossed.kind)
    legs = set(KINDS[3:]) if secagg == "on" else set()
    assert seen == {"query.hello", "query.join", "train", "query.leave"} | legs


@pytest.mark.sample(2)
@pytest.mark.parametrize("secagg", ["off", "seal", "on"])
def test_a_relay_that_exchanges_parameters_or_orders_costs_nobody_a_step(
    lab: Any, secagg: str
) -> None:
    """Node 3's parameters are changed, node 4 gets an order without or of node 5's signature, node
    6 the first order again.
    """
    kept: dict[tuple[str, int], list[Message]] = {}

    def before(kind: str, node: int, sent: Message) -> Message:
        kept.setdefault((kind, node), []).append(sent)
        if kind != "train":
            return sent
        if node == 3:
            vector = wire.decode_order(sent.content).vector
            moved = wire.pack(vector + np.float32(1))
            sent.content["arrays"] = ArrayRecord({"vector": moved})
        if node == 4:
            five = kept.get((kind, 5))
            if five:
                sent.content["signed"] = five[-1].content["signed"]
            else:
                del sent.content["signed"]
        if node == 6 and len(kept[kind, node]) > 1:
            return again(kept[kind, node][0].content, sent)
        return sent

    job = lab.job(secagg, RECORD, federation={"quorum": 0.2, "below_quorum": "skip"})
    if secagg == "on":
        ran = lab.run(job, before=before, error=QuorumError)
        assert all(ran.spent(node) == [] for node in (3, 4))
        return
    ran = lab.run(job, before=before)
    first, second = ran.rows
    assert "changed on the way" in first["failures"]["3"]
    assert "signature" in first["failures"]["4"]
    assert "a round is trained once" in second["failures"]["6"]
    assert [len(ran.spent(node)) for node in (2, 3, 4, 5, 6)] == [2, 0, 0, 2, 1]


# -- which node is which site --------------------------------------------------------------------


def test_a_node_is_the_site_that_has_signed_there_and_not_who_came_first(lab: Any) -> None:
    """Node 4 passes on what node 3 has answered before it."""
    said: dict[int, RecordDict] = {}

    def relay(kind: str, node: int, reply: Message) -> Message:
        if kind == "query.hello":
            said[node] = reply.content
            if node == 4:
                reply.content["config"] = said[3]["config"]
        return reply

    ran = lab.run(lab.job("off", RECORD), relay=relay)
    assert "hasn't signed this joining as that site at this node" in ran.result.refused[4]
    assert ran.spent(4) == []
    assert ran.result.updates == {2: 2, 3: 2, 5: 2, 6: 2}


def test_of_two_nodes_that_sign_as_one_site_neither_is_believed(
    lab: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A site's key was copied to another machine."""

    def changed(node: int, site: Site) -> Site:
        if node == 4:
            (tmp_path / "copy").mkdir()
            (tmp_path / "copy" / "key").write_bytes((first[0].state.folder / "key").read_bytes())
            (tmp_path / "copy" / "key").chmod(0o600)
            return replace(site, name="s00", state=SiteState(tmp_path / "copy", "s00"))
        first.append(site)
        return site

    first: list[Site] = []
    monkeypatch.setattr(lab, "changed", changed)
    ran = lab.run(lab.job("off", RECORD))
    assert set(ran.result.refused) == {2, 4}
    assert "2 nodes have signed as 's00'" in ran.result.refused[2]
    assert ran.result.updates == {3: 2, 5: 2, 6: 2}


def test_an_offer_of_before_does_not_join_again(lab: Any) -> None:
    """A relay that holds no key repeats a whole joining, and its orders, at the run's end."""
    kept: list[Message] = []
    over: list[bool] = []

    def before(kind: str, node: int, sent: Message) -> Message:
        if node == 3 and kind in ("query.hello", "query.join", "train") and not over:
            kept.append(again(sent.content, sent))
        return sent

    ran = lab.run(lab.job("off", RECORD), before=before)
    spent = len(ran.spent(3))
    over.append(True)
    for message in list(kept):
        reply = ran.grid._deliver(message)
        assert reply.has_error()
        said = reply.error.reason or ""
        assert "Nothing is done" in said or "it takes part when all join anew" in said
    assert len(ran.spent(3)) == spent


def test_the_offers_are_of_the_job_that_was_agreed(lab: Any) -> None:
    ran = lab.run(lab.job("off"))
    offers = [c for c in ran.grid.crossed if c.kind == "query.join" and not c.reply]
    assert len(offers) == 5
    for offer in offers:
        found: Offer = wire.decode_offer(offer.message.content)
        assert (found.run, found.job.sha256) == (ran.folder.run, ran.job.sha256)


@pytest.mark.sample(1)
@pytest.mark.parametrize("what", ["there", "back", "twice"])
def test_a_greeting_may_be_lost_or_come_twice(lab: Any, what: Any) -> None:
    ran = lab.run(lab.job("off"), faults=[Fault(what=what, kind="query.hello", node=4)])
    lost = {} if what == "twice" else {4: "no answer in time"}
    assert ran.result.refused == lost
    assert sum(ran.result.updates.values()) == 2 * (5 - len(lost))


def test_who_was_away_at_the_greeting_is_told_of_the_end(lab: Any) -> None:
    """What it had reserved before the run was interrupted isn't held for ever."""

    def interrupt(kind: str, node: int, sent: Message) -> Message:
        if (kind, node) == ("train", 2):
            raise KeyboardInterrupt
        return sent

    folder, job = new_run(lab.folder / "run"), lab.job("off", RECORD)
    with pytest.raises(KeyboardInterrupt):
        lab.run(job, folder=folder, before=interrupt)
    away = Fault(what="there", kind="query.hello", node=4, times=(1,))
    ran = lab.run(job, folder=folder, faults=[away])
    assert ran.result.refused == {4: "no answer in time"}
    for site in ran.sites.values():
        (held,) = site.open_ledger().book().of(folder.run)
        assert held.end is not None
