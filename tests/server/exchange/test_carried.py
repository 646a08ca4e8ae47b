"""What carries the sites' answers, without their keys: it can spoil them, and frame nobody."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import RecordDict

from fedmodel import wire
from fedmodel.errors import RefusedError
from server.exchange.channel import Channel
from simulations.loopback import LoopbackGrid
from tests.server.exchange.masked import COUNT, NODES, Sites, change, job_of, mean_of, play
from tests.server.exchange.replies import channel_of

ROUNDS = 3


class Carrier(LoopbackGrid):
    """As Flower's own grids: it says nothing of whose word a reply is."""

    signed_replies = False


def flipped(data: bytes) -> bytes:
    at = len(data) - 7
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


WAYS: dict[str, Callable[[bytes], bytes]] = {
    "flipped": flipped,
    "cut": lambda data: data[:-1],
    "longer": lambda data: data + b"\0",
    "empty": lambda data: b"",
    "noise": lambda data: os.urandom(len(data)),
}


def spoiling(leg: str, parcel: str, way: str, rounds: int = 1) -> Any:
    """Have node 4's answers in a leg be spoilt in the first rounds."""
    seen: list[int] = []

    def meddle(kind: str, node: int, reply: RecordDict) -> RecordDict:
        if (kind, node) != (leg, 4):
            return reply
        seen.append(node)
        if len(seen) > rounds:
            return reply
        return wire.add_parcel(reply, parcel, WAYS[way](wire.parcel(reply, parcel).tobytes()))

    return meddle


def times(sites: Sites, kind: str, node: int) -> int:
    return sites.talk.count((kind, node))


def test_which_channels_carry_what_is_signed() -> None:
    assert not channel_of(()).signed
    contexts: dict[int, Any] = {}
    grids = (grid(Sites(job_of()).app(), contexts, _run()) for grid in (LoopbackGrid, Carrier))
    assert [Channel(grid).signed for grid in grids] == [True, False]


def _run() -> Any:
    from flwr.supercore.run import Run

    return Run.create_empty(1)


@pytest.mark.sample(2)
@pytest.mark.long
@pytest.mark.parametrize("way", WAYS)
def test_a_site_whose_vector_was_changed_is_back_in_the_next_round(way: str) -> None:
    sites = Sites(job_of(rounds=ROUNDS), spoiling("train", "masked", way))
    result, rows = play(sites, Carrier)
    assert [row["updates"] for row in rows] == [COUNT - 1, COUNT, COUNT]
    why = rows[0]["failures"]["4"]
    assert ("isn't the one that it has signed" in why) == (way in ("flipped", "noise"))
    assert rows[0]["blamed"] == {"4": f"{why} (by the site, or by what carries its answers)"}
    assert not any("blamed" in row for row in rows[1:])
    assert times(sites, "query.open", 4) == ROUNDS
    first = np.mean([change(n, 1) for n in NODES if n != 4], axis=0)
    later = [np.mean([change(n, r) for n in NODES], axis=0) for r in (2, 3)]
    np.testing.assert_allclose(result.vector, first + sum(later), atol=2e-5)


def test_the_same_from_the_site_itself_is_proof() -> None:
    sites = Sites(job_of(rounds=ROUNDS), spoiling("train", "masked", "flipped"))
    _, rows = play(sites)
    assert [row["updates"] for row in rows] == [COUNT - 1] * ROUNDS
    assert [set(row["blamed"]) for row in rows] == [{"4"}] * ROUNDS
    assert times(sites, "query.open", 4) == 1


@pytest.mark.sample(2)
@pytest.mark.long
@pytest.mark.parametrize("way", ["flipped", "cut"])
@pytest.mark.parametrize("leg", ["query.open", "train", "query.consent", "query.reveal"])
def test_no_leg_frames_a_site(leg: str, way: str) -> None:
    sites = Sites(job_of(rounds=ROUNDS), spoiling(leg, "secagg", way, rounds=2))
    _, rows = play(sites, Carrier)
    assert rows[2]["updates"] == COUNT
    assert "blamed" not in rows[2]
    assert times(sites, "query.open", 4) == ROUNDS


def test_a_spoilt_answer_leaves_its_site_out_of_the_rounds_other_attempts() -> None:
    silent: list[int] = []

    def raising(kind: str, node: int) -> Exception | None:
        if (kind, node) == ("train", 6) and not silent:
            silent.append(node)
            return RefusedError("not now")
        return None

    sites = Sites(job_of(rounds=2), spoiling("train", "masked", "flipped"), raising)
    result, rows = play(sites, Carrier)
    assert [row["updates"] for row in rows] == [COUNT - 1, COUNT]
    assert (times(sites, "query.open", 4), times(sites, "query.open", 6)) == (2, 3)
    assert set(rows[0]["blamed"]) == {"4"}
    expected = mean_of(2, 3, 5, 6) + np.mean([change(n, 2) for n in NODES], axis=0)
    np.testing.assert_allclose(result.vector, expected, atol=2e-5)
