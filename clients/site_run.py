"""A site's part in one run: prepared once, then a few steps each round, each spent before taken."""

import functools
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from clients.account import Account
from clients.admission import admit
from clients.carried import Carried
from clients.circumstances import check_checkpoint, check_dates
from clients.evaluation import noised_counts
from clients.exchange import Exchange, make_exchange
from clients.grounds import grounds_of
from clients.kept_update import KeptUpdate
from clients.model_check import check_model
from clients.site import Site
from clients.site_rows import SiteRows, open_rows
from clients.witness import Witness
from fedmodel import models, wire
from fedmodel.accounting.plan import Plan
from fedmodel.accounting.planning import plan_of
from fedmodel.errors import DivergedError, FedmodelError, ProtocolError
from fedmodel.job import Performance
from fedmodel.ledger.site_line import NOWHERE
from fedmodel.ledger.tree_head import Standing
from fedmodel.mechanisms import counts
from fedmodel.mechanisms.clipping import clip_update
from fedmodel.mechanisms.counts import Counts
from fedmodel.training import local
from fedmodel.training.examples import Examples
from fedmodel.training.learner import Learner, resident
from fedmodel.training.round import Round, Start
from fedmodel.training.staged import check_head
from fedmodel.update import Update, Vector, vector_sha256
from fedmodel.watch import TRAINING, UNWATCHED, Watch
from fedmodel.wire import Content, Offer, Order

__all__ = ["SiteRun"]

logger = logging.getLogger(__name__)


