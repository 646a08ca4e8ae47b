"""The coordinator's ``ServerApp``: what it is given, and to whom a run's end is told."""

from pathlib import Path

import pytest
from flwr.app import Context, RecordDict
from flwr.serverapp import ServerApp
from flwr.supercore.object_ref import load_app, validate

from fedmodel.errors import ProtocolError, QuorumError, RefusedError
from server.app import app, make_app
from server.coordinator import Coordinator, RunResult
from tests.server.made_up import INITIAL, NODES, Sites, grid_of, job_of, only, play

ROOT = Path(__file__).parents[2]


def context(run_id: int = 1) -> Context:
    return Context(run_id, 1, {}, RecordDict(), {})


def coordinator(rounds: int = 2) -> Coordinator:
    return Coordinator(job=job_of(rounds), folder=None, initial=INITIAL)


def test_the_result_of_a_run_is_told_once_to_whoever_started_it() -> None:
    asked: list[int] = []
    told: list[RunResult] = []

    def coordinator_of(given: Context) -> Coordinator:
        asked.append(given.run_id)
        return coordinator()

    made = make_app(coordinator_of, told.append)
    made(grid_of(Sites()), context(7))
    assert asked == [7]
    (result,) = told
    expected = play(job_of(2), Sites())
    assert result.vector.tobytes() == expected.vector.tobytes()
    assert (result.rounds, result.updates) == (2, dict.fromkeys(NODES, 2))


def test_two_apps_of_one_process_know_nothing_of_one_another() -> None:
    told: dict[int, RunResult] = {}

    def made(rounds: int) -> ServerApp:
        return make_app(lambda _: coordinator(rounds), lambda r: told.__setitem__(rounds, r))

    one, three = made(1), made(3)
    three(grid_of(Sites()), context())
    one(grid_of(Sites()), context())
    assert {rounds: result.rounds for rounds, result in told.items()} == {1: 1, 3: 3}
    assert told[1].vector.tobytes() != told[3].vector.tobytes()


def test_a_run_that_fails_says_why_and_has_no_result() -> None:
    told: list[RunResult] = []
    sites = Sites(joining=only(*NODES, error=RefusedError("our rules")))
    with pytest.raises(QuorumError, match="our rules"):
        make_app(lambda _: coordinator(), told.append)(grid_of(sites), context())
    assert told == []


def test_who_says_what_to_coordinate_may_refuse() -> None:
    def refusing(given: Context) -> Coordinator:
        raise ProtocolError("not this one")

    sites, told = Sites(), list[RunResult]()
    with pytest.raises(ProtocolError, match="not this one"):
        make_app(refusing, told.append)(grid_of(sites), context())
    assert (sites.orders, told) == ([], [])


def test_it_waits_for_the_sites_as_long_as_the_coordinator_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    grid, waited = grid_of(Sites()), set[object]()
    real = grid.send_and_receive

    def send(messages: object, *, timeout: float | None = None) -> object:
        waited.add(timeout)
        return real(messages, timeout=timeout)  # type: ignore[arg-type]

    monkeypatch.setattr(grid, "send_and_receive", send)
    patient = Coordinator(job=job_of(1), folder=None, initial=INITIAL, timeout=12.5)
    make_app(lambda _: patient, lambda result: None)(grid, context())
    assert waited == {12.5}


def test_started_without_a_job_it_says_what_to_use() -> None:
    sites = Sites()
    with pytest.raises(ProtocolError, match="without a job; use 'fedmodel simulate'"):
        app(grid_of(sites), context())
    assert sites.orders == []


def test_flower_finds_it_by_its_source_and_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    assert validate("server.app:app", project_dir=ROOT) == (True, None)
    assert load_app("server.app:app", ImportError, project_dir=ROOT) is app
