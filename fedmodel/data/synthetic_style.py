"""Style of one made-up site: its order, headers, abbreviations, casing and favourite words."""

import re
from dataclasses import dataclass

from fedmodel.data import synthetic_lexicon as lexicon
from fedmodel.data.synthetic_lexicon import Concepts
from fedmodel.seeds import Seed

__all__ = ["Style", "make_style"]

_KINDS: dict[str, tuple[dict[str, Concepts], Concepts]] = {
    "symptoms": (lexicon.SYMPTOMS, lexicon.SHARED_SYMPTOMS),
    "findings": (lexicon.FINDINGS, lexicon.SHARED_FINDINGS),
    "drugs": (lexicon.DRUGS, lexicon.SHARED_DRUGS),
    "histories": (lexicon.HISTORIES, lexicon.SHARED_HISTORIES),
}
# Of so many entries for a concept, all but one for each other wording are the favourite.
_ENTRIES = 6
# Orders of: complaint, history, observations, examination, plan.
_ORDERS = ((0, 1, 2, 3, 4), (0, 2, 3, 1, 4), (1, 0, 3, 2, 4), (2, 0, 1, 3, 4), (4, 0, 3, 2, 1))


@dataclass(frozen=True, slots=True)
class Style:
    """One site's way of writing.

    Args:
        words: kind → class (``""``: any class) → phrases, favourites more often.
        complaint: template of the first sentence.
        vitals: template of the observations.
        identity: template of who, when and where.
        identity_first: at the beginning of the note rather than its end.
        phone: the site's number, without the ward's two digits.
        headers: before each section.
        order: of the sections.
        lower: writes without capitals.
    """

    words: dict[str, dict[str, tuple[str, ...]]]
    complaint: str
    vitals: str
    identity: str
    identity_first: bool
    phone: str
    headers: tuple[str, ...]
    order: tuple[int, ...]
    lower: bool

    def written(self, sections: list[str]) -> str:
        """Join the sections in this site's order, with its headers and casing."""
        body = " ".join([self.headers[i] + sections[i] for i in self.order if sections[i]])
        return body.lower() if self.lower else body


def make_style(index: int, seed: Seed) -> Style:
    """Make the style of the site with this number; neighbouring sites always differ."""
    rng = seed.numpy()
    short = {a: b for a, b in lexicon.SHORTENED if rng.random() < (0.0, 0.9, 0.4)[index % 3]}
    pattern = re.compile(r"\b(" + "|".join(map(re.escape, short)) + r")\b") if short else None

    def shortened(text: str) -> str:
        return pattern.sub(lambda found: short[found[0]], text) if pattern else text

    def phrases(concepts: Concepts) -> tuple[str, ...]:
        entries: list[str] = []
        for concept in concepts:
            favourite = concept[int(rng.random() * len(concept))]
            rest = [wording for wording in concept if wording != favourite]
            entries += [favourite] * (_ENTRIES - len(rest)) + rest
        return tuple(shortened(entry) for entry in entries)

    words = {
        kind: {"": phrases(shared)} | {label: phrases(own[label]) for label in lexicon.CLASSES}
        for kind, (own, shared) in _KINDS.items()
    }
    return Style(
        words=words,
        complaint=shortened(lexicon.COMPLAINTS[index % len(lexicon.COMPLAINTS)]),
        vitals=shortened(lexicon.VITALS[index % len(lexicon.VITALS)]),
        identity=lexicon.IDENTITIES[(index + int(rng.random() * 2)) % len(lexicon.IDENTITIES)],
        identity_first=bool(rng.random() < 0.7),
        phone=f"{100 + int(rng.random() * 899)}-{10 + int(rng.random() * 89)}",
        headers=lexicon.HEADERS[index % len(lexicon.HEADERS)],
        order=_ORDERS[index % len(_ORDERS)],
        lower=index % 4 == 2,
    )
