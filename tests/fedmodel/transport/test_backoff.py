"""Waits between a site's tries to connect."""

import statistics

from fedmodel.transport.backoff import EAGER, LASTED, LONGEST, SHORTEST, Backoff
from tests.conftest import FakeEntropy


def waits(backoff: Backoff, begin: float, until: float) -> list[tuple[float, float]]:
    """Return the times of failed tries of a cut, and the waits after them."""
    now, found = begin, []
    while now < until:
        found.append((now, wait := backoff.lost(now)))
        now += wait
    return found


def test_in_a_short_cut_no_wait_is_longer_than_a_second() -> None:
    for seed in range(50):
        found = waits(Backoff(FakeEntropy(seed)), 1000.0, 1000.0 + EAGER)
        assert all(SHORTEST <= wait <= 1.0 for _, wait in found)


def test_in_a_long_cut_waits_grow_to_a_minute_and_are_spread_over_it() -> None:
    drawn: list[float] = []
    for seed in range(50):
        found = waits(Backoff(FakeEntropy(seed)), 0.0, 3600.0)
        assert max(wait for _, wait in found) <= LONGEST
        assert len([now for now, _ in found if now > EAGER]) < 250
        drawn += [wait for now, wait in found if now > 600.0]
    assert abs(statistics.mean(drawn) - LONGEST / 2) < 2.0
    assert min(drawn) < LONGEST / 20
    assert max(drawn) > LONGEST * 0.95


def test_a_connection_that_has_lasted_makes_the_next_cut_a_new_one() -> None:
    backoff = Backoff(FakeEntropy())
    now = waits(backoff, 0.0, 900.0)[-1][0]
    backoff.opened(now)
    assert all(wait <= 1.0 for _, wait in waits(backoff, now + LASTED, now + LASTED + EAGER))


def test_a_coordinator_that_closes_at_once_is_not_asked_every_second_for_ever() -> None:
    backoff, now, tries = Backoff(FakeEntropy()), 0.0, 0
    while now < 3600.0:
        backoff.opened(now)
        now += backoff.lost(now + 0.01)
        tries += 1
    assert tries < 250


def test_a_hint_that_the_network_is_back_ends_the_wait() -> None:
    backoff = Backoff(FakeEntropy())
    waits(backoff, 0.0, 900.0)
    assert SHORTEST <= backoff.hinted(901.0) <= 2 * SHORTEST
    assert all(wait <= 1.0 for _, wait in waits(backoff, 901.2, 901.2 + EAGER - 1))


def test_sites_that_lose_the_same_coordinator_do_not_come_back_together() -> None:
    first = [Backoff(FakeEntropy(seed)).lost(0.0) for seed in range(200)]
    assert all(wait <= 1.0 for wait in first)
    assert statistics.pstdev(first) > 0.2
