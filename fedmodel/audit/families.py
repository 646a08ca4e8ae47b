"""Families of checks, in the order in which they are made."""

from dataclasses import replace

from fedmodel.audit import coordinators, shown_heads, times
from fedmodel.audit.approvals import APPROVALS
from fedmodel.audit.asked import ASKED
from fedmodel.audit.bundles.checks import BUNDLE
from fedmodel.audit.chains import CHAINS
from fedmodel.audit.claims import EPSILON
from fedmodel.audit.completeness import COMPLETENESS
from fedmodel.audit.forms import FORMS
from fedmodel.audit.jobs import JOB
from fedmodel.audit.kept_caps import CAPS
from fedmodel.audit.models import MODEL
from fedmodel.audit.outcomes import OUTCOMES, SEEN, STARTED, VECTORS
from fedmodel.audit.promises import PLAN
from fedmodel.audit.rosters import ROSTERS
from fedmodel.audit.signatures import SIGNATURES
from fedmodel.audit.sums import SUMS
from fedmodel.audit.tree_heads import TREE_HEADS
from fedmodel.audit.verdicts import Family, Rule

__all__ = ["BUNDLE", "FAMILIES", "table"]


def _with(family: Family, rules: tuple[Rule, ...]) -> Family:
    return replace(family, rules=(*family.rules, *rules))


# Of any evidence; BUNDLE comes before them where it is a bundle.
FAMILIES: tuple[Family, ...] = (
    _with(FORMS, (*coordinators.FORM, *shown_heads.FORM)),
    _with(CHAINS, (*times.SITE, *coordinators.CHAIN, *times.COORDINATOR)),
    _with(SIGNATURES, (*coordinators.SIGNATURE, *shown_heads.SIGNATURE)),
    _with(ROSTERS, coordinators.ROSTER),
    _with(TREE_HEADS, (*coordinators.HEAD, *SEEN, *shown_heads.HEAD)),
    _with(COMPLETENESS, (*ASKED, *OUTCOMES)),
    _with(JOB, coordinators.JOB),
    PLAN,
    EPSILON,
    _with(CAPS, APPROVALS),
    _with(SUMS, VECTORS),
    _with(MODEL, STARTED),
)


def table() -> str:
    """Return the table of all checks, in Markdown."""
    lines = ["| family | check | of | it passes where |", "|---|---|---|---|"]
    for family in (BUNDLE, *FAMILIES):
        for rule in family.rules:
            of = ["the run"] if rule.run else []
            of += ["the coordinator"] if rule.coordinator else []
            of += ["each site"] if rule.site else []
            lines.append(f"| {family.name} | `{rule.name}` | {', '.join(of)} | {rule.says} |")
    return "\n".join(lines) + "\n"
