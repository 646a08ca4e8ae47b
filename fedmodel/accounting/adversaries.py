"""ε of a site's spends against each adversary: one each, told apart and never combined.

With noise in shares (:mod:`fedmodel.mechanisms.shares`) an adversary sees a sum less the shares
that it knows. Secure sums hide everything else of a round, from the coordinator too.
"""

from collections.abc import Sequence

from fedmodel.accounting.claims import claim
from fedmodel.accounting.plan import Plan
from fedmodel.accounting.spends import Spend

__all__ = ["adversaries"]


def adversaries(
    plan: Plan, spends: Sequence[Spend], colluders: int | None = None
) -> dict[str, float]:
    """Return the ε of spends at the plan's δ, for the plan's unit, against several adversaries.

    - ``released model``: who sees what is released, and knows no site's share of the noise.
    - ``coordinator``: sees sums only, so what it sees is worth what is released.
    - ``another site``: knows its own share.
    - ``coordinator + c sites``: knows c shares.

    The plan itself is accounted against who knows all shares but ``plan.honest``. Each ε holds by
    itself, for the same outputs; none is to be multiplied with, added to or taken for another.
    With ``dpsgd`` every site adds all of the noise, and they are alike.

    Args:
        plan: the run's.
        spends: all that the site spent on the run, as its ledger has it: at the plan's noise
            multipliers.
        colluders: c, sites that secure sums withstand beside the coordinator; by default as many
            as the plan's noise does.

    Raises:
        PrivacyError: for more colluders than survivors, when the accountants contradict one
            another, or for a value that isn't covered.
    """
    if not plan.shared:
        colluders = 0
    elif colluders is None:
        colluders = plan.survivors - plan.honest
    known = {
        "released model": 0,
        "coordinator": 0,
        "another site": min(1, plan.survivors - 1),
        f"coordinator + {colluders} site{'s' * (colluders != 1)}": colluders,
    }
    found = {shares: _epsilon(plan, spends, shares) for shares in sorted(set(known.values()))}
    return {name: found[shares] for name, shares in known.items()}


def _epsilon(plan: Plan, spends: Sequence[Spend], known: int) -> float:
    if not spends:
        return 0.0
    return claim(plan.seen_without(spends, known), plan.delta, plan.adjacency).epsilon
