"""The verb ``site``: what was offered to a hospital, and its word on it."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from clients.approvers import Approver, People, kept_people
from clients.desk.approvals import Approvals, Status, desk_of
from clients.desk.asked import Asked
from clients.desk.check import check_file, show_checked
from clients.desk.decision import Verdict, lasts, until
from clients.desk.hand_in import write_hand_in
from clients.desk.page import Arrays, brief_page, make_page, page_text
from clients.site_file import SiteFile
from fedmodel import config
from fedmodel._escape import escaped
from fedmodel.accounting.planning import plan_of
from fedmodel.budget.statement import WhatIf, what_if
from fedmodel.errors import ConfigError, FedmodelError, LedgerError
from fedmodel.identity import SigningKey, kept_secret
from fedmodel.identity.home import PartyHome
from fedmodel.identity.passphrase import read_passphrase
from fedmodel.job import Job, Performance
from fedmodel.ledger import Ledger, Request
from fedmodel.ledger.caps import Caps
from fedmodel.ledger.site_state import SiteState, is_state, sites_in
from fedmodel.seeds import Entropy

__all__ = ["main"]

_VERDICTS: Mapping[str, Verdict] = {
    "approve": "approved",
    "refuse": "refused",
    "revoke": "revoked",
}
_SHORT = 60  # characters of a purpose in the table


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What is asked.

    Args:
        do: what to do.
        job: with which offer.
        state: folder of the site's state, or of several sites'.
        site: which of them; or the site's own file, which says where its state is.
        dataset: whose budget is shown.
        expires: of an approval.
        why: kept with a decision.
        signer: file of the key of whoever decides, where the site's policy names approvers.
        name: of whoever a key is made for.
        passphrase: where the one is read that the key is sealed under; never one itself.
        to: file that a hand-in is written to.
        format: ``table`` or ``json``.
        budget: the site's caps.
    """

    do: Literal["jobs", "show", "approve", "refuse", "revoke", "key", "check", "hand-in"] = "jobs"
    job: str | None = None
    state: str | None = None
    site: str | None = None
    dataset: str = "main"
    expires: str = "30d"
    why: str | None = None
    signer: str | None = None
    name: str | None = None
    passphrase: str | None = None
    to: str | None = None
    format: Literal["table", "json"] = "table"
    budget: Caps = field(default_factory=Caps)

    def __post_init__(self) -> None:
        if self.do == "key":
            if not self.signer or not self.name:
                raise ConfigError(
                    'site key needs as=<file of your key> and name="YOUR NAME"; it makes the file, '
                    "and prints what the site's policy takes"
                )
            return
        if self.do == "check" and self.file is None:
            got = "" if self.site is None else f", got site={self.site}"
            raise ConfigError(f"site check needs site=<the site's own file, site.yaml>{got}")
        if self.file is None and (not self.state or not self.state.strip()):
            raise ConfigError(
                "site needs state=<folder of the site's own state>, or site=<its site.yaml>"
            )
        if self.do not in ("jobs", "check") and not self.job:
            where = f"site={self.site}" if self.file is not None else f"state={self.state}"
            raise ConfigError(
                f"site {self.do} needs a job: fedmodel site {self.do} RUN {where}; "
                f"fedmodel site jobs {where} lists them"
            )

    @property
    def file(self) -> Path | None:
        """The site's own file, where it is named."""
        named = self.site is not None and self.site.endswith((".yaml", ".yml"))
        return Path(str(self.site)).expanduser() if named else None

    def by(self, said: SiteFile) -> "Ask":
        """Return what is asked of the state, ledger and caps that the site's file names."""
        # Of the site's own key: who signs with another says where its own is read.
        own = said.coordinator.passphrase if self.signer is None else None
        return replace(
            self,
            state=str(said.state),
            site=None,
            dataset=said.dataset,
            passphrase=self.passphrase or own,
            budget=said.policy.caps if self.budget == Caps() else self.budget,
        )


