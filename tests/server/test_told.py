"""What a coordinator that serves tells of its sites."""

from fedmodel.accounting.planning import plan_of
from fedmodel.accounting.spends import merge
from fedmodel.job import Privacy, Train
from server.told import most_spent
from tests.jobs import make_job, summed


def test_the_most_that_sites_can_have_spent_is_each_round_and_the_evaluation() -> None:
    privacy = Privacy(mechanism="distributed", rate=0.5, delta=1e-4, decay=0.5)
    job = make_job(privacy=privacy, secagg=summed(5), train=Train(rounds=3, steps=1))
    plan = plan_of(job)
    (spends,) = most_spent(job)
    trained = [spend for spend in spends if spend.kind == "train"]
    assert merge(trained) == merge(plan.spend(round_) for round_ in (1, 2, 3))
    assert len({spend.noise_multiplier for spend in trained}) == 3
    assert len(spends) - len(trained) == (plan.evaluation_noise is not None)


def test_where_each_site_adds_all_noise_one_figure_says_it() -> None:
    assert most_spent(make_job(privacy=Privacy(mechanism="dpsgd", rate=0.5))) == ()
