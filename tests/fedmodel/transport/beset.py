"""A coordinator and the site south at it, beset by an intruder who has all that north has."""

from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tests.fedmodel.transport.consortium import Consortium
from tests.fedmodel.transport.intruder import papers_of
from tests.fedmodel.transport.world import Coordinator, Site, signer_of, told, wait_until


class Beset:
    """Both parties, and north's papers.

    Args:
        root: of all folders.
        most: bytes that a reply may have.
    """

    def __init__(self, root: Path, most: int) -> None:
        self.consortium = Consortium(root)
        self.coordinator = Coordinator(self.consortium, root / "run", most=most)
        self.north, self.south = self.consortium.sites.values()
        self.papers = papers_of(self.north)
        self.signer = signer_of(self.north)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self.coordinator)
        self._stack.enter_context(Site(self.south, self.coordinator.address))
        self.coordinator.wait_for(1)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def check_round(self) -> None:
        """Check that south answers, and that nothing of the intruder is left."""
        (answer,) = self.coordinator.ask(b"round", [2])
        assert (told(answer), answer.reason) == (b"round", "")
        hub = self.coordinator.hub
        wait_until(lambda: set(hub.callers) == {2} and self.coordinator.server.greeting == 0)
        assert hub.open == {}
        assert [mail.partial() for _, mail in hub._mail.values()] == [()] * len(hub._mail)
