"""The folder of a party's identity: its keys, what it asks the consortium for, what it was given.

::

    key, tls-key, seal-key   secrets (:mod:`fedmodel.identity.keyfile`); seal-key: a coordinator's
    party.json               who it is
    request.json             what it asks for: nothing in it is secret
    trust.json, roster.json  whose rosters it takes, and the newest
    certificate.pem          for its TLS key
    security.jsonl           what was done here, and by whom
    renewal/                 a new TLS key and its request, until its certificate has come

The secrets are made here and never leave. The folder is there whole or not at all, and a renewal
takes the place of what it renews as soon as its certificate is there.
"""

from contextlib import suppress
from datetime import datetime
from pathlib import Path

from fedmodel import _files, config
from fedmodel._hazmat import fingerprint, x25519_public
from fedmodel.errors import (
    ConfigError,
    FedmodelError,
    LedgerError,
    OutdatedError,
    PurposeError,
)
from fedmodel.identity.certificates import (
    Certificate,
    Purpose,
    check_authority,
    check_certificate,
    check_request,
    read_certificate,
)
from fedmodel.identity.handed import request_in, signed_roster_in, text_of, unmade
from fedmodel.identity.home_folder import HomeFolder
from fedmodel.identity.keyfile import Kind, kept_secret
from fedmodel.identity.keys import SigningKey
from fedmodel.identity.party import PartyFile
from fedmodel.identity.request import LARGEST, Owner, PartyRequest
from fedmodel.identity.signed_roster import SignedRoster
from fedmodel.identity.trust import TRUST, accept, read_trust
from fedmodel.identity.validity import as_time, ending
from fedmodel.seeds import Entropy

__all__ = ["PartyHome"]

_RENEWAL = "renewal"
_LOCK = ".home.lock"
_REQUEST, _CERTIFICATE, _ROSTER, _PARTY = (
    "request.json",
    "certificate.pem",
    "roster.json",
    "party.json",
)


