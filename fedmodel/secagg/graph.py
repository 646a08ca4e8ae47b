"""Who masks with whom: everybody with everybody, or neighbours on a ring (Bell et al. 2020).

Up to :data:`COMPLETE` sites there is nothing to save, and the graph is complete. Above, the
cohort is put on a ring in the order of a hash, and each site's neighbours are the k/2 nearest on
each side (a Harary graph). ("Secure single-server aggregation with (poly)logarithmic overhead".)

**How many neighbours.** Of n sites C collude with the coordinator and D drop out; both are taken
not to depend on the order on the ring. B = min(C + D, n) are bad. k is the smallest even number
for which all of this holds, and the graph is complete where that is n - 1 or more.

- *The honest survivors hang together.* Between two of them that follow one another on the ring
  stand only bad ones; with fewer than m = k/2 of these the two are neighbours. That some m places
  in a row are all bad has, by a union over where they start, a probability of at most
  n · Π_{i<m} (B - i)/(n - i) ≤ n (B/n)^m ≤ 2**-40. Then only the sum over all honest survivors is
  exposed, not a part of it.
- *Colluders don't hold enough shares.* Of an honest site's k neighbours X are colluders, and X is
  hypergeometric: k drawn from n - 1, C of them marked. P(X ≥ t) ≤ 2**-40 / n.
- *Survivors hold enough shares.* A site that dropped out has lost its own share too; of its k
  neighbours Y dropped out as well. Y ≤ k - t but with probability P(Y > k - t) ≤ 2**-20 / n, with
  Y hypergeometric: k drawn from n - 1, D of them marked.

Among thresholds t that meet the last two the one nearest to the cohort's own, scaled to k + 1
holders, is taken.

**What isn't covered.** Dropouts above :data:`COMPLETE` sites that were *chosen* by somebody who
knows the order: a coordinator that declares all of a few honest sites' neighbours dropped cuts
them off, and learns the sum over these few. In a complete graph nothing can be cut off.
"""

import functools
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from fedmodel.errors import ConfigError

__all__ = ["COMPLETE", "Graph", "make_graph", "neighbours_needed"]

