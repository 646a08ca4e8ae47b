"""A newer roster that is taken over in the midst of a run over the network, in any order."""

import time
from collections.abc import Iterator

import pytest

from fedmodel import cli
from tests.deployed import EACH
from tests.server.test_network_killed import Killed, killed

pytestmark = [pytest.mark.long, pytest.mark.slow]

ROUNDS, STEPS = 6, 2


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killed]:
    with killed(tmp_path_factory.mktemp("newer")) as made:
        yield made


def _take_over(network: Killed, order: list[str]) -> None:
    """Let parties take over a newer roster, and cut each line after each of them."""
    state, asked = network.deployed.state, ["provision", "role=consortium"]
    assert cli.main([*asked, f"home={state / 'consortium'}", "renew=roster"]) == 0
    newer = f"roster={state / 'consortium' / 'roster.json'}"
    for name in order:
        role = "coordinator" if name == "coordinator" else "site"
        assert cli.main(["provision", f"role={role}", f"home={state / name}", newer]) == 0
        for line in network.lines.values():
            line.cut()
        time.sleep(0.2)


@pytest.mark.parametrize(
    ("first", "secagg"),
    [("coordinator", "on"), ("sites", "on"), ("one site", "on"), ("sites", "off")],
)
def test_a_run_goes_on_while_a_newer_roster_is_taken_over_and_lines_are_cut(
    first: str, secagg: str, network: Killed
) -> None:
    names, run = network.deployed.names, f"{secagg}-{first.replace(' ', '-')}"
    order = {
        "coordinator": ["coordinator", *names],
        "sites": [*names, "coordinator"],
        "one site": [names[1], "coordinator", names[0], names[2]],
    }[first]
    before = {name: len(site.said) for name, site in network.sites.items()}
    serve = network.serve(
        run,
        *(f"data.test={network.deployed.root / 'test.csv'}", f"declared.units={EACH}"),
        *("privacy=record", "privacy.epsilon=4", f"secagg={secagg}", f"train.rounds={ROUNDS}"),
        *("grace=60", "deadline=120", "federation.quorum=1"),
    )
    serve.wait_for("round 1/")
    for line in network.lines.values():
        line.delay = 0.05  # so that there are rounds left
    try:
        _take_over(network, order)
        assert network.zygote.code(serve.pid) is None, serve.said
    finally:
        for line in network.lines.values():
            line.delay = 0.0
    assert serve.wait() == 0, serve.said[-4000:]
    assert "joined anew" not in serve.said
    summary = network.run(run).summary()
    assert summary is not None
    assert {site.rounds for site in summary.privacy.sites.values()} == {ROUNDS}
    for name, site in network.sites.items():
        assert "and the run goes by version" in site.said[before[name] :]
        book = network.ledger(name).book()
        folder = network.run(run)
        (reservation,) = book.of(folder.run, folder.manifest.job_sha256)
        assert sum(spend.steps for spend in reservation.done()) == ROUNDS * STEPS
