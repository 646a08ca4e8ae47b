"""Real folders, certificates and rosters of a toy federation, on its virtual time.

Who connects shows what his folder has then, as ``transport.tls`` reads it; both ends look at it as
the real ones do, by the code of ``hello`` and ``caller``. Only the bytes of TLS are left out.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fedmodel.identity import SigningKey
from fedmodel.identity.certificates import check_certificate
from fedmodel.identity.consortium_home import ConsortiumHome
from fedmodel.identity.handed import signed_roster_in
from fedmodel.identity.home import PartyHome
from fedmodel.transport import rosters, tls
from fedmodel.transport.caller import Caller, Stream
from fedmodel.transport.hello import Hello
from fedmodel.transport.hub import Hub, HubConfig
from fedmodel.transport.stamps import Standing
from tests.fedmodel.transport.toy import RUN
from tests.fedmodel.transport.virtual import Clock

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
NONCE, START, PROCESS = "0" * 64, "0" * 32, "1" * 32


class Papers:
    """What the parties of a consortium have, the coordinator's first.

    Args:
        root: folder of all folders.
        clock: of the world; its beginning is hours after the certificates'.
        members: so many sites.
        issued: seconds before that when the certificates were issued, which are good for a day.
        patch: puts the clock where the code looks at the real one.
    """

    def __init__(
        self, root: Path, clock: Clock, members: int, issued: float, patch: pytest.MonkeyPatch
    ) -> None:
        self._clock, self._past = clock, issued
        patch.setattr(tls, "utc_now", self.now)
        # The newest roster is read at each look: a real second is hours here.
        patch.setattr(rosters, "_FRESH_S", 0.0)
        self.consortium = ConsortiumHome(root / "consortium", self.now)
        self.consortium.make("toy")
        names = ["coordinator", *(f"site-{number}" for number in range(1, members + 1))]
        self.homes = [PartyHome(root / name, self.now) for name in names]
        for home, name in zip(self.homes, names, strict=True):
            home.make("coordinator" if name == names[0] else "site", name, f"{name}.example.org")
            self._admit(home)
        for home in self.homes:
            self._hand_out(home)
        self._past = 0.0
        self._shown = [
            tls.CurrentMaterial(home, None, "site" if number else "coordinator")
            for number, home in enumerate(self.homes)
        ]
        self.hub = self._hub(root)

    def now(self) -> datetime:
        return BEGIN + timedelta(seconds=int(self._clock.now - self._past))

    def _hub(self, folder: Path) -> Hub:
        office = self.homes[0]
        roster = office.current_roster()
        return Hub(
            HubConfig(
                run=RUN,
                epoch=1,
                start=START,
                roster=roster,
                signer=SigningKey(office.secret("key")),
                newest=office.current_roster,
                folder=folder,
                most=1,
                own=lambda: self._shown[0].read().certificate,
                clock=self.now,
            )
        )

    def close(self) -> None:
        """Let go of what the hub has, which never ran."""
        self.hub.loop.close()

    # -- what people do --------------------------------------------------------------------------

    def renew(self, number: int) -> None:
        """Renew a party's certificate, which is good for a day: nothing is started anew."""
        self.homes[number].renew()
        self._admit(self.homes[number])
        self._hand_out(self.homes[number])

    def revoke(self, number: int) -> None:
        """Take a site's key back, and let the coordinator know."""
        with self.consortium.opened() as found:
            self.consortium.save(found.revoke(f"site-{number}").issued(self.now()))
        self.homes[0].take(signed_roster_in(self.consortium.roster_path), None)

    def _admit(self, home: PartyHome) -> None:
        with self.consortium.opened() as found:
            admitted = found.admit(home.request(), self.now(), days=1)
            self.consortium.save(admitted.issued(self.now()))

    def _hand_out(self, home: PartyHome) -> None:
        pem = self.consortium.certificate_path(home.read().owner.tls).read_text()
        home.take(signed_roster_in(self.consortium.roster_path), pem, confirmed=True)

    # -- what ends do ----------------------------------------------------------------------------

    def connect(self, number: int, cut: Callable[[], object]) -> Caller:
        """Return the coordinator's end of a site's connection, if each is good to the other.

        Args:
            number: of the site.
            cut: ends the connection.

        Raises:
            IdentityError: if not.
        """
        self._shake_hands(number)
        home = self.homes[number]
        certificate = self._shown[number].read().certificate
        roster, own = self.hub.config.roster, home.current_roster()
        hello = Hello(
            nonce=NONCE,
            own=NONCE,
            certificate=certificate.sha256,
            roster=own.sha256,
            version=own.version,
            consortium=own.consortium,
            coordinator=own.coordinator,
            member=number,
            sources=NONCE,
            incarnation=PROCESS,
            standing=Standing(),
        )
        stream = Stream(_nothing, _unsaid, cut, certificate, "127.0.0.1:1")
        caller = Caller(self.hub, stream, lambda: None)
        caller.member = roster.members[caller.recognised(hello, NONCE) - 1]
        return caller

    def _shake_hands(self, number: int) -> None:
        """Let each end look at what the other shows, as TLS does."""
        for shows, looks in ((0, number), (number, 0)):
            shown, party = self._shown[shows].read(), self.homes[shows].read()
            check_certificate(
                shown.certificate.pem,
                self._shown[looks].read().authority.decode(),
                purpose="site" if shows else "coordinator",
                subject=party.identity,
                name=party.owner.tls,
                now=self.now(),
            )


async def _nothing() -> bytes:
    return b""


async def _unsaid(data: bytes) -> None:
    return None
