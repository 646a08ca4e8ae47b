"""The same small job for every engine: a linear head on the frozen tiny model, no privacy.

A site has a few hundred rows and takes a few tens of SGD steps a round, in fedmodel's own training
function. The texts are the same at all sites (their features are computed once per process) and
the labels differ; neither matters for time.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from clients.declared import Declared
from clients.policy import Policy
from clients.site import Site
from fedmodel.data import Rows
from fedmodel.job import Federation, Job, Model, Performance, Train
from fedmodel.ledger.site_state import SiteState
from fedmodel.seeds import Seed
from fedmodel.training import local
from fedmodel.training.examples import Examples, prepare
from fedmodel.training.learner import Learner, network
from fedmodel.training.round import Round, Start
from fedmodel.update import Vector

__all__ = ["PERFORMANCE", "Workload"]

_WORDS = ("acute", "chest", "cough", "fever", "left", "normal", "pain", "right", "stable", "wound")
_CLASSES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """How much there is to do; hashable, so that a process prepares it once.

    Args:
        sites: that train in every round.
        rounds: measured rounds.
        warm: rounds before them, not measured.
        steps: SGD steps of a site in a round.
        rows: of a site.
    """

    sites: int = 50
    rounds: int = 3
    warm: int = 1
    steps: int = 20
    rows: int = 256

    @property
    def total(self) -> int:
        """All rounds."""
        return self.warm + self.rounds

    @property
    def model(self) -> Model:
        """The network."""
        return Model(labels=tuple(f"class-{i}" for i in range(_CLASSES)), max_length=16)

    @property
    def training(self) -> Train:
        """How every site trains."""
        return Train(method="head", rounds=self.total, steps=self.steps, batch_size=32, head_lr=0.1)

    @property
    def federation(self) -> Federation:
        """Who takes part."""
        return Federation(sites=self.sites, quorum=1.0)

    def rows_of(self, site: int) -> Rows:
        """Return a site's rows."""
        text = np.random.default_rng(0).choice(_WORDS, (self.rows, 8))
        labels = np.random.default_rng(site + 1).integers(0, _CLASSES, self.rows)
        return Rows(
            texts=tuple(" ".join(words) for words in text),
            labels=tuple(f"class-{i}" for i in labels),
        )

    def site(self, number: int, folder: Path) -> Site:
        """Return a site for the real client app."""
        rows = self.rows_of(number)
        return Site(
            name=str(number),
            rows=rows,
            declared=Declared.of(rows),
            state=SiteState(folder / "state", str(number)),
            policy=Policy(approval="auto"),
        )

    def prepare(self) -> "Ready":
        """Return the model and all sites' rows as tensors, made once per process."""
        return _ready(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A prepared workload: what local training needs and nothing of any engine."""

    job: Job
    learner: Learner
    examples: tuple[Examples, ...]

    def train(self, site: int, round_: int, vector: Vector) -> tuple[Vector, float]:
        """Train one round at one site and return the change and the loss."""
        result = local.train(
            self.learner,
            self.examples[site],
            self.job,
            Start(vector=vector),
            _ROUND,
            steps=self.job.train.steps,
            plan=None,
            seed=self.job.root_seed.child("site", str(site), round_),
        )
        return result.change, result.loss or 0.0


PERFORMANCE = Performance(device="cpu")
_ROUND = Round(performance=PERFORMANCE)


@cache
def _ready(work: Workload) -> Ready:
    torch.set_num_threads(1)
    learner = network(work.model, work.training, Seed(0), PERFORMANCE)
    job = Job(
        model=work.model,
        weights=learner.digest,
        train=work.training,
        federation=work.federation,
    )
    examples = []
    for number in range(work.sites):
        rows = work.rows_of(number)
        examples.append(
            prepare(learner, rows.texts, rows.labels, job.model.labels, job.model.max_length)
        )
    return Ready(job=job, learner=learner, examples=tuple(examples))
