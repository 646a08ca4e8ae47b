"""Sites that disagree on their common mask: left out by the coordinator, before anybody trains."""

from dataclasses import replace

import numpy as np
import pytest
from flwr.app import RecordDict

from fedmodel import wire
from fedmodel.errors import QuorumError
from fedmodel.secagg import messages
from tests.server.exchange.masked import KEYS, Meddle, Sites, job_of, mean_of, play


def other_pairs(*neighbours: int) -> Meddle:
    """Have node 4 (site 3 of five) commit to other seeds than it shares with some neighbours."""

    def meddle(kind: str, node: int, reply: RecordDict) -> RecordDict:
        if (kind, node) == ("query.open", 4):
            shares = messages.decode(messages.Shares, wire.parcel(reply, "secagg").tobytes())
            pairs = [shares.pairs[i : i + 64] for i in range(0, len(shares.pairs), 64)]
            for n in neighbours:
                pairs[n - 1 - (n > 3)] = "0" * 64
            made = replace(shares, pairs="".join(pairs))
            signed = replace(made, signature=KEYS[4].sign(made.signed()).hex())
            wire.add_parcel(reply, "secagg", messages.encode(signed))
        return reply

    return meddle


def test_who_disagrees_with_many_is_left_out_alone_and_named() -> None:
    sites = Sites(job_of(rounds=2), other_pairs(1, 2, 5))
    result, rows = play(sites)
    assert [row["updates"] for row in rows] == [4, 4]
    assert all("in dispute with it" in row["blamed"]["4"] for row in rows)
    assert ("train", 4) not in sites.talk
    np.testing.assert_allclose(result.vector, mean_of(2, 3, 5, 6, rounds=2), atol=2e-5)


def test_of_a_pair_one_goes_where_both_cannot() -> None:
    sites = Sites(job_of(), other_pairs(5))  # five sites, four survivors: node 4 with node 6
    result, rows = play(sites)
    assert rows[0]["updates"] == 4
    assert set(rows[0]["blamed"]) == {"4", "6"}
    left = {n for n in (4, 6) if ("train", n) in sites.talk}
    assert len(left) == 1
    np.testing.assert_allclose(result.vector, mean_of(2, 3, 5, *left), atol=1e-5)


def test_where_nobody_can_go_nothing_is_computed() -> None:
    sites = Sites(job_of(secagg={"survivors": 5}), other_pairs(5))
    with pytest.raises(QuorumError, match="committed to different seeds of their common mask"):
        play(sites)
    assert not any(kind == "train" for kind, _ in sites.talk)
