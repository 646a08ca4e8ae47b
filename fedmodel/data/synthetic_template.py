"""Made-up notes by template: a form's fields as sentences, in the same words in every note.

Hospitals' systems write such texts. Their embeddings are nearly parallel, which is hard on what is
trained on them; notes in free words (:mod:`fedmodel.data.synthetic`) show nothing of that.
"""

from collections.abc import Sequence

from fedmodel.data import synthetic_lexicon as lexicon

__all__ = ["DRAWS", "templated_note"]

# A complaint of each class; of every patient all are asked.
_ASKED = {
    "cardiac": "Chest pain",
    "infectious": "Chills",
    "neurological": "Weakness of one side",
    "orthopaedic": "Joint pain",
    "respiratory": "Cough",
}
# How often a patient has the complaint of the own class, of a class like it, of any other; and how
# often it is severe then.
_OWN, _LIKE, _OTHER = 0.8, 0.3, 0.12
_SEVERE, _SEVERE_OTHER = 0.6, 0.25
# Of each value: its name, unit, least and range, and what some classes add to it at most.
_MEASURED: tuple[tuple[str, str, int, int, dict[str, int]], ...] = (
    ("Heart rate", "per minute", 58, 45, {"cardiac": 12, "infectious": 18}),
    ("Systolic blood pressure", "mmHg", 102, 60, {"cardiac": 18, "neurological": 20}),
    ("Oxygen saturation", "percent", 92, 8, {"respiratory": -5}),
    ("C-reactive protein", "mg/l", 1, 40, {"infectious": 70, "respiratory": 25}),
)
DRAWS = 2 * len(_ASKED) + 2 * len(_MEASURED) + 2
"""Random numbers that a note takes, one for each choice."""


def templated_note(
    label: str, sex: str, age: int, u: Sequence[float]
) -> tuple[str, tuple[str, ...]]:
    """Write one note, and say of which classes it has a severe complaint.

    Args:
        label: class of the note.
        sex: as it is written.
        age: in years.
        u: :data:`DRAWS` random numbers in [0, 1).

    Returns:
        The text, and these classes, sorted.
    """
    draws = iter(u)
    warm = 36.2 + 1.2 * next(draws) + 1.1 * next(draws) * (label == "infectious")
    sentences = [f"{age}-year-old {sex}.", f"Temperature {warm:.1f} degrees."]
    for name, unit, least, wide, more in _MEASURED:
        value = least + int(wide * next(draws)) + int(more.get(label, 0) * next(draws))
        sentences.append(f"{name} {value} {unit}.")
    topics = []
    for about, complaint in _ASKED.items():
        often = _LIKE if about in lexicon.NEIGHBOURS[label] else _OTHER
        there = next(draws) < (_OWN if about == label else often)
        severe = next(draws) < (_SEVERE if about == label else _SEVERE_OTHER)
        sentences.append(f"{complaint}: {('severe' if severe else 'mild') if there else 'none'}.")
        topics += [about] if there and severe else []
    return " ".join(sentences), tuple(topics)
