"""A toy federation's whole life, from one seed: its members, faults, rivals, and its healing."""

import random
from pathlib import Path
from typing import Literal

from fedmodel.transport.inbox import Store
from fedmodel.transport.outbox import Outbox
from fedmodel.transport.stamps import Standing
from tests.fedmodel.transport.toy import (
    CoordinatorDisk,
    Kinds,
    Mortal,
    OnFiles,
    SiteDisk,
    Watch,
    without_faults,
)
from tests.fedmodel.transport.toy_coordinator import Coordinator
from tests.fedmodel.transport.toy_site import Site
from tests.fedmodel.transport.virtual import Clock, Faults, Killed, Stream

FAULTS = ("cut", "cut", "cut", "site", "coordinator", "down", "full", "rival")
RECOVERS = 1500.0  # seconds of virtual time within which a run ends once nothing fails any more

REAL = Kinds()

Rivals = Literal["none", "zombie", "twin", "copy", "careless"]
RIVALS: tuple[Rivals, ...] = ("none", "zombie", "twin", "copy", "careless")


class Careless(Outbox):
    """A coordinator that doesn't care whether a site has obeyed another one."""

    def _check_same(self, known: object, member: int, standing: Standing) -> None:
        pass


class World:
    """One schedule.

    Args:
        seed: of everything.
        rivals: which other coordinators come up: an old one that was thought to be dead, one of a
            copy of the run folder, a snapshot of its machine, or such a snapshot that doesn't look
            where sites stand.
        kinds: the classes that take part.
        everybody: whether a round needs the updates of all sites, and not just of most.
        folder: to keep inboxes in files of; otherwise they are kept in memory.
    """

    def __init__(
        self,
        seed: int,
        rivals: Rivals = "none",
        kinds: Kinds = REAL,
        everybody: bool = True,
        folder: Path | None = None,
    ) -> None:
        self.rng = random.Random(seed)
        self.folder = folder
        self.clock, self.faults = Clock(), Faults(self.rng)
        self.kinds, self.rivals = kinds, rivals
        # Whoever wakes up as a copy has no right to be read after its stream was replaced.
        self.leaky = rivals != "copy"
        self.members = self.rng.randint(2, 4)
        self.rounds = self.rng.randint(2, 4)
        self.needed = self.members if everybody else self.members // 2 + 1
        self.pause = 0.5
        self.watch = Watch(self.members)
        self.streams: list[tuple[Site, Coordinator, Stream]] = []
        self.disks = [SiteDisk() for _ in range(self.members)]
        self.disk = CoordinatorDisk()
        self.healed = self.rivals_ever = False
        self.welcomes: list[tuple[float, int]] = []
        self.closings: list[tuple[float, int]] = []
        self.tries: list[tuple[float, int]] = []
        self._others: list[Coordinator] = []
        self.down = [0.0] * self.members  # until when a site can't reach anybody
        self.coordinator = Coordinator(self, self.disk, kinds.outbox)
        self.sites = [Site(self, member) for member in range(self.members)]

    # -- what parties ask ------------------------------------------------------------------------

    def store(self, member: int) -> Store:
        """Return what a new process of a site keeps its inbox in."""
        disk = self.disks[member]
        if self.folder is None:
            return Mortal(disk, self.faults)
        return OnFiles(disk, self.faults, self.folder / str(member))

    def new_process(self, of: int | None = None) -> int:
        by = len(self.watch.given)
        self.watch.given[by] = list(self.watch.given.get(-1 if of is None else of, []))
        return by

    def route(self, member: int) -> Coordinator | None:
        """Return whom a site reaches now."""
        if self.down[member] > self.clock.now:
            return None
        alive = [c for c in (self.coordinator, *self._others) if c.alive]
        return self.rng.choice(alive) if alive else None

    def point(self) -> None:
        """Perhaps end the process that is at work."""
        if self.faults.hit(self.faults.dies):
            raise Killed

    def work(self) -> float:
        return 0.05 + (0.5 if self.healed else 8.0) * self.rng.random() ** 3

    def told_of_rival(self, coordinator: Coordinator) -> None:
        """Start the coordinator again, as its operator does who has read what it says."""
        if self.healed and coordinator is self.coordinator and coordinator.alive:
            self.kill_coordinator(coordinator)

    # -- faults ----------------------------------------------------------------------------------

    def kill_site(self, member: int) -> None:
        site = self.sites[member]
        if site.alive:
            self.watch.saw("site killed")
            site.alive = False
            self.cut(site)
            away = 0.1 + (2.0 if self.healed else 45.0) * self.rng.random() ** 3
            self.clock.after(away, lambda: self._start_site(member))

    def _start_site(self, member: int) -> None:
        self.sites[member] = Site(self, member)

    def kill_coordinator(self, coordinator: Coordinator) -> None:
        if not coordinator.alive:
            return
        coordinator.alive = False
        self.cut(coordinator)
        if coordinator is self.coordinator:
            self.watch.saw("coordinator killed")
            away = 0.1 + (2.0 if self.healed else 30.0) * self.rng.random() ** 3
            self.clock.after(away, self._start_coordinator)

    def _start_coordinator(self) -> None:
        if not self.coordinator.alive:
            if self.rivals == "twin" and not self.healed and self.faults.hit(0.5):
                self._rival(Coordinator(self, self.disk.copy(), self.kinds.outbox))
            self.coordinator = Coordinator(self, self.disk, self.kinds.outbox)

    def _rival(self, other: Coordinator) -> None:
        self.watch.saw("another coordinator")
        self.rivals_ever = True
        self._others.append(other)

    def _more_coordinators(self) -> None:
        first = self.coordinator
        if not first.alive or any(other.alive for other in self._others):
            return
        if self.rivals == "zombie":  # it is thought to be dead, and isn't
            first.disk = self.disk.copy()
            self._rival(first)
            self.coordinator = Coordinator(self, self.disk, self.kinds.outbox)
        elif self.rivals in ("copy", "careless"):
            other = first.copied()
            if self.rivals == "careless":
                other.outbox.__class__ = Careless
            first.by = self.new_process(first.by)
            self._rival(other)

    def cut(self, end: Site | Coordinator | None = None) -> None:
        self.streams = [each for each in self.streams if not each[2].cut_off]
        for site, coordinator, stream in self.streams:
            if end is None or end is site or end is coordinator:
                stream.cut()

    def _fault(self) -> None:
        if self.healed:
            return
        member = self.rng.randrange(self.members)
        what = self.rng.choice(FAULTS)
        if what == "cut":
            self.cut(self.sites[member])
        elif what == "site":
            self.kill_site(member)
        elif what == "coordinator":
            self.kill_coordinator(self.coordinator)
        elif what == "down":
            self.down[member] = self.clock.now + 60.0 * self.rng.random() ** 2
            self.cut(self.sites[member])
        elif what == "full":
            self.disks[member].full = True
            self.clock.after(20 * self.rng.random(), lambda: self._free(member))
        else:
            self._more_coordinators()
        self.clock.after(self.rng.expovariate(0.15), self._fault)

    def _free(self, member: int) -> None:
        self.disks[member].full = False

    def _heal(self) -> None:
        self.healed = True
        self.faults.heal()
        self.down = [0.0] * self.members
        for other in self._others:
            self.kill_coordinator(other)
        if self.coordinator.rivals:
            self.kill_coordinator(self.coordinator)

    # -- the whole -------------------------------------------------------------------------------

    def run(self) -> "World":
        """Live, heal, finish, and check what must hold."""
        until = self.rng.uniform(40.0, 150.0)
        self.clock.after(self.rng.expovariate(0.15), self._fault)
        self.clock.at(until, self._heal)
        self.clock.run(until + RECOVERS, lambda: self.healed and self.coordinator.finished)
        self._check()
        return self

    def _check(self) -> None:
        require, disk = self.watch.require, self.disk
        require(self.coordinator.finished, f"not finished by {self.clock.now}")
        require(len(disk.rounds) == self.rounds, "another number of rounds")
        for round_, (model, updates) in enumerate(disk.rounds):
            require(len(updates) >= self.needed, "a round of too few updates")
            for member, body in updates.items():
                kept = self.disks[member].updates.get((round_, model))
                require(kept == body, "counted another update than the site has made")
        for site in self.disks:
            require(len(site.ledger) == len(set(site.ledger)), "paid twice")
            require(set(site.updates) <= set(site.ledger), "made what wasn't paid for")
        if self.needed == self.members:
            final = without_faults(self.members, self.rounds)
            require(disk.model == final, "another model than without faults")
        if self.rivals != "careless":
            self.watch.check_one_history()
