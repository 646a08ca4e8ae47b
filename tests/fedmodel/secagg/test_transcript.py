"""A recorded round of secure sums: every later version replays it to the same bytes and total.

When this fails, sites of two versions can't be in one round: give the protocol a new version, and
keep this one's file. ``vectors/secagg_transcript_v1.json`` was written by 0.1.0, whose protocol has
no elements that check a sum: what it says is refused by name.
"""

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fedmodel.errors import ProtocolError
from fedmodel.secagg.messages import decode
from tests.fedmodel.secagg.recorded import VECTORS
from tests.fedmodel.secagg.test_messages import KINDS

if TYPE_CHECKING:
    from tests.fedmodel.secagg.conftest import World

GONE = 4  # falls silent after it has shared


class Recorded:
    """What was said, by name: ``advert 1``, ``open 1``, …"""

    def __init__(self, version: int) -> None:
        whole: dict[str, Any] = json.loads(
            (VECTORS / f"secagg_transcript_v{version}.json").read_text()
        )
        self.agreement: dict[str, Any] = whole["agreement"]
        self.sum: list[int] = whole["sum"]
        self.messages = {
            name: bytes.fromhex(text[4:]) if text.startswith("hex:") else text.encode()
            for name, text in whole["messages"]
        }

    def __getitem__(self, name: str) -> bytes:
        return self.messages[name]


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    return Recorded(2)


@pytest.fixture
def world(worlds: "type[World]", recorded: Recorded) -> "World":
    return worlds(**recorded.agreement)


def test_every_stage_is_recorded(recorded: Recorded) -> None:
    said = {name.split()[0] for name in recorded.messages}
    assert said == {
        *("advert", "open", "shares", "deliver", "upload", "vector"),
        *("survivors", "consent", "request", "reveal"),
    }
    assert {int(n.split()[1]) for n in recorded.messages if n.startswith("reveal")} == {1, 2, 3}


def test_a_coordinator_that_hears_the_recorded_sites(world: "World", recorded: Recorded) -> None:
    """Says what it said then, and finds the same sum; no site of this version takes part."""
    coordinator = world.make_coordinator()
    sites = (1, 2, 3, 4)
    for n in sites:
        coordinator.take_advert(recorded[f"advert {n}"])
    attempt = coordinator.begin(round=1, attempt=1, model="2" * 64, cohort=sites)
    for n in sites:
        assert attempt.open_for(n) == recorded[f"open {n}"]
        attempt.take_shares(n, recorded[f"shares {n}"])
    attempt.close_shares()
    for n in sites:
        assert attempt.deliver_for(n) == recorded[f"deliver {n}"]
        if n != GONE:
            vector = np.frombuffer(recorded[f"vector {n}"], np.uint8)
            attempt.take_upload(n, recorded[f"upload {n}"], vector)
    attempt.close_uploads()
    assert attempt.survivors_message() == recorded["survivors"]
    for n in attempt.survivors:
        attempt.take_consent(n, recorded[f"consent {n}"])
    attempt.close_consents()
    for n in attempt.survivors:
        assert attempt.request_for(n) == recorded[f"request {n}"]
        attempt.take_reveal(n, recorded[f"reveal {n}"])
    assert attempt.survivors == (1, 2, 3)
    assert attempt.total().tolist() == recorded.sum


@pytest.mark.parametrize("n", [1, 2, 3, GONE])
def test_a_site_that_hears_the_recorded_coordinator(
    world: "World", recorded: Recorded, n: int
) -> None:
    """Answers to the byte what it answered then."""
    site = world.sites[n]
    assert site.advert() == recorded[f"advert {n}"]
    assert site.open(recorded[f"open {n}"]) == recorded[f"shares {n}"]
    site.deliver(recorded[f"deliver {n}"])
    upload, vector = site.upload(world.writer(world.vectors()[n]))
    assert upload == recorded[f"upload {n}"]
    assert vector.tobytes() == recorded[f"vector {n}"]
    if n == GONE:
        return
    assert site.consent(recorded["survivors"]) == recorded[f"consent {n}"]
    assert site.reveal(recorded[f"request {n}"]) == recorded[f"reveal {n}"]


def test_the_recorded_sum_is_that_of_the_survivors(world: "World", recorded: Recorded) -> None:
    assert world.ring_sum(world.vectors(), (1, 2, 3)).tolist() == recorded.sum


# -- earlier versions ------------------------------------------------------------------------------


def test_what_version_1_said_is_refused_by_name(worlds: "type[World]") -> None:
    """Its sums have no check in them, and its signatures don't cover the vectors."""
    old = Recorded(1)
    world = worlds(**old.agreement)
    kinds = set()
    for name, data in old.messages.items():
        kind = name.split()[0]
        if kind == "vector":
            continue
        kinds.add(kind)
        said = rf"expected a message 'fedmodel\.secagg/2 {kind}', got b'fedmodel\.secagg/1 {kind}'"
        with pytest.raises(ProtocolError, match=said):
            decode(KINDS[kind], data)
    assert kinds == set(KINDS)
    with pytest.raises(ProtocolError, match=r"secagg/2 advert', got b'fedmodel\.secagg/1 adv"):
        world.make_coordinator().take_advert(old["advert 1"])
    with pytest.raises(ProtocolError, match=r"secagg/2 open', got b'fedmodel\.secagg/1 open"):
        world.sites[1].open(old["open 1"])
    world.share(world.begin())  # it goes on