class PartyHome(HomeFolder):
    """A party's folder.

    Args:
        folder: where it is, or will be.
        clock: tells the time.
    """

    _mark = _PARTY
    _key_file = "key"
    _current: tuple[object, SignedRoster] | None = None  # as its files were, and what was in them

    def make(
        self,
        role: Purpose,
        name: str,
        tls: str | None,
        passphrase: bytes | None = None,
        entropy: Entropy | None = None,
    ) -> PartyFile:
        """Make the folder: keys, a request, who it is.

        Args:
            role: ``site`` or ``coordinator``.
            name: for people.
            tls: its name in TLS; ``None``: one that follows from its key.
            passphrase: that seals its keys; ``None``: they are in the clear, for its owner only.
            entropy: draws them.

        Raises:
            ConfigError: for a name that isn't one, or where the folder has something else in it.
            LedgerError: when it can't be written.
        """
        entropy = entropy or Entropy()
        try:
            _files.make_folder(self.folder.parent)
            with _files.staged(self.folder) as folder:
                signer = SigningKey(kept_secret(folder / "key", "key", entropy, passphrase))
                seed = kept_secret(folder / "tls-key", "tls-key", entropy, passphrase)
                seal = None
                if role == "coordinator":
                    secret = kept_secret(folder / "seal-key", "seal-key", entropy, passphrase)
                    seal = x25519_public(secret).hex()
                tls = tls or f"{role}-{signer.fingerprint[:16]}"
                owner = Owner(role=role, name=name, tls=tls, seal=seal)
                party = PartyFile(owner=owner, key=signer.public.hex())
                request = PartyRequest.make(owner, signer, seed, self._clock())
                log = self._log_in(folder)
                log.add(
                    "keys-made",
                    role=role,
                    name=name,
                    identity=party.identity,
                    sealed=str(passphrase is not None).lower(),
                )
                log.add("request-signed", request=request.fingerprint)
                _files.write_atomic(folder / _REQUEST, request.to_json())
                _files.write_atomic(folder / _PARTY, config.canonical(party))
        except OSError as error:
            raise unmade(self.folder, error) from error
        return party

    def read(self) -> PartyFile:
        """Return who the party is.

        Raises:
            LedgerError: when there is none, or it can't be read.
        """
        path = self.folder / _PARTY
        try:
            text = _files.read(path, LARGEST)
            return config.parse(lambda m: config.build(PartyFile, m), text)
        except OSError as error:
            raise LedgerError(f"can't read {path}: {error.strerror}") from error
        except ConfigError as error:
            raise LedgerError(f"{path}: {error}; restore it from a copy") from error

    def request(self) -> PartyRequest:
        """Return what the party asks for: the renewal, where one is under way.

        Raises:
            LedgerError: when it can't be read.
            IdentityError: when it was changed.
        """
        return self._requests()[-1]

    @property
    def request_path(self) -> Path:
        """File of :meth:`request`."""
        renewal = self.folder / _RENEWAL / _REQUEST
        return renewal if renewal.exists() else self.folder / _REQUEST

    def renew(
        self, passphrase: bytes | None = None, entropy: Entropy | None = None
    ) -> PartyRequest:
        """Return a request for a certificate of a new TLS key, signed by the party's identity.

        One that is under way is returned again.

        Args:
            passphrase: that the keys are sealed under.
            entropy: draws the new key.

        Raises:
            ConfigError: when there is no certificate yet.
            LedgerError: when a file can't be read or written.
            IdentityError: when the passphrase doesn't open the key.
        """
        self._settle()
        if (self.folder / _RENEWAL / _REQUEST).exists():
            return self.request()
        if not (self.folder / _CERTIFICATE).exists():
            raise ConfigError(
                f"{self.folder} has no certificate to renew yet; take over the first one"
            )
        party, entropy = self.read(), entropy or Entropy()
        signer = SigningKey(self.secret("key", passphrase))
        try:
            with _files.staged(self.folder / _RENEWAL) as folder:
                seed = kept_secret(folder / "tls-key", "tls-key", entropy, passphrase)
                request = PartyRequest.make(party.owner, signer, seed, self._clock(), renews=signer)
                self.log.add("request-signed", request=request.fingerprint, renews="tls")
                _files.write_atomic(folder / _REQUEST, request.to_json())
        except OSError as error:
            raise unmade(self.folder / _RENEWAL, error) from error
        return request

    def secret(self, kind: Kind, passphrase: bytes | None = None) -> bytes:
        """Return one of its secrets. That it is used is a row of the log.

        Raises:
            LedgerError: when it can't be read.
            IdentityError: when the passphrase doesn't open it.
            ConfigError: when others may read it.
        """
        self._settle()
        try:
            secret = kept_secret(self.folder / kind, kind, passphrase=passphrase)
        except FedmodelError as error:
            self.log.add("key-refused", key=kind, why=str(error))
            raise
        self.log.add("key-used", key=kind)
        return secret

    @property
    def roster_path(self) -> Path:
        """File of the roster that it has taken, whether or not it is there."""
        return self.folder / _ROSTER

    def roster(self) -> SignedRoster | None:
        """Return the roster that it has taken, if there is one, also where that has ended.

        Raises:
            ConfigError: when it can't be read.
            IdentityError: when it was changed.
        """
        path = self.roster_path
        return signed_roster_in(path) if path.exists() else None

    def current_roster(self) -> SignedRoster:
        """Return the roster that the party may rely on now.

        Files that haven't changed since aren't read again: it is asked for at every order.

        Raises:
            ConfigError: when it has taken none yet, or that can't be read.
            IdentityError: when it was changed, exchanged for an older one, or has ended, or the
                party's key was taken back: its subclasses say which.
            EquivocationError: when it was exchanged for another one of the same version.
        """
        lock = self.folder / _LOCK
        try:
            return self._relied_on()
        except OutdatedError:
            if not lock.exists():
                raise
            # Another process may be in the midst of taking over the next one.
            with _files.locked(lock, write=False):
                return self._relied_on()

    def _relied_on(self) -> SignedRoster:
        files = (self.roster_path, self.folder / TRUST, self.folder / _PARTY)
        found, before = [_files.stamp_of(path) for path in files], self._current
        if before is not None and before[0] == found:
            before[1].check_time(self._clock())
            return before[1]
        roster, known = self.roster(), read_trust(self.folder / TRUST)
        if roster is None or known is None:
            raise ConfigError(
                f"{self.folder} has no roster yet; take over the consortium's: fedmodel provision "
                "role=… home=… roster=PATH"
            )
        known.check(roster, self._clock())
        self.read().check_listed(roster)
        self._current = found, roster
        return roster

    def certificate(self) -> Certificate | None:
        """Return the certificate of its TLS key, if there is one.

        Raises:
            LedgerError: when it can't be read.
            IdentityError: when it isn't one.
        """
        self._settle()
        path = self.folder / _CERTIFICATE
        return read_certificate(text_of(path)) if path.exists() else None

    def warnings(self) -> list[str]:
        """Return what ends within 30 days, or has ended, for whoever runs the party."""
        now, roster, certificate = self._clock(), self.roster(), self.certificate()
        told = []
        if roster is not None:
            told.append(
                ending(f"version {roster.version} of the roster", as_time(roster.expires), now)
            )
        if certificate is not None:
            told.append(ending("the certificate", certificate.end, now))
        return [each for each in told if each]

    # -- taking over -----------------------------------------------------------------------------

    def take(
        self, roster: SignedRoster | None, certificate: str | None, *, confirmed: bool = False
    ) -> None:
        """Take over what the consortium has handed out, once all of it has been checked.

        Args:
            roster: a new one; ``None``: the one that is there stays.
            certificate: a new one, PEM; ``None`` likewise.
            confirmed: somebody has compared the fingerprint of the consortium's key; needed for the
                first roster.

        Raises:
            ConfigError: for a first roster that nobody has confirmed, or one without this party.
            IdentityError: when something can't be relied on: its subclasses say why.
            EquivocationError: when another roster of the same version was seen.
            LedgerError: when a file can't be read or written.
        """
        known = roster or self.roster()
        if known is None:
            raise ConfigError("a certificate needs a roster first; take it over with roster=PATH")
        now = self._clock()
        try:
            with _files.locked(self.folder / _LOCK, write=True):
                self._settle()
                place = self._checked(known, certificate, now, confirmed=confirmed)
                if roster is not None:
                    self._take_roster(roster, now, confirmed=confirmed)
                if certificate is not None and place is not None:
                    sha256 = read_certificate(certificate).sha256
                    self.log.add("certificate-taken", sha256=sha256)
                    _files.write_atomic(place, certificate.encode())
                    self._settle()
        except OSError as error:
            raise LedgerError(f"can't write {self.folder}: {error.strerror}") from error

    def _checked(
        self, roster: SignedRoster, certificate: str | None, now: datetime, *, confirmed: bool
    ) -> Path | None:
        """Return where a certificate belongs, once all can be relied on; what can't is logged."""
        party = self.read()
        try:
            self._check_roster(party, roster, now, confirmed=confirmed)
            check_authority(roster.authority, now)
            return None if certificate is None else self._place(party, roster, certificate, now)
        except FedmodelError as error:
            self.log.add("refused", version=str(roster.version), why=str(error))
            raise

    def _take_roster(self, roster: SignedRoster, now: datetime, *, confirmed: bool) -> None:
        self.log.add(
            "roster-taken",
            version=str(roster.version),
            roster=roster.sha256,
            consortium=fingerprint(bytes.fromhex(roster.consortium)),
        )
        accept(self.folder / TRUST, roster, now, confirmed=confirmed)
        _files.write_atomic(self.folder / _ROSTER, roster.to_json())

    def _check_roster(
        self, party: PartyFile, roster: SignedRoster, now: datetime, *, confirmed: bool
    ) -> None:
        known = read_trust(self.folder / TRUST)
        if known is None and not confirmed:
            raise ConfigError(
                "this is the first roster here, and nobody has confirmed the consortium's key"
            )
        if known is None:
            roster.check(roster.consortium, now)
        else:
            known.check(roster, now)
        party.check_listed(roster)

    def _place(self, party: PartyFile, roster: SignedRoster, pem: str, now: datetime) -> Path:
        """Return where a certificate belongs, once it can be relied on."""
        found = check_certificate(
            pem,
            roster.authority,
            purpose=party.owner.role,
            subject=party.identity,
            name=party.owner.tls,
            now=now,
        )
        places = [self.folder / _CERTIFICATE, self.folder / _RENEWAL / _CERTIFICATE]
        for request, place in zip(self._requests(), places, strict=False):
            if check_request(request.certificate_request, party.identity) == found.key:
                return place
        raise PurposeError(
            "the certificate is for another TLS key than this party has; take the one that was "
            f"issued for {self.request_path}"
        )

    def _requests(self) -> list[PartyRequest]:
        """Return the request of the TLS key that is there, and that of one that is to renew it."""
        paths = [self.folder / _REQUEST, self.folder / _RENEWAL / _REQUEST]
        return [request_in(path) for path in paths if path.exists()]

    def _settle(self) -> None:
        """Let a renewal whose certificate is there take the place of what it renews.

        Whoever is killed in between goes on here: the certificate moves last.
        """
        renewal = self.folder / _RENEWAL
        if not (renewal / _CERTIFICATE).exists():
            return
        try:
            for name in ("tls-key", _REQUEST, _CERTIFICATE):
                # A process that serves with these files may have moved it in the meantime.
                with suppress(FileNotFoundError):
                    _files.move(renewal / name, self.folder / name)
            _files.remove_folder(renewal)
        except OSError as error:
            raise LedgerError(f"can't write {self.folder}: {error.strerror}") from error
