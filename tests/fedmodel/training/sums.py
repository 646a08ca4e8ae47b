"""A step's clipped sum, as the tests of it ask for it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmodel.job import Job, Performance
from fedmodel.training import local
from fedmodel.training.examples import Examples
from fedmodel.training.learner import Learner
from fedmodel.training.round import Round

F = NDArray[np.float64]
METHODS = ["head", "ffa", "lora"]


WAYS = [  # engine, unit, clipping
    ("fast", "record", "flat"),
    ("hooks", "record", "flat"),
    ("fast", "patient", "flat"),
    ("hooks", "patient", "flat"),
    ("fast", "record", "per-layer"),
    ("hooks", "patient", "per-layer"),
]


def sum_of(
    learner: Learner,
    examples: Examples,
    plan: Any,
    job: Job,
    vector: Any,
    engine: Any = "fast",
    physical: int = 64,
    **more: Any,
) -> F:
    round_ = Round(performance=Performance(engine=engine, physical_batch=physical), **more)
    found = local.gradient(learner, examples, job, vector, plan, round_)
    assert found.dtype == np.float64
    return found.astype(np.float64)
