"""The plan of a run: one frozen object that says what is promised, and yields its events."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, get_args

from fedmodel.accounting.adaptive import gradient_noise
from fedmodel.accounting.schedule import factor
from fedmodel.accounting.spends import Adjacency, Spend
from fedmodel.errors import ConfigError, PrivacyError
from fedmodel.job import HeadStart, Unit

__all__ = ["Plan"]

_CHOICES = {
    "unit": get_args(Unit),
    "adjacency": ("add-remove", "replace"),
    "mechanism": ("dpsgd", "distributed", "site"),
    "clipping": ("flat", "per-layer", "adaptive"),
    "start": get_args(HeadStart),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is promised for a whole run, and how the promise is kept.

    Guarantee (``dpsgd``, kept by each site alone): when each of at most ``rounds``·``steps`` steps
    takes every unit independently with probability ``rate``, bounds its contribution to L2 norm C,
    sums, and adds Gaussian noise of standard deviation :meth:`noise_std` to every coordinate of
    the sum (with adaptive clipping, and of ``clip_noise`` to the count), then the steps and the
    :meth:`evaluation` together are (``epsilon``, ``delta``)-DP for the unit and the adjacency
    named. Sharp edges: clip per unit and not per batch; sample by
    :func:`fedmodel.mechanisms.sampling.poisson` and don't shuffle; an empty batch still takes noise
    and counts; divide by ``expected_batch``, never by the realised size.

    Guarantee (``distributed``, kept by the sites together): the same, where a step's sum is over
    the rows of all sites, only that secure sum is ever unmasked, and at least ``honest`` sites
    that don't collude add noise of standard deviation :meth:`share_std` to their part of it
    (:mod:`fedmodel.mechanisms.shares`). It holds against the coordinator with all other sites, who
    may know everything about their own rows and noise; against who knows no share it is stronger
    (:mod:`fedmodel.accounting.adversaries`). The evaluation is each site's own, noise and all.
    Sharp edge: a site knows its own share, so ``honest`` must be below ``survivors`` for the
    promise to hold against another site, even where nobody colludes.

    Guarantee (``site``): the same with a site for the unit and its whole update, bounded to C, for
    the contribution: one secure sum a round, without sampling. To remove a site is to take its
    update for zero; its share of the noise stays, and who takes part isn't hidden.

    Nothing here follows from a site's rows: all sites of a job have the same plan, and it may be
    published.

    Args:
        unit: whose presence is hidden: a ``record``, a ``patient`` with all rows, or, with the
            mechanism of that name, a ``site`` with everything it holds.
        adjacency: neighbouring datasets differ by adding or removing one unit (``add-remove``) or
            by exchanging one for another (``replace``). Noise is over C in both.
        mechanism: ``dpsgd`` (arXiv 1607.00133), ``distributed`` or ``site``: see above.
        clip: C, the L2 norm of one unit's contribution; with adaptive clipping, of the first.
        noise_multiplier: of the first round's steps: standard deviation of the noise, over C.
        decay: noise multiplier of the last round over that of the first; between them it changes
            geometrically.
        start: what the steps start from; ``means`` opens with releases of their own noise
            (:mod:`fedmodel.accounting.schedule`).
        rate: probability with which a unit takes part in a step, in (0, 1].
        rounds: of the whole run.
        steps: of a round.
        delta: δ of the promise.
        epsilon: ε of the promise.
        expected_batch: public divisor of the noised sum; of a sum over sites, times their number.
        rows_per_patient: at most so many rows of a patient make up a contribution.
        clipping: one norm for all parameters (``flat``), C/√layers for each (``per-layer``, which
            together is C again), or one that follows the units' norms (``adaptive``).
        clip_noise: standard deviation of the noise on adaptive clipping's count.
        evaluation_noise: noise multiplier of one release over all test units after the last
            round; ``None``: there is none.
        honest: h, sites whose shares make up the noise that is accounted: so many at least in
            every sum that is unmasked, and unknown to the adversary. 1 for ``dpsgd``.
        survivors: sites at least in such a sum, honest or not. 1 for ``dpsgd``.

    Raises:
        ConfigError: when a value isn't usable.
        PrivacyError: for a rate or a noise multiplier that can't be accounted.
    """

    unit: Unit
    adjacency: Adjacency
    mechanism: Literal["dpsgd", "distributed", "site"]
    clip: float
    noise_multiplier: float
    decay: float = 1.0
    start: HeadStart = "zero"
    rate: float
    rounds: int
    steps: int
    delta: float
    epsilon: float
    expected_batch: int
    rows_per_patient: int = 1
    clipping: Literal["flat", "per-layer", "adaptive"] = "flat"
    clip_noise: float = 10.0
    evaluation_noise: float | None = None
    honest: int = 1
    survivors: int = 1

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise ConfigError(
                    f"plan.{name} must be {' or '.join(known)}, got {getattr(self, name)!r}"
                )
        for name in ("clip", "epsilon", "decay", "clip_noise"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"plan.{name} must be finite and > 0, got {getattr(self, name)}")
        if not 0 < self.delta < 1:
            raise ConfigError(f"plan.delta must be in (0, 1), got {self.delta}")
        for name in ("rounds", "steps", "expected_batch", "rows_per_patient", "honest"):
            if getattr(self, name) < 1:
                raise ConfigError(f"plan.{name} must be at least 1, got {getattr(self, name)}")
        self._check_mechanism()
        self.evaluation()
        for round_ in {1, min(2, self.rounds), min(3, self.rounds), self.rounds}:
            self.spend(round_)  # after an opening the noise is between the third's and the last's
            self.gradient_noise_multiplier(round_)

    def _check_mechanism(self) -> None:
        if (self.unit == "site") != (self.mechanism == "site"):
            raise ConfigError(
                "plan.unit=site and plan.mechanism=site go together, got "
                f"unit={self.unit} with mechanism={self.mechanism}"
            )
        if self.mechanism == "dpsgd" and (self.honest, self.survivors) != (1, 1):
            raise ConfigError(
                "with plan.mechanism=dpsgd each site adds all of the noise: plan.honest and "
                f"plan.survivors must be 1, got {self.honest} and {self.survivors}"
            )
        if self.survivors < self.honest:
            raise ConfigError(
                f"plan.survivors must be at least plan.honest, got {self.survivors} < {self.honest}"
            )
        if self.shared and self.clipping == "adaptive":
            raise ConfigError(
                "noise in shares doesn't cover the count that adaptive clipping releases, got "
                f"plan.clipping=adaptive with plan.mechanism={self.mechanism}; use flat"
            )
        if self.mechanism == "site" and (self.rate, self.steps, self.evaluation_noise) != (
            1,
            1,
            None,
        ):
            raise ConfigError(
                "with plan.mechanism=site a round is one sum over all sites, and no site is "
                "evaluated alone: plan.rate and plan.steps must be 1 and plan.evaluation_noise "
                f"null, got {self.rate}, {self.steps} and {self.evaluation_noise}"
            )

    @property
    def shared(self) -> bool:
        """Whether the sites share the noise, so that only their sum keeps the promise."""
        return self.mechanism != "dpsgd"

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.rounds * self.steps

    @property
    def sensitivity(self) -> float:
        """L2 distance between the clipped sums of neighbours: C, or 2C for ``replace``."""
        return self.clip if self.adjacency == "add-remove" else 2 * self.clip

    def noise_at(self, round: int) -> float:
        """Return the noise multiplier that a round's steps are accounted with (1, 2, …)."""
        if not 1 <= round <= self.rounds:
            raise PrivacyError(f"the plan has rounds 1 to {self.rounds}, got {round}")
        over = factor(round, rounds=self.rounds, decay=self.decay, start=self.start)
        return self.noise_multiplier * over

    def gradient_noise_multiplier(self, round: int) -> float:
        """Return the standard deviation of the noise on the sum of gradients, over C.

        With adaptive clipping it is above :meth:`noise_at`: the step pays for the count too.
        """
        noise = self.noise_at(round)
        return gradient_noise(noise, self.clip_noise) if self.clipping == "adaptive" else noise

    def noise_std(self, round: int, clip: float | None = None) -> float:
        """Return the standard deviation of the noise on each coordinate of the sum.

        Neither the realised batch nor the size of the dataset enters.

        Args:
            round: 1, 2, …
            clip: C of the step, where it isn't the plan's (adaptive clipping).
        """
        return self.gradient_noise_multiplier(round) * (self.clip if clip is None else clip)

    def share_std(self, round: int, clip: float | None = None) -> float:
        """Return the standard deviation of the noise that one site adds to each coordinate.

        Args:
            round: 1, 2, …
            clip: see :meth:`noise_std`.
        """
        return self.noise_std(round, clip) / math.sqrt(self.honest)

    def seen_without(self, spends: Iterable[Spend], known: int) -> tuple[Spend, ...]:
        """Return spends of this plan as they are to somebody who knows some sites' shares.

        Shares that aren't known add up, whoever made them, so the noise multiplier of a sum grows
        by √((survivors − known)/honest). Anything but training, such as the evaluation, carries its
        site's own noise and stays as it is.

        Args:
            spends: as the plan accounts them, in any number.
            known: how many shares of each sum are known: below :attr:`survivors`.

        Raises:
            PrivacyError: for more shares than that, or fewer than 0.
        """
        if not 0 <= known < self.survivors:
            raise PrivacyError(
                f"of {self.survivors} shares in a sum 0 to {self.survivors - 1} can be known to "
                f"another, got {known}"
            )
        factor = math.sqrt((self.survivors - known) / self.honest) if self.shared else 1.0
        return tuple(
            replace(s, noise_multiplier=s.noise_multiplier * factor) if s.kind == "train" else s
            for s in spends
        )

    def spend(self, round: int, steps: int | None = None) -> Spend:
        """Return what so many steps of a round spend (all of them by default)."""
        return Spend(self.rate, self.noise_at(round), self.steps if steps is None else steps)

    def evaluation(self) -> Spend | None:
        """Return what the private evaluation spends, if there is one. No unit is left out."""
        noise = self.evaluation_noise
        return None if noise is None else Spend(1.0, noise, 1, "evaluate")

    def spends(self) -> tuple[Spend, ...]:
        """Return what the whole run spends: its rounds in order, then the evaluation."""
        return _spends(self)

    def event(self) -> Any:
        """Return the ``dp_accounting`` event of the whole run."""
        import dp_accounting as dp

        return dp.ComposedDpEvent([spend.event() for spend in self.spends()])


@lru_cache(maxsize=64)
def _spends(plan: Plan) -> tuple[Spend, ...]:
    evaluation = plan.evaluation()
    rounds = tuple(plan.spend(round_) for round_ in range(1, plan.rounds + 1))
    return rounds if evaluation is None else (*rounds, evaluation)
