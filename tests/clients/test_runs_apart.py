"""Runs of one job at a site that keeps its state: each finds its own, and no other's."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients.round_files import ClosedRounds, forget
from fedmodel import wire
from fedmodel.errors import ReplayError
from fedmodel.training import dpsgd
from fedmodel.wire import Leave
from tests.clients import four_sites
from tests.clients.four_sites import job_of, nothing
from tests.clients.test_app import PLAIN, PRIVATE, Talk

KEPT = replace(PLAIN, train=replace(PLAIN.train, optimizer_state="keep"))
ADAPTIVE = replace(
    PRIVATE,
    privacy=replace(PRIVATE.privacy, clipping="adaptive", clip=0.25, clip_quantile=0.4),
)


def train(talk: Talk, run: str, round_: int) -> Any:
    vector = wire.pack(talk.learner.initial)
    reply = talk.send("train", wire.encode_order(run, round_, talk.job.sha256, vector))
    assert not reply.has_error(), reply.error
    return wire.decode_update(reply.content, talk.learner.layout.total).vector


def end(talk: Talk, run: str, *, failed: bool = False) -> None:
    told = Leave(run=run, job_sha256=talk.job.sha256, failed=failed)
    assert not talk.send("query.leave", wire.encode_leave(told)).has_error()


def files(talk: Talk) -> list[str]:
    folder = talk.site.state.folder / "runs"
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.long
def test_another_run_of_a_job_starts_from_no_optimiser_of_the_first(tmp_path: Path) -> None:
    talk = Talk(tmp_path)
    found = {}
    # Its second round comes first in a site's second run: it was absent in the first.
    for run, rounds in (("one", (1, 2)), ("two", (2,)), ("three", (1, 2))):
        talk.restart()
        assert not talk.join(KEPT, run=run).has_error()
        found[run] = [train(talk, run, round_) for round_ in rounds]
    for ours, theirs in zip(found["one"], found["three"], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    fresh = Talk(tmp_path / "fresh")
    fresh.join(KEPT)
    np.testing.assert_array_equal(found["two"][0], train(fresh, "test", 2))
    assert found["two"][0].tobytes() != found["one"][1].tobytes()


def test_the_same_run_finds_its_optimiser_again(tmp_path: Path) -> None:
    whole, cut = Talk(tmp_path / "whole"), Talk(tmp_path / "cut")
    for talk in (whole, cut):
        talk.join(KEPT, run="one")
        train(talk, "one", 1)
    cut.join(KEPT, run="two")
    train(cut, "two", 1)
    cut.restart()
    cut.join(KEPT, run="one")
    assert train(cut, "one", 2).tobytes() == train(whole, "one", 2).tobytes()


@pytest.mark.long
def test_an_adaptive_clip_norm_is_a_runs_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began: list[float | None] = []
    real = dpsgd.private_steps

    def watched(*arguments: Any, clip: float | None, **named: Any) -> Any:
        began.append(clip)
        return real(*arguments, clip=clip, **named)

    monkeypatch.setattr(dpsgd, "private_steps", watched)
    talk = Talk(tmp_path)
    for run, round_ in (("one", 1), ("one", 2), ("two", 2), ("one", 3)):
        talk.restart()
        assert not talk.join(ADAPTIVE, run=run).has_error()
        train(talk, run, round_)
    assert began[0] is None
    assert began[2] is None
    assert None not in (began[1], began[3])
    book = talk.site.open_ledger().book()
    assert [len(book.of(run)) for run in ("one", "two")] == [1, 1]
    assert [sum(s.steps for s in r.done()) for r in book.of()] == [6, 2]


@pytest.mark.long
def test_a_second_run_of_a_masked_job_trains_every_round(tmp_path: Path) -> None:
    """Where closed rounds were kept by job alone, none of its rounds could be opened."""
    job = job_of()
    for number, run in enumerate(("one", "two")):
        talk = four_sites.Talk(tmp_path)
        talk.run_name = run
        protocol = talk.begin(job)
        assert talk.summed.participant.closed == 0
        for round_ in (1, 2):
            attempt = talk.open(protocol, round_)
            talk.upload(attempt, talk.send("train", talk.order(attempt, round_)), nothing)
            talk.reveal(attempt)
        assert talk.summed.participant.closed == 2
        assert len(list((talk.site.state.folder / "runs").iterdir())) == number + 1
    again = four_sites.Talk(tmp_path)
    again.run_name = "one"
    late = again.begin(job).begin(
        round=2, attempt=1, model=attempt.manifest.model, cohort=range(1, 5)
    )
    assert "has agreed to a sum in round 2" in again.why("query.open", late.open_for(1))


def test_an_order_of_another_run_of_the_job_is_refused(tmp_path: Path) -> None:
    talk = Talk(tmp_path)
    talk.join(PRIVATE, run="one")
    vector = wire.pack(talk.learner.initial)
    reply = talk.send("train", wire.encode_order("two", 1, PRIVATE.sha256, vector))
    assert "belongs to the run 'two', and this site has joined 'one'" in (reply.error.reason or "")
    assert talk.spent() == 0


def test_the_end_of_another_run_ends_nothing(tmp_path: Path) -> None:
    talk = Talk(tmp_path)
    talk.join(PRIVATE, run="one")
    end(talk, "two")
    assert talk.run.run == "one"
    assert talk.site.open_ledger().reservation("one", PRIVATE.sha256) is not None
    train(talk, "one", 1)


def test_what_further_rounds_need_goes_with_the_run_unless_it_failed(tmp_path: Path) -> None:
    talk = Talk(tmp_path)
    for run in ("one", "two"):
        talk.join(KEPT, run=run)
        train(talk, run, 1)
    kept = [f"{run}/optimizer-{KEPT.sha256[:32]}-0001.safetensors" for run in ("one", "two")]
    end(talk, "one", failed=True)  # it may be resumed
    assert files(talk) == kept
    end(talk, "one")
    assert files(talk) == kept[1:]


def test_closed_rounds_outlive_their_run(tmp_path: Path) -> None:
    job = "a" * 64
    closed = ClosedRounds(tmp_path, job, tmp_path)
    closed.close(3)
    for name in (f"reply-train-{job[:32]}.bin", f"clip-{job[:32]}-0001.txt", "else"):
        (tmp_path / name).touch()
    for other in ("", "*", "b" * 64):
        forget(tmp_path, other)
    assert len([path for path in tmp_path.iterdir() if path.name[0] != "."]) == 4
    forget(tmp_path, job)
    assert [path.name for path in sorted(tmp_path.glob("[!.]*"))] == [
        f"closed-{job[:32]}.txt",
        "else",
    ]
    assert ClosedRounds(tmp_path, job, tmp_path).last() == 3


def test_a_closed_round_of_an_earlier_version_counts_for_every_run_of_its_job(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It doesn't say which run it is of: passed over, a sum could be unmasked twice."""
    job = "a" * 64
    (tmp_path / f"closed-{job[:32]}.txt").write_text("2\n")
    with caplog.at_level(logging.WARNING):
        one = ClosedRounds(tmp_path / "runs" / "one", job, tmp_path)
    assert "doesn't say of which run" in caplog.text
    other = ClosedRounds(tmp_path / "runs" / "two", job, tmp_path)
    assert one.last() == other.last() == 2
    with pytest.raises(ReplayError):
        one.close(2)
    one.close(3)
    assert (one.last(), other.last()) == (3, 2)
    assert ClosedRounds(tmp_path / "runs" / "one", "b" * 64, tmp_path).last() == 0
