"""Files from round to round: what a repeated round starts from is still there."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients.round_files import ClosedRounds, RoundFiles
from clients.site_run import SiteRun
from fedmodel.data import Rows
from fedmodel.errors import ReplayError, RunFolderError
from fedmodel.job import Model, Privacy, Train
from fedmodel.training import dpsgd
from fedmodel.wire import Offer, Order
from tests.clients.talk import make_site
from tests.jobs import real_job


def test_a_round_starts_from_the_newest_before_it(tmp_path: Path) -> None:
    kept = RoundFiles(tmp_path / "state", "clip", ".txt")
    assert kept.before(1) is None
    for round_ in (1, 2, 5):
        kept.write(round_, str(round_).encode())
    found = [kept.before(round_) for round_ in (1, 2, 5, 6, 9)]
    assert [None if path is None else path.read_text() for path in found] == [
        None,
        None,  # what was before the last two is gone
        "2",
        "5",
        "5",
    ]


def test_rounds_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    kept = RoundFiles(tmp_path, "clip", ".txt")
    for round_ in (9999, 10000):
        kept.write(round_, str(round_).encode())
    for round_, expected in ((10000, "9999"), (10001, "10000")):
        path = kept.before(round_)
        assert path is not None
        assert path.read_text() == expected


def test_kinds_do_not_mix(tmp_path: Path) -> None:
    RoundFiles(tmp_path, "optimizer", ".safetensors").write(1, b"x")
    assert RoundFiles(tmp_path, "clip", ".txt").before(2) is None


@pytest.mark.long
def test_an_adaptive_clip_norm_goes_on_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not the median: two steps that go to opposite ends would end where they began.
    privacy = Privacy(
        mechanism="dpsgd", delta=1e-3, rate=0.5, clip=0.25, clipping="adaptive", clip_quantile=0.4
    )
    job = real_job(
        model=Model(labels=("a", "b"), max_length=16),
        train=Train(method="head", rounds=4, steps=2, batch_size=8),
        privacy=privacy,
    )
    began: list[float | None] = []
    real = dpsgd.private_steps

    def watched(*arguments: Any, clip: float | None, **named: Any) -> Any:
        began.append(clip)
        return real(*arguments, clip=clip, **named)

    monkeypatch.setattr(dpsgd, "private_steps", watched)
    rows = Rows([f"note {i}" for i in range(16)], ["ab"[i % 2] for i in range(16)])
    site = make_site(tmp_path, rows)
    for round_ in (1, 2, 2):  # round 2 again: it starts where it began
        run = SiteRun(Offer(run="test", job=job), site)
        vector = np.full(run.learner.layout.total, len(began), np.float32)
        run.train(Order(run="test", round=round_, job_sha256=job.sha256, vector=vector))
    assert began[0] is None
    assert (
        began[1]
        == began[2]
        == float(next(site.state.run_folder("test").glob("clip-*-0001.txt")).read_text())
    )
    assert began[1] != 0.25


def test_closed_rounds_are_kept_and_a_broken_file_is_no_round(tmp_path: Path) -> None:
    closed = ClosedRounds(tmp_path, "a" * 64, tmp_path / "before")
    assert closed.last() == 0
    closed.close(7)
    assert ClosedRounds(tmp_path, "a" * 64, tmp_path / "before").last() == 7
    assert ClosedRounds(tmp_path, "b" * 64, tmp_path / "before").last() == 0
    (path,) = tmp_path.glob("closed-*")
    for text in ("", "7", "-1\n", "1e3\n", "7\n8\n", "9" * 40 + "\n", "x\n"):
        path.write_text(text)
        for act in (closed.last, lambda: closed.close(9)):
            with pytest.raises(RunFolderError, match="leave this run, and let"):
                act()
        assert path.read_text() == text


def test_a_round_is_closed_once_and_none_is_opened_again(tmp_path: Path) -> None:
    one, other = (ClosedRounds(tmp_path / "state", "a" * 64, tmp_path / "before") for _ in range(2))
    one.close(3)
    for round_ in (3, 2, 1):
        with pytest.raises(ReplayError, match="has agreed to a sum in round 3"):
            other.close(round_)
    assert one.last() == other.last() == 3
    other.close(4)
    assert one.last() == 4


CLOSER = """
import sys
from pathlib import Path
from clients.round_files import ClosedRounds
from fedmodel.errors import ReplayError
closed = ClosedRounds(Path(sys.argv[1]), "a" * 64, Path(sys.argv[1]) / "before")
for round_ in range(1, 41):
    try:
        closed.close(round_)
        print(round_)
    except ReplayError:
        pass
"""


HOLDER = """
import fcntl, os, signal, sys
fcntl.flock(os.open(sys.argv[1], os.O_RDWR), fcntl.LOCK_EX)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.long
def test_of_processes_that_close_the_same_round_one_succeeds(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CLOSER, str(tmp_path)]
    racers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    won = [int(line) for racer in racers for line in racer.communicate()[0].split()]
    assert sorted(won) == sorted(set(won))
    assert 40 in won
    assert [racer.returncode for racer in racers] == [0, 0]


def test_a_lock_ends_with_the_process_that_held_it(tmp_path: Path) -> None:
    closed = ClosedRounds(tmp_path, "a" * 64, tmp_path / "before")
    closed.close(1)
    (lock,) = tmp_path.glob(".closed-*.lock")
    holder = subprocess.run([sys.executable, "-c", HOLDER, str(lock)], check=False)
    assert holder.returncode == -signal.SIGKILL
    closed.close(2)
    assert closed.last() == 2


def test_what_cannot_be_written_is_not_closed(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where a folder should be")
    with pytest.raises(RunFolderError, match="nothing has left this site"):
        ClosedRounds(tmp_path / "state", "a" * 64, tmp_path / "before").close(1)
