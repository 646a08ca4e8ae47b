"""Asked and given: whether the coordinator's ledger, its metrics and the sites' ledgers agree.

What the coordinator says of a round is its own word; what a site paid is the site's. Each has to
fit the other: a round that was paid for was asked for, and who gave an update had paid for it by
the entries that its ledger had then.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from fedmodel.audit.coordinator_reading import CoordinatorReading
from fedmodel.audit.outcomes import Charged, is_told
from fedmodel.audit.reading import LedgerReading
from fedmodel.audit.records import Records, SiteRecords
from fedmodel.audit.story import Finished, Gave
from fedmodel.audit.verdicts import Outcome, Rule, failed, inconclusive, not_tested, passed
from fedmodel.ledger.coordinator_entries import SCHEMA, Given
from fedmodel.runs.summary import Summary

__all__ = ["ASKED"]

_NO_LEDGER = "it has no ledger here"
_METRICS = "metrics.jsonl"
_SUMMARY = "summary.json"


# -- the coordinator's own ledger ----------------------------------------------------------------


def _rounds(records: Records, ledger: CoordinatorReading) -> Outcome:
    story, job = records.story, records.job.value
    if story.fault is not None:
        entry, reason = story.fault
        return failed(f"an entry '{entry.type}' can't stand there: {reason}", ledger.at(entry))
    if not ledger.starts:
        return failed("it tells of no start of the coordinator", ledger.name)
    if job is not None and story.last > job.train.rounds:
        return failed(f"it has {story.last} rounds, and the job {job.train.rounds}", ledger.name)
    if story.begins:
        return inconclusive(
            f"it begins after round {story.begins}: an earlier version has played those before, or "
            "they were left out",
            ledger.at(ledger.starts[0]),
        )
    if story.back:
        first = story.back[0]
        return inconclusive(
            f"a start goes back to round {first.round}, and more than one was finished after that: "
            "an older checkpoint was taken; what was asked again was paid again",
            ledger.at(first),
        )
    more = f", {len(story.unfinished)} times without a mean" if story.unfinished else ""
    return passed(f"{story.last} rounds in {len(story.askings)} askings{more}")


def _told(records: Records, ledger: CoordinatorReading) -> Outcome:
    rows, summary = records.metrics.value, records.summary.value
    if rows is None:
        return not_tested("there is no metrics.jsonl that can be read")
    wrong = _rows_told(records, rows) or _end_told(records, ledger, len(rows), summary)
    if wrong is None and summary is not None:
        wrong = _summary_told(records, summary)
    return wrong or passed(f"{len(rows)} rounds" + ("" if summary is None else ", and the summary"))


def _rows_told(records: Records, rows: list[dict[str, Any]]) -> Outcome | None:
    story = records.story
    for line, row in enumerate(rows, start=1):
        came = story.finished.get(line)
        if came is None:
            if line <= story.begins:
                continue
            return failed(
                f"there is a line of round {line}, and the coordinator's ledger has no result of "
                f"it; its last is of round {story.last}",
                f"{_METRICS}, line {line}",
            )
        if (wrong := _row_differs(row, came)) is not None:
            return failed(f"round {line}: {wrong}", f"{_METRICS}, line {line}")
    return None


def _row_differs(row: Mapping[str, Any], came: Finished) -> str | None:
    """Return what a line of the metrics tells otherwise than the ledger."""
    entry = came.entry
    counted = len(entry.given) + entry.absent
    if entry.mean and row["updates"] != counted:
        return f"it counts {row['updates']} updates, and the coordinator's ledger {counted}"
    if not entry.mean and row["updates"] + len(row.get("failures", {})) > row["asked"]:
        return f"it counts {row['updates']} updates, and asked for {row['asked']}"
    if came.asking is not None and row["asked"] != len(came.asking.entry.members):
        return (
            f"it says that {row['asked']} sites were asked, and the coordinator's ledger names "
            f"{len(came.asking.entry.members)}"
        )
    failures = {came.nodes[node] for node in row.get("failures", {}) if node in came.nodes}
    if failures != (told := {each.member for each in entry.failed}):
        return (
            f"sites {sorted(failures)} failed by it, and {sorted(told)} by the coordinator's ledger"
        )
    return None


def _end_told(
    records: Records, ledger: CoordinatorReading, rows: int, summary: Summary | None
) -> Outcome | None:
    """Look for what the ledger tells beyond the metrics, and for the end that a summary needs."""
    story = records.story
    if summary is not None and (story.end is None or story.end.failed):
        return failed(
            "there is a summary of the run, and the coordinator's ledger has no end of it",
            ledger.at(ledger.entries[-1]),
        )
    # What came of a round is in the ledger first: a crash may be between the two.
    if story.last > rows + (summary is None):
        return failed(
            f"the coordinator's ledger has {story.last} rounds, and {_METRICS} {rows}", _METRICS
        )
    return None


def _summary_told(records: Records, summary: Summary) -> Outcome | None:
    story = records.story
    if summary.rounds != story.last:
        return failed(
            f"the summary counts {summary.rounds} rounds, and the coordinator's ledger has "
            f"{story.last}",
            _SUMMARY,
        )
    last = story.finished.get(story.last)
    stopped = last is not None and last.entry.stopped
    job = records.job.value
    if stopped and summary.stopped is None and job is not None and story.last < job.train.rounds:
        return failed("the run was stopped, and the summary doesn't say why", _SUMMARY)
    gave = Counter(each.member for came in story.finished.values() for each in came.entry.given)
    unused = sum(not came.entry.mean for came in story.finished.values()) + sum(
        came.entry.absent > 0 for came in story.finished.values()
    )
    for name, site in summary.privacy.sites.items():
        known = gave[records.numbers.get(name, 0)]
        if site.rounds is not None and not known <= site.rounds <= known + unused + story.begins:
            return failed(
                f"the summary says that site {name!r} gave {site.rounds} updates, and the "
                f"coordinator's ledger names it {known} times",
                _SUMMARY,
            )
    return _published(records, summary)


def _published(records: Records, summary: Summary) -> Outcome | None:
    entry, released = records.story.evaluation, summary.released
    if released is None:
        return None
    if entry is None:
        return failed("sites have published counts, and nobody was asked for some", _SUMMARY)
    named = {name: records.numbers.get(name) for name in released.failures}
    failures = {member for member in named.values() if member is not None}
    told = {each.member for each in entry.failed}
    if released.sites != len(entry.given) or not told <= failures:
        return failed(
            f"the summary says that {released.sites} sites have published counts, and the "
            f"coordinator's ledger names {len(entry.given)}",
            _SUMMARY,
        )
    return None


# -- beside each site's --------------------------------------------------------------------------


def _asked_for(records: Records, site: SiteRecords) -> Outcome:
    """Look for what a site has paid for, and wasn't asked for."""
    ledger, member = site.ledger, records.numbers.get(site.name)
    if ledger is None:
        return not_tested(_NO_LEDGER)
    drawn = ledger.of_run(records.run).drawn
    if member is None:
        if drawn:
            return failed("it has spent on the run, and the coordinator knows no such site")
        return not_tested("the coordinator knows no such site, and the run spent nothing here")
    asked, job, begins = records.asked[member], records.job.value, records.story.begins
    last = 0 if job is None else job.train.rounds  # of a later one another check says so
    paid: Counter[tuple[str, int]] = Counter()
    for entry in drawn:
        kind = entry.kind if entry.type == "spend" else "train"
        key = (kind, entry.round if kind == "train" else 0)
        paid[key] = times = paid[key] + 1
        if not (begins < entry.round <= last or kind == "evaluate"):
            continue
        places = asked.get(key, ())
        if times > len(places):
            return failed(
                f"it has drawn noise {times} times {_to(*key)}, and by the coordinator's ledger it "
                f"was asked {len(places)} times: an asking was left out",
                ledger.at(entry),
            )
        place = places[times - 1]
        if entry.coordinator_entries <= place and _shows_late(records, entry, place):
            return failed(
                f"asked {_to(*key)}, it was shown {entry.coordinator_entries} entries of the "
                "coordinator's ledger, and the one that asks for it isn't among them: it was "
                "written later, or an older tree head was shown",
                ledger.at(entry),
            )
    return passed(f"{sum(paid.values())} drawn, in {sum(map(len, asked.values()))} askings")


