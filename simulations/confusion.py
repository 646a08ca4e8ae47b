"""Confusion matrix of a finished run, on the rows that its researcher tests on."""

import numpy as np
import torch
from numpy.typing import NDArray

from fedmodel.errors import ConfigError
from fedmodel.logs import silenced
from fedmodel.runs import RunFolder
from fedmodel.training.evaluate import SIZE
from fedmodel.training.examples import prepare
from simulations.parties import gather
from simulations.scenario import Scenario

__all__ = ["confusion"]


def confusion(folder: RunFolder) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return how often rows of each class were given each class.

    Args:
        folder: of a finished run whose rows are where they were.

    Returns:
        The classes in the order of the logits, and the counts, int64 ``[true, given]``.

    Raises:
        ConfigError: for a task whose rows have sets of labels.
        DataError: when the rows aren't there any more.
        ModelError: when the model isn't.
    """
    with silenced():
        parties = gather(Scenario.from_mapping(folder.manifest.config))
    model, learner = parties.job.model, parties.learner
    if learner.task.label_sets:
        raise ConfigError(
            f"model.task={model.task} gives a row any number of labels; a confusion matrix is of "
            "one for each. Its F1 for each label stands in summary.final"
        )
    rows = parties.test
    learner.load_vector(learner.layout.from_named(folder.model()))
    examples = prepare(learner, rows.texts, rows.labels, model.labels, model.max_length, uses=None)
    matrix = np.zeros((len(model.labels),) * 2, dtype=np.int64)
    learner.module.eval()
    with torch.inference_mode():
        for part in examples.chunks(np.arange(len(examples)), SIZE):
            given = learner.logits(examples.batch(part)).argmax(1).cpu().numpy()
            np.add.at(matrix, (examples.labels(part).cpu().numpy(), given), 1)
    return model.labels, matrix
