"""What a session is bound to, and what a site never goes below."""

import itertools
import re
from dataclasses import FrozenInstanceError, replace
from typing import TYPE_CHECKING, Any

import pytest

from fedmodel import config
from fedmodel.errors import ConfigError, FloorError
from fedmodel.job import MaskedSums, ProposedSecAgg, masked_sums
from fedmodel.secagg.agreement import Agreement, Floors

if TYPE_CHECKING:
    from tests.fedmodel.secagg.conftest import World

GOOD: dict[str, int] = {"cohort": 7, "survivors": 5, "threshold": 5, "colluders": 1}


def test_an_agreement_is_what_a_complete_job_says() -> None:
    ids: dict[str, Any] = {"session": "a" * 64, "job": "b" * 64, "roster": "c" * 64}
    sums = MaskedSums(survivors=6, colluders=1, threshold=5, attempts=3, bits=20)
    found = Agreement.of(sums, **ids, rounds=9, count=12)
    assert found == Agreement(
        **ids, rounds=9, attempts=3, survivors=6, colluders=1, threshold=5, bits=20, count=12
    )
    with pytest.raises(FrozenInstanceError):
        found.threshold = 1  # type: ignore[misc]
    # Nothing of it can be left open: there are no masked sums without every number.
    for missing in ("survivors", "colluders", "threshold"):
        given = {"survivors": 6, "colluders": 1, "threshold": 5}
        del given[missing]
        with pytest.raises(ConfigError, match=f"missing key '{missing}'"):
            config.build(MaskedSums, given)
        with pytest.raises(ConfigError, match=f"{missing} must be a whole number, got None"):
            config.build(MaskedSums, given | dict[str, Any]({missing: None}))


def test_an_agreement_on_keys_alone_promises_no_sum() -> None:
    ids: dict[str, Any] = {"session": "a" * 64, "job": "b" * 64, "roster": "c" * 64}
    found = Agreement.of_keys(**ids, rounds=9)
    assert (found.session, found.job, found.roster, found.rounds) == (*ids.values(), 9)
    with pytest.raises(FloorError, match="floor for survivors"):
        Floors().check_agreed(found)


@pytest.mark.parametrize("honest", [2, 1, 0, -1])
def test_no_floor_below_three_honest(honest: int) -> None:
    with pytest.raises(ConfigError, match=f"can't be below 3, got {honest}"):
        Floors(honest=honest)


def test_floors_are_met_exactly() -> None:
    Floors().check(cohort=3, survivors=3, threshold=2, colluders=0)
    Floors(cohort=7, survivors=5, honest=4, threshold=5, colluders=1).check(**GOOD)


@pytest.mark.parametrize(
    ("floors", "asked", "said"),
    [
        ({"cohort": 8}, {}, "floor for cohort in secure aggregation is 8, it was asked for 7"),
        ({"survivors": 6}, {}, "floor for survivors in secure aggregation is 6.* for 5"),
        ({"threshold": 6}, {}, "floor for threshold in secure aggregation is 6.* for 5"),
        ({"colluders": 2}, {}, "floor for colluders in secure aggregation is 2.* for 1"),
        ({"honest": 5}, {}, "floor for survivors less colluders in .* is 5.* for 4"),
        ({}, {"cohort": 2}, "floor for cohort"),
        ({}, {"survivors": 2}, "floor for survivors in"),
        ({}, {"survivors": 3, "threshold": 3, "cohort": 4}, "survivors less colluders.* for 2"),
        ({}, {"threshold": 1}, "floor for threshold"),
        ({}, {"threshold": 4}, "4 among 7 sites with 1 colluders lets two sets .* least 5"),
        ({}, {"cohort": 9}, "5 among 9 sites with 1 colluders lets two sets .* least 6"),
        ({}, {"threshold": 6}, "threshold of 6 can't be met by 5 survivors"),
        ({}, {"colluders": -1}, "floor for colluders"),
    ],
)
def test_below_a_floor(floors: dict[str, int], asked: dict[str, int], said: str) -> None:
    with pytest.raises(FloorError, match=said):
        Floors(**floors).check(**GOOD | asked)


def test_a_majority_of_all_but_the_colluders() -> None:
    # Any two sets of so many share an honest site, whatever the cohort: exactly then it passes.
    for cohort in range(3, 14):
        for colluders in range(cohort - 2):
            for threshold in range(2, cohort + 1):
                asked = {"survivors": cohort, "threshold": threshold, "colluders": colluders}
                overlap = 2 * threshold - cohort
                if overlap > colluders:
                    Floors().check(cohort=cohort, **asked)
                else:
                    with pytest.raises(FloorError, match="lets two sets of survivors"):
                        Floors().check(cohort=cohort, **asked)


