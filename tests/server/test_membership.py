"""Joining and leaving, and what the coordinator does with where ledgers stand."""

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.run import Run

from fedmodel import wire
from fedmodel.errors import (
    FedmodelError,
    LedgerError,
    QuorumError,
    RefusedError,
    RunError,
    RunFolderError,
)
from fedmodel.job import Aggregation, Federation, Job, Privacy, Train
from fedmodel.ledger import DatasetEntry, Ledger
from fedmodel.ledger.site_state import SiteState
from fedmodel.ledger.tree_head import Standing
from fedmodel.update import Update
from server import rounds
from server.coordinator import Coordinator, RunResult, Silent
from server.exchange.channel import Channel
from server.ledger_memory import LedgerMemory
from server.membership import quorum
from simulations.loopback import LoopbackGrid
from tests.jobs import make_job, summed

NODES = (2, 3, 4)
INITIAL = np.zeros(5, dtype=np.float32)
JOB = make_job(
    train=Train(rounds=3),
    privacy=Privacy(mechanism="dpsgd", rate=0.5),
    federation=Federation(sites=3, quorum=0.5),
)
ROWS = DatasetEntry(root="00" * 32, rows=1, patients=None, added=1, removed=0)
Lie = Callable[[int, int, Standing], Standing | None]


def honest(node: int, round_: int, standing: Standing) -> Standing | None:
    return standing


@dataclass
class Sites:
    """Sites with a ledger each, that may lie about where it stands."""

    folder: Path
    lie: Lie = honest
    left: list[tuple[int, bool]] = field(default_factory=list)
    fail_in: int | None = None
    crash: bool = False

    def ledger(self, node: int) -> Ledger:
        return SiteState(self.folder / str(node), str(node)).ledger()

    def standing(self, node: int, round_: int, entries: int) -> Standing | None:
        ledger = self.ledger(node)
        ledger.note_dataset(ROWS)
        proof = tuple(ledger.prove(entries))
        return self.lie(node, round_, Standing(head=ledger.head(), proof=proof))

    def app(self) -> ClientApp:
        app = ClientApp()

        @app.query("join")
        def join(message: Message, context: Context) -> Message:
            node = context.node_id
            sizes = [h.size for h in wire.decode_offer(message.content).tree_heads]
            standing = self.standing(node, 0, max(sizes, default=0))
            return Message(wire.encode_reply(standing), reply_to=message)

        @app.train()
        def train(message: Message, context: Context) -> Message:
            order = wire.decode_order(message.content)
            if order.round == self.fail_in:
                if self.crash:
                    raise RuntimeError
                return wire.encode_error(RefusedError("not today"), message)
            standing = self.standing(context.node_id, order.round, order.entries)
            update = Update.of(np.ones(5, np.float32), 1.0, {})
            return Message(wire.encode_update(update, standing), reply_to=message)

        @app.query("leave")
        def leave(message: Message, context: Context) -> Message:
            end = wire.decode_leave(message.content)
            assert end.job_sha256 == JOB.sha256
            self.left.append((context.node_id, end.failed))
            standing = self.standing(context.node_id, 9, end.entries)
            return Message(wire.encode_reply(standing), reply_to=message)

        return app


@pytest.fixture
def sites(tmp_path: Path) -> Sites:
    return Sites(tmp_path)


def channel_to(sites: Sites) -> Channel:
    contexts = {n: Context(1, n, {}, RecordDict(), {}) for n in NODES}
    return Channel(LoopbackGrid(sites.app(), contexts, Run.create_empty(1)))


def play(
    sites: Sites, job: Job = JOB, memory: LedgerMemory | None = None, **parts: Any
) -> tuple[RunResult, LedgerMemory]:
    keys = {n: SiteState(sites.folder / str(n), str(n)).key.public.hex() for n in NODES}
    kept = memory or LedgerMemory([sites.folder / "heads.json"], keys)
    coordinator = Coordinator(job=job, folder=None, initial=INITIAL, memory=kept, **parts)
    return rounds.run(channel_to(sites), coordinator), kept


