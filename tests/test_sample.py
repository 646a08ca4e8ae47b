"""Which cases of a test marked ``sample`` stay in ``make test``, and how many examples."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings

from tests.conftest import pytest_collection_modifyitems
from tests.examples import ALL, examples


def case(name: str, *marks: Any) -> Any:
    """Return what pytest would have collected, as far as it is looked at."""
    own = [mark.mark for mark in marks]
    return SimpleNamespace(
        nodeid=name,
        get_closest_marker=lambda kind: next((m for m in own if m.name == kind), None),
        add_marker=lambda mark: own.append(mark.mark),
    )


@pytest.mark.parametrize(
    ("count", "cases", "kept"),
    [(1, 4, [0]), (2, 5, [0, 4]), (3, 5, [0, 2, 4]), (3, 8, [0, 4, 7]), (9, 3, [0, 1, 2])],
)
def test_first_and_last_stay_and_some_between(count: int, cases: int, kept: list[int]) -> None:
    made = [case(f"a.py::test_a[{i}]", pytest.mark.sample(count)) for i in range(cases)]
    slow = case("a.py::test_a[x]", pytest.mark.sample(count), pytest.mark.slow)
    other = case("a.py::test_b[0]", pytest.mark.sample(count))
    plain = case("a.py::test_c[0]")
    pytest_collection_modifyitems([plain, *made[:1], other, *made[1:], slow])
    assert [i for i, item in enumerate(made) if not item.get_closest_marker("slow")] == kept
    assert not other.get_closest_marker("slow")
    assert not plain.get_closest_marker("slow")


def test_a_profile_tries_a_fifth_or_half_of_the_examples_and_all_are_tried_without_one() -> None:
    before = settings.get_current_profile_name()
    try:
        settings.load_profile("few")
        assert (examples(300), examples(40), examples(2)) == (60, 8, 1)
        settings.load_profile("half")
        assert (examples(300), examples(40), examples(2)) == (150, 20, 1)
        settings.load_profile("default")
        assert (examples(300), ALL) == (300, 100)
    finally:
        settings.load_profile(before)
