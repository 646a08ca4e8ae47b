"""Files of tree heads that somebody keeps of others' ledgers: a coordinator's memory."""

import json
from collections.abc import Mapping
from pathlib import Path

from fedmodel import _files
from fedmodel.errors import ProtocolError, RunFolderError
from fedmodel.ledger.tree_head import TreeHead

__all__ = ["heads_text", "merge_heads", "read_heads"]

_SCHEMA = "fedmodel.heads/1"


def read_heads(path: Path) -> dict[str, TreeHead]:
    """Return the verified heads in a file, by the ledger's name; none where there is no file.

    Raises:
        RunFolderError: if it can't be read, or a head in it isn't valid.
    """
    try:
        kept = json.loads(_files.read(path))
        if kept["schema"] != _SCHEMA:
            raise ValueError(f"schema {kept['schema']!r:.80}")
        heads = [TreeHead.from_json(json.dumps(each)) for each in kept["heads"]]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, ProtocolError) as error:
        raise RunFolderError(
            f"{path} can't be read ({error}); restore it from a copy. It is what would tell that a "
            "site's ledger was rolled back"
        ) from error
    return {head.ledger: head for head in heads}


def merge_heads(into: dict[str, TreeHead], others: Mapping[str, TreeHead]) -> None:
    """Take over those heads that are new, or of more entries than what is there."""
    for name, head in others.items():
        if name not in into or into[name].size < head.size:
            into[name] = head


def heads_text(heads: Mapping[str, TreeHead]) -> bytes:
    """Return the content of a file of heads."""
    texts = [json.loads(heads[name].to_json()) for name in sorted(heads)]
    return (json.dumps({"schema": _SCHEMA, "heads": texts}, indent=1) + "\n").encode()
