"""A site that joins where updates are hidden: roster, floors and keys; and what is sealed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clients.policy import Policy
from fedmodel import wire
from fedmodel.identity import Member
from fedmodel.identity.seal import Context as Envelope
from fedmodel.identity.seal import open_
from fedmodel.secagg.agreement import Floors
from fedmodel.update import Update
from tests.clients.four_sites import PRIVATE, RECORD, Talk, job_of


@pytest.fixture
def talk(tmp_path: Path) -> Talk:
    return Talk(tmp_path)


# -- joining -------------------------------------------------------------------------------------

MODES = ["on", "seal"]


@pytest.mark.parametrize("mode", MODES)
def test_a_site_without_a_roster_refuses(tmp_path: Path, mode: str) -> None:
    talk = Talk(tmp_path, roster=None)
    reply = talk.offer(job_of(mode))
    assert "has no roster" in (reply.error.reason or "")
    assert not talk.site.ledger_file.exists()


@pytest.mark.parametrize("mode", MODES)
def test_a_roster_that_lacks_the_site_or_has_another_key_is_refused(
    tmp_path: Path, mode: str
) -> None:
    talk = Talk(tmp_path)
    right = talk.roster
    for members, why in [
        (right.members[1:], "has no member 'north'"),
        ((replace(right.members[0], key="12" * 32), *right.members[1:]), "another key under"),
    ]:
        talk.restart(roster=replace(right, members=members))
        assert why in (talk.offer(job_of(mode, RECORD)).error.reason or "")
        assert talk.spent() == 0
        assert not talk.site.ledger_file.exists()


@pytest.mark.parametrize("mode", MODES)
def test_an_offer_without_a_session_is_refused(talk: Talk, mode: str) -> None:
    assert "signed for the joining , got" in (talk.offer(job_of(mode), "").error.reason or "")


def test_the_sites_floors_outrank_the_job_before_anything_is_reserved(tmp_path: Path) -> None:
    for floors in (Floors(survivors=5), Floors(colluders=3), Floors(cohort=9)):
        talk = Talk(tmp_path, policy=Policy(approval="auto", floors=floors))
        reply = talk.offer(job_of(privacy=RECORD))
        assert "this site's floor for" in (reply.error.reason or "")
        assert not talk.site.ledger_file.exists()


@pytest.mark.long
def test_floors_that_were_not_set_follow_from_the_sites_own_roster(tmp_path: Path) -> None:
    """Four of a roster of nine are asked to sum among themselves."""
    for members, floors, refused in (
        (9, Floors(), "floor for cohort in secure aggregation is 8"),
        (9, Floors(cohort=4, survivors=4, threshold=3), ""),
        (5, Floors(), "floor for threshold in secure aggregation is 4"),
        (4, Floors(), ""),
    ):
        talk = Talk(tmp_path, policy=Policy(approval="auto", floors=floors))
        more = [Member(name=f"x{n}", key=f"{n:02x}" * 32) for n in range(5, members + 1)]
        talk.restart(roster=replace(talk.roster, members=(*talk.roster.members, *more)))
        reply = talk.offer(job_of(privacy=RECORD))
        assert reply.has_error() is bool(refused)
        if refused:
            assert refused in (reply.error.reason or "")


def test_each_joining_has_a_key_of_its_own(talk: Talk) -> None:
    keys = {wire.parcel(talk.offer(job_of()).content, "secagg").tobytes() for _ in range(3)}
    assert len(keys) == 3


# -- sealed --------------------------------------------------------------------------------------


@pytest.mark.parametrize("privacy", [None, RECORD])
def test_a_sealed_update_is_for_the_coordinator_and_its_round(talk: Talk, privacy: Any) -> None:
    job = job_of("seal", privacy)
    talk.offer(job)
    reply = talk.send("train", wire.encode_order("test", 2, job.sha256, wire.pack(talk.initial)))
    data = wire.parcel(reply.content, "sealed").tobytes()
    assert set(reply.content) == {"config", "parcels"}
    context = Envelope(
        session=talk.session, job=job.sha256, roster=talk.roster.sha256, member=1, round=2
    )
    sender = talk.site.state.key.public
    opened = open_(data, private=PRIVATE, sender=sender, context=context)
    update = wire.checked_update(*wire.update_from_bytes(opened), talk.initial.size)
    assert isinstance(update, Update)
    assert update.vector.any()
    assert ("train_loss" in update.metrics) == (privacy is None)
    assert talk.spent() == (0 if privacy is None else 1)
