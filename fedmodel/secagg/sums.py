"""Sums of a job: how a site's numbers enter the ring, and what comes out.

Two kinds. A *plain* sum is of updates as they are: the change of the parameters times the site's
weight, and in the same vector the weight and the metrics, so that nobody learns one site's. A
*shared* sum is of contributions to which every site adds its share of the noise
(:mod:`fedmodel.mechanisms.shares`): clipped gradients of one step (``privacy=distributed``), or
whole clipped updates (``privacy=site``).

All of it follows from the job, so that coordinator and sites have the same without telling.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmodel.accounting.plan import Plan
from fedmodel.errors import ConfigError, ProtocolError
from fedmodel.job import Job
from fedmodel.mechanisms import shares
from fedmodel.mechanisms.shares import Shares
from fedmodel.secagg.fixedpoint import FixedPoint
from fedmodel.secagg.masking import TILE, Encode
from fedmodel.seeds import Entropy
from fedmodel.update import Update, Vector

__all__ = ["PlainSum", "PlainValues", "SharedSum", "bits_needed", "plain_step", "require_room"]

_LOSS = "train_loss"


def bits_needed(plan: Plan, parties: int, asked: int | None = None) -> int:
    """Return the bits of a ring element in which a shared sum fits.

    As many as hold a whole expected batch of clipped gradients (or one clipped update) that agree
    in one coordinate, and at least 24; or what is asked for, if there is room in it.

    Args:
        plan: of the job.
        parties: sites in a sum at most.
        asked: bits that the proposal names.

    Raises:
        ConfigError: when 32 aren't enough, or those that are asked for leave no room for one unit.
    """
    if asked is not None:
        require_room(plan, parties, asked)
        return asked
    return max(
        24,
        *(
            shares.bits_needed(
                std=plan.noise_std(round_),
                honest=plan.honest,
                parties=parties,
                largest_coordinate=plan.clip * plan.expected_batch,
            )
            for round_ in {1, plan.rounds}
        ),
    )


def require_room(plan: Plan, parties: int, bits: int) -> None:
    """Check that a ring holds at least one unit's contribution beside the noise.

    Args:
        plan: of the job.
        parties: sites in a sum at most.
        bits: of a ring element.

    Raises:
        ConfigError: when it doesn't.
    """
    for round_ in {1, plan.rounds}:
        std = plan.noise_std(round_)
        room = Shares(std=std, honest=plan.honest, parties=parties, bits=bits).limit
        if room < plan.clip:
            raise ConfigError(
                f"secagg.bits={bits} leave room for ±{room:.3g} in a coordinate of "
                f"a site's sum, less than one contribution (privacy.clip={plan.clip:g}); use "
                "more bits, or null"
            )


def plain_step(job: Job) -> float | None:
    """Return what one unit of a plain sum stands for: to multiples of it sites round their updates.

    Where sites have weights, that is an update times the site's weight over the largest one.
    ``None`` for a job without plain sums: a shared sum's step is far below its noise.
    """
    if job.secagg.sums is None or job.privacy.shared:
        return None
    return _fixed(job).step


def _fixed(job: Job) -> FixedPoint:
    sums = job.secagg.masked
    return FixedPoint(bits=sums.bits, parties=job.federation.cohort, range=sums.range)


class PlainValues:
    """What writes an update's ring elements, tile by tile, and notes what rounding took.

    Args:
        fixed: how numbers are rounded.
        vector: of the update, float32 ``[size]``.
        scale: each number is multiplied by it first.
        tail: ring elements after the vector's.
        clip: whether numbers beyond the range are clipped to it.
    """

    def __init__(
        self,
        fixed: FixedPoint,
        vector: Vector,
        scale: np.float32,
        tail: NDArray[np.uint32],
        clip: bool,
    ) -> None:
        self._fixed, self._vector, self._scale = fixed, vector, scale
        self._tail, self._clip = tail, clip
        self.given = self.kept = 0  # coordinates that aren't 0: of the update, and once rounded

    def __call__(self, start: int, stop: int, out: NDArray[np.uint32]) -> None:
        """Overwrite ``out`` with the elements from ``start`` to ``stop``."""
        size = self._vector.size
        if start == 0:
            self.given = self.kept = 0
        inner = max(0, min(stop, size) - start)
        if inner:
            part = self._vector[start : start + inner]
            part = part if self._scale == 1 else part * self._scale
            self._fixed.encode(part, out[:inner], clip=self._clip)
            self.given += int(np.count_nonzero(part))
            self.kept += int(np.count_nonzero(out[:inner]))
        if stop > size:
            out[inner:] = self._tail[start + inner - size : stop - size]

    @property
    def mostly_lost(self) -> bool:
        """Whether most of what isn't 0 has become 0 by rounding. It tells of the site's update."""
        return 2 * self.kept < self.given


class PlainSum:
    """Updates with their weights and metrics in one vector.

    Args:
        job: with masked sums.
        size: parameters of an update.

    Raises:
        ConfigError: when the sum could wrap around.
    """

    def __init__(self, job: Job, size: int) -> None:
        sums, parties = job.secagg.masked, job.federation.cohort
        self.size = size
        self.bits = sums.bits
        self._weighted = job.aggregation.weights == "examples"
        self._most = sums.max_weight if self._weighted else 1
        self._with_loss = not job.privacy.private
        self._clip = sums.overflow == "clip"
        self._fixed = _fixed(job)
        if parties * self._most >= 2 ** (self.bits - 1):
            raise ConfigError(
                f"the weights of {parties} sites of up to {self._most} rows (secagg.max_weight) "
                f"don't fit into {self.bits} bits; use secagg.bits=32"
            )

    @property
    def count(self) -> int:
        """Ring elements of a vector: the parameters, the weight, and the loss where it is told."""
        return self.size + 1 + self._with_loss

    @property
    def step(self) -> float:
        """What one unit stands for (see :func:`plain_step`)."""
        return self._fixed.step

    def encode(self, update: Update) -> PlainValues:
        """Return what writes an update's ring elements.

        A weight beyond ``secagg.max_weight`` counts as that: to refuse it would tell that the site
        has more rows.

        Raises:
            ProtocolError: for another weight than 1 where all weigh the same.
            RangeError: when a tile is written that has a value beyond the range, and the job says
                to refuse it; or one that isn't finite.
        """
        if not self._weighted and update.weight != 1:
            raise ProtocolError(f"expected weight 1, got {update.weight:g}")
        weight = min(max(1, round(update.weight)), self._most)
        factor = weight / update.weight
        tail = np.empty(self.count - self.size, np.uint32)
        tail[0] = weight
        if self._with_loss:
            loss = np.array([update.metrics.get(_LOSS, 0.0) * factor / self._most])
            self._fixed.encode(loss, tail[1:], clip=True)
        scale = np.float32(factor / self._most)
        return PlainValues(self._fixed, update.vector, scale, tail, self._clip)

    def decode(self, total: NDArray[np.integer[Any]], sites: int) -> Update:
        """Return the weighted mean of the updates in an unmasked sum.

        Args:
            total: integers ``[count]``, centred.
            sites: how many are in it.

        Raises:
            ProtocolError: when the weights can't be those of so many sites.
        """
        weight = int(total[self.size])
        if not sites <= weight <= sites * self._most or (not self._weighted and weight != sites):
            raise ProtocolError(
                f"the sum of {sites} sites' weights is {weight}, expected "
                f"{sites if not self._weighted else f'{sites} to {sites * self._most}'}; some "
                "site sent something else than was agreed on, and the round can't be used"
            )
        share = self._most / weight
        mean = _in_tiles(total[: self.size], lambda part: self._fixed.decode(part) * share)
        metrics = {}
        if self._with_loss:
            metrics[_LOSS] = float(self._fixed.decode(total[self.size + 1 :])[0] * share)
        return Update(vector=mean, weight=1.0, metrics=metrics)


class SharedSum:
    """Contributions with noise in shares: one round's.

    Args:
        job: with masked sums.
        plan: of the job.
        size: parameters.
        round_: of the run: the noise may have a schedule.

    Raises:
        ConfigError: when the ring has no room.
    """

    def __init__(self, job: Job, plan: Plan, size: int, round_: int) -> None:
        self.bits = job.secagg.masked.bits
        require_room(plan, job.federation.cohort, self.bits)
        self.count = size
        self._plan = plan
        self._shares = Shares(
            std=plan.noise_std(round_),
            honest=plan.honest,
            parties=job.federation.cohort,
            bits=self.bits,
        )

    def encode(self, contribution: NDArray[np.floating], entropy: Entropy) -> Encode:
        """Add a site's share of the noise; return what writes the result's ring elements.

        Args:
            contribution: bounded as the plan says, ``[size]``.
            entropy: where the noise comes from.

        Raises:
            PrivacyError: when a value isn't finite.
        """
        noised = shares.noised(entropy, contribution, self._shares)

        def write(start: int, stop: int, out: NDArray[np.uint32]) -> None:
            out[:] = noised[start:stop]

        return write

    def decode(self, total: NDArray[np.integer[Any]], sites: int) -> Vector:
        """Return the noised mean, float32 ``[size]``: of a unit's gradient, or of an update.

        Args:
            total: integers ``[count]``, centred.
            sites: how many are in it. The divisor is that times the plan's public batch.
        """
        units = sites * self._plan.expected_batch
        return _in_tiles(total, lambda part: shares.as_reals(part, self._shares) / units)


def _in_tiles(
    total: NDArray[np.integer[Any]],
    real: Callable[[NDArray[np.integer[Any]]], NDArray[np.float64]],
) -> Vector:
    """Return what a sum stands for, without room for all of it in twice the precision."""
    made = np.empty(total.size, np.float32)
    for start in range(0, total.size, TILE):
        part = slice(start, start + TILE)
        made[part] = real(total[part])
    return made
