"""In a sparse graph: lies about who takes part must not cut some of the survivors off."""

from typing import TYPE_CHECKING

import pytest

from fedmodel.errors import EquivocationError
from fedmodel.secagg.participant import Participant

if TYPE_CHECKING:
    from tests.fedmodel.secagg.conftest import Vector, World


def cut(worlds: "type[World]") -> "tuple[World, list[int], Vector]":
    """Have a coordinator sum over 21 of 49 survivors that stand in a row on the ring.

    Those at both ends of the row are told that their neighbours beyond it are missing: so few
    that each site takes it. These do take part, and hold the shares that show the ends' self
    seeds. Two sites are said to have dropped out. The ends never answer again; all others agree.
    """
    world = worlds(51, survivors=44, count=8)
    view, x, attempt = world.view(), world.vectors(), world.begin()
    graph, side = attempt._graph, attempt._graph.degree // 2
    row = list(graph.ring[: 3 * side])
    beyond = (graph.ring[3 * side :], tuple(reversed(graph.ring[3 * side :])))
    dropped = {part[0] for part in beyond}
    survivors = set(world.numbers) - dropped
    ends = row[:side] + row[2 * side :]
    world.share(attempt, view=view)
    for n, site in world.sites.items():
        away = set(graph.neighbours(n)) - set(row) - dropped if n in ends else set[int]()
        site.deliver(world.deliver_message(attempt, view, n, set(world.numbers) - away))
        view.uploads[n] = site.upload(world.writer(x[n]))
    told = world.told(attempt, world.numbers, survivors)
    willing = sorted(survivors - set(ends))
    request = world.request(attempt, [world.sites[n].consent(told) for n in willing])
    reveals = [world.sites[n].reveal(request) for n in willing]
    selves = [world.secret(reveals, "self", n, graph.threshold) for n in row]
    add: list[bytes] = []
    subtract = selves
    for gone, masks in world.recovered(view, attempt, reveals, dropped).items():
        for n, seed in masks.items():
            if n in row:
                (subtract if gone > n else add).append(seed)
    found = world.strip([view.uploads[n][1] for n in row], add=add, subtract=subtract)
    return world, row, found


@pytest.mark.slow
@pytest.mark.long
def test_no_part_of_the_survivors_can_be_summed(
    worlds: "type[World]", monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EquivocationError, match="hasn't signed that it masked for the sites"):
        cut(worlds)
    monkeypatch.setattr(Participant, "_check_pledges", lambda *_: None)
    world, row, found = cut(worlds)
    x = world.vectors()
    assert world.is_plain(found, sum((x[n] for n in row), 0 * found))
