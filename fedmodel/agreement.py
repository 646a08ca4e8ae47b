"""Agreement: from a proposal and public facts to the one job that all parties run. Pure.

In the real world the facts are what the sites have published about themselves and the hash of the
model's files; a simulation declares them in the sites' stead. Whoever has the same proposal and the
same facts gets the same job, byte for byte.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Any

from fedmodel.accounting.planning import plan_for
from fedmodel.errors import ConfigError
from fedmodel.job import (
    BITS,
    Aggregation,
    Federation,
    HeadStart,
    Job,
    MaskedSums,
    Model,
    Privacy,
    Proposal,
    SecAgg,
    Train,
    masked_sums,
    why_not_means,
)
from fedmodel.secagg.sums import bits_needed

__all__ = ["Facts", "complete", "complete_model", "public_delta", "public_rate"]

_LARGEST_DELTA = Fraction(1, 10_000)
_NO_DELTA = 1e-5  # of a job that promises nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is public about the sites and the model of a proposal.

    Args:
        labels: class names in the order of the logits.
        weights: SHA-256 (hex) of the network's starting weights.
        units: of privacy at each site, as published: rows or patients; rows without privacy.
        rows: largest number of rows at a site, as published.
        public_test: whether there are public test rows; else each site holds some of its own out.
        headed: whether the starting weights bring a trained head, from which training goes on.
    """

    labels: tuple[str, ...]
    weights: str
    units: tuple[int, ...]
    rows: int
    public_test: bool
    headed: bool = False


def complete(proposal: Proposal, facts: Facts) -> Job:
    """Return the job that a proposal and the facts make.

    Args:
        proposal: what is asked for.
        facts: what is public.

    Raises:
        ConfigError: when the proposal can't be met with these facts: too few sites for secure
            sums, δ too large for the sites' units together, early stopping without a public test
            set, or a number of sites or labels that aren't the facts'.
        PrivacyError: when no noise keeps the promise.
    """
    federation = _federation(proposal, facts)
    aggregation = _complete(Aggregation, proposal.aggregation, weights=proposal.weights)
    privacy = _privacy(proposal, facts)
    train: Train = _complete(Train, proposal.train, start=_start(proposal, facts))
    return Job(
        model=complete_model(proposal, facts),
        weights=facts.weights,
        train=train,
        privacy=privacy,
        secagg=_secagg(proposal, privacy, train, federation, facts),
        aggregation=aggregation,
        federation=federation,
        seed=proposal.seed,
    )


def _complete(kind: type[Any], asked: Any, **known: Any) -> Any:
    """Return a part of a proposal as the job's, with what was open filled in."""
    return kind(**{field.name: getattr(asked, field.name) for field in fields(asked)} | known)


def complete_model(proposal: Proposal, facts: Facts) -> Model:
    """Return the network of a proposal: what its starting weights are made by.

    A head that starts from means has a bias, for their centre is folded into it.

    Args:
        proposal: what is asked for.
        facts: what is public, but for the starting weights.

    Raises:
        ConfigError: when the proposal names labels, and one of the sites' isn't among them.
    """
    asked, labels = proposal.model.labels, facts.labels
    if asked is not None and (unknown := sorted(set(labels) - set(asked))):
        raise ConfigError(
            f"model.labels must list every class in the data, and {unknown[:5]} aren't among "
            f"{list(asked)}"
        )
    made: Model = _complete(
        Model,
        proposal.model,
        labels=labels if asked is None else asked,
        head_bias=proposal.model.head_bias or _start(proposal, facts) == "means",
    )
    return made


def _start(proposal: Proposal, facts: Facts) -> HeadStart:
    """Return what training starts from: means, where it may and isn't told otherwise."""
    asked = proposal.train.start
    if asked != "auto":
        return asked
    need = why_not_means(proposal.model, proposal.train, proposal.privacy, proposal.aggregation)
    return "means" if need is None and not facts.headed else "zero"


