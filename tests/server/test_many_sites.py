"""Many sites in secure sums over the network, on one machine: each a process, by gRPC and TLS."""

import functools
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedmodel import cli
from fedmodel.identity.home import PartyHome
from fedmodel.ledger.kept_heads import read_heads
from fedmodel.runs import RunFolder
from fedmodel.transport.inbox_store import InboxStore
from simulations.faults import Fault, FaultyGrid
from simulations.play import play
from tests.deployed import EACH
from tests.server.test_over_network import SMALL, Network
from tests.zygote import Zygote

pytestmark = [pytest.mark.long, pytest.mark.slow]

COUNTS = [5, pytest.param(50, marks=pytest.mark.soak)]
STEPS = 2
_SUMMED = ["secagg=on", "train.rounds=2"]
# Legs of a run, of which each is asked of all sites: who is there, joining, and in each round
# shares, masked updates, consent, and what opens the sum.
_ROUND = ("open", "train", "consent", "reveal")
_TRAINING_ANEW = 2 + len(_ROUND) + _ROUND.index("train")  # the second round's updates are awaited
_LONGEST = 300.0


class Many(Network):
    """A consortium of many sites."""

    def __init__(self, folder: Path, zygote: Zygote, count: int) -> None:
        super().__init__(folder, zygote, count=count)
        self.count = count

    def public(self) -> list[str]:
        return [f"data.test={self.deployed.root / 'test.csv'}", *_SUMMED]

    def kill_one_that_trains(self, run: str) -> str:
        """Kill the first site that is seen at its second update, and hasn't given it."""
        end = time.monotonic() + _LONGEST
        while time.monotonic() < end:
            for name, site in self.sites.items():
                if self._trains(name, run):
                    site.signal(signal.SIGSTOP)
                    if self._trains(name, run):  # it is held there
                        site.signal(signal.SIGKILL)
                        return name
                    site.signal(signal.SIGCONT)
        raise AssertionError("no site was seen at its second update")

    def _trains(self, name: str, run: str) -> bool:
        """Return whether a site has noted the order, and has no reply to it."""
        folder = self.deployed.state / name / "runs"
        store = InboxStore(folder.joinpath)
        noted = store.read(run)
        if noted.last is None or (noted.last.seq - 1) // self.count != _TRAINING_ANEW:
            return False
        return not store.has(noted.stamps(run)[-1])


@pytest.fixture(scope="module", params=COUNTS)
def many(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Many]:
    folder = tmp_path_factory.mktemp("many")
    with Zygote(folder) as zygote:
        made = Many(folder, zygote, request.param)
        made.join()
        for site in made.sites.values():
            site.wait_for("ready for runs")
        yield made
        made.stop()


def test_many_sites_make_the_simulations_sums_and_one_less_when_one_is_killed(
    many: Many, monkeypatch: pytest.MonkeyPatch
) -> None:
    alike = ["privacy=none", "seed=5", *many.public()]
    # It waits so long for who was killed; fifty take longer than a few until all have dialled.
    brief = [] if many.count > 10 else ["grace=6"]
    serve = many.serve("summed", f"declared.units={EACH}", *alike, *brief)
    serve.wait_for(f"{many.count} of {many.count} sites joined")
    killed = many.kill_one_that_trains(many.run("summed").run)
    assert serve.wait() == 0, serve.said
    run = many.run("summed")
    assert [row["updates"] for row in run.metrics()] == [many.count, many.count - 1]
    assert run.manifest.job["secagg"]["sums"]["survivors"] == many.count * 4 // 5
    many.join(killed)  # for whoever comes next

    node = many.deployed.names.index(killed) + 2
    lost = [Fault(what="there", kind="train", node=node, times=(2,))]
    grid = functools.partial(FaultyGrid, faults=lost)
    monkeypatch.setattr("simulations.run.play", functools.partial(play, grid=grid))
    monkeypatch.chdir(many.deployed.root)
    rows = ["data=csv", f"data.train={many.deployed.root / 'all.csv'}", "data.site=site"]
    assert cli.main(["simulate", *SMALL, *rows, "run=simulated", *alike]) == 0
    one = RunFolder.open(Path("runs/simulated"))
    assert run.manifest.job_sha256 == one.manifest.job_sha256
    for mine, other in zip(_models(run), _models(one), strict=True):
        assert mine == other  # after the first round, of all, and the second


def _models(run: RunFolder) -> list[bytes]:
    """Return the parameters after each round."""
    paths = sorted(run.path.glob("checkpoints/round-*/*.safetensors"))
    assert len(paths) >= 2
    return [path.read_bytes() for path in paths]


def test_many_ledgers_have_each_round_once_and_the_coordinator_has_their_heads(
    many: Many,
) -> None:
    for site in many.sites.values():
        site.wait_for("ready for runs")
    private = ["privacy=record", f"declared.units={EACH}", "privacy.epsilon=4", "train.rounds=1"]
    serve = many.serve("private", *many.public(), *private)
    assert serve.wait() == 0, serve.said
    run = many.run("private")
    assert [row["updates"] for row in run.metrics()] == [many.count]
    summary = run.summary()
    assert summary is not None
    heads = {head.key: head for head in read_heads(run.tree_heads).values()}
    assert len(heads) == many.count
    roster = PartyHome(many.deployed.coordinator).current_roster()
    for name in many.deployed.names:
        ledger, head = many.ledger(name), heads[roster.members[roster.number_of(name) - 1].key]
        (reservation,) = ledger.book().of(run.run, run.manifest.job_sha256)
        assert sum(spend.steps for spend in reservation.done()) == STEPS
        ledger.check_extends(head)
        assert len(ledger.entries()) == head.size  # nothing that the coordinator hasn't seen
        told = summary.privacy.sites[name]
        assert told.rounds == 1
        assert told.ledger is not None
        assert (told.ledger.entries, told.ledger.root) == (head.size, head.root)
