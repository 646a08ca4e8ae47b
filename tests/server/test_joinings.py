"""Joinings of a run: when all join anew, who is asked, and of what a quorum is counted."""

import logging
from collections.abc import Callable, Collection
from typing import Any

import pytest
from flwr.app import Context, RecordDict
from flwr.supercore.run import Run

from fedmodel.errors import NewerRosterError, QuorumError, RefusedError, UnjoinedError
from server import rounds
from server.coordinator import Coordinator, RunResult, Silent
from server.exchange.channel import Channel
from simulations.faults import KnowingGrid
from tests.server.exchange import masked
from tests.server.exchange.test_blamed import cut
from tests.server.made_up import INITIAL, NODES, PRIVATE, Sites, job_of, only
from tests.server.test_held_out import released_job

Event = Callable[[KnowingGrid], None]


class Noting(KnowingGrid):
    """Notes whom it carries offers to; what restarts is only called another."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.offered: list[int] = []

    def restart(self, node: int) -> None:
        """Only be another one."""
        self.restarts[node] += 1

    def _carried(self, message: Any) -> Any:
        node = message.metadata.dst_node_id
        if message.metadata.message_type == "query.join" and node not in self.away:
            self.offered.append(node)
        return super()._carried(message)


class Events(Silent):
    """Lets something happen after rounds."""

    def __init__(self, grid: KnowingGrid, after: dict[int, Event]) -> None:
        self.grid, self.after = grid, after

    def round_ended(self, number: int, metrics: dict[str, Any], gave: Collection[int] = ()) -> None:
        if number in self.after:
            self.after[number](self.grid)


def play(
    job: Any, sites: Sites, after: dict[int, Event] | None = None, **parts: Any
) -> tuple[RunResult, Noting]:
    contexts = {n: Context(1, n, {}, RecordDict(), {}) for n in NODES}
    grid = Noting(sites.app(), contexts, Run.create_empty(1))
    grid.away = parts.pop("away", frozenset())
    told = Events(grid, after or {})
    coordinator = Coordinator(job=job, folder=None, initial=INITIAL, reporter=told, **parts)
    return rounds.run(Channel(grid), coordinator), grid


def away(*nodes: int) -> Event:
    return lambda grid: setattr(grid, "away", frozenset(nodes))


def test_nobody_joins_anew_where_nobody_is_another() -> None:
    result, grid = play(job_of(3), Sites())
    assert grid.offered == list(NODES)
    assert result.rounds == 3


def test_who_was_away_joins_when_it_comes() -> None:
    sites = Sites()
    result, grid = play(job_of(3), sites, {1: away()}, away=frozenset({4}))
    assert [sites.asked(r) for r in (1, 2, 3)] == [[2, 3, 5], [2, 3, 4, 5], [2, 3, 4, 5]]
    assert grid.offered.count(4) == 1
    assert grid.offered.count(2) == 2
    assert result.refused == {}


def test_who_goes_is_left_out_from_the_next_joining_until_it_comes_again() -> None:
    def gone(grid: KnowingGrid) -> None:
        grid.away = frozenset({4})
        grid.restart(2)

    sites = Sites()
    result, _ = play(job_of(4), sites, {1: gone, 3: away()})
    assert [sites.asked(r) for r in (2, 3, 4)] == [[2, 3, 5], [2, 3, 5], [2, 3, 4, 5]]
    assert result.updates == {2: 4, 3: 4, 4: 2, 5: 4}
    assert result.refused == {}  # it has joined once


@pytest.mark.parametrize("by_policy", [True, False])
def test_who_has_refused_by_its_policy_is_asked_again_when_it_is_another_process(
    *, by_policy: bool
) -> None:
    error = RefusedError("our rules")
    error.rule = "limits.rounds: 3, 2 are allowed" if by_policy else None
    sites = Sites(joining=only(4, error=error))
    result, grid = play(job_of(4), sites, {1: lambda g: g.restart(2)})
    assert grid.offered.count(4) == (1 if by_policy else 2)  # or else its people may agree yet
    assert grid.offered.count(2) == 2
    assert result.refused == {4: "our rules"}
    _, grid = play(job_of(4), sites, {1: lambda g: g.restart(4)})
    assert grid.offered.count(4) == 2


def test_who_is_excluded_is_never_a_reason_to_join_anew() -> None:
    exclude = frozenset({3})
    _, grid = play(job_of(3), Sites(), {1: lambda g: g.restart(3)}, exclude=exclude)
    assert grid.offered == [2, 4, 5]


def test_there_is_one_new_joining_a_round_however_often_a_site_restarts() -> None:
    def trouble(node: int, round_: int) -> Exception | None:
        return UnjoinedError("who are you?") if node in (3, 4, 5) else None

    sites = Sites(trouble)
    made = job_of(2, quorum=0.5, below_quorum="skip")
    with pytest.raises(QuorumError, match="nothing was trained"):
        play(made, sites)
    # The first round is asked once more; before the second it is known.
    assert [sites.orders.count((r, 2)) for r in (1, 2)] == [2, 1]


def test_who_has_joined_anew_is_no_stranger_any_more() -> None:
    asked: list[int] = []

    def trouble(node: int, round_: int) -> Exception | None:
        asked.append(node)
        return UnjoinedError("who are you?") if node == 3 and asked.count(3) == 1 else None

    result, grid = play(job_of(4, quorum=0.5), Sites(trouble))
    assert grid.offered == [*NODES, *NODES]
    assert result.rounds == 4


def test_who_restarts_while_all_join_joins_anew_before_the_next_round() -> None:
    class Restarting(Noting):
        def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> Any:
            found = list(messages)
            answers = super().send_and_receive(found, timeout=timeout)
            if found[0].metadata.message_type == "query.join" and not self.restarts[3]:
                self.restart(3)
            return answers

    sites = masked.Sites(masked.job_of(rounds=2))
    masked.play(sites, grid=Restarting)
    assert sites.talk.count(("query.join", 3)) == 2


def test_who_has_joined_once_and_went_for_good_has_not_refused() -> None:
    def gone(grid: KnowingGrid) -> None:
        grid.away = frozenset({4})
        grid.restart(2)

    result, grid = play(job_of(3), Sites(), {1: gone})
    assert grid.offered.count(2) == 2
    assert (result.refused, result.updates[4]) == ({}, 1)


def test_a_quorum_counts_those_that_are_away() -> None:
    with pytest.raises(QuorumError, match=r"2 of 4 sites joined, 3 are needed") as caught:
        play(job_of(2, quorum=0.75), Sites(), away=frozenset({3, 4}))
    assert caught.value.attainable

    def gone(grid: KnowingGrid) -> None:
        grid.away = frozenset({3, 4})
        grid.restart(2)

    sites = Sites()
    with pytest.raises(QuorumError, match=r"0 of 4 sites .*3 are needed .*so none was asked"):
        play(job_of(3, quorum=0.75), sites, {1: gone})
    assert sites.asked(2) == []
    # Also where nobody has restarted, and the others are gone when they are asked.
    with pytest.raises(QuorumError, match=r"round 2: 2 of 4 sites") as caught:
        play(job_of(3, quorum=0.75), Sites(), {1: away(3, 4)})
    assert caught.value.attainable
    # Who has refused doesn't come, and with those who are away there would be too few.
    refusing = Sites(joining=only(2, 3, error=RefusedError("our rules")))
    with pytest.raises(QuorumError, match="1 of 4 sites joined") as caught:
        play(job_of(2, quorum=0.75), refusing, away=frozenset({4}))
    assert (caught.value.passing, caught.value.attainable) == (True, False)


def test_who_refuses_is_not_counted_in_a_rounds_quorum() -> None:
    sites = Sites(only(2, error=ValueError()), joining=only(3, error=RefusedError("no")))
    result, _ = play(job_of(1, quorum=0.6), sites)
    assert result.updates == {2: 0, 4: 1, 5: 1}  # two of three


def test_who_has_a_newer_roster_than_the_run_is_counted_for_it_may_come() -> None:
    ahead: set[int] = {3}

    def joining(node: int, _: int) -> Exception | None:
        return NewerRosterError("ours is newer") if node in ahead else None

    with pytest.raises(QuorumError, match=r"3 of 4 sites joined, 4 are needed") as caught:
        play(job_of(2, quorum=1.0), Sites(joining=joining))
    found = caught.value
    assert (found.passing, found.ahead, found.attainable) == (True, 1, True)
    ahead.clear()

    def taken_over(grid: KnowingGrid) -> None:
        ahead.update({2, 3})
        grid.restart(2)

    with pytest.raises(QuorumError, match=r"round 2: 0 of 4 sites .*3 are needed") as caught:
        play(job_of(3, quorum=0.75), Sites(joining=joining), {1: taken_over})
    found = caught.value
    assert (found.passing, found.ahead, found.attainable) == (True, 2, True)


def test_the_grace_lets_sites_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    grids: list[KnowingGrid] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            grids[0].away = frozenset()

    monkeypatch.setattr("server.joinings.time.sleep", sleep)

    def gone(grid: KnowingGrid) -> None:
        grids.append(grid)
        grid.away = frozenset({3, 4, 5})

    sites = Sites()
    result, _ = play(job_of(2, quorum=0.75), sites, {1: gone}, grace=600.0)
    assert len(slept) == 3
    assert result.updates == dict.fromkeys(NODES, 2)
    with pytest.raises(QuorumError):
        play(job_of(2, quorum=0.75), sites, {1: gone})
    assert len(slept) == 3


@pytest.mark.parametrize("why", ["left out", "refused", "ahead"])
def test_who_gives_nothing_is_none_of_those_that_the_grace_waits_for(
    why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With whom is connected and gives nothing there would be enough."""
    grids: list[KnowingGrid] = []
    monkeypatch.setattr("server.joinings.time.sleep", lambda _: away()(grids[0]))

    def gone(grid: KnowingGrid) -> None:
        grids.append(grid)
        grid.away = frozenset({5})

    sites, out = Sites(), frozenset({2})
    errors = {"refused": RefusedError("our rules"), "ahead": NewerRosterError("ours is newer")}
    if why in errors:
        sites, out = Sites(joining=only(2, error=errors[why])), frozenset()
    result, _ = play(job_of(2, quorum=0.7), sites, {1: gone}, grace=600.0, exclude=out)
    assert {node: result.updates[node] for node in (3, 4, 5)} == {3: 2, 4: 2, 5: 2}


