"""Statements of in-toto (v1): that somebody says something about files, each by its SHA-256."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedmodel import config

__all__ = ["digests_of", "statement_text"]

_STATEMENT = "https://in-toto.io/Statement/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Digest:
    sha256: str

    def __post_init__(self) -> None:
        config.require_hex("a part's sha256", self.sha256, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Subject:
    name: str
    digest: _Digest


def statement_text(predicate_type: str, predicate: Any, parts: Mapping[str, str]) -> bytes:
    """Return a statement in its one form: canonical JSON, files by name.

    Args:
        predicate_type: says what the predicate is: a name, not an address.
        predicate: what is said: a dataclass of plain values.
        parts: name → SHA-256 (hex) of each file that it is about.
    """
    return config.canonical(
        {
            "_type": _STATEMENT,
            "subject": [{"name": n, "digest": {"sha256": sha}} for n, sha in sorted(parts.items())],
            "predicateType": predicate_type,
            "predicate": config.to_mapping(predicate),
        }
    )


def digests_of(statement: Any) -> dict[str, str]:
    """Return the files that a statement is about: name → SHA-256 (hex).

    Args:
        statement: as plain data, of anybody.

    Raises:
        ConfigError: for a file without a name or a digest.
        KeyError: where it is no statement; likewise TypeError.
    """
    subjects = [config.build(_Subject, each, "subject") for each in statement["subject"]]
    return {each.name: each.digest.sha256 for each in subjects}
