"""Runs over the network: a coordinator and three sites, each a process, by gRPC and TLS."""

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedmodel import cli
from fedmodel.ledger import Ledger
from fedmodel.runs import RunFolder
from tests.deployed import EACH, LABELS, Deployed
from tests.zygote import Forked, Zygote

pytestmark = [pytest.mark.long, pytest.mark.slow]

SMALL = [
    *("train=head", "train.rounds=2", "train.steps=2", "train.batch_size=8"),
    *("model.max_length=16", "federation.min_rows=1", f"model.labels={LABELS}"),
]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class Network:
    """A consortium whose parties are processes.

    Args:
        folder: of all of it.
        zygote: they are forked from.
        held_out: whether sites hold rows out.
        count: of sites.

    Attributes:
        watched: whether those that are started say what is alive in them.
    """

    watched = False

    def __init__(
        self, folder: Path, zygote: Zygote, *, held_out: bool = False, count: int = 3
    ) -> None:
        self.zygote = zygote
        self.port = free_port()
        self.deployed = Deployed(folder, count, held_out=held_out)
        self.sites: dict[str, Forked] = {}
        for name in self.deployed.names:
            self.deployed.fill(name, "address: null", f"address: localhost:{self.port}")

    def join(self, *names: str) -> None:
        for name in names or self.deployed.names:
            self.sites[name] = self.zygote.start(
                "join", f"site={self.deployed.file(name)}", watched=self.watched
            )

    def serve(self, run: str, *more: str) -> Forked:
        return self.zygote.start(
            "serve",
            *SMALL,
            *(f"home={self.deployed.coordinator}", f"listen=127.0.0.1:{self.port}"),
            *(f"run={self.run_path(run)}", *more),
            watched=self.watched,
        )

    def run_path(self, run: str) -> Path:
        return self.deployed.root / "runs" / run

    def run(self, run: str) -> RunFolder:
        return RunFolder.open(self.run_path(run))

    def ledger(self, name: str) -> Ledger:
        return Ledger(self.deployed.state / name / "ledgers" / "main.jsonl")

    def stop(self) -> None:
        for site in self.sites.values():
            site.signal(signal.SIGTERM)
        for site in self.sites.values():
            assert site.wait(60) == 0, site.said[-3000:]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    folder = tmp_path_factory.mktemp("network")
    with Zygote(folder) as zygote:
        made = Network(folder, zygote)
        made.join()
        for site in made.sites.values():
            site.wait_for("ready for runs")
        yield made
        made.stop()


def test_without_privacy_the_model_is_the_simulations_bit_for_bit(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = network.deployed.root
    monkeypatch.chdir(root)
    alike = ["privacy=none", "seed=5", f"data.test={root / 'test.csv'}"]
    rows = ["data=csv", f"data.train={root / 'all.csv'}", "data.site=site"]
    assert cli.main(["simulate", *SMALL, *rows, "run=simulated", *alike]) == 0
    one = RunFolder.open(Path("runs/simulated"))
    serve = network.serve("plain", *alike)
    assert serve.wait() == 0, serve.said
    other = network.run("plain")
    assert other.manifest.job_sha256 == one.manifest.job_sha256
    assert {n: a.tobytes() for n, a in other.model().items()} == {
        n: a.tobytes() for n, a in one.model().items()
    }
    assert "3 of 3 sites joined" in serve.said
    assert (other.path / "report.html").exists()
    to = root / "exported"
    assert cli.main(["export", f"run={other.path}", f"to={to}"]) == 0
    assert (to / "config.json").exists()


@pytest.mark.parametrize(
    ("run", "more"),
    [
        ("private", ["privacy=record"]),
        ("sealed", ["privacy=record", "secagg=seal"]),
        ("summed", ["privacy=record", "secagg=on"]),
        ("shared", ["privacy=distributed", "train.steps=1"]),
    ],
)
def test_a_private_run_finishes_and_is_in_every_ledger_once(
    network: Network, run: str, more: list[str]
) -> None:
    public = [f"data.test={network.deployed.root / 'test.csv'}", f"declared.units={EACH}"]
    serve = network.serve(run, *public, "privacy.epsilon=4", *more)
    assert serve.wait() == 0, serve.said
    summary = network.run(run).summary()
    assert summary is not None
    assert {site.rounds for site in summary.privacy.sites.values()} == {2}
    for name in network.deployed.names:
        book = network.ledger(name).book()
        (reservation,) = book.of(network.run(run).run, network.run(run).manifest.job_sha256)
        steps = 1 if "train.steps=1" in more else 2
        assert sum(spend.steps for spend in reservation.done()) == 2 * steps
