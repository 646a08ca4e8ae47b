"""Rosters: whose key a ledger is under, by the word of the consortium."""

from fedmodel import _hazmat
from fedmodel.audit.records import Records, SiteRecords
from fedmodel.audit.verdicts import PASSED, Family, Outcome, Rule, failed, not_tested, passed
from fedmodel.identity.names import grouped, same_fingerprint
from fedmodel.identity.signed_roster import SignedRoster

__all__ = ["ROSTERS"]

_NO_ROSTER = "no roster is in the folder; give yours by roster=PATH"


def _roster(records: Records) -> Outcome:
    found = records.roster
    if found.wrong is not None:
        return failed(found.wrong, found.name)
    if found.value is None:
        return not_tested(_NO_ROSTER)
    if not isinstance(found.value, SignedRoster):
        return not_tested("the roster is of the first version, which nobody has signed", found.name)
    whose = grouped(_hazmat.fingerprint(bytes.fromhex(found.value.consortium)))
    return passed(
        f"version {found.value.version} of the roster of {found.value.name!r}, signed by a "
        f"consortium of fingerprint {whose}"
    )


def _consortium(records: Records) -> Outcome:
    roster, known = records.roster.value, records.consortium
    if known is None:
        return not_tested("give the fingerprint of your consortium's key by consortium=")
    if not isinstance(roster, SignedRoster):
        return failed("no consortium has signed a roster here", records.roster.name)
    found = _hazmat.fingerprint(bytes.fromhex(roster.consortium))
    if not same_fingerprint(known, found):
        return failed(
            f"the roster's consortium has the fingerprint {grouped(found)}, and yours is "
            f"{known:.80}",
            records.roster.name,
        )
    return PASSED


def _key(records: Records, site: SiteRecords) -> Outcome:
    opened = None if site.ledger is None else site.ledger.opened
    roster = records.roster.value
    if roster is None:
        return not_tested(records.roster.wrong or _NO_ROSTER)
    if opened is None or site.ledger is None:
        return not_tested("its ledger has no beginning")
    where = site.ledger.at(opened)
    keys = records.keys
    if site.name not in keys:
        return failed(f"nobody on the roster is called {site.name!r}", records.roster.name)
    if keys[site.name] != opened.key:
        return failed(
            f"its ledger is under key {opened.key[:16]}…, and the roster has "
            f"{keys[site.name][:16]}… for {site.name!r}",
            where,
        )
    return PASSED


def _members(records: Records) -> Outcome:
    roster, heads = records.roster.value, records.heads.value
    if roster is None or heads is None:
        return not_tested("there is no roster" if roster is None else "there is no heads.json")
    keys = {member.key for member in roster.members}
    others = sorted({each.head.ledger for each in heads if each.head.key not in keys})
    if others:
        # A coordinator's memory may have sites of earlier rosters, over a state that runs share.
        return not_tested(
            f"{len(others)} of {len(heads)} tree heads are by keys that the roster doesn't have, "
            f"the first of ledger {others[0]:.80}: of parties that have left, or of nobody",
            records.heads.name,
        )
    return PASSED


ROSTERS = Family(
    name="roster",
    rules=(
        Rule(
            name="roster-signed",
            says="The roster is signed by the consortium that it names.",
            run=_roster,
        ),
        Rule(
            name="roster-consortium",
            says="The consortium that has signed the roster is the one whose fingerprint you give.",
            run=_consortium,
        ),
        Rule(
            name="heads-by-members",
            says="Each tree head at the coordinator is by the key of a site on the roster.",
            run=_members,
        ),
        Rule(
            name="roster-key",
            says="A ledger's key is the one that the roster has for that site.",
            site=_key,
        ),
    ),
    needs=("schema", "chain", "signatures"),
    run_needs=("roster",),
)
