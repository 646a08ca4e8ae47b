"""A day of a federation on virtual time: renewals, short drops, hours without a network, sleep."""

import random

import pytest

from tests.fedmodel.transport.toy import RUN
from tests.fedmodel.transport.toy_world import World

HOUR = 3600.0
DAY = 24 * HOUR
SHORT = 25.0  # seconds that a short cut takes at most
HANDSHAKE = 0.5  # seconds that three messages take at most
LONG = (1 * HOUR, 4 * HOUR)  # when one site is cut off


class Day(World):
    """Three sites that train every ten minutes: one is cut off for hours, one is a laptop.

    Args:
        seed: of everything; one that gives three members.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(seed, everybody=False)
        if self.members != 3:
            raise ValueError(f"seed {seed} has {self.members} members, expected 3")
        self.rounds, self.pause = 140, 595.0
        self.faults.dies = self.faults.lost = 0.0
        self.faults.slow = 0.1
        self.healed = True  # nothing fails but what follows
        self.cuts: list[tuple[float, float, int]] = []  # begin and end, and whose it was

    def live(self) -> "Day":
        at = random.Random(7).uniform
        for member in range(self.members):
            for _ in range(72):
                self._plan(at(60.0, DAY), member, SHORT * at(0.0, 1.0))
        self._plan(LONG[0], 0, LONG[1] - LONG[0])
        for hour in (8, 9, 10):
            self._plan(hour * HOUR, 1, HOUR / 2)
            self.clock.at((hour + 0.5) * HOUR + 0.01, lambda: self.sites[1].hint())
        self.clock.at(12 * HOUR, self.cut)  # connections are closed when they are that old
        self.clock.run(DAY + HOUR, lambda: self.coordinator.finished)
        self._check()
        return self

    def _plan(self, time: float, member: int, seconds: float) -> None:
        def cut() -> None:
            if self.down[member] < self.clock.now:
                self.down[member] = self.clock.now + seconds
                self.cuts.append((self.clock.now, self.down[member], member))
                self.cut(self.sites[member])

        self.clock.at(time, cut)

    def waited(self, noticed: float, member: int) -> float:
        """Return the seconds from when a lost connection could be made anew to when it was.

        0 where the connection was cut once more before it was one.
        """
        back = min(t for t, whose in self.welcomes if whose == member and t >= noticed)
        cuts = [(begin, end) for begin, end, whose in self.cuts if whose == member]
        if any(noticed <= begin <= back for begin, _ in cuts):
            return 0.0
        return back - max([noticed, *(end for begin, end in cuts if begin <= noticed <= end)])


@pytest.fixture(scope="module")
def day() -> Day:
    return Day(0).live()


@pytest.mark.long
def test_a_day_passes_without_a_lost_round(day: Day) -> None:
    assert day.clock.now < DAY + HOUR / 2
    assert len(day.disk.rounds) == 140
    whole = sum(len(updates) == day.members for _, updates in day.disk.rounds)
    assert whole > 100  # whoever is away for a short time is waited for


def test_after_a_short_cut_and_after_sleep_a_site_is_back_within_a_second(day: Day) -> None:
    waits = sorted(
        day.waited(noticed, member)
        for noticed, member in day.closings
        if member != 0 or not LONG[0] <= noticed <= LONG[1]
    )
    assert len([wait for wait in waits if wait > 0]) > 150
    assert waits[-1] <= 1.0 + HANDSHAKE


def test_in_a_long_cut_a_site_tries_less_and_less_often(day: Day) -> None:
    tries = [time for time, member in day.tries if member == 0 and LONG[0] < time < LONG[1]]
    assert 250 < len(tries) < 600  # a wait takes half a minute in the mean
    assert len([time for time in tries if time > LONG[1] - HOUR]) < 160


def test_nothing_grows_with_a_day(day: Day) -> None:
    for member, site in enumerate(day.sites):
        assert len(day.disks[member].noted[RUN].open) <= 3
        assert len(day.disks[member].replies) <= 3
        assert len(site.inbox._busy) + len(site.inbox._over) <= 3
        assert day.coordinator.outbox.waiting(member) == ()
