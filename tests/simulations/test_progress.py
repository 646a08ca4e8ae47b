"""What is said while a simulation goes on, on a terminal and elsewhere, and what it costs."""

import gzip
import io
import logging
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from fedmodel import cli, tasks
from fedmodel.data import Source, load
from fedmodel.runs import RunFolder, manifest_of
from fedmodel.seeds import Seed
from fedmodel.training.examples import tokens_of
from fedmodel.watch import TRAINING, UNWATCHED
from server.coordinator import Silent
from simulations.parties import gather
from simulations.play import play
from simulations.progress import Progress, left
from simulations.scenario import Scenario
from tests.watching import Noted


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def drawn(progress: Progress) -> list[str]:
    """Return the lines that a terminal would have, without their bars."""
    out = io.StringIO()
    Console(file=out, width=120).print(progress._drawn())
    return [" ".join(re.sub("[━╸╺]", "", line).split()) for line in out.getvalue().splitlines()]


def test_the_innermost_stage_is_drawn_with_the_time_that_is_left() -> None:
    clock = Clock()
    progress = Progress(Console(file=Terminal(), force_terminal=True), clock)
    assert drawn(progress) == []
    progress.round_started(1, 4, 20)
    with progress.of("Nord [1]").stage(TRAINING, 10):
        progress.advance(5)
        clock.now = 30
        assert drawn(progress) == [
            "Nord [1]: training 0:30 0:30 left",
            "round 1 of 4 0:30 7:30 left",
        ]
        with progress.of("Nord").stage("embedding", 1000):
            clock.now = 40
            progress.advance(250)
            assert drawn(progress)[0] == "Nord: embedding 0:10 0:30 left"
        assert drawn(progress)[0] == "Nord [1]: training 0:40 0:40 left"
    progress.round_ended()
    clock.now = 100
    assert drawn(progress) == ["round 1 of 4 1:40 5:00 left"]
    # What the first round alone has to do says nothing of the others.
    progress.round_started(2, 4, 20)
    clock.now = 110
    with progress.stage(TRAINING, 10):
        progress.advance(10)
    assert drawn(progress) == ["round 2 of 4 1:50 0:50 left"]
    # Of later ones it does: what lies between two of them takes time as well.
    progress.round_ended()
    clock.now = 130
    progress.round_started(3, 4, 20)
    assert drawn(progress) == ["round 3 of 4 2:10 1:00 left"]
    progress.round_ended()
    clock.now = 160
    progress.round_started(4, 4, 20)
    assert drawn(progress) == ["round 4 of 4 2:40 0:30 left"]


def test_a_resumed_run_counts_from_where_it_is() -> None:
    clock = Clock()
    progress = Progress(Console(file=Terminal(), force_terminal=True), clock)
    progress.round_started(9, 10, 2)
    clock.now = 10
    with progress.stage(TRAINING, 1):
        progress.advance()
    assert drawn(progress) == ["round 9 of 10 0:10 0:30 left"]


def test_a_stage_ends_however_like_the_one_around_it() -> None:
    progress = Progress(Console(file=Terminal(), force_terminal=True), Clock())
    with progress.stage("evaluating", 2):
        with progress.stage("evaluating", 2):
            pass
        progress.advance()
        assert drawn(progress) == ["evaluating 0:00 0:00 left"]
    assert drawn(progress) == []


@pytest.mark.parametrize(
    ("spent", "share", "words"),
    [(0, 0, ""), (5, 1, "0:00 left"), (5, 7, "0:00 left"), (36, 0.01, "59:24 left")],
)
def test_time_left(spent: float, share: float, words: str) -> None:
    assert left(spent, share) == words
    assert left(3600, 0.5) == "1:00:00 left"


