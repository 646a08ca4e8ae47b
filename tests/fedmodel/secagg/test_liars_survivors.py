"""A coordinator that lies about who is there: see ``test_liars.py``."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fedmodel.errors import (
    EquivocationError,
    FedmodelError,
    FloorError,
    ProtocolError,
)
from fedmodel.secagg.agreement import Agreement, Floors
from fedmodel.secagg.messages import (
    Consent,
    Request,
    Survivors,
    decode,
    encode,
)
from fedmodel.secagg.participant import Participant

if TYPE_CHECKING:
    from tests.fedmodel.secagg.conftest import World


class NoFloors(Floors):
    def check(self, *, cohort: int, survivors: int, threshold: int, colluders: int) -> None:
        pass


class Trusting(Participant):
    """Asks for nobody's consent."""

    def _check_consents(self, consents: Sequence[Consent], told: Survivors, threshold: int) -> None:
        pass


class Changing(Participant):
    """Believes whatever it is told last of who takes part."""

    def consent(self, data: bytes) -> bytes:
        assert self._attempt is not None
        self._attempt.takers = decode(Survivors, data).takers
        return super().consent(data)


def test_a_threshold_that_two_sets_meet(worlds: "type[World]") -> None:
    # Two of five are told that site 1 is there, two that it isn't; each two consent.
    with pytest.raises(FloorError, match="threshold of 2 among 4 sites with 1 colluders"):
        worlds(5, survivors=4, threshold=2, colluders=1)
    with pytest.raises(FloorError, match="a threshold of 2 among 4 sites"):
        worlds(5, survivors=4, threshold=2)
    world = worlds(5, survivors=3, threshold=2)  # would do for three sites
    with pytest.raises(FloorError, match="a threshold of 2 among 5 sites"):
        world.sites[1].open(world.begin().open_for(1))
    world = worlds(5, survivors=3, threshold=2, floors=NoFloors())
    both_kinds(world, {2: (1, 2, 3, 4, 5), 3: (1, 2, 3, 4, 5), 4: (2, 3, 4, 5), 5: (2, 3, 4, 5)})


def both_kinds(world: "World", told: dict[int, tuple[int, ...]]) -> None:
    """Have some believe that site 1 survived and others that it didn't; recover its vector."""
    view, x = world.view(), world.vectors()
    attempt = world.begin()
    world.share(attempt, view=view)
    world.upload(attempt, x, view=view)
    sets = {n: world.told(attempt, attempt.takers, told[n]) for n in told}
    consents = {n: world.sites[n].consent(sets[n]) for n in told}
    reveals = []
    for n in told:
        alike = [consents[m] for m in told if told[m] == told[n]]
        reveals.append(world.sites[n].reveal(world.request(attempt, alike)))
    self_seed = world.secret(reveals, "self", 1, attempt._graph.threshold)
    pairs = world.recovered(view, attempt, reveals, (1,))[1]
    assert world.is_plain(world.unpair(1, view.uploads[1][1], pairs, self_seed), x[1])


# -- survivors -------------------------------------------------------------------------------------


def test_different_survivors_are_noticed(world: "World") -> None:
    attempt = world.at("consent")
    sets = {n: (1, 2, 3, 4, 5) if n < 4 else (2, 3, 4, 5) for n in world.numbers}
    consents = [
        site.consent(world.told(attempt, world.numbers, sets[n])) for n, site in world.sites.items()
    ]
    for n in (4, 5):
        with pytest.raises(EquivocationError, match="2 sites have agreed on the survivors, 3 must"):
            world.sites[n].reveal(world.request(attempt, consents[3:]))
        with pytest.raises(EquivocationError, match="site 3 hasn't signed the survivors that"):
            world.sites[n].reveal(world.request(attempt, consents[2:]))
    # The three who were told the same may go on.
    assert world.sites[1].reveal(world.request(attempt, consents[:3]))


@pytest.mark.slow
@pytest.mark.long
def test_both_kinds_among_neighbours(worlds: "type[World]") -> None:
    # Each site answers once; half of site 1's neighbours give the one kind, half the other.
    world = worlds(51, survivors=44, count=8, site_class=Trusting)
    graph = world.begin()._graph
    holders = graph.holders(1)
    assert not graph.complete
    assert 2 * graph.threshold <= len(holders)
    there = {1, *[n for n in holders if n != 1][: graph.threshold - 1]}
    without = tuple(n for n in world.numbers if n != 1)
    both_kinds(world, {n: world.numbers if n in there else without for n in holders})


def test_fewer_than_anybody_was_told(worlds: "type[World]") -> None:
    # Each believes in three survivors at least; the majority's answers leave two.
    world = worlds(5, site_class=Trusting)
    view, x, attempt = world.view(), world.vectors(), world.begin()
    world.share(attempt, view=view)
    world.upload(attempt, x, view=view)
    gone = {1: (2, 3), 2: (1, 3), 3: (1, 2), 4: (1, 2), 5: (1, 3)}
    reveals = []
    for n, site in world.sites.items():
        site.consent(world.told(attempt, world.numbers, set(world.numbers) - set(gone[n])))
        reveals.append(site.reveal(world.request(attempt, ())))
    masks = world.recovered(view, attempt, reveals, (1, 2, 3))
    add = [masks[n][m] for n in masks for m in (4, 5) if n < m]
    selves = [world.secret(reveals, "self", n, attempt._graph.threshold) for n in (4, 5)]
    found = world.strip([view.uploads[n][1] for n in (4, 5)], add=add, subtract=selves)
    assert world.is_plain(found, x[4] + x[5])


