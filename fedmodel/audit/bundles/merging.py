"""Hand-ins: what each party packs of its own, put together with what the coordinator has."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedmodel.audit.bundles.evidence import BundleEvidence, handed_name
from fedmodel.audit.bundles.packing import Parts, in_memory, parts_of
from fedmodel.audit.evidence import KINDS, OF_A_SITE, Evidence, Kind
from fedmodel.errors import EvidenceError, FedmodelError, ProtocolError
from fedmodel.identity.signed_roster import SignedRoster, read_roster
from fedmodel.ledger.tree_head import TreeHead
from fedmodel.runs.names import run_folder_name

__all__ = ["HandIn", "handed_in", "merged"]

_HEADS: tuple[Kind, ...] = ("own-head", "shown-head")


@dataclass(frozen=True, slots=True)
class HandIn:
    """What a site has handed in, whose statement is its own.

    Args:
        site: its name.
        evidence: its bundle.
    """

    site: str
    evidence: BundleEvidence


def handed_in(path: Path, run: str, job_sha256: str) -> HandIn:
    """Return what a site has handed in.

    Args:
        path: of its bundle.
        run: that it must be of.
        job_sha256: likewise.

    Raises:
        EvidenceError: when it isn't whole, isn't a site's, or is of another run.
    """
    found = BundleEvidence(path)
    claim = found.signed.claim
    try:
        found.signed.check()
    except ProtocolError as error:
        raise EvidenceError(f"{path}: {error}") from error
    if changed := found.changed:
        raise EvidenceError(f"{path}: {changed[0]!r:.200} isn't as it was signed for")
    if claim.packer.role != "site" or found.handed or found.left_out:
        raise EvidenceError(
            f"{path} is no site's hand-in; a site makes one by: fedmodel site hand-in RUN "
            "site=site.yaml to=FILE"
        )
    if (claim.run, claim.job_sha256) != (run, job_sha256):
        raise EvidenceError(
            f"{path} is of run {claim.run!r:.80}, job {claim.job_sha256[:16]}…; expected {run!r}, "
            f"job {job_sha256[:16]}…: ask site {claim.packer.name!r} for that of this run"
        )
    site = claim.packer.name
    foreign = [name for name in found.signed.parts if not _of_site(name, site, run)]
    if foreign:
        raise EvidenceError(f"{path}: {foreign[0]!r:.200} isn't site {site!r}'s to hand in")
    if f"ledger/{site}.jsonl" not in found.signed.parts:
        raise EvidenceError(f"{path} has no ledger of site {site!r}")
    return HandIn(site, found)


def _of_site(name: str, site: str, run: str) -> bool:
    for kind in OF_A_SITE:
        match = KINDS[kind].pattern.fullmatch(name)
        if match is not None:
            runs = match.groupdict().get("run", run_folder_name(run))
            return (match["site"], runs) == (site, run_folder_name(run))
    return name.startswith("rosters/")


def merged(evidence: Evidence, hand_ins: Sequence[HandIn], *, model: bool) -> Parts:
    """Return the parts of a run and of what its sites have handed in, with their statements.

    Where the run's folder has an older copy of a site's ledger, or of a tree head that it keeps,
    the site's own takes its place.

    Raises:
        EvidenceError: where two contradict one another, or the consortia are others.
    """
    parts = dict(parts_of(evidence, model=model))
    whose: dict[str, str] = dict.fromkeys(parts, evidence.where)
    sites: dict[str, HandIn] = {}
    for each in hand_ins:
        if each.site in sites:
            raise EvidenceError(
                f"{sites[each.site].evidence.where} and {each.evidence.where} are both of site "
                f"{each.site!r}; give the newer one of them"
            )
        sites[each.site] = each
        own = parts_of(each.evidence, model=False)
        for name, chunks in own.items():
            if name in parts and not _begins(chunks(), parts[name]()):
                _check_replaced(name, parts[name], whose[name], each)
            parts[name], whose[name] = chunks, each.evidence.where
        parts |= in_memory({handed_name(each.site): each.evidence.statement})
    _check_consortium(parts, whose)
    return parts


def _check_replaced(
    name: str, before: Callable[[], Iterable[bytes]], where: str, mine: HandIn
) -> None:
    """Refuse a part that contradicts the one of that name; a newer tree head doesn't.

    Args:
        name: of both.
        before: the other's bytes.
        where: that one is.
        mine: the hand-in that has the part.
    """
    kind = next((k for k in _HEADS if KINDS[k].pattern.fullmatch(name)), None)
    why = (
        "it was rewritten, or is older"
        if kind is None
        else _not_newer(b"".join(before()), mine.evidence.read(kind, name))
    )
    if why is not None:
        raise EvidenceError(
            f"{name!r:.200} in {mine.evidence.where} doesn't go on from the one in {where}: {why}. "
            f"Ask site {mine.site!r} for a new one; if it stays so, verify each by itself"
        )


def _not_newer(before: bytes, after: bytes) -> str | None:
    """Return why a tree head can't take the place of another; ``None`` where it can."""
    try:
        old = TreeHead.from_json(before)
    except ProtocolError:
        return None  # of what is no tree head nothing is lost
    try:
        new = TreeHead.from_json(after)
    except ProtocolError as error:
        return f"it can't be read ({error!s:.200})"
    if new.ledger != old.ledger:
        return f"it is of ledger {new.ledger:.80}, and the other of {old.ledger:.80}"
    if new.size < old.size:
        return f"it is older, of {new.size} entries, and the other is of {old.size}"
    if (new.size, new.root) == (old.size, old.root) or new.size > old.size:
        return None
    return (
        f"both are of {new.size} entries, and their roots differ: one of them was rewritten, or "
        "forged"
    )


def _begins(longer: Iterable[bytes], shorter: Iterable[bytes]) -> bool:
    """Return whether some bytes begin with others."""
    rest = _Bytes(longer)
    return all(rest.take(len(chunk)) == chunk for chunk in shorter)


class _Bytes:
    """Bytes that come in pieces, taken in others."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks: Iterator[bytes] = iter(chunks)
        self._had = b""

    def take(self, size: int) -> bytes:
        """Return the next bytes, or fewer at the end."""
        parts, count = [self._had], len(self._had)
        while count < size and (chunk := next(self._chunks, b"")):
            parts.append(chunk)
            count += len(chunk)
        whole = b"".join(parts)
        self._had = whole[size:]
        return whole[:size]


def _check_consortium(parts: Parts, whose: dict[str, str]) -> None:
    """Check that all rosters are of one consortium, where one has signed them."""
    known: dict[str, str] = {}
    for name in sorted(parts):
        if not name.startswith("rosters/"):
            continue
        try:
            roster = read_roster(b"".join(parts[name]()))
        except FedmodelError:
            continue  # a verification says what is wrong with it
        if isinstance(roster, SignedRoster):
            known.setdefault(roster.consortium, name)
    if len(known) > 1:
        one, two, *_ = known.values()
        raise EvidenceError(
            f"{one} in {whose[one]} and {two} in {whose[two]} are signed by two consortia; a "
            "hand-in belongs to the run of its own"
        )
