"""Figures of what a job costs a site: as plain data, and as a line for its people.

Both are for the site's own people. They follow from its ledger, and aren't sent.
"""

import math
from collections.abc import Mapping
from typing import Any

from fedmodel._text import show_epsilon
from fedmodel.budget.statement import WhatIf

__all__ = ["figures", "said"]


_UNKNOWN = "the site's caps aren't known here (site=site.yaml reads them)"


def figures(cost: WhatIf, *, capped: bool = True) -> dict[str, Any]:
    """Return what a job would do to a ledger, as plain data.

    Args:
        cost: of the job.
        capped: whether the site's caps were known; without them a cap that is lacking says nothing.
    """
    left = None if cost.cap is None or cost.after is None else max(0.0, cost.cap - cost.after)
    return {
        "dataset": cost.dataset,
        "unit": cost.unit,
        "delta": cost.delta,
        "job": _finite(cost.alone),
        "spent": _finite(cost.spent),
        "before": _finite(cost.before),
        "after": _finite(cost.after),
        "cap": cost.cap,
        "left": _finite(left),
        "refusal": cost.refusal,
    } | ({} if capped else {"caps_unknown": True})


def said(found: Mapping[str, Any]) -> str:
    """Return such figures as a line: what the job costs, what is spent and held, what is left."""
    alone, spent, before, after = (_show(found[n]) for n in ("job", "spent", "before", "after"))
    at = "" if found["delta"] is None else f", at δ = {found['delta']:g}"
    none = _UNKNOWN if found.get("caps_unknown") else "no cap is set"
    cap = none if found["cap"] is None else f"the cap is {found['cap']:g}"
    left = "" if found["left"] is None else f", {found['left']:.3f} are left"
    return (
        f"dataset {found['dataset']}, per {found['unit']}{at}: by itself the job costs ε {alone}; "
        f"ε {spent} is spent; with what is held, ε {before} before, {after} after; {cap}{left}"
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _show(value: float | None) -> str:
    return "unlimited or not known" if value is None else show_epsilon(value)
