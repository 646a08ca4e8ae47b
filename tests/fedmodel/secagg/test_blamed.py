"""Who is named when a secure sum's secrets don't fit, and how many liars a sum stands."""

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from fedmodel.errors import AccusationError, ProtocolError
from fedmodel.secagg import shamir
from fedmodel.secagg.blame import Blame
from fedmodel.secagg.keys import commitment
from fedmodel.secagg.messages import Reveal, Share, Shares, decode, encode
from fedmodel.secagg.participant import Participant
from fedmodel.secagg.peers import Peers
from fedmodel.secagg.unmasking import Secrets
from fedmodel.seeds import Entropy

if TYPE_CHECKING:
    from fedmodel.secagg.aggregator import Attempt
    from tests.fedmodel.secagg.conftest import World


def share_lying(world: "World", attempt: "Attempt", liar: int, **lies: str) -> None:
    """Have all share, one of them with some fields of its own making, well signed."""
    for n, site in world.sites.items():
        shares = decode(Shares, site.open(attempt.open_for(n)))
        if n == liar:
            made = replace(shares, **lies)  # type: ignore[arg-type]
            shares = replace(made, signature=world.signers[n](made.signed()).hex())
        attempt.take_shares(n, encode(shares))
    attempt.close_shares()


def off(shares: tuple[Share, ...], by: int) -> tuple[Share, ...]:
    moved = [((int(s.share, 16) + by) % shamir.PRIME).to_bytes(33).hex() for s in shares]
    return tuple(replace(s, share=m) for s, m in zip(shares, moved, strict=True))


def reveal_lying(world: "World", attempt: "Attempt", *liars: int) -> None:
    for n in attempt.survivors:
        reveal = world.sites[n].reveal(attempt.request_for(n))
        if n in liars:
            good = decode(Reveal, reveal)
            reveal = encode(replace(good, self_seeds=off(good.self_seeds, n)))
        attempt.take_reveal(n, reveal)


@pytest.mark.parametrize(
    ("survives", "lie", "why"),
    [
        (True, "self_commitment", "don't make the secret that it committed to"),
        (False, "recovery_commitment", "don't make the secret that it committed to"),
        (False, "recovery", "mask seeds that it had left don't open"),
    ],
)
def test_an_owner_whose_secret_was_shared_otherwise_is_proved_wrong(
    worlds: "type[World]", survives: bool, lie: str, why: str
) -> None:
    world = worlds(6, colluders=1, survivors=4)
    attempt = world.begin()
    share_lying(world, attempt, 5, **{lie: "00" * (28 + 32 * 5 if lie == "recovery" else 32)})
    world.upload(attempt, world.vectors(), but=() if survives else (5,))
    world.consent(attempt)
    world.reveal(attempt)
    with pytest.raises(ProtocolError, match=why):
        attempt.total()
    blame = world.coordinator.blame
    assert list(blame.wrong()) == [5]
    assert why in blame.wrong()[5]
    assert blame.cohort(world.numbers, 4) == (1, 2, 3, 4, 6)


def test_with_too_few_shares_to_tell_owner_and_holders_apart_nobody_is_named(
    worlds: "type[World]",
) -> None:
    world = worlds(6, colluders=1, survivors=4)
    attempt = world.begin()
    share_lying(world, attempt, 5, self_commitment="00" * 32)
    world.upload(attempt, world.vectors())
    world.consent(attempt)
    world.reveal(attempt, but=(1, 2))  # just the threshold
    with pytest.raises(ProtocolError, match="committed to"):
        attempt.total()
    assert world.coordinator.blame.wrong() == {}


