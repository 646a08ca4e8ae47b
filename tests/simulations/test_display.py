"""What a simulation shows and keeps of its parties' words, and what it leaves if it can't begin."""

import functools
import io
import logging
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import fedmodel
from clients.site_run import SiteRun
from fedmodel import cli
from fedmodel.errors import DivergedError, QuorumError, RunFolderError
from fedmodel.logs import kept
from fedmodel.runs import RunFolder, run_path
from fedmodel.training import local
from server.display import Display
from simulations import play as playing
from simulations.progress import Progress

FAST = ["simulate", "debug=fast", "train=head"]


def test_a_reason_is_said_once_with_the_sites_it_is_the_reason_of() -> None:
    out = io.StringIO()
    names = {node: f"H{node}" for node in range(2, 14)}
    console = Console(file=out, width=200)
    display = Display(Progress(console), console, 2, 1, names)
    display.sites_joined({n: None if n == 5 else ("late" if n == 7 else "too few") for n in names})
    display.round_ended(1, {"accuracy": 0.5, "failures": {"3": "gone", "4": "gone"}})
    display.round_ended(2, {})
    lines = out.getvalue().splitlines()
    assert lines == [
        "1 of 12 sites joined",
        "  H2, H3, H4, H6, H8, H9, H10, H11 and 2 more refused: too few",
        "  H7 refused: late",
        "  H3, H4 gave no update: gone",
        "round 1/2: accuracy 0.500 · 2 site(s) gave no update",
        "round 2/2",
    ]


def test_who_has_given_an_update_and_fails_later_is_not_told_to_have_given_none() -> None:
    """A site that restarts between its upload and its consent: its update is in the sum."""
    out = io.StringIO()
    console = Console(file=out, width=200)
    display = Display(Progress(console), console, 3, 1, {1: "H1", 2: "H2", 3: "H3"})
    failures = {"1": "upload: gone", "2": "consent: gone"}
    display.round_ended(1, {"failures": failures}, gave=(2, 3))
    display.round_ended(2, {"failures": failures, "reason": "too few consents"})
    lines = out.getvalue().splitlines()
    assert lines == [
        "  H1 gave no update: upload: gone",
        "  H2 left the round after giving an update, which counts: consent: gone",
        "round 1/3: 1 site(s) gave no update · 1 site(s) left the round after giving an update, "
        "which counts",
        "  H1 left the round: upload: gone",
        "  H2 left the round: consent: gone",
        "round 2/3: no sum · 2 site(s) left the round",
    ]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("moved", "runs/moved"),
        ("./moved", "moved"),
        ("moved/", "moved"),
        ("a/b", "a/b"),
        ("/a/b", "/a/b"),
    ],
)
def test_a_run_is_a_name_or_a_path(name: str, path: str) -> None:
    assert run_path(name) == Path(path)


def test_a_log_is_kept_and_leaves_loggers_as_they_were(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = logging.StreamHandler()
    root, ours = logging.getLogger(), logging.getLogger("clients")
    root.addHandler(shown)
    try:
        before = (list(root.handlers), ours.level, list(shown.filters))
        with kept(tmp_path / "run.log"):
            logging.getLogger("clients.app").warning("site a: no")
            logging.getLogger("clients.exchange").warning("hardly any effect")
            logging.getLogger("server.rounds").info("by the way")
            logging.getLogger("theirs").warning("somebody else's")
        assert (list(root.handlers), ours.level, list(shown.filters)) == before
    finally:
        root.removeHandler(shown)
    lines = (tmp_path / "run.log").read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == [
        "WARNING clients.app: site a: no",
        "WARNING clients.exchange: hardly any effect",
        "INFO server.rounds: by the way",
        "WARNING theirs: somebody else's",
    ]
    assert capsys.readouterr().err.splitlines() == ["hardly any effect", "somebody else's"]


@pytest.mark.long
def test_a_run_that_could_not_begin_leaves_its_name_free(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "first"
    assert cli.main([*FAST, f"run='{run}'", "budget.epsilon=1"]) == 1
    told = capsys.readouterr()
    out = " ".join(told.out.split())
    assert out.count("this would exceed budget.epsilon = 1") == 1
    assert "as said above" in told.err
    assert "would exceed" not in told.err
    assert "is free again" in out
    assert not run.exists()
    assert cli.main([*FAST, f"run='{run}'", "privacy=none", "train.rounds=1"]) == 0
    log = RunFolder(run).log.read_text()
    assert "5 of 5 sites joined" in log
    assert "round 1/1" in log


@pytest.mark.slow
def test_a_run_whose_sites_share_a_state_gives_back_what_it_held(tmp_path: Path) -> None:
    run, state = tmp_path / "first", tmp_path / "state"
    asked = [*FAST, f"run='{run}'", f"state='{state}'", "train.rounds=1"]
    # Two of five sites are below what the quorum needs.
    left = "federation.exclude=[site-1,site-2,site-3]"
    assert cli.main([*asked, left, "federation.quorum=0.9"]) == 1
    assert not run.exists()
    assert cli.main(asked) == 0


@pytest.mark.long
def test_a_run_in_which_something_was_spent_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:  # a step is in the ledger before it is taken
        raise DivergedError("the loss isn't finite")

    monkeypatch.setattr(local, "train", fail)
    run = tmp_path / "first"
    assert cli.main([*FAST, f"run='{run}'"]) == 1
    assert RunFolder.open(run).log.read_text().count("the loss isn't finite") >= 5
    assert len(list((run / "ledger").glob("*.jsonl"))) == 5


def test_a_sites_own_reason_is_told_where_its_log_is_ours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "first"
    asked = [*FAST, f"run='{run}'", "privacy.delta=0.1"]
    assert cli.main(asked) != 0
    told = "".join(capsys.readouterr())
    assert "own log" not in told
    assert "privacy.delta" in told


@pytest.mark.long
def test_an_error_that_nobody_foresaw_is_told_by_its_place_and_is_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was "see the site's own log", in a folder that had just been removed."""

    def fail(*_: object, **__: object) -> None:
        raise KeyError("a row")

    monkeypatch.setattr(SiteRun, "__init__", fail)
    with pytest.raises(QuorumError) as raised:
        fedmodel.simulate(*FAST[1:], run=str(tmp_path / "first"))
    assert isinstance(raised.value.__cause__, KeyError)
    assert cli.main([*FAST, f"run='{tmp_path / 'second'}'"]) == 1
    told = "".join(capsys.readouterr())
    for text in (told, str(raised.value)):
        assert "unexpected KeyError at simulations/test_display.py:" in "".join(text.split("\n"))
        assert "own log" not in text
        assert "a row" not in text


@pytest.mark.long
def test_it_is_not_the_cause_of_what_it_has_not_to_do_with(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, saved = SiteRun.train, RunFolder.save_checkpoint

    def train(run: SiteRun, order: Any) -> Any:
        if run.site.name == "s02":
            raise KeyError
        return trained(run, order)

    def full(folder: RunFolder, checkpoint: Any) -> None:
        if checkpoint.round == 1:
            raise RunFolderError("the disk is full")
        saved(folder, checkpoint)

    monkeypatch.setattr(SiteRun, "train", train)
    monkeypatch.setattr(RunFolder, "save_checkpoint", full)
    monkeypatch.setattr(playing, "play", functools.partial(playing.play, candid=True))
    ran = lab.run(lab.job("off", rounds=1, federation={"quorum": 0.5}), error=RunFolderError)
    assert "disk is full" in str(ran.error)
    assert ran.error.__cause__ is None
