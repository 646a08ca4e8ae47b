"""A coordinator that dies while a sum is unmasked: what was paid for is asked for again."""

from typing import Any

import numpy as np
import pytest
from flwr.app import Message

from fedmodel.job import ProposedPrivacy
from fedmodel.runs import RunFolder
from server.exchange.summed import Summed
from tests.conftest import new_run

POOLED = ProposedPrivacy(mechanism="distributed", epsilon=8.0, delta=1e-3)


class DiedError(BaseException):
    pass


def die(*_: object) -> None:
    raise DiedError


def interrupted(lab: Any, job: Any, monkeypatch: pytest.MonkeyPatch, when: str) -> RunFolder:
    """Kill the coordinator in round 2: before the last site reveals, or once all have."""
    folder, hooks = new_run(lab.folder / "run"), {}

    def before(kind: str, node: int, message: Message) -> Message:
        if (kind, node, message.metadata.group_id) == ("query.reveal", 6, "2.1"):
            raise DiedError
        return message

    with monkeypatch.context() as patch:
        if when == "unmasking":
            real = Summed._mean
            calls = iter((real, die))
            patch.setattr(Summed, "_mean", lambda *parts: next(calls)(*parts))
        else:
            hooks["before"] = before
        with pytest.raises(DiedError):
            lab.run(job, folder=folder, **hooks)
    return RunFolder.open(folder.path)


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("privacy", [None, POOLED])
@pytest.mark.parametrize("when", ["revealing", "unmasking"])
def test_a_round_whose_reveals_were_lost_with_the_coordinator_is_finished(
    lab: Any, privacy: Any, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = lab.job(privacy=privacy, rounds=3)
    again = lab.run(job, folder=interrupted(lab, job, monkeypatch, when))
    assert [row["updates"] for row in again.rows] == [5, 5, 5]
    assert not any("lost" in row for row in again.rows)
    assert len(again.grid.replies("train", 4)) == 1  # of round 3: nobody trains round 2 again
    if privacy is None:
        plain = lab.run(lab.job("off", rounds=3))
        np.testing.assert_allclose(again.vector, plain.vector, atol=8 * lab.bound(job))
    else:
        for node in again.sites:
            assert [e.round for e in again.spent(node)] == [1, 2, 3]


@pytest.mark.sample(1)
@pytest.mark.long
@pytest.mark.parametrize("damage", ["cut", "another model"])
def test_what_was_kept_of_an_attempt_is_used_only_whole_and_for_its_own_model(
    lab: Any, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = lab.job(rounds=2)
    folder = interrupted(lab, job, monkeypatch, "unmasking")
    path = folder.path / "pending" / "attempt.bin"
    data = path.read_bytes()
    if damage == "cut":
        path.write_bytes(data[:-4])
    else:
        monkeypatch.setattr(Summed, "_continues", lambda *_: False)
    again = lab.run(job, folder=folder)
    assert ["lost" in row for row in again.rows] == [False, True]
