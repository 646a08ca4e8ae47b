"""A site that lies to the coordinator: each lie has a name; the others' sum stands if it can."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fedmodel import _hazmat
from fedmodel.errors import (
    EquivocationError,
    FedmodelError,
    ProtocolError,
    QuorumError,
    ReplayError,
)
from fedmodel.secagg import shamir
from fedmodel.secagg.fields import label
from fedmodel.secagg.messages import (
    Advert,
    Consent,
    Reveal,
    Sealed,
    Share,
    Shares,
    Survivors,
    Upload,
    decode,
    encode,
)
from fedmodel.secagg.peers import Peers

if TYPE_CHECKING:
    from tests.fedmodel.secagg.conftest import World


def signed_shares(world: "World", message: Shares) -> bytes:
    return encode(replace(message, signature=world.signers[message.member](message.signed()).hex()))


def signed_advert(world: "World", advert: Advert, signer: int) -> bytes:
    return encode(replace(advert, signature=world.signers[signer](advert.signed()).hex()))


# -- keys ------------------------------------------------------------------------------------------


def test_keys_that_are_not_the_sites(worlds: "type[World]") -> None:
    world = worlds(5)
    true = decode(Advert, world.adverts[5])
    fresh = world.make_coordinator()
    stranger = replace(true, member=6)
    stale = replace(true, session="8" * 64)
    cases: list[tuple[bytes, type[FedmodelError], str]] = [
        (signed_advert(world, true, 4), ProtocolError, "signature doesn't verify"),
        (signed_advert(world, stranger, 5), ProtocolError, "site 6, which isn't in the roster"),
        (signed_advert(world, stale, 5), ReplayError, "is of another session or job"),
        (signed_advert(world, replace(true, job="8" * 64), 5), ReplayError, "another session or j"),
        (encode(replace(true, key="7" * 64)), ProtocolError, "signature doesn't verify"),
    ]
    for data, error, said in cases:
        with pytest.raises(error, match=said):
            fresh.take_advert(data)
    assert fresh.take_advert(world.adverts[5]) == 5
    assert fresh.take_advert(world.adverts[5]) == 5  # again, after a broken connection
    other = signed_advert(world, replace(true, key=decode(Advert, world.adverts[4]).key), 5)
    with pytest.raises(EquivocationError, match="site 5 has given another key before"):
        fresh.take_advert(other)
    with pytest.raises(ProtocolError, match=r"keys of the cohort: sites \[1, 2, 3, 4\] are miss"):
        fresh.begin(round=1, attempt=1, model="2" * 64, cohort=world.numbers)
    with pytest.raises(ProtocolError, match=r"keys of the cohort: sites \[77\] are missing"):
        world.begin(cohort=(1, 2, 3, 77))
    with pytest.raises(QuorumError, match="2 sites take part, a secure sum needs 3"):
        world.begin(cohort=(1, 2, 2, 1))


@pytest.mark.parametrize("key", ["00" * 32, "01" + "00" * 31])
def test_a_key_of_low_order(worlds: "type[World]", key: str) -> None:
    # Taken on, it would stop every other site in every attempt.
    world = worlds(5)
    low = signed_advert(world, replace(decode(Advert, world.adverts[5]), key=key), 5)
    with pytest.raises(ProtocolError, match="X25519 key isn't usable"):
        world.make_coordinator().take_advert(low)
    manifest = world.begin().manifest
    with pytest.raises(ProtocolError, match=r"site 5: .*key isn't usable"):
        world.sites[1].open(world.open_message(manifest, {5: low}))
    world.sites[1].open(world.open_message(manifest))


# -- shares ----------------------------------------------------------------------------------------


def test_shares_that_are_refused(worlds: "type[World]") -> None:
    world = worlds(5)
    attempt, x = world.begin(), world.vectors()
    good = {n: decode(Shares, s.open(attempt.open_for(n))) for n, s in world.sites.items()}
    five, box = good[5], good[5].boxes[0]
    huge = replace(box, box="00" * 200)
    other = "00" * (len(five.recovery) // 2)
    cases: list[tuple[int, bytes, type[FedmodelError], str]] = [
        (4, encode(five), ProtocolError, "a message of site 5, expected one of site 4"),
        (9, encode(replace(five, member=9)), ProtocolError, "a message of site 9"),
        (5, encode(replace(five, recovery=other)), ProtocolError, "signature doesn't verify"),
        (5, encode(replace(five, manifest="0" * 64)), ReplayError, "of another attempt"),
        *(
            (5, signed_shares(world, replace(five, **change)), ProtocolError, said)
            for change, said in (
                ({"boxes": five.boxes[1:]}, r"shares for: sites \[1\] are missing or too many"),
                ({"boxes": (*five.boxes, Sealed(member=5, box="00"))}, r"for: sites \[5\] are"),
                ({"boxes": (*five.boxes, Sealed(member=9, box="00"))}, r"for: sites \[9\] are"),
                ({"boxes": (huge, *five.boxes[1:])}, "site 5 has sealed isn't of the right size"),
                ({"recovery": "00" * 400}, "site 5 has sealed isn't of the right size"),
                ({"recovery": ""}, "site 5 has sealed isn't of the right size"),
            )
        ),
    ]
    for sender, data, error, said in cases:
        with pytest.raises(error, match=said):
            attempt.take_shares(sender, data)
    for n, shares in good.items():
        if n != 5:
            attempt.take_shares(n, encode(shares))
    with pytest.raises(ReplayError, match="site 4 has shared its secrets already"):
        attempt.take_shares(4, encode(good[4]))
    with pytest.raises(
        ReplayError, match="the attempt is at 'shares', the message is for 'reveals"
    ):
        attempt.take_reveal(4, b"")
    assert attempt.close_shares() == (1, 2, 3, 4)
    with pytest.raises(ReplayError, match="the attempt is at 'uploads'"):
        attempt.take_shares(5, encode(five))
    world.upload(attempt, x)
    world.consent(attempt)
    world.reveal(attempt)
    assert (attempt.total() == world.ring_sum(x, (1, 2, 3, 4))).all()


def test_an_envelope_that_does_not_open_names_its_owner(world: "World") -> None:
    # Site 5 sends 1 and 2 rubbish. They say so, and the round can be begun again without it.
    x, attempt = world.vectors(), world.begin()
    for n, site in world.sites.items():
        shares = decode(Shares, site.open(attempt.open_for(n)))
        if n == 5:
            rubbish = [replace(b, box="00" * (len(b.box) // 2)) for b in shares.boxes[:2]]
            shares = replace(shares, boxes=(*rubbish, *shares.boxes[2:]))
        attempt.take_shares(n, signed_shares(world, shares))
    attempt.close_shares()
    for n in (1, 2):
        with pytest.raises(ProtocolError, match=r"the shares from site 5: .*doesn't open"):
            world.sites[n].deliver(attempt.deliver_for(n))
    _, total = world.play(x, attempt=2, cohort=(1, 2, 3, 4))
    assert (total == world.ring_sum(x, (1, 2, 3, 4))).all()


@pytest.mark.parametrize("survives", [True, False])
def test_shares_that_make_another_secret(
    world: "World", monkeypatch: pytest.MonkeyPatch, survives: bool
) -> None:
    # Well sealed, of the right size, and wrong: it shows when they are put together.
    seal = Peers.seal

    def lying(self: Peers, attempt: bytes, holder: int, shares: bytes) -> bytes:
        if self._member == 5:
            shares = holder.to_bytes(shamir.SHARE) * 2
        return seal(self, attempt, holder, shares)

    monkeypatch.setattr(Peers, "seal", lying)
    x, attempt = world.vectors(), world.begin()
    world.share(attempt)
    world.upload(attempt, x, but=() if survives else (5,))
    world.consent(attempt)
    world.reveal(attempt)
    with pytest.raises(ProtocolError, match="shares of site 5 don't make the secret that it commi"):
        attempt.total()
    assert attempt._sum is not None
    masked = attempt._sum.total()[: world.agreement.count]
    assert np.count_nonzero(masked != world.ring_sum(x, attempt.survivors)) > 30
    _, total = world.play(x, round=2, cohort=(1, 2, 3, 4))
    assert (total == world.ring_sum(x, (1, 2, 3, 4))).all()


def test_mask_seeds_that_were_not_kept(world: "World") -> None:
    # Site 5 keeps rubbish with the coordinator, and drops out.
    attempt, x = world.begin(), world.vectors()
    for n, site in world.sites.items():
        shares = decode(Shares, site.open(attempt.open_for(n)))
        if n == 5:
            shares = replace(shares, recovery="00" * (len(shares.recovery) // 2))
        attempt.take_shares(n, signed_shares(world, shares))
    attempt.close_shares()
    world.upload(attempt, x, but=(5,))
    world.consent(attempt)
    world.reveal(attempt)
    with pytest.raises(ProtocolError, match="site 5 dropped out, and the mask"):
        attempt.total()
    with pytest.raises(ProtocolError, match="site 5 dropped out, and the mask"):
        attempt.total()
    assert attempt._sum is not None
    assert (
        np.count_nonzero(
            attempt._sum.total()[: world.agreement.count] != world.ring_sum(x, (1, 2, 3, 4))
        )
        > 30
    )


# -- uploads ---------------------------------------------------------------------------------------


def test_uploads_that_are_refused(world: "World") -> None:
    attempt, x = world.begin(), world.vectors()
    unsigned = Upload(manifest=attempt.digest.hex(), member=1, vector="0" * 64, signature="0" * 128)
    early = (encode(unsigned), np.zeros(141, np.uint8))
    with pytest.raises(ReplayError, match="vector of site 1 comes too late"):
        attempt.take_upload(1, *early)
    world.share(attempt, but=(5,))
    sent = {}
    for n in (1, 2, 3, 4):
        world.sites[n].deliver(attempt.deliver_for(n))
        sent[n] = world.sites[n].upload(world.writer(x[n]))
    header, vector = sent[1]
    other = encode(replace(unsigned, manifest="0" * 64))
    cases: list[tuple[int, bytes, Any, type[FedmodelError], str]] = [
        (1, header, vector[:-1], ProtocolError, "must be 141 bytes, got uint8 of shape"),
        (1, header, np.append(vector, vector[:1]), ProtocolError, "must be 141 bytes"),
        (1, header, vector.astype(np.uint16), ProtocolError, "must be 141 bytes, got uint16"),
        (1, header, vector.reshape(3, 47), ProtocolError, "must be 141 bytes"),
        (1, header, np.zeros(0, np.uint8), ProtocolError, "must be 141 bytes"),
        (1, sent[2][0], vector, ProtocolError, "a message of site 2, expected one of site 1"),
        (1, encode(unsigned), vector, ProtocolError, "the signature doesn't verify"),
        (5, encode(replace(unsigned, member=5)), vector, ProtocolError, "a message of site 5"),
        (1, other, vector, ReplayError, "of another attempt"),
        (1, world.adverts[1], vector, ProtocolError, "expected a message 'fedmodel.secagg/2 upl"),
        (1, b"", vector, ProtocolError, "expected a message"),
    ]
    for sender, data, packed, error, said in cases:
        with pytest.raises(error, match=said):
            attempt.take_upload(sender, data, packed)
    for n, (data, packed) in sent.items():
        attempt.take_upload(n, data, packed)
        with pytest.raises(ReplayError, match=f"site {n} has sent its vector already"):
            attempt.take_upload(n, data, packed)
    attempt.close_uploads()
    world.consent(attempt)
    world.reveal(attempt)
    assert (attempt.total() == world.ring_sum(x, (1, 2, 3, 4))).all()


# -- consents --------------------------------------------------------------------------------------


def test_consents_that_are_refused(world: "World") -> None:
    x, attempt = world.vectors(), world.begin()
    world.share(attempt)
    world.upload(attempt, x, but=(5,))
    told = decode(Survivors, attempt.survivors_message())

    def by(member: int, signer: int, about: Survivors = told) -> bytes:
        return encode(Consent(member=member, signature=world.signers[signer](about.signed()).hex()))

    whole = replace(told, survivors=world.numbers)
    cases = [
        (1, by(1, 1, whole), "signature doesn't verify"),
        (1, by(1, 1, replace(told, takers=(1, 2, 3, 4))), "signature doesn't verify"),
        (1, by(1, 1, replace(told, manifest="0" * 64)), "signature doesn't verify"),
        (1, by(1, 2), "signature doesn't verify"),
        (1, by(2, 2), "a message of site 2, expected one of site 1"),
        (5, by(5, 5), "a message of site 5"),
        (9, by(9, 1), "a message of site 9"),
    ]
    for sender, data, said in cases:
        with pytest.raises(ProtocolError, match=said):
            attempt.take_consent(sender, data)
    assert not attempt._consents
    with pytest.raises(QuorumError, match="0 of 4 survivors agreed on the survivors, 3 must"):
        attempt.close_consents()
    world.consent(attempt)
    world.reveal(attempt)
    assert (attempt.total() == world.ring_sum(x, (1, 2, 3, 4))).all()


# -- reveals ---------------------------------------------------------------------------------------


def bent(reveal: Reveal) -> bytes:
    """Return a reveal all of whose shares are off by one."""

    def off(shares: tuple[Share, ...]) -> tuple[Share, ...]:
        moved = [
            ((int(s.share, 16) + 1) % shamir.PRIME).to_bytes(shamir.SHARE).hex() for s in shares
        ]
        return tuple(replace(s, share=m) for s, m in zip(shares, moved, strict=True))

    return encode(
        replace(
            reveal,
            self_seeds=off(reveal.self_seeds),
            recovery_keys=off(reveal.recovery_keys),
        )
    )


def test_reveals_that_are_refused(world: "World") -> None:
    x, attempt = world.vectors(), world.begin()
    world.share(attempt)
    world.upload(attempt, x, but=(5,))
    world.consent(attempt)
    good = decode(Reveal, world.sites[1].reveal(attempt.request_for(1)))
    five = good.recovery_keys[0]
    cases: list[tuple[int, Reveal, type[FedmodelError], str]] = [
        (2, good, ProtocolError, "a message of site 1, expected one of site 2"),
        (5, replace(good, member=5), ProtocolError, "a message of site 5"),
        (1, replace(good, manifest="0" * 64), ReplayError, "of another attempt"),
        (1, replace(good, self_seeds=good.self_seeds[1:]), ProtocolError, r"seeds of: sites \[1\]"),
        (1, replace(good, self_seeds=(*good.self_seeds, five)), ProtocolError, r"of: sites \[5\]"),
        (1, replace(good, recovery_keys=()), ProtocolError, r"recovery shares of: sites \[5\]"),
        (
            1,
            replace(good, self_seeds=good.recovery_keys, recovery_keys=good.self_seeds),
            ProtocolError,
            r"seeds of: sites \[1, 2, 3, 4, 5\]",
        ),
        (
            1,
            replace(good, recovery_keys=(five, replace(five, owner=9))),
            ProtocolError,
            r"recovery shares of: sites \[9\]",
        ),
    ]
    for sender, message, error, said in cases:
        with pytest.raises(error, match=said):
            attempt.take_reveal(sender, encode(message))
    attempt.take_reveal(1, encode(good))
    with pytest.raises(ReplayError, match="site 1 has revealed its shares already"):
        attempt.take_reveal(1, encode(good))
    with pytest.raises(QuorumError, match="1 of 4 survivors revealed their shares, 3 must"):
        attempt.total()
    world.reveal(attempt, but=(1,))
    assert (attempt.total() == world.ring_sum(x, (1, 2, 3, 4))).all()
    with pytest.raises(ReplayError, match="the attempt is at 'done'"):
        attempt.total()


@pytest.mark.parametrize("liar", [1, 3, 4])
@pytest.mark.parametrize("beyond", [False, True])
def test_one_holder_that_lies_is_left_out(world: "World", liar: int, beyond: bool) -> None:
    x, attempt = world.vectors(), world.begin()
    world.share(attempt)
    world.upload(attempt, x, but=(5,))
    world.consent(attempt)
    for n in attempt.survivors:
        reveal = world.sites[n].reveal(attempt.request_for(n))
        if n == liar:
            data = decode(Reveal, reveal)
            many = tuple(
                replace(s, share=(shamir.PRIME - 1).to_bytes(33).hex()) for s in data.self_seeds
            )
            reveal = encode(replace(data, self_seeds=many)) if beyond else bent(data)
        attempt.take_reveal(n, reveal)
    assert (attempt.total() == world.ring_sum(x, (1, 2, 3, 4))).all()


def test_too_many_holders_that_lie(worlds: "type[World]") -> None:
    world = worlds(7)
    x, attempt = world.vectors(), world.at("reveal")
    for n in attempt.survivors[:4]:
        reveal = world.sites[n].reveal(attempt.request_for(n))
        attempt.take_reveal(n, bent(decode(Reveal, reveal)) if n in (1, 2) else reveal)
    with pytest.raises(ProtocolError, match="shares of site 1 don't make the secret"):
        attempt.total()
    assert attempt._sum is not None
    assert (
        np.count_nonzero(
            attempt._sum.total()[: world.agreement.count] != world.ring_sum(x, world.numbers)
        )
        > 30
    )


def test_a_liar_learns_no_more_than_the_sum(world: "World") -> None:
    # What a site gets from the coordinator opens for nobody else.
    attempt = world.begin()
    view = world.view()
    world.share(attempt, view=view)
    for box in decode(Shares, view.shares[2]).boxes:
        if box.member != 1:
            with pytest.raises(ProtocolError, match="doesn't open"):
                world.sites[1]._peers.open(attempt.digest, 2, bytes.fromhex(box.box))
    context = label("recovery", attempt.digest, 2)
    with pytest.raises(ProtocolError, match="doesn't open"):
        _hazmat.aead_open(
            bytes(32), bytes.fromhex(decode(Shares, view.shares[2]).recovery), context
        )
