"""A consortium on this machine: its folder, the coordinator's and the sites', by the real clock."""

from collections.abc import Collection
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from fedmodel.identity.certificates import Purpose, issue, make_authority, make_request, tls_key_pem
from fedmodel.identity.consortium_home import ConsortiumHome
from fedmodel.identity.handed import signed_roster_in
from fedmodel.identity.home import PartyHome
from fedmodel.identity.keyfile import kept_secret
from fedmodel.identity.signed_roster import SignedRoster
from fedmodel.identity.validity import utc_now

TLS_NAME = "fl.example.org"
YEAR = timedelta(days=365)


class Consortium:
    """A consortium of a year, a coordinator called ``fl.example.org`` in TLS, and sites.

    Args:
        root: folder of all folders.
        sites: their names.
    """

    def __init__(self, root: Path, sites: tuple[str, ...] = ("north", "south")) -> None:
        ConsortiumHome(root / "consortium", lambda: utc_now() - YEAR).make("lowlands")
        self.home = ConsortiumHome(root / "consortium")
        self.coordinator = PartyHome(root / "coordinator")
        self.sites = {name: PartyHome(root / name) for name in sites}
        self.coordinator.make("coordinator", "Trial office", TLS_NAME)
        for name, site in self.sites.items():
            site.make("site", name, None)
        self.admit(*self.parties)
        for party in self.parties:
            self.hand_out(party)

    @property
    def parties(self) -> list[PartyHome]:
        return [self.coordinator, *self.sites.values()]

    @property
    def authority(self) -> str:
        return signed_roster_in(self.home.roster_path).authority

    def admit(self, *homes: PartyHome) -> None:
        """Admit what these parties ask for, and issue a roster."""
        with self.home.opened() as found:
            for home in homes:
                found = found.admit(home.request(), utc_now())
            self.home.save(found.issued(utc_now()))

    def renew(self, *homes: PartyHome, without: Collection[str] = ()) -> SignedRoster:
        """Issue a newer roster, and let some take it over.

        Args:
            homes: folders of those.
            without: sites that aren't on it any more; their keys aren't taken back.
        """
        with self.home.opened() as found:
            self.home.save(found.without(without).issued(utc_now(), anew=True))
        newest = signed_roster_in(self.home.roster_path)
        for home in homes:
            home.take(newest, None)
        return newest

    def revoke(self, name: str) -> None:
        """Take a party's key back, and let the coordinator know, and nobody else."""
        with self.home.opened() as found:
            self.home.save(found.revoke(name).issued(utc_now()))
        self.coordinator.take(signed_roster_in(self.home.roster_path), None)

    def replace_site(self, name: str, home: PartyHome) -> None:
        """Take a site's key back, admit another one of that name, and let the coordinator know."""
        home.make("site", name, None)
        with self.home.opened() as found:
            self.home.save(found.revoke(name))
        self.admit(home)
        self.coordinator.take(signed_roster_in(self.home.roster_path), None, confirmed=True)

    def replace_coordinator(self, home: PartyHome) -> None:
        """Take the coordinator's key back, admit another one, and let nobody know."""
        home.make("coordinator", "Another office", "fl2.example.org")
        with self.home.opened() as found:
            self.home.save(found.revoke("Trial office"))
        self.admit(home)

    def hand_out(self, home: PartyHome) -> None:
        """Give a party the newest roster and its certificate."""
        pem = self.home.certificate_path(home.read().owner.tls).read_text()
        home.take(signed_roster_in(self.home.roster_path), pem, confirmed=True)

    def pair(
        self, purpose: Purpose = "site", start: datetime | None = None, name: str = "who.example"
    ) -> tuple[bytes, bytes]:
        """Return a key and a certificate of ten days by the consortium's authority, both PEM.

        Args:
            purpose: that it is for.
            start: of its time; ``None``: now.
            name: in TLS.
        """
        seed = kept_secret(self.home.folder / "authority-key", "authority-key")
        return certified(self.authority, seed, purpose, start or utc_now(), name)


def certified(
    authority: str, seed: bytes, purpose: Purpose, start: datetime, name: str
) -> tuple[bytes, bytes]:
    """Return a key and a certificate of ten days by an authority, both PEM."""
    own, subject = b"t" * 32, "0" * 64
    request = make_request(own, subject, name)
    pem = issue(
        authority, seed, request, subject=subject, name=name, purpose=purpose, now=start, days=10
    )
    return tls_key_pem(own), pem.encode()


def foreign_pair(
    purpose: Purpose = "site", name: str = TLS_NAME, issuer: str = "Hospital IT Inspection CA"
) -> tuple[bytes, bytes, bytes]:
    """Return a key and a certificate by an authority of somebody else's, and that, all PEM."""
    authority = make_authority(b"f" * 32, issuer, utc_now())
    return *certified(authority, b"f" * 32, purpose, utc_now(), name), authority.encode()


def rsa_pair(consortium: Consortium) -> tuple[bytes, bytes]:
    """Return an RSA key and a certificate of the coordinator's for it, both PEM.

    The consortium's authority has issued it, which fedmodel's own never does.
    """
    seed = kept_secret(consortium.home.folder / "authority-key", "authority-key")
    signer = serialization.load_pem_private_key(tls_key_pem(seed), None)
    issuer = x509.load_pem_x509_certificate(consortium.authority.encode())
    key = rsa.generate_private_key(65537, 2048)
    builder = x509.CertificateBuilder(
        issuer_name=issuer.subject,
        subject_name=x509.Name([]),
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=utc_now() - timedelta(days=1),
        not_valid_after=utc_now() + timedelta(days=1),
    ).add_extension(x509.SubjectAlternativeName([x509.DNSName(TLS_NAME)]), critical=True)
    form, pem = serialization.PrivateFormat.PKCS8, serialization.Encoding.PEM
    made = builder.sign(signer, hashes.SHA256())  # type: ignore[arg-type]
    plain = serialization.NoEncryption()
    return key.private_bytes(pem, form, plain), made.public_bytes(pem)