def test_elsewhere_a_line_for_each_kind_of_slow_work_and_no_control_bytes() -> None:
    clock, out = Clock(), io.StringIO()
    # Colours may be forced where there is no terminal; what moves the cursor mustn't be.
    with Progress(Console(file=out, force_terminal=True, color_system=None), clock) as progress:
        for site in ("a", "b"):
            with progress.of(site).stage("tokenising", 100):
                for _ in range(100):
                    progress.advance()
            with progress.of(site).stage("embedding\x1b[2J", 100):
                for _ in range(50):
                    clock.now += 1
                    progress.advance(2)
            with progress.stage("loading the model"):
                clock.now += 100
    assert out.getvalue().splitlines() == [
        r"embedding\x1b[2J: 12%, 0:44 left …",
        "loading the model …",
    ]


def test_what_is_logged_beside_a_terminals_bars_is_not_drawn_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, err, elsewhere = Terminal(), Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", err)
    root = logging.getLogger()
    shown, kept = logging.StreamHandler(), logging.StreamHandler(elsewhere)
    root.addHandler(shown)
    root.addHandler(kept)
    try:
        console = Console(file=out, force_terminal=True, width=80)
        with Progress(console) as progress, progress.stage("embedding", 10):
            logging.getLogger("clients").warning("the fix")
        logging.getLogger("clients").warning("later")
    finally:
        root.removeHandler(shown)
        root.removeHandler(kept)
    assert "the fix\n" in out.getvalue()
    assert err.getvalue() == "later\n"
    assert elsewhere.getvalue() == "the fix\nlater\n"
    assert sys.stderr is err


@pytest.mark.parametrize("packed", [False, True])
def test_reading_is_told_by_the_bytes(tmp_path: Path, packed: bool) -> None:
    content = "text,label\n" + "".join(f"note {i},{i % 2}\n" for i in range(9000))
    data = gzip.compress(content.encode()) if packed else content.encode()
    path = tmp_path / "rows.csv"
    path.write_bytes(data)
    watch, task = Noted(), tasks.of("sequence-classification")
    source = Source(kind="csv", train=str(path))
    found = load(source, Seed(0), 2, task, watch)
    assert found == load(source, Seed(0), 2, task, UNWATCHED)
    ((_, what, total, done),) = watch.ended
    assert (what, total) == ("reading rows.csv", len(data))
    assert done >= len(data)  # the first bytes are looked at beforehand


def test_tokenising_is_told_by_the_rows() -> None:
    watch = Noted()
    learner: Any = SimpleNamespace(tokenizer=lambda texts, **_: {"input_ids": [[1] for _ in texts]})
    assert len(tokens_of(learner, ["note"] * 3000, 8, watch)) == 3000
    assert watch.ended == [("", "tokenising", 3000, 3000)]


@pytest.mark.slow
@pytest.mark.long
def test_a_whole_run_tells_its_stages_and_all_their_parts(tmp_path: Path) -> None:
    rows = "".join(f"note {i} of {i % 7},{i % 2}\n" for i in range(60))
    (tmp_path / "rows.csv").write_text("text,label\n" + rows)
    args = ["debug=fast", "train=head", "privacy=none", "data=csv", "federation.sites=2"]
    args += [f"data.train={tmp_path / 'rows.csv'}", "federation.partition=iid"]
    scenario = Scenario.from_mapping(cli.compose("simulate", args))
    watch = Noted()
    parties = gather(scenario, watch)
    begun = manifest_of("run", parties.job, rows_sha256=parties.rows_sha256, configuration={})
    play(parties, RunFolder.create(tmp_path / "run", begun), Silent(), watch)
    told = [(party, what) for party, what, _, _ in watch.ended]
    assert told[:3] == [("", "reading rows.csv"), ("", "loading the model"),
                        ("", "measuring the texts")]  # fmt: skip
    for site in ("site-1", "site-2"):
        own = [what for party, what in told if party == site]
        assert own == ["tokenising", "embedding", TRAINING, TRAINING]
    assert [what for party, what in told if party == "coordinator"].count("evaluating") == 2
    for party, what, total, done in watch.ended:
        assert total is None or done == total, (party, what)
