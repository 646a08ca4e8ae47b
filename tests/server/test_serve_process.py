"""A coordinator as a process of its own: how a service manager ends it."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fedmodel.runs import RunFolder
from tests.deployed import LABELS, Deployed

pytestmark = [pytest.mark.long, pytest.mark.slow]

SERVE = """
import sys
from contextlib import contextmanager
from types import SimpleNamespace

from fedmodel.cli.jobs import compose_all
from server.serve import main


@contextmanager
def nobody_comes(listening):
    try:
        yield SimpleNamespace(grid=None, port=1, present=dict)
    finally:
        print("hung up", flush=True)


(job,) = compose_all("serve", sys.argv[1:])
sys.exit(main(job.mapping, job.given, carrier=nobody_comes))
"""


def test_sigterm_ends_it_in_good_order_and_the_run_goes_on_later(tmp_path: Path) -> None:
    deployed = Deployed(tmp_path)
    run = tmp_path / "run"
    words = [
        *("train=head", "privacy=none", f"model.labels={LABELS}", "format=json"),
        *(f"home={deployed.coordinator}", f"run={run}", "resume=true"),
    ]
    for _ in range(2):
        with subprocess.Popen(
            [sys.executable, "-c", SERVE, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        ) as process:
            assert process.stderr is not None
            said = []
            for line in process.stderr:
                said.append(line)
                if "awaited" in line:
                    process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, said
            assert process.stdout is not None
            assert process.stdout.read() == "hung up\n"
        assert '"level": "INFO"' in said[-1]
        assert "asked to stop" in said[-1]
        assert f"run={run} resume=true" in said[-1]
    assert RunFolder.open(run).summary() is None
