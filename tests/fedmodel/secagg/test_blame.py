"""Who is left out of the next attempt, and who isn't."""

import pytest

from fedmodel.secagg.blame import Blame

ALL = range(1, 11)


def without(*out: int) -> tuple[int, ...]:
    return tuple(n for n in ALL if n not in out)


def test_who_is_proved_wrong_stays_out_for_what_was_found_first() -> None:
    blame = Blame(1)
    assert blame.cohort(ALL, 8) == without()
    blame.prove(3, "its signature")
    blame.prove(3, "its size")
    for _ in range(2):
        assert blame.cohort(ALL, 8) == without(3)
        assert blame.wrong() == {3: "its signature"}
        blame.begin_round()


def test_of_a_dispute_both_are_out_of_the_round_and_back_in_the_next() -> None:
    blame = Blame(1)
    blame.dispute(2, 5, "a share")
    assert blame.cohort(ALL, 8) == without(2, 5)
    assert blame.disputed() == {2: "a share", 5: "a share"}
    assert blame.wrong() == {}
    blame.begin_round()
    assert blame.cohort(ALL, 8) == without()
    assert blame.disputed() == {}


@pytest.mark.parametrize("colluders", [1, 2, 3])
def test_more_accusers_than_may_collude_are_believed(colluders: int) -> None:
    blame = Blame(colluders)
    for accuser in range(1, colluders + 1):
        blame.dispute(accuser, 9, "a share")
        assert blame.wrong() == {}
    blame.dispute(colluders + 1, 9, "a share")
    assert list(blame.wrong()) == [9]
    assert blame.cohort(ALL, 3) == without(9)
    assert blame.disputed() == {}


def test_who_accuses_more_than_may_collude_is_wrong_itself() -> None:
    blame = Blame(1)
    blame.dispute(7, 1, "a share")
    blame.begin_round()  # over rounds too
    blame.dispute(7, 2, "a share")
    assert list(blame.wrong()) == [7]
    assert blame.cohort(ALL, 8) == without(7)


def test_one_who_is_proved_wrong_counts_for_nothing_in_disputes() -> None:
    blame = Blame(1)
    blame.dispute(1, 4, "a share")
    blame.dispute(2, 4, "a share")
    blame.prove(1, "its form")
    assert list(blame.wrong()) == [1]
    assert set(blame.disputed()) == {2, 4}
    assert blame.cohort(ALL, 7) == without(1, 2, 4)


def test_nobody_is_left_out_where_too_few_would_be_left() -> None:
    blame = Blame(1)
    blame.prove(3, "its form")
    blame.prove(6, "its form")
    blame.dispute(1, 2, "a share")
    assert blame.cohort(ALL, 6) == without(1, 2, 3, 6)
    assert blame.cohort(ALL, 7) == without(1, 3, 6)  # without the accuser it can't come up
    assert blame.cohort(ALL, 8) == without(3, 6)
    assert blame.cohort(ALL, 9) == without(3)
    assert blame.cohort(ALL, 10) == without()


def test_who_has_agreed_to_a_sum_is_out_of_the_round_whatever_is_left() -> None:
    blame = Blame(1)
    blame.agreed([1, 2])
    assert blame.cohort(ALL, 10) == without(1, 2)
    blame.begin_round()
    assert blame.cohort(ALL, 10) == without()


def test_nobody_accuses_itself() -> None:
    blame = Blame(0)
    blame.dispute(1, 1, "a share")
    assert (blame.wrong(), blame.disputed()) == ({}, {})


def test_without_signed_answers_nothing_but_proof_outlasts_a_round() -> None:
    blame = Blame(1)
    blame.begin_round(signed=False)
    blame.prove(9, "its mask seeds")
    blame.spoilt(3, "its form")
    blame.spoilt(3, "its size")
    for accuser in (1, 2):
        blame.dispute(accuser, 7, "a share")
    assert blame.wrong().keys() == {9, 7}
    assert blame.disputed() == {3: "its form (by the site, or by what carries its answers)"}
    assert blame.cohort(ALL, 7) == without(3, 7, 9)
    assert blame.cohort(ALL, 8) == without(7, 9)
    blame.begin_round(signed=False)
    assert (blame.wrong(), blame.disputed()) == ({9: "its mask seeds"}, {})
    assert blame.cohort(ALL, 7) == without(9)


def test_what_is_spoilt_of_signed_answers_is_proof() -> None:
    blame = Blame(1)
    blame.begin_round(signed=True)
    blame.spoilt(3, "its form")
    blame.begin_round()
    assert blame.wrong() == {3: "its form"}
