"""The coordinator's part of a run folder under the test's own keys: its ledger and its head."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedmodel import _hazmat, config
from fedmodel.identity.keys import SigningKey
from fedmodel.ledger import merkle
from fedmodel.ledger.tree_head import TreeHead
from fedmodel.secagg.manifest import Manifest, digest
from fedmodel.secagg.messages import Survivors
from tests.fedmodel.audit.woven import Entries, recounted

if TYPE_CHECKING:
    from tests.fedmodel.audit.forged import Forged

__all__ = ["ForgedCoordinator", "coordinators_head", "key_of", "signed_sums"]

Change = Callable[[dict[str, Any]], None]


def key_of(party: str) -> SigningKey:
    """Return a party's key: the same whenever it is asked for."""
    return SigningKey(seed_of(party))


def seed_of(party: str) -> bytes:
    """Return the secret that a party's key is made of."""
    return hashlib.sha256(party.encode()).digest()


class ForgedCoordinator:
    """The coordinator of a run folder, by the test's own key.

    Args:
        path: of the folder.
        forged: all of it.
    """

    def __init__(self, path: Path, forged: "Forged") -> None:
        self._forged = forged
        self.key = key_of("coordinator")
        self.path = path / "coordinator.jsonl"
        self.head_path = path / "coordinator-head.json"
        self.shown = sorted(path.glob("sites/*/runs/*/coordinator-head.json"))

    def entries(self) -> Entries:
        return [json.loads(line) for line in self.path.read_bytes().splitlines()]

    def write(self, entries: Sequence[Mapping[str, Any]], *, key: SigningKey | None = None) -> None:
        """Write the ledger as the coordinator would; sites were shown it as it is then."""
        self.key = key or self.key
        before = self.entries()
        sites = {site: self._forged.entries(site) for site in self._forged.here}
        for entry in (entry for each in sites.values() for entry in each):
            if entry.get("coordinator_entries"):
                shown = recounted(entry["coordinator_entries"], before, entries)
                entry["coordinator_entries"] = shown
                entry["coordinator_root"] = entry["coordinator_root"] if shown else ""
        self._forged.weave([dict(entry) for entry in entries], sites)

    def put(self, lines: Sequence[bytes]) -> None:
        """Write lines, the tree head of them, and those that sites were shown last."""
        self.path.write_bytes(b"".join(line + b"\n" for line in lines))
        self.head_path.write_bytes(coordinators_head(lines, self.key).to_json() + b"\n")
        for path in self.shown:
            size = json.loads(path.read_bytes())["size"]
            self.show(path, lines[: min(size, len(lines))])

    def show(self, path: Path, lines: Sequence[bytes]) -> None:
        """Let a site keep the tree head of such lines.

        Args:
            path: where it is kept.
            lines: of a ledger of the coordinator's.
        """
        path.write_bytes(coordinators_head(lines, self.key).to_json() + b"\n")

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

    def recount(
        self, told: Entries, site: str, before: Entries, after: Sequence[Mapping[str, Any]]
    ) -> None:
        """Let the coordinator have been told of other entries of a site, wherever it was told.

        Args:
            told: the coordinator's entries.
            site: whose ledger it is.
            before: its entries that the coordinator was told of.
            after: its entries now.
        """
        number = 0
        for entry in told:
            if entry["type"] == "start":
                number = next((int(n) for n, name in entry["members"].items() if name == site), 0)
            for given in (*entry.get("given", ()), *entry.get("told", ())):
                if given["member"] == number and given["entries"]:
                    given["entries"] = recounted(given["entries"], before, after)

    def signed_anew(self, roster: str) -> tuple[Entries, dict[str, str]]:
        """Return the entries for a roster of another SHA-256, manifests and consents signed anew.

        Args:
            roster: its SHA-256.

        Returns:
            Entries, and of each manifest its SHA-256 before → after.
        """
        entries = self.entries()
        before = [entry["digest"] for entry in entries if entry["type"] == "attempt"]
        for entry in entries:
            if entry["type"] == "start":
                entry["roster"] = roster
            elif entry["type"] == "attempt":
                entry["manifest"]["roster"] = roster
        signed_sums(entries)
        after = [entry["digest"] for entry in entries if entry["type"] == "attempt"]
        return entries, dict(zip(before, after, strict=True))


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
