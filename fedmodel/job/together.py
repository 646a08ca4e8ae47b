"""Compatibility of a job's parts: what doesn't go together is refused before anything is loaded."""

from fedmodel.job.checks import require
from fedmodel.job.federation import ProposedAggregation
from fedmodel.job.privacy import ProposedPrivacy
from fedmodel.job.train import ProposedTrain

__all__ = ["check_together"]


def check_together(
    privacy: ProposedPrivacy, train: ProposedTrain, aggregation: ProposedAggregation, secagg: str
) -> None:
    """Check parts of a proposal or a job against one another.

    Args:
        privacy: what is promised.
        train: how sites train.
        aggregation: what the coordinator does with what they send.
        secagg: ``on``, ``seal`` or ``off``.

    Raises:
        ConfigError: for the first two that don't go together.
    """
    require(
        not (privacy.private and aggregation.weights == "examples"),
        "aggregation.weights=examples tells every site's number of rows, which DP promises to "
        f"hide; use aggregation.weights=uniform with privacy.mechanism={privacy.mechanism}",
    )
    require(
        privacy.private or train.optimizer != "adamw-bc",
        "train.optimizer=adamw-bc corrects for the noise of DP, and this job has none; use "
        "train.optimizer=adamw",
    )
    require(
        train.optimizer != "adamw-bc" or privacy.mechanism != "site",
        "train.optimizer=adamw-bc corrects for noise in a site's own steps, and with "
        "privacy=site there is none; use train.optimizer=adamw",
    )
    require(
        secagg == "on" or not privacy.shared,
        f"privacy.mechanism={privacy.mechanism} spreads the noise over the sites, so that "
        f"one site's update alone has too little; it needs secagg=on, got secagg={secagg}",
    )
    require(
        not (secagg == "on" and aggregation.robust),
        f"aggregation={aggregation.optimizer} needs every site's update as it is, and "
        "with secagg=on the coordinator sees their sum only; use aggregation=fedavg, fedavgm "
        "or fedadam, or secagg=off or secagg=seal",
    )
    if privacy.mechanism == "distributed":
        _check_distributed(train)


def _check_distributed(train: ProposedTrain) -> None:
    require(
        train.steps == 1,
        "with privacy=distributed every optimiser step is one secure sum, so train.steps must "
        f"be 1, got {train.steps}: use train.rounds={train.total_steps} train.steps=1. "
        "Several local steps per sum are FedAvg: privacy=record secagg=on, where each site "
        "keeps its own ε and secure sums add protection from the coordinator, but no ε",
    )
    require(
        train.optimizer == "sgd" and train.momentum == 0 and train.optimizer_state == "reset",
        "with privacy=distributed the coordinator takes the optimiser's step: use "
        "train.optimizer=sgd train.momentum=0 train.optimizer_state=reset, and "
        "aggregation=fedavg (SGD), fedavgm (momentum) or fedadam (Adam)",
    )
