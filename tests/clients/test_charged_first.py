"""Secure sums: the charge is on disk before rows are looked at or noise is drawn."""

from pathlib import Path
from typing import Any

import pytest

import clients.site_run
from fedmodel.accounting.guard import StepGuard
from fedmodel.errors import LedgerError
from fedmodel.job import ProposedPrivacy
from fedmodel.ledger import Ledger
from fedmodel.mechanisms import sampling, shares
from fedmodel.training import local
from tests.clients.four_sites import POOLED, RECORD, WHOLE, Talk, job_of

# What reads rows or draws randomness on the way of an update, by how the noise is made.
WAYS = {
    "dpsgd": (RECORD, [(local, "train"), (sampling, "poisson")]),
    "distributed": (POOLED, [(local, "gradient"), (sampling, "poisson"), (shares, "noised")]),
    "site": (
        WHOLE,
        [(local, "train"), (clients.site_run, "clip_update"), (shares, "noised")],
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("way", list(WAYS))
def test_the_charge_is_on_disk_before_the_sum_and_before_the_noise(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    privacy: ProposedPrivacy = WAYS[way][0]
    talk = Talk(tmp_path)
    seen: dict[str, int] = {}

    def watched(name: str, real: Any) -> Any:
        def call(*args: Any, **named: Any) -> Any:
            seen.setdefault(name, talk.spent())
            return real(*args, **named)

        return call

    protocol = talk.begin(job_of(privacy=privacy))
    watching = [*WAYS[way][1], (StepGuard, "before_step")]
    for place, name in watching:
        monkeypatch.setattr(place, name, watched(name, getattr(place, name)))
    for round_ in (1, 2):
        seen.clear()
        assert talk.spent() == round_ - 1
        reply = talk.send("train", talk.order(talk.open(protocol, round_), round_))
        assert not reply.has_error()
        assert seen == {name: round_ for _, name in watching}


@pytest.mark.parametrize("way", ["distributed", "site"])
def test_another_attempt_is_on_disk_before_its_noise_too(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = Talk(tmp_path)
    protocol = talk.begin(job_of(privacy=WAYS[way][0]))
    talk.send("train", talk.order(talk.open(protocol)))
    seen: list[tuple[int, int]] = []
    real = shares.noised

    def noised(*args: Any, **named: Any) -> Any:
        seen.append((talk.spent(), talk.repeated()))
        return real(*args, **named)

    monkeypatch.setattr(shares, "noised", noised)
    talk.send("train", talk.order(talk.open(protocol, 1, 2)))
    assert set(seen) == {(1, 1)}


@pytest.mark.parametrize("way", ["distributed", "site"])
def test_an_attempt_that_failed_before_its_charge_is_no_paid_one(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise LedgerError("the disk is full")

    talk = Talk(tmp_path)
    protocol = talk.begin(job_of(privacy=WAYS[way][0]))
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "spend", full)
        assert talk.send("train", talk.order(talk.open(protocol))).has_error()
    assert (talk.spent(), talk.repeated()) == (0, 0)
    assert not talk.send("train", talk.order(talk.open(protocol, 1, 2))).has_error()
    assert (talk.spent(), talk.repeated()) == (1, 0)
