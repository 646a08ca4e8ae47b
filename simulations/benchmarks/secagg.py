"""Cost of secure aggregation: its parties' seconds, beside Flower's SecAgg+ and the cipher.

Everything runs in one process with one thread, without a network. Whole rounds are played with
real sites (see ``secagg_rounds``), and their sums checked; a site's figure is the median over the
sites and rounds. What is compared alternates, and a ratio is the median over the turns of CPU
seconds beside each other. A site's whole part of a round is all that it does but training and
reading its rows: the protocol, Flower's records, and the hash of the parameters it was sent.
A session's keys are agreed on when a site opens its first attempt; that is shown apart.
"""

import argparse
import os
import statistics
import sys
from collections.abc import Iterable, Sequence
from functools import partial

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from fedmodel.mechanisms.shares import Shares, bits_needed, noised
from fedmodel.secagg.masking import Encode
from fedmodel.secagg.ring import packed_size
from fedmodel.seeds import Entropy
from fedmodel.update import Vector
from simulations.benchmarks.dp_step import ledger_seconds
from simulations.benchmarks.report import Figure, arguments, publish
from simulations.benchmarks.secagg_flower import masked, share_figures, stage_figures
from simulations.benchmarks.secagg_masking import (
    allocated,
    check_figures,
    encoder,
    floor_figures,
    masking,
    resident,
)
from simulations.benchmarks.secagg_rounds import Federation, Played
from simulations.benchmarks.secagg_turns import Seconds, Watch, median_cpu, power, update

_SITES = (3, 10, 50)
_SIZES = (100_000, 1_000_000, 10_000_000)
_STEP = 300_000  # trainable parameters of a private step
_CLIP, _BATCH, _NOISE = 0.5, 64, 1.0
_GOALS = {"mask": 8.0, "upload": 3.0, "floor": 0.75, "memory": 2.0, "step": 0.15}


def _of_sites(rounds: Sequence[Played], *legs: str) -> list[Seconds]:
    return [watch.total(*legs) for played in rounds for watch in played.sites.values()]


def _play(
    federation: Federation,
    vector: Vector,
    rounds: Iterable[tuple[int, Sequence[int]]],
    parties: int,
) -> list[Played]:
    """Play rounds with given dropouts, each site with the same update, and check the sums."""
    write = encoder(vector, parties)
    whole = np.empty(vector.size, np.uint32)
    write(0, vector.size, whole)
    found = []
    for round_, dropped in rounds:
        played = federation.play(round_, lambda watch: write, dropped)
        if not np.array_equal(played.total, len(played.sites) * whole.view(np.int32).astype(int)):
            raise RuntimeError("the unmasked sum isn't that of the survivors")
        found.append(played)
    return found


def round_figures(sites: int, count: int, once: bool) -> list[Figure]:
    """Measure whole rounds; once what doesn't depend on the number of parameters too."""
    vector = update(count)
    federation = Federation(sites, vector)
    rounds = 1 if sites * count > 2e8 else 3
    played = _play(federation, vector, [(2 + i, ()) for i in range(rounds)], sites)
    whole, masked = _of_sites(played), _of_sites(played, "mask")
    per_round = [p.coordinator.total() for p in played]
    unmasking = [p.coordinator.total("unmask") for p in played]
    where = f"n={sites}, {power(count)} parameters"
    out = [
        Figure(name=f"site, {where}, whole round, CPU", value=median_cpu(whole), unit="ms"),
        Figure(
            name=f"site, {where}, whole round, wall",
            value=1e3 * statistics.median(s.wall for s in whole),
            unit="ms",
        ),
        Figure(name=f"site, {where}, mask stage, CPU", value=median_cpu(masked), unit="ms"),
        Figure(
            name=f"coordinator, {where}, whole round, CPU", value=median_cpu(per_round), unit="ms"
        ),
        Figure(
            name=f"coordinator, {where}, an upload, CPU",
            value=median_cpu(s for p in played for s in p.uploads),
            unit="ms",
        ),
        Figure(
            name=f"coordinator, {where}, unmasking, CPU", value=median_cpu(unmasking), unit="ms"
        ),
    ]
    if once:
        sent = max(p.sent for p in played) / 1e3
        opens = {"a session's first": federation.first, "a later": _of_sites(played, "open")}
        out += [
            Figure(
                name=f"site, n={sites}, opening {k} attempt, CPU", value=median_cpu(v), unit="ms"
            )
            for k, v in opens.items()
        ]
        out.append(Figure(name=f"site, n={sites}, sent beside the vector", value=sent, unit="kB"))
    return out