def test_different_takers(worlds: "type[World]") -> None:
    # Site 1 masks with 2 and 3 only, who are then said to have dropped out.
    def play(site_class: type[Participant]) -> tuple["World", Any, Any, list[bytes], Any]:
        world = worlds(5, site_class=site_class)
        view, x, attempt = world.view(), world.vectors(), world.begin()
        world.share(attempt, view=view)
        for n, site in world.sites.items():
            takers = (1, 2, 3) if n == 1 else world.numbers
            site.deliver(world.deliver_message(attempt, view, n, takers))
            view.uploads[n] = site.upload(world.writer(x[n]))
        told = world.told(attempt, world.numbers, (1, 4, 5))
        consents = [world.sites[n].consent(told) for n in (4, 5)]
        return world, view, attempt, consents, x

    world, view, attempt, consents, x = play(Participant)
    told = world.told(attempt, world.numbers, (1, 4, 5))
    with pytest.raises(EquivocationError, match="the sites that take part differ from those"):
        world.sites[1].consent(told)
    with pytest.raises(EquivocationError, match="2 sites have agreed on the survivors, 3 must"):
        world.sites[4].reveal(world.request(attempt, consents))

    world, view, attempt, consents, x = play(Changing)
    consents.append(world.sites[1].consent(told))
    reveals = [world.sites[n].reveal(world.request(attempt, consents)) for n in (1, 4, 5)]
    self_seed = world.secret(reveals, "self", 1, attempt._graph.threshold)
    pairs = {n: p[1] for n, p in world.recovered(view, attempt, reveals, (2, 3)).items()}
    assert world.is_plain(world.unpair(1, view.uploads[1][1], pairs, self_seed), x[1])


@pytest.mark.long
def test_missing_neighbours_that_are_there(
    worlds: "type[World]", monkeypatch: pytest.MonkeyPatch
) -> None:
    # In a sparse graph the victim needn't even consent: half of its neighbours it is told are
    # missing, so it doesn't mask with them, but they hold its shares; the other half drop out.
    world = worlds(51, survivors=44, count=8)
    view, x, attempt = world.view(), world.vectors(), world.begin()
    graph, victim = attempt._graph, world.numbers[17]
    assert not graph.complete
    around = [n for n in graph.ring if n in graph.neighbours(victim)]
    hidden, dropped = around[::2], around[1::2]  # so that no row on the ring is quite empty
    assert len(hidden) >= graph.threshold
    world.share(attempt, view=view)
    lie = world.deliver_message(attempt, view, victim, set(world.numbers) - set(hidden))
    for n, site in world.sites.items():
        site.deliver(lie if n == victim else attempt.deliver_for(n))
        view.uploads[n] = site.upload(world.writer(x[n]))
    survivors = [n for n in world.numbers if n not in dropped]
    told = world.told(attempt, world.numbers, survivors)
    willing = [n for n in survivors if n != victim]
    request = world.request(attempt, [world.sites[n].consent(told) for n in willing])
    for n in hidden:
        with pytest.raises(EquivocationError, match="site 18 hasn't signed that it masked for"):
            world.sites[n].reveal(request)

    monkeypatch.setattr(Participant, "_check_pledges", lambda *_: None)
    reveals = [world.sites[n].reveal(request) for n in willing]
    self_seed = world.secret(reveals, "self", victim, graph.threshold)
    masks = world.recovered(view, attempt, reveals, dropped)
    pairs = {n: masks[n][victim] for n in dropped}
    found = world.unpair(victim, view.uploads[victim][1], pairs, self_seed)
    assert world.is_plain(found, x[victim])


@pytest.mark.parametrize(
    ("takers", "survivors", "error", "said"),
    [
        ((1, 2, 3, 4), (1, 2, 3, 4), EquivocationError, "that take part differ"),
        ((1, 2, 3, 4, 5), (2, 3, 4, 5), ProtocolError, "isn't among the survivors"),
        ((1, 2, 3, 4, 5), (1, 2), FloorError, "2 survivors are left, 3 are needed"),
        ((1, 2, 3, 4, 5), (1,), FloorError, "1 survivors are left, 3 are needed"),
        ((1, 2, 3, 4, 5), (1, 2, 3, 9), ProtocolError, r"survivors \[9\] weren't among those"),
    ],
)
def test_wrong_survivors(
    world: "World",
    takers: tuple[int, ...],
    survivors: tuple[int, ...],
    error: type[FedmodelError],
    said: str,
) -> None:
    attempt = world.at("consent")
    with pytest.raises(error, match=said):
        world.sites[1].consent(world.told(attempt, takers, survivors))
    world.consent(attempt)
    world.reveal(attempt)
    assert world.is_plain(attempt.total(), sum(world.vectors().values(), np.zeros(40, np.int64)))


def test_floors_of_the_site_hold_for_survivors(worlds: "type[World]") -> None:
    world = worlds(5)
    world.sites[1]._floors = Floors(survivors=4)
    with pytest.raises(FloorError, match="floor for survivors"):
        world.sites[1].open(world.begin().open_for(1))


def test_agreement_is_the_sites_own(worlds: "type[World]") -> None:
    agreed = worlds(5).agreement
    lowered = replace(agreed, threshold=1)
    assert isinstance(lowered, Agreement)
    world = worlds(5)
    world.coordinator.agreement = lowered
    with pytest.raises(FloorError, match="lowers the threshold from 3 to 1"):
        world.sites[1].open(world.begin().open_for(1))


def test_requests_and_consents_are_not_mixed(world: "World") -> None:
    attempt = world.at("reveal")
    request = decode(Request, attempt.request_for(1))
    few = encode(replace(request, consents=request.consents[:2]))
    with pytest.raises(EquivocationError, match="2 sites have agreed on the survivors, 3 must"):
        world.sites[1].reveal(few)
