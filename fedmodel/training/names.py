"""Embeddings of the classes' names: public, and near to where the classes' texts are."""

import numpy as np
from numpy.typing import NDArray

from fedmodel.training.examples import prepare
from fedmodel.training.learner import Learner

__all__ = ["name_vectors"]

_SAID = ("{}", "A medical text about {}.")  # both, for a name alone is short for a sentence encoder


def name_vectors(learner: Learner) -> NDArray[np.float64]:
    """Return a vector of length 1 for each class, ``[K, width]``, from its name alone.

    Args:
        learner: a network of which the head alone trains.
    """
    labels = learner.labels
    texts = [said.format(label) for said in _SAID for label in labels]
    # Their targets aren't read.
    rows = prepare(learner, texts, [*labels] * len(_SAID), labels, learner.longest)
    rows.run_frozen()
    features = rows.batch(np.arange(len(texts)))["features"].cpu().numpy().astype(np.float64)
    together = features.reshape(len(_SAID), len(labels), -1).sum(axis=0)
    sizes = np.linalg.norm(together, axis=1, keepdims=True)
    vectors: NDArray[np.float64] = together / np.maximum(sizes, 1e-12)
    return vectors
