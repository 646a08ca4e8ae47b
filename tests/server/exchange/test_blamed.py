"""Sites that spoil secure sums: who is left out of the next attempt and round, and is named."""

import os
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import RecordDict

from fedmodel import wire
from fedmodel.errors import AccusationError, QuorumError, RefusedError
from fedmodel.secagg import messages
from tests.server.exchange.masked import KEYS, NODES, Meddle, Sites, change, job_of, mean_of, play


def times(sites: Sites, kind: str, node: int) -> int:
    return sites.talk.count((kind, node))


def cut(kind: str, node: int, reply: RecordDict) -> RecordDict:
    """Have node 4 upload a byte less."""
    if (kind, node) == ("train", 4):
        wire.add_parcel(reply, "masked", wire.parcel(reply, "masked").tobytes()[:-1])
    return reply


def rubbish_for(*holders: int) -> Meddle:
    """Have node 4 (site 3) seal rubbish for some sites, well signed."""

    def meddle(kind: str, node: int, reply: RecordDict) -> RecordDict:
        if (kind, node) == ("query.open", 4):
            data = wire.parcel(reply, "secagg").tobytes()
            shares = messages.decode(messages.Shares, data)
            boxes = tuple(
                replace(b, box=os.urandom(len(b.box) // 2).hex()) if b.member in holders else b
                for b in shares.boxes
            )
            made = replace(shares, boxes=boxes)
            signed = replace(made, signature=KEYS[4].sign(made.signed()).hex())
            wire.add_parcel(reply, "secagg", messages.encode(signed))
        return reply

    return meddle


def test_who_is_proved_wrong_is_named_and_asked_no_more(caplog: pytest.LogCaptureFixture) -> None:
    sites = Sites(job_of(rounds=3), cut)
    result, rows = play(sites)
    assert caplog.text.count("site s4 is wrong, and is left out of this run's sums") == 1
    assert times(sites, "query.open", 4) == 1
    assert times(sites, "query.open", 3) == 3
    assert [row["updates"] for row in rows] == [4, 4, 4]
    assert [set(row["blamed"]) for row in rows] == [{"4"}] * 3
    assert "must have" in rows[2]["blamed"]["4"]
    assert set(result.blamed) == {4}
    np.testing.assert_allclose(result.vector, mean_of(2, 3, 5, 6, rounds=3), atol=2e-5)


def test_who_is_proved_wrong_is_out_of_the_next_attempt() -> None:
    silent: list[int] = []

    def raising(kind: str, node: int) -> Exception | None:
        if (kind, node) == ("train", 6) and not silent:
            silent.append(node)
            return RefusedError("not now")
        return None

    sites = Sites(job_of(), cut, raising)
    result, rows = play(sites)
    assert (times(sites, "query.open", 4), times(sites, "query.open", 6)) == (1, 2)
    assert rows[0]["failures"] == {}
    assert set(rows[0]["blamed"]) == {"4"}
    np.testing.assert_allclose(result.vector, mean_of(2, 3, 5, 6), atol=1e-5)


def test_where_too_few_would_be_left_the_wrong_one_is_tried_again_and_the_run_names_it() -> None:
    def cutting(kind: str, node: int, reply: RecordDict) -> RecordDict:
        return cut(kind, 4, reply) if node in (4, 6) else reply

    sites = Sites(job_of(), cutting)
    with pytest.raises(QuorumError, match="to blame: upload: malformed answer in leg 'upload'"):
        play(sites)
    assert times(sites, "query.open", 4) + times(sites, "query.open", 6) == 3


@pytest.mark.long
def test_one_accusation_names_both_and_more_than_may_collude_the_accused_alone() -> None:
    sites = Sites(job_of(rounds=2), rubbish_for(1))
    result, rows = play(sites)
    assert set(rows[0]["failures"]) == {"2"}  # who can't go on; the sum is of the others
    assert rows[0]["updates"] == 4
    assert set(rows[0]["blamed"]) == {"2", "4"}
    assert "the shares from site 3: " in rows[0]["blamed"]["2"]

    sites = Sites(job_of(rounds=2), rubbish_for(1, 5))
    result, rows = play(sites)
    assert [row["updates"] for row in rows] == [4, 4]
    assert [set(row["blamed"]) for row in rows] == [{"4"}, {"4"}]
    assert "2 sites are in dispute with it, more than may collude" in rows[1]["blamed"]["4"]
    assert times(sites, "query.open", 4) == 1  # the first attempt; then no more
    np.testing.assert_allclose(result.vector, mean_of(2, 3, 5, 6, rounds=2), atol=2e-5)


def test_a_dispute_leaves_both_out_of_the_next_attempt_where_enough_are_left() -> None:
    job = job_of(rounds=2, secagg={"survivors": 3, "colluders": 0, "threshold": 3})
    sites = Sites(job, raising=accusing(2, 3, also_silent=(5, 6)))
    result, rows = play(sites)
    assert [row["updates"] for row in rows] == [3, 5]
    assert set(rows[0]["blamed"]) == {"2", "4"}
    assert "blamed" not in rows[1]
    first, second = ([change(n, r) for n in nodes] for r, nodes in ((1, (3, 5, 6)), (2, NODES)))
    expected = np.mean(first, axis=0) + np.mean(second, axis=0)
    np.testing.assert_allclose(result.vector, expected, atol=2e-5)


def accusing(node: int, accused: int, also_silent: tuple[int, ...]) -> Any:
    """Have a node accuse a site once, while others refuse, so that the attempt fails."""
    left = {node, *also_silent}

    def raising(kind: str, at: int) -> Exception | None:
        if kind != "train" or at not in left:
            return None
        left.remove(at)
        return AccusationError(accused, "rubbish") if at == node else RefusedError("not now")

    return raising


@pytest.mark.long
def test_of_a_false_accuser_and_its_victim_neither_gains_a_run_without_the_other() -> None:
    sites = Sites(job_of(rounds=3), raising=accusing(2, 3, also_silent=(6,)))
    result, rows = play(sites)
    assert [row["updates"] for row in rows] == [4, 5, 5]  # five sites: only the accuser can go
    assert (times(sites, "query.open", 2), times(sites, "query.open", 4)) == (3, 4)
    steps = [np.mean([change(n, r) for n in NODES if r > 1 or n != 2], axis=0) for r in (1, 2, 3)]
    np.testing.assert_allclose(result.vector, np.sum(steps, axis=0), atol=2e-5)


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("leg", "accused"),
    [("query.open", 1), ("query.consent", 1), ("query.reveal", 1), ("train", 77)],
)
def test_an_accusation_is_taken_only_for_shares_and_of_sites_that_there_are(
    leg: str, accused: int
) -> None:
    def raising(kind: str, node: int) -> Exception | None:
        return AccusationError(accused, "x") if (kind, node) == (leg, 4) else None

    _, rows = play(Sites(job_of(), raising=raising))
    assert "blamed" not in rows[0]
    assert set(rows[0]["failures"]) == {"4"}


def forged(leg: str) -> Meddle:
    """Have node 4 sign what it sends in a leg by another key than the roster's."""
    kinds: dict[str, Any] = {
        "query.open": messages.Shares, "train": messages.Upload, "query.consent": messages.Consent,
    }  # fmt: skip

    def meddle(kind: str, node: int, reply: RecordDict) -> RecordDict:
        if (kind, node) == (leg, 4):
            made = messages.decode(kinds[leg], wire.parcel(reply, "secagg").tobytes(), len(NODES))
            wire.add_parcel(reply, "secagg", messages.encode(replace(made, signature="0" * 128)))
        return reply

    return meddle


@pytest.mark.parametrize("leg", ["query.open", "train", "query.consent"])
def test_a_broken_signature_is_proof_and_its_site_is_asked_no_more(
    leg: str, caplog: pytest.LogCaptureFixture
) -> None:
    sites = Sites(job_of(rounds=2), forged(leg))
    _, rows = play(sites)
    # By the consents its vector was in the sum, which stands without its signature.
    assert [row["updates"] for row in rows] == [5 if leg == "query.consent" else 4, 4]
    assert times(sites, "query.open", 4) == 1
    assert set(rows[1]["blamed"]) == {"4"}
    assert caplog.text.count("site s4 is wrong, and is left out") == 1
