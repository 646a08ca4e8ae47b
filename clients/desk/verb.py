"""The verb ``site``: what was offered to a hospital, and its word on it."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clients.approvers import Approver, People, kept_people
from clients.desk.approvals import desk_of
from clients.desk.arguments import Ask, state_of
from clients.desk.asked import Asked
from clients.desk.check import check_file, show_checked
from clients.desk.decision import Verdict, until
from clients.desk.hand_in import write_hand_in
from clients.desk.page import Arrays, brief_page, make_page
from clients.desk.shown import Shown
from clients.desk.taken import require_unasked
from clients.site_file import SiteFile
from fedmodel import config
from fedmodel._escape import escaped
from fedmodel.accounting.planning import plan_of
from fedmodel.budget.statement import WhatIf, what_first, what_if
from fedmodel.errors import ConfigError, FedmodelError
from fedmodel.identity import SigningKey, kept_secret
from fedmodel.identity.home import PartyHome
from fedmodel.identity.names import grouped
from fedmodel.identity.passphrase import read_passphrase
from fedmodel.job import Job, Performance
from fedmodel.ledger import Ledger, Request
from fedmodel.ledger.caps import Caps
from fedmodel.ledger.site_state import SiteState
from fedmodel.seeds import Entropy

__all__ = ["main"]

_VERDICTS: Mapping[str, Verdict] = {
    "approve": "approved",
    "refuse": "refused",
    "revoke": "revoked",
}


def main(mapping: dict[str, Any], given: Sequence[str] = ()) -> int:
    """Show offers, or decide on one.

    Args:
        mapping: the composed configuration.
        given: unused.

    Returns:
        The exit code: 0, or 1 where a check finds that something isn't so.

    Raises:
        ConfigError: for a missing or wrong value.
        RunFolderError: for an offer or a decision that can't be read or written.
        LedgerError: for a site's key or ledger that can't be read.
    """
    given_as = {"signer": mapping.get("as")}  # a word of Python's
    plain = {key: value for key, value in mapping.items() if key != "as"}
    ask = config.build(Ask, plain | given_as)
    if ask.do == "key":
        _make_key(ask)
        return 0
    if ask.do == "check" and ask.file is not None:
        checked = check_file(ask.file, ask.passphrase)
        show_checked(checked, as_json=ask.format == "json")
        return 1 if checked.problems else 0
    said = None if ask.file is None else SiteFile.read(ask.file)
    ask = ask if said is None else ask.by(said)
    capped = said is not None or ask.budget != Caps()  # else a cap may stand in the site's file
    state = state_of(ask)
    if ask.do == "hand-in":
        write_hand_in(state, ask.dataset, str(ask.job), ask.to)
        return 0
    people = kept_people(state.folder) if said is None else said.policy.people
    desk = desk_of(state, people)
    if ask.do != "jobs" and not desk.called(str(ask.job)):
        require_unasked(state, ask.dataset, str(ask.job))
    shown = Shown(desk=desk, people=people, as_json=ask.format == "json")
    if ask.do == "jobs":
        shown.jobs()
    elif ask.do == "show":
        asked = desk.find(str(ask.job))
        shown.one(asked, _page(asked, state, ask, capped))
    else:
        _decide(ask, _VERDICTS[ask.do], state, shown, capped)
    return 0


# -- who decides ---------------------------------------------------------------------------------


def _decide(ask: Ask, verdict: Verdict, state: SiteState, shown: Shown, capped: bool) -> None:
    desk, people = shown.desk, shown.people
    asked = desk.find(str(ask.job))
    approves = verdict == "approved"
    # What may be wrong is told before the page is made, which takes long.
    signer = _signer(ask, state, people)
    expires = until(ask.expires, desk.clock()) if approves else None
    page = _page(asked, state, ask, capped) if approves else brief_page(asked)
    text, why = config.canonical(page), ask.why or ""
    status = desk.decide(asked, verdict, signer, page=text, why=why, expires=expires)
    PartyHome(state.folder).log.add(
        f"run-{verdict}",
        run=asked.run,
        job=asked.job_sha256,
        page=config.digest(page),
        expires=expires.isoformat(timespec="seconds") if expires else "",
        key=signer.fingerprint,
        approver=people.name_of(signer.public.hex()) or "",
        status=status,
    )
    shown.decided(asked, page, status, whole=approves)


def _make_key(ask: Ask) -> None:
    path = Path(str(ask.signer)).expanduser()
    known = path.exists()
    passphrase = read_passphrase(ask.passphrase, new=not known)
    entropy = None if known else Entropy()
    key = SigningKey(kept_secret(path, "key", entropy, passphrase))
    approver = Approver.of(f"{ask.name} {key.public.hex()}")
    sealed = "in the clear, for you alone" if passphrase is None else "sealed under the passphrase"
    print(escaped(f"{path} {'has' if known else 'now has'} your key, {sealed}; it never leaves it"))
    print(f"fingerprint, for whoever verifies what it signs: {grouped(key.fingerprint)}")
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


# -- the page ------------------------------------------------------------------------------------


def _page(asked: Asked, state: SiteState, ask: Ask, capped: bool) -> dict[str, Any]:
    try:
        job = asked.read_job()
    except ConfigError as error:
        raise ConfigError(
            f"the job of run {asked.run} is of another version of fedmodel ({error}); show it with "
            "the version that it was offered to"
        ) from error
    return make_page(asked, job, _arrays(job), _cost(job, state, ask), capped=capped)


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
    if not job.privacy.private:
        return None
    path, asked = state.ledger_path(ask.dataset), Request.of(plan_of(job))
    book = Ledger(path).book() if path.exists() else None
    if book is None or book.opened is None:
        return what_first(state.site, ask.dataset, asked, ask.budget)
    return what_if(book, asked, ask.budget)
