"""Transcripts of secure sums: what the coordinator's ledger says of each, recomputed and verified.

Each attempt's manifest is signed by the coordinator, and names the attempt by its hash; each site
that consents signs who is in the sum. What a site has masked isn't here, only its SHA-256.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from fedmodel import config
from fedmodel.audit.coordinator_reading import CoordinatorReading
from fedmodel.audit.records import Records
from fedmodel.audit.story import Asking, Opened
from fedmodel.audit.verdicts import Outcome, failed, inconclusive, not_tested, passed
from fedmodel.errors import ConfigError, ProtocolError
from fedmodel.identity.roster import Roster
from fedmodel.job import Job, MaskedSums
from fedmodel.ledger.coordinator_entries import UnmaskEntry
from fedmodel.secagg.fields import VERSION, label, verify
from fedmodel.secagg.manifest import Manifest, digest

__all__ = ["consents", "counted", "floors", "manifests", "once"]

_NONE = "the job has no secure sums"
_NO_JOB = "there is no job that can be read"
_NUMBERS = ("survivors", "colluders", "threshold", "bits")


def _sums(records: Records) -> MaskedSums | None:
    job = records.job.value
    return None if job is None else job.secagg.sums


def _untold(records: Records) -> Outcome:
    return not_tested(_NO_JOB if records.job.value is None else _NONE)


def _attempts(records: Records) -> Iterator[tuple[Asking, Opened]]:
    for asking in records.story.askings:
        for opened in asking.attempts:
            yield asking, opened


# -- manifests -----------------------------------------------------------------------------------


def manifests(records: Records, ledger: CoordinatorReading) -> Outcome:
    """Hold each attempt's manifest against the job, the round and the roster."""
    job, sums = records.job.value, _sums(records)
    if job is None or sums is None:
        return _untold(records)
    counts: set[int] = set()
    found = 0
    for asking, opened in _attempts(records):
        entry, roster = opened.entry, records.rosters.get(asking.start.roster)
        if roster is None:
            return not_tested("the roster of its start isn't here", ledger.at(asking.start))
        try:
            manifest = config.build(Manifest, entry.manifest, "manifest")
            wrong = _other(manifest, asking, opened, job, sums) or _unsigned(
                manifest, roster, entry.digest
            )
        except ConfigError as error:
            wrong = f"it can't be read: {error}"
        if wrong is not None:
            return failed(f"the manifest of round {entry.round}: {wrong}", ledger.at(entry))
        counts.add(manifest.count)
        if len(counts) > 1:
            return failed("its length isn't that of the sums before", ledger.at(entry))
        found += 1
    return passed(_how_often(records, sums, found))


def _other(
    manifest: Manifest, asking: Asking, opened: Opened, job: Job, sums: MaskedSums
) -> str | None:
    """Return what a manifest says otherwise than job, round and joining."""
    entry, asked = opened.entry, asking.entry
    expected: dict[str, Any] = {
        "version": VERSION,
        "session": asking.joining.joining,
        "job": job.sha256,
        "roster": asking.start.roster,
        "round": entry.round,
        "attempt": entry.attempt,
        "model": asked.model,
        **{name: getattr(sums, name) for name in _NUMBERS},
    }
    for name, value in expected.items():
        if (told := getattr(manifest, name)) != value:
            return f"its {name} is {told!s:.20}, expected {value!s:.20}"
    if manifest.attempt > sums.attempts:
        return f"it is attempt {manifest.attempt}, and the job has {sums.attempts} of a round"
    if others := sorted(set(manifest.cohort) - set(asked.members)):
        return f"it invites sites {others[:5]}, which weren't asked"
    if len(manifest.cohort) < sums.survivors:
        return f"it invites {len(manifest.cohort)} sites, and a sum needs {sums.survivors}"
    return None


def _unsigned(manifest: Manifest, roster: Roster, named: str) -> str | None:
    if digest(manifest).hex() != named:
        return "its SHA-256 isn't the one by which the ledger names the attempt"
    try:
        verify(bytes.fromhex(roster.coordinator), manifest.signed(), manifest.signature)
    except ProtocolError:
        return "its signature isn't that of the roster's coordinator"
    return None


def _how_often(records: Records, sums: MaskedSums, found: int) -> str:
    roster = records.roster.value
    told = f"{found} attempts"
    if roster is not None and 2 * sums.threshold <= len(roster.members) + sums.colluders:
        told += (
            f"; with {sums.threshold} consents of {len(roster.members)} sites two sums of one "
            "round are possible, as far as sites' own floors allow it"
        )
    return told


# -- sums that were unmasked ---------------------------------------------------------------------


def floors(records: Records, ledger: CoordinatorReading) -> Outcome:
    """Look for a sum over fewer sites than the job wants."""
    sums = _sums(records)
    if sums is None:
        return _untold(records)
    count = 0
    for _, entry in _unmasked(records):
        count += 1
        if len(entry.survivors) < sums.survivors:
            return failed(
                f"a sum of round {entry.round} over {len(entry.survivors)} sites was unmasked, and "
                f"the job wants {sums.survivors} at least",
                ledger.at(entry),
            )
    return passed(f"{sums.survivors} sites at least in each of {count} sums")


