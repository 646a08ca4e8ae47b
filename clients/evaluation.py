"""A site's part in an evaluation: counts of its own test rows, with noise."""

import numpy as np

from clients.site_rows import SiteRows
from fedmodel.job import Privacy
from fedmodel.mechanisms import counts
from fedmodel.mechanisms.counts import Counts
from fedmodel.seeds import Entropy
from fedmodel.tasks import Counted
from fedmodel.training.evaluate import count
from fedmodel.training.learner import Learner
from fedmodel.watch import Watch

__all__ = ["noised_counts"]


def noised_counts(
    learner: Learner,
    rows: SiteRows,
    privacy: Privacy,
    counted: Counted,
    entropy: Entropy,
    watch: Watch,
) -> Counts:
    """Return how a network does on a site's test rows, as noised counts.

    Args:
        learner: the network, with the parameters that are asked about.
        rows: the site's.
        privacy: of the job. What this costs must already be on disk.
        counted: what the job's task counts.
        entropy: draws rows and noise.
        watch: who is told how far it is.
    """
    exact = np.zeros(len(counted.names), dtype=np.int64)
    if rows.held_out is not None and rows.test is not None:
        patients = rows.test.patients if privacy.unit == "patient" else None
        most = privacy.rows_per_patient
        chosen = counts.counted_rows(len(rows.held_out), patients, most, entropy)
        with watch.stage("evaluating", len(chosen)):
            exact = count(learner, rows.held_out, chosen, watch)
    # A site without a test row tells noise: that it has none is not for others to know.
    return counts.noised(exact, privacy, counted, entropy)
