"""Agreement at the coordinator: a proposal and public facts, with the model's own weights → job."""

from dataclasses import replace

from fedmodel import models
from fedmodel.agreement import Facts, complete, complete_model
from fedmodel.job import Job, Proposal
from fedmodel.seeds import Seed
from fedmodel.training.learner import Learner, network
from fedmodel.watch import UNWATCHED, Watch

__all__ = ["UNKNOWN", "agree"]

UNKNOWN = "0" * 64
"""Stands for the hash of weights that aren't loaded yet."""


def agree(proposal: Proposal, facts: Facts, watch: Watch = UNWATCHED) -> tuple[Job, Learner]:
    """Return the job that a proposal and facts make, and this process's learner for it.

    Args:
        proposal: what is asked for.
        facts: what is public; which weights the model starts from is found out here.
        watch: who is told how far it is.

    Raises:
        ConfigError: when the proposal can't be met, before the model is loaded.
        PrivacyError: when no noise keeps its promise, likewise.
        ModelError: when the model isn't usable.
    """
    first = complete(proposal, replace(facts, weights=UNKNOWN))
    if first.train.start == "means":  # else whether there is a trained head makes no difference
        facts = replace(facts, headed=models.headed(proposal.model))
    model = complete_model(proposal, facts)
    with watch.stage("loading the model"):
        learner = network(model, proposal.train, Seed(proposal.seed), proposal.performance)
    return complete(proposal, replace(facts, weights=learner.digest)), learner
