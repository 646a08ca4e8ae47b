"""Grounds of a site's reservation: the job, and what the site has before it when it says yes."""

from clients.desk.decision import approvals
from clients.site import Site
from fedmodel import config
from fedmodel.accounting.plan import Plan
from fedmodel.ledger.grounds import Approval, CapsInForce, Grounds
from fedmodel.runs.manifest import packages
from fedmodel.wire import Offer

__all__ = ["grounds_of"]


def grounds_of(offer: Offer, site: Site, plan: Plan) -> Grounds:
    """Return on what a site reserves for a job, once the job has passed all that is checked.

    Args:
        offer: of the job.
        site: that reserves.
        plan: of the job.

    Raises:
        RunFolderError: when what its people have said can't be read.
    """
    job, policy = offer.job, site.policy
    asked = policy.approval == "each"
    return Grounds(
        agreed=config.to_mapping(job),
        divisor=plan.expected_batch,
        packages=packages(),
        preflight="passed" if job.privacy.clips_units else "none",
        caps=CapsInForce.of(policy.caps),
        policy=config.digest(policy),
        needed=policy.people.needed if asked else 0,
        approved=_approved(offer, site) if asked else (),
    )


def _approved(offer: Offer, site: Site) -> tuple[Approval, ...]:
    desk = site.approvals
    said = approvals(desk.decisions(offer.run, offer.job.sha256), desk.clock())
    return tuple(
        Approval(decision=config.to_mapping(each.decision), key=each.key, signature=each.signature)
        for each in said
    )