def test_before_the_evaluation_all_join_anew_too() -> None:
    sites = Sites()
    _, grid = play(released_job(), sites, {3: lambda g: g.restart(2)})
    assert grid.offered == [*NODES, *NODES]
    assert len(sites.released) == len(NODES)
    assert PRIVATE.private


def test_who_was_proved_wrong_stays_so_in_the_next_joining(caplog: Any) -> None:
    class Restarting(Noting):
        def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> Any:
            found = list(messages)
            if found and found[0].metadata.message_type == "query.reveal":
                self.restart(3)
            return super().send_and_receive(found, timeout=timeout)

    sites = masked.Sites(masked.job_of(rounds=3), cut)
    caplog.set_level(logging.INFO)
    _, rows = masked.play(sites, grid=Restarting)
    assert sites.talk.count(("query.join", 4)) == 3
    assert sites.talk.count(("query.open", 4)) == 1
    assert [row["updates"] for row in rows] == [4, 4, 4]
    assert [set(row["blamed"]) for row in rows] == [{"4"}] * 3
    assert "all joined anew: 5 of 5 sites take part" in caplog.text


def test_a_sum_that_lacks_only_sites_that_are_away_may_be_tried_again() -> None:
    """Of those that were there nothing counts, either: that is no reason to give up."""

    class Leaving(Noting):
        def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> Any:
            found = list(messages)
            if found and found[0].metadata.message_type == "train":
                self.away = frozenset({4, 5})
            return super().send_and_receive(found, timeout=timeout)

    with pytest.raises(QuorumError, match="0 of 5 sites gave an update") as caught:
        masked.play(masked.Sites(masked.job_of()), grid=Leaving)
    assert (caught.value.passing, caught.value.attainable) == (True, True)
