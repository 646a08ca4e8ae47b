"""Intruders at a coordinator's port: who they say they are doesn't hold, and honest sites go on."""

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from fedmodel.identity import SigningKey
from fedmodel.identity.home import PartyHome
from fedmodel.identity.validity import utc_now
from fedmodel.transport.frames import Challenge
from fedmodel.transport.hello import Hello
from fedmodel.transport.stamps import Standing
from tests.fedmodel.transport.consortium import TLS_NAME, Consortium, foreign_pair
from tests.fedmodel.transport.intruder import Papers, dialling, hello_frame, hello_of, papers_of
from tests.fedmodel.transport.world import Coordinator, Site, signer_of, told, wait_until

pytestmark = pytest.mark.long

DAY = timedelta(days=1)
SITES = ("north", "south", "east")


class World:
    """A coordinator, the sites south and east at it, and north, whose papers an intruder may have.

    Args:
        root: of all folders.
    """

    def __init__(self, root: Path) -> None:
        self.consortium = Consortium(root, SITES)
        self.coordinator = Coordinator(self.consortium, root / "run")
        self.north, self.south, self.east = self.consortium.sites.values()
        self.papers = {name: papers_of(home) for name, home in self.consortium.sites.items()}

    def dialling(self, papers: Papers, *, plain: bool = False):  # type: ignore[no-untyped-def]
        return dialling(self.coordinator, papers, self.consortium.authority, plain=plain)

    def check_round(self, payload: bytes = b"round") -> None:
        """Check that the honest sites answer, and that nothing of an intruder is left."""
        answers = self.coordinator.ask(payload, [2, 3])
        assert [(told(each), each.reason) for each in answers] == [(payload, "")] * 2
        wait_until(lambda: self.coordinator.server.greeting == 0)
        assert set(self.coordinator.hub.callers) == {2, 3}
        assert set(self.coordinator.hub.present()) == {2, 3}

    def refused(self) -> str:
        """Return the one refusal that was noted since the last call."""
        wait_until(lambda: self.coordinator.refusals != [])
        ((event, who, why),) = self.coordinator.refusals
        self.coordinator.refusals.clear()
        assert event == "link-refused"
        assert "127.0.0.1" in who
        return f"{who}: {why}"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("world"))
    with ExitStack() as stack:
        stack.enter_context(made.coordinator)
        for home in (made.south, made.east):
            stack.enter_context(Site(home, made.coordinator.address))
        made.coordinator.wait_for(2)
        yield made


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedmodel.transport.notes._MOST", 1 << 30)


def strangers(world: World) -> dict[str, Papers]:
    now, make = utc_now(), world.consortium.pair
    return {
        "no certificate": Papers(),
        "another authority's": Papers(*foreign_pair("site")[:2]),
        "expired": Papers(*make(start=now - 20 * DAY)),
        "not yet valid": Papers(*make(start=now + DAY)),
        "a coordinator's": Papers(*make("coordinator", name=TLS_NAME)),
    }


def test_who_has_no_good_certificate_gets_nowhere(world: World) -> None:
    for what, papers in strangers(world).items():
        with world.dialling(papers) as line:
            assert line.ended().startswith("UNAVAILABLE"), what
        world.check_round()
    assert world.coordinator.refusals == []  # TLS has refused them: nobody was heard


def test_plaintext_and_tls_1_2_get_nowhere(world: World, tmp_path: Path) -> None:
    with world.dialling(Papers(), plain=True) as line:
        assert line.ended().startswith("UNAVAILABLE")
    place = ("127.0.0.1", world.coordinator.server.port)
    for said in (
        b"GET / HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
        b"\0" * 99,
    ):
        with socket.create_connection(place, 60) as link, suppress(ConnectionError):
            link.sendall(said)
            while link.recv(1 << 16):
                pass
    papers = world.papers["north"]
    (tmp_path / "papers").write_bytes((papers.key or b"") + (papers.certificate or b""))
    context = ssl.create_default_context(cadata=world.consortium.authority)
    context.load_cert_chain(tmp_path / "papers")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(place, 60) as link,
        pytest.raises((ConnectionError, ssl.SSLError)),
    ):
        context.wrap_socket(link, server_hostname=TLS_NAME)
    world.check_round()


def test_a_certificate_of_nobody_on_the_roster_gets_no_further_than_its_greeting(
    world: World,
) -> None:
    papers = Papers(*world.consortium.pair())
    with world.dialling(papers) as line:
        hello = hello_of(world.north, papers, line.challenge())
        line.say(hello_frame(hello, signer_of(world.north)))
        assert "certificate and roster must agree" in line.ended()
    assert "who.example" in world.refused()
    world.check_round()


