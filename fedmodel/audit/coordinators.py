"""The coordinator's own ledger: whether it is one, whole, and the coordinator's of this run."""

from fedmodel import _hazmat, config
from fedmodel.audit.coordinator_reading import CoordinatorReading
from fedmodel.audit.outcomes import witnessed
from fedmodel.audit.records import Records
from fedmodel.audit.tree_heads import contradiction
from fedmodel.audit.verdicts import PASSED, Outcome, Rule, failed, inconclusive, not_tested, passed
from fedmodel.errors import ConfigError, ProtocolError

__all__ = ["CHAIN", "FORM", "HEAD", "JOB", "ROSTER", "SIGNATURE"]

_NO_HEAD = "the coordinator's own tree head isn't here"
_NO_BEGINNING = "its ledger has no beginning"


def _present(records: Records) -> Outcome:
    if records.coordinator is not None:
        return PASSED
    for site, ledger in records.with_ledgers():
        for seq, entries, _ in witnessed(records, ledger):
            return failed(
                f"site {site.name!r} was shown {entries} entries of it, and it isn't here",
                ledger.at(seq),
            )
    for site in records.sites.values():
        if (shown := site.shown.value) is not None:
            return failed(
                f"site {site.name!r} keeps a tree head of {shown.head.size} entries of it, and it "
                "isn't here",
                shown.name,
            )
    if records.own.name is not None:
        return failed(
            "the coordinator's tree head is here, and its ledger is gone", "coordinator.jsonl"
        )
    return not_tested(
        "there is no coordinator.jsonl here: the run has no roster, an earlier version has played "
        "it, or the file was taken out"
    )


def _form(_: Records, ledger: CoordinatorReading) -> Outcome:
    if ledger.form is not None:
        return failed(ledger.form.reason, ledger.at(ledger.form.line - 1))
    if ledger.torn:
        return inconclusive(
            f"{ledger.torn} bytes follow the last whole line: an append that a crash has cut, "
            "on whose account nothing was done, or damage",
            ledger.at(len(ledger.entries)),
        )
    if ledger.opened is None and ledger.link is None and ledger.rule is None:
        return failed("it has no entry", ledger.name)
    return PASSED


def _head_form(records: Records, _: CoordinatorReading) -> Outcome:
    if records.own.wrong is not None:
        return failed(records.own.wrong, records.own.name)
    return PASSED if records.own.value is not None else not_tested(_NO_HEAD)


def _chain(_: Records, ledger: CoordinatorReading) -> Outcome:
    if ledger.link is not None:
        return failed(ledger.link.reason, ledger.at(ledger.link.line - 1))
    return PASSED


def _beginning(_: Records, ledger: CoordinatorReading) -> Outcome:
    if ledger.rule is not None:
        return failed(ledger.rule.reason, ledger.at(ledger.rule.line - 1))
    return passed(f"{len(ledger.entries)} entries")


def _owner(records: Records, ledger: CoordinatorReading) -> Outcome:
    opened = ledger.opened
    if opened is None:
        return not_tested(_NO_BEGINNING)
    if opened.run != records.run:
        return failed(f"it is of run {opened.run!r:.80}, and the manifest of {records.run!r:.80}")
    name = f"{_hazmat.fingerprint(bytes.fromhex(opened.key))}/{opened.run}"
    if opened.ledger != name:
        return failed(
            f"it is called {opened.ledger:.80}, and its key's name is {name:.80}", ledger.at(opened)
        )
    return PASSED


def _signed(records: Records, ledger: CoordinatorReading) -> Outcome:
    own, opened = records.own.value, ledger.opened
    if own is None or opened is None:
        return not_tested(_NO_HEAD if own is None else _NO_BEGINNING)
    head = own.head
    try:
        head.verify()
    except ProtocolError:
        return failed(
            f"its signature isn't that of the key that it names, {head.key[:16]}…", own.name
        )
    if head.ledger.partition("/")[0] != _hazmat.fingerprint(bytes.fromhex(head.key)):
        return failed(
            f"it is of ledger {head.ledger:.80}, which isn't named for the key that signs it",
            own.name,
        )
    return PASSED


