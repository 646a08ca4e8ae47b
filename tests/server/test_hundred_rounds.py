"""A hundred rounds over the network: neither a coordinator nor a site grows, nor their folders."""

from pathlib import Path

import pytest

from tests.deployed import EACH
from tests.rooms import grown, rooms_in
from tests.server.test_over_network import Network
from tests.zygote import Zygote

pytestmark = [pytest.mark.long, pytest.mark.soak]

ROUNDS = 100
WARM = 3  # looks that find what is made once
# What is kept of each round on purpose: at either end the entries of its ledger; at the coordinator
# a row of metrics, and the digests of its orders, too. The last signatures that have verified, some
# thousand, are remembered.
SITE = {"objects": 2.5, "bytes": 4_000, "resident": 20_000}
COORDINATOR = {"objects": 12.5, "bytes": 24_000, "resident": 60_000}


def _files(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*"))


def _files_of_ends(network: Network) -> dict[str, int]:
    return {name: _files(network.deployed.state / name) for name in network.deployed.names}


def test_nothing_grows_but_what_is_kept_of_each_round(tmp_path: Path) -> None:
    with Zygote(tmp_path) as zygote:
        network = Network(tmp_path, zygote)
        network.watched = True
        network.join()
        public = [f"data.test={tmp_path / 'test.csv'}", f"declared.units={EACH}"]
        private = ["privacy=record", "privacy.epsilon=4", "secagg=on", f"train.rounds={ROUNDS}"]
        serve = network.serve("long", *public, *private)
        serve.wait_for(f"round {ROUNDS // 2}/")
        half = _files_of_ends(network)
        checkpoints = len(list(network.run_path("long").glob("checkpoints/*")))
        assert serve.wait() == 0, serve.said
        network.stop()
    for name, count in _files_of_ends(network).items():
        assert count <= half[name]
    assert len(list(network.run_path("long").glob("checkpoints/*"))) <= max(2, checkpoints)
    assert len(network.run("long").metrics()) == ROUNDS
    for site in network.sites.values():
        _check(site.said, SITE)
    _check(serve.said, COORDINATOR)


def _check(said: str, most: dict[str, float]) -> None:
    rooms = rooms_in(said)
    assert len(rooms) == ROUNDS // 10
    found = grown(rooms[WARM:])
    print(found)
    assert all(found[name] <= bound for name, bound in most.items()), (found, rooms)
