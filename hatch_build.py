"""Puts the apps and the configuration inside ``fedmodel/_app`` in a standard wheel.

The wheel's only top-level name is ``fedmodel``: a top-level ``server`` would silently overwrite
somebody else's. Editable installs import the folders from the checkout instead.
"""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class AppFolders(BuildHookInterface[Any]):
    """Adds ``server``, ``clients``, ``simulations`` and ``conf`` to a standard wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Hatchling calls this before it builds; ``version`` is ``standard`` or ``editable``."""
        if version != "standard":
            return
        for folder in ("server", "clients", "simulations", "conf"):
            for path in sorted((Path(self.root) / folder).rglob("*")):
                if path.suffix in {".py", ".yaml", ".typed"}:
                    inside = path.relative_to(self.root).as_posix()
                    build_data["force_include"][str(path)] = f"fedmodel/_app/{inside}"
