"""What a site declares of its rows, that its answers follow from it alone, and what isn't so."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.declared import Declared, Mismatch
from clients.policy import Policy, SiteFacts, broken_rules
from fedmodel import wire
from fedmodel.data import Rows
from fedmodel.errors import ConfigError, RefusedError
from fedmodel.job import Federation, Job, Privacy
from tests.clients import four_sites
from tests.clients.talk import Speaker, make_site
from tests.clients.test_policy import JOB, PATIENT, rows

PLAIN = replace(JOB, privacy=Privacy())
HELD_OUT = replace(JOB, federation=Federation(min_rows=1, test="held-out"))


def found(declared: Declared, table: Rows, test: Rows | None = None) -> list[tuple[str, bool]]:
    return [(each.key, each.grave) for each in declared.mismatches(table, test)]


@given(
    st.integers(0, 12), st.integers(0, 12), st.integers(1, 5), st.booleans(), st.sampled_from("ab")
)
def test_exact_numbers_are_those_of_a_plain_count(
    train: int, held_out: int, patients: int, named: bool, label: str
) -> None:
    table, test = rows(train, patients if named else None), rows(held_out, patients * named or None)
    declared = Declared.of(table, test)
    assert declared.records == (train + held_out,) * 2
    whose = len({*(table.patients or ()), *(test.patients or ())})
    assert declared.patients == ((whose, whose) if named else None)
    assert set(declared.labels or ()) == {*table.labels, *test.labels}
    assert found(declared, table, test) == []


@pytest.mark.parametrize(
    ("declared", "table", "expected"),
    [
        (Declared(records=(10, 20)), rows(9), [("declared.records", False)]),
        (Declared(records=(10, 20)), rows(10), []),
        (Declared(records=(10, 20)), rows(20), []),
        (Declared(records=(10, 20)), rows(21), [("declared.records", True)]),
        (Declared(records=(1, 99), patients=(3, 4)), rows(20, 5), [("declared.patients", True)]),
        (Declared(records=(1, 99), patients=(3, 4)), rows(20, 2), [("declared.patients", False)]),
        (Declared(records=(1, 99), patients=(3, 4)), rows(20, 4), []),
        (Declared(records=(1, 99), patients=(3, 4)), rows(20), [("declared.patients", True)]),
        (Declared(records=(1, 99)), rows(20, 5), []),
        (Declared(records=(1, 99), labels=("a", "b")), rows(20), []),
        (Declared(records=(1, 99), labels=("a",)), rows(20), [("declared.labels", False)]),
        (Declared(records=(1, 99), labels=("a", "b", "c")), rows(20), [("declared.labels", False)]),
        (Declared(records=(1, 99), held_out=True), rows(20), [("declared.held_out", False)]),
    ],
)
def test_what_the_rows_do_not_keep_to_is_told(
    declared: Declared, table: Rows, expected: list[tuple[str, bool]]
) -> None:
    assert found(declared, table) == expected


def test_labels_of_a_wrong_column_are_counted_and_not_shown() -> None:
    table = Rows(["x"] * 2, ["a", "Mrs Miller came in"])
    (told,) = Declared(records=(1, 9), labels=("a",)).mismatches(table)
    assert str(told) == "declared.labels says 1 classes, and the rows have 1 other class"
    assert isinstance(told, Mismatch)


def test_held_out_rows_count_among_the_records_and_their_patients() -> None:
    declared = Declared(records=(12, 12), patients=(6, 6), held_out=True)
    assert found(declared, rows(10, 5), Rows(["x"] * 2, ["a", "b"], None, ["p1", "new"])) == []


@pytest.mark.parametrize(
    "values",
    [
        {"records": ()},
        {"records": (5,)},
        {"records": (5, 4)},
        {"records": (-1, 4)},
        {"records": (1, 2, 3)},
        {"records": (1, 9), "patients": (3, 2)},
        {"records": (1, 9), "patients": (10, 12)},
        {"records": (1, 9), "labels": ()},
        {"records": (1, 9), "labels": ("a", "")},
    ],
)
def test_a_bracket_that_is_none_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="declared"):
        Declared(**values)


def test_units_are_those_that_are_declared_at_most() -> None:
    declared = Declared(records=(10, 20), patients=(3, 5))
    assert declared.most_units(JOB.privacy) == 20
    assert declared.most_units(PATIENT.privacy) == 5
    with pytest.raises(RefusedError, match=r"data\.patient=COLUMN"):
        replace(declared, patients=None).most_units(PATIENT.privacy)


def broken(job: Job, **declared: Any) -> list[str]:
    known = SiteFacts(name="north", declared=Declared(**{"records": (20, 60)} | declared))
    return [each.rule for each in broken_rules(job, Policy(), known)]


def test_least_and_most_are_each_held_against_what_they_are_for() -> None:
    for least, rules in ((20, []), (21, ["federation.min_rows"]), (60, ["federation.min_rows"])):
        asked = Federation(min_rows=least)
        assert broken(replace(JOB, federation=asked)) == rules
    for batch, rules in ((20, []), (21, ["train.batch_size"]), (60, ["train.batch_size"])):
        assert broken(replace(PLAIN, train=replace(PLAIN.train, batch_size=batch))) == rules
    for delta, rules in ((1 / 61, []), (1 / 59, ["privacy.delta"]), (1 / 19, ["privacy.delta"])):
        assert broken(replace(JOB, privacy=replace(JOB.privacy, delta=delta))) == rules
        of_patients = replace(PATIENT, privacy=replace(PATIENT.privacy, delta=delta))
        assert broken(of_patients, patients=(19, 60)) == rules


def test_one_class_that_a_site_declares_is_enough_for_a_job() -> None:
    for labels in (("a", "b"), ("b", "x"), ("x", "a", "y"), ("a", "b", "x")):
        job = replace(JOB, model=replace(JOB.model, labels=labels))
        assert broken(job, labels=("a", "b")) == broken(job, labels=None) == []
    other = replace(JOB, model=replace(JOB.model, labels=("x", "y")))
    assert broken(other, labels=("a", "b")) == ["labels"]
    assert broken(other, labels=None) == []


# -- all that a coordinator sees -----------------------------------------------------------------

DECLARED = Declared(records=(20, 60), patients=(2, 30), labels=("a", "b"), held_out=True)
SOME = rows(30, 4)
OTHER = Rows(
    [f"quite another note {i}, and a long one at that" for i in range(55)],
    ["a" if i % 5 else "z" for i in range(55)],
    None,
    [f"q{i % 23}" for i in range(55)],
)


def seen(reply: Any) -> object:
    """Return all of a reply but what is drawn anew each time: a ledger's name, root and time."""
    if reply.has_error():
        return reply.error.code, reply.error.reason
    content = reply.content
    standing = wire.decode_standing(content)
    records = {
        name: {key: value for key, value in record.items() if key not in ("head", "proof")}
        for name, record in content.items()
    }
    if standing is None:
        return records
    return records, standing.head.size, len(standing.proof)


