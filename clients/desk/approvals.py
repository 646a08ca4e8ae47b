"""Approvals: offers that wait for a hospital's word, and what its people have said of each.

::

    <state>/<site>/offers/<run>/<job>/offer.json       what was offered
    <state>/<site>/offers/<run>/<job>/page-….json      what was shown to whoever decided
    <state>/<site>/offers/<run>/<job>/decisions.json   what they said, signed, in order
    <state>/<site>/offers/<run>/<job>/ended            the run is over, and its approval used up
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

from clients.approvers import People
from clients.desk.asked import Asked
from clients.desk.decision import (
    Decision,
    Signed,
    Verdict,
    approvers,
    parse_decisions,
    written,
)
from fedmodel import _files, config
from fedmodel.errors import (
    ConfigError,
    FedmodelError,
    RefusedError,
    RunFolderError,
    UnapprovedError,
)
from fedmodel.identity import SigningKey
from fedmodel.identity.validity import utc_now
from fedmodel.ledger.site_state import SiteState
from fedmodel.runs import is_called, run_folder_name

__all__ = ["Approvals", "Status", "desk_of"]

Status: TypeAlias = Literal[
    "waiting", "approved", "refused", "revoked", "expired", "ended", "unreadable"
]

_MOST = 100  # offers that may wait: a coordinator could fill a disk with them
_LARGEST = 2 << 20  # bytes of an offer: twice the longest job
_DIGITS = 16  # of a job's hash in a folder's name
_WHY = {
    "waiting": "this job waits for the approval of this site's people",
    "refused": "this site's people have refused this run",
    "revoked": "this site's people have revoked their approval of this run",
    "expired": "this site's approval of this run has expired",
    "ended": "this run has ended here, and an approval is of one run",
}
_OPEN = ("waiting", "expired")  # they may approve it still


class Approvals:
    """The offers of one site.

    Args:
        folder: of the offers; made when there is one.
        keys: public Ed25519 keys of those who may decide, 32 bytes each.
        needed: how many of them must have approved.
        clock: tells the time, in UTC.
    """

    def __init__(
        self,
        folder: Path,
        keys: Sequence[bytes],
        needed: int = 1,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        if not 1 <= needed <= len(set(keys)):
            raise ConfigError(
                f"{needed} approvals are needed, of {len(set(keys))} who may give one; expected 1 "
                "or more, and no more than there are"
            )
        self._folder = folder
        self._keys = tuple(keys)
        self._needed = needed
        self.clock = clock

    # -- what is offered -------------------------------------------------------------------------

    def admit(self, asked: Asked) -> None:
        """Let an offer in that was approved; keep any other, for the site's people to see.

        Raises:
            RefusedError: unless it is approved, for this run, now.
            RunFolderError: when what is kept can't be read or written.
        """
        place = self._place(asked.run, asked.job_sha256)
        if (place / "offer.json").exists():
            known = _read(place / "offer.json").coordinator
            if known != asked.coordinator:
                raise RefusedError(
                    f"run {asked.run} was offered here by {_named(known)}, and now by "
                    f"{_named(asked.coordinator)}: what is approved is who asks, too. Let it be "
                    "offered as another run"
                )
        else:
            waiting = sum(status == "waiting" for _, status in self.overview())
            if waiting >= _MOST:
                raise RefusedError(
                    f"{waiting} offers wait for this site's people, and no more are kept; they "
                    "must decide on those first"
                )
            with _writing(place):
                _files.make_folder(place)
                text = config.canonical(replace(asked, since=_moment(self.clock())))
                _files.write_atomic(place / "offer.json", text + b"\n", mode=0o600)
        self.require(asked.run, asked.job_sha256)

    def require(self, run: str, job: str) -> None:
        """Check that a run may go on here.

        Args:
            run: its name.
            job: SHA-256 (hex) of its job.

        Raises:
            RefusedError: unless it is approved, now.
            RunFolderError: when what was decided can't be read, or was changed.
        """
        status = self.status(run, job)
        if status != "approved":
            error = UnapprovedError if status in _OPEN else RefusedError
            raise error(f"{_WHY[status]} (run {run})")

    def end(self, run: str, job: str) -> None:
        """Note that a run has ended, which uses its approval up; nothing for one never offered."""
        place = self._place(run, job)
        if (place / "offer.json").exists():
            with _writing(place):
                _files.write_atomic(place / "ended", b"", mode=0o600)

    # -- what is decided -------------------------------------------------------------------------

    def decide(
        self,
        asked: Asked,
        verdict: Verdict,
        signer: SigningKey,
        *,
        page: bytes,
        why: str = "",
        expires: datetime | None = None,
    ) -> Status:
        """Keep what somebody says of an offer, with the page that they were shown.

        Args:
            asked: the offer.
            verdict: what is said.
            signer: whose word it is.
            page: what was shown, as canonical JSON.
            why: for people.
            expires: of an approval: until when.

        Returns:
            How the offer stands now.

        Raises:
            ConfigError: when the signer isn't one of those who may decide, or the verdict makes no
                sense as the offer stands.
            RunFolderError: when what is kept can't be read or written.
        """
        run, job = asked.run, asked.job_sha256
        if signer.public not in self._keys:
            raise ConfigError(f"the key {signer.fingerprint} is of nobody who may decide here")
        decision = Decision(
            run=run,
            job=job,
            page=config.sha256(page),
            verdict=verdict,
            why=why,
            at=_moment(self.clock()),
            expires=None if expires is None else _moment(expires),
        )
        place = self._place(run, job)
        with _writing(place), _files.locked(place / ".lock", write=True):
            before = self.status(run, job)
            said = self.decisions(run, job)
            if verdict == "revoked" and not approvers(said, self.clock()):
                raise ConfigError(f"there is nothing to revoke: run {run} is {before} here")
            if before == "ended":
                raise ConfigError(f"run {run} has ended here; nothing is left to decide")
            _files.write_atomic(place / f"page-{decision.page[:12]}.json", page, mode=0o600)
            _files.write_atomic(
                place / "decisions.json", _with(said, Signed.by(signer, decision)), mode=0o600
            )
        return self.status(run, job)

    def decisions(self, run: str, job: str) -> list[Signed]:
        """Return what was said of a run of a job, in order.

        Raises:
            RunFolderError: when it can't be read, was changed, or is of another run or job.
        """
        path = self._place(run, job) / "decisions.json"
        try:
            text = _files.read(path, 1 << 17)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RunFolderError(f"can't read {path}: {error.strerror}") from error
        try:
            found = parse_decisions(text, self._keys)
        except RunFolderError as error:
            raise RunFolderError(
                f"{path}: {error}. Nothing is approved by it; restore it, or have the job offered "
                "as another run"
            ) from error
        if any((s.decision.run, s.decision.job) != (run, job) for s in found):
            raise RunFolderError(f"{path} is about another run or job than its folder's")
        return found

    def status(self, run: str, job: str) -> Status:
        """Return how an offer stands.

        Raises:
            RunFolderError: as :meth:`decisions`.
        """
        if (self._place(run, job) / "ended").exists():
            return "ended"
        said = self.decisions(run, job)
        if len(approvers(said, self.clock())) >= self._needed:
            return "approved"
        last = said[-1].decision.verdict if said else "waiting"
        if last != "approved":
            return last
        unlimited = approvers(said, datetime.min.replace(tzinfo=UTC))
        return "expired" if len(unlimited) >= self._needed else "waiting"

    # -- what there is ---------------------------------------------------------------------------

    def all(self) -> list[tuple[Asked, Status]]:
        """Return every offer and how it stands, the newest first.

        Raises:
            RunFolderError: when one can't be read.
        """
        return [(asked, self.status(asked.run, asked.job_sha256)) for asked in self._offers()]

    def overview(self) -> list[tuple[Asked, Status]]:
        """Return the same, with decisions of people who may no longer decide as ``unreadable``.

        Raises:
            RunFolderError: when an offer can't be read.
        """
        return [(asked, self._readable(asked)) for asked in self._offers()]

    def _readable(self, asked: Asked) -> Status:
        try:
            return self.status(asked.run, asked.job_sha256)
        except RunFolderError:
            return "unreadable"

    def approved_by(self, asked: Asked) -> set[str]:
        """Return the public keys (hex) whose approval of an offer holds now.

        Raises:
            RunFolderError: as :meth:`decisions`.
        """
        return approvers(self.decisions(asked.run, asked.job_sha256), self.clock())

    def called(self, name: str) -> list[Asked]:
        """Return the offers of a name (see :meth:`find`), the newest first."""
        return _called(self._offers(), name)

    def find(self, name: str) -> Asked:
        """Return the offer of a name: its run's, also without the last digits, or its job's hash.

        Whoever offers chooses runs' names, so no offer goes before another that is called so as
        well. ``RUN/HASH``, with the first digits of the job's hash, always tells two apart.

        Args:
            name: as it was typed.

        Raises:
            ConfigError: when there is none, or more than one.
        """
        every = self._offers()
        meant = _called(every, name)
        if len(meant) > 1:
            each = ", ".join(f"{a.run}/{a.job_sha256[:_DIGITS]}" for a in meant[:10])
            raise ConfigError(f"{len(meant)} offers are called '{name}'; say which: {each}")
        if not meant:
            names = [asked.run for asked in every]
            raise ConfigError(
                f"no offers are called '{name}'{config.suggest(name, names)}; there are: "
                f"{', '.join(names[:10]) or 'none'}"
            )
        return meant[0]

    def _offers(self) -> list[Asked]:
        found = [_read(path) for path in self._folder.glob("*/*/offer.json")]
        return sorted(found, key=lambda asked: asked.since, reverse=True)

    def _place(self, run: str, job: str) -> Path:
        return self._folder / run_folder_name(run) / job[:_DIGITS]


def desk_of(state: SiteState, people: People | None = None) -> Approvals:
    """Return the offers of a site.

    Args:
        state: of the site.
        people: who may decide; ``None``, or nobody named: whoever has the site's own key.

    Raises:
        LedgerError: when it is the site's key, and that can't be read or written.
    """
    people = people or People()
    keys = [each.key for each in people.all] or [state.key.public]
    return Approvals(state.offers, keys, people.needed)


def _called(offers: Iterable[Asked], name: str) -> list[Asked]:
    return [each for each in offers if is_called(each.run, each.job_sha256, name)]


def _named(coordinator: str | None) -> str:
    return "a coordinator without key" if coordinator is None else f"the key {coordinator[:16]}…"


def _read(path: Path) -> Asked:
    try:
        text = _files.read(path, _LARGEST).removesuffix(b"\n")
        make: Any = partial(config.build, Asked)
        found: Asked = config.parse(make, text)
    except (OSError, FedmodelError) as error:
        raise RunFolderError(
            f"{path} can't be read as an offer ({error}); remove it, and have the job offered again"
        ) from error
    return found


def _with(said: Sequence[Signed], last: Signed) -> bytes:
    """Return the file with one decision more.

    A no takes all before it back, so where there is no room for them it stands alone: it can
    always be said.
    """
    try:
        return written([*said, last])
    except ConfigError:
        if last.decision.verdict == "approved":
            raise
        return written([last])


def _moment(when: datetime) -> str:
    return when.astimezone(UTC).isoformat(timespec="seconds")


@contextmanager
def _writing(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunFolderError(f"can't write into {place}: {error.strerror}") from error
