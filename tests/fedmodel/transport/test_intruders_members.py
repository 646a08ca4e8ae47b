"""Members whose time is over while they are connected, and what the watch over them withstands."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fedmodel.identity.certificates import Certificate
from fedmodel.identity.handed import signed_roster_in
from fedmodel.identity.home import PartyHome
from fedmodel.identity.validity import utc_now
from fedmodel.transport import frames
from fedmodel.transport.connection import Connection
from fedmodel.transport.frames import LARGEST_BODY, encode
from fedmodel.transport.letters import Signed
from fedmodel.transport.payloads import Departure
from fedmodel.transport.stamps import Standing
from tests.fedmodel.transport.consortium import Consortium
from tests.fedmodel.transport.intruder import (
    Line,
    Papers,
    dialling,
    hello_frame,
    hello_of,
    papers_of,
    short_papers,
)
from tests.fedmodel.transport.world import Coordinator, Site, signer_of, told, wait_until

pytestmark = pytest.mark.long

DAY = timedelta(days=1)


class Clock:
    """A clock that is put forward."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return utc_now() + self.ahead


class World:
    """A coordinator that looks at its members often, and the site south at it."""

    def __init__(self, root: Path) -> None:
        self.consortium = Consortium(root)
        self.north, self.south = self.consortium.sites.values()
        self.clock = Clock()
        self.lasts = timedelta(days=300)  # how long the coordinator's own certificate is good
        self.coordinator = Coordinator(
            self.consortium, root / "run", clock=self.clock, own=self._own
        )

    def _own(self) -> Certificate:
        found = self.consortium.coordinator.certificate()
        assert found is not None
        return replace(found, end=utc_now() + self.lasts)

    @property
    def reasons(self) -> list[str]:
        return [why for _, _, why in self.coordinator.refusals]

    @contextmanager
    def entered(self, papers: Papers | None = None, **changes: object) -> Iterator[Line]:
        """Yield a stream of north's that is welcomed; its greeting with some changes."""
        papers = papers or papers_of(self.north)
        with dialling(self.coordinator, papers, self.consortium.authority) as line:
            line.enter(self.north, papers, **changes)
            yield line

    def refused(self, papers: Papers) -> str:
        """Return why north is refused that greets now."""
        with dialling(self.coordinator, papers, self.consortium.authority) as line:
            line.say(
                hello_frame(hello_of(self.north, papers, line.challenge()), signer_of(self.north))
            )
            return line.ended()

    def check_round(self) -> None:
        """Check that south answers, and that north isn't here."""
        (answer,) = self.coordinator.ask(b"round", [2])
        assert (told(answer), answer.reason) == (b"round", "")
        wait_until(lambda: set(self.coordinator.hub.callers) == {2})


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr("fedmodel.transport.hub._SLOW_TICK_S", 0.05)
    monkeypatch.setattr("fedmodel.transport.rosters._FRESH_S", 0.0)
    monkeypatch.setattr("fedmodel.transport.connection._GOODBYE_S", 0.3)
    made = World(tmp_path)
    with made.coordinator, Site(made.south, made.coordinator.address):
        made.coordinator.wait_for(1)
        yield made


def test_a_site_that_is_revoked_is_let_go_in_the_midst_of_its_stream(world: World) -> None:
    with world.entered() as line:
        world.consortium.revoke("north")
        why = "'north' was taken back by version 2 of the roster"
        assert line.ended() == f"refused: {why}"
    assert world.reasons == [why]
    world.check_round()
    assert world.refused(papers_of(world.north)) == f"refused: RevokedError: {why}"
    assert world.reasons[1:] == [why]
    world.check_round()


def test_who_has_a_key_that_another_one_of_its_name_has_followed_is_let_go(
    world: World, tmp_path: Path
) -> None:
    with world.entered() as line:
        world.consortium.replace_site("north", PartyHome(tmp_path / "anew"))
        assert line.ended() == "refused: 'north' was taken back by version 2 of the roster"
    world.check_round()


