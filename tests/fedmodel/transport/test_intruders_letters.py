"""Replies that lie: each is refused with a reason, and what the coordinator waits for stays so."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from fedmodel.identity import SigningKey
from fedmodel.identity.home import PartyHome
from fedmodel.transport.connection import Connection
from fedmodel.transport.frames import Ack, Bye, Chunk, Head, Letter, encode
from fedmodel.transport.letters import SIGNATURE, Order, Reply, sign_header, verified_header
from fedmodel.transport.payloads import Departure, Part, digest_of
from fedmodel.transport.questions import Answered
from tests.fedmodel.transport.beset import Beset
from tests.fedmodel.transport.intruder import Line, dialling
from tests.fedmodel.transport.world import question, signer_of, told, wait_until

pytestmark = pytest.mark.long

MOST = 3 << 20


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked of north: the order as it came, and where the answer will be."""

    order: Order
    digest: str
    answer: Future[list[Answered]]


class World(Beset):
    """A coordinator, the site south at it, and an intruder with all that north has."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, MOST)
        self._pool = ThreadPoolExecutor()

    @contextmanager
    def entered(self) -> Iterator[Line]:
        with dialling(self.coordinator, self.papers, self.consortium.authority) as line:
            yield line.enter(self.north, self.papers)

    def asked(self, line: Line, payload: bytes = b"x") -> Asked:
        wait_until(lambda: 1 in self.coordinator.hub.callers)
        asked = [question(1, payload)]
        answer = self._pool.submit(self.coordinator.hub.ask, asked, 60.0)
        order, digest = self.heard(line)
        return Asked(order, digest, answer)

    def heard(self, line: Line) -> tuple[Order, str]:
        """Return the order that a stream brings."""
        frame = line.hear()
        assert frame is not None
        assert isinstance(frame.head, Letter), frame.head
        end = frame.head.header + SIGNATURE
        text, signature = bytes(frame.body[: end - SIGNATURE]), frame.body[end - SIGNATURE : end]
        key = bytes.fromhex(self.coordinator.hub.config.roster.coordinator)
        order = verified_header(Order, text, bytes(signature), key)
        return order, sign_header(order, lambda _: b"").digest

    def noted(self) -> list[str]:
        found = [why for _, _, why in self.coordinator.refusals]
        self.coordinator.refusals.clear()
        return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("world")) as made:
        yield made


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedmodel.transport.notes._MOST", 1 << 30)


def reply_of(asked: Asked, payload: bytes = b"good", **changes: Any) -> Reply:
    """Return the header of the reply that an order wants, but for some changes."""
    order = asked.order
    header = Reply(
        run=order.run,
        epoch=order.epoch,
        start=order.start,
        seq=order.seq,
        member=order.member,
        order=asked.digest,
        size=len(payload),
        sha256=digest_of([payload]),
    )
    return replace(header, **changes)


def letter(header: Reply, signer: SigningKey, payload: bytes = b"good") -> list[bytes]:
    return list(Departure(header.seq, sign_header(header, signer.sign), [payload]).frames())


Lie = Callable[[World, Asked], list[bytes]]


def _changed(**changes: Any) -> Lie:
    return lambda world, asked: letter(reply_of(asked, **changes), world.signer)


def _signed(home: Callable[[World], PartyHome]) -> Lie:
    return lambda world, asked: letter(reply_of(asked), signer_of(home(world)))


def _unsigned(world: World, asked: Asked) -> list[bytes]:
    text = sign_header(reply_of(asked), world.signer.sign).text
    return [encode(Letter(header=len(text)), [text, bytes(64), b"good"])]


def _longer(size: int) -> Lie:
    def made(world: World, asked: Asked) -> list[bytes]:
        signed = sign_header(reply_of(asked), world.signer.sign)
        return [encode(Letter(header=size), [signed.text, signed.signature, b"good"])]

    return made


def _from(offset: int) -> Lie:
    def made(world: World, asked: Asked) -> list[bytes]:
        signed = sign_header(reply_of(asked), world.signer.sign)
        head = Letter(header=len(signed.text), offset=offset)
        return [encode(head, [signed.text, signed.signature, b"good"])]

    return made


def _then(*frames: Callable[[int], bytes]) -> Lie:
    """Return a lie of the first half of a reply, and then something else."""

    def made(world: World, asked: Asked) -> list[bytes]:
        signed = sign_header(reply_of(asked), world.signer.sign)
        head = Letter(header=len(signed.text))
        first = encode(head, [signed.text, signed.signature, b"go"])
        return [first, *(frame(asked.order.seq) for frame in frames)]

    return made


def _two(world: World, asked: Asked) -> list[bytes]:
    signed = sign_header(reply_of(asked), world.signer.sign)
    first = encode(Letter(header=len(signed.text)), [signed.text, signed.signature, b"go"])
    return [first, *letter(reply_of(asked, b"evil"), world.signer, b"evil")]


LIES: dict[str, tuple[Lie, str]] = {
    "for south": (_changed(member=2), "expected the reply of member 1, got 2"),
    "signed by south": (_signed(lambda w: w.south), "the reply isn't signed by"),
    "signed by nobody": (_unsigned, "the reply isn't signed by"),
    "to another order": (_changed(order="0a" * 32), "expected the reply of order"),
    "of another run": (_changed(run="run-2"), "expected the reply of run run-1, got run-2"),
    "of another epoch": (_changed(epoch=2), "expected the reply of epoch 1, got 2"),
    "of another start": (_changed(start="0b" * 16), "expected the reply of start"),
    "with a header of no bytes": (_longer(0), "the reply isn't signed by"),
    "with a header too long": (_longer(1 << 40), "must have its whole header"),
    "that begins in its midst": (_from(2), "bytes from 0 on, got 2"),
    "that begins beyond its end": (_from(1 << 52), "bytes from 0 on"),
    "with a gap": (_then(lambda s: encode(Chunk(seq=s, offset=3), [b"d"])), "from 2 on, got 3"),
    "twice the same piece": (
        _then(lambda s: encode(Chunk(seq=s, offset=0), [b"go"])),
        "from 2 on, got 0",
    ),
    "too long": (_then(lambda s: encode(Chunk(seq=s, offset=2), [b"odd"])), "more bytes than"),
    "two of one number": (_two, "two letters have the number"),
    "of a letter that never began": (
        lambda world, asked: [encode(Chunk(seq=asked.order.seq, offset=0), [b"good"])],
        "hasn't begun",
    ),
    "an acknowledgement": (lambda world, asked: [encode(Ack(seq=1))], "Ack came where none may"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_reply_that_lies_ends_the_connection_and_the_true_one_still_counts(
    lie: str, world: World
) -> None:
    made, why = LIES[lie]
    with world.entered() as line:
        asked = world.asked(line)
        line.say(*made(world, asked))
        said = line.ended()
    assert said.startswith("malformed: ")
    assert why in said
    (noted,) = world.noted()
    assert why in noted
    assert world.coordinator.hub._mail[1][1].partial() == ()
    with world.entered() as line:
        assert world.heard(line) == (asked.order, asked.digest)
        line.say(*letter(reply_of(asked), world.signer))
        (answer,) = asked.answer.result(60)
    assert told(answer) == b"good"
    world.check_round()
    assert world.noted() == []


def test_a_reply_to_another_sites_order_is_refused(world: World) -> None:
    with world.entered() as line:
        asked = world.asked(line)
        hub = world.coordinator.hub
        other = replace(asked.order, seq=asked.order.seq + 1, member=2)
        digest = sign_header(other, lambda _: b"").digest

        def posted() -> None:
            departure = Departure(other.seq, sign_header(other, world.signer.sign), [])
            hub.open[other.seq] = type(hub.open[asked.order.seq])(
                departure, other, hub.loop.create_future()
            )

        hub.loop.call_soon_threadsafe(posted)
        wait_until(lambda: other.seq in hub.open)
        line.say(
            *letter(reply_of(replace(asked, order=other, digest=digest), member=1), world.signer)
        )
        assert "expected the reply of member 2, got 1" in line.ended()
        hub.loop.call_soon_threadsafe(hub.open.pop, other.seq)
        hub.loop.call_soon_threadsafe(hub.fail, asked.order.seq, "over")
        asked.answer.result(60)
    world.noted()
    world.check_round()


def test_a_reply_larger_than_may_come_ends_its_question_and_keeps_nothing(world: World) -> None:
    payload = bytes(MOST + 1)
    with world.entered() as line:
        asked = world.asked(line)
        line.say(*letter(reply_of(asked, payload), world.signer, payload))
        (answer,) = asked.answer.result(60)
        frame = line.hear()
        assert frame is not None
        assert frame.head == Ack(seq=asked.order.seq)
        # The same stream goes on: what it sends is passed over.
        again = world.asked(line)
        line.say(*letter(reply_of(again), world.signer))
        assert told(again.answer.result(60)[0]) == b"good"
    assert (told(answer), answer.reason) == (
        None,
        f"has a reply of {MOST + 1} bytes, at most {MOST} may come",
    )
    assert world.noted() == [answer.reason]
    world.check_round()


def test_a_reply_of_other_bytes_than_it_was_signed_for_ends_its_question(world: World) -> None:
    with world.entered() as line:
        asked = world.asked(line)
        line.say(*letter(reply_of(asked, b"good"), world.signer, b"evil"))
        (answer,) = asked.answer.result(60)
        assert "isn't the one that its header was signed for" in line.ended()
    assert (told(answer), answer.reason) == (None, "gave a reply that isn't the one it has signed")
    world.noted()
    world.check_round()


def test_a_reply_that_comes_again_is_acknowledged_and_counts_once(world: World) -> None:
    """In the same stream, in one that follows, and among thousands that nobody waits for."""
    with world.entered() as line:
        asked = world.asked(line)
        whole = letter(reply_of(asked), world.signer)
        line.say(*whole, *whole)
        assert told(asked.answer.result(60)[0]) == b"good"
        assert [_acknowledged(line) for _ in range(2)] == [asked.order.seq] * 2
    with world.entered() as line:
        line.say(*whole)
        assert _acknowledged(line) == asked.order.seq
        evil = letter(reply_of(asked, b"evil"), world.signer, b"evil")
        line.say(*evil)
        assert _acknowledged(line) == asked.order.seq
        numbers = range(1000, 1300)
        for seq in numbers:
            line.say(letter(reply_of(asked, seq=seq, size=1 << 30), world.signer)[0])
        assert [_acknowledged(line) for _ in numbers] == [*numbers]
        assert world.coordinator.hub._mail[1][1].partial() == ()
        again = world.asked(line)
        line.say(*letter(reply_of(again), world.signer))
        assert told(again.answer.result(60)[0]) == b"good"
    world.check_round()
    assert world.noted() == []


def test_a_reply_has_been_handed_on_when_it_is_acknowledged(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A site lets go of what is acknowledged: it could bring it no second time."""
    say = Connection.say

    async def lost(connection: Connection, head: Head, body: Sequence[Part] = ()) -> None:
        if isinstance(head, Ack):
            connection.close()
        await say(connection, head, body)

    monkeypatch.setattr(Connection, "say", lost)
    with world.entered() as line:
        asked = world.asked(line)
        line.say(*letter(reply_of(asked), world.signer))
        (answer,) = asked.answer.result(60)
    assert told(answer) == b"good"