def size_figures(count: int, goals: dict[str, float]) -> list[Figure]:
    """Measure bytes per parameter: of an upload, and of memory beyond it."""
    vector, seeds = update(count), [bytes([i]) * 32 for i in range(10)]
    theirs = partial(masked, vector, seeds[0], seeds[1:5], seeds[5:])
    beyond = "memory beyond the upload"
    found = [
        ("fedmodel, upload", packed_size(count, 24), goals.get("upload")),
        ("Flower, upload", sum(map(len, theirs())), None),
        (
            f"fedmodel, {beyond}, allocated",
            allocated(partial(masking, vector, 10)),
            goals.get("memory"),
        ),
        (f"fedmodel, {beyond}, resident", resident(count), goals.get("memory")),
        (f"Flower, {beyond}, allocated", allocated(theirs), None),
    ]
    return [
        Figure(name=name, value=value / count, unit="bytes/parameter", goal=goal)
        for name, value, goal in found
    ]


def step_figures(count: int, rounds: int, goal: float | None) -> list[Figure]:
    """Measure a site's part of a private step beyond the gradient, among ten sites."""
    sites, honest = 10, 7
    gradient = update(count)
    std = _NOISE * _CLIP
    bits = bits_needed(std=std, honest=honest, parties=sites, largest_coordinate=_CLIP * _BATCH)
    shares = Shares(std=std, honest=honest, parties=sites, bits=max(24, bits))
    federation, entropy = Federation(sites, gradient, bits=shares.bits), Entropy()

    def contribution(watch: Watch) -> Encode:
        elements = watch("noise", noised, entropy, gradient, shares)

        def write(start: int, stop: int, out: NDArray[np.uint32]) -> None:
            out[:] = elements[start:stop]

        return write

    played = [federation.play(2 + i, contribution) for i in range(rounds)]
    error = played[0].total * shares.grid - sites * gradient.astype(float)
    if not 0.9 < float(error.std()) / (shares.share_std * sites**0.5) < 1.1:
        raise RuntimeError("the unmasked sum doesn't carry the noise of its sites")
    ledger_cpu, ledger_wall = ledger_seconds(rounds)
    legs = {
        "noise": ("noise",),
        "masks": ("mask",),
        "protocol": ("open", "deliver", "consent", "reveal"),
        "records, parameters": ("records", "order"),
    }
    name = f"private step, n={sites}, {power(count)} parameters"
    whole = _of_sites(played)
    wall = statistics.median(s.wall for s in whole) + ledger_wall
    noise = median_cpu(_of_sites(played, "noise"))
    return [
        Figure(
            name=f"{name}, CPU", value=median_cpu(whole) / 1e3 + ledger_cpu, unit="s", goal=goal
        ),
        Figure(name=f"{name}, wall", value=wall, unit="s"),
        *(
            Figure(name=f"{name}, {k}, CPU", value=median_cpu(_of_sites(played, *v)), unit="ms")
            for k, v in legs.items()
        ),
        Figure(name=f"{name}, ledger, CPU", value=1e3 * ledger_cpu, unit="ms"),
        Figure(name="noise share on the grid, CPU", value=1e6 * noise / count, unit="ns/value"),
    ]


def dropout_figures(count: int, turns: int) -> list[Figure]:
    """Measure unmasking with all of ten sites, and without two of them."""
    vector = update(count)
    federation = Federation(10, vector)
    cases = ((), (3, 7))
    order = [(2 + i, cases[i % 2]) for i in range(2 * turns)]
    played = _play(federation, vector, order, 10)
    return [
        Figure(
            name=f"unmasking, {len(case)} of 10 dropped, {power(count)} parameters, CPU",
            value=median_cpu(p.coordinator.total("unmask") for p in played[i::2]),
            unit="ms",
        )
        for i, case in enumerate(cases)
    ]


def figures(args: argparse.Namespace, console: Console) -> list[Figure]:
    """Measure everything."""
    quick, out = args.quick, list[Figure]()
    goals = {} if quick else _GOALS
    sites = (3, 10) if quick else _SITES
    sizes = (2_000,) if quick else _SIZES
    turns = 1 if quick else args.turns

    def add(found: list[Figure]) -> None:
        for figure in found:
            console.print(f"{figure.name}: {figure.value:.4g} {figure.unit}", soft_wrap=True)
        out.extend(found)

    for count in sizes:
        for number in sites:
            add(round_figures(number, count, count == sizes[0]))
            goal = goals.get("mask") if (number, count) == (10, 10_000_000) else None
            add(stage_figures(number, count, turns, goal))
    for holders in sites[1:]:
        add(share_figures(holders, (holders * 7 + 9) // 10, turns))
    add(size_figures(sizes[-1], goals))
    add(check_figures(sizes[-1], 3 * turns))
    add(floor_figures(sizes[-1], 3 * turns, goals.get("floor")))
    add(step_figures(2_000 if quick else _STEP, 4 * turns, goals.get("step")))
    add(dropout_figures(2_000 if quick else 1_000_000, turns))
    return out


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit code."""
    parser = arguments("What secure aggregation costs.", "tiny sizes; times mean little")
    parser.add_argument("--turns", type=int, default=3, help="of what is compared")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    console = Console()
    publish(figures(args, console), "secure aggregation, one thread", args.out, console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
