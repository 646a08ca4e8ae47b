"""A site that was declared dropped: what it sends later stays masked, whatever was revealed."""

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedmodel import _hazmat
from fedmodel.errors import ProtocolError, QuorumError, ReplayError
from fedmodel.secagg.messages import Reveal, Shares, decode

if TYPE_CHECKING:
    from tests.fedmodel.secagg.conftest import World

QUICK = settings(
    deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.slow
@pytest.mark.long
@settings(QUICK, max_examples=25)
@given(
    sites=st.integers(4, 9),
    late=st.integers(1, 4),
    seed=st.integers(0, 1 << 30),
    bits=st.sampled_from((16, 20, 32)),
)
def test_a_late_vector_stays_masked(
    worlds: "type[World]", sites: int, late: int, seed: int, bits: int
) -> None:
    world = worlds(sites, survivors=sites - 1, seed=seed, bits=bits)
    vectors, view = world.vectors(seed), worlds.view()
    attempt = world.begin()
    world.share(attempt, view=view)
    state = world.sites[late]._attempt
    assert state is not None
    self_seed = state.self_seed
    (packed,) = [v for _, v in world.upload(attempt, vectors, but=(late,), view=view).values()]
    with pytest.raises(ReplayError, match=f"vector of site {late} comes too late"):
        attempt.take_upload(late, *view.uploads[late])
    world.consent(attempt, view=view)
    world.reveal(attempt, view=view)
    survivors = [n for n in world.numbers if n != late]
    assert (attempt.total() == world.ring_sum(vectors, survivors)).all()

    # All that was revealed: every self seed but the late one, and the late one's mask seeds.
    threshold = attempt._graph.threshold
    selves = {n: world.secret(view.reveals.values(), "self", n, threshold) for n in survivors}
    with pytest.raises(ProtocolError, match="a secret needs"):
        world.secret(view.reveals.values(), "self", late, threshold)
    recovery = world.secret(view.reveals.values(), "recovery", late, threshold)
    pairs = world.pairs(attempt, view.shares[late], recovery)
    assert set(pairs) == set(survivors)
    plain = world.centred(vectors[late])
    tried = [(), (recovery,), *((seed,) for seed in selves.values())]
    for seeds in tried:
        assert np.count_nonzero(world.unpair(late, packed, pairs, *seeds) != plain) > 30
    # The self seed is all that is in between, and the site itself has forgotten it.
    assert (world.unpair(late, packed, pairs, self_seed) == plain).all()
    assert (state.self_seed, state.seeds) == (b"", {})
    # Nor is a recovery key of use without the site's number and attempt.
    other = next(n for n in survivors)
    with pytest.raises(ProtocolError, match="doesn't open"):
        world.pairs(attempt, view.shares[other], recovery)


def test_a_survivors_masks_with_others_stay_unknown(world: "World") -> None:
    # Who survived has its self seed revealed; what hides it then are the masks with the others.
    view = world.view()
    vectors = world.vectors()
    attempt, _ = world.play(vectors, drops={"upload": (5,)}, view=view)
    threshold = attempt._graph.threshold
    seed = world.secret(view.reveals.values(), "self", 1, threshold)
    pairs = world.pairs(
        attempt, view.shares[5], world.secret(view.reveals.values(), "recovery", 5, threshold)
    )
    known = {5: pairs[1]}
    stripped = world.unpair(1, view.uploads[1][1], known, seed)
    assert np.count_nonzero(stripped != world.centred(vectors[1])) > 30
    with pytest.raises(ProtocolError, match="a secret needs"):
        world.secret(view.reveals.values(), "recovery", 1, threshold)


def test_one_kind_of_share_of_each_owner(world: "World") -> None:
    view = world.view()
    world.play(world.vectors(), drops={"shares": (3,), "upload": (5,)}, view=view)
    for data in view.reveals.values():
        reveal = decode(Reveal, data)
        assert [s.owner for s in reveal.self_seeds] == [1, 2, 4]
        assert [s.owner for s in reveal.recovery_keys] == [5]


def test_a_dropped_sites_shares_open_no_other_attempt(worlds: "type[World]") -> None:
    # What is recovered in round 1 says nothing of round 2: seeds and keys are drawn anew.
    world = worlds(5)
    views, attempts, vectors = (world.view(), world.view()), [], world.vectors()
    for round_, view in enumerate(views, 1):
        attempt, _ = world.play(vectors, round=round_, drops={"upload": (2,)}, view=view)
        attempts.append(attempt)
    threshold = attempts[0]._graph.threshold
    keys = [world.secret(v.reveals.values(), "recovery", 2, threshold) for v in views]
    pairs = [world.pairs(a, v.shares[2], k) for a, v, k in zip(attempts, views, keys, strict=True)]
    assert keys[0] != keys[1]
    assert not set(pairs[0].values()) & set(pairs[1].values())
    with pytest.raises(ProtocolError, match="doesn't open"):
        world.pairs(attempts[1], views[1].shares[2], keys[0])


def test_a_restarted_site_masks_anew(worlds: "type[World]") -> None:
    # Same number, same session, the same round: a new process has new secrets.
    world = worlds(5)
    vectors, old = world.vectors(), world.view()
    attempt = world.begin()
    world.share(attempt, view=old)
    world.upload(attempt, vectors, view=old)
    again = worlds(5)
    again.sites = {n: again.site(n, seed="restarted") for n in again.numbers}
    again.coordinator = again.make_coordinator()
    for site in again.sites.values():
        again.coordinator.take_advert(site.advert())
    new, repeated = again.view(), again.begin()
    assert repeated.digest != attempt.digest
    # The manifest of the earlier joining opens no second time, though its session has the name.
    assert repeated.manifest.session == attempt.manifest.session
    now = {n: site.advert() for n, site in again.sites.items()}
    with pytest.raises(ReplayError, match="of an earlier joining"):
        again.sites[1].open(again.open_message(attempt.manifest, now))
    again.share(repeated, view=new)
    again.upload(repeated, vectors, view=new)
    for n in world.numbers:
        one, two = world.strip([old.uploads[n][1]]), world.strip([new.uploads[n][1]])
        assert np.count_nonzero(one != two) > 35


def test_commitments_tell_nothing(world: "World") -> None:
    seen = set()
    for round_ in (1, 2):
        view = world.view()
        world.play(world.vectors(), round=round_, view=view)
        for data in view.shares.values():
            shares = decode(Shares, data)
            seen |= {shares.self_commitment, shares.recovery_commitment}
    assert len(seen) == 2 * 5 * 2


def test_a_failed_attempt_reveals_nothing(worlds: "type[World]") -> None:
    world = worlds(5, survivors=4, threshold=4)
    attempt = world.at("consent")
    with pytest.raises(QuorumError, match="3 of 5 survivors agreed"):
        world.consent(attempt, but=(1, 2))
    with pytest.raises(ReplayError, match="the attempt is at 'consents'"):
        attempt.total()
    for n in (3, 4, 5):  # who has consented goes into no other attempt of the round
        with pytest.raises(ReplayError, match="has agreed to a sum in round 1"):
            world.sites[n].open(world.begin(attempt=2).open_for(n))
    _, total = world.play(world.vectors(), round=2)
    assert (total == world.ring_sum(world.vectors(), world.numbers)).all()


def test_keys_are_of_one_session(worlds: "type[World]") -> None:
    one, two = worlds(5, seed=1), worlds(5, seed=2)
    assert one.agreement.session != two.agreement.session
    assert not {*one.adverts.values()} & {*two.adverts.values()}
    seen = {site._peers._private for w in (one, two) for site in w.sites.values()}
    assert len(seen) == 10
    assert all(len(_hazmat.x25519_public(p)) == 32 for p in seen)


def test_a_round_that_was_unmasked_is_closed_in_every_later_session(worlds: "type[World]") -> None:
    world = worlds(5, seed="before")
    world.play(world.vectors(), round=2)
    assert {site.closed for site in world.sites.values()} == {2}
    later = worlds(5, seed="after", closed=2)
    assert later.coordinator.closed() == 2
    with pytest.raises(ReplayError, match="has agreed to a sum in round 2"):
        later.sites[1].open(later.begin(round=2).open_for(1))
    _, total = later.play(later.vectors(), round=3)
    assert (total == later.ring_sum(later.vectors(), later.numbers)).all()


def test_colluders_cannot_close_rounds(worlds: "type[World]") -> None:
    world = worlds(9, colluders=2, closed=1)
    liars = worlds(9, colluders=2, closed=5)
    for n in (1, 2):
        world.coordinator._adverts[n] = liars.coordinator._adverts[n]
    assert world.coordinator.closed() == 1


def test_too_few_that_are_open_close_a_round(worlds: "type[World]") -> None:
    world, other = (
        worlds(4, survivors=4, colluders=1),
        worlds(4, survivors=4, colluders=1, closed=1),
    )
    assert world.coordinator.closed() == 0
    world.coordinator._adverts[1] = other.coordinator._adverts[1]
    assert world.coordinator.closed() == 1  # with three sites nobody could repeat it
