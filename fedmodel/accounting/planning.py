"""Planning: from a job's promise to the plan that keeps it, its noise calibrated."""

from functools import lru_cache

from fedmodel import job
from fedmodel.accounting.calibration import Scaled, calibrate_schedule
from fedmodel.accounting.claims import claim
from fedmodel.accounting.plan import Plan
from fedmodel.accounting.schedule import factor
from fedmodel.accounting.spends import Spend
from fedmodel.errors import ConfigError, PrivacyError

__all__ = ["DeltaError", "check_delta", "make_plan", "plan_at", "plan_for", "plan_of"]


class DeltaError(PrivacyError):
    """δ is too large for a site. ``units`` is its size: private, so not in the message."""

    def __init__(self, delta: float, units: int, unit: str = "record") -> None:
        whole = "federation" if unit == "site" else "site"
        super().__init__(
            f"privacy.delta={delta:g} must be below 1/{unit}s of this {whole}: from there on it "
            f"allows one {unit} to be published as it is; lower privacy.delta, or take part with "
            f"more {unit}s"
        )
        self.units = units


def make_plan(
    privacy: job.Privacy,
    *,
    batch_size: int,
    rounds: int,
    steps: int,
    evaluate: bool,
    start: job.HeadStart = "zero",
    honest: int = 1,
    survivors: int = 1,
    noise_multiplier: float | None = None,
) -> Plan:
    """Return a job's plan, its noise calibrated so that all of the run together keeps ε.

    Args:
        privacy: the job's promise; its mechanism must be private.
        batch_size: expected units of a site in a step, ≥ 1. With ``site`` without effect.
        rounds: of the run, ≥ 1.
        steps: of a round, ≥ 1. With ``site`` a round is one step, however many a site takes.
        evaluate: whether test rows are the sites' own, so that an evaluation is a release; none
            is planned if the job suppresses it.
        start: what the steps start from.
        honest: see :class:`Plan`. It has no influence on the noise accounted, nor on any spend.
        survivors: likewise.
        noise_multiplier: of the first round, where it is known, as from a ledger: then nothing is
            calibrated, and whether the plan keeps its ε is for the caller to ask.

    Raises:
        ConfigError: for a job without privacy, or a count below 1.
        PrivacyError: when no noise keeps the promise, or the accountants contradict each other on
            what it costs.
    """
    if not privacy.private:
        raise ConfigError("privacy.mechanism=none has no plan; choose privacy=record")
    whole = privacy.mechanism == "site"
    rate = 1.0 if whole else privacy.rate
    for name, value in (("batch_size", batch_size), ("rounds", rounds), ("steps", steps)):
        if value < 1:
            raise ConfigError(f"train.{name} must be at least 1, got {value}")
    batch_size, steps = (1, 1) if whole else (batch_size, steps)
    noise = privacy.evaluation_noise if evaluate and privacy.evaluation == "noised" else None
    schedule = tuple(
        Scaled(rate, factor(round_, rounds=rounds, decay=privacy.decay, start=start), steps)
        for round_ in range(1, rounds + 1)
    )
    fixed = () if noise is None else (Spend(1.0, noise, 1, "evaluate"),)
    plan = Plan(
        unit=privacy.unit,
        adjacency=privacy.adjacency,
        mechanism="dpsgd" if privacy.mechanism == "none" else privacy.mechanism,
        clip=privacy.clip,
        noise_multiplier=calibrate_schedule(
            privacy.epsilon, privacy.delta, schedule, fixed, privacy.adjacency
        )
        if noise_multiplier is None
        else noise_multiplier,
        decay=privacy.decay,
        start=start,
        rate=rate,
        rounds=rounds,
        steps=steps,
        delta=privacy.delta,
        epsilon=privacy.epsilon,
        expected_batch=batch_size,
        rows_per_patient=privacy.rows_per_patient,
        clipping=privacy.clipping,
        clip_noise=privacy.clip_noise,
        evaluation_noise=noise,
        honest=honest,
        survivors=survivors,
    )
    if noise_multiplier is None:  # what can't be claimed mustn't be trained
        claim(plan.spends(), plan.delta, plan.adjacency)
    return plan


@lru_cache(maxsize=64)
def plan_of(asked: job.Job) -> Plan:
    """Return the plan of a private job, worked out once: every party makes the same.

    Raises:
        ConfigError: for a job that isn't private.
        PrivacyError: when no noise keeps its promise.
    """
    return plan_for(
        asked.privacy,
        asked.train,
        asked.secagg.sums,
        evaluate=asked.publishes_evaluation,
    )


@lru_cache(maxsize=64)
def plan_at(asked: job.Job, noise_multiplier: float) -> Plan:
    """Return the plan of a private job at a first round's noise that is known: as ledgers have it.

    Raises:
        ConfigError: for a job that isn't private.
        PrivacyError: for a noise multiplier that can't be accounted.
    """
    return plan_for(
        asked.privacy,
        asked.train,
        asked.secagg.sums,
        evaluate=asked.publishes_evaluation,
        noise_multiplier=noise_multiplier,
    )


def plan_for(
    privacy: job.Privacy,
    train: job.Train,
    sums: job.MaskedSums | None,
    *,
    evaluate: bool,
    noise_multiplier: float | None = None,
) -> Plan:
    """Return the plan of a job's parts (see :func:`make_plan`).

    A site knows its own share of a sum's noise, so even where nobody colludes one share of the
    survivors' isn't counted on: the promise holds against every other site too.

    Args:
        privacy: the job's promise.
        train: how sites train.
        sums: what masked sums are made by; ``None`` where there are none.
        evaluate: whether test rows are the sites' own.
        noise_multiplier: see :func:`make_plan`.

    Raises:
        ConfigError: for a promise in shares without masked sums.
        PrivacyError: when no noise keeps the promise.
    """
    honest = survivors = 1
    if privacy.shared:
        if sums is None:
            raise ConfigError(f"privacy.mechanism={privacy.mechanism} needs secagg=on")
        honest, survivors = min(sums.honest, sums.survivors - 1), sums.survivors
    return _planned(
        privacy,
        batch_size=train.batch_size,
        rounds=train.rounds,
        steps=train.steps,
        evaluate=evaluate,
        start=train.start,
        honest=honest,
        survivors=survivors,
        noise_multiplier=noise_multiplier,
    )


def check_delta(privacy: job.Privacy, units: int) -> None:
    """Check a promise against a site's own size, which no plan knows.

    Args:
        privacy: the job's promise.
        units: records or patients at this site, private; with ``unit=site`` the number of sites.

    Raises:
        ConfigError: without any unit.
        DeltaError: when δ ≥ 1/units.
    """
    if units < 1:
        whole = "federation" if privacy.unit == "site" else "site"
        raise ConfigError(f"a private {whole} needs at least 1 {privacy.unit}")
    if privacy.delta * units >= 1:
        raise DeltaError(privacy.delta, units, privacy.unit)


# Every party of a simulation asks for the same, and completing a job does before them.
_planned = lru_cache(maxsize=64)(make_plan)
