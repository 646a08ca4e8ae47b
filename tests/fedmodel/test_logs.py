"""Lines of a log on stderr: one for each record, whatever stands in it."""

import json
import logging
import re

import pytest

from fedmodel._signals import Stopped, asked_to_stop
from fedmodel.logs import LogForm, lines_to_stderr

EVIL = "ev\x1b[2Jil\u202e\r\n2026-01-01T00:00:00Z INFO all is well"


def raised() -> None:
    raise KeyError("the text of a row")


def said(form: LogForm, capsys: pytest.CaptureFixture[str]) -> list[str]:
    root = logging.getLogger()
    before = list(root.handlers)
    with lines_to_stderr(form):
        logging.getLogger("server.serve").info("round %d/%d: %s", 1, 2, EVIL)
        logging.getLogger("clients.app").warning("site a: no")
        logging.getLogger("theirs").info("by the way")
        try:
            raised()
        except KeyError:
            logging.getLogger("fedmodel").exception("unforeseen")
    assert root.handlers == before
    logging.getLogger("server.serve").info("afterwards")
    return capsys.readouterr().err.splitlines()


def test_a_line_has_time_level_and_text(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said("lines", capsys)
    assert len(lines) == 3
    time = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ")
    assert all(time.match(line) for line in lines)
    assert [line[21:] for line in lines] == [
        r"INFO round 1/2: ev\x1b[2Jil\u202e\r\n2026-01-01T00:00:00Z INFO all is well",
        "WARNING site a: no",
        f"ERROR unforeseen (KeyError at test_logs.py:{raised.__code__.co_firstlineno + 1})",
    ]


def test_an_object_a_line_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    found = [json.loads(line) for line in said("json", capsys)]
    assert [each["level"] for each in found] == ["INFO", "WARNING", "ERROR"]
    assert [each["logger"] for each in found] == ["server.serve", "clients.app", "fedmodel"]
    assert found[0].keys() == {"time", "level", "logger", "text"}
    assert "\n" not in found[0]["text"]
    assert "of a row" not in str(found)


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
def test_a_process_is_asked_to_stop_by_either_signal(number: str) -> None:
    import signal

    wanted = getattr(signal, number)
    before = signal.getsignal(wanted)
    with pytest.raises(Stopped), asked_to_stop():
        signal.raise_signal(wanted)
    assert signal.getsignal(wanted) is before


def test_who_is_told_goes_on_and_a_second_signal_is_the_usual_one() -> None:
    import signal

    told: list[int] = []
    # Whoever starts the tests in the background of a shell has it ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with asked_to_stop(lambda: told.append(1)):
            signal.raise_signal(signal.SIGINT)
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert told == [1]
