"""``privacy=site`` through the real apps: whole updates, clipped, with noise in shares."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import fedmodel.mechanisms.shares
import fedmodel.secagg.sums
from clients.site_run import SiteRun
from fedmodel import wire
from fedmodel.accounting.claims import epsilon
from fedmodel.accounting.planning import plan_of
from fedmodel.errors import ConfigError, DivergedError, QuorumError, RunFolderError
from fedmodel.job import ProposedPrivacy
from fedmodel.ledger import Ledger
from fedmodel.secagg.graph import COMPLETE
from fedmodel.secagg.messages import Shares, decode
from simulations.faults import Fault

pytestmark = pytest.mark.long

SITE = ProposedPrivacy(
    mechanism="site", unit="site", epsilon=8.0, delta=1e-3, clip=0.5, evaluation="suppressed"
)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Collect what each site adds its noise to."""
    seen: list[Any] = []
    real = fedmodel.mechanisms.shares.noised

    def noised(entropy: Any, total: Any, shares: Any) -> Any:
        seen.append(total.copy())
        return real(entropy, total, shares)

    monkeypatch.setattr(fedmodel.mechanisms.shares, "noised", noised)
    return seen


def test_each_site_gives_its_whole_update_clipped_to_the_norm(lab: Any, given: list[Any]) -> None:
    plain = lab.run(lab.job("off", rounds=1, steps=3))
    updates = [
        np.frombuffer(c.message.content["arrays"]["vector"].numpy().tobytes(), np.float32)
        for c in plain.grid.replies("train")
    ]
    for clip in (0.05, 1e3):
        given.clear()
        lab.run(lab.job(privacy=replace(SITE, clip=clip), rounds=1, steps=3))
        assert len(given) == 5
        for found, update in zip(given, updates, strict=True):
            norm = float(np.linalg.norm(update))
            expected = update * min(1.0, clip / norm)
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
            assert np.linalg.norm(found.astype(np.float64)) <= clip


def test_the_noise_is_the_promised_one_of_the_whole_sum(lab: Any) -> None:
    job = lab.job(privacy=SITE, rounds=1, method="full", lr=1e-30, head_lr=1e-30)
    plan = plan_of(job)
    ran = lab.run(job, faults=[Fault(what="back", kind="train", node=4)])
    values = (ran.vector - ran.start).astype(np.float64) * 4 / plan.noise_std(1)
    assert values.size > 20_000
    # Four survive; the noise of three is what is accounted for.
    assert np.var(values) == pytest.approx(4 / 3, rel=5 * (2 / values.size) ** 0.5 + 1e-3)
    assert abs(values.mean()) < 6 * (4 / 3 / values.size) ** 0.5


