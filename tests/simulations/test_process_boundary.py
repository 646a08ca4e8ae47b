"""A process boundary between the coordinator and a site: what crosses is bytes, and no pickle."""

import json
import pickle
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.supercore.run import Run

import clients.assemble
from clients.site import Site
from fedmodel.job import ProposedPrivacy
from fedmodel.runs import RunFolder
from fedmodel.training.learner import resident
from server.coordinator import Coordinator, Silent
from simulations import play as playing
from simulations.loopback import LoopbackGrid
from simulations.parties import Parties
from simulations.play import Played, play
from tests.conftest import new_run
from tests.forks import Forks
from tests.jobs import CPU
from tests.simulations import site_process
from tests.simulations.site_process import read_frame, write_frame

pytestmark = pytest.mark.long

NODE = 3
RECORD = ProposedPrivacy(mechanism="dpsgd", epsilon=8.0, delta=1e-3)


class OtherProcess:
    """A site that lives elsewhere."""

    def __init__(
        self, forks: Forks, folder: RunFolder, site: Site, parties: Parties, run_id: int
    ) -> None:
        told = {
            "name": site.name,
            "home": str(folder.path.parent / "home"),
            "run": folder.run,
            "texts": list(site.rows.texts),
            "labels": list(site.rows.labels),
            "roster": None if site.roster is None else site.roster.to_json().decode(),
            "key": [run_id, NODE],
            "job": parties.job.json.decode(),
        }
        file = folder.path.parent / "site.json"
        file.write_text(json.dumps(told))
        self.crossed: list[bytes] = []
        self._process = forks.start(
            f"{site_process.__name__}:main", [str(file)], folder.path.parent
        )

    def ask(self, frame: bytes) -> bytes:
        write_frame(self._process.stdin, frame)
        answer = read_frame(self._process.stdout)
        self.crossed += [frame, answer]
        return answer

    def __call__(self, message: Message, context: Context) -> Message:
        answer = self.ask(message_to_proto(message).SerializeToString())
        return message_from_proto(ProtoMessage.FromString(answer))

    def close(self) -> None:
        self._process.close()


def split(forks: Forks, lab: Any, monkeypatch: pytest.MonkeyPatch, folder: Path, **job: Any) -> Any:
    """Run a job with one of five sites in another process; return what came of it."""
    parties = parties_of(lab, **job)
    folder.mkdir()
    ran = new_run(folder / "run")
    others: list[OtherProcess] = []
    made: list[Site] = []
    real = clients.assemble.make_site

    def make_site(config: Any, state: Any, rows: Any, test: Any, **named: Any) -> Site:
        if len(made) + 2 == NODE:  # its key and its ledger are the other process's own
            config = replace(config, home=folder / "home", ledger=None)
        made.append(real(config, state, rows, test, **named))
        return made[-1]

    def states(config: Any, *rest: Any) -> Any:
        at = folder / "home" if config.name == sorted(parties.sites)[NODE - 2] else config.home
        return clients.assemble.open_state(replace(config, home=at), *rest)

    def grid(app: Any, contexts: Mapping[int, Context], run: Run) -> LoopbackGrid:
        others.append(OtherProcess(forks, ran, made[NODE - 2], parties, run.run_id))

        def client(message: Message, context: Context) -> Message:
            reply: Message = (others[0] if context.node_id == NODE else app)(message, context)
            return reply

        return LoopbackGrid(client, contexts, run)  # type: ignore[arg-type]

    def pickled(*_: Any, **__: Any) -> Any:
        raise AssertionError("something was pickled")

    for name in ("dumps", "loads", "dump", "load"):  # the other process does the same
        monkeypatch.setattr(pickle, name, pickled)
    monkeypatch.setattr(playing, "make_site", make_site)
    monkeypatch.setattr(playing, "open_state", states)
    try:
        played = play(parties, ran, Silent(), grid=grid)
        report = json.loads(others[0].ask(b""))
    finally:
        for other in others:
            other.close()
    return played, report, others[0].crossed


def parties_of(lab: Any, **job: Any) -> Parties:
    made = lab.job(**job)
    learner = resident(made, CPU)
    return Parties(
        job=made, performance=CPU, sites=lab.sites(), test=lab.rows, learner=learner, rows_sha256=""
    )


@pytest.mark.slow
@pytest.mark.parametrize("secagg", ["on", "seal", "off"])
def test_a_site_in_another_process_gives_the_same_run(
    forks: Forks, lab: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, secagg: str
) -> None:
    together: Played = play(
        parties_of(lab, secagg=secagg), new_run(tmp_path / "together"), Silent()
    )
    played, report, crossed = split(forks, lab, monkeypatch, tmp_path / "apart", secagg=secagg)
    assert played.result.updates == together.result.updates
    tolerance = 2 * lab.bound(lab.job(secagg=secagg)) if secagg == "on" else 0.0
    np.testing.assert_allclose(played.result.vector, together.result.vector, rtol=0, atol=tolerance)
    assert report["refusal"] is None
    assert report["seconds"] > 0
    assert len(crossed) > 4


def test_a_private_site_in_another_process_keeps_its_own_ledger(
    forks: Forks, lab: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    played, report, _ = split(
        forks, lab, monkeypatch, tmp_path / "apart", secagg="on", privacy=RECORD, rounds=2, steps=1
    )
    assert played.result.updates == dict.fromkeys(range(2, 7), 2)
    assert report["steps"] == 2
    assert 0 < report["epsilon"] <= 8.0
    (ledger,) = (tmp_path / "apart" / "home").rglob("*.jsonl")
    assert ledger.read_bytes().count(b'"type":"spend"') == 2
    # Whoever may read that file, and its tree head, finds in it what the process has told.
    read = played.reports[NODE].ledger
    assert read is not None
    assert (read.path, read.text) == (ledger, ledger.read_bytes())
    assert (read.epsilon, read.steps) == (report["epsilon"], report["steps"])


def test_what_parties_are_and_tell_cannot_be_written_into(lab: Any) -> None:
    ran = lab.run(lab.job("off", rounds=1))
    coordinator = Coordinator(job=ran.job, folder=None, initial=ran.start)
    values: list[tuple[Any, str]] = [
        (ran.sites[2], "roster"),
        (coordinator, "reporter"),
        (ran.result, "rounds"),
        (ran.played, "reports"),
        (ran.played.reports[2], "work"),
        (ran.job, "seed"),
    ]
    for value, name in values:
        with pytest.raises(FrozenInstanceError):
            setattr(value, name, None)