def _unmasked(records: Records) -> Iterator[tuple[tuple[Asking, Opened], UnmaskEntry]]:
    for asking, opened in _attempts(records):
        for entry in opened.unmasked:
            yield (asking, opened), entry


def consents(records: Records, ledger: CoordinatorReading) -> Outcome:
    """Verify every consent to every sum, and that there are enough of them over one set."""
    sums = _sums(records)
    if sums is None:
        return _untold(records)
    count = 0
    for (asking, opened), entry in _unmasked(records):
        roster = records.rosters.get(asking.start.roster)
        if roster is None:
            return not_tested("the roster of its start isn't here", ledger.at(asking.start))
        wrong = _wrong_set(opened, entry, sums) or _not_consented(entry, roster)
        if wrong is not None:
            return failed(f"the sum of round {entry.round}: {wrong}", ledger.at(entry))
        count += len(entry.consents)
    return passed(f"{count} consents")


def _wrong_set(opened: Opened, entry: UnmaskEntry, sums: MaskedSums) -> str | None:
    """Return what is wrong with who is in a sum."""
    if entry.digest != opened.entry.digest:
        return "it names another manifest than its attempt's"
    invited = _numbers(opened.entry.manifest.get("cohort"))
    if others := sorted(set(entry.takers) - invited):
        return f"sites {others[:5]} have taken shares, and weren't invited"
    if others := sorted(set(entry.survivors) - set(entry.takers)):
        return f"sites {others[:5]} are in it, and have taken no shares"
    survivors = {str(member) for member in entry.survivors}
    if entry.vectors.keys() != survivors:
        return "there isn't one masked vector for each site in it"
    if len(set(entry.vectors.values())) != len(survivors):
        return "two sites have given the same masked vector"
    if strangers := sorted(entry.consents.keys() - survivors):
        return f"sites {strangers[:5]!s:.80} have consented, and aren't in it"
    if len(entry.consents) < sums.threshold:
        return f"{len(entry.consents)} sites have consented, and {sums.threshold} are needed"
    return None


def _numbers(value: Any) -> set[int]:
    """Return the numbers in a list of a manifest, whatever else it may be."""
    return {each for each in value if type(each) is int} if isinstance(value, list) else set()


def _not_consented(entry: UnmaskEntry, roster: Roster) -> str | None:
    """Return whose consent isn't its signature over these takers and survivors."""
    # The message `survivors` of the protocol, as it is signed.
    told: Mapping[str, Any] = {
        "manifest": entry.digest,
        "takers": entry.takers,
        "survivors": entry.survivors,
    }
    signed = label("consent", config.canonical(told))
    for text, signature in entry.consents.items():
        try:
            verify(bytes.fromhex(roster.member(int(text)).key), signed, signature)
        except ProtocolError:
            return f"the consent of site {text} isn't its signature over these takers and survivors"
    return None


def once(records: Records, ledger: CoordinatorReading) -> Outcome:
    """Look for a round of which two sums were unmasked."""
    if _sums(records) is None:
        return _untold(records)
    for round_, found in records.story.sums.items():
        if len(found) > 1:
            return failed(
                f"round {round_} was unmasked {len(found)} times: sums over two sets of sites tell "
                "what a site gave that is in one of them only",
                ledger.at(found[-1]),
            )
    return passed(f"{len(records.story.sums)} sums")


def counted(records: Records, ledger: CoordinatorReading) -> Outcome:
    """Hold whose updates a result counts against who was in the sum."""
    if _sums(records) is None:
        return _untold(records)
    story = records.story
    for round_, came in story.finished.items():
        entry = came.entry
        if not entry.mean:
            continue
        if not (found := story.sums.get(round_)):
            return failed(
                f"round {round_} has a mean, and no sum of it was unmasked", ledger.at(entry)
            )
        survivors, vectors = set(found[-1].survivors), found[-1].vectors
        told = [each for each in entry.given if each.update]
        if any(each.update != vectors.get(str(each.member)) for each in told):
            return failed(
                f"round {round_} counts another vector of a site than its sum has", ledger.at(entry)
            )
        given = {each.member for each in entry.given}
        if not given <= survivors or len(given) + entry.absent != len(survivors):
            return failed(
                f"the mean of round {round_} is of {len(given) + entry.absent} sites' updates, and "
                f"its sum was of {len(survivors)}",
                ledger.at(entry),
            )
    lost = sorted(set(story.sums) - {n for n, came in story.finished.items() if came.entry.mean})
    if lost and story.end is None and records.summary.value is None:
        return inconclusive(f"round {lost[0]} was unmasked, and what came of it isn't told yet")
    more = f"; rounds {lost[:5]} were unmasked and lost" if lost else ""
    return passed(f"{len(story.finished)} rounds{more}")
