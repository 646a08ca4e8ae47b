"""Cost of the network between a coordinator and its sites, beside Flower's own, on loopback.

Both carry the same two apps (:mod:`simulations.benchmarks.transport_app`): an array goes to two
sites and comes back. All ends are processes of their own. fedmodel's have mutual TLS 1.3, signed
letters, hashes of all payloads, and replies on disk before they leave; Flower's SuperLink and
SuperNodes run without TLS, and start a process for each message. What is compared alternates; a
ratio is the median over the turns. Figures of memory are of resident pages above the start, those
of files that are mapped included.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from fedmodel import _files
from simulations.benchmarks.report import Figure, arguments, publish
from simulations.benchmarks.transport_ends import consortium
from simulations.benchmarks.transport_flower import available, flower
from simulations.benchmarks.transport_line import Line
from simulations.benchmarks.transport_processes import (
    Actor,
    Peaks,
    Processes,
    cpu_of,
    memory_of,
)

__all__ = ["QUICK", "fedmodel", "flower", "main"]

_GOALS = {
    "leg": 20.0,
    "core": 12.0,
    "ratio": 4.0,
    "memory": 3.0,
    "idle": 150.0,
    "share": 1.0,
    "back": 1.0,
}
_STARTING_S = 180.0
_LEGS = 50  # trivial messages of a turn
_LONG_CUT_S = 180.0
_EAGER_S = 30.0  # after longer cuts a site doesn't dial every second any more
_SETTLING_S = 5.0

Goals = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What is measured.

    Args:
        count: numbers of the array.
        turns: of what alternates.
        idle: sites that do nothing.
        seconds: for which they are watched.
        cuts: seconds that a line is cut for, each time.
    """

    count: int
    turns: int
    idle: int
    seconds: float
    cuts: Sequence[float]


QUICK = Sizes(count=10_000_000, turns=1, idle=50, seconds=5.0, cuts=[2.0])
_WHOLE = Sizes(count=100_000_000, turns=3, idle=200, seconds=60.0, cuts=[*[2.0] * 5, _LONG_CUT_S])


@dataclass(frozen=True, slots=True)
class Leg:
    """An array that went to all sites and came back.

    Args:
        wall: seconds.
        cpu: seconds of all processes together.
        memory: bytes above the start of coordinator and sites: resident, and of them in no file.
    """

    wall: float
    cpu: float
    memory: list[tuple[int, int]]


class Fedmodel:
    """A coordinator and its sites as processes.

    Args:
        processes: that they become.
        folder: for their files.
        sites: how many.
    """

    def __init__(self, processes: Processes, folder: Path, sites: int) -> None:
        self._processes = processes
        home, self._homes = consortium(folder, sites)
        self.actor = Actor(folder / "socket")
        self.ids = [self._start("coordinator", "coordinator", home, self.actor.path)]
        self.actor.accept(_STARTING_S)
        self.port: int = self.actor.tell("port")

    def _start(self, name: str, *arguments: object) -> int:
        program = [sys.executable, "-m", "simulations.benchmarks.transport_ends"]
        return self._processes.start(name, [*program, *map(str, arguments)])

    def connect(self, sites: slice, port: int) -> None:
        """Start a process of some sites, and wait until they are connected.

        Args:
            sites: which of them.
            port: that they dial.
        """
        homes = self._homes[sites]
        name = f"sites-{len(self.ids)}"
        before = self.actor.tell("wait", 0)
        self.ids.append(self._start(name, "sites", f"localhost:{port}", *homes))
        if self.actor.tell("wait", before + len(homes)) < before + len(homes):
            raise TimeoutError("not all sites have connected; see their logs")


@contextmanager
def fedmodel(folder: Path, sites: int) -> Iterator[Fedmodel]:
    """Run a coordinator to which sites can be connected."""
    env = {"PYTHONPATH": str(Path(__file__).parents[2])}
    with Processes(folder, env) as processes:
        made = Fedmodel(processes, folder, sites)
        yield made
        made.actor.close()


