"""Hidden and sealed updates through the real apps: the same model, and nothing else crosses."""

import itertools
import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, Message

from clients.policy import Policy
from fedmodel import wire
from fedmodel.errors import ConfigError, QuorumError
from fedmodel.job import ProposedPrivacy
from fedmodel.mechanisms import noise
from fedmodel.secagg.agreement import Floors
from fedmodel.secagg.sums import PlainSum
from fedmodel.update import Update
from simulations.faults import Fault
from tests.conftest import new_run

pytestmark = pytest.mark.long

RECORD = ProposedPrivacy(mechanism="dpsgd", epsilon=8.0, delta=1e-3)
NOISELESS = ProposedPrivacy(mechanism="dpsgd", epsilon=8.0, delta=1e-3, clip=1e6, rate=1.0)


def sizes(lab: Any) -> Any:
    """Return sites of different sizes."""
    rows = lab.rows
    return {f"s{i}": rows.select(range(3 * i, 3 * i + 4 + i)) for i in range(4)} | {
        "s9": rows.select(range(10, 20))
    }


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "lora": {"method": "lora"},
    "full": {"method": "full", "lr": 0.01},
    "rows": {"aggregation": {"weights": "examples"}},
    "momentum": {"aggregation": {"optimizer": "fedavgm", "momentum": 0.5}},
    "adam": {"aggregation": {"optimizer": "fedadam", "lr": 0.01}},
    "rows-adam": {"aggregation": {"optimizer": "fedadam", "lr": 0.01, "weights": "examples"}},
    "kept": {"momentum": 0.5, "optimizer_state": "keep"},
    "some": {"federation": {"fraction": 0.8}},
    "narrow": {"hide": {"bits": 20}},
}


@pytest.mark.sample(1)
@pytest.mark.parametrize("case", CASES)
def test_a_secure_sum_gives_the_same_model_but_for_fixed_point(lab: Any, case: str) -> None:
    sites = sizes(lab)
    job = lab.job("on", sites=sites, **CASES[case])
    if case == "some":  # of a part of the roster a site sums only if its operator has agreed to it
        agreed = Policy(approval="auto", floors=Floors(threshold=3))
        lab.changed = lambda node, site: replace(site, policy=agreed)
    hidden = lab.run(job, sites)
    plain = lab.run(lab.job("off", sites=sites, **CASES[case]), sites)
    scale = float(np.abs(plain.vector - plain.start).max())
    assert scale > 1e-3
    # An adaptive step divides by as little as tau.
    factor = 10.0 if "adam" in case else 4.0
    np.testing.assert_allclose(hidden.vector, plain.vector, atol=factor * lab.bound(job))
    for one, other in zip(hidden.rows, plain.rows, strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], abs=20 * lab.bound(job))
        assert (one["updates"], one["failures"]) == (other["updates"], {})


@pytest.mark.slow
def test_one_round_is_as_close_as_the_rounding_allows(lab: Any) -> None:
    for aggregation in ({}, {"weights": "examples"}):
        sites = sizes(lab)
        job = lab.job("on", sites=sites, rounds=1, aggregation=aggregation)
        plain = lab.run(lab.job("off", sites=sites, rounds=1, aggregation=aggregation), sites)
        bound = lab.bound(job)
        if aggregation:
            # Each site's weighted number is off by half a step, and the whole is scaled back.
            most, weight = job.secagg.masked.max_weight, sum(map(len, sites.values()))
            bound = (bound - 1e-7) * len(sites) * most / weight + 1e-7
        np.testing.assert_allclose(lab.run(job, sites).vector, plain.vector, atol=bound)


@pytest.mark.slow
@pytest.mark.parametrize("secagg", ["on", "seal"])
def test_private_updates_are_hidden_as_others_are(
    lab: Any, secagg: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noise, "add_gaussian_", lambda entropy, total, std: None)
    job = lab.job(secagg, NOISELESS)
    hidden, plain = lab.run(job), lab.run(lab.job("off", NOISELESS))
    assert float(np.abs(plain.vector - plain.start).max()) > 1e-3
    off = 4 * lab.bound(job) if secagg == "on" else 0.0  # an envelope rounds nothing
    np.testing.assert_allclose(hidden.vector, plain.vector, atol=off)
    assert "train_loss" not in hidden.rows[0]
    # Each site keeps its own ε; a secure sum is worth none.
    for node in hidden.sites:
        assert [e.spend() for e in hidden.spent(node)] == [e.spend() for e in plain.spent(node)]