def _to(kind: str, round_: int) -> str:
    return f"to {kind} in round {round_}" if kind == "train" else "to evaluate"


def _shows_late(records: Records, entry: Charged, place: int) -> bool:
    """Return whether an asking, which its site wasn't shown, should have been shown to it."""
    coordinator = records.coordinator
    if coordinator is None or not is_told(entry):
        return False
    return coordinator.entries[place].schema == SCHEMA  # those of before show nothing


def _paid_for(records: Records, site: SiteRecords) -> Outcome:
    """Hold each update that a site has given against the entries that its ledger had then."""
    ledger, member = site.ledger, records.numbers.get(site.name)
    if ledger is None or member is None:
        return not_tested(_NO_LEDGER if ledger is None else "the coordinator knows no such site")
    if (why := records.outdated(ledger)) is not None:
        return not_tested(why)
    told, silent = 0, list[Gave]()
    first = _first_spends(records, ledger)
    for each in records.given.get(member, ()):
        entries = each.given.entries
        if not entries:  # with every answer of a private run comes one
            silent += [each] if each.kind else []
            continue
        told += 1
        if (wrong := _not_then(ledger, each.given)) is not None:
            return failed(wrong, records.at_coordinator(each.entry))
        if each.kind and first.get((each.kind, each.round), entries) >= entries:
            what = f"update of round {each.round}" if each.kind == "train" else "evaluation"
            return failed(
                f"its {what} is counted, and the {entries} entries that its ledger had then have "
                "no spend of it",
                records.at_coordinator(each.entry),
            )
    for sum_ in (each for found in records.story.sums.values() for each in found):
        if member in sum_.survivors and ("train", sum_.round) not in first:
            return failed(
                f"it is in a sum of round {sum_.round} that was unmasked, and has no spend of it",
                records.at_coordinator(sum_),
            )
    if silent:
        return inconclusive(
            f"{told} tree heads; of {len(silent)} of its answers the coordinator says none",
            records.at_coordinator(silent[0].entry),
        )
    return passed(f"{told} tree heads")


