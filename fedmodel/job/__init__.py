"""The job: all that a federated run means, agreed by every party, and the proposal before it.

A :class:`Proposal` is what somebody asks for; it may leave things open. A :class:`Job` is complete,
and only it travels. It holds no path on anybody's machine (a model folder in a simulation
excepted), no secret and no fact about one site's data. Two jobs with the same canonical JSON (RFC
8785) are the same job, and ``job.sha256`` names it. What only a machine cares for is its
:class:`Performance`, which no hash covers.
"""

from fedmodel.job.federation import (
    Aggregation,
    Federation,
    ProposedAggregation,
    ProposedFederation,
)
from fedmodel.job.job import Job
from fedmodel.job.performance import Performance
from fedmodel.job.privacy import Privacy, ProposedPrivacy, Unit
from fedmodel.job.proposal import Proposal
from fedmodel.job.secagg import BITS, MaskedSums, ProposedSecAgg, SecAgg, masked_sums
from fedmodel.job.start import why_not_means
from fedmodel.job.train import (
    HeadStart,
    Lora,
    Model,
    ProposedModel,
    ProposedTrain,
    Stage,
    Train,
)

__all__ = [
    "BITS",
    "Aggregation",
    "Federation",
    "HeadStart",
    "Job",
    "Lora",
    "MaskedSums",
    "Model",
    "Performance",
    "Privacy",
    "Proposal",
    "ProposedAggregation",
    "ProposedFederation",
    "ProposedModel",
    "ProposedPrivacy",
    "ProposedSecAgg",
    "ProposedTrain",
    "SecAgg",
    "Stage",
    "Train",
    "Unit",
    "masked_sums",
    "why_not_means",
]
