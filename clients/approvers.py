"""Approvers of a site: the people who may decide on its runs, and how many must agree.

The site's policy names them; the site keeps a copy beside the offers, for the desk to show who has
approved and who is missing. Whoever changes the copy changes what is shown, and no run is let in by
it: the site goes by its policy.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from fedmodel import _files, config
from fedmodel.errors import ConfigError, RunFolderError
from fedmodel.identity.names import require_name

__all__ = ["Approver", "People", "kept_people"]

_KEY = re.compile(r"[0-9a-f]{64}")
_FILE = "approvers.json"
_LARGEST = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Approver:
    """Somebody who may decide.

    Args:
        name: for people.
        key: public Ed25519 key, 32 bytes.
    """

    name: str
    key: bytes

    @classmethod
    def of(cls, text: str) -> "Approver":
        """Return whom a policy means by a name and 64 hex digits, as ``site key`` prints them.

        Raises:
            ConfigError: for anything else.
        """
        name, _, key = text.rpartition(" ")
        if not _KEY.fullmatch(key):
            raise ConfigError(
                "an approver is a name and the 64 hex digits of a public key, as fedmodel site key "
                f"prints them, got {text!r:.120}"
            )
        require_name("an approver's name", name)
        return cls(name=name, key=bytes.fromhex(key))


# No slots: the names are read once.
@dataclass(frozen=True, kw_only=True)
class People:
    """Who may decide on a site's runs.

    Args:
        schema: of the copy that a site keeps.
        approvers: name and public key of each; none: whoever has the site's own key.
        needed: how many must have approved a run.

    Raises:
        ConfigError: for somebody named twice, or when more are needed than there are.
    """

    schema: Literal["fedmodel.approvers/1"] = "fedmodel.approvers/1"
    approvers: tuple[str, ...] = ()
    needed: int = 1

    def __post_init__(self) -> None:
        if len({each.key for each in self.all}) < len(self.all):
            raise ConfigError("two approvers have the same key, and nobody counts twice; name one")
        if len({each.name for each in self.all}) < len(self.all):
            raise ConfigError("two approvers have the same name; tell them apart")
        if not 1 <= self.needed <= max(1, len(self.all)):
            raise ConfigError(
                f"{self.needed} approvals are needed, of {max(1, len(self.all))} who may give one; "
                "expected 1 or more, and no more than there are"
            )

    @cached_property
    def all(self) -> tuple[Approver, ...]:
        """Each of them."""
        return tuple(map(Approver.of, self.approvers))

    def name_of(self, key: str) -> str | None:
        """Return whose public key (hex) it is; ``None`` for nobody's."""
        return next((each.name for each in self.all if each.key.hex() == key), None)

    def standing(self, keys: Collection[str]) -> tuple[list[str], list[str], int]:
        """Return who has approved, who hasn't, and how many of these are still needed.

        Args:
            keys: public keys (hex) whose approval holds.
        """
        have = [each.name for each in self.all if each.key.hex() in keys]
        others = [each.name for each in self.all if each.key.hex() not in keys]
        return have, others, max(0, self.needed - len(keys))

    def keep(self, state: Path) -> None:
        """Keep a copy in a site's state, for its desk.

        Raises:
            RunFolderError: when it can't be written.
        """
        path = state / _FILE
        if self == People() and not path.exists():
            return
        try:
            text = config.canonical(self) + b"\n"
            if not path.exists() or _files.read(path, _LARGEST) != text:
                _files.make_folder(state)
                _files.write_atomic(path, text, mode=0o600)
        except OSError as error:
            raise RunFolderError(f"can't write {path}: {error.strerror}") from error


def kept_people(state: Path) -> People:
    """Return who may decide at a site, by the copy in its state.

    Raises:
        RunFolderError: when it can't be read.
    """
    path = state / _FILE
    try:
        text = _files.read(path, _LARGEST).removesuffix(b"\n")
        return config.parse(lambda plain: config.build(People, plain), text)
    except FileNotFoundError:
        return People()
    except (OSError, ConfigError) as error:
        raise RunFolderError(
            f"{path} can't be read as who may decide ({error}); remove it, and the site writes it "
            "anew when the next job is offered"
        ) from error
