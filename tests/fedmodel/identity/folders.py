"""Folders of a made-up consortium and its parties, and a clock that the test sets."""

from datetime import datetime
from pathlib import Path

from fedmodel.identity.consortium_home import ConsortiumHome
from fedmodel.identity.handed import signed_roster_in
from fedmodel.identity.home import PartyHome
from fedmodel.identity.register import Consortium
from tests.fedmodel.identity.parties import NOW


class Clock:
    """Tells a time that the test sets."""

    def __init__(self) -> None:
        self.now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now


class World:
    """A consortium, a coordinator and two sites, each with a folder."""

    def __init__(self, root: Path) -> None:
        self.clock = Clock()
        self.consortium = ConsortiumHome(root / "consortium", self.clock)
        self.coordinator = PartyHome(root / "coordinator", self.clock)
        self.north, self.south = (PartyHome(root / n, self.clock) for n in ("north", "south"))
        self.consortium.make("lowlands")
        self.coordinator.make("coordinator", "Trial office", "fl.example.org")
        self.north.make("site", "north", "north.example.org")
        self.south.make("site", "south", None)

    @property
    def parties(self) -> list[PartyHome]:
        return [self.coordinator, self.north, self.south]

    def admit(self, *homes: PartyHome) -> Consortium:
        with self.consortium.opened() as found:
            for home in homes or self.parties:
                found = found.admit(home.request(), self.clock.now)
            found = found.issued(self.clock.now)
            self.consortium.save(found)
        return found

    def certificate(self, home: PartyHome) -> str:
        return self.consortium.certificate_path(home.read().owner.tls).read_text()

    def take(self, home: PartyHome) -> None:
        roster = signed_roster_in(self.consortium.roster_path)
        home.take(roster, self.certificate(home), confirmed=True)
