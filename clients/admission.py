"""Admission of an offer to a site: its policy, then its people, then what it declares and spends.

The order is who hears what: what the policy rules out nobody need look at, and what isn't approved
hears nothing of the site but that it waits.
"""

from collections.abc import Callable

from clients.desk.asked import asked_by
from clients.desk.noted import circumstances_of, note_offer
from clients.policy import Charges, SiteFacts, decide
from clients.refusals import note_of
from clients.site import Site
from fedmodel.wire import Offer

__all__ = ["admit"]


def admit(offer: Offer, site: Site, charges: Callable[[], Charges]) -> None:
    """Let an offer in by returning. No row is read, no model loaded.

    Args:
        offer: the job, and what the coordinator says besides.
        site: that is asked.
        charges: tells what the job would be charged at it; asked last, for it reads the ledger.

    Raises:
        RefusedError: if the site's policy or its people say no, or what it declares doesn't do.
        BudgetError: if the job would exceed a cap of the site.
        LedgerError: if its ledger can't be read.
        RunFolderError: when what was noted or decided can't be read or written.
    """
    facts = SiteFacts(
        name=site.name,
        declared=site.declared,
        roster=None if site.roster is None else len(site.roster.members),
        charges=charges,
    )
    offered, noted = circumstances_of(offer, site), note_of(offer, site)
    decide(offer.job, site.policy, offered=offered, noted=noted)
    note_offer(offer, site)
    if site.policy.approval == "each":
        site.policy.people.keep(site.state.folder)
        site.approvals.admit(asked_by(offer, site.roster))
    decide(offer.job, site.policy, facts, offered, noted)
