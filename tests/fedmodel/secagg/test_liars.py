"""A coordinator that lies: what an honest site says, and what it would lose without that check.

Each attack is played twice: against the site as it is, and against one that lacks the check, where
it is carried through to a site's plain vector.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from fedmodel import _hazmat
from fedmodel.errors import EquivocationError, FedmodelError, FloorError, ProtocolError, ReplayError
from fedmodel.secagg import keys as keys_module
from fedmodel.secagg import participant as participant_module
from fedmodel.secagg import peers as peers_module
from fedmodel.secagg import shamir
from fedmodel.secagg import stages as coordinator_module
from fedmodel.secagg.aggregator import Attempt
from fedmodel.secagg.agreement import Floors
from fedmodel.secagg.fields import label
from fedmodel.secagg.keys import pair_seed
from fedmodel.secagg.messages import (
    Advert,
    Deliver,
    Manifest,
    Open,
    Sealed,
    Shares,
    decode,
    encode,
)
from fedmodel.secagg.participant import Participant
from fedmodel.secagg.peers import Peers

if TYPE_CHECKING:
    from tests.fedmodel.secagg.conftest import World

EVE = b"e" * 32  # an X25519 key of the coordinator's


class NoFloors(Floors):
    def check(self, *, cohort: int, survivors: int, threshold: int, colluders: int) -> None:
        pass


# -- keys ------------------------------------------------------------------------------------------


def forged(world: "World", number: int, how: str) -> bytes:
    """Return an advert of Eve's key in a site's name."""
    true = decode(Advert, world.adverts[number])
    false = replace(true, key=_hazmat.x25519_public(EVE).hex())
    if how == "another session":  # a key that leaked from an old one, with a true signature
        false = replace(false, session="9" * 64)
        return encode(replace(false, signature=world.signers[number](false.signed()).hex()))
    if how == "another member":
        signer = number % len(world.numbers) + 1
        return encode(replace(false, signature=world.signers[signer](false.signed()).hex()))
    return encode(false)


@pytest.mark.parametrize(
    ("how", "error", "said"),
    [
        ("nobody", ProtocolError, "the signature doesn't verify"),
        ("another member", ProtocolError, "the signature doesn't verify"),
        ("another session", ReplayError, "is of another session or job"),
    ],
)
def test_swapped_keys(
    world: "World", monkeypatch: pytest.MonkeyPatch, how: str, error: type, said: str
) -> None:
    attempt, victim, x = world.begin(), world.sites[1], world.vectors()
    opened = world.open_message(attempt.manifest, {n: forged(world, n, how) for n in (2, 3, 4, 5)})
    with pytest.raises(error, match=said):
        victim.open(opened)

    monkeypatch.setattr(Peers, "check_keys", lambda *_: None)
    if how == "another session":
        monkeypatch.setattr(peers_module, "check_advert", lambda *_: None)
    else:
        monkeypatch.setattr(keys_module, "verify", lambda *_: None)
    shares = decode(Shares, victim.open(opened))
    secret = _hazmat.x25519(EVE, bytes.fromhex(decode(Advert, world.adverts[1]).key))
    held, boxes = {}, []
    for box in shares.boxes:
        mine = label("share", attempt.digest, 1, box.member)
        held[box.member] = _hazmat.aead_open(
            _hazmat.hkdf(secret, mine), bytes.fromhex(box.box), mine
        )[: shamir.SHARE]
        theirs = label("share", attempt.digest, box.member, 1)
        sealed = _hazmat.aead_seal(
            _hazmat.hkdf(secret, theirs), bytes(2 * shamir.SHARE), theirs, world.dice("eve")
        )
        boxes.append(Sealed(member=box.member, box=sealed.hex()))
    victim.deliver(
        encode(Deliver(manifest=shares.manifest, takers=world.numbers, boxes=tuple(boxes)))
    )
    _, packed = victim.upload(world.writer(x[1]))
    pairs = {n: pair_seed(secret, attempt.digest, 1, n) for n in (2, 3, 4, 5)}
    self_seed = shamir.combine(held, attempt._graph.threshold)
    assert world.is_plain(world.unpair(1, packed, pairs, self_seed), x[1])


def test_a_second_key(world: "World", monkeypatch: pytest.MonkeyPatch) -> None:
    # Member 5 works with the coordinator, and has signed two keys.
    x = world.vectors()
    world.play(x)
    second = replace(decode(Advert, world.adverts[5]), key=_hazmat.x25519_public(EVE).hex())
    second = replace(second, signature=world.signers[5](second.signed()).hex())
    said = "site 5 has another key than before|site 5 has given another key before"
    with pytest.raises(EquivocationError, match=said):
        world.coordinator.take_advert(encode(second))
    attempt = world.begin(round=2)
    opened = world.open_message(attempt.manifest, {5: encode(second)})
    with pytest.raises(EquivocationError, match=said):
        world.sites[1].open(opened)
    both = Open(
        manifest=attempt.manifest,
        adverts=(*decode(Open, world.open_message(attempt.manifest)).adverts, second),
    )
    with pytest.raises(EquivocationError, match=said):
        world.sites[1].open(encode(both))

    monkeypatch.setattr(Peers, "check_keys", lambda *_: None)

    def overwrite(self: Peers, adverts: Sequence[Advert]) -> None:
        for advert in adverts:
            if advert.member != self._member:
                key = bytes.fromhex(advert.key)
                self._known[advert.member] = (advert.key, _hazmat.x25519(self._private, key))

    monkeypatch.setattr(Peers, "learn", overwrite)
    # Site 1's masks with 5 no longer cancel. That both have committed to their seed tells it to an
    # honest coordinator; this one doesn't look.
    monkeypatch.setattr(Attempt, "_leave_out", lambda _: None)
    taken = {n: world.sites[n].open(attempt.open_for(n)) for n in (2, 3, 4, 5)}
    taken[1] = world.sites[1].open(opened)
    for n, shares in taken.items():
        attempt.take_shares(n, shares)
    attempt.close_shares()
    with pytest.raises(ProtocolError, match=r"the shares from site 5: .*doesn't open"):
        world.sites[1].deliver(attempt.deliver_for(1))


# -- manifests -------------------------------------------------------------------------------------


def test_different_models(world: "World", monkeypatch: pytest.MonkeyPatch) -> None:
    # The others get a model on which nothing is learned: their updates are zeros.
    live, dead = world.begin(model="a" * 64), world.begin(model="d" * 64)
    x = world.vectors()
    for n in (2, 3, 4, 5):
        x[n][:] = 0

    def begin() -> Any:
        for n, site in world.sites.items():
            shares = site.open((live if n == 1 else dead).open_for(n))
            message = replace(decode(Shares, shares), manifest=dead.digest.hex())
            message = replace(message, signature=world.signers[n](message.signed()).hex())
            dead.take_shares(n, encode(message))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(dead, "_leave_out", lambda: None)  # it knows why they disagree
            dead.close_shares()

    begin()
    with pytest.raises(ReplayError, match="of another attempt than the open one"):
        world.sites[1].deliver(dead.deliver_for(1))
    relabelled = replace(decode(Deliver, dead.deliver_for(1)), manifest=live.digest.hex())
    with pytest.raises(ProtocolError, match=r"the shares from site 2: .*doesn't open"):
        world.sites[1].deliver(encode(relabelled))

    def blind(manifest: Manifest) -> bytes:
        return hashlib.sha256(replace(manifest, model="0" * 64).signed()).digest()

    monkeypatch.setattr(participant_module, "digest", blind)
    monkeypatch.setattr(coordinator_module, "digest", blind)
    live, dead = world.begin(round=2, model="a" * 64), world.begin(round=2, model="d" * 64)
    begin()
    world.upload(dead, x)
    world.consent(dead)
    world.reveal(dead)
    assert world.is_plain(dead.total(), x[1])


CHANGES: list[tuple[dict[str, Any], type[FedmodelError], str]] = [
    ({"version": "fedmodel.secagg/1"}, ProtocolError, "expected protocol 'fedmodel.secagg/2'"),
    ({"session": "3" * 64}, ProtocolError, "manifest's session isn't what was agreed on"),
    ({"job": "3" * 64}, ProtocolError, "manifest's job isn't"),
    ({"roster": "3" * 64}, ProtocolError, "manifest's roster isn't"),
    ({"survivors": 2}, ProtocolError, "manifest's survivors isn't.* expected 3, got 2"),
    ({"survivors": 4}, ProtocolError, "manifest's survivors isn't"),
    ({"colluders": 1}, ProtocolError, "manifest's colluders isn't"),
    ({"threshold": 2}, FloorError, "lowers the threshold from 3 to 2"),
    ({"threshold": 4}, ProtocolError, "threshold isn't what was agreed on"),
    ({"bits": 16}, ProtocolError, "manifest's bits isn't"),
    ({"bits": 17}, ProtocolError, "manifest's bits isn't"),
    ({"count": 41}, ProtocolError, "manifest's count isn't"),
    ({"round": 6}, ProtocolError, "rounds 1 to 5 of at most 2 attempts, this is round 6"),
    ({"attempt": 3}, ProtocolError, "this is round 1, attempt 3"),
    ({"cohort": (1, 2)}, FloorError, "floor for cohort in secure aggregation is 3.*for 2"),
    ({"cohort": ()}, ProtocolError, "site 1 isn't in the cohort"),
    ({"cohort": (2, 3, 4, 5)}, ProtocolError, "site 1 isn't in the cohort"),
    ({"cohort": (1, 2, 3, 9)}, ProtocolError, r"sites \[9\] of the cohort aren't in the roster"),
    # Of six sites three are no majority: two sets of survivors could be agreed on.
    ({"cohort": (1, 2, 3, 4, 5, 6)}, FloorError, "threshold of 3 among 6 sites with 0 colluders"),
]


@pytest.mark.parametrize(("change", "error", "said"), CHANGES, ids=lambda c: str(c)[:30])
def test_a_changed_manifest(
    worlds: "type[World]", change: dict[str, Any], error: type[FedmodelError], said: str
) -> None:
    world = worlds(5, extra=1)
    manifest = world.begin().manifest
    keys = ("0" * 64,) * len(change.get("cohort", manifest.cohort))
    with pytest.raises(error, match=said):
        world.sites[1].open(
            world.open_message(world.signed(replace(manifest, keys=keys, **change)))
        )
    # It has changed nothing: the true one opens.
    world.sites[1].open(world.open_message(manifest))


@pytest.mark.parametrize("field", ["round", "attempt", "threshold", "survivors", "bits", "count"])
@pytest.mark.parametrize("value", [0, -1])
def test_a_manifest_without_numbers(world: "World", field: str, value: int) -> None:
    opened = world.open_message(world.begin().manifest).decode()
    number = getattr(world.begin().manifest, field)
    changed = opened.replace(f'"{field}":{number}', f'"{field}":{value}')
    assert changed != opened
    with pytest.raises(ProtocolError, match=f"{field} must be at least 1, got {value}"):
        world.sites[1].open(changed.encode())


def test_a_manifest_of_somebody_else(world: "World", monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = world.begin().manifest
    for signer in (world.signers[1], world.signers[5], lambda text: bytes(64)):
        false = replace(manifest, signature=signer(manifest.signed()).hex())
        with pytest.raises(ProtocolError, match="the signature doesn't verify"):
            world.sites[1].open(world.open_message(false))
    false = replace(manifest, model="f" * 64)
    with pytest.raises(ProtocolError, match="the signature doesn't verify"):
        world.sites[1].open(world.open_message(false))
    # Without the check anybody on the way sends sites where they like.
    monkeypatch.setattr(participant_module, "verify", lambda *_: None)
    world.sites[1].open(world.open_message(false))
    assert world.sites[1].manifest.model == "f" * 64


def test_a_cohort_of_sybils(worlds: "type[World]") -> None:
    # Sites 2 to 5 are the coordinator's own; the victim's roster has others.
    world = worlds(5)
    roster = dict.fromkeys((11, 12, 13), world.members[1]) | {1: world.members[1]}
    naive, x = world.sites[1], world.vectors()
    world.sites[1] = Participant(
        member=1,
        agreement=world.agreement,
        members=roster,
        coordinator=world.coordinator_key,
        floors=world.floors,
        sign=world.signers[1],
        entropy=world.dice("honest"),
    )
    with pytest.raises(ProtocolError, match=r"sites \[2, 3, 4, 5\] of the cohort aren't in the ro"):
        world.sites[1].open(world.begin().open_for(1))
    world.sites[1] = naive
    _, total = world.play(x)
    assert world.is_plain(total - sum(x[n] for n in (2, 3, 4, 5)), x[1])


def test_a_sum_of_two(worlds: "type[World]") -> None:
    with pytest.raises(FloorError, match="floor for survivors"):
        worlds(2, survivors=2, threshold=2)
    world = worlds(2, survivors=2, threshold=2, floors=NoFloors(cohort=2, survivors=2))
    x = world.vectors()
    _, total = world.play(x)
    assert world.is_plain(total - x[2], x[1])  # site 2 works with the coordinator
