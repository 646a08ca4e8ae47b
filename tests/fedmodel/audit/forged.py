"""Run folders whose keys the test has: what it changes can be chained and signed again.

A golden folder has no secrets. So its sites get other keys, and everything that these have signed
is signed anew: a folder as honest as the first one, and then whatever the test makes of it.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedmodel import _hazmat, config
from fedmodel.identity.keys import SigningKey
from fedmodel.identity.signed_roster import SignedRoster
from fedmodel.ledger import merkle
from fedmodel.ledger.kept_heads import heads_text
from fedmodel.ledger.tree_head import TreeHead
from fedmodel.runs.files import to_json
from tests.fedmodel.audit.forged_coordinator import ForgedCoordinator, key_of
from tests.fedmodel.audit.woven import Entries, chained, woven

__all__ = ["GOLDEN", "OLD", "Forged", "key_of"]

VECTORS = Path(__file__).parents[2] / "vectors"
GOLDEN = VECTORS / "verify_v2"
OLD = VECTORS / "verify_v1"  # from before coordinators kept a ledger of their own

Change = Callable[[dict[str, Any]], None]


class Forged:
    """A run folder under the test's own keys.

    Args:
        kind: of a golden run.
        folder: to make it in.
        golden: where the golden runs are.
    """

    def __init__(self, kind: str, folder: Path, golden: Path = GOLDEN) -> None:
        self.golden = golden
        self.path = Path(shutil.copytree(golden / kind, folder))
        self._keys: dict[str, SigningKey] = {}
        self.coordinator = ForgedCoordinator(self.path, self)
        self.sites = sorted(path.stem for path in self.path.glob("ledger/*.jsonl"))
        self._sign_roster()
        if not self.coordinator.path.exists():
            for site in self.sites:
                self.write(site, self.entries(site))
            return
        told, named = self.coordinator.signed_anew(self.roster.stem)
        sites = {site: self.entries(site) for site in self.sites}
        for entry in (entry for entries in sites.values() for entry in entries):
            if entry.get("manifest"):
                entry["manifest"] = named[entry["manifest"]]
        self.weave(told, sites)

    # -- ledgers and tree heads ------------------------------------------------------------------

    def ledger(self, site: str = "site-1") -> Path:
        return self.path / "ledger" / f"{site}.jsonl"

    @property
    def here(self) -> list[str]:
        """The sites whose ledgers are here."""
        return [site for site in self.sites if self.ledger(site).exists()]

    def own_head(self, site: str = "site-1") -> Path:
        return self.path / "sites" / site / "heads" / "main.json"

    def entries(self, site: str = "site-1") -> Entries:
        return [json.loads(line) for line in self.ledger(site).read_bytes().splitlines()]

    def write(
        self,
        site: str,
        entries: Sequence[Mapping[str, Any]],
        *,
        key: SigningKey | None = None,
        own: bool = True,
        coordinator: bool = True,
    ) -> None:
        """Write a ledger: numbered, chained and signed as its site would, as far as is wanted."""
        self._keys[site] = key = key or self._keys.get(site, key_of(site))
        if coordinator and self.coordinator.path.exists():
            before, told = self.entries(site), self.coordinator.entries()
            self.coordinator.recount(told, site, before, entries)
            self.weave(told, {site: [dict(entry) for entry in entries]}, () if own else (site,))
            return
        self._put(site, chained(entries, key), own=own, coordinator=coordinator)

    def weave(
        self, told: Entries, changed: Mapping[str, Entries], not_own: Collection[str] = ()
    ) -> None:
        """Write the coordinator's ledger, and all that name one another's states.

        Args:
            told: the coordinator's entries.
            changed: those of sites.
            not_own: whose own tree heads stay as they are.
        """
        here = self.here
        sites = {site: changed.get(site) or self.entries(site) for site in here}
        keys = {site: self._keys.get(site, key_of(site)) for site in here}
        lines = woven(told, sites, {"": self.coordinator.key, **keys})
        self.coordinator.put(lines[""])
        for site in here:
            if b"".join(line + b"\n" for line in lines[site]) != self.ledger(site).read_bytes():
                self._put(site, lines[site], own=site not in not_own)

    def _put(
        self, site: str, lines: Sequence[bytes], *, own: bool = True, coordinator: bool = True
    ) -> None:
        key = self._keys.get(site, key_of(site))
        self.ledger(site).write_bytes(b"".join(line + b"\n" for line in lines))
        head = head_of(lines, key)
        if own and self.own_head(site).exists():
            self.own_head(site).write_bytes(head.to_json() + b"\n")
        if coordinator:
            self.set_head(site, head)
            self._tell(site, head)

    def change(self, site: str, which: Callable[[dict[str, Any]], bool], how: Change) -> None:
        """Change some entries of a ledger, whose site has signed it again."""
        entries = self.entries(site)
        found = [entry for entry in entries if which(entry)]
        assert found
        for entry in found:
            how(entry)
        self.write(site, entries)

    def drop(self, site: str, which: Callable[[dict[str, Any]], bool]) -> None:
        """Leave entries out, and what came of them, of a ledger that its site has signed again."""
        entries = self.entries(site)
        gone = {entry["seq"] for entry in entries if which(entry)}
        kept = [e for e in entries if e["seq"] not in gone and e.get("of") not in gone]
        assert len(kept) < len(entries)
        self.write(site, kept)

    def head(self, site: str = "site-1") -> TreeHead:
        """Return a site's head at the coordinator."""
        key = key_of(site).public.hex()
        (found,) = (head for head in self.heads() if head.key == key)
        return found

    def heads(self) -> list[TreeHead]:
        kept = json.loads((self.path / "heads.json").read_bytes())["heads"]
        return [config.build(TreeHead, each) for each in kept]

    def write_heads(self, heads: Sequence[TreeHead]) -> None:
        named = {f"{number:03}": head for number, head in enumerate(heads)}
        (self.path / "heads.json").write_bytes(heads_text(named))

    def set_head(self, site: str, head: TreeHead) -> None:
        """Let the coordinator have another head of a site's ledger, in the place of its last."""
        golden = self.golden / self._kind / "ledger" / f"{site}.jsonl"
        old = json.loads(golden.read_bytes().splitlines()[0])
        names = {old["ledger"], head.ledger, _name(key_of(site))}
        kept = [each for each in self.heads() if each.ledger not in names]
        self.write_heads(sorted([*kept, head], key=lambda each: each.ledger))

    def _tell(self, site: str, head: TreeHead) -> None:
        """Let the summary of a served run tell of a head, where it tells of some."""
        if not (self.path / "summary.json").exists():
            return
        summary = json.loads((self.path / "summary.json").read_bytes())
        told = summary["privacy"]["sites"].get(site, {})
        if "ledger" in told:
            told["ledger"] = {"entries": head.size, "root": head.root, "time": head.time}
            (self.path / "summary.json").write_bytes(to_json(summary))

    @property
    def run(self) -> str:
        """The run's name in ledgers."""
        return str(json.loads((self.path / "manifest.json").read_bytes())["run"])

    @property
    def _kind(self) -> str:
        return str(json.loads((self.path / "manifest.json").read_bytes())["config"]["run"])

    # -- other parts -----------------------------------------------------------------------------

    def edit(self, name: str, how: Change) -> None:
        """Change a part that is one JSON object."""
        mapping = json.loads((self.path / name).read_bytes())
        how(mapping)
        (self.path / name).write_bytes(to_json(mapping))

    def rows(self) -> Entries:
        return [
            json.loads(line) for line in (self.path / "metrics.jsonl").read_bytes().splitlines()
        ]

    def write_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        (self.path / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))

    @property
    def roster(self) -> Path:
        """The one roster that the run was played by."""
        (path,) = self.path.glob("rosters/*.json")
        return path

    def _sign_roster(self) -> None:
        path = self.roster
        roster = SignedRoster.from_json(path.read_bytes())
        path.unlink()
        members = tuple(replace(m, key=key_of(m.name).public.hex()) for m in roster.members)
        signer = key_of("consortium")
        changed = replace(
            roster,
            members=members,
            consortium=signer.public.hex(),
            coordinator=key_of("coordinator").public.hex(),
        ).signed(signer)
        (path.parent / f"{changed.sha256}.json").write_bytes(changed.to_json())


def _name(key: SigningKey) -> str:
    return f"{_hazmat.fingerprint(key.public)}/main"


def head_of(lines: Sequence[bytes], key: SigningKey) -> TreeHead:
    """Return the signed head of a ledger of such lines."""
    head = TreeHead(
        ledger=_name(key),
        key=key.public.hex(),
        size=len(lines),
        root=merkle.root_of([merkle.leaf_hash(line) for line in lines]).hex(),
        last=hashlib.sha256(lines[-1]).hexdigest() if lines else "0" * 64,
        time="2026-11-30T12:00:00Z",
    )
    return head.signed(key)
