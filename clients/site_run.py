"""A site's part in one job: prepared once, then a few steps each round, each spent before taken."""

import logging
import math
import time
from collections.abc import Callable, Sequence

import numpy as np
from flwr.app import RecordDict
from numpy.typing import NDArray
from safetensors.torch import save

from clients import policy as rules
from clients.account import Account
from clients.hidden import Sums, hide, sums_model
from clients.round_files import Kept
from clients.site import Site
from fedmodel import wire
from fedmodel.accounting.plan import Plan, check_delta, plan_of
from fedmodel.accounting.spends import Spend
from fedmodel.data import Rows
from fedmodel.errors import DivergedError, ProtocolError
from fedmodel.job import Job
from fedmodel.ledger.tree_head import Standing, TreeHead
from fedmodel.mechanisms import counts as release
from fedmodel.mechanisms.clipping import clip_update
from fedmodel.mechanisms.counts import Counts
from fedmodel.secagg.masking import Encode
from fedmodel.secagg.sums import PlainSum, SharedSum
from fedmodel.training import examples as rows_as_tensors
from fedmodel.training import local, optim
from fedmodel.training.evaluate import count
from fedmodel.training.examples import Examples
from fedmodel.training.learner import pick_device, resident
from fedmodel.update import Update, Vector
from fedmodel.wire import Order

__all__ = ["Session"]

logger = logging.getLogger(__name__)