COMPLETE = 50  # sites
_PRIVACY = 2.0**-40
_CORRECTNESS = 2.0**-20


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Who masks with whom in a cohort. Make one with :func:`make_graph`.

    Args:
        cohort: roster numbers, ascending.
        degree: neighbours of each.
        threshold: shares, of those that a member and its neighbours hold, that make its secret.
        ring: the cohort in the order of the ring.
    """

    cohort: tuple[int, ...]
    degree: int
    threshold: int
    ring: tuple[int, ...] = field(repr=False)
    _place: dict[int, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        places = {member: place for place, member in enumerate(self.ring)}
        object.__setattr__(self, "_place", places)

    @property
    def complete(self) -> bool:
        """Whether all are neighbours of all."""
        return self.degree == len(self.cohort) - 1

    def neighbours(self, member: int) -> tuple[int, ...]:
        """Return the roster numbers that a member masks with, ascending.

        Raises:
            ConfigError: when it isn't in the cohort.
        """
        return tuple(x for x in self.holders(member) if x != member)

    def holders(self, member: int) -> tuple[int, ...]:
        """Return who holds shares of a member's secrets: its neighbours and itself, ascending.

        Raises:
            ConfigError: when it isn't in the cohort.
        """
        if member not in self._place:
            raise ConfigError(f"site {member} isn't in this cohort of {len(self.cohort)} sites")
        if self.complete:
            return self.cohort
        place, side, count = self._place[member], self.degree // 2, len(self.ring)
        return tuple(sorted(self.ring[p % count] for p in range(place - side, place + side + 1)))


def make_graph(
    cohort: Sequence[int], *, survivors: int, colluders: int, threshold: int, seed: bytes
) -> Graph:
    """Return who masks with whom. Equal arguments give the same graph, at every party.

    Args:
        cohort: distinct roster numbers.
        survivors: members that are left at the end, at least.
        colluders: members that work together with the coordinator, at most.
        threshold: shares of the whole cohort that make a secret.
        seed: of the order on the ring; public, but not known before the colluders are.

    Raises:
        ConfigError: when these numbers don't go together, or leave no safe local threshold.
    """
    return _make_graph(tuple(sorted(cohort)), survivors, colluders, threshold, seed)


@functools.lru_cache(maxsize=64)
def _make_graph(
    cohort: tuple[int, ...], survivors: int, colluders: int, threshold: int, seed: bytes
) -> Graph:
    sites = len(cohort)
    if len(set(cohort)) != sites or sites < 1:
        raise ConfigError(f"a cohort must be distinct sites, and at least one, got {sites}")
    if not 0 <= colluders < threshold <= survivors <= sites:
        raise ConfigError(
            "a cohort needs 0 <= secagg.colluders < secagg.threshold <= secagg.survivors <= sites, "
            f"got {colluders}, {threshold}, {survivors} and {sites} sites"
        )
    plan = _plan(sites, colluders, sites - survivors)
    if plan is None:
        return Graph(cohort=cohort, degree=sites - 1, threshold=threshold, ring=cohort)
    degree, least, most = plan
    local = min(max(math.ceil(threshold * (degree + 1) / sites), least), most)
    ring = sorted(cohort, key=lambda x: (hashlib.sha256(seed + x.to_bytes(8)).digest(), x))
    return Graph(cohort=cohort, degree=degree, threshold=local, ring=tuple(ring))


def neighbours_needed(sites: int, corrupt: float, dropout: float) -> int:
    """Return how many neighbours each site of a cohort needs; see the module's bounds.

    >>> neighbours_needed(1000, 0.1, 0.1)
    46

    Args:
        sites: in the cohort.
        corrupt: fraction of them that may collude with the coordinator.
        dropout: fraction of them that may drop out.

    Returns:
        An even number, or ``sites - 1``: all others.

    Raises:
        ConfigError: for fractions outside [0, 1].
    """
    if not (0 <= corrupt <= 1 and 0 <= dropout <= 1):
        raise ConfigError(f"fractions must be in [0, 1], got {corrupt} and {dropout}")
    whole = (math.ceil(sites * corrupt - 1e-9), math.ceil(sites * dropout - 1e-9))
    plan = _plan(sites, *whole)
    return sites - 1 if plan is None else plan[0]


@functools.lru_cache(maxsize=1024)
def _plan(sites: int, colluders: int, dropped: int) -> tuple[int, int, int] | None:
    """Return k, and the least and the greatest local threshold; ``None``: a complete graph."""
    if sites <= COMPLETE:
        return None
    bad = min(colluders + dropped, sites)
    row = float(sites)  # bounds the probability that some k/2 in a row are bad
    for side in range(1, (sites - 1) // 2):
        row *= bad / sites
        if row > _PRIVACY:
            continue
        degree = 2 * side
        least = _beyond(sites - 1, colluders, degree, _PRIVACY / sites)
        most = degree + 1 - _beyond(sites - 1, dropped, degree, _CORRECTNESS / sites)
        if least <= most:
            return degree, least, most
    return None


def _beyond(total: int, marked: int, drawn: int, chance: float) -> int:
    """Return the smallest t ≥ 1 that marked ones among the drawn reach with at most this chance."""
    tail = 0.0
    for hits in range(min(marked, drawn), 0, -1):
        # Log of C(marked, hits) C(total - marked, drawn - hits) / C(total, drawn).
        if drawn - hits <= total - marked:
            tail += math.exp(
                _choose(marked, hits)
                + _choose(total - marked, drawn - hits)
                - _choose(total, drawn)
            )
        if tail > chance:
            return hits + 1
    return 1


def _choose(total: int, drawn: int) -> float:
    return math.lgamma(total + 1) - math.lgamma(drawn + 1) - math.lgamma(total - drawn + 1)