def test_a_revoked_site_that_reads_nothing_is_cut_off_all_the_same(world: World) -> None:
    """In the midst of an order that it doesn't take, while the end can't even be told."""
    hub = world.coordinator.hub
    with world.entered():
        wait_until(lambda: 1 in hub.callers)
        caller = hub.callers[1]
        hub.loop.call_soon_threadsafe(caller.connection.post, _Endless(), 0)
        world.consortium.revoke("north")
        wait_until(lambda: 1 not in hub.callers)
        assert caller.connection.closed
        world.check_round()


class _Endless(Departure):
    """A letter that has no end."""

    def __init__(self) -> None:
        super().__init__(1, Signed(b"", b""), [])

    def frames(self, offset: int = 0) -> Iterator[bytes]:
        while True:
            yield encode(frames.Chunk(seq=1, offset=0), [bytes(LARGEST_BODY)])


def test_a_certificate_that_expires_ends_the_stream(world: World) -> None:
    papers = short_papers(world.consortium, world.north, utc_now(), 1)
    with world.entered(papers) as line:
        world.clock.ahead = 2 * DAY
        said = line.ended()
    assert said.startswith("refused: the site's certificate was good until")
    assert world.reasons == [said.removeprefix("refused: ")]
    world.check_round()
    # TLS goes by the machine's own clock, and lets it in.
    assert "ExpiredError: the certificate of site-" in world.refused(papers)
    world.check_round()


def test_where_the_coordinators_certificate_ends_so_do_the_streams_it_was_shown_to(
    world: World,
) -> None:
    world.lasts = timedelta(days=1)
    with world.entered() as line:
        world.lasts = timedelta(days=300)  # renewed: whoever comes from now on is shown that one
        world.clock.ahead = 2 * DAY
        said = line.ended()
    assert said.startswith("refused: the coordinator's certificate was good until")
    assert world.reasons == [said.removeprefix("refused: ")]
    world.check_round()
    with world.entered():
        wait_until(lambda: set(world.coordinator.hub.callers) == {1, 2})
    world.check_round()


def test_a_roster_that_ends_ends_all_streams(world: World) -> None:
    home = world.coordinator.hub.config
    with world.entered(short_papers(world.consortium, world.north, utc_now(), 300)) as line:
        world.clock.ahead = timedelta(days=91)
        assert "version 1 of the roster of 'lowlands' was good until" in line.ended()
        wait_until(lambda: not world.coordinator.hub.callers)
    world.clock.ahead = timedelta()
    world.coordinator.wait_for(1)
    world.check_round()
    assert home.roster.version == 1