def leg(actor: Actor, ids: Sequence[int], count: int) -> Leg:
    """Measure an array's way to all sites and back, and check that it has come back."""
    with Peaks.of(ids) as peaks:
        actor.tell("make", count)
        cpu = cpu_of(ids)
        (wall,) = actor.tell("ask", [], 1)
        cpu = cpu_of(ids) - cpu
        wrong = actor.tell("check")  # what came in files is looked at, too
    if wrong:
        raise RuntimeError(wrong)
    actor.tell("forget")
    return Leg(wall, cpu, peaks.beyond_start())


def compared(folder: Path, sizes: Sizes, goals: Goals) -> list[Figure]:
    """Measure messages of both networks, in turn."""
    (folder / "ours").mkdir()
    (folder / "theirs").mkdir()
    with fedmodel(folder / "ours", 2) as ours, flower(folder / "theirs") as (theirs, their_ids):
        for i in range(2):
            ours.connect(slice(i, i + 1), ours.port)
        theirs.tell("wait", 2)
        ways = {"fedmodel": (ours.actor, ours.ids), "Flower": (theirs, their_ids)}
        small = {name: list[float]() for name in ways}
        spent, one = list[float](), list[float]()
        large = {name: list[Leg]() for name in ways}
        for actor, _ in ways.values():  # nobody's first message counts
            actor.tell("make", 1)
            actor.tell("ask", [], 1)
        for _ in range(sizes.turns):
            for name, (actor, _) in ways.items():
                actor.tell("make", 1)
                small[name] += actor.tell("ask", [], _LEGS if name == "fedmodel" else 1)
            cpu = cpu_of(ours.ids)
            ours.actor.tell("ask", [], _LEGS)
            spent.append((cpu_of(ours.ids) - cpu) / _LEGS)
            one += ours.actor.tell("ask", [2], _LEGS)
        for _ in range(sizes.turns):
            for name, (actor, ids) in ways.items():
                large[name].append(leg(actor, ids, sizes.count))
    disk = _two_records(folder)
    beside = {
        "fedmodel, leg of a trivial message to two sites, CPU of all": spent,
        "fedmodel, leg of a trivial message to one site, wall": one,
        "two records that are added to a file and synced, on this disk, wall": disk,
    }
    return [
        *_small(small, goals),
        *(
            Figure(name=name, value=1e3 * statistics.median(values), unit="ms")
            for name, values in beside.items()
        ),
        *_large(large, 4 * sizes.count, goals),
    ]


def _two_records(folder: Path) -> list[float]:
    """Return the seconds that a disk takes for what a site writes at each order."""
    walls = []
    for _ in range(_LEGS):
        start = time.perf_counter()
        for _ in range(2):  # the order, and the reply
            with _files.locked(folder / "records", write=True) as file:
                file.append(bytes(500))
        walls.append(time.perf_counter() - start)
    return walls


def _small(found: dict[str, list[float]], goals: Goals) -> list[Figure]:
    median = {name: statistics.median(walls) for name, walls in found.items()}
    return [
        Figure(
            name=f"{name}, leg of a trivial message to two sites, wall",
            value=1e3 * value,
            unit="ms",
            goal=goals.get("leg") if name == "fedmodel" else None,
        )
        for name, value in median.items()
    ]


def _large(found: dict[str, list[Leg]], size: int, goals: Goals) -> list[Figure]:
    what = f"{size / 1e6:g} MB to two sites and back"
    out = []
    for name, legs in found.items():
        core = goals.get("core") if name == "fedmodel" else None
        cpu = statistics.median(leg.cpu for leg in legs)
        wall = statistics.median(leg.wall for leg in legs)
        out += [
            Figure(name=f"{name}, {what}, CPU of all", value=cpu, unit="s", goal=core),
            Figure(name=f"{name}, {what}, wall", value=wall, unit="s"),
        ]
    for kind, goal in (("wall", goals.get("ratio")), ("cpu", None)):
        pairs = zip(found["Flower"], found["fedmodel"], strict=True)
        ratio = statistics.median(getattr(a, kind) / getattr(b, kind) for a, b in pairs)
        named = f"Flower / fedmodel, {what}, {'CPU' if kind == 'cpu' else kind}"
        out.append(Figure(name=named, value=ratio, unit="x", goal=goal, better="higher"))
    return [*out, *_memory(found, size, what, goals)]


