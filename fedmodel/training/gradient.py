"""A site's part of one step of DP-SGD over all sites: a clipped sum, and no step.

The union of the sites' samples at one rate is one Poisson sample of the union of their rows, and
the sum of their clipped sums is its clipped sum. So each step of Algorithm 1 (arXiv 1607.00133) can
be taken on all rows together; the noise is added in shares, before anybody sees a sum.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedmodel.accounting.plan import Plan
from fedmodel.errors import PrivacyError
from fedmodel.gradients.clippers import make_clipper
from fedmodel.gradients.engines import make_engine
from fedmodel.gradients.fastclip.engine import wide
from fedmodel.job import Privacy
from fedmodel.training import dpsgd, guards
from fedmodel.training.examples import Examples
from fedmodel.training.learner import Learner
from fedmodel.training.round import Round

__all__ = ["clipped_sum"]


def clipped_sum(
    learner: Learner,
    examples: Examples,
    plan: Plan,
    privacy: Privacy,
    round_: Round,
) -> NDArray[np.floating]:
    """Return the clipped gradients of one Poisson sample, summed. No noise, and no step.

    One unit more or less changes it by at most ``plan.clip`` in L2 norm. It is secret until it has
    its share of the noise and is masked. A unit whose gradient isn't finite adds nothing; neither
    does anybody where nobody was drawn, and the sum is as secret then.

    Args:
        learner: the network, already holding the step's parameters.
        examples: the site's own rows.
        plan: what was promised; its spend must be on disk before this is called.
        privacy: of the job, for the choice of clipping (flat or per layer).
        round_: which round it is: one step, told of before anything is computed.

    Returns:
        ``[trainable]`` in the order of the learner's layout, float64; float32 where the model is
        large and steps are small (see :func:`fedmodel.gradients.fastclip.engine.wide`).

    Raises:
        PrivacyError: if a guard finds that the promise would not hold, or for adaptive clipping,
            whose count would need noise of its own.
    """
    if privacy.clipping == "adaptive":
        raise PrivacyError(
            "a sum with noise in shares has one clip norm for the whole run; use "
            "privacy.clipping=flat or per-layer, got adaptive"
        )
    engine = make_engine(round_.performance.engine, learner.trained, plan.expected_batch)
    clipper = make_clipper(privacy, plan, learner.trained, round_.entropy, None)
    guards.check_held(learner, engine.parameters, "engine")
    round_.before_step(plan.spend(round_.number, 1))
    examples.run_frozen()  # a check of that sets parameters and resets them
    learner.module.train()
    _forget(engine.parameters)
    try:
        with engine.attached(), guards.nothing_moves(learner):
            dpsgd.sum_sample(
                learner,
                examples,
                plan,
                engine,
                clipper,
                physical_batch=round_.performance.physical_batch,
                entropy=round_.entropy,
            )
        total = _collect(learner, wide(engine.parameters, plan.expected_batch))
    finally:
        _forget(engine.parameters)
    round_.on_step()
    return total


def _collect(learner: Learner, kind: torch.dtype) -> NDArray[np.floating]:
    """Return what the parameters hold in ``summed_grad``, in the layout's order; 0 without one."""
    dtype = np.float64 if kind == torch.float64 else np.float32
    total: NDArray[np.floating] = np.zeros(learner.layout.total, dtype=dtype)
    named: dict[str, Any] = dict(learner.module.named_parameters())
    places = zip(learner.layout.names, learner.layout.offsets, learner.layout.shapes, strict=True)
    for name, start, shape in places:
        own = getattr(named[name], "summed_grad", None)
        if own is not None:
            total[start : start + math.prod(shape)] = own.cpu().numpy().reshape(-1)
            named[name].summed_grad = None  # a large model's is large
    return total


def _forget(parameters: Sequence[nn.Parameter]) -> None:
    for p in parameters:
        p.grad = p.summed_grad = None  # type: ignore[attr-defined]
