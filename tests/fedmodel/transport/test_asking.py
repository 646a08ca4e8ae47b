"""A coordinator's end that asks many sites: side by side, and until it is interrupted."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from fedmodel.transport.call import Received
from fedmodel.transport.payloads import Part, digest_of
from tests.fedmodel.transport.consortium import Consortium
from tests.fedmodel.transport.world import Coordinator, Site, question, told, wait_until

pytestmark = pytest.mark.long


@pytest.fixture
def consortium(tmp_path: Path) -> Consortium:
    return Consortium(tmp_path)


@pytest.fixture
def coordinator(consortium: Consortium, tmp_path: Path) -> Iterator[Coordinator]:
    with Coordinator(consortium, tmp_path / "run") as made:
        yield made


def test_the_first_is_at_work_while_what_the_others_are_asked_is_hashed(
    consortium: Consortium, coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    north, south = consortium.sites.values()
    begun, hashed = threading.Event(), list[bool]()

    def hashing(parts: Sequence[Part]) -> str:
        if bytes(parts[0]) == b"two":
            hashed.append(begun.wait(60))
        return digest_of(parts)

    def work(received: Received) -> Sequence[Part]:
        begun.set()
        return [received.payload]

    monkeypatch.setattr("fedmodel.transport.hub.digest_of", hashing)
    with Site(north, coordinator.address, work), Site(south, coordinator.address):
        coordinator.wait_for(2)
        got = coordinator.hub.ask([question(1, b"one"), question(2, b"two")], 60)
    assert hashed == [True]
    assert [told(answer) for answer in got] == [b"one", b"two"]


def test_what_is_asked_when_asking_is_interrupted_is_waited_for_no_more(
    consortium: Consortium, coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def interrupted(parts: Sequence[Part]) -> str:
        if bytes(parts[0]) == b"two":
            assert begun.wait(60)
            raise KeyboardInterrupt
        return digest_of(parts)

    def hang(received: Received) -> Sequence[Part]:
        begun.set()
        go_on.wait(120)
        return [received.payload]

    monkeypatch.setattr("fedmodel.transport.hub.digest_of", interrupted)
    with Site(consortium.sites["north"], coordinator.address, hang):
        coordinator.wait_for(1)
        with pytest.raises(KeyboardInterrupt):
            coordinator.hub.ask([question(1, b"one"), question(2, b"two")], None)
        wait_until(lambda: not coordinator.hub.open, 30)
        go_on.set()
        (got,) = coordinator.ask(b"x", [1])
    assert told(got) == b"x"
