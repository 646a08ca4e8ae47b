"""Made-up clinical notes: several per patient, at sites that write and see different things.

They hold false names, record numbers, dates and phone numbers, so that an audit has something to
look for. Everything follows from the seed by integer and plain floating-point arithmetic, so that
each platform writes the same notes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Literal

from fedmodel.data import synthetic_lexicon as lexicon
from fedmodel.data.partition import site_names
from fedmodel.data.rows import Rows
from fedmodel.data.synthetic_style import Style, make_style
from fedmodel.data.synthetic_template import DRAWS, templated_note
from fedmodel.errors import DataError
from fedmodel.seeds import Seed
from fedmodel.tasks import Label

if TYPE_CHECKING:
    import numpy as np

__all__ = ["clinical_notes"]

_CHUNK = 2048
_DRAWS = 35
# Share of patients with 1, 2, … 6 notes, as a running sum.
_NOTES = (0.20, 0.45, 0.65, 0.80, 0.92)
_MOST_PATIENTS = 5_000_000
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# How often a phrase comes from the note's own class, and from one that resembles it.
_OWN, _OTHER = 0.41, 0.13
# Which of a note's random numbers say whose phrase comes: of three symptoms, a history, two
# findings and two drugs.
_SOURCES = (3, 5, 7, 10, 20, 22, 24, 26)


@dataclass(frozen=True, slots=True)
class _Patient:
    number: int
    name: str
    record: str
    sex: str
    age: int


def clinical_notes(
    rows: int,
    sites: int,
    seed: Seed,
    *,
    cohort: Literal["train", "test"] = "train",
    label_sets: bool = False,
    style: Literal["free", "templated"] = "free",
) -> Rows:
    """Write clinical notes of five classes of diagnosis.

    Args:
        rows: how many notes.
        sites: how many sites they come from. Sites differ in style, vocabulary, size and mix of
            classes; a site with at least five notes has every class.
        seed: everything follows from it. The sites of both cohorts of a seed are the same.
        cohort: the two cohorts share no patient.
        label_sets: label a note with the set of classes that at least two of its phrases are
            about (none, one or two of them), and not with its diagnosis. The notes are the same.
        style: ``free``: each site in words of its own; ``templated``: one form of fields that every
            site fills in, nearly all of whose words are the same in every note, and no name.

    Returns:
        The notes in random order, with site and patient.

    Raises:
        DataError: if there are fewer notes than sites, or more than can be told apart.
    """
    if sites < 1:
        raise DataError(f"synthetic notes need at least one site, got {sites}; raise it")
    if rows < sites:
        raise DataError(
            f"{sites} sites need at least as many synthetic rows, got {rows} ({cohort} rows); "
            f"raise data.{'rows' if cohort == 'train' else 'test_rows'} or lower federation.sites"
        )
    if rows > _MOST_PATIENTS:
        raise DataError(f"at most {_MOST_PATIENTS} synthetic rows, got {rows}; lower data.rows")
    names = site_names(sites)
    texts: list[str] = []
    labels: list[Label] = []
    patients: list[str] = []
    first = 0 if cohort == "train" else _MOST_PATIENTS
    counts = _site_sizes(rows, sites, seed)
    for index, count in enumerate(counts):
        own = make_style(index, seed.child("site", index)) if style == "free" else None
        rng = seed.child("notes", cohort, index).numpy()
        classes = _classes(_mix(count, index, seed), rng)
        people = list(_people(count, first, seed, rng))
        first = people[-1].number + 1
        notes = list(_notes(classes, people, own, rng))
        texts.extend(text for text, _ in notes)
        labels.extend([topics for _, topics in notes] if label_sets else classes)
        patients.extend(f"patient-{person.number:07d}" for person in people)
    located = [name for name, count in zip(names, counts, strict=True) for _ in repeat(0, count)]
    order = seed.child("order", cohort).numpy().permutation(rows).tolist()
    return Rows(texts, labels, located, patients).select(order)


def _site_sizes(rows: int, sites: int, seed: Seed) -> list[int]:
    """Share the rows; the largest site has about twice as many as the smallest."""
    weights = 0.7 + 0.7 * seed.child("sizes").numpy().random(sites)
    return _share(rows, weights.tolist())


def _mix(count: int, index: int, seed: Seed) -> list[int]:
    """Return how many notes of each class a site has: skewed towards one or two classes."""
    draws = seed.child("mix", index).numpy().random(len(lexicon.CLASSES))
    weights = [0.08 + 0.9 * u * u * u for u in draws.tolist()]
    weights[index % len(weights)] += 0.4
    return _share(count, weights)


def _share(total: int, weights: Sequence[float]) -> list[int]:
    """Divide ``total`` by weight, at least 1 each where it suffices."""
    least = 1 if total >= len(weights) else 0
    free = total - least * len(weights)
    scale = free / sum(weights)
    shares = [least + int(w * scale) for w in weights]
    by_weight = sorted(range(len(weights)), key=lambda i: -weights[i])
    for i in range(total - sum(shares)):
        shares[by_weight[i % len(by_weight)]] += 1
    return shares


def _classes(counts: Sequence[int], rng: "np.random.Generator") -> list[str]:
    """Lay the classes out in runs, so that most patients have one, then swap a few."""
    classes = [c for c, n in zip(lexicon.CLASSES, counts, strict=True) for _ in repeat(0, n)]
    moved = (rng.random(len(classes)) < 0.04).nonzero()[0]
    kept = [classes[i] for i in moved.tolist()]
    for place, source in zip(moved.tolist(), rng.permutation(len(kept)).tolist(), strict=True):
        classes[place] = kept[source]
    return classes


def _people(count: int, first: int, seed: Seed, rng: "np.random.Generator") -> Iterator[_Patient]:
    """Yield the patient of each of ``count`` notes; one patient's notes follow each other."""
    # Multiplying by a number prime to 10**7 visits every record number once.
    shift = seed.child("records").value % 10**7
    number, left = first, count
    while left:
        for u in rng.random((min(left, _CHUNK), 4)).tolist():
            person = _person(number, (number * 6_180_339 + shift) % 10**7, u)
            notes = min(1 + sum(u[3] >= edge for edge in _NOTES), left)
            yield from repeat(person, notes)
            number, left = number + 1, left - notes
            if not left:
                break