def test_floors_that_are_not_set_follow_from_the_roster_as_a_proposal_does() -> None:
    for sites in range(4, 120):
        floors = Floors().of_roster(sites)
        job = masked_sums(ProposedSecAgg(mode="on"), sites=sites)
        found = (floors.survivors, floors.threshold, floors.colluders, floors.cohort)
        assert found == (job.survivors, job.threshold, job.colluders, job.survivors)
        asked = {"survivors": job.survivors, "threshold": job.threshold, "colluders": 1}
        floors.check(cohort=sites, **asked)
        floors.check(cohort=job.survivors, **asked)
    given = Floors(cohort=5, survivors=4, honest=4, threshold=3, colluders=0)
    assert given.of_roster(50) == given
    assert Floors(colluders=3).of_roster(10).survivors == 8
    assert Floors(colluders=3).of_roster(10).threshold == 7
    assert Floors(honest=9).of_roster(10).survivors == 10


def test_of_three_sites_none_is_safe_from_the_coordinator_and_another() -> None:
    three = {"cohort": 3, "survivors": 3, "threshold": 2, "colluders": 0}
    with pytest.raises(FloorError, match=r"agree on floors\.colluders=0$"):
        Floors().of_roster(3).check(**three)
    Floors(colluders=0).of_roster(3).check(**three)


@pytest.mark.parametrize("sites", [3, 12, 20])
def test_what_a_refusal_says_is_all_that_has_to_be_set(sites: int) -> None:
    # Of three sites; of half of the others in a round.
    among = max(3, sites // 2)
    job = masked_sums(ProposedSecAgg(mode="on"), sites=among)
    asked = {n: getattr(job, n) for n in ("survivors", "threshold", "colluders")}
    with pytest.raises(FloorError) as refused:
        Floors().of_roster(sites).check(cohort=among, **asked)
    assert len(str(refused.value)) <= 400  # or it is cut on its way to the coordinator
    settings = dict(re.findall(r"floors\.(\w+)=(\d+)", str(refused.value)))
    mended = Floors(**{name: int(value) for name, value in settings.items()})
    mended.of_roster(sites).check(cohort=among, **asked)


@pytest.mark.parametrize("asked", [{"cohort": 2}, {"survivors": 3, "threshold": 3, "cohort": 4}])
def test_nobody_is_told_to_set_a_floor_that_there_cannot_be(asked: dict[str, int]) -> None:
    with pytest.raises(FloorError, match="no floor can be set so low") as refused:
        Floors().check(**GOOD | asked)
    assert "floors." not in str(refused.value)


def test_no_two_sets_of_a_roster_reach_the_threshold_of_the_default_floors() -> None:
    for sites in range(4, 60):
        floors = Floors().of_roster(sites)
        threshold, colluders = floors.least("threshold"), floors.least("colluders")
        # Two sets of so many of the roster share more sites than may collude.
        assert 2 * threshold - sites > colluders
        # One less, and they needn't: then a colluder is all that is in both.
        assert 2 * (threshold - 1) - sites <= colluders
        asked = {"survivors": floors.least("survivors"), "colluders": colluders}
        with pytest.raises(FloorError, match="floor for threshold"):
            floors.check(cohort=floors.least("cohort"), threshold=threshold - 1, **asked)


@pytest.mark.parametrize("sites", range(3, 8))
def test_one_set_of_a_roster_can_consent_exactly_where_two_share_an_honest_site(
    worlds: "type[World]", sites: int
) -> None:
    agreement = worlds(5).agreement
    for threshold, colluders in itertools.product(range(1, sites + 1), range(3)):
        sets = [set(chosen) for chosen in itertools.combinations(range(sites), threshold)]
        overlap = min(len(one & other) for one in sets for other in sets)
        found = replace(agreement, threshold=threshold, colluders=colluders).one_set_of(sites)
        assert found == (overlap > colluders)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"survivors": 2, "threshold": 2}, "floor for survivors"),
        ({"threshold": 1}, "floor for threshold"),
        ({"colluders": 1}, "survivors less colluders"),
        ({"threshold": 4}, "can't be met by 3 survivors"),
    ],
)
def test_a_site_joins_nothing_below_its_floors(
    worlds: "type[World]", change: dict[str, int], said: str
) -> None:
    world = worlds(5)
    world.agreement = replace(world.agreement, **change)  # type: ignore[arg-type]
    with pytest.raises(FloorError, match=said):
        world.site(1)
