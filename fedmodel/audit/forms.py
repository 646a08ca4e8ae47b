"""Forms: whether each part is what its schema says, and whether what must be there is."""

from typing import Any

from fedmodel.audit.records import Found, Records, SiteRecords
from fedmodel.audit.verdicts import (
    PASSED,
    Family,
    Outcome,
    Rule,
    failed,
    inconclusive,
    not_tested,
    passed,
)

__all__ = ["FORMS", "NO_COORDINATOR", "PRESENT"]

PRESENT = "ledger-present"
NO_COORDINATOR = "the coordinator's own ledger isn't here"


def _form(found: Found[Any], absent: Outcome) -> Outcome:
    if found.wrong is not None:
        return failed(found.wrong, found.name)
    return absent if found.name is None else PASSED


def _summary(records: Records) -> Outcome:
    absent = not_tested("there is no summary.json: the run hasn't come to its end")
    return _form(records.summary, absent)


def _metrics(records: Records) -> Outcome:
    absent = not_tested("there is no metrics.jsonl: no round has ended")
    if records.summary.value is not None:
        absent = failed("there is a summary of rounds, and no metrics.jsonl")
    return _form(records.metrics, absent)


def _heads(records: Records) -> Outcome:
    absent = not_tested("there is no heads.json: no site has told the coordinator of its ledger")
    job, rows = records.job.value, records.metrics.value or []
    if job is not None and job.privacy.private and any(row["updates"] for row in rows):
        absent = failed("sites have given updates, and the coordinator's heads.json is gone")
    return _form(records.heads, absent)


def _present(records: Records, site: SiteRecords) -> Outcome:
    summary = records.summary.value
    if site.ledger is not None:
        return PASSED
    if site.own:
        return failed("the site's tree head is here, and its ledger is gone", site.own[0].name)
    told = None if summary is None else summary.privacy.sites.get(site.name)
    if told is not None and not told.steps and not told.epsilon:
        return passed("it has no ledger here, and took no step by the summary")
    if records.served:
        return not_tested("its ledger is at the site, which hasn't handed it in")
    if told is None:
        return not_tested("it has no ledger here, and no summary says whether it needs one")
    return failed(f"the summary says that it took {told.steps} steps, and its ledger is gone")


def _ledger(_: Records, site: SiteRecords) -> Outcome:
    ledger = site.ledger
    if ledger is None:
        return not_tested("it has no ledger here")
    if ledger.form is not None:
        return failed(ledger.form.reason, ledger.at(ledger.form.line - 1))
    if ledger.torn:
        return inconclusive(
            f"{ledger.torn} bytes follow the last whole line: an append that a crash has cut, "
            "which spends nothing, or damage; a ledger as the site has it now would tell",
            ledger.at(len(ledger.entries)),
        )
    if ledger.opened is None and ledger.link is None and ledger.rule is None:
        return failed("it has no entry", ledger.name)
    return PASSED


def _own_heads(_: Records, site: SiteRecords) -> Outcome:
    if site.wrong is not None:
        return failed(site.wrong)
    return PASSED if site.own else not_tested("the site's own tree heads aren't here")


FORMS = Family(
    name="schema",
    rules=(
        Rule(
            name="summary-form",
            says="`summary.json` has its schema's fields, each of its type, and no other.",
            run=_summary,
        ),
        Rule(
            name="metrics-form",
            says="Each line of `metrics.jsonl` is an object that names its round and how many "
            "sites were asked and gave an update.",
            run=_metrics,
        ),
        Rule(
            name="heads-form",
            says="`heads.json` is a list of tree heads, byte for byte as fedmodel writes it; it is "
            "there if a private run had updates.",
            run=_heads,
        ),
        Rule(
            name=PRESENT,
            says="A site that took steps, or whose tree head is here, has its ledger here.",
            site=_present,
        ),
        Rule(
            name="ledger-form",
            says="Each line of a ledger is an entry of a schema that is known, in its one "
            "canonical form (RFC 8785).",
            site=_ledger,
        ),
        Rule(
            name="own-head-form",
            says="Each tree head that a site has kept itself is one, in its canonical form.",
            site=_own_heads,
        ),
    ),
    stops=False,
)
