"""Jobs for tests: complete, with what a test doesn't care for filled in."""

from typing import Any

from fedmodel.job import Job, MaskedSums, Model, Performance, ProposedSecAgg, SecAgg, masked_sums
from fedmodel.seeds import Seed
from fedmodel.training.learner import network

__all__ = ["CPU", "NO_WEIGHTS", "make_job", "real_job", "summed"]

CPU = Performance(device="cpu")
NO_WEIGHTS = "0" * 64


def make_job(**parts: Any) -> Job:
    """Return a job whose model nobody loads."""
    given: dict[str, Any] = {"model": Model(labels=("a", "b")), "weights": NO_WEIGHTS}
    return Job(**given | parts)


def real_job(**parts: Any) -> Job:
    """Return a job that names the weights its model really starts from."""
    job = make_job(**parts)
    learner = network(job.model, job.train, Seed(job.seed), CPU)
    return make_job(**parts | {"weights": learner.digest})


def summed(sites: int, **asked: Any) -> SecAgg:
    """Return secure sums of so many sites; what isn't asked for is as a proposal would have it."""
    bits = asked.pop("bits", 24)
    sums: MaskedSums = masked_sums(ProposedSecAgg(mode="on", bits=bits, **asked), sites=sites)
    return SecAgg(mode="on", sums=sums)
