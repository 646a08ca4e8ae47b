"""Texts of other parties, files and rows are escaped wherever a person is shown them."""

import io
import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Error, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from fedmodel import cli, config, errors, wire
from fedmodel._escape import escaped
from fedmodel.budget.show import tables
from fedmodel.budget.statement import RunLine, Statement, Sum
from fedmodel.cli import entry
from fedmodel.data import Rows
from fedmodel.errors import ConfigError, FedmodelError, ProtocolError
from fedmodel.job import Privacy, Proposal
from fedmodel.report.card import model_card
from fedmodel.report.page import report_page
from fedmodel.report.tables import summary_tables, sweep_table
from fedmodel.report.terminal import say
from fedmodel.wire import Failure
from server.answers import Answer
from server.collect import read_all
from server.display import Display
from simulations.progress import Progress
from tests.fedmodel.report.conftest import private
from tests.jobs import make_job

# Clears the screen, turns the text round, begins a line of its own, is markup, is no character.
EVIL = "ev\x1b[2Jil\u202e\r\nfedmodel: done\u2028[/bold][red]\x07\u200b\ud800"
SEEN = r"ev\x1b[2Jil\u202e\r\nfedmodel: done\u2028[/bold][red]\x07\u200b\ud800"


def require_safe(text: str, *, lines: bool = False) -> None:
    rest = text.replace("\n", "") if lines else text
    odd = [c for c in rest if not c.isprintable()]
    assert not odd, ascii(odd)
    assert "\nfedmodel: done" not in text


def test_what_is_shown_as_itself_stays() -> None:
    for text in ("", "Ospedale Sant'Anna", "Süd", "東京", "ε ≤ 8 – 5 %", "a\\b"):
        assert escaped(text) == text
    assert escaped(EVIL) == SEEN
    assert escaped("a\n\tb\x1b", lines=True) == "a\n\tb\\x1b"


@given(st.text())
def test_any_text_can_be_shown(text: str) -> None:
    assert escaped(text).isprintable()
    assert escaped(escaped(text)) == escaped(text)


def kinds(of: type[FedmodelError]) -> list[type[FedmodelError]]:
    return [of, *(kind for each in of.__subclasses__() for kind in kinds(each))]


PLAIN = [k for k in kinds(FedmodelError) if k.__init__ is FedmodelError.__init__]
MADE = [
    *(kind(EVIL) for kind in PLAIN),
    errors.MissingExtraError(EVIL, "x"),
    errors.AccusationError(7, EVIL),
]


@pytest.mark.parametrize("made", MADE, ids=lambda made: type(made).__name__)
def test_no_error_says_what_a_terminal_would_obey(made: FedmodelError) -> None:
    require_safe(str(made))
    assert SEEN in str(made)


def test_a_sites_reason_reaches_the_coordinator_escaped() -> None:
    assert wire.decode_error(Error(202, EVIL)).reason == SEEN.replace(r"\n", " ")
    assert Failure(reason=EVIL).reason == SEEN
    assert len(wire.decode_error(Error(202, "\x1b" * 10_000)).reason) <= 1600


def test_names_in_a_sites_answer_reach_the_coordinator_escaped() -> None:
    evil = "\x1b[2J\u202e"
    update = RecordDict({"config": ConfigRecord({"version": evil})})
    metrics = RecordDict(
        {
            "config": ConfigRecord({"version": wire.VERSION}),
            "metrics": MetricRecord({evil: 1.0}),
            "arrays": ArrayRecord({"vector": wire.pack(np.zeros(2, np.float32))}),
        }
    )
    answers = [Answer(node=1, content=update), Answer(node=2, content=metrics)]
    found, failures = read_all(
        answers, [1, 2], lambda node, c: wire.decode_update(c, 2), lambda n, c: None, "update"
    )
    assert not found
    for failure in failures.values():
        require_safe(failure.reason)


def test_a_reason_that_looks_like_markup_doesnt_end_the_run() -> None:
    console = Console(file=io.StringIO(), width=200)
    display = Display(Progress(console), console, 1, 1)
    display.sites_joined({2: EVIL, 3: "[/nothing] [link=file:///]", 4: None})
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "1 of 3 sites joined" in shown
    assert f"refused: {SEEN}" in shown
    assert "[/nothing] [link=file:///]" in shown
    require_safe(shown, lines=True)


