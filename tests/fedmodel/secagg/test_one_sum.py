"""One sum a round: who has agreed to a set of survivors helps no other, in no session."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pytest

from fedmodel.errors import QuorumError, ReplayError
from fedmodel.secagg.closing import ClosedInMemory
from fedmodel.secagg.participant import Participant

if TYPE_CHECKING:
    from fedmodel.secagg.aggregator import Attempt
    from tests.fedmodel.secagg.conftest import Vector, World

SITES, SURVIVORS, FEW = 60, 42, 18


class Late(Participant):
    """Closes a round when it reveals, and not when it consents."""

    def consent(self, data: bytes) -> bytes:
        kept, self._closing = self._closing, ClosedInMemory()
        try:
            return super().consent(data)
        finally:
            self._closing = kept

    def reveal(self, data: bytes) -> bytes:
        self._closing.close(self.manifest.round)
        return super().reveal(data)


def few(attempt: "Attempt") -> set[int]:
    """Return 18 sites, evenly on the ring, that hold enough shares of everybody."""
    ring = attempt._graph.ring
    chosen = {ring[len(ring) * i // FEW] for i in range(FEW)}
    for owner in ring:
        assert len(chosen & set(attempt._graph.holders(owner))) >= attempt._graph.threshold
    return chosen


def first_sum(world: "World", x: "dict[int, Vector]") -> "tuple[list[int], Vector]":
    """Unmask the sum of all with 18 reveals; return who hasn't revealed, and the sum."""
    attempt = world.at("reveal", x)
    shown = few(attempt)
    world.reveal(attempt, but=set(world.numbers) - shown)
    # A coordinator that lies needs no more than what makes each secret.
    object.__setattr__(attempt.manifest, "threshold", FEW)
    return sorted(set(world.numbers) - shown), attempt.total()


@pytest.mark.slow
@pytest.mark.long
def test_the_many_who_have_not_revealed_make_no_second_sum(worlds: "type[World]") -> None:
    world = worlds(SITES, survivors=SURVIVORS, site_class=Late, count=8)
    x = world.vectors()
    others, whole = first_sum(world, x)
    assert len(others) == SURVIVORS
    _, part = world.play(x, attempt=2, cohort=others)
    assert world.is_plain(whole - part, world.ring_sum(x, set(world.numbers) - set(others)))

    world = worlds(SITES, survivors=SURVIVORS, count=8)
    attempt = world.at("reveal", x)
    again = world.begin(attempt=2)
    for n in attempt.survivors:
        with pytest.raises(ReplayError, match="has agreed to a sum in round 1"):
            world.sites[n].open(again.open_for(n))


def willing(world: "World", attempt: "Attempt") -> Iterable[int]:
    """Yield who shares its secrets in an attempt."""
    for n in attempt.manifest.cohort:
        try:
            attempt.take_shares(n, world.sites[n].open(attempt.open_for(n)))
        except ReplayError:
            continue
        yield n


@pytest.mark.parametrize("count", [5, 8, 11])
def test_as_few_consents_as_a_reveal_takes_leave_too_few_for_another(
    worlds: "type[World]", count: int
) -> None:
    world = worlds(count, colluders=1)
    attempt, needed = world.at("consent"), world.agreement.threshold
    world.consent(attempt, but=world.numbers[needed:])
    again = world.begin(attempt=2)
    assert len(list(willing(world, again))) == count - needed < world.agreement.survivors
    with pytest.raises(QuorumError):
        again.close_shares()


def test_too_few_consents_leave_the_others_a_second_attempt(worlds: "type[World]") -> None:
    world = worlds(8, survivors=5)
    attempt = world.at("consent")
    with pytest.raises(QuorumError, match="2 of 8 survivors agreed"):
        world.consent(attempt, but=world.numbers[2:])
    x, others = world.vectors(), world.numbers[2:]
    _, total = world.play(x, attempt=2, cohort=others)
    assert (total == world.ring_sum(x, others)).all()
    for n in others:  # none of them helps the first attempt any more
        with pytest.raises(ReplayError, match="of another attempt"):
            world.sites[n].consent(world.told(attempt, attempt.takers, attempt.takers))


# -- two sessions at once --------------------------------------------------------------------------


class Forgetful(ClosedInMemory):
    """Writes down what it is told, whatever stands there."""

    def close(self, round_: int) -> None:
        self._last = round_


@pytest.mark.parametrize("closing", [ClosedInMemory, Forgetful])
def test_two_sessions_at_once_make_one_sum(
    worlds: "type[World]", closing: type[ClosedInMemory]
) -> None:
    one, other = worlds(5, seed="one"), worlds(5, seed="other")
    for n in one.numbers:  # one site, one place of what it remembers
        shared = closing()
        one.sites[n]._closing = other.sites[n]._closing = shared
    x = one.vectors()
    late = other.begin(cohort=(1, 2, 3, 4))
    other.share(late)
    other.upload(late, x)
    _, whole = one.play(x)
    if closing is Forgetful:
        other.consent(late)
        other.reveal(late)
        assert other.is_plain(whole - late.total(), x[5])
        return
    for n in late.survivors:
        with pytest.raises(ReplayError, match="has agreed to a sum in round 1"):
            other.sites[n].consent(late.survivors_message())
        with pytest.raises(ReplayError, match="has agreed to a sum in round 1"):
            other.sites[n].open(other.begin(attempt=2).open_for(n))


def test_a_reveal_reads_again_which_rounds_are_closed(worlds: "type[World]") -> None:
    world = worlds(5)
    attempt = world.at("reveal")
    for last in (0, 2):  # a file that was brought back, and a session that has gone on
        world.sites[1]._closing = ClosedInMemory(last)
        with pytest.raises(ReplayError, match=f"closed round 1, and now round {last}"):
            world.sites[1].reveal(attempt.request_for(1))


def test_a_consent_that_cannot_be_written_down_is_not_given(worlds: "type[World]") -> None:
    class Full(ClosedInMemory):
        def close(self, round_: int) -> None:
            raise OSError("disk full")

    world = worlds(5)
    attempt = world.at("consent")
    world.sites[1]._closing = Full()
    with pytest.raises(OSError, match="disk full"):
        world.sites[1].consent(attempt.survivors_message())
    with pytest.raises(ReplayError, match="'uploaded'"):
        world.sites[1].reveal(world.request(attempt, ()))
