"""Stages of an attempt at the coordinator: what has come in, and whether it is enough."""

from collections.abc import Iterable, Mapping

from fedmodel.errors import ProtocolError, QuorumError, ReplayError
from fedmodel.secagg.manifest import Manifest, digest
from fedmodel.secagg.messages import Consent, Pledge, Reveal, Shares

__all__ = ["Stages"]


class Stages:
    """What one attempt has so far.

    Args:
        manifest: of the attempt.
    """

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.digest = digest(manifest)
        self.takers: tuple[int, ...] = ()
        self.survivors: tuple[int, ...] = ()
        self._stage = "shares"
        self._shares: dict[int, Shares] = {}
        self._pledges: dict[int, Pledge] = {}
        self._consents: dict[int, Consent] = {}
        self._reveals: dict[int, Reveal] = {}

    @property
    def short(self) -> bool:
        """Whether too few have answered in this stage to close it."""
        early = len(self._pledges if self._stage == "uploads" else self._shares)
        late = len(self._consents if self._stage == "consents" else self._reveals)
        if self._stage in ("shares", "uploads"):
            return early < self.manifest.survivors
        return late < self.manifest.threshold

    @property
    def consented(self) -> tuple[int, ...]:
        """Who has agreed to the sum, and takes part in no other attempt of the round."""
        return tuple(self._consents)

    @property
    def consents(self) -> dict[int, str]:
        """Signatures (hex) of who has agreed to the sum, by number."""
        return {n: self._consents[n].signature for n in sorted(self._consents)}

    @property
    def vectors(self) -> dict[int, str]:
        """SHA-256 (hex) of the survivors' masked vectors, as they have signed them, by number."""
        return {n: self._pledges[n].vector for n in self.survivors}

    @property
    def spoilt(self) -> bool:
        """Whether so many have agreed to this sum that the others are too few for another one."""
        return len(self.manifest.cohort) - len(self._consents) < self.manifest.survivors

    def _check_stage(self, stage: str) -> None:
        if self._stage != stage:
            raise ReplayError(f"the attempt is at '{self._stage}', the message is for '{stage}'")

    def _check_sender(
        self, sender: int, member: int, manifest: str, among: tuple[int, ...]
    ) -> None:
        if member != sender or member not in among:
            raise ProtocolError(f"a message of site {member}, expected one of site {sender}")
        if manifest != self.digest.hex():
            raise ReplayError(f"the message of site {member} is of another attempt")

    def _enough(self, found: Iterable[int], what: str) -> tuple[int, ...]:
        members, least = tuple(sorted(found)), self.manifest.survivors
        if len(members) < least:
            raise QuorumError(
                f"{len(members)} of {len(self.manifest.cohort)} sites {what}, a secure sum needs "
                f"{least} (secagg.survivors)"
            )
        return members

    def _threshold(self, found: Mapping[int, object], what: str) -> None:
        if len(found) < self.manifest.threshold:
            raise QuorumError(
                f"{len(found)} of {len(self.survivors)} survivors {what}, "
                f"{self.manifest.threshold} must (secagg.threshold)"
            )