def test_when_the_runs_roster_ends_a_newer_one_keeps_nobody_in(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = world.coordinator.hub
    later = hub.config.roster.expires.replace("20", "21", 1)
    newest = replace(hub.config.roster, version=2, expires=later)
    monkeypatch.setattr(hub.rosters, "newest", lambda: newest)
    with world.entered(short_papers(world.consortium, world.north, utc_now(), 300)) as line:
        world.clock.ahead = timedelta(days=91)
        assert "version 1 of the roster of 'lowlands' was good until" in line.ended()


def test_a_coordinator_that_is_revoked_is_obeyed_no_more_by_a_site_that_has_heard_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    consortium = Consortium(tmp_path)
    north = consortium.sites["north"]
    with (
        Coordinator(consortium, tmp_path / "run", grace=0.5) as old,
        Site(north, old.address, explain=False) as site,
    ):
        old.wait_for(1)
        assert told(old.ask(b"before", [1])[0]) == b"before"
        consortium.replace_coordinator(PartyHome(tmp_path / "office"))
        north.take(signed_roster_in(consortium.home.roster_path), None)
        (answer,) = old.ask(b"after", [1], timeout=20)
        assert told(answer) is None
        assert len(site.done) == 1
        wait_until(lambda: "expected the order of coordinator" in caplog.text)


def test_where_the_roster_cant_be_read_nobody_is_let_go_and_a_revoked_site_stays_out(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.consortium.revoke("north")
    wait_until(lambda: world.coordinator.hub.rosters.newest().version == 2)
    path = world.coordinator.hub.config.newest.__self__.folder / "roster.json"  # type: ignore[attr-defined]
    with caplog.at_level(logging.WARNING):
        path.write_text("{")
        wait_until(lambda: "the newest roster can't be read" in caplog.text)
        world.check_round()
        said = world.refused(papers_of(world.north))
    assert said == "refused: RevokedError: 'north' was taken back by version 2 of the roster"
    assert str(path.parent) not in said


def test_the_watches_go_on_whatever_happens_to_them(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hub = world.coordinator.hub
    failing = [True]
    due, newest = hub.outbox.due, hub.rosters.newest

    def first(whole: Any) -> Any:
        def found(*told: Any) -> Any:
            if failing[0]:
                raise RuntimeError("a fault of ours")
            return whole(*told)

        return found

    monkeypatch.setattr(hub.outbox, "due", first(due))
    monkeypatch.setattr(hub.rosters, "newest", first(newest))
    hub.loop.call_soon_threadsafe(hub._asked.set)  # as where somebody is asked
    wait_until(lambda: "can't be given up now" in caplog.text and "looked at now" in caplog.text)
    failing[0] = False
    with world.entered() as line:
        world.consortium.revoke("north")
        assert "taken back by version 2" in line.ended()
    world.check_round()


def test_of_many_connections_of_one_site_at_once_one_stays_and_the_watch_sees_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None may be left over beside the one that is known: nobody would let it go."""
    end = Connection.end

    async def slow(self: Connection, code: str, reason: str = "") -> None:
        await asyncio.sleep(0.05)  # meanwhile others come
        await end(self, code, reason)

    monkeypatch.setattr(Connection, "end", slow)
    papers = papers_of(world.north)
    with dialling(world.coordinator, papers, world.consortium.authority) as line:
        lines = [line, *(line.another() for _ in range(3))]
        hellos = []
        for number, each in enumerate(lines):
            hello = hello_of(world.north, papers, each.challenge(), incarnation=f"{number:032x}")
            hellos.append(hello_frame(hello, signer_of(world.north)))
        for each, said in zip(lines, hellos, strict=True):
            each.say(said)
        wait_until(lambda: 1 in world.coordinator.hub.callers)
        wait_until(lambda: world.coordinator.server.greeting == 0)
        world.consortium.revoke("north")
        ends = sorted(each.ended().partition(":")[0] for each in lines)
        assert ends == ["refused", "replaced", "replaced", "replaced"]
    world.check_round()
    assert world.coordinator.server.greeting == 0


@pytest.mark.parametrize(
    ("standing", "process", "why"),
    [
        (Standing(epoch=2, start="0c" * 16), "0b" * 16, "obeys a coordinator of epoch 2"),
        (Standing(epoch=1, start="0c" * 16), "0b" * 16, "has obeyed another coordinator"),
        (Standing(), "0a" * 16, "another process of this site has connected since"),
    ],
    ids=["of a later coordinator", "of another coordinator", "a process that was replaced"],
)
def test_who_mustnt_be_spoken_to_takes_no_place_and_nothing_of_whoever_has_it(
    standing: Standing, process: str, why: str, world: World
) -> None:
    """It would end the site's good process for good, with what that was in the midst of."""
    papers, hub = papers_of(world.north), world.coordinator.hub
    args = world.coordinator, papers, world.consortium.authority
    with world.entered(incarnation="0a" * 16), dialling(*args) as good, dialling(*args) as late:
        good.enter(world.north, papers)
        wait_until(lambda: hub.outbox.incarnation(1) == "0b" * 16)
        caller, mail = hub.callers[1], hub._mail[1]
        hello = hello_of(
            world.north, papers, late.challenge(), standing=standing, incarnation=process
        )
        late.say(hello_frame(hello, signer_of(world.north)))
        said = late.ended()
        assert said.startswith("refused: ReplayError: member 1")
        assert why in said
        assert world.reasons == [said.removeprefix("refused: ReplayError: ")]
        assert (hub.callers[1], hub._mail[1]) == (caller, mail)
        assert not good.over()
    world.check_round()
