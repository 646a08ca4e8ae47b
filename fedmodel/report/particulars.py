"""Particulars of an exported model: what only its publisher can say of it, for the card."""

import re
from dataclasses import dataclass

from fedmodel.job.checks import require

__all__ = ["Particulars"]

_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Particulars:
    """Words for a model card, of whoever publishes the model.

    Args:
        data: what the rows are: whence, of whom, when, in which language.
        license: of the exported model, by the hub's name for it (``apache-2.0``).
        authors: who is to be cited.
        majority: share of the commonest class among the test rows, where that is public though the
            rows aren't.
    """

    data: str | None = None
    license: str | None = None
    authors: str | None = None
    majority: float | None = None

    def __post_init__(self) -> None:
        require(
            self.license is None or _LICENSE.fullmatch(self.license) is not None,
            "card.license must be a name as the Hugging Face hub has it (apache-2.0, mit, "
            f"cc-by-nc-4.0, other), got {self.license!r}",
        )
        require(
            self.majority is None or 0 < self.majority <= 1,
            f"card.majority must be a share in (0, 1], got {self.majority}",
        )
