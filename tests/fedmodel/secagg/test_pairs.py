"""Two sites that disagree on their common mask are found out before anything is computed."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from fedmodel import _hazmat
from fedmodel.errors import ProtocolError, QuorumError
from fedmodel.secagg.fields import label
from fedmodel.secagg.keys import pair_commitment, pair_seed
from fedmodel.secagg.messages import Shares, decode, encode
from fedmodel.secagg.unmasking import committed_pairs, disagreements

if TYPE_CHECKING:
    from fedmodel.secagg.aggregator import Attempt
    from tests.fedmodel.secagg.conftest import World

WRONG = "0" * 64


def share(world: "World", attempt: "Attempt", lies: Mapping[int, Mapping[int, str]]) -> None:
    """Have all share; whoever lies commits to something else, well signed.

    Args:
        lies: site → neighbour → what it commits to.
    """
    for n, site in world.sites.items():
        shares = decode(Shares, site.open(attempt.open_for(n)))
        known = committed_pairs(attempt._graph, shares) | dict(lies.get(n, {}))
        made = replace(shares, pairs="".join(known.values()))
        signature = world.signers[n](made.signed()).hex()
        attempt.take_shares(n, encode(replace(made, signature=signature)))
    attempt.close_shares()


def finish(world: "World", attempt: "Attempt") -> Any:
    x = world.vectors()
    world.upload(attempt, x)
    world.consent(attempt)
    world.reveal(attempt)
    assert (attempt.total() == world.ring_sum(x, attempt.survivors)).all()


def test_both_sites_commit_to_the_same() -> None:
    one, other = (pair_commitment(b"s" * 32, b"a" * 32, *pair) for pair in ((2, 9), (9, 2)))
    assert one == other
    assert len({one, *(
        pair_commitment(seed, attempt, *pair)
        for seed, attempt, pair in (
            (b"t" * 32, b"a" * 32, (2, 9)),
            (b"s" * 32, b"b" * 32, (2, 9)),
            (b"s" * 32, b"a" * 32, (2, 8)),
            (b"s" * 32, b"a" * 32, (3, 9)),
        )
    )}) == 5  # fmt: skip
    assert (
        pair_commitment(b"s" * 32, b"a" * 32, 2, 9) != pair_seed(b"s" * 32, b"a" * 32, 2, 9).hex()
    )


@pytest.mark.slow
@pytest.mark.long
def test_honest_sites_agree(worlds: "type[World]") -> None:
    for sites in (5, 60):  # all with all, and neighbours on a ring
        world = worlds(sites, count=3, colluders=1)
        attempt = world.begin()
        world.share(attempt)
        assert disagreements(attempt._graph, attempt._shares) == []
        assert attempt.takers == world.numbers
        assert world.coordinator.blame.wrong() == {}


def test_a_pair_in_dispute_is_left_out_and_the_others_make_their_sum(worlds: "type[World]") -> None:
    world = worlds(7, colluders=1, survivors=5)
    attempt = world.begin()
    share(world, attempt, {6: {3: WRONG}})
    assert attempt.takers == (1, 2, 4, 5, 7)
    assert set(world.coordinator.blame.disputed()) == {3, 6}
    assert world.coordinator.blame.wrong() == {}
    finish(world, attempt)
    # The next round begins with all; whoever disputes with another one more is named.
    world.coordinator.blame.begin_round()
    attempt = world.begin(round=2)
    share(world, attempt, {6: {1: WRONG}})
    assert list(world.coordinator.blame.wrong()) == [6]
    assert attempt.takers == (1, 2, 3, 4, 5, 7)
    finish(world, attempt)


def test_who_disputes_with_many_is_left_out_alone(worlds: "type[World]") -> None:
    world = worlds(6, colluders=1, survivors=5)
    attempt = world.begin()
    share(world, attempt, {4: dict.fromkeys((1, 2, 3), WRONG)})
    assert attempt.takers == (1, 2, 3, 5, 6)
    assert "3 sites are in dispute with it" in world.coordinator.blame.wrong()[4]
    finish(world, attempt)


def test_where_too_few_would_be_left_one_of_the_two_goes_or_nothing_is_begun(
    worlds: "type[World]",
) -> None:
    world = worlds(5, survivors=4)
    attempt = world.begin()
    share(world, attempt, {5: {2: WRONG}})
    assert len(attempt.takers) == 4
    assert not {2, 5} <= set(attempt.takers)
    finish(world, attempt)
    world = worlds(4, survivors=4)
    attempt = world.begin()
    with pytest.raises(QuorumError, match="sites 2 and 4 have committed to different seeds"):
        share(world, attempt, {4: {2: WRONG}})


def test_commitments_of_another_size_are_refused(world: "World") -> None:
    attempt = world.begin()
    shares = decode(Shares, world.sites[5].open(attempt.open_for(5)))
    for pairs in ("", shares.pairs[64:], shares.pairs + WRONG):
        made = replace(shares, pairs=pairs)
        signed = replace(made, signature=world.signers[5](made.signed()).hex())
        with pytest.raises(ProtocolError, match="hasn't one commitment for each neighbour"):
            attempt.take_shares(5, encode(signed))
    attempt.take_shares(5, encode(shares))


# -- seeds that a site has left, and drops out ---------------------------------------------------


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return what makes a site leave other seeds than it has: they open, and have their size."""

    def lie(liar: int) -> None:
        seal = _hazmat.aead_seal

        def lying(key: bytes, plaintext: bytes, context: bytes, entropy: Any) -> bytes:
            if b" recovery\0" in context and context.endswith(label("", liar)[-4:]):
                plaintext = b"y" * 32 + plaintext[32:]  # the one that it shares with site 1
            return seal(key, plaintext, context, entropy)

        monkeypatch.setattr(_hazmat, "aead_seal", lying)

    return lie


def test_wrong_seeds_that_a_dropped_site_had_left_are_its_own_fault(
    world: "World", left: Callable[[int], None]
) -> None:
    left(5)
    x, attempt = world.vectors(), world.begin()
    world.share(attempt)
    world.upload(attempt, x, but=(5,))
    world.consent(attempt)
    world.reveal(attempt)
    with pytest.raises(ProtocolError, match="that it had left aren't those that it had comm"):
        attempt.total()
    blame = world.coordinator.blame
    assert list(blame.wrong()) == [5]
    assert blame.cohort(world.numbers, 4) == (1, 2, 3, 4)
    _, total = world.play(x, round=2, cohort=(1, 2, 3, 4))
    assert (total == world.ring_sum(x, (1, 2, 3, 4))).all()


def test_a_site_that_commits_to_the_wrong_seeds_that_it_leaves_never_gets_so_far(
    worlds: "type[World]", left: Callable[[int], None]
) -> None:
    left(5)
    world = worlds(6, colluders=1, survivors=4)
    attempt = world.begin()
    share(world, attempt, {5: {1: pair_commitment(b"y" * 32, attempt.digest, 1, 5)}})
    assert attempt.takers == (2, 3, 4, 6)
    assert set(world.coordinator.blame.disputed()) == {1, 5}
    finish(world, attempt)
