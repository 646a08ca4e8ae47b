"""What a run folder holds: read, each file held against its own form, chain and signatures."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.second_verifier.formats import (
    COORDINATOR,
    EVERY,
    SINCE_4,
    SITE,
    Entry,
    canonical,
    fingerprint,
    is_of,
    root,
    sha256,
    signed,
)

LARGEST = 64 << 20
ODD = (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError, OSError)


@dataclass(frozen=True)
class Finding:
    """Something that contradicts something."""

    family: str
    what: str


class Book:
    """A ledger's lines and entries."""

    def __init__(self, data: bytes):
        self.lines = data.split(b"\n")[:-1]
        self.entries: list[Entry] = [json.loads(line) for line in self.lines]

    def root(self, size: int) -> str:
        if not 0 < size <= len(self.lines):
            raise ValueError(f"it has {len(self.lines)} entries, and {size} were signed or told")
        return root(self.lines[:size]).hex()

    def spends(self, run: str | None = None, kind: str = "") -> list[Entry]:
        return [
            entry
            for entry in self.entries
            if entry["type"] == "spend"
            and run in (None, entry["run"])
            and kind in ("", entry["kind"])
        ]


class Run:
    """One run's folder, and what is found in it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.findings: list[Finding] = []
        self.left_out: set[str] = set()

    def need(self, family: str, holds: object, what: str) -> None:
        """Notes what doesn't hold."""
        if not holds:
            self.findings.append(Finding(family, what))

    @contextmanager
    def reading(self, family: str, what: str) -> Iterator[None]:
        """What can't be read as expected is a finding, too."""
        try:
            yield
        except ODD as odd:
            self.findings.append(Finding(family, f"{what}: {type(odd).__name__} {odd}"))

    def read(self, path: Path) -> bytes:
        """A file of the folder: no link, and not too large."""
        for place in (path, *path.parents):
            if place == self.folder:
                break
            if place.is_symlink():
                raise ValueError(f"{place} is a link")
        if path.stat().st_size > LARGEST:
            raise ValueError(f"{path} is too large")
        return path.read_bytes()

    def load(self) -> None:
        """What the folder has; each file's own form, chain and signature."""
        manifest = json.loads(self.read(self.folder / "manifest.json"))
        self.name, self.job, self.config = manifest["run"], manifest["job"], manifest["config"]
        self.digest = manifest["job_sha256"]
        self.need("job", sha256(canonical(self.job)) == self.digest, "the job isn't of its name")
        path = self.folder / "summary.json"
        self.summary: Entry = json.loads(self.read(path)) if path.exists() else {}
        lines = self.read(self.folder / "metrics.jsonl").splitlines()
        self.metrics: list[Entry] = [json.loads(line) for line in lines]
        self.rosters: dict[str, Entry] = {}
        for path in sorted(self.folder.glob("rosters/*.json")):
            roster = json.loads(self.read(path))
            body, name = canonical(roster | {"signature": "0" * 128}), sha256(canonical(roster))
            by_all = signed(roster["consortium"], roster["format"], body, roster["signature"])
            by_all = by_all and roster["format"] == "fedmodel.roster/2"
            self.need("roster", by_all and path.stem == name, f"{path.name} isn't its consortium's")
            self.rosters[name] = roster
        self.roster = max(self.rosters.values(), key=lambda roster: int(roster["version"]))
        self.keys = {member["name"]: member["key"] for member in self.roster["members"]}
        self.books = {
            path.stem: self.book(path) for path in sorted(self.folder.glob("ledger/*.jsonl"))
        }
        path = self.folder / "coordinator.jsonl"
        self.own = self.book(path) if path.exists() else None
        noised = self.job["privacy"]["evaluation"] == "noised"
        self.evaluates = noised and self.job["federation"]["test"] == "held-out"
        self.private = self.job["privacy"]["mechanism"] != "none"
        self.sums = self.job["secagg"]["sums"]
        missing = len(self.books) < len(self.keys)
        self.whole = bool(self.books) and not ("home" in self.config and missing)

    def book(self, path: Path) -> Book:
        """A ledger: canonical lines of known schemas, numbered and chained."""
        book, before, newest = Book(self.read(path)), "0" * 64, 0
        fields, name = (
            (SITE, "ledger") if path.parent.name == "ledger" else (COORDINATOR, "coordinator")
        )
        for seq, (line, entry) in enumerate(zip(book.lines, book.entries, strict=True)):
            where, schema = f"{path.name} line {seq + 1}", entry["schema"]
            number = int(schema.removeprefix(f"fedmodel.{name}/"))
            known = number in ((2, 3, 4) if name == "ledger" else (1, 2)) and number >= newest
            kind = "give-back" if number == 2 and entry["type"] == "release" else entry["type"]
            more = SINCE_4.get(kind, "") if name == "ledger" and number == 4 else ""
            kinds = dict(item.split(":") for item in f"{EVERY} {fields[kind]}{more}".split())
            if name == "ledger" and kind == "spend" and number > 2:
                kinds["mechanism"] = "o"
            right = kinds.keys() == entry.keys() and all(
                is_of(entry[k], v) for k, v in kinds.items()
            )
            self.need("schema", known and right and line == canonical(entry), f"{where}: its form")
            linked = entry["seq"] == seq and entry["prev"] == before
            self.need("chain", linked, f"{where}: its number, or what it names as before it")
            before, newest = sha256(line), number
        first = book.entries[0]
        mine = first["ledger"].split("/", 1)
        rest = first["dataset"] if name == "ledger" else self.name
        owner = self.keys.get(path.stem) if name == "ledger" else self.roster["coordinator"]
        named = (
            mine == [fingerprint(first["key"]), rest] and first.get("site", path.stem) == path.stem
        )
        self.need("signatures", named, f"{path.name} isn't named for its key and its owner")
        self.need("roster", first["key"] == owner, f"{path.name}: its key isn't on the roster")
        kinds_once = Counter(entry["type"] for entry in book.entries)
        begun = first["type"] in ("open", "run") and kinds_once[first["type"]] == 1
        self.need("chain", begun, f"{path.name} has not one beginning")
        return book

    def heads(self) -> None:
        """Tree heads: their form, signature, owner and ledger; and no two that differ."""
        found: list[tuple[str, Entry]] = []
        path = self.folder / "heads.json"
        if path.exists():
            data = self.read(path)
            listed = json.loads(data)
            exact = json.dumps(listed, indent=1).encode() + b"\n" == data
            self.need(
                "schema", exact and listed["schema"] == "fedmodel.heads/1", "heads.json: form"
            )
            found += [("heads.json", head) for head in listed["heads"]]
            self.told_heads = listed["heads"]
        else:
            self.told_heads = []
            paid = self.private and any(line["updates"] for line in self.metrics)
            self.need("schema", not paid, "heads.json is missing")
        for path in [
            *self.folder.glob("sites/*/heads/*.json"),
            *self.folder.glob("sites/*/runs/*/coordinator-head.json"),
            self.folder / "coordinator-head.json",
        ]:
            if path.exists():
                data = self.read(path)
                found.append((str(path.relative_to(self.folder)), json.loads(data)))
                self.need(
                    "schema", canonical(found[-1][1]) + b"\n" == data, f"{path.name}: its form"
                )
        books = {book.entries[0]["ledger"]: book for book in self.books.values()}
        if self.own:
            books[self.own.entries[0]["ledger"]] = self.own
        seen: dict[tuple[str, int], tuple[str, str]] = {}
        for where, head in found:
            with self.reading("tree heads", where):
                message = canonical({k: v for k, v in head.items() if k != "signature"})
                by_key = signed(head["key"], "fedmodel.head/1", message, head["signature"])
                named = head["ledger"].split("/")[0] == fingerprint(head["key"])
                self.need("signatures", by_key and named, f"{where}: a head isn't its key's")
                self.need("schema", head["schema"] == "fedmodel.head/1", f"{where}: its schema")
                coordinator = where.split("/")[-1] == "coordinator-head.json"
                what = (head["root"], head["last"])
                same = seen.setdefault((head["ledger"], head["size"]), what) == what
                self.need("tree heads", same, f"{where}: equivocation at {head['size']} entries")
                book = books.get(head["ledger"])
                if book is None:
                    self.need("tree heads", not (self.whole or coordinator), f"{where}: no ledger")
                    continue
                last = sha256(book.lines[head["size"] - 1])
                extends = what == (book.root(head["size"]), last)
                self.need("tree heads", extends, f"{where}: not what the ledger begins with")