def main(
    mappings: Sequence[dict[str, Any]],
    *,
    given: Sequence[Sequence[str]] = (),
    labels: object = None,
) -> int:
    """Show offers, or decide on one.

    Args:
        mappings: the composed configuration.
        given: unused.
        labels: unused; a sweep makes no sense here.

    Returns:
        The exit code: 0, or 1 where a check finds that something isn't so.

    Raises:
        ConfigError: for a missing or wrong value.
        RunFolderError: for an offer or a decision that can't be read or written.
        LedgerError: for a site's key or ledger that can't be read.
    """
    if len(mappings) != 1:
        raise ConfigError("site does one thing at a time; leave -m out")
    given_as = {"signer": mappings[0].get("as")}  # a word of Python's
    plain = {key: value for key, value in mappings[0].items() if key != "as"}
    ask = config.build(Ask, plain | given_as)
    if ask.do == "key":
        _make_key(ask)
        return 0
    if ask.do == "check" and ask.file is not None:
        checked = check_file(ask.file)
        show_checked(checked, as_json=ask.format == "json")
        return 1 if checked.problems else 0
    said = None if ask.file is None else SiteFile.read(ask.file)
    ask = ask if said is None else ask.by(said)
    state = _state(ask)
    if ask.do == "hand-in":
        write_hand_in(state, ask.dataset, str(ask.job), ask.to)
        return 0
    people = kept_people(state.folder) if said is None else said.policy.people
    desk = desk_of(state, people)
    if ask.do == "jobs":
        _list(desk, people, ask)
        return 0
    asked = desk.find(str(ask.job))
    if ask.do == "show":
        _show(desk, people, asked, _page(asked, state, ask), ask)
        return 0
    # What may be wrong is told before the page is made, which takes long.
    signer = _signer(ask, state, people)
    expires = until(ask.expires, desk.clock()) if ask.do == "approve" else None
    page = _page(asked, state, ask) if ask.do == "approve" else brief_page(asked)
    status = desk.decide(
        asked,
        _VERDICTS[ask.do],
        signer,
        page=config.canonical(page),
        why=ask.why or "",
        expires=expires,
    )
    PartyHome(state.folder).log.add(
        f"run-{_VERDICTS[ask.do]}",
        run=asked.run,
        job=asked.job_sha256,
        page=config.digest(page),
        expires=expires.isoformat(timespec="seconds") if expires else "",
        key=signer.fingerprint,
        approver=people.name_of(signer.public.hex()) or "",
        status=status,
    )
    _say(ask, asked, page, status, _row(desk, people, asked, status)["expires"])
    if ask.format == "table" and (line := _missing(desk, people, asked)):
        print(escaped(line))
    return 0


# -- who decides ---------------------------------------------------------------------------------


def _make_key(ask: Ask) -> None:
    path = Path(str(ask.signer)).expanduser()
    known = path.exists()
    passphrase = read_passphrase(ask.passphrase, new=not known)
    entropy = None if known else Entropy()
    key = SigningKey(kept_secret(path, "key", entropy, passphrase))
    approver = Approver.of(f"{ask.name} {key.public.hex()}")
    sealed = "in the clear, for you alone" if passphrase is None else "sealed under the passphrase"
    print(escaped(f"{path} {'has' if known else 'now has'} your key, {sealed}; it never leaves it"))
    print("for the site's policy (approvers):")
    print(escaped(f"{approver.name} {approver.key.hex()}"))


def _signer(ask: Ask, state: SiteState, people: People) -> SigningKey:
    if ask.signer is None:
        if not people.all:
            return state.key
        names = ", ".join(each.name for each in people.all)
        raise ConfigError(
            f"this site's policy names who decides ({names}); say whose word it is with as=<file "
            "of your key>"
        )
    if not people.all:
        raise ConfigError(
            "as= is for a site whose policy names approvers, and this one's key decides; leave as "
            "out"
        )
    path = Path(ask.signer).expanduser()
    if not path.exists():  # a site's own missing key is another matter
        raise ConfigError(
            f"as={ask.signer}: there is no such file; give that of your key, or make one: "
            f'fedmodel site key as={ask.signer} name="YOUR NAME"'
        )
    return SigningKey(kept_secret(path, "key", passphrase=read_passphrase(ask.passphrase)))


def _missing(desk: Approvals, people: People, asked: Asked) -> str:
    """Return who has approved and who is missing, as a line; empty where nobody is named."""
    if not people.all:
        return ""
    have, others, needed = people.standing(desk.approved_by(asked))
    line = f"approved by {', '.join(have) or 'nobody'}"
    return f"{line}; {needed} more needed, of {', '.join(others)}" if needed else line


def _state(ask: Ask) -> SiteState:
    root, site = Path(str(ask.state)).expanduser(), ask.site
    found = [root] if is_state(root) or (root / "offers").is_dir() else _sites_in(root)
    meant = [f for f in found if site is None or site in (f.name, _name(f))]
    if len(meant) != 1:
        names = ", ".join(_name(f) for f in found[:20])
        raise ConfigError(
            f"{root} has the state of {len(meant) or 'no'} sites"
            f"{'' if site is None else f' called {site!r}'}; set site= to one of: {names or 'none'}"
        )
    # A passphrase is of the key that decides.
    own = None if ask.signer is not None else read_passphrase(ask.passphrase)
    return SiteState(meant[0], _name(meant[0]), passphrase=own)


def _sites_in(root: Path) -> list[Path]:
    """Return the sites' folders; one that has had offers may have no key yet."""
    return sorted({*sites_in(root), *(path.parent for path in root.glob("*/offers"))})


def _name(folder: Path) -> str:
    """Return a site's name: by its ledgers, else its folder's."""
    for path in sorted((folder / "ledgers").glob("*.jsonl")):
        with suppress(LedgerError):  # of what can't be read the ledger's own verbs tell
            opened = Ledger(path).book().opened
            if opened is not None:
                return opened.site
    return folder.name