def _federation(proposal: Proposal, facts: Facts) -> Federation:
    asked, sites = proposal.federation, len(facts.units)
    if asked.sites is not None and asked.sites != sites:
        raise ConfigError(f"federation.sites={asked.sites}, but {sites} sites take part")
    if asked.patience is not None and not facts.public_test:
        # Held-out rows are the sites' own: stopping by them would release something about them.
        raise ConfigError(
            "federation.patience stops early by a public test set, but the test rows are held out "
            "from the sites' own; give data.test=PATH or leave patience null"
        )
    test = "public" if facts.public_test else "held-out"
    made: Federation = _complete(Federation, asked, sites=sites, test=test)
    if made.cohort < (fewest := proposal.aggregation.fewest):
        raise ConfigError(
            f"aggregation=krum with aggregation.malicious={proposal.aggregation.malicious} needs "
            f"{fewest} sites in a round (2·malicious + 3), got {made.cohort}; name fewer, take "
            "more sites, or use aggregation=fedmedian"
        )
    return made


def _privacy(proposal: Proposal, facts: Facts) -> Privacy:
    asked, sites = proposal.privacy, len(facts.units)
    rate, delta = 1.0, _NO_DELTA if asked.delta is None else asked.delta
    if asked.private:
        if asked.mechanism == "site":
            whole, count = "sites, and there are", sites
        elif asked.shared:
            whole = f"{asked.unit}s of all sites together, for they are one pool here, of"
            count = sum(facts.units)
        else:
            whole, count = f"{asked.unit}s at every site, and the largest has", max(facts.units)
        delta = public_delta(count) if asked.delta is None else asked.delta
        if delta * count >= 1:
            raise ConfigError(
                f"privacy.delta={delta:g} must be below 1/{whole} {count}; leave it out "
                f"(privacy.delta=null), and it is {public_delta(count):g}"
            )
        if asked.mechanism != "site":
            rate = asked.rate or public_rate(proposal.train.batch_size, facts.units)
    made: Privacy = _complete(Privacy, asked, rate=rate, delta=delta)
    return made


def _secagg(
    proposal: Proposal, privacy: Privacy, train: Train, federation: Federation, facts: Facts
) -> SecAgg:
    if proposal.secrecy != "on":
        return SecAgg(mode=proposal.secrecy)
    weighted = proposal.weights == "examples"
    # A bound on a site's rows that sites would agree on: a power of two.
    max_weight = 1 << facts.rows.bit_length() if weighted else 1
    sums = masked_sums(proposal.secagg, sites=federation.cohort, max_weight=max_weight)
    return SecAgg(
        mode="on", sums=replace(sums, bits=_bits(proposal, privacy, train, sums, federation))
    )


def _bits(
    proposal: Proposal, privacy: Privacy, train: Train, sums: MaskedSums, federation: Federation
) -> int:
    asked = proposal.secagg.bits
    if not privacy.shared:
        return asked or max(BITS)  # fewer round a small update to nothing where sites are many
    evaluate = federation.test == "held-out"
    plan = plan_for(privacy, train, sums, evaluate=evaluate)
    return bits_needed(plan, federation.cohort, asked)


def public_delta(count: int) -> float:
    """Return the δ that sites would agree on from figures they have published.

    It is the largest number of one digit below 1/(10·count), and at most 10⁻⁴: a mechanism that
    publishes each unit with probability δ then publishes one with probability below 0.1.

    Args:
        count: units of the largest site, or of all where they are one pool.

    >>> public_delta(800), public_delta(1000), public_delta(30_000)
    (0.0001, 9e-05, 3e-06)
    """
    bound, power = Fraction(1, 10 * max(1, count)), 0
    if bound > _LARGEST_DELTA:
        return float(_LARGEST_DELTA)
    while Fraction(1, 10**power) >= bound:
        power += 1
    digits = math.ceil(bound * 10**power) - 1
    return float(f"{digits}e-{power}")


def public_rate(batch_size: int, units: Sequence[int]) -> float:
    """Return the sampling rate that sites would agree on from figures they have published.

    It is the batch over the mean number of units at a site, at most 1, rounded up to two
    significant digits. Every site uses it, whatever its own size: the larger ones take more units
    into a step and the smaller ones fewer, and neither rate nor noise tells one from another. In
    the real world the mean comes from annual reports, not from the sites' rows; a simulation
    declares it in their stead, and so it isn't charged.

    Args:
        batch_size: expected units in a step, ≥ 1.
        units: how many each site has.

    >>> public_rate(64, [1000, 3000])
    0.032
    >>> public_rate(64, [900, 2000]), public_rate(64, [10, 20])
    (0.045, 1.0)
    """
    share = Fraction(batch_size * len(units), max(1, sum(units)))
    if share >= 1:
        return 1.0
    digits = int(10 ** (1 - math.floor(math.log10(share))))
    return math.ceil(share * digits) / digits
