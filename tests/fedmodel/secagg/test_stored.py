"""An attempt that was stored between consents and reveals goes on as it was, or isn't used."""

from typing import TYPE_CHECKING

import pytest

from fedmodel.errors import ProtocolError
from fedmodel.secagg.blame import Blame
from fedmodel.secagg.stored import restored, stored

if TYPE_CHECKING:
    from tests.fedmodel.secagg.conftest import World


def test_it_asks_the_very_same_and_comes_to_the_same_sum(worlds: "type[World]") -> None:
    world = worlds(6, survivors=4, colluders=1)
    x, attempt = world.vectors(), world.begin()
    world.share(attempt)
    world.upload(attempt, x, but=(5,))
    with pytest.raises(ProtocolError, match="only an attempt whose consents are closed"):
        stored(attempt)
    world.consent(attempt, but=(6,))
    data = b"".join(stored(attempt))
    found = restored(data, world.members, Blame(1))
    assert found is not None
    assert found.short
    for n in attempt.survivors:
        assert found.request_for(n) == attempt.request_for(n)
    world.reveal(found, but=(6,))
    assert (found.total() == world.ring_sum(x, (1, 2, 3, 4, 6))).all()


def test_what_is_not_whole_is_not_used(worlds: "type[World]") -> None:
    world = worlds(4, count=3)
    data = b"".join(stored(world.at("reveal")))
    assert restored(data, world.members, Blame(0)) is not None
    for bad in (
        b"",
        data[:-1],
        data + b"\0",
        data.replace(b'"survivors":[1', b'"survivors":[2', 1),
        data.replace(b"attempt/1", b"attempt/2", 1),
        data.partition(b"\n")[2],
    ):
        assert restored(bad, world.members, Blame(0)) is None
