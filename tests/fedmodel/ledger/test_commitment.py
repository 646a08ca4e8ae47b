"""The commitment to rows: the same for the same rows, whatever their order; different otherwise."""

import hashlib
import hmac
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmodel.errors import LedgerError
from fedmodel.ledger.commitment import Leaves, commit
from tests.examples import examples

SALT = bytes(range(32))
TEXTS = [f"note {i}" for i in range(50)]
LABELS = ["ab"[i % 2] for i in range(50)]
PATIENTS = [f"p{i // 3}" for i in range(50)]


def test_the_root_is_independent_of_the_order() -> None:
    order = list(range(50))
    random.Random(1).shuffle(order)
    one = commit(SALT, TEXTS, LABELS, PATIENTS)
    other = commit(SALT, *([c[i] for i in order] for c in (TEXTS, LABELS, PATIENTS)))
    assert one.root == other.root
    assert one.leaves.to_bytes() == other.leaves.to_bytes()
    assert one.patients == 17


def test_every_column_and_the_salt_change_it() -> None:
    rows = (["t"], ["l"], ["p"])
    roots = {
        commit(SALT, *rows).root,
        commit(SALT, ["u"], ["l"], ["p"]).root,
        commit(SALT, ["t"], ["m"], ["p"]).root,
        commit(SALT, ["t"], ["l"], ["q"]).root,
        commit(SALT, ["tl"], [""], ["p"]).root,
        commit(SALT, ["t", "t"], ["l", "l"], ["p", "p"]).root,
        commit(bytes(32), *rows).root,
        commit(SALT, [], [], []).root,
    }
    assert len(roots) == 8


def test_no_hash_can_be_made_without_the_salt() -> None:
    # Else whoever reads the leaves could try texts out, and compare two sites' people.
    one, other = (commit(salt, TEXTS, LABELS, PATIENTS).leaves for salt in (SALT, bytes(32)))
    for mine, theirs in ((one.rows, other.rows), (one.subjects, other.subjects)):
        assert len(mine) == len(theirs) > 0
        assert not set(mine.tolist()) & set(theirs.tolist())
    assert one.salt_id != other.salt_id
    unsalted = {hashlib.sha256(kind + text.encode()).digest()[:16] for kind, text in _tried()}
    assert not unsalted & {*one.subjects.tolist(), *one.rows.tolist()}


def _tried() -> list[tuple[bytes, str]]:
    kinds = (b"", b"text\0", b"patient\0")
    return [(kind, text) for kind in kinds for text in (*TEXTS, *PATIENTS)]


def test_changes_are_counted() -> None:
    before = commit(SALT, TEXTS, LABELS)
    first = before.entry(None, None)
    assert (first.rows, first.patients, first.added, first.removed) == (50, None, 50, 0)
    after = commit(SALT, [*TEXTS[5:], TEXTS[9], "new"], [*LABELS[5:], LABELS[9], "a"])
    entry = after.entry(before.leaves, first)
    assert (entry.rows, entry.added, entry.removed) == (47, 2, 5)
    again = before.entry(before.leaves, first)
    assert (again.added, again.removed) == (0, 0)
    # Leaves of other rows than the last entry, as a crash leaves them, say nothing about it.
    assert (before.entry(before.leaves, entry).added, after.entry(after.leaves, first).removed) == (
        None,
        None,
    )


def test_what_is_not_known_any_more_is_not_made_up() -> None:
    one, other = commit(SALT, ["a"], ["x"]), commit(SALT, ["b"], ["x"])
    last = one.entry(None, None)
    assert (one.entry(None, last).added, one.entry(None, last).removed) == (0, 0)
    assert (other.entry(None, last).added, other.entry(None, last).removed) == (None, None)


def test_shared_texts_and_patients_are_recognised_for_ever() -> None:
    base = commit(SALT, TEXTS, LABELS, PATIENTS)
    assert base.shared(commit(SALT, ["other"], ["a"], ["q"]).leaves) == 0
    relabelled = commit(SALT, TEXTS[:4], ["z"] * 4, ["q"] * 4)
    assert relabelled.shared(base.leaves) == 4
    same_patient = commit(SALT, ["later note"], ["a"], ["p3"])
    assert same_patient.shared(base.leaves) == 1
    assert commit(SALT, ["p3"], ["a"]).shared(base.leaves) == 0  # a text isn't a patient
    # Rows that were taken out stay on the list of those that were there.
    kept = commit(SALT, TEXTS[25:], LABELS[25:]).to_keep(base.leaves)
    assert len(kept.rows) == 25
    assert relabelled.shared(kept) == 4


