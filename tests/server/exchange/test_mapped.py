"""Answers in files: a round's memory is that of a few updates, whatever the number of sites."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from flwr.app import RecordDict

from fedmodel import wire
from fedmodel._hazmat import x25519_public
from fedmodel.identity import Member, Roster, SigningKey
from fedmodel.identity.provision import CoordinatorKeys
from fedmodel.identity.seal import Context, seal
from fedmodel.job import Aggregation, Federation, Job, SecAgg
from fedmodel.update import Update
from fedmodel.wire.arrays import view
from server.coordinator import Coordinator
from server.exchange.channel import Channel
from server.exchange.plain import Plain
from server.exchange.protocol import Invitation
from server.exchange.sealed import Sealed
from server.ledger_memory import LedgerMemory
from tests.jobs import make_job
from tests.server import made_up
from tests.server.exchange import masked
from tests.server.exchange.mapped import Spool, grid_in, measured
from tests.server.exchange.replies import reply

SIZE = 1 << 17
UPDATE = 4 * SIZE  # bytes
SLACK = 1 << 17
NODES = tuple(range(2, 14))
SIGNERS = {n: SigningKey(bytes([n]) * 32) for n in NODES}
PRIVATE, SIGNER = b"\5" * 32, SigningKey(b"\1" * 32)
ROSTER = Roster(
    coordinator=SIGNER.public.hex(),
    seal=x25519_public(PRIVATE).hex(),
    members=tuple(Member(name=f"s{n}", key=key.public.hex()) for n, key in SIGNERS.items()),
)
KEYS = CoordinatorKeys(roster=ROSTER, signer=SIGNER, seal=PRIVATE)


def job_of(mode: Any, optimizer: Any = "fedavg") -> Job:
    return make_job(
        secagg=SecAgg(mode=mode),
        federation=Federation(sites=len(NODES)),
        aggregation=Aggregation(
            optimizer=optimizer, weights="examples" if optimizer == "fedavg" else "uniform"
        ),
    )


def update(node: int) -> Update:
    change = np.random.default_rng(node).standard_normal(SIZE).astype(np.float32)
    return Update.of(change, node / 3 + 1, {"train_loss": 1 / node})


def summed_at_once(*nodes: int) -> Update:
    """Return the mean as of all updates in memory: the naive way, in the order of nodes."""
    updates = [update(n) for n in nodes]
    vector = updates[0].vector.copy()
    for other in updates[1:]:
        vector += other.vector
    weight = sum(u.weight for u in updates)
    loss = sum(u.metrics["train_loss"] for u in updates)
    return Update(
        vector=vector / np.float32(weight), weight=1.0, metrics={"train_loss": loss / weight}
    )


class Answers:
    """Collects what nodes have answered, from files in any order.

    Attributes:
        held: how many payloads were held when each answer was looked at.
    """

    def __init__(self, folder: Path) -> None:
        self.spool = Spool(folder)
        self.held: list[int] = []

    def of(self, contents: Iterator[tuple[int, RecordDict]]) -> Any:
        """Return a channel over which they come."""
        replies = [self.spool.through(reply(n, content)) for n, content in contents]

        def receive(messages: Any, timeout: Any) -> Any:
            come, replies[:] = replies.copy(), []
            self.spool.begin("train")
            return come

        grid: Any = SimpleNamespace(send_and_receive=receive)
        return Channel(grid)

    def collected(self, exchange: Any, contents: Iterator[tuple[int, RecordDict]]) -> Any:
        channel = self.of(contents)
        invitation = Invitation(
            round=1,
            nodes=list(NODES),
            vector=np.zeros(1, np.float32),
            order=lambda node: RecordDict(),
            check=lambda node, content: self.held.append(self.spool.held),
        )
        with measured(self.spool):
            return exchange.collect(channel, invitation)


@pytest.fixture
def answers(tmp_path: Path) -> Answers:
    return Answers(tmp_path)


@pytest.mark.long
def test_plain_updates_are_let_go_of_one_by_one(answers: Answers) -> None:
    contents = ((n, wire.encode_update(update(n))) for n in reversed(NODES))
    got = answers.collected(Plain(job_of("off"), SIZE), contents)
    expected = summed_at_once(*NODES)
    assert got.givers == NODES
    assert got.mean.vector.tobytes() == expected.vector.tobytes()
    assert got.mean.metrics == pytest.approx(expected.metrics, rel=1e-12)
    assert answers.held == list(range(len(NODES), 0, -1))
    assert answers.spool.held == 0
    assert answers.spool.took["train"] < 2 * UPDATE + SLACK


@pytest.mark.long
def test_what_isnt_taken_is_let_go_of_too(answers: Answers) -> None:
    def contents() -> Iterator[tuple[int, RecordDict]]:
        for n in NODES:
            content = wire.encode_update(update(n))
            if n % 2:
                content.config_records["config"]["version"] = "x"
            yield n, content
        yield NODES[0], wire.encode_update(update(1))  # twice: neither is taken
        yield 99, wire.encode_update(update(1))  # not asked

    got = answers.collected(Plain(job_of("off"), SIZE), contents())
    taken = tuple(n for n in NODES[1:] if not n % 2)
    assert got.givers == taken
    assert got.mean.vector.tobytes() == summed_at_once(*taken).vector.tobytes()
    assert max(answers.held) <= len(NODES)
    assert answers.spool.took["train"] < 2 * UPDATE + SLACK


@pytest.mark.long
def test_a_median_needs_them_all(answers: Answers) -> None:
    changes = {n: update(n).mean() for n in NODES}
    contents = ((n, wire.encode_update(changes[n])) for n in NODES)
    got = answers.collected(Plain(job_of("off", "fedmedian"), SIZE), contents)
    expected = np.median([changes[n].vector for n in NODES], axis=0)
    np.testing.assert_allclose(got.mean.vector, expected, rtol=1e-6)
    assert set(answers.held) == {len(NODES)}


@pytest.mark.long
def test_a_sealed_update_is_opened_when_the_one_before_is_gone(answers: Answers) -> None:
    job = job_of("seal")
    sealed = Sealed(
        Coordinator(job=job, folder=None, initial=np.zeros(SIZE, np.float32), keys=KEYS)
    )
    sealed._roll.numbers |= {n: n - 1 for n in NODES}

    def contents() -> Iterator[tuple[int, RecordDict]]:
        for n in NODES:
            data = seal(
                wire.update_to_bytes(update(n)),
                to=x25519_public(PRIVATE),
                sign=SIGNERS[n].sign,
                context=Context(
                    session=sealed.joining,
                    job=job.sha256,
                    roster=ROSTER.sha256,
                    member=n - 1,
                    round=1,
                ),
            )
            yield n, wire.add_parcel(wire.encode_reply(), "sealed", data)

    got = answers.collected(sealed, contents())
    assert got.givers == NODES
    assert got.mean.vector.tobytes() == summed_at_once(*NODES).vector.tobytes()
    assert answers.held == list(range(len(NODES), 0, -1))
    assert answers.spool.took["train"] < 2 * UPDATE + SLACK


@pytest.mark.long
def test_masked_vectors_are_added_as_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, held = Spool(tmp_path), []

    class Noting(LedgerMemory):
        def note(self, node: int, standing: Any) -> None:
            held.append(spool.held)

    monkeypatch.setattr(masked, "SIZE", SIZE)
    monkeypatch.setattr(masked, "INITIAL", np.zeros(SIZE, np.float32))
    job = masked.job_of()
    with measured(spool):
        result, rows = masked.play(
            masked.Sites(job), grid_in(spool), initial=masked.INITIAL, memory=Noting()
        )
    assert rows[0]["updates"] == masked.COUNT
    np.testing.assert_allclose(result.vector, masked.mean_of(*masked.NODES), atol=1e-5)
    uploads = held[masked.COUNT : 2 * masked.COUNT]  # after the answers to the offer
    assert uploads == list(range(masked.COUNT, 0, -1))
    assert spool.took["train"] < UPDATE + SLACK
    # Unmasked in its own memory, checked, read and applied; the model is made anew.
    assert spool.took["query.reveal"] < 2 * UPDATE + SLACK


def test_the_model_is_kept_once_while_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    collect, shared = Plain.collect, list[bool]()

    def looked_at(self: Plain, channel: Channel, invitation: Invitation) -> Any:
        sent = view(invitation.order(2).array_records["arrays"]["vector"], "float32")
        shared.append(np.shares_memory(sent, invitation.vector))
        return collect(self, channel, invitation)

    monkeypatch.setattr(Plain, "collect", looked_at)
    made_up.play(made_up.job_of(2), made_up.Sites())
    assert shared == [True, True]
