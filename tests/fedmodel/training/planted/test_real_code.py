"""The real code: every check that notices a planted bug passes on it."""

import pytest

from tests.fedmodel.training.planted.bug import Check
from tests.fedmodel.training.planted.checks_of_noise import (
    dropout_is_nobodys_to_know,
    every_step_takes_noise,
    parameters_have_other_noise,
    the_noise_follows_an_adaptive_norm,
    the_noise_is_the_plans,
    the_sample_is_poissons,
    two_runs_have_other_counts,
    two_runs_have_other_noise,
    two_runs_have_other_samples,
    two_steps_have_other_noise,
)
from tests.fedmodel.training.planted.checks_of_norms import (
    a_tied_weight_counts_with_all_it_does,
    the_preflight_is_passed,
    the_preflight_of_a_layer_used_twice_is_passed,
)
from tests.fedmodel.training.planted.checks_of_plans import (
    a_site_plays_no_more_than_planned,
    the_budget_ends,
    the_guard_ends_it,
)
from tests.fedmodel.training.planted.checks_of_steps import (
    a_broken_row_adds_nothing,
    a_round_is_let_pass,
    a_step_over_patients_is_let_pass,
    an_empty_step_is_let_pass,
    the_clipped_sum_is_the_oracles,
)
from tests.fedmodel.training.planted.world import World

CHECKS: list[Check] = [
    a_broken_row_adds_nothing,
    a_round_is_let_pass,
    a_site_plays_no_more_than_planned,
    a_step_over_patients_is_let_pass,
    a_tied_weight_counts_with_all_it_does,
    an_empty_step_is_let_pass,
    dropout_is_nobodys_to_know,
    every_step_takes_noise,
    parameters_have_other_noise,
    the_budget_ends,
    the_clipped_sum_is_the_oracles,
    the_noise_follows_an_adaptive_norm,
    the_noise_is_the_plans,
    the_preflight_is_passed,
    the_preflight_of_a_layer_used_twice_is_passed,
    the_sample_is_poissons,
    two_runs_have_other_counts,
    two_runs_have_other_noise,
    two_runs_have_other_samples,
    two_steps_have_other_noise,
]


@pytest.mark.sample(3)
@pytest.mark.long
@pytest.mark.parametrize("check", [*CHECKS, the_guard_ends_it], ids=lambda check: check.__name__)
def test_the_real_code_passes(check: Check, world: World) -> None:
    check(world)
