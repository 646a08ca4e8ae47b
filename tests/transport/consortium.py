"""A consortium on this machine: its folder, the coordinator's and the sites', by the real clock."""

from datetime import datetime
from pathlib import Path

from fedmodel.identity.consortium_home import ConsortiumHome
from fedmodel.identity.handed import signed_roster_in
from fedmodel.identity.home import PartyHome
from fedmodel.identity.validity import utc_now

TLS_NAME = "fl.example.org"


class Consortium:
    """A consortium, a coordinator called ``fl.example.org`` in TLS, and sites.

    Args:
        root: folder of all folders.
        sites: their names.
    """

    def __init__(self, root: Path, sites: tuple[str, ...] = ("north", "south")) -> None:
        self.home = ConsortiumHome(root / "consortium")
        self.coordinator = PartyHome(root / "coordinator")
        self.sites = {name: PartyHome(root / name) for name in sites}
        self.home.make("lowlands")
        self.coordinator.make("coordinator", "Trial office", TLS_NAME)
        for name, site in self.sites.items():
            site.make("site", name, None)
        self.admit(*self.parties)
        for party in self.parties:
            self.hand_out(party)

    @property
    def parties(self) -> list[PartyHome]:
        return [self.coordinator, *self.sites.values()]

    def admit(self, *homes: PartyHome, now: datetime | None = None) -> None:
        """Admit what these parties ask for, and issue a roster."""
        now = now or utc_now()
        with self.home.opened() as found:
            for home in homes:
                found = found.admit(home.request(), now)
            self.home.save(found.issued(now))

    def hand_out(self, home: PartyHome) -> None:
        """Give a party the newest roster and its certificate."""
        pem = self.home.certificate_path(home.read().owner.tls).read_text()
        home.take(signed_roster_in(self.home.roster_path), pem, confirmed=True)
