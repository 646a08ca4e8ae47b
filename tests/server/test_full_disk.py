"""Full disks under real processes: nothing is spent unseen, and it goes on once there is room."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedmodel.errors import UnavailableError
from fedmodel.ledger import Ledger
from fedmodel.runs import RunFolder
from tests.deployed import EACH
from tests.fedmodel.transport.world import wait_until
from tests.server.test_over_network import Network
from tests.small_disk import SmallDisk
from tests.zygote import Forked, Zygote

pytestmark = [pytest.mark.long, pytest.mark.slow]

ROUNDS, STEPS = 40, 2
FULL = "No space left on device"
AGAIN = UnavailableError.exit_code


class Crowded(Network):
    """A consortium of which one site, or the run folder, is on a disk that a test fills."""

    def __init__(self, folder: Path, zygote: Zygote, disk: SmallDisk) -> None:
        super().__init__(folder, zygote)
        self.disk = disk

    def move_in(self, name: str) -> None:
        """Put a site's folder on the disk."""
        shutil.copytree(self.deployed.state / name, self.disk.seen(self.disk.folder / name))

    def join_there(self, name: str) -> Forked:
        file = self.disk.folder / name / "site.yaml"
        self.sites[name] = self.zygote.start("join", f"site={file}")
        return self.sites[name]

    def serve_there(self, run: str, *more: str) -> Forked:
        public = [f"data.test={self.deployed.root / 'test.csv'}", f"declared.units={EACH}"]
        private = ["privacy=record", "privacy.epsilon=4", f"train.rounds={ROUNDS}", "resume=true"]
        return self.serve(run, *public, *private, *more)

    def paid(self, ledger: Path, run: RunFolder) -> dict[int, int]:
        """Return how many steps each round has in a site's ledger."""
        found: dict[int, int] = {}
        for entry in Ledger(ledger).entries():
            if entry.type == "spend" and entry.run == run.run and entry.kind == "train":
                found[entry.round] = found.get(entry.round, 0) + entry.steps
        return found


@pytest.fixture(scope="module")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    folder = tmp_path_factory.mktemp("small")
    if (why := SmallDisk.missing(folder)) is not None:
        pytest.skip(f"no file system can be mounted here: {why}")
    with Zygote(tmp_path_factory.mktemp("logs"), SmallDisk(folder)) as zygote:
        yield zygote


@pytest.fixture
def network(zygote: Zygote, tmp_path: Path) -> Iterator[Crowded]:
    assert zygote.disk is not None
    made = Crowded(tmp_path, zygote, zygote.disk)
    yield made
    made.stop()


def test_a_site_without_room_gives_nothing_and_goes_on_with_room(network: Crowded) -> None:
    network.move_in("site-1")
    network.join("site-2", "site-3")
    network.disk.fill()
    site = network.join_there("site-1")
    serve = network.serve_there("crowded", "federation.quorum=0.6", "grace=30")
    site.wait_for(FULL, 60)
    network.disk.free()
    serve.wait_for("round 2/")
    before = site.said.count(FULL)
    network.disk.fill()
    wait_until(lambda: site.said.count(FULL) > before)
    network.disk.free()
    assert serve.wait() == 0, serve.said
    assert "Traceback" not in site.said
    run = network.run("crowded")
    rows = run.metrics()
    assert [row["updates"] for row in rows[:2]] == [3, 3]
    assert 2 in {row["updates"] for row in rows}  # nothing of the one without room
    assert rows[-1]["updates"] == 3, rows  # which wasn't started again
    paid = network.paid(network.disk.seen(network.disk.folder / "site-1/ledgers/main.jsonl"), run)
    given = [row["round"] for row in rows if row["updates"] == 3]
    assert set(given) <= set(paid)
    assert set(paid.values()) == {STEPS}


def test_a_coordinator_without_room_may_be_tried_again_and_every_round_is_paid_once(
    network: Crowded,
) -> None:
    network.join()
    network.disk.fill()
    path = network.disk.folder / "crowded"
    first = network.serve_there("unused", f"run={path}")
    assert first.wait() == AGAIN, first.said
    assert FULL in first.said
    network.disk.free()
    for round_ in (2, 7):
        serve = network.serve_there("unused", f"run={path}")
        serve.wait_for(f"round {round_}/")
        network.disk.fill()
        assert serve.wait() == AGAIN, serve.said
        assert FULL in serve.said
        assert "Traceback" not in serve.said
        assert f"run={path} resume=true" in serve.said.splitlines()[-1]
        network.disk.free()
    serve = network.serve_there("unused", f"run={path}")
    assert serve.wait() == 0, serve.said
    run = RunFolder.open(network.disk.seen(path))
    assert [row["round"] for row in run.metrics()] == list(range(1, ROUNDS + 1))
    summary = run.summary()
    assert summary is not None
    for name in network.deployed.names:
        paid = network.paid(network.ledger(name).path, run)
        assert paid == dict.fromkeys(range(1, ROUNDS + 1), STEPS)
        assert summary.privacy.sites[name].rounds == ROUNDS
