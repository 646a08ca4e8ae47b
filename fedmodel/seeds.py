"""Two sources of randomness that don't mix.

``Seed`` is reproducible: simulation (which rows go where, order of batches) and initialisation.
``Entropy`` comes from the operating system: real noise, private sampling and keys. A function that
protects somebody takes an ``Entropy``, so a seeded generator can't be passed to it by mistake.
"""

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = ["Entropy", "Seed"]


@dataclass(frozen=True, slots=True)
class Seed:
    """A node in a tree of reproducible seeds.

    Children are derived by hashing the path, so that adding one never shifts another.

    >>> Seed(1).child("site", "a") == Seed(1).child("site", "a")
    True
    >>> Seed(1).child("site", "a") == Seed(1).child("site", "b")
    False
    """

    value: int

    def child(self, *path: str | int) -> "Seed":
        """Return the seed at ``path`` below this one."""
        text = "\x1f".join(f"{type(p).__name__}:{p}" for p in (self.value, *path))
        return Seed(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1)

    def numpy(self) -> "np.random.Generator":
        """Return a numpy generator for this node."""
        import numpy as np

        return np.random.default_rng(self.value)

    def torch(self) -> "torch.Generator":
        """Return a torch CPU generator for this node."""
        import torch

        return torch.Generator().manual_seed(self.value)


class Entropy:
    """Bytes from the operating system's cryptographically secure generator."""

    __slots__ = ()

    def bytes(self, count: int) -> bytes:
        """Return ``count`` fresh bytes (``getrandom`` on Linux)."""
        return os.urandom(count)
