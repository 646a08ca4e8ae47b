"""Where the command line writes to: terminals with few letters, and readers that go away."""

import io
import subprocess
import sys

import pytest

from fedmodel import cli
from fedmodel.cli import entry
from fedmodel.report.terminal import Terminal


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_a_terminal_that_has_no_epsilon_is_shown_an_escape(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ended the run with a traceback, at the first word on δ."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    assert cli.main(["simulate", "--help"]) == 0
    Terminal().print("ε spent, Lungenentzündung")
    sys.stdout.flush()
    text = written.getvalue().decode(encoding)
    assert "\\u03b5 spent" in text
    assert ("ü" in text) == (encoding != "ascii")


@pytest.mark.long
@pytest.mark.parametrize("args", [["--help"], ["simulate", "train=lroa"]], ids=" ".join)
def test_a_reader_that_is_gone_is_one_line(args: list[str]) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "fedmodel.cli", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()  # what `| head` does, sooner
        told = child.stderr.read().splitlines()
    assert len(told) == 1
    assert child.returncode == (2 if "simulate" in args else 1)
    assert ("resume=true" in told[0]) == ("simulate" not in args)


def test_a_console_whose_reader_is_gone_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ended the process without a word, which `except FedmodelError` doesn't see."""

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Gone())
    with pytest.raises(BrokenPipeError):
        Terminal().print("round 1/2")


@pytest.mark.parametrize(("words", "way"), [([], "resume=true"), (["-m"], "the same command")])
def test_who_interrupts_is_told_how_it_goes_on(
    words: list[str],
    way: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A sweep's name is no run's: run=NAME resume=true found nothing."""

    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(entry, "_run", interrupted)
    assert cli.main(["simulate", *words, "run=x"]) == 130
    assert way in capsys.readouterr().err
