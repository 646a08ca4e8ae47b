import hashlib
import re
from collections import Counter

import pytest

from fedmodel import tasks
from fedmodel.data import Rows, Source, clinical_notes, labels_of, load
from fedmodel.errors import DataError
from fedmodel.seeds import Seed

SINGLE = tasks.of("sequence-classification")

NOTES = clinical_notes(3000, 5, Seed(0))


def digest(rows: Rows) -> str:
    columns = (rows.texts, rows.labels, rows.sites or (), rows.patients or ())
    return hashlib.sha256(repr(columns).encode()).hexdigest()


@pytest.mark.long
def test_the_seed_decides() -> None:
    assert clinical_notes(3000, 5, Seed(0)) == NOTES
    assert clinical_notes(3000, 5, Seed(1)) != NOTES
    # Fixed, so that another platform or release that writes other notes is noticed.
    assert (
        digest(clinical_notes(200, 3, Seed(7)))
        == "6cfda3c94af6f893859ad8dd5d713477da84f6c2fa1b42593f00edfe56e91397"
    )


def test_each_site_has_each_class_and_a_mix_of_its_own() -> None:
    pairs = Counter(zip(NOTES.sites or (), NOTES.labels, strict=True))
    assert len(pairs) == 25
    for site in set(NOTES.sites or ()):
        shares = [n for (s, _), n in pairs.items() if s == site]
        assert max(shares) > 0.3 * sum(shares)
    largest = {
        max((n, label) for (s, label), n in pairs.items() if s == site)[1]
        for site in set(NOTES.sites or ())
    }
    assert len(largest) >= 3


def test_patients_have_one_to_six_notes_at_one_site() -> None:
    notes = Counter(NOTES.patients)
    assert set(notes.values()) == {1, 2, 3, 4, 5, 6}
    homes = set(zip(NOTES.patients or (), NOTES.sites or (), strict=True))
    assert len(homes) == len(notes)


def test_identifiers_stand_in_the_text_and_follow_the_patient() -> None:
    records: dict[str, set[str]] = {}
    for text, patient in zip(NOTES.texts, NOTES.patients or (), strict=True):
        found = re.findall(r"MRN (\d\d-\d{5})\b", text)
        assert len(found) == 1
        records.setdefault(patient, set()).add(found[0])
        assert re.search(r"\b\d{1,2} [A-Z][a-z]{2} 20\d\d\b", text)
        assert re.search(r"\b\d{3}-\d{4}\b", text)
    assert all(len(numbers) == 1 for numbers in records.values())
    assert len(set.union(*records.values())) == len(records)


def test_notes_have_the_length_of_notes() -> None:
    words = [len(text.split()) for text in NOTES.texts]
    assert min(words) >= 35
    assert max(words) <= 100
    assert 50 < sum(words) / len(words) < 85
    assert len(set(NOTES.texts)) == len(NOTES)


@pytest.mark.parametrize(
    ("rows", "sites"), [(1, 1), (2, 2), (7, 3), (50, 50), (2049, 1), (999, 26)]
)
def test_any_size(rows: int, sites: int) -> None:
    notes = clinical_notes(rows, sites, Seed(4))
    assert len(notes) == rows
    assert len(set(notes.sites or ())) == sites
    for site, count in Counter(notes.sites).items():
        if count >= 5:
            present = {s for n, s in zip(notes.sites or (), notes.labels, strict=True) if n == site}
            assert len(present) == 5


def test_sizes_that_do_not_work() -> None:
    with pytest.raises(DataError, match=r"3 sites need .* got 2 \(train rows\); raise data.rows"):
        clinical_notes(2, 3, Seed(0))
    with pytest.raises(DataError, match=r"raise data\.test_rows"):
        clinical_notes(2, 3, Seed(0), cohort="test")
    with pytest.raises(DataError, match="at least one site, got 0"):
        clinical_notes(2, 0, Seed(0))
    with pytest.raises(DataError, match=r"lower data\.rows"):
        clinical_notes(10**9, 3, Seed(0))


def test_test_rows_are_of_other_patients_at_the_same_sites() -> None:
    tables = load(Source(rows=500, test_rows=200), Seed(2), 4, SINGLE)
    assert tables.test is not None
    assert (len(tables.train), len(tables.test)) == (500, 200)
    assert not set(tables.train.patients or ()) & set(tables.test.patients or ())
    assert set(tables.train.sites or ()) == set(tables.test.sites or ())
    assert labels_of(tables.train, SINGLE) == labels_of(tables.test, SINGLE)
    assert load(Source(rows=500, test_rows=0), Seed(2), 4, SINGLE).test is None


@pytest.mark.slow
@pytest.mark.long
def test_a_bag_of_words_does_well_but_not_perfectly() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    test = clinical_notes(1000, 5, Seed(0), cohort="test")
    words = TfidfVectorizer()
    model = LogisticRegression(tol=0.01).fit(words.fit_transform(NOTES.texts), NOTES.labels)
    assert 0.82 < model.score(words.transform(test.texts), test.labels) < 0.95


# -- by template ---------------------------------------------------------------------------------


def test_notes_by_template_are_one_form_that_everybody_fills_in() -> None:
    notes = clinical_notes(600, 4, Seed(0), style="templated")
    filled_in = r"\d+(\.\d)?|woman|man|severe|mild|none"
    assert len({re.sub(filled_in, "", text) for text in notes.texts}) == 1
    assert len(set(notes.texts)) > 590
    free = clinical_notes(600, 4, Seed(0))
    assert (notes.sites, notes.patients) != (None, None)
    assert Counter(notes.labels) == Counter(free.labels)
    assert (
        digest(clinical_notes(200, 3, Seed(7), style="templated"))
        == "6b60a42d2c95d0ca8eb9c360ed195145e05f7474fb9e5e341e703ca74fc46faf"
    )


def test_what_a_templated_note_says_is_about_its_class() -> None:
    notes = clinical_notes(1500, 4, Seed(0), style="templated")

    def share(words: str, label: str) -> float:
        texts = [t for t, found in zip(notes.texts, notes.labels, strict=True) if found == label]
        return sum(words in text for text in texts) / len(texts)

    assert share("Cough: none", "respiratory") < 0.3 < share("Cough: none", "infectious")
    assert share("Chest pain: severe", "cardiac") > 0.4 > share("Chest pain: severe", "orthopaedic")
    sets = clinical_notes(1500, 4, Seed(0), style="templated", label_sets=True)
    assert sets.texts == notes.texts
    for text, topics in zip(sets.texts, sets.labels, strict=True):
        assert len(topics) == text.count("severe")
    assert {len(topics) for topics in sets.labels} >= {0, 1, 2}


def test_the_source_says_how_they_are_written() -> None:
    source = Source(kind="synthetic", rows=50, test_rows=20, style="templated")
    tables = load(source, Seed(0), 2, SINGLE)
    assert tables.test is not None
    for rows in (tables.train, tables.test):
        assert all("Heart rate" in text for text in rows.texts)