# -- the page ------------------------------------------------------------------------------------


def _page(asked: Asked, state: SiteState, ask: Ask) -> dict[str, Any]:
    try:
        job = asked.read_job()
    except ConfigError as error:
        raise ConfigError(
            f"the job of run {asked.run} is of another version of fedmodel ({error}); show it with "
            "the version that it was offered to"
        ) from error
    return make_page(asked, job, _arrays(job), _cost(job, state, ask))


def _arrays(job: Job) -> Arrays:
    # What nobody has approved fetches nothing: a model that isn't here is told as that. The
    # libraries read this as they are imported, which is slow, and only a page needs them.
    os.environ["HF_HUB_OFFLINE"] = "1"
    if sys.stderr.isatty():
        print("reading the model, to tell what would leave …", file=sys.stderr)
    from fedmodel.training.learner import resident

    try:
        layout = resident(job, Performance(device="cpu")).layout
    except FedmodelError as error:
        return Arrays(shapes={}, unknown=str(error))
    return Arrays(shapes=dict(zip(layout.names, layout.shapes, strict=True)))


def _cost(job: Job, state: SiteState, ask: Ask) -> WhatIf | None:
    path = state.ledger_path(ask.dataset)
    if not job.privacy.private or not path.exists():
        return None
    book = Ledger(path).book()
    if book.opened is None:
        return None
    return what_if(book, Request.of(plan_of(job)), ask.budget)


# -- what is shown -------------------------------------------------------------------------------


def _list(desk: Approvals, people: People, ask: Ask) -> None:
    rows = [_row(desk, people, asked, status) for asked, status in desk.overview()]
    if ask.format == "json":
        print(json.dumps({"schema": "fedmodel.jobs/1", "jobs": rows}, indent=2))
        return
    if not rows:
        print("no job has been offered")
        return
    from rich.table import Table

    from fedmodel.report.tables import cell
    from fedmodel.report.terminal import Terminal

    table = Table(title="jobs that were offered, the newest first")
    named = ("approved by",) if people.all else ()
    for name in ("run", "status", *named, "until", "offered", "job", "purpose"):
        table.add_column(name, overflow="fold")
    for row in rows:
        said = row["purpose"]
        short = said if len(said) <= _SHORT else f"{said[: _SHORT - 1]}…"
        times = [_minute(row[name]) for name in ("expires", "offered")]
        more = f"; {row['missing']} more needed" if row["missing"] else ""
        who = [f"{', '.join(row['approved_by']) or 'nobody'}{more}"] if named else []
        shown = (row["run"], row["status"], *who, *times, row["job"][:12])
        table.add_row(*map(cell, (*shown, short)))
    Terminal().print(table)


def _minute(moment: str | None) -> str:
    return "" if moment is None else f"{moment[:10]} {moment[11:16]} UTC"


def _row(desk: Approvals, people: People, asked: Asked, status: Status) -> dict[str, Any]:
    readable = status != "unreadable"
    have, others, missing = people.standing(desk.approved_by(asked) if readable else set())
    said = desk.decisions(asked.run, asked.job_sha256) if status == "approved" else []
    end = lasts(said, people.needed)  # the first of them that ends, where all are needed
    return {
        "approved_by": have,
        "not_yet": others,
        "missing": missing if status == "waiting" else 0,
        "run": asked.run,
        "job": asked.job_sha256,
        "status": status,
        "offered": asked.since,
        "purpose": asked.purpose,
        "expires": None if end is None else end.isoformat(timespec="seconds"),
    }


def _show(desk: Approvals, people: People, asked: Asked, page: Mapping[str, Any], ask: Ask) -> None:
    status = desk.status(asked.run, asked.job_sha256)
    said = desk.decisions(asked.run, asked.job_sha256)
    if ask.format == "json":
        decided = [config.to_mapping(signed) for signed in said]
        whole = {"page": page, **_row(desk, people, asked, status), "decisions": decided}
        print(json.dumps(whole, indent=2))
        return
    print(page_text(page))
    print(f"\nstatus: {status}")
    if line := _missing(desk, people, asked):
        print(escaped(line))
    for signed in said:
        told = signed.decision
        end = f" until {told.expires}" if told.expires else ""
        why = f": {told.why}" if told.why else ""
        name = people.name_of(signed.key)
        who = f"key {signed.key[:16]}…" if name is None else f"{name}, key {signed.key[:16]}…"
        print(escaped(f"  {told.at} {told.verdict}{end} by {who}{why}"))


def _say(
    ask: Ask, asked: Asked, page: Mapping[str, Any], status: Status, expires: str | None
) -> None:
    if ask.format == "json":
        print(json.dumps({"run": asked.run, "status": status, "expires": expires, "page": page}))
        return
    if ask.do == "approve":
        print(page_text(page))
        print()
    end = f" until {expires}" if status == "approved" else ""
    print(escaped(f"run {asked.run} is {status} here{end}"))
