"""Seconds from the end of the imports to the first train message of ``fedmodel simulate``.

``python -m simulations.benchmarks.startup FOLDER`` runs one job; :func:`measure` starts that in a
process of its own. What is imported later than Hydra and ``simulations.run`` (such as the
model's architecture) counts as start-up.
"""

import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import patch

__all__ = ["measure"]

_TIMEOUT = 300
_FILE = "first_round.txt"


def measure(folder: Path) -> float:
    """Return the seconds of one fresh process.

    Raises:
        subprocess.SubprocessError: if it fails or takes longer than five minutes.
    """
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", __name__, str(folder)]
    with open(folder / "log.txt", "wb") as log:
        subprocess.run(command, check=True, timeout=_TIMEOUT, stdout=log, stderr=log)
    return float((folder / _FILE).read_text())


def _run(folder: Path) -> int:
    import hydra  # noqa: F401

    from fedmodel import cli
    from server.display import Display
    from simulations import run

    started = time.perf_counter()

    class Watched(Display):
        def round_started(self, number: int, sites: int) -> None:
            if number == 1:
                (folder / _FILE).write_text(str(time.perf_counter() - started))
            super().round_started(number, sites)

    with patch.object(run, "Display", Watched):
        return cli.main(["simulate", "privacy=none", "debug=fast", f"run={folder / 'run'}"])


if __name__ == "__main__":
    sys.exit(_run(Path(sys.argv[1])))
