"""A check of a job's model at a site, before a row is opened: on rows of nobody's."""

import logging

from fedmodel import models
from fedmodel.job import Performance, Privacy
from fedmodel.training.learner import Learner
from fedmodel.training.padding import reads_padding
from fedmodel.watch import Watch

__all__ = ["check_model"]

logger = logging.getLogger(__name__)


def check_model(learner: Learner, privacy: Privacy, performance: Performance, watch: Watch) -> None:
    """Check on made-up rows that gradients are each row's own, where the job needs it.

    Where it doesn't, a model that answers otherwise in the run than later is told of.

    Args:
        learner: the job's network.
        privacy: of the job.
        performance: which engine, and how many rows fit into a pass.
        watch: who is told what is done.

    Raises:
        PrivacyError: if they would be wrong for this model.
    """
    if privacy.clips_units:
        from fedmodel.training import preflight  # Opacus is slow to import

        with watch.stage("checking gradients"):
            preflight.of_nobodys_rows(learner, performance, privacy.unit)
    elif reads_padding(learner):
        logger.warning(
            "'%s' looks at padding: what it makes of a text changes with how far the text is "
            "padded, so the exported model may answer otherwise than in the run",
            models.family(learner.module),
        )
