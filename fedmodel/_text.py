"""Texts: figures as a person reads them everywhere, and when two texts are the same."""

import math
import re
import unicodedata
from collections.abc import Sequence

__all__ = ["listed", "one_form", "only_seen", "show_epsilon", "without_blanks"]

# Characters that nobody sees: soft hyphen, joiners, zero-width blanks, marks of direction, byte
# order marks, variation selectors.
_UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb]"
)


def show_epsilon(epsilon: float) -> str:
    """Return an ε with three decimals, rounded up: it is an upper bound.

    >>> show_epsilon(7.9951)
    '7.996'
    """
    return f"{math.ceil(epsilon * 1000) / 1000:.3f}"


def one_form(text: str) -> str:
    r"""Return a name in one spelling: NFC, no blank at its ends, one between words.

    >>> one_form(" Su\u0308d \t Haus\n") == "S\u00fcd Haus"
    True
    """
    return " ".join(unicodedata.normalize("NFC", text).split())


def only_seen(text: str) -> str:
    r"""Return a text without characters of no width: marks of direction, joiners and the like.

    >>> only_seen("\ufeffno\u00ad\u200bte")
    'note'
    """
    return _UNSEEN.sub("", text)


def listed(names: Sequence[str], most: int) -> str:
    """Return names as a sentence has them, and how many there are beyond ``most``.

    >>> listed(["a", "b"], 2), listed(["a", "b", "c"], 1)
    ('a, b', 'a and 2 more')
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def without_blanks(text: str) -> str:
    r"""Return what is left of a text without all that nobody sees a difference by.

    Blanks, line ends and characters of no width are taken out, and letters are brought into one
    Unicode form (NFKC). The result is for comparisons, not for reading.

    >>> without_blanks("fever  and\r\ncough\u200b") == without_blanks("fever and cough ")
    True
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", only_seen(text))
    return "".join(text.split())
