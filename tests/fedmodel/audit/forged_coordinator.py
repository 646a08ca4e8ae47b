"""The coordinator's part of a run folder under the test's own keys: its ledger and its head."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedmodel import _hazmat, config
from fedmodel.identity.keys import SigningKey
from fedmodel.ledger import merkle
from fedmodel.ledger.tree_head import TreeHead
from fedmodel.secagg.manifest import Manifest, digest
from fedmodel.secagg.messages import Survivors

__all__ = ["ForgedCoordinator", "coordinators_head", "key_of", "signed_sums"]

Entries = list[dict[str, Any]]
Change = Callable[[dict[str, Any]], None]


def key_of(party: str) -> SigningKey:
    """Return a party's key: the same whenever it is asked for."""
    return SigningKey(hashlib.sha256(party.encode()).digest())


class ForgedCoordinator:
    """The coordinator of a run folder, by the test's own key.

    Args:
        path: of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path / "coordinator.jsonl"
        self.head_path = path / "coordinator-head.json"

    def entries(self) -> Entries:
        return [json.loads(line) for line in self.path.read_bytes().splitlines()]

    def write(self, entries: Sequence[Mapping[str, Any]], *, key: SigningKey | None = None) -> None:
        """Write the ledger: numbered, chained and signed as the coordinator would."""
        key = key or key_of("coordinator")
        lines, last = [], "0" * 64
        for number, entry in enumerate(entries):
            entry = {**entry, "seq": number, "prev": last}
            if entry["type"] == "run":
                name = f"{_hazmat.fingerprint(key.public)}/{entry['run']}"
                entry |= {"key": key.public.hex(), "ledger": name}
            lines.append(config.canonical(entry))
            last = hashlib.sha256(lines[-1]).hexdigest()
        self.path.write_bytes(b"".join(line + b"\n" for line in lines))
        head = coordinators_head(lines, key)
        self.head_path.write_bytes(head.to_json() + b"\n")

    def change(
        self, which: Callable[[dict[str, Any]], bool], how: Change, *, sums: bool = False
    ) -> None:
        """Change some entries, which the coordinator has signed again.

        Args:
            which: entries.
            how: they are changed.
            sums: whether manifests and consents are signed anew for what they say then.
        """
        entries = self.entries()
        found = [entry for entry in entries if which(entry)]
        assert found
        for entry in found:
            how(entry)
        self.write(signed_sums(entries) if sums else entries)

    def drop(self, which: Callable[[dict[str, Any]], bool]) -> None:
        """Leave entries out, of a ledger that the coordinator has signed again."""
        entries = self.entries()
        kept = [entry for entry in entries if not which(entry)]
        assert len(kept) < len(entries)
        self.write(kept)

    def retell(self, site: str, before: Entries, lines: Sequence[bytes]) -> None:
        """Let the coordinator have been told of another ledger of a site's, wherever it was told.

        Args:
            site: whose.
            before: the entries of the ledger that it tells of.
            lines: of the other; an entry of before has its nonce there, too, if it is there.
        """
        entries, number = self.entries(), 0
        places = {json.loads(line)["nonce"]: at for at, line in enumerate(lines, start=1)}
        leaves = [merkle.leaf_hash(line) for line in lines]
        for entry in entries:
            if entry["type"] == "start":
                number = next((int(n) for n, name in entry["members"].items() if name == site), 0)
            for given in (*entry.get("given", ()), *entry.get("told", ())):
                if given["member"] == number and given["entries"]:
                    had = [each["nonce"] for each in before[: given["entries"]]]
                    given["entries"] = max(places.get(nonce, 0) for nonce in had)
                    given["root"] = merkle.root_of(leaves[: given["entries"]]).hex()
        self.write(entries)

    def sign_all(self, roster: str) -> None:
        """Sign everything anew, for a roster of another SHA-256."""
        entries = self.entries()
        for entry in entries:
            if entry["type"] == "start":
                entry["roster"] = roster
            elif entry["type"] == "attempt":
                entry["manifest"]["roster"] = roster
        self.write(signed_sums(entries))


def signed_sums(entries: Entries) -> Entries:
    """Return entries whose manifests and consents are signed for what they say."""
    names: dict[str, str] = {}
    named = ""
    for entry in entries:
        if entry["type"] == "start":
            names = entry["members"]
        elif entry["type"] == "attempt":
            manifest = config.build(Manifest, entry["manifest"])
            signature = key_of("coordinator").sign(manifest.signed()).hex()
            entry["manifest"]["signature"] = signature
            entry["digest"] = named = digest(replace(manifest, signature=signature)).hex()
        elif entry["type"] == "unmask":
            entry["digest"] = named
            told = Survivors(
                manifest=named,
                takers=tuple(entry["takers"]),
                survivors=tuple(entry["survivors"]),
            )
            entry["consents"] = {
                n: key_of(names[n]).sign(told.signed()).hex() for n in entry["consents"]
            }
    return entries


def coordinators_head(lines: Sequence[bytes], key: SigningKey) -> TreeHead:
    """Return the signed head of a coordinator's ledger of such lines."""
    run = json.loads(lines[0])["run"]
    head = TreeHead(
        ledger=f"{_hazmat.fingerprint(key.public)}/{run}",
        key=key.public.hex(),
        size=len(lines),
        root=merkle.root_of([merkle.leaf_hash(line) for line in lines]).hex(),
        last=hashlib.sha256(lines[-1]).hexdigest(),
        time="2026-11-30T12:00:00Z",
    )
    return head.signed(key)
