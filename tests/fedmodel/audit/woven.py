"""Ledgers that name one another's states, chained anew together.

The coordinator's ledger has the Merkle roots of sites' ledgers as they were, and theirs have those
of its own. Each refers only to what came before it, so one pass over the coordinator's entries
settles all: before one of them is written, as much of each site's as it names.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from fedmodel import _hazmat, config
from fedmodel.identity.keys import SigningKey
from fedmodel.ledger import merkle

__all__ = ["AS_TOLD", "Entries", "chained", "recounted", "woven"]

Entries = list[dict[str, Any]]

AS_TOLD = "told "
"""Goes before a root that is to stay as it is: somebody has told another one."""


class _Chain:
    """Lines of one ledger as far as they are written."""

    def __init__(self, entries: Sequence[Mapping[str, Any]], key: SigningKey, about: str) -> None:
        self._entries = entries
        self._key = key
        self._about = about
        self._tree = merkle.Tree()
        self._places: dict[int, int] = {}  # where each entry stood → where it stands
        for number, entry in enumerate(entries):
            self._places.setdefault(entry["seq"], number)
        self.lines: list[bytes] = []
        self.most = len(entries)

    def root(self, size: int) -> str:
        return self._tree.root(size).hex()

    def next(self, **others: Any) -> None:
        """Write the next line, some of its fields set anew."""
        number = len(self.lines)
        last = hashlib.sha256(self.lines[-1]).hexdigest() if self.lines else "0" * 64
        entry = {**self._entries[number], **others, "seq": number, "prev": last}
        if "of" in entry:
            entry["of"] = self._places.get(entry["of"], entry["of"])
        if entry["type"] in ("open", "run"):
            name = f"{_hazmat.fingerprint(self._key.public)}/{self._about or entry['run']}"
            entry |= {"key": self._key.public.hex(), "ledger": name}
        self.lines.append(config.canonical(entry))
        self._tree.append(merkle.leaf_hash(self.lines[-1]))

    def up_to(self, size: int, other: "_Chain | None" = None) -> None:
        """Write lines until there are so many, as far as there are entries."""
        while len(self.lines) < size:
            entry, shown = self._entries[len(self.lines)], {}
            seen = entry.get("coordinator_entries", 0)
            if (root := entry.get("coordinator_root", "")).startswith(AS_TOLD):
                shown = {"coordinator_root": root.removeprefix(AS_TOLD)}
            elif other is not None and 0 < seen <= len(other.lines):
                shown = {"coordinator_root": other.root(seen)}
            self.next(**shown)


def chained(
    entries: Sequence[Mapping[str, Any]], key: SigningKey, about: str = "main"
) -> list[bytes]:
    """Return the lines of one ledger by itself: numbered and chained."""
    made = _Chain(entries, key, about)
    made.up_to(len(entries))
    return made.lines


def woven(
    coordinator: Entries, sites: Mapping[str, Entries], keys: Mapping[str, SigningKey]
) -> dict[str, list[bytes]]:
    """Return the lines of all ledgers: by site, and the coordinator's by the empty name.

    Args:
        coordinator: its entries; which are not of a site in ``sites`` stays as it is.
        sites: entries of each site's.
        keys: whose each is, likewise.
    """
    own = _Chain(coordinator, keys[""], "")
    chains = {site: _Chain(entries, keys[site], "main") for site, entries in sites.items()}
    names: dict[int, str] = {}
    for entry in coordinator:
        if entry["type"] == "start":
            names = {int(number): name for number, name in entry["members"].items()}
        told = {name: entry[name] for name in ("given", "told") if name in entry}
        for some in told.values():
            for given in some:
                chain = chains.get(names.get(given["member"], ""))
                if given["root"].startswith(AS_TOLD):
                    given["root"] = given["root"].removeprefix(AS_TOLD)
                elif chain is not None and 0 < given["entries"] <= chain.most:
                    chain.up_to(given["entries"], own)
                    given["root"] = chain.root(given["entries"])
        own.next(**told)
    for site, chain in chains.items():
        chain.up_to(len(sites[site]), own)
    return {"": own.lines, **{site: chain.lines for site, chain in chains.items()}}


def recounted(size: int, before: Entries, after: Sequence[Mapping[str, Any]]) -> int:
    """Return how many entries a ledger has up to the last of its first ones of before.

    Args:
        size: how many those were.
        before: its entries then; each is known by its nonce.
        after: its entries now.
    """
    had = {entry["nonce"] for entry in before[:size]}
    return max((at for at, entry in enumerate(after, start=1) if entry["nonce"] in had), default=0)