# -- what crosses --------------------------------------------------------------------------------


def pieces(data: bytes, size: int = 16) -> set[bytes]:
    """Return pieces of some bytes by which they would be known again."""
    found = (data[at : at + size] for at in range(0, len(data) - size, 4))
    return {piece for piece in found if len(set(piece)) > size // 2}


@pytest.mark.sample(2)
@pytest.mark.parametrize(("secagg", "privacy"), [("on", None), ("on", RECORD), ("seal", None)])
def test_no_reply_has_a_piece_of_a_plain_update(
    lab: Any, secagg: str, privacy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[bytes] = []
    real = Update.of.__func__  # type: ignore[attr-defined]

    def of(cls: Any, change: Any, *rest: Any) -> Any:
        update = real(cls, change, *rest)
        made.extend([change.tobytes(), update.vector.tobytes()])
        return update

    with monkeypatch.context() as patch:
        patch.setattr(Update, "of", classmethod(of))
        ran = lab.run(lab.job(secagg, privacy))
    known = set().union(*map(pieces, made))
    assert len(known) > 500
    crossed = b"".join(c.raw for c in ran.grid.crossed if c.reply)
    assert not any(piece in crossed for piece in known)
    if privacy is None:
        # The search finds what is there.
        bare = lab.run(lab.job("off"))
        crossed = b"".join(c.raw for c in bare.grid.crossed if c.reply)
        assert any(piece in crossed for piece in known)


@pytest.mark.sample(1)
@pytest.mark.parametrize("weights", ["uniform", "examples"])
def test_neither_weight_nor_loss_is_in_a_reply(lab: Any, weights: str) -> None:
    ran = lab.run(lab.job("on", aggregation={"weights": weights}))
    for crossed in ran.grid.crossed:
        if crossed.reply and crossed.kind not in ("query.hello", "query.join"):
            assert crossed.names == {"config/version"}
    for crossed in ran.grid.replies("train"):
        assert set(crossed.arrays) == {"parcels/secagg", "parcels/masked"}
        header = crossed.arrays["parcels/secagg"]
        assert b"manifest" in header
        assert b"weight" not in header
    # What it was last shown of the coordinator's own ledger is the coordinator's to know.
    told = {"config/version", "config/own-seen"}
    assert {c.names == told for c in ran.grid.replies("query.join")} == {True}


def masked(ran: Any) -> list[Any]:
    """Return every upload's bytes (after what says that it is an array)."""
    found = []
    for crossed in ran.grid.replies("train"):
        array = crossed.message.content["parcels"]["masked"]
        found.append(array.numpy())
    return found


def assert_uniform(data: Any) -> None:
    """A χ² test on bytes, 255 degrees of freedom: beyond 420 with probability 1e-10."""
    expected = data.size / 256
    assert expected > 50
    found = ((np.bincount(data, minlength=256) - expected) ** 2 / expected).sum()
    assert found < 420


def test_masked_uploads_look_like_noise_and_never_repeat(lab: Any) -> None:
    job = lab.job("on", method="lora", rounds=2)
    one, other = masked(lab.run(job)), masked(lab.run(job))
    assert len(one) == len(other) == 10
    assert_uniform(np.concatenate(one))
    for a, b in zip(one, other, strict=True):
        # The same update under other masks: what differs is as random as the masks.
        assert_uniform(a ^ b)
    for a, b in itertools.pairwise(one):
        assert_uniform(a ^ b)
    # And the sum of all uploads, without what is revealed, too.
    assert_uniform(np.bitwise_xor.reduce(np.stack(one[:5])))


def test_what_is_not_masked_would_not_look_like_noise(lab: Any) -> None:
    job = lab.job("on", method="lora")
    sums = PlainSum(job, 5000)
    ring = np.empty(sums.count, np.uint32)
    sums.encode(Update.of(np.linspace(-0.1, 0.1, 5000, dtype=np.float32)))(0, sums.count, ring)
    with pytest.raises(AssertionError):
        assert_uniform(ring.view(np.uint8))


# -- sealed --------------------------------------------------------------------------------------


@pytest.mark.sample(1)
@pytest.mark.parametrize("case", ["plain", "rows", "adam", "lora"])
def test_sealed_updates_give_exactly_the_same_model(lab: Any, case: str) -> None:
    sites = sizes(lab)
    sealed = lab.run(lab.job("seal", sites=sites, **CASES[case]), sites)
    plain = lab.run(lab.job("off", sites=sites, **CASES[case]), sites)
    assert sealed.vector.tobytes() == plain.vector.tobytes()
    assert sealed.rows == plain.rows
    for crossed in sealed.grid.replies("train"):
        assert set(crossed.arrays) == {"parcels/sealed"}
        assert crossed.names == {"config/version"}


class Relay:
    """Stands between the sites and the coordinator, and does something to envelopes."""

    def __init__(self, change: Callable[[dict[int, bytes], bytes], bytes | None]) -> None:
        self.change = change
        self.seen: dict[int, bytes] = {}
        self.victim, self.rounds = 4, 0

    def __call__(self, kind: str, node: int, reply: Message) -> Message:
        if kind != "train":
            return reply
        sealed = wire.parcel(reply.content, "sealed").tobytes()
        if node == self.victim:
            self.rounds += 1
            if self.rounds == 2:
                changed = self.change(self.seen, sealed)
                reply.content["parcels"] = ArrayRecord()
                if changed is not None:
                    wire.add_parcel(reply.content, "sealed", changed)
        self.seen[node] = sealed
        return reply


CHANGES: dict[str, tuple[Callable[[dict[int, bytes], bytes], bytes | None], str]] = {
    "swapped": (lambda seen, own: seen[3], "signature"),
    "replayed": (lambda seen, own: seen[4], "signature"),
    "cut": (lambda seen, own: own[:-1], "must have"),
    "flipped": (lambda seen, own: own[:-5] + bytes([own[-5] ^ 1]) + own[-4:], "signature"),
    "another version": (lambda seen, own: b"fedmodel.seal/2\n" + own[16:], "version"),
    "empty": (lambda seen, own: b"", "must have"),
    "gone": (lambda seen, own: None, "sealed"),
}


@pytest.mark.sample(2)
@pytest.mark.parametrize("change", CHANGES)
def test_an_envelope_that_was_meddled_with_is_its_sites_failure(lab: Any, change: str) -> None:
    meddle, why = CHANGES[change]
    ran = lab.run(lab.job("seal"), relay=Relay(meddle))
    first, second = ran.rows
    assert (first["failures"], first["updates"], second["updates"]) == ({}, 5, 4)
    assert set(second["failures"]) == {"4"}
    assert second["failures"]["4"].startswith("malformed update: ")
    assert why in second["failures"]["4"]
    faults = [Fault(what="back", kind="train", node=4, times=(2,))]
    plain = lab.run(lab.job("off"), faults=faults)
    assert ran.vector.tobytes() == plain.vector.tobytes()


def test_an_envelope_of_another_run_is_not_opened(lab: Any) -> None:
    before = lab.run(lab.job("seal", rounds=1))
    (old,) = before.grid.replies("train", 4)

    def relay(kind: str, node: int, reply: Message) -> Message:
        if (kind, node) == ("train", 4):
            reply.content["parcels"] = old.message.content["parcels"]
        return reply

    # The same folder: the same keys.
    folder = new_run(lab.folder / "again")
    shutil.copytree(before.folder.path / "coordinator", folder.path / "coordinator")
    ran = lab.run(lab.job("seal", rounds=1), folder=folder, relay=relay)
    assert set(ran.rows[0]["failures"]) == {"4"}


# -- what a site refuses -------------------------------------------------------------------------


def test_a_number_beyond_the_range_is_named(lab: Any) -> None:
    job = lab.job("on", hide={"range": 1e-3, "overflow": "refuse"}, head_lr=5.0)
    ran = lab.run(job, error=QuorumError)
    assert "secagg.range" in str(ran.error)
    clipped = lab.run(lab.job("on", hide={"range": 1e-3}, head_lr=5.0))
    assert 0 < np.abs(clipped.vector - clipped.start).max() <= 2 * 1.001e-3


def test_too_few_sites_for_a_secure_sum_are_named_before_anything_runs(lab: Any) -> None:
    with pytest.raises(ConfigError, match="needs 3 sites in a round"):
        lab.job("on", sites=lab.sites(2))
    job = lab.job("on", sites=lab.sites(3))
    assert (job.secagg.masked.survivors, job.secagg.masked.colluders) == (3, 0)
    # Of three sites none is safe from the coordinator with another: their operators must agree.
    ran = lab.run(job, lab.sites(3), error=QuorumError)
    assert "agree on floors.colluders=0" in str(ran.error)
    agreed = Policy(approval="auto", floors=Floors(colluders=0))
    lab.changed = lambda node, site: replace(site, policy=agreed)
    assert lab.run(job, lab.sites(3)).rows[-1]["updates"] == 3