@pytest.mark.parametrize(
    ("decay", "method", "least"),
    [
        (10.0, "head", 250),  # few numbers, of which the variances still lie far apart
        pytest.param(0.1, "full", 20_000, marks=pytest.mark.slow),
        pytest.param(10.0, "full", 20_000, marks=pytest.mark.slow),
    ],
)
def test_noise_that_decays_is_each_rounds_own_at_the_sites_and_in_the_sum(
    lab: Any, decay: float, method: str, least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, added = fedmodel.mechanisms.shares.noised, []

    def noised(entropy: Any, total: Any, shares: Any) -> Any:
        added.append(shares.std)
        return real(entropy, total, shares)

    monkeypatch.setattr(fedmodel.mechanisms.shares, "noised", noised)
    privacy = replace(SITE, decay=decay)
    job = lab.job(privacy=privacy, rounds=2, method=method, lr=1e-30, head_lr=1e-30)
    plan = plan_of(job)
    ran = lab.run(job)
    assert added == [plan.noise_std(round_) for round_ in (1, 2) for _ in ran.sites]
    values = (ran.vector - ran.start).astype(np.float64) * 5
    expected = 5 / plan.honest * (plan.noise_std(1) ** 2 + plan.noise_std(2) ** 2)
    assert values.size > least
    assert np.var(values) == pytest.approx(expected, rel=5 * (2 / values.size) ** 0.5 + 1e-3)
    for node in ran.sites:
        noises = [entry.spend().noise_multiplier for entry in ran.spent(node)]
        assert noises == [plan.spend(round_, 1).noise_multiplier for round_ in (1, 2)]


def test_the_ledgers_say_one_unsampled_step_a_round(lab: Any) -> None:
    job = lab.job(privacy=SITE, rounds=3, steps=4)
    plan = plan_of(job)
    ran = lab.run(job)
    for node in ran.sites:
        entries = ran.spent(node)
        assert [(e.round, e.steps) for e in entries] == [(1, 1), (2, 1), (3, 1)]
        assert {e.spend().rate for e in entries} == {1.0}
        assert {e.spend().noise_multiplier for e in entries} == {plan.noise_multiplier}
        assert epsilon([e.spend() for e in entries], 1e-3) <= 8.0
    for crossed in ran.grid.replies("train"):
        assert crossed.names == {"config/version", "config/head", "config/proof"}


def test_delta_must_be_below_one_over_the_sites(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"privacy\.delta=0\.2 must be below 1/sites"):
        lab.job(privacy=replace(SITE, delta=0.2))
    # A coordinator that doesn't care meets sites that do.
    job = lab.job(privacy=replace(SITE, delta=0.19))
    job = replace(job, privacy=replace(job.privacy, delta=0.2))
    ran = lab.run(job, error=QuorumError)
    assert "0 of 5 sites joined" in str(ran.error)


def test_training_that_diverges_counts_for_zeros_and_is_told_nobody(
    lab: Any, given: list[Any]
) -> None:
    job = lab.job(privacy=SITE, rounds=1)
    with pytest.MonkeyPatch.context() as patch:
        real = SiteRun._train

        def train(self: Any, *rest: Any) -> Any:
            if self.site.name == "s02":
                raise DivergedError("local training diverged")
            return real(self, *rest)

        patch.setattr(SiteRun, "_train", train)
        ran = lab.run(job)
    assert (ran.rows[0]["updates"], ran.rows[0]["failures"]) == (5, {})
    assert [bool(found.any()) for found in given] == [True, True, False, True, True]
    assert len(ran.spent(4)) == 1


def test_a_state_that_cannot_be_read_is_not_taken_for_divergence(lab: Any) -> None:
    job = lab.job(privacy=SITE, rounds=3)
    with pytest.MonkeyPatch.context() as patch:

        def train(self: Any, *rest: Any) -> Any:
            raise RunFolderError("the optimiser's state is broken")

        patch.setattr(SiteRun, "_train", train)
        ran = lab.run(job, error=QuorumError)
    assert "RunFolderError" in str(ran.error)


@pytest.mark.slow
def test_another_attempt_draws_new_noise_and_is_paid_once(lab: Any, given: list[Any]) -> None:
    faults = [Fault(what="back", kind="train", node=n, times=(1, 2)) for n in (3, 5)]
    ran = lab.run(lab.job(privacy=SITE, rounds=3), faults=faults)
    assert [e.round for e in ran.spent(2)] == [1, 2, 3]
    entries = Ledger(ran.sites[2].ledger_file).entries()
    assert [(e.round, e.attempt) for e in entries if e.type == "repeat"] == [(1, 2)]
    np.testing.assert_array_equal(given[0], given[5])  # of one site, of one round


@pytest.mark.slow
def test_sixty_sites_that_do_not_all_know_each_other(lab: Any) -> None:
    """Above 50 sites each masks with some neighbours only; a few drop out in every leg."""
    count = 60
    assert count > COMPLETE
    rows = lab.sites(count)
    faults = [
        *(Fault(what="there", kind="query.open", node=n) for n in (10, 33)),
        *(Fault(what="back", kind="train", node=n) for n in (7, 20, 51)),
        *(Fault(what="back", kind="query.consent", node=n) for n in (8, 61)),
        *(Fault(what="there", kind="query.reveal", node=n) for n in (9, 40)),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fedmodel.mechanisms.shares, "noised", rounded)
        patch.setattr(fedmodel.mechanisms.shares, "GRID_BITS", 14)
        patch.setattr(fedmodel.mechanisms.shares, "_LEAST", 2.0**14)
        hide = {"survivors": 50, "colluders": 2}
        job = lab.job(privacy=replace(SITE, clip=1e3), sites=rows, rounds=1, hide=hide)
        ran = lab.run(job, rows, faults=faults)
    # What each site has to do goes by its neighbours: it shares with them, and with nobody else.
    opened = [
        decode(Shares, wire.parcel(c.message.content, "secagg").tobytes())
        for c in ran.grid.replies("query.open")
    ]
    assert {len(shares.boxes) for shares in opened} == {24}
    (row,) = ran.rows
    assert (row["asked"], row["updates"]) == (60, 55)
    legs = {node: why.partition(":")[0] for node, why in row["failures"].items()}
    assert legs == (
        dict.fromkeys(("10", "33"), "open")
        | dict.fromkeys(("7", "20", "51"), "upload")
        | dict.fromkeys(("8", "61"), "consent")
        | dict.fromkeys(("9", "40"), "reveal")
    )
    gone = {10, 33, 7, 20, 51}
    plain = lab.run(
        lab.job("off", sites=rows, rounds=1),
        rows,
        faults=[Fault(what="there", kind="train", node=n) for n in gone],
    )
    # Five sites' rows repeat twelve times, so that the mean is easily right: look closely.
    np.testing.assert_allclose(ran.vector, plain.vector, atol=2e-2 * np.abs(plain.vector).max())
    for node in ran.sites:
        assert len(ran.spent(node)) == (0 if node in (10, 33) else 1)


def rounded(entropy: Any, total: Any, shares: Any) -> Any:
    whole = np.rint(total.astype(np.float64) / shares.grid)
    return whole.astype(np.int64).astype(np.uint32)