@pytest.mark.sample(2)
@pytest.mark.long
@pytest.mark.parametrize("liars", [(1,), (1, 2), (3, 9), (9, 10)])
def test_wrong_reveals_are_corrected_and_their_senders_named(
    worlds: "type[World]", liars: tuple[int, ...]
) -> None:
    world = worlds(10, colluders=2, survivors=8)
    x, attempt = world.vectors(), world.at("reveal")
    reveal_lying(world, attempt, *liars)
    assert (attempt.total() == world.ring_sum(x, world.numbers)).all()
    wrong = world.coordinator.blame.wrong()
    # Of those whose shares weren't needed nobody looks at any.
    assert set(wrong) == set(liars) or min(liars) > world.agreement.threshold
    assert set(wrong) <= set(liars)


def test_a_holder_that_was_found_wrong_once_is_looked_at_for_every_owner() -> None:
    # As in a sparse graph: for one owner the liar's share is needed, for the other it isn't.
    holders, liar, attempt = {1: range(3, 8), 2: range(1, 6)}, 4, bytes(32)
    given: dict[int, Any] = {}
    told: dict[int, list[Share]] = {n: [] for n in range(1, 8)}
    for owner, held in holders.items():
        secret = Entropy().bytes(32)
        given[owner] = SimpleNamespace(self_commitment=commitment("self", secret, attempt, owner))
        for n, share in shamir.split(secret, 3, held, Entropy()).items():
            told[n].append(Share(owner=owner, share=share.hex()))
    reveals = {
        n: Reveal(
            manifest="0" * 64,
            member=n,
            self_seeds=off(tuple(shares), n) if n == liar else tuple(shares),
            recovery_keys=(),
        )
        for n, shares in told.items()
    }
    graph: Any = SimpleNamespace(threshold=3)
    blame = Blame(1)
    found = Secrets(attempt, graph, given, reveals, colluders=1, blame=blame)
    for owner in holders:
        found.secret("self", owner)
    assert list(blame.wrong()) == [liar]
    assert "2 sites are in dispute with it" in blame.wrong()[liar]


def test_a_number_beyond_the_field_is_no_share(worlds: "type[World]") -> None:
    world = worlds(5)
    attempt = world.at("reveal")
    good = world.sites[1].reveal(attempt.request_for(1))
    first = decode(Reveal, good).self_seeds[0].share.encode()
    for share in (shamir.PRIME, 2 ** (8 * shamir.SHARE) - 1):
        with pytest.raises(ProtocolError, match="must be a number of the field"):
            attempt.take_reveal(1, good.replace(first, share.to_bytes(33).hex().encode()))
    attempt.take_reveal(1, good)


def test_shares_that_no_field_has_are_noticed_by_their_holder(
    worlds: "type[World]", monkeypatch: pytest.MonkeyPatch
) -> None:
    seal = Peers.seal

    def lying(self: Peers, attempt: bytes, holder: int, shares: bytes) -> bytes:
        if (self._member, holder) == (5, 2):
            shares = b"\xff" * len(shares)
        if (self._member, holder) == (5, 3):
            shares = shares[:-1]
        return seal(self, attempt, holder, shares)

    monkeypatch.setattr(Peers, "seal", lying)
    world = worlds(5)
    attempt = world.begin()
    for n, site in world.sites.items():
        attempt.take_shares(n, replaced_size(site, attempt, n))
    attempt.close_shares()
    for n, why in ((2, "beyond the field"), (3, "doesn't open|not two shares|bytes")):
        with pytest.raises(AccusationError, match=f"the shares from site 5: .*{why}") as caught:
            world.sites[n].deliver(attempt.deliver_for(n))
        assert caught.value.accused == 5


def replaced_size(site: Participant, attempt: "Attempt", n: int) -> bytes:
    """Return what a site shares; the coordinator that lets any size pass is the test's own."""
    shares = site.open(attempt.open_for(n))
    if n == 5:
        attempt._shares[5] = decode(Shares, shares)
        del attempt._shares[5]
        short = decode(Shares, shares)
        boxes = [replace(b, box=b.box.ljust(2 * 94, "0")) for b in short.boxes]
        made = replace(short, boxes=tuple(boxes))
        return encode(replace(made, signature=site._sign(made.signed()).hex()))
    return shares
