"""Approvals: whether as many of a site's people had agreed to a run as its policy wanted."""

from datetime import datetime

from fedmodel.audit.records import Records, SiteRecords
from fedmodel.audit.verdicts import Outcome, Rule, failed, not_tested, passed
from fedmodel.errors import ConfigError, ProtocolError
from fedmodel.ledger import ReserveEntry
from fedmodel.ledger.grounds import Grounds

__all__ = ["APPROVALS"]


def _approved(records: Records, site: SiteRecords) -> Outcome:
    ledger = site.ledger
    if ledger is None:
        return not_tested("it has no ledger here")
    told, people = 0, 0
    for held in ledger.of_run(records.run).reservations:
        grounds = held.entry.grounds
        if grounds is None:
            continue
        told += 1
        if (wrong := _wrong(held.entry, grounds)) is not None:
            return failed(f"as the run reserved, {wrong}", ledger.at(held.entry))
        people = max(people, grounds.needed)
    if not told:
        return not_tested("lines of earlier schemas don't say whom the site had asked")
    if not people:
        return not_tested("by its policy nobody is asked")
    return passed(f"{people} approvals were needed; whose keys these are, the site can say")


def _wrong(entry: ReserveEntry, grounds: Grounds) -> str | None:
    for each in grounds.approved:
        try:
            each.check(entry.run, entry.job)
        except (ConfigError, ProtocolError) as error:
            return f"an approval by key {each.key[:16]}… isn't one of it: {error}"
        until = each.decision.get("expires")
        if not _holds(until, entry.time):
            return f"an approval by key {each.key[:16]}… had ended, at {until!s:.40}"
    people = {each.key for each in grounds.approved}
    if len(people) < grounds.needed:
        return f"{len(people)} have agreed to it, and {grounds.needed} were needed"
    return None


def _holds(until: object, at: str) -> bool:
    """Return whether an approval that ends at some time holds at another (ISO 8601)."""
    try:
        end = datetime.fromisoformat(str(until))
        return end.tzinfo is not None and end >= datetime.fromisoformat(at)
    except ValueError:
        return False


APPROVALS = (
    Rule(
        name="people-agreed",
        says="As a run reserved, as many of the site's people had agreed to it as its policy "
        "wanted, each by a signature over this run and its job that held then.",
        site=_approved,
    ),
)
