"""The register: who is admitted, renewed and revoked, and what the next roster says of it."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from fedmodel.errors import (
    ConfigError,
    ExpiredError,
    IdentityError,
    OutdatedError,
    PossessionError,
    PurposeError,
    RevokedError,
    SignerError,
)
from fedmodel.identity import SigningKey
from fedmodel.identity.certificates import check_certificate
from fedmodel.identity.register import Consortium
from fedmodel.identity.request import Owner
from tests.fedmodel.identity.parties import (
    CONSORTIUM,
    COORDINATOR,
    NOW,
    OWNER,
    OWNERS,
    SITES,
    consortium,
    coordinators,
    empty,
    request,
    roster,
)

NEW = SigningKey(b"N" * 32)
LATER = NOW + timedelta(days=61)


def test_there_is_no_roster_before_a_coordinator_and_a_site() -> None:
    for found in (empty(), empty().admit(coordinators(), NOW), empty().admit(request(), NOW)):
        assert found.issued(NOW).register.roster is None
    assert roster(consortium("north")).version == 1


def test_whoever_is_admitted_has_a_certificate_for_what_he_is() -> None:
    register = consortium().register
    for party in register.parties:
        found = check_certificate(
            party.certificate,
            register.authority,
            purpose=party.owner.role,
            subject=SigningKey(b"C" * 32).fingerprint
            if party.owner == OWNER
            else SITES[party.owner.name].fingerprint,
            name=party.owner.tls,
            now=NOW,
        )
        assert found.end == NOW + timedelta(days=90)


def test_the_same_request_again_changes_nothing() -> None:
    asked = request()
    before = empty().admit(coordinators(), NOW).admit(asked, NOW).issued(NOW)
    assert before.unconfirmed(asked) is None
    assert before.admit(asked, LATER).issued(NOW) == before
    # ECDSA signs otherwise each time, so this is another request, though it asks for the same.
    with pytest.raises(PossessionError, match="renew=tls"):
        before.admit(request(), LATER)


def test_a_roster_is_new_only_where_it_says_something_new_or_ends_soon() -> None:
    first = consortium("north")
    assert first.issued(NOW + timedelta(days=59)) == first
    second = first.issued(NOW + timedelta(days=60))
    assert roster(second).version == 2
    assert roster(first.issued(NOW, anew=True)).version == 2
    third = second.admit(request("południe"), NOW).issued(NOW)
    assert roster(third).version == 3


# -- renewal -------------------------------------------------------------------------------------


def test_a_new_tls_key_needs_the_old_signature_alone() -> None:
    before = consortium()
    again = request(tls_seed=b"t" * 32, now=LATER, renews=SITES["north"])
    assert before.unconfirmed(again) is None
    after = before.admit(again, LATER).issued(LATER)
    party = after.register.of_name("north")
    assert party is not None
    assert party.key == SITES["north"].public.hex()
    assert after.register.revoked == ()
    assert [m.key for m in roster(after).members] == [m.key for m in roster(before).members]


def test_a_new_identity_is_signed_by_the_old_one_which_is_then_revoked() -> None:
    before = consortium()
    again = request(signer=NEW, now=LATER, renews=SITES["north"])
    assert before.unconfirmed(again) == "it brings a new identity key"
    after = roster(before.admit(again, LATER).issued(LATER))
    assert after.members[0].key == NEW.public.hex()
    assert [(r.name, r.key, r.version) for r in after.revoked] == [
        ("north", SITES["north"].public.hex(), 2)
    ]


def test_another_name_in_tls_is_confirmed() -> None:
    moved = replace(OWNERS["north"], tls="moved.example.org")
    again = request(owner=moved, now=LATER, renews=SITES["north"])
    assert consortium().unconfirmed(again) == "it changes its name in TLS or its seal"


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"signer": NEW}, PossessionError, "isn't signed by the key that it has there"),
        ({"renews": None}, PossessionError, "isn't signed by the key that it has there"),
        ({"signer": NEW, "renews": NEW}, SignerError, "renews another key than 'north' has"),
        ({"renews": SITES["południe"]}, SignerError, "renews another key than 'north' has"),
        ({"now": NOW - timedelta(days=1)}, OutdatedError, "ask for a new one"),
        (
            {"owner": replace(OWNERS["north"], role="coordinator", seal="ab" * 32)},
            PurposeError,
            "'north' is a site, and the request is a coordinator's",
        ),
        (
            {"owner": replace(OWNERS["north"], tls="s3.example.org")},
            ConfigError,
            "'południe' has the TLS name s3",
        ),
    ],
)
def test_who_may_not_renew(change: dict[str, Any], error: type[Exception], says: str) -> None:
    fields: dict[str, Any] = {"now": LATER, "tls_seed": b"t" * 32, "renews": SITES["north"]}
    if "renews" not in change and "signer" in change:
        fields["renews"] = None
    asked = request(**(fields | change))
    for ask in (consortium().unconfirmed, lambda r: consortium().admit(r, LATER)):
        with pytest.raises(error, match=says):
            ask(asked)


def test_an_older_renewal_that_comes_again_is_refused() -> None:
    one = request(tls_seed=b"1" * 32, now=LATER, renews=SITES["north"])
    two = request(tls_seed=b"2" * 32, now=LATER + timedelta(days=1), renews=SITES["north"])
    found = consortium().admit(one, LATER).admit(two, LATER)
    with pytest.raises(OutdatedError):
        found.admit(one, LATER)


# -- who is new ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "error", "says"),
    [
        (coordinators(signer=NEW, owner=replace(OWNER, name="x", tls="x.y")), ConfigError, "first"),
        (
            request(signer=NEW, owner=Owner(role="site", name="x", tls="fl.example.org")),
            ConfigError,
            "'Trial office' has the TLS name fl",
        ),
        (
            request(owner=Owner(role="site", name="x", tls="x.example.org")),
            ConfigError,
            "'north' has the same key",
        ),
        (
            request(signer=CONSORTIUM, owner=Owner(role="site", name="x", tls="x.example.org")),
            ConfigError,
            "the consortium's own key",
        ),
        (
            request(
                signer=NEW, owner=Owner(role="site", name="x", tls="x.y"), renews=SITES["north"]
            ),
            SignerError,
            "nobody on the register is called 'x'",
        ),
    ],
)
def test_who_isnt_admitted(asked: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        consortium().admit(asked, NOW)


def test_whoever_asks_must_have_the_keys() -> None:
    with pytest.raises(PossessionError):
        empty().admit(replace(request(), key=NEW.public.hex()), NOW)
    # Neither its name nor its time is part of the certificate request; its signature covers both.
    for changed in (
        replace(request(), owner=replace(OWNERS["north"], name="South")),
        replace(request(), time="2026-03-02T12:00:00Z"),
    ):
        with pytest.raises(PossessionError):
            empty().admit(changed, NOW)


# -- revocation ----------------------------------------------------------------------------------


def test_a_revoked_site_is_on_no_later_roster() -> None:
    after = consortium().revoke("north").issued(NOW)
    assert [m.name for m in roster(after).members] == ["Ospedale Sant'Anna", "południe"]
    assert [(r.name, r.version) for r in roster(after).revoked] == [("north", 2)]
    with pytest.raises(RevokedError, match="the key of 'north' in this request was taken back"):
        after.admit(request(), NOW)
    with pytest.raises(RevokedError):
        after.admit(request(now=LATER), LATER)
    # A stolen key doesn't bring itself back.
    with pytest.raises(RevokedError):
        after.admit(request(signer=NEW, renews=SITES["north"], now=LATER), LATER)
    back = after.admit(request(signer=NEW, now=LATER), LATER).issued(LATER)
    assert [m.name for m in roster(back).members][-1] == "north"
    assert len(roster(back).revoked) == 1


def test_a_coordinator_is_exchanged_by_revoking_it() -> None:
    gone = consortium().revoke("Trial office")
    assert not gone.register.complete
    assert gone.issued(NOW) == gone
    after = gone.admit(coordinators(signer=NEW), NOW).issued(NOW)
    assert roster(after).coordinator == NEW.public.hex()
    assert [r.key for r in roster(after).revoked] == [COORDINATOR.public.hex()]
    assert roster(after).version == 2


def test_nobody_of_a_name_is_told() -> None:
    with pytest.raises(ConfigError, match=r"nobody .* called 'nort' \(did you mean 'north'\?\)"):
        consortium().revoke("nort")


# -- as a text -----------------------------------------------------------------------------------


def test_its_text_is_signed() -> None:
    found = consortium()
    text = found.to_json()
    assert Consortium.read(text, CONSORTIUM, b"A" * 32) == found
    for changed in (text.replace(b"s1.example", b"s9.example"), text + b"\n", b"{}", b"["):
        with pytest.raises(IdentityError, match="isn't this consortium's, or was changed"):
            Consortium.read(changed, CONSORTIUM, b"A" * 32)
    with pytest.raises(IdentityError):
        Consortium.read(text, NEW, b"A" * 32)
    assert b"A" * 32 not in text
    assert "seed" not in repr(found)


def test_another_authoritys_key_is_noticed_before_it_issues_anything() -> None:
    with pytest.raises(IdentityError, match="isn't the one of its certificate in the register"):
        Consortium.read(consortium().to_json(), CONSORTIUM, b"B" * 32)


def test_an_authority_that_has_ended_issues_nothing() -> None:
    late = NOW + timedelta(days=3660)
    with pytest.raises(ExpiredError, match="the authority's certificate was good until"):
        empty().admit(request(now=late), late)


def test_a_certificate_doesnt_outlive_its_authority() -> None:
    late = NOW + timedelta(days=3640)
    found = empty().admit(request(now=late), late).register
    party = found.parties[0]
    with pytest.raises(ExpiredError):
        check_certificate(
            party.certificate,
            found.authority,
            purpose="site",
            subject=SITES["north"].fingerprint,
            name="s1.example.org",
            now=late + timedelta(days=20),
        )


def test_who_is_revoked_already_is_said_to_be() -> None:
    with pytest.raises(ConfigError, match="'north' is revoked already, since version"):
        consortium().revoke("north").revoke("north")