def test_leaves_round_trip_and_damage_is_noticed() -> None:
    leaves = commit(SALT, TEXTS, LABELS, PATIENTS).leaves
    data = leaves.to_bytes()
    again = Leaves.from_bytes(data)
    assert again.to_bytes() == data
    assert np.array_equal(again.rows, leaves.rows)
    assert len(data) < 200 + 16 * (50 + 2 * 50 + 17)
    for wrong in (
        b"",
        data[:-1],
        data + b"x",
        b"x" + data[1:],
        data[:40],
        data[:200] + bytes([data[200] ^ 1]) + data[201:],
    ):
        with pytest.raises(LedgerError, match="leaves"):
            Leaves.from_bytes(wrong)


def test_nothing_of_a_row_is_kept() -> None:
    found = commit(SALT, ["zebrafinch"], ["yak"], ["xerus"])
    for shown in (repr(found), repr(found.leaves), str(found.entry(None, None))):
        assert not any(word in shown for word in ("zebrafinch", "yak", "xerus"))
    assert b"zebrafinch" not in found.leaves.to_bytes()


@pytest.mark.long
@settings(max_examples=examples(100), deadline=None)
@given(
    old=st.lists(st.sampled_from("abcdefg"), max_size=12),
    new=st.lists(st.sampled_from("abcdefg"), max_size=12),
)
def test_counts_are_those_of_multisets(old: list[str], new: list[str]) -> None:
    from collections import Counter

    before, after = commit(SALT, old, [""] * len(old)), commit(SALT, new, [""] * len(new))
    entry = after.entry(before.leaves, before.entry(None, None))
    assert entry.added == (Counter(new) - Counter(old)).total()
    assert entry.removed == (Counter(old) - Counter(new)).total()


@settings(max_examples=examples(50), deadline=None)
@given(text=st.text(max_size=20) | st.just("\ud800"))
def test_any_text_has_a_hash(text: str) -> None:
    found = commit(SALT, [text], [text], [text])
    assert len(found.leaves.subjects) in (2, 4)  # as written, and without blanks where that differs
    assert found.shared(found.leaves) == 2


SAME = [
    "Sch\u00f6ne Fieber notiz",
    "Scho\u0308ne Fieber notiz",
    "Sch\u00f6ne  Fieber\tnotiz ",
    "\ufeffSch\u00f6ne Fieber\r\nnotiz\n",
    "Sch\u00f6ne\u00a0Fieber\u200bnotiz",
    "Sch\u00f6neFieber notiz",
]


@pytest.mark.parametrize("edited", SAME[1:])
def test_an_edit_that_nobody_sees_makes_nobody_new(edited: str) -> None:
    for one, other in ((SAME[0], edited), (edited, SAME[0])):
        kept = commit(SALT, [one, "else"], ["x", "x"], [one, "q"]).leaves
        assert commit(SALT, [other, "new"], ["y", "y"], ["r", "s"]).shared(kept) == 1
        assert commit(SALT, ["new", "newer"], ["y", "y"], [other, "s"]).shared(kept) == 1
        # Two spellings of one person are one.
        assert commit(SALT, [one, other], ["y", "y"], [one, other]).shared(kept) == 2
    # Letters count.
    assert commit(SALT, ["Schone Fieber notiz"], ["y"]).shared(commit(SALT, SAME, SAME).leaves) == 0


def test_lists_of_earlier_versions_are_recognised_by_the_very_text_and_by_single_blanks() -> None:
    # They have no hash without blanks.
    for written, known in ((SAME[0], SAME[:3]), (SAME[2], SAME[2:3])):
        old = hmac.digest(SALT, b"text\0" + written.encode(), "sha256")[:16]
        before = replace(commit(SALT, [], []).leaves, subjects=np.array([old], dtype="S16"))
        assert [text for text in SAME if commit(SALT, [text], ["x"]).shared(before)] == known
        # With the dataset's next join they have it.
        kept = commit(SALT, [SAME[0]], ["x"]).to_keep(before)
        assert all(commit(SALT, [text], ["x"]).shared(kept) for text in SAME)
