"""Completeness: whether all that the coordinator counts is in the ledgers, and nothing is missing.

What a ledger has beyond that (a round that brought in nothing, an attempt that was repeated) has
been paid all the same, and is no fault.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from fedmodel.audit.records import Records, SiteRecords
from fedmodel.audit.rounds import Round
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

__all__ = ["COMPLETENESS"]

_NO_LEDGER = "it has no ledger here"


# -- the coordinator's own count -----------------------------------------------------------------


def _numbered(records: Records) -> Outcome:
    rows, summary, job = records.metrics.value, records.summary.value, records.job.value
    if rows is None:
        return not_tested("there is no metrics.jsonl that can be read")
    for line, row in enumerate(rows, start=1):
        if row["round"] != line:
            return failed(
                f"it is of round {row['round']} where round {line} belongs: a round is missing, or "
                "stands there twice",
                f"metrics.jsonl, line {line}",
            )
    if summary is None:
        return passed(f"{len(rows)} rounds; no summary says how many there should be")
    if summary.rounds != len(rows):
        return failed(
            f"the summary counts {summary.rounds} rounds, and there are {len(rows)}",
            "summary.json",
        )
    asked = len(rows) if job is None else job.train.rounds
    if len(rows) > asked or (len(rows) < asked and summary.stopped is None):
        return failed(
            f"the job has {asked} rounds, there are {len(rows)}, and the summary doesn't say that "
            "the run stopped",
            "summary.json",
        )
    return passed(f"rounds 1 to {len(rows)}")


# -- what each site has paid ---------------------------------------------------------------------


def _attempts(records: Records, site: SiteRecords) -> Outcome:
    """Look for an attempt that isn't there: they are numbered from 1 for each round."""
    ledger = site.ledger
    if ledger is None:
        return not_tested(_NO_LEDGER)
    seen: Counter[tuple[str, str, int]] = Counter()
    for entry in ledger.of_run(records.run).drawn:
        kind = entry.kind if entry.type == "spend" else "train"
        key = (entry.job, kind, entry.round)
        seen[key] += 1
        if entry.attempt != seen[key]:
            return failed(
                f"attempt {entry.attempt} of round {entry.round} follows {seen[key] - 1} others: "
                "what one of them has cost is missing",
                ledger.at(entry),
            )
    return PASSED


def _paid(records: Records, site: SiteRecords) -> Outcome:
    ledger = site.ledger
    if ledger is None:
        return not_tested(_NO_LEDGER)
    if records.metrics.value is None:
        return not_tested("there is no metrics.jsonl that can be read")
    if (why := records.outdated(ledger)) is not None:
        return not_tested(why)
    paid, known = ledger.of_run(records.run).trained, records.rounds
    for each in known:
        # Where as many others have paid, it may be they that gave: sites may be left out anew.
        short = each.updates > records.payers[each.number] and not paid[each.number]
        if short and each.givers is not None and site.name in each.givers:
            return failed(
                f"the coordinator has its update of round {each.number}, and no spend of it is in "
                "the ledger",
                f"metrics.jsonl, line {each.line}",
            )
    untold = sum(each.givers is None and each.updates > 0 for each in known)
    more = sorted(set(paid) - {each.number for each in known if each.updates})
    told = f"{len(paid)} rounds paid"
    told += f"; {len(more)} of them brought in no update, and count all the same" if more else ""
    if untold:
        return passed(f"{told}; in {untold} rounds whose updates came isn't told, only how many")
    return passed(told)


def _steps(records: Records, site: SiteRecords) -> Outcome:
    ledger, summary = site.ledger, records.summary.value
    if ledger is None or summary is None:
        return not_tested("there is no summary that can be read" if ledger else _NO_LEDGER)
    told = summary.privacy.sites.get(site.name)
    if told is None:
        return failed("the summary has no such site", "summary.json")
    steps = ledger.of_run(records.run).steps
    if summary.privacy.basis == "plan":
        if told.steps > steps:
            return failed(
                f"the summary counts {told.steps} steps whose updates came, and its ledger has "
                f"{steps}",
                "summary.json",
            )
    elif told.steps != steps:
        return failed(
            f"the summary counts {told.steps} steps, and its ledger has {steps}", "summary.json"
        )
    return passed(f"{steps} steps")


def _evaluation(records: Records, site: SiteRecords) -> Outcome:
    ledger, summary, gave = site.ledger, records.summary.value, records.published_by
    if ledger is None:
        return not_tested(_NO_LEDGER)
    paid = ledger.of_run(records.run).evaluations
    if paid > 1:
        return failed(f"the job pays for one evaluation, and its ledger has {paid}", ledger.name)
    if summary is None or summary.released is None:
        return not_tested("no summary says that sites have published counts")
    if gave is None:
        return inconclusive(
            "which sites have published counts can't be told by name; a coordinator's record of "
            "who has would"
        )
    short = summary.released.sites > records.evaluated and not paid
    if short and site.name in gave:
        return failed("it has published counts, and no spend of them is in the ledger", ledger.name)
    return PASSED


# -- all sites together --------------------------------------------------------------------------


def _updates(records: Records) -> Outcome:
    if (why := records.without_ledgers) is not None:
        return not_tested(why)
    if records.metrics.value is None:
        return not_tested("there is no metrics.jsonl that can be read")
    for _, ledger in records.with_ledgers():
        if (why := records.outdated(ledger)) is not None:
            return not_tested(why)
    return _too_few(records.rounds, records.payers)


def _too_few(rounds: Iterable[Round], paid: Mapping[int, int]) -> Outcome:
    for each in rounds:
        if each.updates > paid.get(each.number, 0):
            return failed(
                f"the coordinator counts {each.updates} updates in round {each.number}, and "
                f"{paid.get(each.number, 0)} ledgers have a spend of it",
                f"metrics.jsonl, line {each.line}",
            )
    return PASSED


def _published(records: Records) -> Outcome:
    summary = records.summary.value
    if (why := records.without_ledgers) is not None:
        return not_tested(why)
    if summary is None or summary.released is None:
        return not_tested("no summary says that sites have published counts")
    paid = records.evaluated
    if summary.released.sites > paid:
        return failed(
            f"{summary.released.sites} sites have published counts, and {paid} ledgers have a "
            "spend of them",
            "summary.json",
        )
    return PASSED


COMPLETENESS = Family(
    name="completeness",
    rules=(
        Rule(
            name="rounds-numbered",
            says="The coordinator's lines are of rounds 1 to n, each once; n is the summary's, and "
            "the job's unless the summary says why the run stopped.",
            run=_numbered,
        ),
        Rule(
            name="attempts-numbered",
            says="Each round's attempts in a ledger are numbered from 1 without a gap.",
            site=_attempts,
        ),
        Rule(
            name="rounds-paid",
            says="For each round in which the coordinator has the site's update, its ledger has a "
            "spend.",
            site=_paid,
        ),
        Rule(
            name="steps-told",
            says="The summary's steps of the site are those in its ledger.",
            site=_steps,
        ),
        Rule(
            name="evaluation-paid",
            says="A site that has published counts of its test rows has paid for them, once.",
            site=_evaluation,
        ),
        Rule(
            name="updates-paid",
            says="In no round are more updates counted than ledgers have a spend of it.",
            run=_updates,
            ledgers=True,
        ),
        Rule(
            name="publications-paid",
            says="No more sites have published counts than ledgers have a spend of that.",
            run=_published,
            ledgers=True,
        ),
    ),
    needs=("schema", "chain", "signatures", "roster", "tree heads"),
    run_needs=("completeness",),
)
