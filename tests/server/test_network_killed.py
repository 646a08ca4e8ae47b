"""Kills, cuts and delays of a run over the network: nothing is spent twice, nothing is lost."""

import random
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from fedmodel.ledger import Ledger
from fedmodel.runs import RunFolder
from tests.deployed import EACH
from tests.fedmodel.transport.proxies import Forwarder
from tests.server.test_over_network import Network
from tests.zygote import Forked, Zygote

pytestmark = [pytest.mark.long, pytest.mark.slow]

ROUNDS, STEPS = 8, 2
_LONGEST = 300.0  # s of one run, with all that goes wrong in it


class Killed(Network):
    """A consortium whose sites dial through lines that a test can cut."""

    def __init__(self, folder: Path, zygote: Zygote, lines: dict[str, Forwarder]) -> None:
        super().__init__(folder, zygote)
        for name in self.deployed.names:
            line = lines[name]
            line.lead_to(self.port)
            self.deployed.fill(name, f"localhost:{self.port}", f"localhost:{line.port}")
        self.lines = lines

    def alive(self, name: str) -> bool:
        return self.zygote.code(self.sites[name].pid) is None


@contextmanager
def killed(folder: Path) -> Iterator[Killed]:
    """Yield such a consortium, of which all sites are ready."""
    with Zygote(folder) as zygote, ExitStack() as stack:
        lines = {f"site-{n}": stack.enter_context(Forwarder(1)) for n in (1, 2, 3)}
        made = Killed(folder, zygote, lines)
        made.join()
        for site in made.sites.values():
            site.wait_for("ready for runs")
        yield made
        made.stop()


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killed]:
    with killed(tmp_path_factory.mktemp("killed")) as made:
        yield made


def _serve(network: Killed, run: str, more: list[str]) -> Forked:
    root = network.deployed.root
    return network.serve(
        run,
        *(f"data.test={root / 'test.csv'}", f"declared.units={EACH}", "privacy.epsilon=4"),
        *(f"train.rounds={ROUNDS}", "resume=true"),
        *("grace=2", "deadline=60", "federation.quorum=0.6", *more),
    )


def _harm(network: Killed, serve: Forked, random_: random.Random) -> str:
    """Do something bad; return what."""
    name = random_.choice(network.deployed.names)
    what = random_.choice(["serve", "site", "site", "cut", "cut", "delay", "stop"])
    if what == "serve":
        serve.signal(signal.SIGKILL)
    elif what == "site" and network.alive(name):
        network.sites[name].signal(signal.SIGKILL)
    elif what == "cut":
        network.lines[name].cut()
    elif what == "delay":
        network.lines[name].delay = random_.choice([0.0, 0.05])
    elif what == "stop":
        serve.signal(signal.SIGTERM)
    return f"{what} {name}"


def _play(network: Killed, run: str, more: list[str], seed: int) -> list[str]:
    """Play a run to its end, whatever is done to it; return what was done."""
    random_, done = random.Random(seed), list[str]()
    end = time.monotonic() + _LONGEST
    serve = _serve(network, run, more)
    harms = random_.randint(2, 5)
    while time.monotonic() < end:
        for name in network.deployed.names:
            if not network.alive(name):
                network.join(name)
        if (code := network.zygote.code(serve.pid)) is not None:
            if code == 0 and network.run(run).summary() is not None:
                return done
            # Killed, or too few were there: as a service manager would, once more.
            assert code in (-signal.SIGKILL, -signal.SIGTERM, 0, 1, 3), serve.said[-3000:]
            serve = _serve(network, run, more)
        # In the midst of it: from the joining on, at any moment of any round.
        if len(done) < harms and " joined" in serve.said:
            time.sleep(random_.uniform(0.0, 1.0))
            done.append(_harm(network, serve, random_))
        time.sleep(0.05)
    raise AssertionError(f"{done}: {serve.said[-4000:]}")


def _steps(network: Killed, run: RunFolder, name: str) -> dict[int, int]:
    """Return how many steps each round has in a site's ledger."""
    found: dict[int, int] = {}
    ledger = Ledger(network.deployed.state / name / "ledgers" / "main.jsonl")
    for entry in ledger.entries():
        if entry.type == "spend" and entry.run == run.run and entry.kind == "train":
            found[entry.round] = found.get(entry.round, 0) + entry.steps
    return found


def _check(network: Killed, run: RunFolder, steps: int, done: list[str]) -> None:
    assert done
    summary = run.summary()
    assert summary is not None
    rows = list(run.metrics())
    assert [row["round"] for row in rows] == list(range(1, ROUNDS + 1))
    for name in network.deployed.names:
        paid = _steps(network, run, name)
        # Each round is in the ledger once, and with all of its steps: none is double.
        assert all(count == steps for count in paid.values()), (name, paid)
        # What the coordinator counted was paid for.
        given = summary.privacy.sites[name].rounds or 0
        assert given <= len(paid), (name, paid, rows)
        # What was paid for counts, too, but where something was done: that costs the round that the
        # site was at, or also the one that it came too late for.
        assert len(paid) - given <= 2 * len(done), (name, paid, rows)


MODES = {
    "plain": ["privacy=record"],
    "sealed": ["privacy=record", "secagg=seal"],
    "summed": ["privacy=record", "secagg=on"],
    "shared": ["privacy=distributed", "train.steps=1"],
}
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(1, 16))]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("mode", MODES)
def test_a_run_ends_whatever_is_killed_and_every_round_is_paid_once(
    network: Killed, mode: str, seed: int
) -> None:
    run = f"{mode}-{seed}"
    done = _play(network, run, MODES[mode], seed)
    for line in network.lines.values():
        line.delay = 0.0
    try:
        _check(network, network.run(run), 1 if mode == "shared" else STEPS, done)
    except AssertionError as error:
        raise AssertionError(f"after {done}: {error}") from error
