"""A newer roster that parties take over while a run is served: who is let in again, and who isn't.

A connection that is cut and dialled anew is worth as much as one that never was.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fedmodel.identity.home import PartyHome
from fedmodel.identity.signed_roster import SignedRoster
from fedmodel.identity.validity import as_text, utc_now
from tests.fedmodel.transport.consortium import Consortium
from tests.fedmodel.transport.intruder import dialling, hello_frame, hello_of, papers_of
from tests.fedmodel.transport.proxies import Forwarder
from tests.fedmodel.transport.world import Coordinator, Site, signer_of, told, wait_until

pytestmark = pytest.mark.long

SITES = ("north", "south", "west")


class World:
    """A coordinator of three sites that goes by the roster of its beginning; south is there."""

    def __init__(self, root: Path) -> None:
        self.consortium = Consortium(root, SITES)
        self.consortium.renew(*self.consortium.parties)
        self.coordinator = Coordinator(self.consortium, root / "run")
        self.north, self.south, self.west = self.consortium.sites.values()
        self.line = Forwarder(self.coordinator.server.port)

    @property
    def office(self) -> PartyHome:
        return self.consortium.coordinator

    @property
    def roster(self) -> SignedRoster:
        """The run's."""
        return self.coordinator.hub.config.roster

    def enter(self, stack: ExitStack) -> None:
        stack.enter_context(self.coordinator)
        stack.enter_context(self.line)
        address = f"127.0.0.1:{self.line.port}"
        self.site = stack.enter_context(Site(self.south, address, explain=False))
        self.coordinator.wait_for(1)

    def cut(self) -> None:
        """Cut south's line, and wait until it is there by another connection."""
        before = self.coordinator.hub.callers.get(2)
        self.line.cut()
        wait_until(lambda: self.coordinator.hub.callers.get(2) not in (None, before))

    def check_round(self) -> None:
        """Check that south does an order once, as member 2 of the run's roster."""
        done = len(self.site.done)
        (answer,) = self.coordinator.ask(b"round", [2])
        assert (told(answer), answer.reason) == (b"round", "")
        assert len(self.site.done) == done + 1

    def refused(self, home: PartyHome, signer: Any = None, **changes: Any) -> str:
        """Return why a site is refused that greets now; empty: it isn't.

        Args:
            home: of the site.
            signer: who signs in its place.
            changes: of what it says.
        """
        papers, authority = papers_of(home), self.consortium.authority
        with dialling(self.coordinator, papers, authority) as line:
            hello = hello_of(home, papers, line.challenge(), **changes)
            line.say(hello_frame(hello, signer_of(signer or home)))
            wait_until(lambda: self.coordinator.server.greeting == 0)
            came = {number for number in self.coordinator.hub.callers if number != 2}
            if came:
                assert came == {self.roster.number_of(home.read().owner.name)}
                return ""
            return line.ended()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr("fedmodel.transport.hub._SLOW_TICK_S", 0.05)
    monkeypatch.setattr("fedmodel.transport.rosters._FRESH_S", 0.0)
    monkeypatch.setattr("fedmodel.transport.connection._GOODBYE_S", 0.3)
    monkeypatch.setattr("fedmodel.transport.backoff.Backoff.lost", lambda *_: 0.02)
    with ExitStack() as stack:
        made = World(tmp_path)
        made.enter(stack)
        yield made


@pytest.mark.parametrize("who", ["site", "coordinator", "both", "both, twice"])
def test_a_newer_roster_changes_nothing_for_who_is_cut_off_and_comes_again(
    who: str, world: World
) -> None:
    takers = {"site": [world.south], "coordinator": [world.office]}
    for _ in range(2 if who == "both, twice" else 1):
        world.consortium.renew(*takers.get(who, [world.office, world.south]))
        world.check_round()
        world.cut()
        world.check_round()
    assert world.coordinator.refusals == []


def test_a_site_keeps_its_number_in_the_run_whatever_it_is_in_its_newer_roster(
    world: World,
) -> None:
    newest = world.consortium.renew(world.south, without=["north"])
    assert newest.number_of("south") == 1
    world.cut()
    world.check_round()
    # A number that isn't true is one of its own roster, which this end needn't know.
    newest = world.consortium.renew(world.west)
    assert world.refused(world.west, member=1) == ""


def _shifted(days: int) -> str:
    return as_text(utc_now() + timedelta(days=days))


def test_who_is_let_in_by_another_roster_than_the_runs_is_one_of_the_run(world: World) -> None:
    run, north = world.roster, world.north
    same = {"roster": run.sha256, "version": run.version}
    newer = {"roster": "0c" * 32, "version": run.version + 1}
    assert world.refused(north, **same) == ""
    wait_until(lambda: set(world.coordinator.hub.callers) == {2})
    assert world.refused(north, **newer) == ""
    wait_until(lambda: set(world.coordinator.hub.callers) == {2})
    older = world.refused(north, version=run.version - 1, roster="0c" * 32)
    assert "OutdatedError: the site has version 1 of the roster, and version 2 is" in older
    assert "and they differ" in world.refused(north, **{**newer, "version": run.version})
    assert "and they differ" in world.refused(north, **{**same, "version": run.version + 1})
    for strange in ("consortium", "coordinator"):
        why = world.refused(north, **newer, **{strange: "0d" * 32})
        assert "the roster of another consortium, or one with another coordinator" in why
    assert "isn't signed by the key" in world.refused(north, world.west, **newer)
    world.check_round()


def test_a_site_that_the_runs_roster_does_not_have_waits_for_the_next_run(world: World) -> None:
    late = PartyHome(world.north.folder.parent / "late")
    late.make("site", "late", None)
    world.consortium.admit(late)
    world.consortium.hand_out(late)
    for taken_over in (False, True):
        if taken_over:
            world.consortium.renew(world.office)
        why = world.refused(late)
        assert "RefusedError: the site isn't in version 2 of the roster, which the run" in why
        # By any number: its certificate says who it is.
        assert world.refused(late, member=2) == why
    world.check_round()


def test_who_is_dropped_but_not_revoked_is_let_go_and_let_in_by_one_rule(world: World) -> None:
    with dialling(world.coordinator, papers_of(world.north), world.consortium.authority) as line:
        line.enter(world.north, papers_of(world.north))
        newest = world.consortium.renew(world.office, without=["north"])
        why = f"'north' isn't in version {newest.version} of the roster"
        assert line.ended() == f"refused: {why}"
    assert world.refused(world.north) == f"refused: RefusedError: {why}"
    assert world.refused(world.north, version=9, roster="0c" * 32).endswith(why)
    world.check_round()


def test_where_the_newest_roster_is_over_nobody_is_let_in(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = replace(world.roster, version=3, issued=_shifted(-9), expires=_shifted(-1))
    monkeypatch.setattr(world.coordinator.hub.rosters, "newest", lambda: over)
    assert "ExpiredError: version 3 of the roster" in world.refused(world.north)
    wait_until(lambda: not world.coordinator.hub.callers)


def test_a_site_that_its_own_newest_roster_drops_does_nothing_more(world: World) -> None:
    """What its folder can't rely on ends the connection before anything is done."""
    roster = world.consortium.renew(without=["south"])
    (world.south.folder / "roster.json").write_bytes(roster.to_json())
    (answer,) = world.coordinator.ask(b"round", [2], timeout=2)
    assert told(answer) is None
    assert world.site.done == []
