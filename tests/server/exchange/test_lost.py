"""Rounds that can be lost, and those that can't: claims of sites, and a coordinator that dies."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message, RecordDict

from fedmodel import wire
from fedmodel.errors import QuorumError, RefusedError
from fedmodel.runs import Begun, RunFolder
from fedmodel.secagg.blame import Blame
from fedmodel.secagg.messages import Reveal, Share, encode
from server.answers import nothing
from server.exchange.legs import Legs
from server.exchange.summed import Summed
from server.optimizer import ServerOptimizer
from server.progress import Progress
from tests.conftest import new_run
from tests.server.exchange import masked
from tests.server.exchange.masked import (
    COUNT,
    INITIAL,
    NODES,
    Sites,
    change,
    job_of,
    mean_of,
    play,
)
from tests.server.exchange.replies import channel_of, reply


@pytest.mark.long
@pytest.mark.parametrize("begun", [0, 1])
def test_a_round_is_lost_only_if_this_coordinator_had_begun_to_unmask_it(
    tmp_path: Path, begun: int
) -> None:
    folder = new_run(tmp_path / "run")
    if begun:
        folder.note_begun(begun)
        result, _ = play(Sites(job_of(rounds=3), closed=1), folder=folder)
        assert result.rounds == 3
        changes = [np.mean([change(n, r) for n in NODES], axis=0) for r in (2, 3)]
        np.testing.assert_allclose(result.vector, np.sum([INITIAL, *changes], axis=0), atol=2e-5)
        assert ["lost" in row for row in folder.metrics()] == [True, False, False]
        return
    with pytest.raises(QuorumError, match="the run folder is an older copy, then restore"):
        play(Sites(job_of(rounds=3), closed=1), folder=folder)
    assert folder.metrics() == []


@pytest.mark.sample(2)
@pytest.mark.long
@pytest.mark.parametrize("begun", [0, 1])
@pytest.mark.parametrize("claimed", [1, 2, 2**31 - 1])
def test_a_site_cannot_end_a_run_by_what_it_says_of_closed_rounds(
    tmp_path: Path, claimed: int, begun: int
) -> None:
    class Boasting(Sites):
        def join(self, node: int, session: str) -> bytes:
            self.closed = claimed if node == 4 else 0
            return super().join(node, session)

    folder = new_run(tmp_path / "run")
    if begun:
        folder.note_begun(begun)
    result, rows = play(Boasting(job_of(rounds=2)), folder=folder)
    assert [row["updates"] for row in rows] == ([4, 5] if claimed == begun else [4, 4])
    assert not any("lost" in row for row in rows)
    assert (4 in result.refused) == (claimed > begun)
    if claimed > begun:
        assert f"has agreed to a sum in round {claimed}" in result.refused[4]


@dataclass
class Remembering(Sites):
    """Sites that give the same reveal to the same request, in another joining, too."""

    given: dict[tuple[int, bytes], RecordDict] = field(default_factory=dict)

    def answer(self, kind: str, node: int, message: Message) -> RecordDict:
        if kind != "query.reveal":
            return super().answer(kind, node, message)
        asked = node, wire.parcel(message.content, "secagg").tobytes()
        if asked not in self.given:
            self.given[asked] = super().answer(kind, node, message)
        return self.given[asked]


def refusing(kind: str, node: int) -> Any:
    return lambda *at: RefusedError("not now") if at == (kind, node) else None


def died_unmasking(sites: Sites, folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Play a run until its coordinator dies: all have revealed, and the sum isn't known yet."""
    with monkeypatch.context() as patch:
        patch.setattr(Summed, "_mean", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            play(sites, folder=folder)


@pytest.mark.long
@pytest.mark.parametrize(("quorum", "updates"), [(1.0, [0, 5]), (0.75, [4, 5])])
def test_a_sum_of_fewer_than_the_quorum_is_not_used_after_a_resume_either(
    tmp_path: Path, quorum: float, updates: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, job = new_run(tmp_path / "run"), job_of(rounds=2, federation={"quorum": quorum})
    with monkeypatch.context() as patch:
        if quorum < 1:  # dies where the other run is ended for its quorum
            patch.setattr(Progress, "keep", lambda *_: 1 / 0)
        with pytest.raises(QuorumError if quorum == 1 else ZeroDivisionError):
            play(first := Remembering(job, raising=refusing("train", 4)), folder=folder)
    assert folder.kept_round() is None
    play(Remembering(job, closed=1, given=first.given), folder=folder)
    assert [row["updates"] for row in folder.metrics()] == updates


@pytest.mark.long
def test_a_sum_of_fewer_than_the_quorum_is_not_kept_where_its_round_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(rounds=2, federation={"quorum": 1.0, "below_quorum": "skip"})
    folder = new_run(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(Progress, "finish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            play(first := Remembering(job, raising=refusing("train", 4)), folder=folder)
    assert folder.kept_round() is None
    play(Remembering(job, closed=1, given=first.given), folder=folder)
    assert [row["updates"] for row in folder.metrics()] == [0, COUNT]


@pytest.mark.sample(2)
@pytest.mark.parametrize(("quorum", "lost"), [(1.0, True), (0.8, False)])
@pytest.mark.parametrize("dies", [False, True])
def test_a_recovered_sum_counts_all_that_are_in_it_and_all_that_were_asked(
    tmp_path: Path, quorum: float, lost: bool, dies: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Four of five gave. One of them is gone, and so, under the higher quorum, is who didn't give.
    sums = {"survivors": 3, "colluders": 0, "threshold": 3}
    job = job_of(rounds=1, federation={"quorum": quorum}, secagg=sums)
    folder = new_run(tmp_path / "run")
    first = Remembering(job, raising=refusing("train", 4))
    died_unmasking(first, folder, monkeypatch)
    assert folder.begun() == Begun(1, COUNT)
    left = [n for n in NODES if n != (4 if lost else 6)]
    again = Remembering(job, closed=1, given=first.given, left=left)
    if lost:
        with pytest.raises(QuorumError, match="sites repeat no such round"):
            play(again, folder=folder)
        return
    if dies:  # between the sum and its checkpoint
        with monkeypatch.context() as patch:
            patch.setattr(Progress, "finish", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                play(again, folder=folder)
        kept = folder.kept_round()
        assert kept is not None
        assert kept.round == 1
    result, _ = play(again, folder=folder)
    assert [(row["updates"], row["asked"]) for row in folder.metrics()] == [(4, COUNT)]
    assert result.updates == {2: 1, 3: 1, 4: 0, 5: 1}
    np.testing.assert_allclose(result.vector, mean_of(2, 3, 5, 6), atol=2e-5)


@pytest.mark.sample(2)
@pytest.mark.long
@pytest.mark.parametrize("other", ["", "model", "roster", "begun"])
def test_an_attempt_is_gone_on_with_only_as_it_was(
    tmp_path: Path, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, folder = job_of(rounds=2), new_run(tmp_path / "run")
    parts: dict[str, Any] = {}
    first = Remembering(job)
    died_unmasking(first, folder, monkeypatch)
    if other == "model":
        parts["initial"] = INITIAL + np.float32(1)
    elif other == "roster":
        monkeypatch.setattr(masked, "ROSTER", replace(masked.ROSTER, seal="78" * 32))
        parts["keys"] = replace(masked.COORDINATOR_KEYS, roster=masked.ROSTER)
    elif other == "begun":  # from an older copy; and so are the sites' states
        folder.note_begun(0)
    again = Remembering(job, closed=int(other != "begun"), given=first.given)
    play(again, folder=folder, **parts)
    found = ["lost" if "lost" in row else row["updates"] for row in folder.metrics()]
    assert found == ["lost" if other in ("model", "roster") else COUNT, COUNT]
    assert again.talk.count(("train", 2)) == (2 if other == "begun" else 1)


class DiedError(RuntimeError):
    pass


@pytest.mark.sample(2)
@pytest.mark.long
@pytest.mark.parametrize("at", ["step", "evaluate", "save_checkpoint"])
def test_a_coordinator_that_dies_between_sum_and_checkpoint_has_the_sum(
    tmp_path: Path, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, folder = job_of(rounds=3), new_run(tmp_path / "run")

    def die(*_: object, **__: object) -> None:
        raise DiedError

    places = {"step": ServerOptimizer, "evaluate": Progress, "save_checkpoint": RunFolder}
    with monkeypatch.context() as patch:
        real = getattr(places[at], at)
        calls = iter((real, die))
        patch.setattr(places[at], at, lambda *args: next(calls)(*args))
        with pytest.raises(DiedError):
            play(Sites(job), folder=folder)
    again = Sites(job, closed=2)
    result, rows = play(again, folder=RunFolder.open(folder.path))
    assert [row["round"] for row in rows] == [2, 3]
    assert again.talk.count(("train", 4)) == 1  # nobody is asked again for what was paid for
    np.testing.assert_allclose(result.vector, mean_of(*NODES, rounds=3), atol=2e-5)
    assert [row["updates"] for row in folder.metrics()] == [COUNT] * 3
    assert result.updates == dict.fromkeys(NODES, 3)


def test_an_answer_of_an_attempt_with_more_sites_than_are_here_now_is_taken() -> None:
    # Of 50 that had agreed 26 have joined again: that is enough, and what each reveals is of all.
    shares = tuple(Share(owner=n, share="0" * 66) for n in range(1, 51))
    told = Reveal(manifest="a" * 64, member=50, self_seeds=shares, recovery_keys=())
    content = wire.add_parcel(wire.encode_reply(), "secagg", encode(told))
    taken: list[bytes] = []
    blame, numbers = Blame(1), {n: n for n in range(25, 51)}
    come = channel_of([reply(50, content, "query.reveal", "1.1")])
    legs = Legs(come, numbers, 50, check=nothing, blame=blame)
    legs.begin(1, 1, lambda: False)
    legs.play("query.reveal", [50], lambda member: b"", lambda member, data: taken.append(data))
    assert taken == [encode(told)]
    assert not legs.failures
    assert not blame.wrong()