def _acknowledged(line: Line) -> int:
    frame = line.hear()
    assert frame is not None
    assert isinstance(frame.head, Ack), frame.head
    return frame.head.seq


def test_what_came_of_a_reply_is_let_go_of_with_its_question_also_while_the_site_is_away(
    world: World,
) -> None:
    payload = bytes(2 << 20)
    with world.entered() as line:
        asked = world.asked(line)
        signed = sign_header(reply_of(asked, payload), world.signer.sign)
        head = Letter(header=len(signed.text))
        line.say(encode(head, [signed.text, signed.signature, payload[: 1 << 20]]))
        hub = world.coordinator.hub
        wait_until(lambda: hub._mail[1][1].partial() != ())
    wait_until(lambda: 1 not in hub.callers)
    assert hub._mail[1][1].partial() != ()
    hub.loop.call_soon_threadsafe(hub.fail, asked.order.seq, "was away for too long")
    assert told(asked.answer.result(60)[0]) is None
    world.check_round()


def test_orders_to_a_site_that_reads_nothing_are_let_go_of_when_they_are_given_up(
    world: World,
) -> None:
    with world.entered():
        wait_until(lambda: 1 in world.coordinator.hub.callers)
        caller = world.coordinator.hub.callers[1]
        for _ in range(6):
            (answer,) = world.coordinator.ask(bytes(6 << 20), [1], timeout=0.15)
            assert answer.reason == "gave no reply in time"
        # One is in the midst of a frame; of the others nothing is held.
        wait_until(lambda: len(caller.connection._tasks) <= 1)
    world.check_round()


def test_a_site_that_says_it_goes_is_gone(world: World) -> None:
    with world.entered() as line:
        line.say(encode(Bye(code="stopping", reason="\x1b[2Jnight")))
        line.ended()
        wait_until(lambda: 1 not in world.coordinator.hub.callers)
    world.check_round()
    assert world.noted() == []
