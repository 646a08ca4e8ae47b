"""Outcomes: what a site says came of the steps that it charged, and what the coordinator got.

Lines of ``fedmodel.ledger/4`` say from which parameters steps start, and have an outcome for each
charge. Those of before don't, and what they lack isn't tested.
"""

from collections.abc import Iterator, Sequence
from operator import attrgetter

from fedmodel.audit.reading import LedgerReading
from fedmodel.audit.records import Records, SiteRecords
from fedmodel.audit.story import Gave
from fedmodel.audit.verdicts import Outcome, Rule, failed, inconclusive, not_tested, passed
from fedmodel.ledger import OutcomeEntry
from fedmodel.ledger.outcomes import Charged

__all__ = [
    "OUTCOMES",
    "SEEN",
    "STARTED",
    "VECTORS",
    "Charged",
    "is_told",
    "outcomes_of",
    "witnessed",
]

_BEFORE = frozenset({"fedmodel.ledger/2", "fedmodel.ledger/3"})
_SILENT = "fedmodel.coordinator/1"  # whose lines have no digest of what a site gave
_NO_LEDGER = "it has no ledger here"
_UNTOLD = "lines of earlier schemas say neither where steps start nor what came of them"


def is_told(entry: Charged) -> bool:
    """Return whether an entry is of a schema in which it has an outcome."""
    return entry.schema not in _BEFORE


def outcomes_of(ledger: LedgerReading, entry: Charged) -> Sequence[OutcomeEntry]:
    """Return what came of a charge."""
    return ledger.book.outcomes.of(entry.seq)


def _told(records: Records, ledger: LedgerReading) -> list[Charged]:
    return [entry for entry in ledger.of_run(records.run).drawn if is_told(entry)]


def _fates(records: Records, site: SiteRecords) -> Outcome:
    """Look for charged steps of which nobody knows what became of them."""
    ledger = site.ledger
    if ledger is None:
        return not_tested(_NO_LEDGER)
    if not (charged := _told(records, ledger)):
        return not_tested(_UNTOLD if ledger.of_run(records.run).drawn else "it has spent nothing")
    given = nothing = 0
    unknown: list[Charged] = []
    for entry in charged:
        found = outcomes_of(ledger, entry)
        if not found:
            unknown.append(entry)
        for outcome in found:
            steps = entry.steps if entry.type == "spend" else 1  # of a repeat, and no more
            if outcome.result == "given" and outcome.steps != steps:
                return failed(
                    f"it was charged {steps} steps, and says that {outcome.steps} were taken",
                    ledger.at(outcome),
                )
            given += outcome.result == "given"
            nothing += outcome.result == "failed"
    told = f"{given} given, {nothing} failed"
    if unknown:
        return inconclusive(
            f"{told}; of {len(unknown)} charges nobody knows what became of the steps: the process "
            "died before it was written, or it was left out. They count in every ε",
            ledger.at(unknown[0]),
        )
    return passed(told)


def _started(records: Records, site: SiteRecords) -> Outcome:
    """Hold the parameters that steps start from against those that the coordinator asked for."""
    ledger, member = site.ledger, records.numbers.get(site.name)
    if ledger is None or member is None:
        return not_tested(_NO_LEDGER if ledger is None else "the coordinator knows no such site")
    asked, count, silent = records.models_asked, 0, list[Charged]()
    for entry in _told(records, ledger):
        kind = entry.kind if entry.type == "spend" else "train"
        round_ = entry.round if kind == "train" else 0
        if not entry.model:
            silent.append(entry)
            continue
        count += 1
        if (models := asked.get((kind, round_))) is not None and entry.model not in models:
            return failed(
                f"its steps of round {entry.round} start from parameters {entry.model[:16]}…, and "
                f"the coordinator's ledger asked for them from {min(models)[:16]}…",
                ledger.at(entry),
            )
    if silent:
        return inconclusive(
            f"{len(silent)} charges don't say from which parameters their steps start, and a site "
            "in a run knows",
            ledger.at(silent[0]),
        )
    return passed(f"{count} charges") if count else not_tested(_UNTOLD)


def _given(records: Records, site: SiteRecords) -> Outcome:
    """Hold what a site says it gave against what the coordinator says it got."""
    ledger, member = site.ledger, records.numbers.get(site.name)
    if ledger is None or member is None:
        return not_tested(_NO_LEDGER if ledger is None else "the coordinator knows no such site")
    if (why := records.outdated(ledger)) is not None:
        return not_tested(why)
    by_update = _firsts(records, ledger)
    count, silent = 0, list[Gave]()
    for each in records.given.get(member, ()):
        if not (update := each.given.update):
            if each.kind and each.entry.schema != _SILENT:
                silent.append(each)
            continue
        count += 1
        entry = by_update.get((each.kind or "train", each.round, update))
        if entry is not None and not 0 < each.given.entries <= entry.seq:
            continue
        what = f"round {each.round}" if each.kind == "train" else "the evaluation"
        where = records.at_coordinator(each.entry)
        if entry is None:
            return failed(
                f"the coordinator got {update[:16]}… of it in {what}, and by its own ledger it "
                "gave no such thing",
                where,
            )
        return failed(
            f"what it gave in {what} is among none of the {each.given.entries} entries that "
            "its ledger had when the coordinator got it",
            where,
        )
    if silent:
        return inconclusive(
            f"of {len(silent)} things that the coordinator got of it, it doesn't say the SHA-256, "
            "as its ledger does of each",
            records.at_coordinator(silent[0].entry),
        )
    return passed(f"{count} digests") if count else not_tested(_UNTOLD)