def test_heads_are_kept_from_join_to_leave_and_offered_to_the_next_run(sites: Sites) -> None:
    result, memory = play(sites)
    np.testing.assert_array_equal(result.vector, np.full(5, 3, np.float32))
    assert sites.left == [(n, False) for n in NODES]
    # open, and an entry each for the join, three rounds and the leave
    assert {memory.entries(n) for n in NODES} == {6}
    _, again = play(sites)
    assert {again.entries(n) for n in NODES} == {11}


def on_disk(sites: Sites) -> set[int]:
    keys = {n: SiteState(sites.folder / str(n), str(n)).key.public.hex() for n in NODES}
    memory = LedgerMemory([sites.folder / "heads.json"], keys)
    return {head.size for node in NODES for head in memory.offered(node)}


def test_heads_are_on_disk_after_the_join_and_after_the_leave(sites: Sites) -> None:
    class Killed(Silent):
        def round_started(self, number: int, sites: int) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        play(sites, reporter=Killed())
    assert on_disk(sites) == {2}  # open, and the join's
    play(sites)
    assert on_disk(sites) == {7}  # another join, three rounds, the leave


def test_heads_are_on_disk_after_each_round(sites: Sites) -> None:
    class Killed(Silent):
        def round_ended(
            self, number: int, metrics: dict[str, Any], gave: Collection[int] = ()
        ) -> None:
            seen.append(on_disk(sites))
            if number == 2:
                raise KeyboardInterrupt

    seen: list[set[int]] = []
    with pytest.raises(KeyboardInterrupt):
        play(sites, reporter=Killed())
    assert seen == [{3}, {4}]


def test_a_failed_run_is_left_as_failed(sites: Sites) -> None:
    sites.fail_in = 2
    with pytest.raises(QuorumError):
        play(sites)
    assert sites.left == [(n, True) for n in NODES]


def test_a_run_whose_sites_are_away_is_interrupted_and_nobody_is_told(
    sites: Sites, caplog: pytest.LogCaptureFixture
) -> None:
    sites.fail_in, sites.crash = 2, True
    with pytest.raises(QuorumError, match="round 2"):
        play(sites)
    assert sites.left == []
    assert "what sites hold for it stays held until it goes on (resume=true)" in caplog.text
    # Before anything is done there is nothing to go on with.
    sites.fail_in = 1
    with pytest.raises(QuorumError, match="round 1"):
        play(sites)
    assert sites.left == [(n, True) for n in NODES]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError("no connection"), False),
        (RuntimeError("a bug"), False),
        (RunFolderError("disk full"), False),
        (RunError("diverged"), True),
        (QuorumError("nothing was trained"), True),
    ],
)
def test_what_may_pass_interrupts_a_run_and_what_may_not_ends_it(
    sites: Sites, error: Exception, *, told: bool
) -> None:
    class Failing(Silent):
        def round_ended(
            self, number: int, metrics: dict[str, Any], gave: Collection[int] = ()
        ) -> None:
            raise error

    with pytest.raises(type(error), match=str(error)):
        play(sites, reporter=Failing())
    assert sites.left == ([(n, True) for n in NODES] if told else [])


