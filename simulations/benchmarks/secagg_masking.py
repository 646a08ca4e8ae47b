"""Distance of masking from its floors: the bare cipher's speed, and the upload's memory."""

import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedmodel._hazmat import Keystream
from fedmodel.secagg.checks import Checked, upload_sha256
from fedmodel.secagg.fixedpoint import FixedPoint
from fedmodel.secagg.masking import TILE, Encode, Sum, mask
from fedmodel.seeds import Entropy
from fedmodel.update import Vector
from simulations.benchmarks.report import Figure
from simulations.benchmarks.secagg_turns import alternating, median_cpu, ratio

__all__ = ["allocated", "check_figures", "encoder", "floor_figures", "masking", "resident"]

_TILES = (1 << 16, 4 * TILE, 1 << 20)  # bytes
_MASKS = 10  # one's own and nine neighbours'


def _seeds(count: int) -> list[bytes]:
    entropy = Entropy()
    return [entropy.bytes(32) for _ in range(count)]


def encoder(vector: Vector, parties: int, bits: int = 24) -> Encode:
    """Return what writes a vector's ring elements."""
    code = FixedPoint(bits=bits, parties=parties, range=8.0)

    def write(start: int, stop: int, out: NDArray[np.uint32]) -> None:
        code.encode(vector[start:stop], out, clip=False)

    return write


def masking(vector: Vector, parties: int, bits: int = 24) -> NDArray[np.uint8]:
    """Return a site's masked vector among so many parties: all of our masking stage."""
    seeds = _seeds(parties)
    half = parties // 2 + 1
    write = encoder(vector, parties, bits)
    return mask(write, vector.size, bits, add=seeds[:half], subtract=seeds[half:])


def _loop(count: int) -> Callable[[], None]:
    """Return what adds ten masks to a ring vector."""
    total = Sum(count, 24)
    return lambda: total.unmask(add=_seeds(_MASKS), subtract=[])


def _bare_cipher(count: int, tile: int) -> Callable[[], None]:
    """Return what makes the bytes of ten masks, so many at a time, and does nothing with them."""
    zeros, out = memoryview(bytes(tile)), memoryview(bytearray(tile))

    def run() -> None:
        # What fills a Keystream, without its own loop over tiles.
        streams = [Keystream(Entropy())._encryptor.update_into for _ in range(_MASKS)]
        for start in range(0, 4 * count, tile):
            size = min(tile, 4 * count - start)
            for update_into in streams:
                update_into(zeros[:size], out[:size])

    return run


def floor_figures(count: int, turns: int, goal: float | None) -> list[Figure]:
    """Compare adding ten masks to a ring vector with making their bytes."""
    ways: dict[str, Callable[[], object]] = {"loop": _loop(count)}
    for tile in _TILES:
        ways[str(tile)] = _bare_cipher(count, tile)
    found = alternating(ways, turns)
    best = min(_TILES, key=lambda tile: median_cpu(found[str(tile)]))
    same = 4 * TILE
    speed = 4 * _MASKS * count / median_cpu(found[str(same)]) / 1e6
    return [
        Figure(name="bare AES-256-CTR, CPU", value=speed, unit="GB/s", better="higher"),
        *(
            Figure(
                name=f"mask loop / bare AES-256-CTR, {name}, throughput by CPU",
                value=ratio(found[str(tile)], found["loop"]),
                unit="x",
                goal=goal,
                better="higher",
            )
            for name, tile in (("the same tiles", same), ("its best tiles", best))
        ),
    ]


def check_figures(count: int, turns: int) -> list[Figure]:
    """Measure what a site does beyond its masks so that a wrong sum or vector is known."""
    vector = np.zeros(count, np.uint32)

    def write(start: int, stop: int, out: NDArray[np.uint32]) -> None:
        out[:] = vector[start:stop]

    def encoded(encode: Encode, size: int) -> Callable[[], object]:
        return lambda: mask(encode, size, 24, add=[], subtract=[])

    checked = Checked(write, count, 24, bytes(32))
    packed = mask(checked, checked.count, 24, add=[], subtract=[])
    found = alternating(
        {
            "plain": encoded(write, count),
            "checked": encoded(checked, checked.count),
            "hash": lambda: upload_sha256(packed),
        },
        turns,
    )
    check = max(0.0, median_cpu(found["checked"]) - median_cpu(found["plain"]))
    return [
        Figure(name=name, value=1e6 * milliseconds / count, unit="ns/parameter")
        for name, milliseconds in (
            ("check elements of an upload, CPU", check),
            ("hash of an upload, CPU", median_cpu(found["hash"])),
        )
    ]


def allocated(function: Callable[[], NDArray[np.uint8] | list[bytes]]) -> float:
    """Return the bytes that a function allocates at most beyond its result (numpy's included)."""
    tracemalloc.start()
    try:
        result = function()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return peak - (result.nbytes if isinstance(result, np.ndarray) else sum(map(len, result)))


def resident(count: int) -> float:
    """Return the same for the resident set of a process that masks so many numbers (Linux)."""
    code = f"from {__spec__.name} import _print_resident; _print_resident({count})"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        cwd=root,
    )
    return float(done.stdout)


def _print_resident(count: int) -> None:
    vector = np.full(count, 0.01, np.float32)
    masking(vector[:1000], _MASKS)  # what is loaded and made once
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = _status("VmRSS")
    upload = masking(vector, _MASKS)
    print(max(0.0, _status("VmHWM") - before - upload.nbytes))  # the kernel counts roughly


def _status(name: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return 1024.0 * float(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {name}")
