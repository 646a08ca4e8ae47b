"""DSSE envelopes (v1.0.2): a payload, its type, and who has signed both."""

import base64
import binascii
from dataclasses import dataclass
from typing import Any

from fedmodel import _hazmat, config
from fedmodel.errors import ConfigError
from fedmodel.ledger.tree_head import Signer

__all__ = ["IN_TOTO", "Envelope", "sign"]

IN_TOTO = "application/vnd.in-toto+json"
_SIGNATURE = 64


@dataclass(frozen=True, slots=True)
class Envelope:
    """An envelope whose signature nobody has looked at yet.

    Args:
        payload: what was signed.
        keyid: fingerprint of the key.
        signature: over the payload and its type.
    """

    payload: bytes
    keyid: str
    signature: bytes

    def to_json(self) -> bytes:
        """Return it as a file's content: canonical JSON, and the end of its line."""
        said = {"keyid": self.keyid, "sig": base64.b64encode(self.signature).decode()}
        payload = base64.b64encode(self.payload).decode()
        whole = {"payload": payload, "payloadType": IN_TOTO, "signatures": [said]}
        return config.canonical(whole) + b"\n"

    def verify(self, key: str) -> None:
        """Check that a key has signed it.

        Args:
            key: public Ed25519 key, hex.

        Raises:
            ProtocolError: when it hasn't.
        """
        _hazmat.ed25519_verify(bytes.fromhex(key), _encoded(self.payload), self.signature)

    @classmethod
    def from_json(cls, text: bytes) -> "Envelope":
        """Return the envelope in a text.

        Raises:
            ConfigError: when it isn't one of a single signature, in its one form.
        """
        found: Any = config.parsed(text)
        try:
            (said,) = found["signatures"]
            payload = base64.b64decode(found["payload"], validate=True)
            made = cls(payload, str(said["keyid"]), base64.b64decode(said["sig"], validate=True))
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise ConfigError("expected a DSSE envelope with one signature") from error
        if len(made.signature) != _SIGNATURE or made.to_json() != text:
            raise ConfigError(
                f"expected a DSSE envelope of {IN_TOTO} in canonical JSON, with one Ed25519 "
                "signature"
            )
        return made


def sign(payload: bytes, signer: Signer) -> Envelope:
    """Return a payload in an envelope, signed."""
    keyid = _hazmat.fingerprint(signer.public)
    return Envelope(payload, keyid, signer.sign(_encoded(payload)))


def _encoded(payload: bytes) -> bytes:
    """Return what is signed: PAE of the DSSE protocol."""
    kind = IN_TOTO.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
