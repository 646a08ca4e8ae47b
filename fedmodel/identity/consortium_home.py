"""The folder of a consortium: its keys, its register, and what it hands out.

::

    consortium-key, authority-key   secrets (:mod:`fedmodel.identity.keyfile`)
    register.json                   who was admitted and revoked; signed. What counts is here
    roster.json                     the newest roster, to hand out to everybody
    certificates/NAME.pem           for each party, by its name in TLS: to hand out to it
    authority.pem                   who has issued them, for looking at; the roster has it, too
    security.jsonl                  what was signed, issued and revoked, and by whom

A change is a row of the log, then one write of the register; what is handed out follows from it and
is put right by the next command, should this one be killed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedmodel import _files
from fedmodel.errors import ConfigError, FedmodelError, LedgerError
from fedmodel.identity.handed import unmade
from fedmodel.identity.home_folder import HomeFolder
from fedmodel.identity.keyfile import Kind, kept_secret
from fedmodel.identity.keys import SigningKey
from fedmodel.identity.register import LARGEST, Consortium, Register
from fedmodel.seeds import Entropy

__all__ = ["ConsortiumHome"]

_REGISTER = "register.json"


class ConsortiumHome(HomeFolder):
    """A consortium's folder.

    Args:
        folder: where it is, or will be.
        clock: tells the time.
    """

    _mark = _REGISTER
    _key_file = "consortium-key"

    @property
    def roster_path(self) -> Path:
        """File of the newest roster."""
        return self.folder / "roster.json"

    def certificate_path(self, tls: str) -> Path:
        """Return the file of a party's certificate."""
        return self.folder / "certificates" / f"{tls}.pem"

    def make(
        self, name: str, passphrase: bytes | None = None, entropy: Entropy | None = None
    ) -> Consortium:
        """Make the folder: keys, an authority, a register without parties.

        Args:
            name: of the consortium.
            passphrase: that seals its keys; ``None``: they are in the clear, for its owner only.
            entropy: draws them.

        Raises:
            ConfigError: for a name that isn't one, or where the folder has something else in it.
            LedgerError: when it can't be written.
        """
        try:
            _files.make_folder(self.folder.parent)
            with _files.staged(self.folder) as folder:
                made = self._opened(folder, name, passphrase, entropy or Entropy())
                log = self._log_in(folder)
                sealed = str(passphrase is not None).lower()
                log.add(
                    "authority-made", name=name, consortium=made.signer.fingerprint, sealed=sealed
                )
                _files.write_atomic(folder / "authority.pem", made.register.authority.encode())
                _files.write_atomic(folder / _REGISTER, made.to_json(), mode=0o600)
        except OSError as error:
            raise unmade(self.folder, error) from error
        return made

    def _opened(
        self, folder: Path, name: str, passphrase: bytes | None, entropy: Entropy
    ) -> Consortium:
        seeds = [
            kept_secret(folder / "consortium-key", "consortium-key", entropy, passphrase),
            kept_secret(folder / "authority-key", "authority-key", entropy, passphrase),
        ]
        return Consortium.new(name, SigningKey(seeds[0]), seeds[1], self._clock())

    @contextmanager
    def opened(self, passphrase: bytes | None = None) -> Iterator[Consortium]:
        """Open the consortium, and keep everybody else out meanwhile.

        Raises:
            LedgerError: when a file can't be read or written.
            IdentityError: when the passphrase doesn't open its keys, or the register was changed.
        """
        if not self.exists:
            raise ConfigError(
                f"{self.folder} has no consortium; make one: fedmodel provision role=consortium "
                "home=PATH name=NAME"
            )
        try:
            with _files.locked(self.folder / ".lock", write=True):
                signer = SigningKey(self._secret("consortium-key", passphrase))
                seed = self._secret("authority-key", passphrase)
                text = _files.read(self.folder / _REGISTER, LARGEST)
                found = Consortium.read(text, signer, seed)
                self.hand_out(found.register)
                yield found
        except OSError as error:
            raise LedgerError(f"can't use {self.folder}: {error.strerror}") from error

    def _secret(self, kind: Kind, passphrase: bytes | None) -> bytes:
        try:
            secret = kept_secret(self.folder / kind, kind, passphrase=passphrase)
        except FedmodelError as error:
            self.log.add("key-refused", key=kind, why=str(error))
            raise
        self.log.add("key-used", key=kind)
        return secret

    def save(self, consortium: Consortium) -> None:
        """Write the register, then what is handed out; inside :meth:`opened` only.

        Raises:
            LedgerError: when that isn't possible.
        """
        try:
            _files.write_atomic(self.folder / _REGISTER, consortium.to_json(), mode=0o600)
            self.hand_out(consortium.register)
        except OSError as error:
            raise LedgerError(f"can't write {self.folder}: {error.strerror}") from error

    def hand_out(self, register: Register) -> None:
        """Write the roster and the certificates, where they aren't there as they should be."""
        _files.make_folder(self.folder / "certificates")
        wanted = {
            self.certificate_path(party.owner.tls): party.certificate.encode()
            for party in register.parties
        }
        wanted[self.folder / "authority.pem"] = register.authority.encode()
        if register.roster is not None:
            wanted[self.roster_path] = register.roster.encode()
        for path, text in wanted.items():
            if not path.exists() or _files.read(path, LARGEST) != text:
                _files.write_atomic(path, text, mode=0o644)
