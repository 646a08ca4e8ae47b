"""Where the apps and the configuration are: beside the package, or inside it in a wheel."""

import sys
from pathlib import Path

__all__ = ["app_root", "conf_dir", "use_apps"]


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
