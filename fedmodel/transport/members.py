"""Members of a run at the coordinator's end: who says a greeting, and whether it still belongs.

A run goes by the roster that it was begun with here. A site may have taken over a newer one since:
it is let in all the same, as the run's roster knows it. Whoever the coordinator's own newest roster
doesn't have any more isn't, neither at a greeting nor in the midst of a stream.
"""

from dataclasses import dataclass
from datetime import datetime

from fedmodel import _hazmat
from fedmodel.errors import (
    OutdatedError,
    PurposeError,
    RefusedError,
    RevokedError,
    UnsignedError,
)
from fedmodel.identity.certificates import Certificate
from fedmodel.identity.signed_roster import SignedMember, SignedRoster
from fedmodel.identity.validity import check_valid
from fedmodel.transport.hello import Hello

__all__ = ["Listed", "Look", "number_of"]


def number_of(
    hello: Hello,
    nonce: str,
    certificate: Certificate,
    roster: SignedRoster,
    now: datetime,
) -> int:
    """Return the number in the run's roster of whoever says a greeting.

    That the member of this number has signed it is checked with its key afterwards.

    Args:
        hello: as it came.
        nonce: that this end has given for this connection.
        certificate: that TLS has checked.
        roster: the run's.
        now: the time.

    Raises:
        UnsignedError: for another connection's greeting, or another certificate's.
        OutdatedError: when the site has an older roster.
        RefusedError: when it has another one that isn't a newer version, or isn't on the run's.
        PurposeError: when certificate and roster don't agree on who it is.
        ExpiredError: when the certificate's time is over.
    """
    if hello.nonce != nonce or hello.certificate != certificate.sha256:
        raise UnsignedError("the greeting is of another connection: somebody repeats or relays it")
    number = _number_in(roster, hello, certificate)
    member = roster.members[number - 1]
    found = certificate.subject, certificate.names
    if found != (_fingerprint(member.key), (member.tls,)):
        raise PurposeError(
            f"the certificate is for {', '.join(certificate.names):.80}, and the site says it is "
            f"'{member.name}', whose name in TLS is {member.tls}: certificate and roster must agree"
        )
    check_valid(f"the certificate of {member.tls}", certificate.start, certificate.end, now)
    return number


def _number_in(roster: SignedRoster, hello: Hello, certificate: Certificate) -> int:
    if (hello.consortium, hello.coordinator) != (roster.consortium, roster.coordinator):
        raise RefusedError(
            "the site has the roster of another consortium, or one with another coordinator; take "
            "over the newest on both sides"
        )
    if hello.version < roster.version:
        raise OutdatedError(
            f"the site has version {hello.version} of the roster, and version {roster.version} is "
            "in force; take over the newest: fedmodel provision role=site home=… roster=PATH"
        )
    if hello.version > roster.version and hello.roster != roster.sha256:
        # Its number there may be another; who it is says its certificate, and its signature.
        for number, member in enumerate(roster.members, start=1):
            if _fingerprint(member.key) == certificate.subject:
                return number
        raise RefusedError(
            f"the site isn't in version {roster.version} of the roster, which the run goes by; it "
            "takes part in a run that is begun with a newer one"
        )
    if (hello.version, hello.roster) != (roster.version, roster.sha256):
        raise RefusedError(
            f"the site has version {hello.version} of the roster, this coordinator version "
            f"{roster.version}, and they differ; take over the newest on both sides"
        )
    if not 0 < hello.member <= len(roster.members):
        raise RefusedError("the site names a number that the roster doesn't have")
    return hello.member


class Listed:
    """Who the coordinator's newest roster has, and who was taken back: made once for many members.

    Args:
        newest: roster that the coordinator has taken over.
    """

    def __init__(self, newest: SignedRoster) -> None:
        self._version = newest.version
        self._keys = frozenset(each.key for each in newest.members)
        self._revoked = {_fingerprint(each.key): each for each in newest.revoked}

    def check_not_revoked(self, subject: str) -> None:
        """Check that a certificate isn't of a key that was taken back.

        Args:
            subject: of the certificate: fingerprint of its party's key.

        Raises:
            RevokedError: when it is.
        """
        if (each := self._revoked.get(subject)) is not None:
            raise RevokedError(
                f"'{each.name}' was taken back by version {each.version} of the roster"
            )

    def check(self, member: SignedMember) -> None:
        """Check that the newest roster has a member of the run's still: the same key.

        Args:
            member: of the run's roster.

        Raises:
            RevokedError: when its key was taken back.
            RefusedError: when it isn't there any more, or by another key.
        """
        self.check_not_revoked(_fingerprint(member.key))
        if member.key not in self._keys:
            raise RefusedError(f"'{member.name}' isn't in version {self._version} of the roster")


@dataclass(frozen=True, slots=True)
class Look:
    """A look at all members: what is the same for each of them is found out once.

    Args:
        now: the time.
        listed: by the newest roster; ``None``: nobody may be here any more.
        why: nobody may.
    """

    now: datetime
    listed: Listed | None
    why: str = ""


def _fingerprint(key: str) -> str:
    return _hazmat.fingerprint(bytes.fromhex(key))
