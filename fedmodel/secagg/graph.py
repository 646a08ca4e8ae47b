"""Graphs of who masks with whom: everybody, or neighbours on a ring (Bell et al. 2020).

Up to :data:`COMPLETE` sites there is nothing to save, and the graph is complete. Above, the
cohort is put on a ring in the order of a hash, and each site's neighbours are the k/2 nearest on
each side (a Harary graph). ("Secure single-server aggregation with (poly)logarithmic overhead".)

**How many neighbours.** Of n sites C collude with the coordinator and D drop out. k is the
smallest even number for which all of this holds, with m = k/2, and the graph is complete where
that is n - 1 or more. A hypergeometric X(drawn, marked) counts the marked among the drawn.

- *The honest survivors hang together*, whoever the coordinator declares dropped, and wherever the
  colluders stand: where more than C of any m places in a row survive, one of them is honest, and
  of the honest survivors that follow one another on the ring each two are neighbours. Every site
  checks that of the survivors it is told of (:meth:`Graph.check_survivors`): only the sum over
  all honest survivors is exposed, not a part of it.
- *Dropouts by chance pass that check*: P(X(m, D) ≥ m - C) ≤ 2**-20 / n.
- *Colluders don't hold enough shares*: t > C.
- *Survivors hold enough shares.* A site that dropped out has lost its own share too:
  P(X(k, D) > k - t) ≤ 2**-20 / n.

Among thresholds t that meet the last two the one nearest to the cohort's own, scaled to k + 1
holders, is taken. What concerns privacy holds always, and not just with a probability of
1 - 2**-40 over the order: a coordinator chooses who is in a cohort, and could thereby bring
colluders together.
"""

import functools
import hashlib
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from fedmodel.errors import ConfigError, FloorError

__all__ = ["COMPLETE", "Graph", "make_graph", "neighbours_needed"]

COMPLETE = 50  # sites
_CORRECTNESS = 2.0**-20


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Who masks with whom in a cohort. Make one with :func:`make_graph`.

    Args:
        cohort: roster numbers, ascending.
        degree: neighbours of each.
        threshold: shares, of those that a member and its neighbours hold, that make its secret.
        ring: the cohort in the order of the ring.
        colluding: colluders at most among ``degree / 2`` in a row on the ring.
    """

    cohort: tuple[int, ...]
    degree: int
    threshold: int
    ring: tuple[int, ...] = field(repr=False)
    colluding: int = 0
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

    def check_survivors(self, survivors: Collection[int]) -> None:
        """Check that no honest survivors are cut off from the others (see the module).

        Args:
            survivors: members that are left.

        Raises:
            FloorError: when too few are left of some that stand in a row on the ring.
        """
        if self.complete:
            return
        left, side = set(survivors), self.degree // 2
        stays = [member in left for member in self.ring]
        count = sum(stays[:side])
        for place in range(len(stays)):
            if count <= self.colluding:
                raise FloorError(
                    f"{count} of {side} sites in a row on the ring of masks are left, more than "
                    f"{self.colluding} must be: others could be cut off, and their sum told apart"
                )
            count += stays[(place + side) % len(stays)] - stays[place]


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
    degree, least, most, colluding = plan
    local = min(max(math.ceil(threshold * (degree + 1) / sites), least), most)
    ring = sorted(cohort, key=lambda x: (hashlib.sha256(seed + x.to_bytes(8)).digest(), x))
    return Graph(
        cohort=cohort, degree=degree, threshold=local, ring=tuple(ring), colluding=colluding
    )


def neighbours_needed(sites: int, corrupt: float, dropout: float) -> int:
    """Return how many neighbours each site of a cohort needs; see the module's bounds.

    >>> neighbours_needed(1000, 0.1, 0.1)
    274

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
def _plan(sites: int, colluders: int, dropped: int) -> tuple[int, int, int, int] | None:
    """Return k, the least and the greatest local threshold, and q; ``None``: a complete graph."""
    if sites <= COMPLETE:
        return None
    for side in range(1, (sites - 1) // 2):
        if colluders + _beyond(sites, dropped, side, _CORRECTNESS / sites) > side:
            continue
        degree, least = 2 * side, colluders + 1
        most = degree + 1 - _beyond(sites - 1, dropped, degree, _CORRECTNESS / sites)
        if least <= most:
            return degree, least, most, colluders
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