def _firsts(records: Records, ledger: LedgerReading) -> dict[tuple[str, int, str], OutcomeEntry]:
    """Return what was given, by its kind, round and digest; of what is alike the first."""
    firsts: dict[tuple[str, int, str], OutcomeEntry] = {}
    for entry in _outcomes(records, ledger):
        # Counts may be equal by chance. Whoever has got one of them has got what the first was of.
        key = entry.kind, entry.round if entry.kind == "train" else 0, entry.update
        if key not in firsts or entry.seq < firsts[key].seq:
            firsts[key] = entry
    return firsts


def _outcomes(records: Records, ledger: LedgerReading) -> Iterator[OutcomeEntry]:
    for charge in ledger.of_run(records.run).drawn:
        for entry in outcomes_of(ledger, charge):
            if entry.result == "given":
                yield entry


def _masked(records: Records, site: SiteRecords) -> Outcome:
    """Hold the vectors in sums against those that a site says it has masked for them."""
    ledger, member = site.ledger, records.numbers.get(site.name)
    job, count = records.job.value, 0
    if ledger is None or member is None:
        return not_tested(_NO_LEDGER if ledger is None else "the coordinator knows no such site")
    if job is None or job.secagg.sums is None:
        return not_tested("the job has no secure sums" if job else "there is no job")
    masked = {(e.round, e.update, e.manifest) for e in _outcomes(records, ledger) if e.manifest}
    told = any(is_told(entry) for entry in ledger.of_run(records.run).drawn)
    for sum_ in (each for found in records.story.sums.values() for each in found):
        vector = sum_.vectors.get(str(member))
        if vector is None or not told:
            continue
        count += 1
        if (sum_.round, vector, sum_.digest) not in masked:
            return failed(
                f"the sum of round {sum_.round} has its masked vector {vector[:16]}…, and by its "
                "own ledger it has masked no such one for that attempt",
                records.at_coordinator(sum_),
            )
    return passed(f"{count} vectors") if count else not_tested(_UNTOLD)


def _seen(records: Records, site: SiteRecords) -> Outcome:
    """Hold what a site was shown of the coordinator's ledger against that ledger."""
    ledger, coordinator = site.ledger, records.coordinator
    if ledger is None or coordinator is None:
        return not_tested(_NO_LEDGER)
    size, count, last = len(coordinator.entries), 0, 0
    for entry, entries, root in witnessed(records, ledger):
        count += 1
        if entries > size:
            return failed(
                f"the coordinator has shown it {entries} entries of its own ledger, and that has "
                f"{size} here: it was rolled back, or its end was cut off",
                ledger.at(entry),
            )
        if coordinator.root(entries) != root:
            return failed(
                f"the coordinator has shown it {entries} entries of its own ledger, and these "
                "aren't its first ones: it was rewritten, or told otherwise to others",
                ledger.at(entry),
            )
        if entries < last:
            return failed(
                f"it was shown {last} entries of the coordinator's ledger, and after that "
                f"{entries}",
                ledger.at(entry),
            )
        last = entries
    return passed(f"up to {last} of {size} entries") if count else not_tested(_UNSEEN)


_UNSEEN = "it was shown no tree head of the coordinator's ledger"


def witnessed(records: Records, ledger: LedgerReading) -> Iterator[tuple[int, int, str]]:
    """Yield where a site's ledger says what it was shown of the coordinator's: size and root."""
    found = ledger.of_run(records.run)
    ends = [each.end for each in found.reservations if each.end is not None]
    entries = sorted([*found.drawn, *ends], key=attrgetter("seq")) if ends else found.drawn
    for entry in entries:
        if entry.coordinator_entries:
            yield entry.seq, entry.coordinator_entries, entry.coordinator_root


def _one_story(records: Records) -> Outcome:
    """Look for two sites that the coordinator has shown different ledgers of one size."""
    known: dict[int, tuple[str, str]] = {}
    count = 0
    for site, ledger in records.with_ledgers():
        for seq, entries, root in witnessed(records, ledger):
            count += 1
            if (told := known.get(entries)) is None:
                known[entries] = root, site.name
            elif told[0] != root:
                by = told[1]
                return failed(
                    f"sites {by!r} and {site.name!r} were shown {entries} entries of the "
                    "coordinator's ledger each, and they differ: it has told two stories",
                    ledger.at(seq),
                )
    return passed(f"{count} tree heads of it") if count else not_tested(_UNSEEN)


SEEN = (
    Rule(
        name="coordinator-one-story",
        says="No two sites were shown different ledgers of the coordinator, of one size "
        "(equivocation).",
        run=_one_story,
        ledgers=True,
    ),
    Rule(
        name="coordinator-seen",
        says="What a site was shown of the coordinator's ledger are its first entries (RFC 6962), "
        "and never fewer than before.",
        site=_seen,
        both=True,
    ),
)
OUTCOMES = (
    Rule(
        name="outcomes-told",
        says="A site's ledger says of all steps that it charged what came of them; as many were "
        "taken as were charged.",
        site=_fates,
    ),
    Rule(
        name="given-got",
        says="What the coordinator says it got of a site, an update, a masked vector or counts, is "
        "what the site's ledger says that it gave, by its SHA-256.",
        site=_given,
        both=True,
    ),
)
VECTORS = (
    Rule(
        name="sums-vectors",
        says="A site's masked vector in a sum is, by its SHA-256, the one that the site's ledger "
        "says it has masked for that attempt.",
        site=_masked,
        both=True,
    ),
)
STARTED = (
    Rule(
        name="started-from",
        says="The steps that a site charged start from the parameters from which the coordinator "
        "asked for them.",
        site=_started,
        both=True,
    ),
)
