"""Parties with keys that are known, for tests of what they ask for and are given."""

from datetime import UTC, datetime
from typing import Any

from fedmodel.identity import SigningKey
from fedmodel.identity.register import Consortium
from fedmodel.identity.request import Owner, PartyRequest
from fedmodel.identity.signed_roster import SignedRoster

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CONSORTIUM = SigningKey(b"Z" * 32)
COORDINATOR = SigningKey(b"C" * 32)
NAMES = ("north", "Ospedale Sant'Anna", "południe")
SITES = {name: SigningKey(name[:1].encode() * 32) for name in NAMES}
OWNERS = {
    name: Owner(role="site", name=name, tls=f"s{i}.example.org")
    for i, name in enumerate(NAMES, start=1)
}
OWNER = Owner(role="coordinator", name="Trial office", tls="fl.example.org", seal="ab" * 32)


def request(name: str = "north", **changes: Any) -> PartyRequest:
    fields: dict[str, Any] = {
        "owner": OWNERS[name],
        "signer": SITES[name],
        "tls_seed": name[:1].encode() * 32,
        "now": NOW,
    }
    return PartyRequest.make(**(fields | changes))


def coordinators(**changes: Any) -> PartyRequest:
    fields: dict[str, Any] = {"owner": OWNER, "signer": COORDINATOR}
    return request(**(fields | changes))


def empty() -> Consortium:
    return Consortium.new("lowlands", CONSORTIUM, b"A" * 32, NOW)


def consortium(*names: str) -> Consortium:
    found = empty().admit(coordinators(), NOW)
    for name in names or NAMES:
        found = found.admit(request(name), NOW)
    return found.issued(NOW)


def roster(found: Consortium) -> SignedRoster:
    issued = found.register.signed_roster()
    assert issued is not None
    return issued