def _memory(found: dict[str, list[Leg]], size: int, what: str, goals: Goals) -> list[Figure]:
    out = []
    for name, legs in found.items():
        coordinator = [[leg.memory[0]] for leg in legs]
        sites = [leg.memory[1:] for leg in legs]
        for who, peaks in (("coordinator", coordinator), ("a site", sites)):
            for i, kind in enumerate(("peak memory", "peak memory that is no file's")):
                most = max(each[i] for peak in peaks for each in peak)
                goal = goals.get("memory") if (name, who, i) == ("fedmodel", "a site", 0) else None
                named = f"{name}, {what}, {who}, {kind}"
                out.append(Figure(name=named, value=most / size, unit="x payload", goal=goal))
    return out


def idle(folder: Path, sizes: Sizes, goals: Goals) -> list[Figure]:
    """Measure what sites cost the coordinator that are connected, and nothing else."""
    with fedmodel(folder, sizes.idle + 1) as ours:
        ours.connect(slice(1), ours.port)  # what the first one costs is no idle site's
        ours.actor.tell("make", 1)
        ours.actor.tell("ask", [2], 1)
        before, _ = memory_of(ours.ids[0])
        joined = cpu_of(ours.ids[:1])
        ours.connect(slice(1, sizes.idle + 1), ours.port)
        time.sleep(_SETTLING_S)
        after, _ = memory_of(ours.ids[0])
        cpu, wall = [cpu_of([each]) for each in ours.ids], time.perf_counter()
        joined = cpu[0] - joined
        time.sleep(sizes.seconds)
        wall = time.perf_counter() - wall
        spent = [cpu_of([each]) - b for each, b in zip(ours.ids, cpu, strict=True)]
    what = f"{sizes.idle} idle sites"
    return [
        Figure(
            name=f"{what}, coordinator's memory, each",
            value=(after - before) / sizes.idle / 1e3,
            unit="kB",
            goal=goals.get("idle"),
        ),
        Figure(
            name=f"{what}, coordinator, of a core for all",
            value=100 * spent[0] / wall,
            unit="%",
            goal=goals.get("share"),
        ),
        Figure(
            name=f"{what}, the sites' own process, of a core for all",
            value=100 * spent[2] / wall,
            unit="%",
        ),
        Figure(
            name=f"{what}, coordinator, joining, CPU each",
            value=1e3 * joined / sizes.idle,
            unit="ms",
        ),
    ]


def cut(folder: Path, sizes: Sizes, goals: Goals) -> list[Figure]:
    """Measure how soon after the end of a cut a site answers."""
    found: dict[float, list[float]] = {}
    with fedmodel(folder, 1) as ours, Line(ours.port) as line:
        ours.connect(slice(1), line.port)
        ours.actor.tell("make", 1)
        for seconds in sizes.cuts:
            ours.actor.tell("ask", [2], 1)
            line.cut()
            time.sleep(seconds)
            line.mend()
            found.setdefault(seconds, []).extend(ours.actor.tell("ask", [2], 1))
    out = []
    for seconds, waits in found.items():
        what = f"cut of {seconds:g} s, from its end to an answer"
        goal = goals.get("back") if seconds < _EAGER_S else None
        out.append(
            Figure(name=f"{what}, median", value=statistics.median(waits), unit="s", goal=goal)
        )
        if len(waits) > 1:
            out.append(Figure(name=f"{what}, longest of {len(waits)}", value=max(waits), unit="s"))
    return out


def figures(sizes: Sizes, goals: Goals, console: Console) -> list[Figure]:
    """Measure everything."""
    out: list[Figure] = []
    for part in (compared, idle, cut):
        with tempfile.TemporaryDirectory(prefix="fedmodel-") as folder:
            found = part(Path(folder), sizes, goals)
        for figure in found:
            console.print(f"{figure.name}: {figure.value:.4g} {figure.unit}", soft_wrap=True)
        out += found
    return out


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit code."""
    parser = arguments("What the network costs.", "small sizes, once; no goals")
    parser.add_argument("--turns", type=int, default=_WHOLE.turns, help="of what is compared")
    args = parser.parse_args(argv)
    console = Console()
    if not available():
        console.print("Flower's programs aren't beside Python, nor on PATH; install flwr anew")
        return 2
    sizes = QUICK if args.quick else replace(_WHOLE, turns=args.turns)
    title = "the network, on loopback"
    publish(figures(sizes, {} if args.quick else _GOALS, console), title, args.out, console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