def _first_spends(records: Records, ledger: LedgerReading) -> dict[tuple[str, int], int]:
    """Return where the first spend of each kind and round stands."""
    found: dict[tuple[str, int], int] = {}
    for entry in ledger.of_run(records.run).spends:
        found.setdefault((entry.kind, entry.round if entry.kind == "train" else 0), entry.seq)
    return found


def _not_then(ledger: LedgerReading, given: Given) -> str | None:
    if given.entries > len(ledger.entries):
        return (
            f"by the coordinator's ledger its own had {given.entries} entries, and it has "
            f"{len(ledger.entries)}"
        )
    if ledger.tree.root(given.entries).hex() != given.root:
        return (
            f"its first {given.entries} entries aren't those that the coordinator's ledger names "
            "by their Merkle root"
        )
    return None


ASKED = (
    Rule(
        name="coordinator-rounds",
        says="The coordinator's ledger tells what came of everything that it asked, in order: "
        "rounds from 1 and their attempts from 1 without a gap, evaluation and end, and nobody in "
        "them who wasn't asked.",
        coordinator=_rounds,
    ),
    Rule(
        name="coordinator-told",
        says="Its metrics and its summary count the rounds, updates and failures that its ledger "
        "has, and no other; a run with a summary has its end there.",
        coordinator=_told,
    ),
    Rule(
        name="asked-for",
        says="A site has drawn noise for no round, and no more often, than the coordinator's "
        "ledger says that it was asked, by the entries of it that the site was shown then.",
        site=_asked_for,
        both=True,
    ),
    Rule(
        name="paid-for",
        says="Wherever the coordinator's ledger counts a site's update or counts, the entries that "
        "the site's ledger had then are its first ones (RFC 6962), with a spend of it.",
        site=_paid_for,
        both=True,
    ),
)
