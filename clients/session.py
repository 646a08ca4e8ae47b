"""A site's part in one job: prepared once, then a few steps each round, each spent before taken."""

import logging
import time
from pathlib import Path

from safetensors.torch import save

from clients import rules
from clients.site import Site
from fedmodel.errors import BudgetError, PrivacyError, ProtocolError
from fedmodel.job import Job
from fedmodel.privacy.budget import Budget
from fedmodel.privacy.entries import SpendEntry
from fedmodel.privacy.ledger import Ledger
from fedmodel.privacy.plan import Plan, make_plan
from fedmodel.runs import write_atomic
from fedmodel.training import examples as rows_as_tensors
from fedmodel.training import local, optim
from fedmodel.training.learner import pick_device, resident
from fedmodel.update import Update, Vector
from fedmodel.wire import Order

__all__ = ["Session"]

logger = logging.getLogger(__name__)


class Session:
    """One site in one job.

    Raises:
        RefusedError: if the site's rules say no.
        ModelError: if the site's starting weights aren't the job's.
        PrivacyError: if per-example gradients would be wrong for this model.
    """

    def __init__(self, job: Job, site: Site) -> None:
        rules.check(job, site)
        self.job = job
        self.job_sha256 = job.sha256
        self.site = site
        self.learner = resident(job, pick_device(site.device))
        self.examples = rows_as_tensors.prepare(
            self.learner,
            site.rows.texts,
            site.rows.labels,
            job.model.labels,
            job.model.max_length,
            uses=job.total_steps * min(job.train.batch_size, len(site.rows)),
        )
        self.plan: Plan | None = None
        self.ledger: Ledger | None = None
        if job.privacy.private:
            self._prepare_privacy()

    def _prepare_privacy(self) -> None:
        from fedmodel.training import guards  # Opacus is slow to import: only when needed

        self.plan = make_plan(
            self.job.privacy,
            rows=len(self.site.rows),
            batch_size=self.job.train.batch_size,
            steps=self.job.total_steps,
        )
        guards.preflight(self.learner, self.examples)
        self.ledger = Ledger(self.site.ledger)

    def train(self, order: Order) -> Update:
        """Train one round from the order's parameters.

        Raises:
            ProtocolError: for an order of another job or another number of parameters.
            BudgetError: if no step is left in the site's budget.
        """
        if order.job_sha256 != self.job_sha256:
            raise ProtocolError("the order belongs to another job than the one this site joined")
        if not 1 <= order.round <= self.job.train.rounds:
            raise ProtocolError(
                f"the job has rounds 1 to {self.job.train.rounds}, the order is for {order.round}"
            )
        if order.vector.size != self.learner.layout.total:
            raise ProtocolError(
                f"expected {self.learner.layout.total} parameters, got {order.vector.size}"
            )
        steps = self._spend(order.round)
        started = time.perf_counter()
        result = local.train(
            self.learner,
            self.examples,
            self.job,
            vector=order.vector,
            steps=steps,
            plan=self.plan,
            seed=self.job.root_seed.child("site", self.site.name, order.round),
            entropy=self.site.entropy,
            state=self._kept_state(order.round),
            on_step=self.site.on_step,
        )
        self.site.train_seconds += time.perf_counter() - started
        self._keep_state(order.round, result)
        return self._update(result.change, result.loss)

    def _update(self, change: Vector, loss: float | None) -> Update:
        # A private site tells neither its size nor its loss: each would be a release of its own.
        weight = 1.0
        if self.job.aggregation.weights == "examples":
            weight = float(len(self.examples))
        return Update.of(change, weight, {} if loss is None else {"train_loss": loss})

    def _spend(self, round_: int) -> int:
        """Write this round's steps to the ledger and return how many may be taken."""
        if self.plan is None:
            return self.job.train.steps
        if self.ledger is None:
            raise PrivacyError("a private session without a ledger")
        entries = (e for e in self.ledger.entries() if isinstance(e, SpendEntry))
        ours = [e for e in entries if e.job == self.job_sha256]
        budget = Budget(self.plan, [e.spend() for e in ours])
        steps = budget.affordable(self.job.train.steps)
        if steps == 0:
            raise BudgetError(
                f"this site's budget for the job (ε = {self.plan.epsilon:g}) is spent; "
                "it takes no further step"
            )
        self.ledger.spend(
            self.plan,
            steps,
            run=self.site.run,
            job=self.job_sha256,
            site=self.site.name,
            round=round_,
            # A crash makes the coordinator ask for the same round again.
            attempt=1 + sum(e.run == self.site.run and e.round == round_ for e in ours),
        )
        return steps

    # -- optimiser state, for those who keep it between rounds ----------------------------------

    def _state_file(self, round_: int) -> Path:
        return self.site.state / f"optimizer-{round_:04d}.safetensors"

    def _kept_state(self, round_: int) -> Path | None:
        """Return the newest state from before a round: a site may have missed some."""
        if self.job.train.optimizer_state == "reset":
            return None
        limit = self._state_file(round_).name
        older = [p for p in self._state_files() if (len(p.name), p.name) < (len(limit), limit)]
        return older[-1] if older else None

    def _state_files(self) -> list[Path]:
        found = self.site.state.glob("optimizer-*.safetensors")
        return sorted(found, key=lambda p: (len(p.name), p.name))

    def _keep_state(self, round_: int, result: local.Result) -> None:
        if self.job.train.optimizer_state == "reset":
            return
        write_atomic(self._state_file(round_), save(optim.state_tensors(result.optimizer)))
        # After a crash the coordinator repeats its last round, so the one before it stays.
        for old in self._state_files()[:-2]:
            old.unlink(missing_ok=True)