class Session:
    """One site in one job.

    Args:
        job: what is offered.
        site: whose part it is.
        known: heads of the site's ledgers that the coordinator has kept.
        session: names this joining, where updates are hidden.

    Raises:
        ConfigError: if the job isn't complete.
        RefusedError: if the site's rules say no.
        DataError: if the site's rows don't fit the job.
        ModelError: if the site's starting weights aren't the job's.
        PrivacyError: if per-unit gradients would be wrong for this model, or δ is too large.
    """

    def __init__(
        self, job: Job, site: Site, known: Sequence[TreeHead] = (), session: str = ""
    ) -> None:
        rules.check(job, site)
        self.job = job
        self.job_sha256 = job.sha256
        self.site = site
        self.learner = resident(job, pick_device(site.device))
        self.examples = self._prepare(site.rows, uses=self._uses())
        self.plan: Plan | None = plan_of(job) if job.privacy.private else None
        self.hidden = hide(job, site, session, self._sums(1) if job.secagg.on else None)
        # A round's update, by the round and the model it is of: for another attempt of the round.
        self.pending: tuple[tuple[int, str], Update] | None = None
        self.account: Account | None = None
        self.held_out: Examples | None = None
        self._optimizers = Kept(site.state, "optimizer", ".safetensors")
        self._clips = Kept(site.state, "clip", ".txt")
        if job.privacy.private:
            self._prepare_privacy(known)

    def _prepare(self, rows: Rows, uses: int | None) -> Examples:
        model = self.job.model
        patients = rows.patients if self.job.privacy.unit == "patient" else None
        return rows_as_tensors.prepare(
            self.learner,
            rows.texts,
            rows.labels,
            model.labels,
            model.max_length,
            uses=uses,
            patients=patients,
        )

    def _uses(self) -> int:
        """Return about how many rows the whole run asks for."""
        rows, rate = len(self.site.rows), self.job.privacy.rate
        batch = min(self.job.train.batch_size, rows)
        if self._clips_units and rate is not None:
            batch = math.ceil(rate * rows)
        return self.job.total_steps * batch

    @property
    def _clips_units(self) -> bool:
        """Whether the site clips its units' gradients, and not just its whole update."""
        return self.job.privacy.private and self.job.privacy.unit != "site"

    def _sums(self, round_: int) -> PlainSum | SharedSum:
        """Return what a round's secure sum is of."""
        if self.plan is None or not self.job.privacy.shared:
            return PlainSum(self.job, self.learner.layout.total)
        return SharedSum(self.job, self.plan, self.learner.layout.total, round_)

    def _prepare_privacy(self, known: Sequence[TreeHead]) -> None:
        if self.plan is None:
            return
        job = self.job
        check_delta(job.privacy, rules.protected_units(job, self.site))
        if self._clips_units:
            from fedmodel.training import preflight  # Opacus is slow to import: only when needed

            preflight.preflight(self.learner, self.examples, job.privacy.engine)
        # Tokenised before anything is spent on it: what can fail fails here.
        if job.releases_evaluation and self.site.test:
            self.held_out = self._prepare(self.site.test, uses=len(self.site.test))
        # Last, so that a job that is refused for any other reason reserves nothing.
        self.account = Account(self.plan, self.site, self.job_sha256, known)

    def standing(self, entries: int | None = None) -> Standing | None:
        """Return where the site's ledger stands; ``None`` for a job that spends nothing."""
        return None if self.account is None else self.account.standing(entries)

    def respond(self, order: Order, content: RecordDict) -> RecordDict:
        """Answer an order to train: with the update, or hidden as the job says.

        Args:
            order: what to do.
            content: the message it came in, for what the protocol sends besides.

        Raises:
            FedmodelError: as :meth:`train`; and when the secure sum's protocol refuses.
        """
        if isinstance(self.hidden, Sums):
            self._check(order)
            # Before anything is spent: what the protocol refuses costs nothing.
            self.hidden.deliver(wire.parcel(content, "secagg").tobytes(), order)
            values = self._values(order)
            return self.hidden.answer(self._reply(order), values)
        update = self.train(order)
        if self.hidden is not None:
            return self.hidden.answer(self._reply(order), update, order.round)
        return wire.encode_update(update, self.standing(order.entries))

    def _reply(self, order: Order) -> RecordDict:
        return wire.encode_reply(self.standing(order.entries))

    def _values(self, order: Order) -> Encode:
        """Return what writes this site's numbers of a secure sum."""
        sums = self._sums(order.round)
        if isinstance(sums, SharedSum):
            return sums.encode(self._contribution(order), self.site.entropy)
        what = (order.round, sums_model(self.hidden))
        if self.pending is None or self.pending[0] != what:
            self.pending = (what, self.train(order))
        return sums.encode(self.pending[1])

    def _contribution(self, order: Order) -> NDArray[np.floating]:
        """Return what a shared sum takes of this site: bounded, and without noise. Secret.

        Raises:
            BudgetError: if no step is left in the site's budget.
        """
        if self.plan is None or self.account is None:
            raise ProtocolError("the job shares no noise")
        privacy, clip = self.job.privacy, self.plan.clip
        _, guard = self.account.spend_round(order.round, 1, clip)
        started = time.perf_counter()
        if privacy.mechanism == "distributed":
            found: NDArray[np.floating] = local.gradient(
                self.learner,
                self.examples,
                self.job,
                vector=order.vector,
                plan=self.plan,
                entropy=self.site.entropy,
                round_=order.round,
                before_step=guard.before_step,
                on_step=self.site.on_step,
            )
        else:
            guard.before_step(self.plan.spend(order.round, 1))
            found = clip_update(self._whole_update(order), clip)
        self.site.train_seconds += time.perf_counter() - started
        return found

    def _whole_update(self, order: Order) -> Vector:
        """Return by what a round of training without noise changes the parameters.

        What diverges counts for nothing, for that it does is about this site's rows.
        """
        try:
            result = self._train(order, self.job.train.steps, None, lambda spend: None)
        except DivergedError:
            return np.zeros_like(order.vector)
        self._keep(order.round, result)
        return result.change

    def train(self, order: Order) -> Update:
        """Train one round from the order's parameters.

        Raises:
            ProtocolError: for an order of another job or another number of parameters.
            BudgetError: if no step is left in the site's budget.
            RollbackError: if the site's ledger is older than the coordinator knows it.
        """
        self._check(order)
        steps, guard, clip = self.job.train.steps, None, self._last_clip(order.round)
        if self.plan is not None and self.account is not None:
            steps, guard = self.account.spend_round(order.round, steps, clip or self.plan.clip)
        started = time.perf_counter()
        before = guard.before_step if guard is not None else lambda spend: None
        result = self._train(order, steps, self.plan, before, clip)
        self.site.train_seconds += time.perf_counter() - started
        self._keep(order.round, result)
        return self._update(result.change, result.loss)

    def _train(
        self,
        order: Order,
        steps: int,
        plan: Plan | None,
        before_step: Callable[[Spend], None],
        clip: float | None = None,
    ) -> local.Result:
        return local.train(
            self.learner,
            self.examples,
            self.job,
            vector=order.vector,
            steps=steps,
            plan=plan,
            seed=self.job.root_seed.child("site", self.site.name, order.round),
            entropy=self.site.entropy,
            round_=order.round,
            state=self._optimizers.before(order.round) if self._keeps else None,
            clip=clip,
            before_step=before_step,
            on_step=self.site.on_step,
        )

    def _check(self, order: Order) -> None:
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
        if self.account is not None:
            self.account.check_known(order.entries)

    def _update(self, change: Vector, loss: float | None) -> Update:
        # A private site tells neither its size nor its loss: each would be a release of its own.
        weight = 1.0
        if self.job.aggregation.weights == "examples":
            weight = float(len(self.examples))
        return Update.of(change, weight, {} if loss is None else {"train_loss": loss})

    def evaluate(self, order: Order) -> Counts:
        """Tell, once and with noise, how the last parameters do on the site's own test rows.

        Raises:
            ProtocolError: for an order that doesn't belong, or asks for what the job hasn't agreed
                on.
            BudgetError: if it was answered before, or the budget doesn't cover it.
        """
        self._check(order)
        if self.account is None or not self.job.releases_evaluation:
            raise ProtocolError(
                "the job asks for no evaluation on the sites' own rows (that takes privacy, "
                "federation.test=held-out and privacy.evaluation=noised)"
            )
        self.account.spend_evaluation()
        privacy, entropy, task = self.job.privacy, self.site.entropy, self.learner.task
        counted = task.counted(self.job.model.labels)
        exact = np.zeros(len(counted.names), dtype=np.int64)
        if self.held_out is not None and self.site.test is not None:
            patients = self.site.test.patients if privacy.unit == "patient" else None
            rows = release.counted_rows(
                len(self.held_out), patients, privacy.rows_per_patient, entropy
            )
            self.learner.load_vector(order.vector)
            exact = count(self.learner, self.held_out, rows)
        # A site without a test row tells noise: that it has none is not for others to know.
        return release.noised(exact, privacy, counted, entropy)

    # -- what is kept between rounds -------------------------------------------------------------

    @property
    def _keeps(self) -> bool:
        return self.job.train.optimizer_state == "keep"

    def _last_clip(self, round_: int) -> float | None:
        """Return where an adaptive clip norm got to, ``None`` before the first round."""
        if self.job.privacy.clipping != "adaptive":
            return None
        kept = self._clips.before(round_)
        return None if kept is None else float(kept.read_text())

    def _keep(self, round_: int, result: local.Result) -> None:
        if self._keeps:
            self._optimizers.write(round_, save(optim.state_tensors(result.optimizer)))
        if result.clip is not None:
            self._clips.write(round_, repr(float(result.clip)).encode())
