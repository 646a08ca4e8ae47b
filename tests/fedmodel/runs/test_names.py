"""Names of runs: what is refused from outside, and that no two share a folder."""

import numpy as np
import pytest
from flwr.app import ConfigRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from fedmodel import wire
from fedmodel.errors import ConfigError, ProtocolError
from fedmodel.runs import check_run, new_run, run_folder_name
from fedmodel.seeds import Entropy
from fedmodel.wire import Leave, Offer
from tests.jobs import make_job

HOSTILE = [
    "",
    ".",
    "..",
    "../../etc",
    "a/b",
    "a\\b",
    "/etc/passwd",
    ".hidden",
    " demo",
    "demo ",
    "a" * 161,
    "demo\n",
    "de\0mo",
    "\x1b[2J",
    "de‮mo",  # turns the rest of a line round
    "\ud800",
]


@pytest.mark.parametrize("run", HOSTILE)
def test_a_name_that_could_be_something_else_is_refused(run: str) -> None:
    with pytest.raises(ConfigError, match="a run's name has 1 to 160 printable characters"):
        check_run(run)


@pytest.mark.parametrize("run", HOSTILE)
@pytest.mark.parametrize("kind", ["offer", "order", "leave"])
def test_and_so_is_every_message_that_has_it(run: str, kind: str) -> None:
    vector = wire.pack(np.zeros(2, np.float32))
    content, decode = {
        "offer": (wire.encode_offer(Offer(run=run, job=make_job())), wire.decode_offer),
        "order": (wire.encode_order(run, 1, "ab" * 32, vector), wire.decode_order),
        "leave": (
            wire.encode_leave(Leave(run=run, job_sha256="ab" * 32, failed=False)),
            wire.decode_leave,
        ),
    }[kind]
    with pytest.raises(ProtocolError, match="run's name"):
        decode(content)


@pytest.mark.parametrize("value", [None, 7, b"demo"])
def test_a_message_without_a_run_is_refused(value: object) -> None:
    record = dict(wire.encode_offer(Offer(run="demo", job=make_job())).config_records["config"])
    del record["run"]
    if value is not None:
        record["run"] = value  # type: ignore[assignment]
    with pytest.raises(ProtocolError, match="field 'run': expected str"):
        wire.decode_offer(RecordDict({"config": ConfigRecord(record)}))


@pytest.mark.long
@given(st.text(max_size=300))
def test_whatever_a_run_is_called_its_name_is_one(name: str) -> None:
    assert check_run(new_run(name)) != check_run(new_run(name))


class _Same(Entropy):
    def bytes(self, count: int) -> bytes:
        return bytes(count)


@given(st.text(max_size=300))
def test_a_folder_is_one_plain_part_of_a_path(run: str) -> None:
    folder = run_folder_name(run)
    assert folder.isascii()
    assert folder == folder.lower()
    assert set(folder) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-")
    assert 0 < len(folder) <= 105


def test_runs_that_are_called_alike_are_kept_apart() -> None:
    hashed = run_folder_name("Demo")
    runs = ["demo", "Demo", "DEMO", "démo", "de mo", "de-mo", "de.mo", "demo/", "", hashed]
    runs += [f"{'a' * 64}", f"{'a' * 65}", f"{'a' * 66}"]
    assert len({run_folder_name(run) for run in runs}) == len(runs)
    assert new_run("demo") != new_run("demo")


def test_a_name_that_can_stay_stays() -> None:
    assert new_run("Ospedale 1", _Same()) == "Ospedale 1-00000000"
    assert new_run("..", _Same()) == "run-00000000"
    assert new_run("a/b\n", _Same()) == "a_b_-00000000"
    assert new_run(" . a. ", _Same()) == "a.-00000000"
    assert len(new_run("x" * 500)) == 160


@given(st.text("./\\ a-_é\n\u3000\u200e"))
def test_what_a_run_is_named_is_a_runs_name(name: str) -> None:
    assert check_run(new_run(name))