def _person(number: int, record: int, u: Sequence[float]) -> _Patient:
    female = number % 2 == 0
    given = lexicon.FEMALE if female else lexicon.MALE
    name = f"{given[int(u[0] * len(given))]} {lexicon.FAMILY[int(u[1] * len(lexicon.FAMILY))]}"
    text = f"{record // 10**5:02d}-{record % 10**5:05d}"
    return _Patient(number, name, text, "woman" if female else "man", 22 + int(u[2] * 70))


def _notes(
    classes: Sequence[str],
    people: Sequence[_Patient],
    style: Style | None,
    rng: "np.random.Generator",
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each note, and the classes that it speaks of; without a site's style by template."""
    width = _DRAWS if style is not None else DRAWS
    for start in range(0, len(classes), _CHUNK):
        stop = min(start + _CHUNK, len(classes))
        draws = rng.random((stop - start, width)).tolist()
        for index, u in zip(range(start, stop), draws, strict=True):
            label, person = classes[index], people[index]
            if style is None:
                yield templated_note(label, person.sex, person.age, u)
            else:
                yield _note(label, person, style, u), _topics(label, u)


def _topics(label: str, u: Sequence[float]) -> tuple[str, ...]:
    """Return the classes that at least two phrases are about; ``u`` as in :func:`_note`."""
    sources = [u[i] for i in _SOURCES]
    counts = {
        label: sum(s < _OWN for s in sources),
        _other(label, u): sum(_OWN <= s < _OWN + _OTHER for s in sources),
    }
    return tuple(sorted(name for name, count in counts.items() if count >= 2))


def _other(label: str, u: Sequence[float]) -> str:
    near = lexicon.NEIGHBOURS[label]
    return near[int(u[0] * len(near))]


def _note(label: str, person: _Patient, style: Style, u: list[float]) -> str:
    """Write one note; ``u`` are its random numbers in [0, 1), one for each choice."""
    other = _other(label, u)

    def pick(kind: str, source: float, which: float) -> str:
        words = style.words[kind]
        if source < _OWN:
            own = words[label]
        elif source < _OWN + _OTHER:
            own = words[other]
        else:
            own = words[""]
        return own[int(which * len(own))]

    def another(kind: str, source: float, which: float, *said: str) -> str:
        phrase = pick(kind, source, which)
        return phrase if phrase not in said else pick(kind, source, (which + 0.5) % 1)

    course = lexicon.COURSES[int(u[1] * len(lexicon.COURSES))].format(n=2 + int(u[2] * 12))
    a = pick("symptoms", u[3], u[4])
    b = another("symptoms", u[5], u[6], a)
    c = another("symptoms", u[7], u[8], a, b)
    complaint = style.complaint.format(a=a, b=b, c=c, course=course)
    context = lexicon.CONTEXTS[int(u[9] * len(lexicon.CONTEXTS))]
    history = f"History of {pick('histories', u[10], u[11])}" + (
        f"; {context}." if u[12] < 0.5 else "."
    )
    vitals = (
        ""
        if u[29] < 0.3
        else style.vitals.format(
            t=f"{36.1 + 1.4 * u[14] + (1.2 * u[15] if label == 'infectious' else 0):.1f}",
            p=58 + int(u[16] * 50),
            s=98 + int(u[17] * 70),
            d=55 + int(u[18] * 40),
            o=90 + int(u[19] * 10),
        )
    )
    a = pick("findings", u[20], u[21])
    findings = f"Noted: {a} and {another('findings', u[22], u[23], a)}."
    a = pick("drugs", u[24], u[25])
    plan = f"For {a} and {another('drugs', u[26], u[27], a)}."
    if u[12] >= 0.6:
        plan += " " + lexicon.CLOSINGS[int(u[28] * len(lexicon.CLOSINGS))]
    body = style.written([complaint, history, vitals, findings, plan])
    if u[30] < 0.5:
        body = _mistyped(body, 2 * u[30])
    identity = style.identity.format(
        name=person.name,
        mrn=person.record,
        age=person.age,
        sex=person.sex,
        date=f"{1 + int(u[31] * 28)} {_MONTHS[int(u[32] * 12)]} {2019 + int(u[33] * 6)}",
        ward=lexicon.WARDS[int(u[34] * len(lexicon.WARDS))],
        phone=style.phone + f"{int(u[34] * len(lexicon.WARDS)):02d}",
    )
    return f"{identity} {body}" if style.identity_first else f"{body} {identity}"


def _mistyped(text: str, u: float) -> str:
    """Exchange two neighbouring letters, where the place drawn has two."""
    i = int(u * (len(text) - 1))
    if text[i].isalpha() and text[i + 1].isalpha():
        return text[:i] + text[i + 1] + text[i] + text[i + 2 :]
    return text