@pytest.mark.parametrize("error", [OSError("disk full"), LedgerError("disk full")])
def test_a_goodbye_that_goes_wrong_does_not_hide_why_the_run_failed(
    sites: Sites,
    error: OSError | FedmodelError,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    memory = LedgerMemory([sites.folder / "heads.json"])
    real, sites.fail_in = memory.save, 2

    def save() -> None:
        if sites.left:
            raise error
        real()

    monkeypatch.setattr(memory, "save", save)
    with pytest.raises(QuorumError, match="round 2"):
        play(sites, memory=memory)
    assert "disk full" in caplog.text
    # Where nothing else went wrong, this is what is told.
    sites.fail_in = None
    sites.left.clear()
    with pytest.raises(type(error), match="disk full"):
        play(sites, memory=memory)


def test_without_privacy_nobody_is_told(sites: Sites) -> None:
    play(sites, make_job(train=Train(rounds=1), federation=Federation(sites=3)))
    assert sites.left == []


@pytest.mark.parametrize(
    ("lie", "says"),
    [
        (lambda n, r, s: None if (n, r) == (3, 2) else s, "no head"),
        (lambda n, r, s: Standing(head=s.head) if (n, r) == (3, 2) else s, "don't prove"),
    ],
)
def test_an_update_whose_head_does_not_follow_is_left_out(
    sites: Sites, lie: Lie, says: str
) -> None:
    sites.lie = lie
    seen: dict[int, str] = {}

    class Told:
        def sites_joined(self, sites: dict[int, str | None]) -> None: ...
        def round_started(self, number: int, sites: int) -> None: ...
        def round_ended(
            self, number: int, metrics: dict[str, object], gave: Collection[int] = ()
        ) -> None:
            seen[number] = str(metrics["failures"])

    keys = {n: sites.ledger(n).owner.signer.public.hex() for n in NODES}  # type: ignore[union-attr]
    coordinator = Coordinator(
        job=JOB, folder=None, initial=INITIAL, memory=LedgerMemory([], keys), reporter=Told()
    )
    result = rounds.run(channel_to(sites), coordinator)
    assert says in seen[2]
    assert "'3'" in seen[2]
    assert seen[1] == seen[3] == "{}"
    assert result.updates == {2: 3, 3: 2, 4: 3}


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    "change", [{"size": 2**60}, {"size": 10**400}, {"ledger": "\ud800"}, {"time": []}, {"key": 1}]
)
@pytest.mark.parametrize(("kind", "at"), [("query.join", 0), ("train", 2)])
def test_no_head_that_a_site_makes_up_ends_the_run(
    sites: Sites, kind: str, at: int, change: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    read, told = wire.decode_standing, list[bool]()

    def lying(content: RecordDict) -> Standing | None:
        record = content.config_records["config"]
        head = json.loads(str(record["head"]))
        if ("arrays" in content) == (kind == "train"):
            told.append(True)
            if len(told) == at * len(NODES) + 1:
                record["head"] = json.dumps(head | change)
        return read(content)

    monkeypatch.setattr(wire, "decode_standing", lying)
    result, _ = play(sites)
    assert result.rounds == 3
    assert sorted(result.updates.values()) == ([3, 3] if kind == "query.join" else [2, 3, 3])


def test_a_site_that_joins_with_another_key_is_refused(sites: Sites, tmp_path: Path) -> None:
    keys = {n: SiteState(tmp_path / str(n), str(n)).key.public.hex() for n in NODES}
    keys[4] = keys[3]
    result, _ = play(sites, memory=LedgerMemory([], keys))
    assert "signed by key" in result.refused[4]
    assert sorted(result.updates) == [2, 3]


def test_an_unbelievable_goodbye_changes_nothing(sites: Sites) -> None:
    sites.lie = lambda n, r, s: None if r == 9 else s
    result, _ = play(sites)
    assert result.vector[0] == 3


@pytest.mark.parametrize(
    ("share", "asked", "needed"),
    [(0.5, 3, 2), (0.5, 4, 2), (0.34, 3, 2), (0.01, 4, 1), (0.5, 0, 1), (1.0, 3, 3)],
)
def test_a_quorum_is_rounded_up_and_at_least_one(share: float, asked: int, needed: int) -> None:
    job = replace(JOB, federation=replace(JOB.federation, quorum=share))
    assert quorum(job, asked) == (needed, "federation.quorum")


def test_krum_needs_more_than_twice_the_malicious() -> None:
    job = make_job(
        aggregation=Aggregation(optimizer="krum", malicious=2),
        federation=Federation(sites=9, quorum=0.5),
    )
    assert quorum(job, 9) == (7, "2·aggregation.malicious + 3")
    few = replace(job, aggregation=Aggregation(optimizer="krum", malicious=0))
    assert quorum(few, 9) == (5, "federation.quorum")


@pytest.mark.parametrize(
    ("share", "needed"),
    [
        (0.5, (4, "secagg.survivors")),
        (0.8, (4, "federation.quorum")),
        (1.0, (5, "federation.quorum")),
    ],
)
def test_the_survivors_of_a_sum_are_a_quorum_too(share: float, needed: tuple[int, str]) -> None:
    job = make_job(secagg=summed(5), federation=Federation(sites=5, quorum=share))
    assert quorum(job, 5) == needed
