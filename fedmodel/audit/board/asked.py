"""Questions: fifteen that a board asks of a run, and what its auditor adds to the records."""

import re
from dataclasses import dataclass
from datetime import date

from fedmodel.errors import ConfigError

__all__ = ["QUESTIONS", "Answer", "Terms", "answered", "unanswered"]

_LONGEST = 500

QUESTIONS: tuple[str, ...] = (
    "Whose presence is hidden: a row, a patient, a site? What about someone treated at two sites?",
    "How strong is it, in plain odds?",
    "From whom is it hidden: other hospitals, the coordinator, the public, colluders? What if the "
    "coordinator lies?",
    "What left the building?",
    "What was spent before on the same rows, and what is left? Which other projects?",
    "Was the promise kept in this run?",
    "Did anyone try to break it; how, with what power, and what could not have been seen?",
    "Can a patient's text or name come out of the model, directly or by questions?",
    "Who is protected worst: rare classes, small sites, outliers?",
    "What does privacy cost the patient: accuracy with and without it?",
    "Was anything tuned, stopped early or chosen on private data? Is it counted?",
    "Who checked, with which program, keys and digests; can we repeat it without you?",
    "What is not shown?",
    "Under which conditions does this hold: who may receive the model, until when, what ends it?",
    "Verdict: release, release under conditions, or don't release; and the strongest reason?",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer, or why there is none.

    Args:
        number: of the question, from 1.
        answered: whether these records answer it.
        text: of the answer, or ``because``: why there is none; a paragraph each.
        evidence: names of checks, and files, that it rests on.
    """

    number: int
    answered: bool
    text: tuple[str, ...]
    evidence: tuple[str, ...] = ()

    @property
    def question(self) -> str:
        """The question, as it is asked."""
        return QUESTIONS[self.number - 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Under which terms a model is to be released: the auditor's, for no record of a run has them.

    Args:
        recipients: who may receive it.
        until: the last day on which the report holds, as YYYY-MM-DD.
        contact: who answers questions.

    Raises:
        ConfigError: for a day that is none, or a text that is too long.
    """

    recipients: str | None = None
    until: str | None = None
    contact: str | None = None

    def __post_init__(self) -> None:
        if self.until is not None:
            _require_day(self.until)
        for name in ("recipients", "contact"):
            text = getattr(self, name)
            if text is not None and not 0 < len(text) <= _LONGEST:
                raise ConfigError(f"{name} must have 1 to {_LONGEST} characters, got {len(text)}")

    def check_still_good(self, today: date) -> None:
        """Check that they aren't over as the report is made.

        Raises:
            ConfigError: when they are.
        """
        if self.until is not None and date.fromisoformat(self.until) < today:
            raise ConfigError(f"until={self.until} is over, and a report is about what may be")

    @property
    def whole(self) -> bool:
        """Whether they say who may receive the model, and until when."""
        return self.recipients is not None and self.until is not None


def _require_day(text: str) -> None:
    try:
        if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            raise ValueError
        date.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"until must be a day such as 2027-01-31, got {text!r:.40}") from None


def answered(number: int, *text: str, evidence: tuple[str, ...] = ()) -> Answer:
    """Return an answer."""
    return Answer(number=number, answered=True, text=text, evidence=evidence)


def unanswered(number: int, *because: str, evidence: tuple[str, ...] = ()) -> Answer:
    """Return why a question isn't answered."""
    return Answer(number=number, answered=False, text=because, evidence=evidence)