Lie = Callable[[World, Challenge], tuple[Hello, SigningKey]]


def _said(home: Callable[[World], PartyHome] = lambda world: world.north, **changes: object) -> Lie:
    """Return a lie: what north says with its own certificate, but for some changes and a signer."""

    def made(world: World, challenge: Challenge) -> tuple[Hello, SigningKey]:
        papers = world.papers["north"]
        return hello_of(world.north, papers, challenge, **changes), signer_of(home(world))

    return made


_OBEYED = Standing(epoch=9, start="0c" * 16)
LIES: dict[str, tuple[Lie, str]] = {
    "south's number": (_said(member=2), "PurposeError: must agree"),
    "south's number and key": (_said(lambda w: w.south, member=2), "PurposeError: must agree"),
    "south's key": (_said(lambda w: w.south), "UnsignedError: isn't signed by the key"),
    "no number": (_said(member=0), "RefusedError: a number that the roster doesn't have"),
    "nobody's number": (_said(member=4), "RefusedError: a number that the roster doesn't have"),
    "below zero": (_said(member=-3), "RefusedError: a number that the roster doesn't have"),
    "another nonce": (_said(nonce="0d" * 32), "UnsignedError: repeats or relays it"),
    "another certificate": (_said(certificate="0e" * 32), "UnsignedError: repeats or relays it"),
    "an older roster": (_said(version=0), "OutdatedError: take over the newest"),
    "another roster": (_said(roster="0f" * 32), "RefusedError: they differ"),
    "its own roster, as newer": (_said(version=9), "RefusedError: they differ"),
    "another consortium's": (
        _said(roster="0f" * 32, version=9, consortium="0d" * 32),
        "RefusedError: the roster of another consortium",
    ),
    "another coordinator's": (
        _said(roster="0f" * 32, version=9, coordinator="0d" * 32),
        "RefusedError: one with another coordinator",
    ),
    "south's key, by a newer roster": (
        _said(lambda w: w.south, roster="0f" * 32, version=9),
        "UnsignedError: isn't signed by the key",
    ),
    "a later coordinator's": (_said(standing=_OBEYED), "ReplayError: epoch 9"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_right_certificate_with_a_wrong_greeting_is_refused_and_told_why(
    lie: str, world: World
) -> None:
    made, why = LIES[lie]
    with world.dialling(world.papers["north"]) as line:
        line.say(hello_frame(*made(world, line.challenge())))
        said = line.ended()
    assert said.startswith("refused: ")
    kind, _, words = why.partition(": ")
    assert kind in said
    assert words in said
    assert words in world.refused()
    world.check_round()


def test_a_greeting_is_good_for_one_connection_only(world: World) -> None:
    """Recorded and said again; and relayed, by another site, while its connection still waits."""
    papers = world.papers["north"]
    with world.dialling(papers) as first:
        recorded = hello_frame(
            hello_of(world.north, papers, first.challenge()), signer_of(world.north)
        )
        with world.dialling(papers) as second:
            second.challenge()
            second.say(recorded)
            assert "repeats or relays it" in second.ended()
        assert "repeats or relays it" in world.refused()
        first.cancel()
    world.refused()
    with world.dialling(world.papers["east"]) as relay:
        relay.say(
            hello_frame(hello_of(world.north, papers, relay.challenge()), signer_of(world.north))
        )
        assert "repeats or relays it" in relay.ended()
    assert "repeats or relays it" in world.refused()
    world.check_round()


def test_a_greeting_that_was_changed_since_it_was_signed_is_refused(world: World) -> None:
    papers = world.papers["north"]
    with world.dialling(papers) as line:
        whole = hello_frame(hello_of(world.north, papers, line.challenge()), signer_of(world.north))
        line.say(whole.replace(b'"sources":"0', b'"sources":"1'))
        assert "isn't signed by the key" in line.ended()
    assert "isn't signed by the key" in world.refused()
    world.check_round()


@pytest.mark.parametrize("method", ["/fedmodel.Link/Other", "/grpc.health.v1.Health/Check"])
def test_who_asks_for_what_isnt_served_is_noted(method: str, world: World) -> None:
    with world.dialling(world.papers["north"]) as line:
        other = line.another(method)
        assert other.ended() == "UNIMPLEMENTED: nothing of that name is served here"
        assert world.refused().endswith(f"at 127.0.0.1: asked for {method}, which isn't served")
        line.cancel()
    world.check_round()
    world.coordinator.refusals.clear()  # of the first stream, which went without a greeting