def test_a_name_that_looks_like_a_picture_stays_a_name() -> None:
    """``rich`` makes pictures of ``:x:``, where nobody tells it not to."""
    found = private()
    site = next(iter(found.privacy.sites.values()))
    found = replace(
        found, privacy=replace(found.privacy, sites={":x:": site}), notes=("of a:skull:b",)
    )
    console = Console(file=io.StringIO(), width=200)
    say(console, "site a:skull:b")
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    page = report_page(found, "r")
    assert "a:skull:b" in shown
    assert "a:skull:b" in page
    assert ":x:" in page


@pytest.mark.parametrize("build", [Privacy, Proposal])
def test_keys_and_choices_of_a_job_from_elsewhere(build: type[Any]) -> None:
    for mapping in ({EVIL: 1}, {"mechanism": EVIL}, {"seed": EVIL}):
        with pytest.raises(ConfigError) as caught:
            config.build(build, mapping)
        require_safe(str(caught.value))


def test_a_summary_from_elsewhere_is_shown_escaped() -> None:
    found = private(adversaries={EVIL: 1.0})
    site = replace(next(iter(found.privacy.sites.values())), refused=EVIL)
    sites = {**found.privacy.sites, EVIL: site}
    final = {**found.final, f"f1.{EVIL}": 0.5, f"{EVIL}.x": 0.5, EVIL: 0.25}
    found = replace(
        found, privacy=replace(found.privacy, sites=sites), final=final, notes=(EVIL,), stopped=EVIL
    )
    console = Console(file=io.StringIO(), width=400)
    for table in (*summary_tables(found, dict.fromkeys(sites, 1)), sweep_table([(EVIL, found)])):
        console.print(table)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    require_safe(shown, lines=True)
    assert SEEN in shown
    page = re.sub(r"\n", "", report_page(found, EVIL))
    require_safe(page)
    card = model_card(config.to_mapping(make_job(privacy=Privacy(mechanism="dpsgd"))), found)
    require_safe(card, lines=True)
    assert "\u2028" not in card


def test_a_job_with_odd_labels_makes_a_card_without_them_as_they_are() -> None:
    job = config.to_mapping(make_job())
    job["model"]["labels"] = [EVIL, "`|` <b>"]
    job["model"] |= {"source": "hub", "path": EVIL, "revision": EVIL}
    card = model_card(job, private())
    require_safe(card, lines=True)


def test_a_ledger_from_elsewhere_is_shown_escaped() -> None:
    cost = Sum(
        unit="record", adjacency="replace", delta=1e-5, spent=1, reserved=1, cap=None, left=None
    )
    run = RunLine(run=EVIL, job=EVIL, state="open", steps=1, evaluations=0, sum=cost)
    shown = Statement(
        site=EVIL, dataset=EVIL, ledger=EVIL, rows=None, added=None, removed=None,
        runs=(run,), totals=(cost,),
    )  # fmt: skip
    console = Console(file=io.StringIO(), width=400)
    for table in tables([shown], []):
        console.print(table)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    require_safe(text, lines=True)
    assert SEEN.split("[/bold]")[0] in text


def test_no_librarys_log_clears_the_screen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging, "_logRecordFactory", logging.LogRecord)
    assert cli.main(["budget", "state=nowhere"]) == 2
    assert logging.getLogRecordFactory() is entry._Record
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    logger = logging.getLogger("some.library")
    logger.addHandler(handler)
    try:
        logger.warning("weights %s\nof two lines", EVIL.replace("\n", ""))
    finally:
        logger.removeHandler(handler)
    require_safe(out.getvalue(), lines=True)
    assert r"\x1b[2J" in out.getvalue()
    assert "\nof two lines" in out.getvalue()


def test_the_command_line_itself_writes_no_control_character(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for args in (["budget", "state='a\x1b[2J'"], ["export", "run='\u202ex'", "to=y"], ["\x1b[2J"]):
        assert cli.main(args) in (1, 2)
        require_safe(capsys.readouterr().err, lines=True)


def test_a_refusal_at_a_site_escapes_the_coordinators_text() -> None:
    with pytest.raises(ProtocolError) as caught:
        wire.decode_offer(RecordDict({"config": ConfigRecord({"version": EVIL[:40]})}))
    require_safe(str(caught.value))
    assert Rows([EVIL], ["a"]).texts[0] == EVIL  # the data itself is as it is
