"""The Job: all that a federated run means, agreed by every party.

It holds no path on anybody's machine (a model folder in a simulation excepted), no secret and no
fact about one site's data. Two jobs with the same canonical JSON (RFC 8785) are the same job, and
``job.sha256`` names it. Checks that need only the job happen here, at construction.
"""

from fedmodel.job.federation import Aggregation, Federation
from fedmodel.job.job import Job
from fedmodel.job.privacy import Privacy
from fedmodel.job.secagg import BITS, SecAgg
from fedmodel.job.train import Lora, Model, Train

__all__ = [
    "BITS",
    "Aggregation",
    "Federation",
    "Job",
    "Lora",
    "Model",
    "Privacy",
    "SecAgg",
    "Train",
]
