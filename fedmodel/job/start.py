"""What training starts from: whether a job's head can start from released means."""

from fedmodel.job.checks import require
from fedmodel.job.federation import ProposedAggregation
from fedmodel.job.privacy import ProposedPrivacy
from fedmodel.job.train import ProposedModel, ProposedTrain

__all__ = ["check_start", "why_not_means"]


def why_not_means(
    model: ProposedModel,
    train: ProposedTrain,
    privacy: ProposedPrivacy,
    aggregation: ProposedAggregation,
) -> str | None:
    """Return what a job would need so that its head can start from means; ``None``: nothing.

    The coordinator makes the head and takes the optimiser's steps, so the sites' must be plain
    ones; and the vectors must be of length 1, for that bounds what one row can do to a mean.
    """
    lone = train.steps == 1 and train.optimizer_state == "reset"  # no step comes after another
    still = lone or not train.momentum
    plain = train.optimizer == "sgd" and still and not train.weight_decay
    needs = {
        "train=head": train.method == "head",
        "model.task=sequence-classification": model.task == "sequence-classification",
        "model.pooling=mean model.normalize=true": model.pooling == "mean" and model.normalize,
        "train.optimizer=sgd without momentum and weight_decay": plain,
        "train.precision=float32": train.precision == "float32",
        "train.steps=1 with DP": train.steps == 1 or not privacy.private,
        "another privacy than site": privacy.mechanism != "site",
        "privacy.clipping=flat": privacy.clipping == "flat" or not privacy.private,
        "aggregation=fedavg": aggregation.optimizer == "fedavg",
    }
    return next((need for need, met in needs.items() if not met), None)


def check_start(
    model: ProposedModel,
    train: ProposedTrain,
    privacy: ProposedPrivacy,
    aggregation: ProposedAggregation,
) -> None:
    """Check that what is asked for can start from means, if it is to.

    Raises:
        ConfigError: naming what it needs.
    """
    need = why_not_means(model, train, privacy, aggregation)
    require(
        train.start != "means" or need is None,
        f"train.start=means needs {need}; choose that, or train.start=zero",
    )
