"""A day of renewals on virtual time: certificates that end, one that is late, and one taken back.

With a laptop that sleeps for hours, a changed address, and connections that are closed for their
age.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fedmodel.errors import ExpiredError, FedmodelError, RevokedError
from fedmodel.transport.backoff import LONGEST
from fedmodel.transport.caller import Caller
from fedmodel.transport.hub import _SLOW_TICK_S as LOOK
from tests.fedmodel.transport.papers import Papers
from tests.fedmodel.transport.test_a_day import DAY, HANDSHAKE, HOUR
from tests.fedmodel.transport.toy_coordinator import Coordinator
from tests.fedmodel.transport.toy_world import World
from tests.fedmodel.transport.virtual import Stream

pytestmark = [pytest.mark.long, pytest.mark.slow]

OFFICE, PROMPT, LATE, GONE = 0, 1, 2, 3  # the coordinator, and what the sites are like
RENEWED, END, LATER = 2 * HOUR, 3 * HOUR, 4 * HOUR
SLEEP, WAKES = 8 * HOUR, 11 * HOUR
AGE, MOVES, REVOKED = 12 * HOUR, 14 * HOUR, 16 * HOUR
NOTICE = 45.0  # seconds until an end notices that the other is gone, at most
BACK = 1.0 + HANDSHAKE


class Day(World):
    """Three sites that train every ten minutes.

    Args:
        folder: of what they are known by.
        patch: puts the virtual clock where the real one is looked at.
    """

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.papers: Papers | None = None
        self.callers: dict[int, Caller] = {}
        self.refused: list[tuple[float, int, FedmodelError]] = []
        self.let_go: list[tuple[float, int, str]] = []
        self.asleep = False
        super().__init__(0, everybody=False)
        if self.members != 3:
            raise ValueError(f"expected 3 members, got {self.members}")
        self.rounds, self.pause = 140, 595.0
        self.faults.dies = self.faults.lost = self.faults.duplicated = 0.0
        self.faults.slow, self.faults.notice = 0.1, 0.0
        self.healed = True  # nothing fails but what follows
        self.papers = Papers(folder, self.clock, self.members, DAY - END, patch)

    # -- what is looked at -----------------------------------------------------------------------

    def route(self, member: int) -> Coordinator | None:
        found, papers = super().route(member), self.papers
        if found is None or papers is None or (self.asleep and member + 1 == LATE):
            return None
        try:
            self.callers[member] = papers.connect(member + 1, lambda: None)
        except FedmodelError as error:
            self.refused.append((self.clock.now, member + 1, error))
            return None
        return found

    def _look(self) -> None:
        """Look who may no longer be here, as the hub does every twenty seconds."""
        assert self.papers is not None
        look = self.papers.hub.rosters.look()
        for site, _, stream in list(self.streams):
            caller = self.callers[site.member]
            if not stream.cut_off and (why := caller.outdated(look)) is not None:
                self.let_go.append((self.clock.now, site.member + 1, why))
                stream.cut()

    # -- what happens ----------------------------------------------------------------------------

    def live(self) -> "Day":
        at, papers = self.clock.at, self.papers
        assert papers is not None
        at(RENEWED, lambda: papers.renew(OFFICE))
        at(RENEWED, lambda: papers.renew(PROMPT))
        at(RENEWED, lambda: papers.renew(GONE))
        at(LATER, lambda: papers.renew(LATE))
        at(SLEEP, lambda: self._sleep(LATE - 1))
        at(WAKES, lambda: self._wake(LATE - 1))
        at(AGE, self.cut)
        at(MOVES, lambda: self._move(PROMPT - 1))
        at(REVOKED, lambda: papers.revoke(GONE))
        for time in range(0, int(DAY), 600):
            at(float(time), self._look)
        for about in (RENEWED, END, LATER, REVOKED):
            for tick in range(1, 16):
                at(about + tick * LOOK + 1.0, self._look)
        self.clock.run(DAY + HOUR, lambda: self.coordinator.finished)
        self._check()
        return self

    def _stream_of(self, member: int) -> Stream:
        return next(s for site, _, s in self.streams if site.member == member and not s.cut_off)

    def _sleep(self, member: int) -> None:
        self.asleep = True
        self._half_open(self._stream_of(member), site_sees=NOTICE)

    def _wake(self, member: int) -> None:
        self.asleep = False
        self.sites[member].hint()

    def _move(self, member: int) -> None:
        """Change a site's address: it notices at once, and the coordinator doesn't for long."""
        self._half_open(self._stream_of(member), site_sees=0.0)

    def _half_open(self, stream: Stream, *, site_sees: float) -> None:
        stream.cut_off = True
        stream._drops = {True: True, False: True}
        self.clock.after(site_sees, lambda: stream._close(False))
        self.clock.after(NOTICE, lambda: stream._close(True))

    # -- what is asked about it ------------------------------------------------------------------

    def welcomed(self, number: int, since: float) -> float:
        """Return when a site was let in next."""
        return min(t for t, member in self.welcomes if member + 1 == number and t >= since)

    def of_all(self, since: float, until: float) -> set[int]:
        """Return how many updates the rounds had between two hours, as far as they can be told."""
        begin, end = (int(time / (self.pause + 5.0)) for time in (since, until))
        return {len(updates) for _, updates in self.disk.rounds[begin + 1 : end - 1]}


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    with pytest.MonkeyPatch.context() as patch:
        day = Day(tmp_path_factory.mktemp("papers"), patch)
        yield day.live()
        assert day.papers is not None
        day.papers.close()


def test_who_has_renewed_is_let_go_at_the_old_ones_end_and_is_back_at_once(day: Day) -> None:
    for number in (PROMPT, GONE):
        (gone,) = [time for time, who, _ in day.let_go if who == number and time < SLEEP]
        assert END <= gone <= END + LOOK + 1.0
        assert day.welcomed(number, gone) <= gone + BACK
    assert not [who for _, who, _ in day.refused if who == PROMPT]


def test_who_renews_late_is_kept_out_until_then_and_needs_no_restart(day: Day) -> None:
    (gone,) = [time for time, who, _ in day.let_go if who == LATE]
    assert END <= gone <= END + LOOK + 1.0
    kept_out = [(time, error) for time, who, error in day.refused if who == LATE]
    assert len(kept_out) > 60
    assert all(END <= time < LATER and isinstance(error, ExpiredError) for time, error in kept_out)
    assert LATER <= day.welcomed(LATE, gone) <= LATER + LONGEST + BACK
    assert day.of_all(END + 600, LATER) == {2}


def test_after_hours_of_sleep_and_with_another_address_a_site_is_back_within_a_second(
    day: Day,
) -> None:
    assert day.of_all(SLEEP + 600, WAKES) == {2}
    assert day.welcomed(LATE, SLEEP) >= WAKES
    assert day.welcomed(LATE, WAKES) <= WAKES + BACK
    assert day.welcomed(PROMPT, MOVES) <= MOVES + BACK
    # That the coordinator notices later what has long been replaced changes nothing.
    assert day.of_all(WAKES, REVOKED) == {3}


def test_who_is_taken_back_is_let_go_within_a_minute_and_never_let_in_again(day: Day) -> None:
    gone, why = next((t, why) for t, who, why in day.let_go if who == GONE and t >= REVOKED)
    assert gone <= REVOKED + 60.0
    assert "was taken back by version" in why
    assert not [t for t, member in day.welcomes if member + 1 == GONE and t > gone]
    refused = [error for t, who, error in day.refused if who == GONE]
    assert len(refused) > 200
    assert all(isinstance(error, RevokedError) for error in refused)
    assert day.of_all(REVOKED + 600, DAY) == {2}


def test_all_rounds_came_about(day: Day) -> None:
    assert len(day.disk.rounds) == 140
    assert day.clock.now < DAY + HOUR / 2
