"""Certificates of others, as whoever looks into TLS shows them: read to name them, never relied on.

They may be for any kind of key; :mod:`fedmodel.identity.certificates` takes P-256 alone.
"""

import warnings
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from fedmodel.errors import IdentityError

__all__ = ["Foreign", "read_foreign"]

_LARGEST = 1 << 16  # bytes
_LONGEST = 200  # characters of a name
_BAD = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion)


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """What any certificate says.

    Args:
        subject: whom it is for, as RFC 4514 writes names, shortened.
        issuer: who has issued it, likewise.
        start: of its validity.
        end: likewise.
    """

    subject: str
    issuer: str
    start: datetime
    end: datetime


def read_foreign(der: bytes) -> Foreign:
    """Return what somebody else's certificate says.

    Args:
        der: its DER form, from outside.

    Raises:
        IdentityError: when it isn't one.
    """
    if len(der) > _LARGEST:
        raise IdentityError(f"a certificate has at most {_LARGEST} bytes, got {len(der)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what RFC 5280 disallows
        try:
            found = x509.load_der_x509_certificate(der)
            return Foreign(
                subject=found.subject.rfc4514_string()[:_LONGEST],
                issuer=found.issuer.rfc4514_string()[:_LONGEST],
                start=found.not_valid_before_utc,
                end=found.not_valid_after_utc,
            )
        except _BAD as error:
            raise IdentityError(f"expected a certificate, got something else ({error})") from error