class SiteRun:
    """One site in one run. It is the site's own; what it tells leaves it as values.

    Whether it can be made, and what of that is said, follows from the job, from what the site
    declares and from its ledger. What is wrong with its rows is told to its operator, and to
    others when they first ask for something that takes rows.

    Args:
        offer: the job, and what the coordinator says besides.
        site: whose part it is.
        watch: who is told what it is doing (a progress display).
        before: the site's part in an earlier joining, in this process; of the same run what is
            ready is taken over.

    Raises:
        RefusedError: if the site's policy says no.
        BudgetError: if the job would exceed a cap of the site.
        ConfigError: if this machine can't keep the job's promise in the way it is asked to.
        LedgerError: if its ledger can't be read or written, isn't valid, or was rolled back.
        ModelError: if the site's starting weights aren't the job's.
        PrivacyError: if per-unit gradients would be wrong for this model, or δ is too large.
    """

    def __init__(
        self,
        offer: Offer,
        site: Site,
        watch: Watch = UNWATCHED,
        before: "SiteRun | None" = None,
    ) -> None:
        job = self.job = offer.job
        self.run = offer.run
        self._watch = watch
        self.site = site

        account = functools.cache(lambda: Account(plan_of(job), site, offer))
        admit(offer, site, lambda: account().charges())
        performance = site.performance or offer.performance
        performance.check(job.privacy)
        plan = plan_of(job) if job.privacy.private else None
        self.learner = resident(job, performance)
        if site.policy.limits.bases is not None:
            check_checkpoint(models.checkpoint(job.model), site.policy.limits)
        self.plan = plan
        size = self.learner.layout.total
        self.exchange: Exchange = make_exchange(offer, site, size)
        self.account = None if plan is None else account()
        self.train_seconds = 0.0  # it stays here: it tells about the number of sampled rows
        self._round = Round(entropy=site.entropy, performance=performance, on_step=watch.advance)
        folder = site.state.run_folder(offer.run)
        self._carried = Carried(folder, job)
        check_model(self.learner, job.privacy, performance, watch)
        serves = before is not None and before._serves(offer, site, self.learner)
        ready = before if serves else None
        self._kept: KeptUpdate = (
            KeptUpdate(folder, job.sha256, size) if ready is None else ready._kept
        )
        self._rows: SiteRows | Exception = self._open(performance) if ready is None else ready._rows
        seen = NOWHERE if self.account is None else self.account.witnessed()
        self.witness = Witness(site, offer.run, seen)
        if self.account is not None and plan is not None:
            # Last, so that a job that is refused for any other reason reserves nothing.
            self.account.reserve(grounds_of(offer, site, plan), offer.tree_heads)

    def _serves(self, offer: Offer, site: Site, learner: Learner) -> bool:
        """Return whether what is ready here is what another joining needs."""
        same = (self.run, self.job) == (offer.run, offer.job) and self.site is site
        return same and self.learner is learner and not isinstance(self._rows, Exception)

    def _open(self, performance: Performance) -> SiteRows | Exception:
        """Return the site's rows for the job, or what is wrong with them: it is kept until asked.

        An offer's answer would tell of rows otherwise, as often as somebody cares to offer.
        """
        try:
            return open_rows(self.site, self.job, self.learner, performance, self._watch)
        except Exception as error:
            told = str(error) if isinstance(error, FedmodelError) else wire.unexpected(error)
            logger.warning(
                "site %s: its rows can't be used in run %s, and it will give nothing there: %s",
                self.site.name, self.run, told,
            )  # fmt: skip
            return error

    @property
    def examples(self) -> Examples:
        """The site's training rows."""
        return self._opened().examples

    def _opened(self) -> SiteRows:
        if isinstance(self._rows, Exception):
            raise self._rows
        return self._rows

    def standing(self, entries: int | None = None) -> Standing | None:
        """Return where the site's ledger stands; ``None`` for a job that spends nothing."""
        return None if self.account is None else self.account.standing(entries)

    # -- training --------------------------------------------------------------------------------

    def respond(self, order: Order, content: Content) -> Content:
        """Answer an order to train: with the update, or hidden as the job says.

        Args:
            order: what to do.
            content: the message it came in, for what the exchange sends besides.

        Raises:
            FedmodelError: as :meth:`train`; and when the secure sum's protocol refuses.
        """
        with self._charging():
            return self.exchange.respond(order, content, self)

    @contextmanager
    def _charging(self) -> Iterator[None]:
        """Write down, where what follows fails, that nothing came of what it has charged."""
        try:
            yield
        except Exception:
            if self.account is not None:
                self.account.failed()
            raise

    def given(self, order: Order, update: str, manifest: str = "") -> None:
        """Write down what leaves, before it does (:class:`clients.exchange.work.Work`).

        Raises:
            LedgerError: when it can't be written.
        """
        if self.account is not None:
            self.account.given(order.round, _model(order), update, manifest)

    def require_approval(self) -> None:
        """Check that the site still approves the run: that may be revoked, and both may expire.

        Raises:
            RefusedError: when its people don't, or its policy has ended.
            RunFolderError: when what they have said can't be read.
        """
        check_dates(self.site.policy.limits, self.site.clock())
        if self.site.policy.approval == "each":
            self.site.approvals.require(self.run, self.job.sha256)

    def check(self, order: Order) -> None:
        """Check that an order is one of this run's.

        Raises:
            ProtocolError: when it is of another run, job, round or number of parameters.
            RollbackError: if the site's ledger is older than the coordinator knows it.
            EquivocationError: if the coordinator's own isn't the one of before, grown.
            FedmodelError: if the site's rows can't be used in the job.
        """
        if order.run != self.run:
            raise ProtocolError(
                f"the order belongs to the run {order.run!r}, and this site has joined {self.run!r}"
            )
        self.require_approval()
        if order.job_sha256 != self.job.sha256:
            raise ProtocolError("the order belongs to another job than the one this site joined")
        if not 1 <= order.round <= self.job.train.rounds:
            raise ProtocolError(
                f"the job has rounds 1 to {self.job.train.rounds}, the order is for {order.round}"
            )
        if order.vector.size != self.learner.layout.total:
            raise ProtocolError(
                f"expected {self.learner.layout.total} parameters, got {order.vector.size}"
            )
        if self.job.train.start == "means":
            check_head(self.job, order.vector)  # before anything is paid for it
        if self.account is not None:
            self.account.check_known(order.entries)
        self._opened()
        self.witness.take(order.shown)

    def train(self, order: Order) -> Update:
        """Train one round from the order's parameters, once where that costs something.

        A private round that was trained from them before gives the update that it gave then.

        Raises:
            ProtocolError: for an order of another job or another number of parameters.
            BudgetError: if no step is left in the site's budget.
            RollbackError: if the site's ledger is older than the coordinator knows it.
            RunFolderError: when the disk hasn't the room to keep the update.
        """
        self.check(order)
        steps, clip = self.job.train.steps, self._carried.clip(order.round)
        if self.plan is None or self.account is None:
            return self._trained(order, self._numbered(order), steps, clip)[0]
        model = _model(order)
        if (kept := self._kept.find(order.round, model)) is not None:
            logger.info(
                "site %s: round %d of run %s was trained from these parameters before; the same "
                "update is given again, and nothing is spent",
                self.site.name, order.round, self.run,
            )  # fmt: skip
            return kept
        with self._kept.room(order.round, model) as keep:
            steps, guard = self.account.spend_round(
                order.round, steps, clip or self.plan.clip, self.witness.begun(_model(order))
            )
            round_ = replace(self._numbered(order), before_step=guard.before_step)
            update, clips = self._trained(order, round_, steps, clip)
            self.account.made(clips)
            keep(update)
        return update

    def _trained(
        self, order: Order, round_: Round, steps: int, clip: float | None
    ) -> tuple[Update, tuple[float, ...]]:
        started = time.perf_counter()
        with self._watch.stage(TRAINING, steps):
            result = self._train(order, round_, steps, self.plan, clip)
        self.train_seconds += time.perf_counter() - started
        self._carried.keep(order.round, result)
        # A private site tells neither its size nor its loss: each would be a release of its own.
        by_rows = self.job.aggregation.weights == "examples"
        weight = float(len(self.examples)) if by_rows else 1.0
        metrics = {} if result.loss is None else {"train_loss": result.loss}
        return Update.of(result.change, weight, metrics), result.clips

    def payments(self, round_: int) -> int:
        """Return how many times the site's ledger has a round as paid."""
        return 0 if self.account is None else self.account.payments(round_)

    def contribution(self, order: Order, *, paid: bool) -> NDArray[np.floating]:
        """Return what a shared sum takes of this site: bounded, and without noise. Secret.

        Args:
            order: what to do.
            paid: see :class:`clients.exchange.work.Work`.

        Raises:
            BudgetError: if no step is left in the site's budget.
        """
        if self.plan is None or self.account is None:
            raise ProtocolError("the job shares no noise")
        clip, start = self.plan.clip, self.witness.begun(_model(order))
        if paid:
            guard = self.account.repeat_round(order.round, start)
        else:
            _, guard = self.account.spend_round(order.round, 1, clip, start)
        round_ = replace(self._numbered(order), before_step=guard.before_step)
        started = time.perf_counter()
        if self.job.privacy.mechanism == "distributed":
            with self._watch.stage(TRAINING, 1):
                found: NDArray[np.floating] = local.gradient(
                    self.learner, self.examples, self.job, order.vector, self.plan, round_
                )
        else:
            guard.before_step(self.plan.spend(order.round, 1))
            with self._watch.stage(TRAINING, self.job.train.steps):
                found = clip_update(self._whole_update(order), clip)
        self.train_seconds += time.perf_counter() - started
        return found

    def _whole_update(self, order: Order) -> Vector:
        """Return by what a round of training without noise changes the parameters.

        What diverges counts for nothing, for that it does is about this site's rows; so does a
        site of which no row counts.
        """
        if not len(self.examples):
            return np.zeros_like(order.vector)
        round_ = self._numbered(order)
        try:
            result = self._train(order, round_, self.job.train.steps, None)
        except DivergedError:
            return np.zeros_like(order.vector)
        self._carried.keep(order.round, result)
        return result.change

    def _numbered(self, order: Order) -> Round:
        return replace(self._round, number=order.round)

    def _train(
        self,
        order: Order,
        round_: Round,
        steps: int,
        plan: Plan | None,
        clip: float | None = None,
    ) -> local.Result:
        state = self._carried.optimizer(order.round)
        return local.train(
            self.learner,
            self.examples,
            self.job,
            Start(vector=order.vector, state=state, clip=clip),
            round_,
            steps=steps,
            plan=plan,
            seed=self.job.root_seed.child("site", self.site.name, order.round),
        )

    # -- evaluation ------------------------------------------------------------------------------

    def evaluate(self, order: Order) -> Counts:
        """Tell, once and with noise, how the last parameters do on the site's own test rows.

        Raises:
            ProtocolError: for an order that doesn't belong, or asks for what the job hasn't agreed
                on.
            BudgetError: if it was answered before, or the budget doesn't cover it.
        """
        self.check(order)
        if self.account is None or not self.job.publishes_evaluation:
            raise ProtocolError(
                "the job asks for no evaluation on the sites' own rows (that takes privacy, "
                "federation.test=held-out and privacy.evaluation=noised)"
            )
        counted = self.learner.task.counted(self.job.model.labels)
        norm = counts.largest_contribution(self.job.privacy, counted)
        with self._charging():
            self.account.spend_evaluation(norm, self.witness.begun(_model(order)))
            self.learner.load_vector(order.vector)
            found = noised_counts(
                self.learner,
                self._opened(),
                self.job.privacy,
                counted,
                self.site.entropy,
                self._watch,
            )
            self.account.counted(found.sha256)
        return found


def _model(order: Order) -> str:
    return order.model or vector_sha256(order.vector)
