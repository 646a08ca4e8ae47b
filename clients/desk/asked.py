"""Offers as a site keeps them: what whoever decides is told of who asks."""

from dataclasses import dataclass
from typing import Literal

from fedmodel import config
from fedmodel.identity import Roster
from fedmodel.job import Job
from fedmodel.runs import check_run
from fedmodel.wire import Offer

__all__ = ["Asked", "asked_by"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """An offer as a site keeps it until it is decided on.

    Args:
        schema: of the file.
        run: its name.
        purpose: why, in the words of whoever asks; empty where they gave none.
        coordinator: public Ed25519 key of the coordinator by the site's roster, hex; ``None``
            without a roster.
        consortium: name of the roster.
        since: when it was first offered, UTC (ISO 8601).
        job: canonical JSON of the job.
    """

    schema: Literal["fedmodel.asked/1"] = "fedmodel.asked/1"
    run: str
    purpose: str = ""
    coordinator: str | None = None
    consortium: str | None = None
    since: str
    job: str

    def __post_init__(self) -> None:
        check_run(self.run)

    @property
    def job_sha256(self) -> str:
        """SHA-256 (hex) of the job."""
        return config.sha256(self.job.encode())

    def read_job(self) -> Job:
        """Return the job.

        Raises:
            ConfigError: when this version can't read it.
        """
        return Job.from_json(self.job.encode())


def asked_by(offer: Offer, roster: Roster | None) -> Asked:
    """Return what a site keeps of an offer.

    Args:
        offer: as it came.
        roster: the site's own, by which it knows the coordinator; ``None`` without one.
    """
    return Asked(
        run=offer.run,
        purpose=offer.purpose,
        coordinator=None if roster is None else roster.coordinator,
        consortium=None if roster is None else roster.name,
        since="",
        job=offer.job.json.decode(),
    )
