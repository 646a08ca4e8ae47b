"""The statement of a bundle: in-toto's, of which parts it has, of what run, and who packed it.

No time is in it, nor the version that packs: the same parts packed by the same key are the same
bytes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fedmodel import _hazmat, config
from fedmodel.audit.bundles.dsse import Envelope, sign
from fedmodel.audit.bundles.in_toto import digests_of, statement_text
from fedmodel.errors import ConfigError, EvidenceError
from fedmodel.identity.names import require_name
from fedmodel.ledger.tree_head import Signer

__all__ = ["Claim", "Packer", "Signed"]

_PREDICATE = "urn:fedmodel:bundle:1"  # a name, not an address: nothing is to be fetched
_SCHEMA = re.compile(r"fedmodel\.bundle/([0-9]{1,9})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Packer:
    """Who packed a bundle, by his own word.

    Args:
        key: public Ed25519 key that signs it, hex.
        role: in the run; ``other``: none, an auditor, say.
        name: for people.
    """

    key: str
    role: Literal["coordinator", "site", "other"]
    name: str

    def __post_init__(self) -> None:
        config.require_hex("the packer's key", self.key, 64)
        require_name("the packer's name", self.name)

    @property
    def fingerprint(self) -> str:
        """Of the key."""
        return _hazmat.fingerprint(bytes.fromhex(self.key))


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a bundle says of itself: the predicate of its statement.

    Args:
        schema: of the bundle.
        run: its name in ledgers.
        job_sha256: its job's.
        packer: who has packed and signed it.
        handed_in: sites whose parts stand under a statement of their own.
        lacking: sites that took part, and whose ledger isn't in it.
        left_out: files whose digest is told, and that aren't in it.
    """

    schema: Literal["fedmodel.bundle/1"] = "fedmodel.bundle/1"
    run: str
    job_sha256: str
    packer: Packer
    handed_in: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        config.require_hex("job_sha256", self.job_sha256, 64)


@dataclass(frozen=True, slots=True)
class Signed:
    """A statement and the envelope it came in.

    Args:
        claim: what it says.
        parts: name → SHA-256 (hex) of each file that it is about.
        envelope: whose signature nobody has looked at yet.
    """

    claim: Claim
    parts: dict[str, str]
    envelope: Envelope

    @classmethod
    def make(cls, claim: Claim, parts: dict[str, str], signer: Signer) -> "Signed":
        """Return the statement, signed by its packer."""
        return cls(claim, dict(sorted(parts.items())), sign(_text(claim, parts), signer))

    @classmethod
    def read(cls, text: bytes, where: str) -> "Signed":
        """Return the statement in a text.

        Args:
            text: of the envelope.
            where: it stands, for messages.

        Raises:
            EvidenceError: when it isn't one, or a newer version has written it.
        """
        try:
            envelope = Envelope.from_json(text)
            found: Any = config.parsed(envelope.payload)
            _check_known(found, where)
            claim = config.build(Claim, found["predicate"], "predicate")
            parts = digests_of(found)
        except ConfigError as error:
            raise EvidenceError(f"{where}: {error!s:.400}") from error
        except (KeyError, TypeError, AttributeError) as error:
            raise EvidenceError(f"{where}: expected an in-toto statement of a bundle") from error
        if _text(claim, parts) != envelope.payload:
            raise EvidenceError(f"{where}: its statement isn't in its one form (RFC 8785)")
        return cls(claim, parts, envelope)

    def check(self) -> None:
        """Check the signature.

        Raises:
            ProtocolError: when it isn't that of the key that the statement names.
        """
        self.envelope.verify(self.claim.packer.key)


def _check_known(found: Any, where: str) -> None:
    predicate = found.get("predicate")
    schema = predicate.get("schema") if isinstance(predicate, dict) else None
    named = _SCHEMA.fullmatch(schema) if isinstance(schema, str) else None
    if named is not None and int(named[1]) > 1:
        raise EvidenceError(
            f"{where} has schema {schema}: a newer fedmodel has written it; verify it with that "
            "version, or a newer one"
        )


def _text(claim: Claim, parts: Mapping[str, str]) -> bytes:
    return statement_text(_PREDICATE, claim, parts)
