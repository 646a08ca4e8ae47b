"""Places of the apps and the configuration: beside the package, or inside it in a wheel."""

import functools
import hashlib
import sys
from pathlib import Path

__all__ = ["app_root", "conf_dir", "source_digest", "use_apps"]


def app_root() -> Path:
    """Return the folder that holds ``server``, ``clients``, ``simulations`` and ``conf``."""
    package = Path(__file__).resolve().parent
    inside = package / "_app"
    return inside if inside.is_dir() else package.parent


def conf_dir() -> Path:
    """Return the folder of the Hydra configuration."""
    return app_root() / "conf"


def use_apps() -> None:
    """Make the app folders importable by their own names, as Flower does with an app's folder."""
    root = str(app_root())
    if root not in sys.path:
        sys.path.insert(0, root)


@functools.cache
def source_digest() -> str:
    """Return the SHA-256 of this installation's ``fedmodel`` and ``clients`` sources.

    A site refuses a coordinator whose digest differs from its own: both must mean the same.
    """
    package = Path(__file__).resolve().parent
    named = [(p.relative_to(package), p) for p in package.rglob("*.py")]
    files = [(f"fedmodel/{r.as_posix()}", p) for r, p in named if r.parts[0] != "_app"]
    root = app_root()
    files += [(p.relative_to(root).as_posix(), p) for p in (root / "clients").rglob("*.py")]
    digest = hashlib.sha256()
    for name, path in sorted(files):
        content = path.read_bytes()
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()