@pytest.mark.long
def test_a_coordinators_whole_view_of_its_offers_is_the_same_whatever_the_rows_are(
    tmp_path: Path,
) -> None:
    """Sizes, patients, classes, texts and held-out rows differ; what is declared is the same."""
    views = []
    for name, table, test in (("some", SOME, SOME.select(range(3))), ("other", OTHER, OTHER)):
        site = make_site(tmp_path / name, table, test=test, declared=DECLARED)
        talk, view = Speaker(site, JOB), []
        for number, job in enumerate(
            replace(
                base,
                federation=replace(base.federation, min_rows=least),
                privacy=replace(base.privacy, delta=delta)
                if base.privacy.private
                else base.privacy,
                model=replace(base.model, labels=labels),
            )
            for base in (PLAIN, JOB, PATIENT, HELD_OUT)
            for least in (1, 61)
            for delta in ((1e-3, 0.3) if base.privacy.private else (1e-3,))
            for labels in (("a", "b"), ("c", "d"))
        ):
            view.append(seen(talk.join(job, run=f"probe-{number}")))
        views.append(view)
    assert views[0] == views[1]
    kinds = [isinstance(answer, tuple) and answer[0] == 202 for answer in views[0]]
    assert 0 < sum(kinds) < len(kinds)  # some are refused and some aren't


@pytest.mark.long
def test_a_whole_site_without_a_row_that_counts_adds_nothing_to_a_sum_and_nobody_hears(
    tmp_path: Path,
) -> None:
    """With privacy=site what its rows are is what ε is about, so none of them may refuse."""
    job, zero = four_sites.job_of("on", four_sites.WHOLE), four_sites.nothing
    views = []
    for name, table in (("some", SOME), ("none", rows(20).select([])), ("other", OTHER)):
        relabelled = Rows(table.texts, ["z"] * len(table)) if name == "other" else table
        talk = four_sites.Talk(tmp_path / name, rows=relabelled, test=None, declared=DECLARED)
        attempt = talk.open(talk.begin(job))
        reply = talk.send("train", talk.order(attempt))
        talk.upload(attempt, reply, zero)
        assert talk.reveal(attempt).any()  # its share of the noise
        sizes = [wire.parcel(reply.content, key).size for key in ("secagg", "masked")]
        standing = wire.decode_standing(reply.content)
        assert standing is not None
        views.append((sizes, standing.head.size))
    assert views == [views[0]] * 3