def _key(records: Records, ledger: CoordinatorReading) -> Outcome:
    roster, opened = records.roster.value, ledger.opened
    if roster is None or opened is None:
        return not_tested("no roster is in the folder; give yours by roster=PATH")
    if opened.key != roster.coordinator:
        return failed(
            f"its ledger is under key {opened.key[:16]}…, and the roster has "
            f"{roster.coordinator[:16]}… for the coordinator",
            ledger.at(opened),
        )
    return PASSED


def _members(records: Records, ledger: CoordinatorReading) -> Outcome:
    for start in ledger.starts:
        roster = records.rosters.get(start.roster)
        if roster is None:
            return not_tested(
                f"the roster that it goes by, of SHA-256 {start.roster[:16]}…, isn't here",
                ledger.at(start),
            )
        names = {str(n): member.name for n, member in enumerate(roster.members, start=1)}
        if start.members != names:
            return failed("it numbers the sites otherwise than its roster", ledger.at(start))
    return passed(f"{len(ledger.starts)} starts")


def _own_head(records: Records, ledger: CoordinatorReading) -> Outcome:
    own, opened = records.own.value, ledger.opened
    if own is None or opened is None:
        return not_tested(_NO_HEAD if own is None else _NO_BEGINNING)
    if own.head.ledger != opened.ledger:
        return failed(f"the tree head beside it is of ledger {own.head.ledger:.80}", own.name)
    return contradiction(ledger, [own], "the coordinator has kept") or PASSED


def _job(records: Records, ledger: CoordinatorReading) -> Outcome:
    named = records.manifest.job_sha256
    for start in ledger.starts:
        if start.job_sha256 != named:
            return failed(
                f"it starts with job {start.job_sha256[:16]}…, and the manifest's is {named[:16]}…",
                ledger.at(start),
            )
        try:
            found = config.digest(start.job)
        except ConfigError as error:
            return failed(f"its job has no canonical form: {error}", ledger.at(start))
        if found != named:
            return failed(
                f"the job that it tells has SHA-256 {found[:16]}…, and not the one that it names",
                ledger.at(start),
            )
    return (
        passed(f"{len(ledger.starts)} starts") if ledger.starts else not_tested("it has no start")
    )


FORM = (
    Rule(
        name="coordinator-present",
        says="A coordinator whose tree head of its own ledger is here, or of which a site keeps or "
        "names one, has that ledger here.",
        run=_present,
    ),
    Rule(
        name="coordinator-form",
        says="Each line of the coordinator's ledger is an entry of a schema that is known, in its "
        "one canonical form (RFC 8785).",
        coordinator=_form,
    ),
    Rule(
        name="coordinator-head-form",
        says="The tree head that the coordinator has kept of it is one, in its canonical form.",
        coordinator=_head_form,
    ),
)
CHAIN = (
    Rule(
        name="coordinator-chain",
        says="Each line of the coordinator's ledger has the next number and names the SHA-256 of "
        "the line before it.",
        coordinator=_chain,
    ),
    Rule(
        name="coordinator-beginning",
        says="It has one beginning, its first entry.",
        coordinator=_beginning,
    ),
)
SIGNATURE = (
    Rule(
        name="coordinator-owner",
        says="The coordinator's ledger is of the manifest's run, and is named for its key.",
        coordinator=_owner,
    ),
    Rule(
        name="coordinator-signed",
        says="The coordinator's tree head is signed by the key that it names, after which the "
        "ledger is named.",
        coordinator=_signed,
    ),
)
ROSTER = (
    Rule(
        name="coordinator-key",
        says="The key of the coordinator's ledger is the one that the roster has for the "
        "coordinator.",
        coordinator=_key,
    ),
    Rule(
        name="coordinator-members",
        says="Each of its starts numbers the sites as the roster does that it names.",
        coordinator=_members,
    ),
)
HEAD = (
    Rule(
        name="coordinator-own-head",
        says="The coordinator's ledger has at least the entries that the coordinator itself has "
        "signed for, and those have the root of that tree head (RFC 6962).",
        coordinator=_own_head,
    ),
)
JOB = (
    Rule(
        name="coordinator-job",
        says="Each start of the coordinator has the manifest's job, whole.",
        coordinator=_job,
    ),
)
