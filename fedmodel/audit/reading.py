"""Reading of a ledger's bytes: once, line by line, as far as it can be followed."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedmodel.accounting.spends import Spend, merge
from fedmodel.audit.bulk import Bulk
from fedmodel.errors import EvidenceError, FedmodelError
from fedmodel.ledger import Book, Entry, OpenEntry, RepeatEntry, Reservation, SpendEntry, merkle
from fedmodel.ledger.line import FIRST, Line
from fedmodel.ledger.lines import of_a_newer_version
from fedmodel.ledger.repeated import Decoder

__all__ = ["Fault", "LedgerReading", "RunEntries", "read_ledger", "read_lines"]


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a line.

    Args:
        line: its number, from 1.
        reason: in words.
    """

    line: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEntries:
    """What a ledger has of one run.

    Args:
        reservations: in order.
        drawn: on them: spends and attempts that cost nothing, in order.
        spends: those that cost something.
        trained: round → how many times it was paid.
        steps: of training.
        evaluations: that were paid.
        kinds: the first of each kind of spend: those alike in all but where they stand.
        schedule: the spends as accountants take them: equal steps together.
    """

    reservations: Sequence[Reservation]
    drawn: Sequence[SpendEntry | RepeatEntry]
    spends: Sequence[SpendEntry]
    trained: Counter[int]
    steps: int
    evaluations: int
    kinds: Sequence[SpendEntry]
    schedule: tuple[Spend, ...]

    @classmethod
    def of(
        cls, held: Sequence[Reservation], drawn: Sequence[SpendEntry | RepeatEntry]
    ) -> "RunEntries":
        """Return what such entries add up to."""
        spends = [entry for entry in drawn if entry.type == "spend"]
        trained = [entry for entry in spends if entry.kind == "train"]
        kinds: dict[tuple[object, ...], SpendEntry] = {}
        steps: Counter[tuple[str, str]] = Counter()
        for e in spends:
            # Alike lines share their mechanism; to compare them by value takes far longer.
            numbers = (e.rate, e.noise_multiplier, e.steps, e.clip, id(e.mechanism))
            kinds.setdefault((e.kind, *numbers, e.given_up), e)
            steps[e.rate, e.noise_multiplier] += e.steps
        return cls(
            reservations=held,
            drawn=drawn,
            spends=spends,
            trained=Counter(entry.round for entry in trained),
            steps=sum(entry.steps for entry in trained),
            evaluations=len(spends) - len(trained),
            kinds=list(kinds.values()),
            schedule=merge(Spend(float(r), float(noise), n) for (r, noise), n in steps.items()),
        )


@dataclass(slots=True)
class LedgerReading:
    """A ledger as far as it was read: to its end, or to the first line that is wrong.

    Args:
        name: of the part.
        entries: that were read.
        book: what they add up to.
        leaves: hashes of their lines, of which the Merkle tree is.
        last: SHA-256 of the last of these lines, hex.
        form: the first line that is no entry.
        link: the first line that doesn't follow the one before it.
        rule: the first line that says what nobody can say there.
        torn: how many bytes follow the last whole line.
    """

    name: str
    entries: list[Entry] = field(default_factory=list)
    book: Book = field(default_factory=Book)
    leaves: list[bytes] = field(default_factory=list)
    last: str = FIRST
    form: Fault | None = None
    link: Fault | None = None
    rule: Fault | None = None
    torn: int = 0
    _runs: "dict[str, RunEntries]" = field(default_factory=dict)
    _tree: merkle.Tree | None = None

    @property
    def tree(self) -> merkle.Tree:
        """Merkle tree over the lines, put together once all are read."""
        if self._tree is None:
            self._tree = merkle.Tree(self.leaves)
        return self._tree

    @property
    def opened(self) -> OpenEntry | None:
        """The ledger's beginning."""
        return self.book.opened

    def at(self, entry: Entry | int) -> str:
        """Return where an entry stands, for people."""
        return f"{self.name}, line {(entry if isinstance(entry, int) else entry.seq) + 1}"

    def of_run(self, run: str) -> "RunEntries":
        """Return a run's part of it, put together once."""
        if run not in self._runs:
            held = self.book.of(run)
            drawn: list[SpendEntry | RepeatEntry] = [e for each in held for e in each.spent]
            # Others are few, and not looked for where a ledger has none at all.
            if repeats := [e for e in self.entries if e.type == "repeat" and e.run == run]:
                drawn = sorted([*drawn, *repeats], key=lambda entry: entry.seq)
            self._runs[run] = RunEntries.of(held, drawn)
        return self._runs[run]


def read_ledger(name: str, text: bytes, decoder: Decoder) -> LedgerReading:
    """Return what a ledger's bytes say, up to the first line that is wrong.

    Args:
        name: of the part, for messages.
        text: its bytes.
        decoder: of lines; the same for all ledgers, whose lines are alike.

    Raises:
        EvidenceError: for a line that a newer version has written.
    """
    found = LedgerReading(name)
    bulk = Bulk(found, text, decoder) if text.isascii() else None
    read_lines(found, text, decoder.decode, of_a_newer_version, bulk)
    return found


def read_lines(
    found: Any,
    text: bytes,
    decode: Callable[[bytes], Line],
    newer: Callable[[bytes], bool],
    bulk: "Bulk | None" = None,
) -> None:
    """Take in a ledger's bytes, whosever it is, up to the first line that is wrong.

    Args:
        found: the reading: what was found before, and its book.
        text: the bytes.
        decode: returns a line's entry.
        newer: tells whether a newer version has written a line.
        bulk: takes in many lines at once where it can.

    Raises:
        EvidenceError: for a line that a newer version has written.
    """
    *lines, tail = text.split(b"\n")
    place = 0
    while place < len(lines):
        if bulk is not None and (count := bulk.take(lines, place)):
            place += count
        elif _take(found, lines[place], decode, newer):
            place += 1
        else:
            return
    if tail and not _take(found, tail, decode, newer) and found.form is not None:
        # What an append that crashed has left: nothing was done on its account, or it is damage.
        found.form, found.torn = None, len(tail)


def _take(
    found: Any, line: bytes, decode: Callable[[bytes], Line], newer: Callable[[bytes], bool]
) -> bool:
    """Take in a line; return whether it is right."""
    number = len(found.entries) + 1
    try:
        entry = decode(line)
    except FedmodelError as error:
        if newer(line):
            raise EvidenceError(f"{found.name}, line {number}: {error}") from error
        found.form = Fault(number, str(error))
        return False
    if entry.seq != number - 1 or entry.prev != found.last:
        found.link = Fault(number, _unlinked(entry, number - 1, found.last))
        return False
    try:
        found.book.check(entry)
    except FedmodelError as error:
        found.rule = Fault(number, str(error))
        return False
    found.book.count(entry)
    found.entries.append(entry)
    found.leaves.append(merkle.leaf_hash(line))
    found.last = hashlib.sha256(line).hexdigest()
    return True


def _unlinked(entry: Line, number: int, last: str) -> str:
    """Return how a line doesn't follow those before it.

    Args:
        entry: of the line.
        number: of lines before it.
        last: SHA-256 (hex) of the one before it.
    """
    if entry.seq != number:
        return f"it says that it is entry {entry.seq}, and stands where entry {number} belongs"
    return (
        f"it follows a line of SHA-256 {entry.prev[:16]}…, and the one before it has {last[:16]}…: "
        "that one was edited, or another was taken out or put in"
    )
