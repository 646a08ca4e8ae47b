"""Rows that sites hold out for testing: whose side each patient, or each text, falls on.

Each falls there by itself: by a hash of the seed and itself. So two datasets that differ in one of
them differ on its side only. A shuffle of all of them, or a size that must be met, would let one
row decide where others fall, and a private release on one side would no longer hide it. The price
is a size that's only about right; a side can even be empty, and all rows of a rare class can fall
on one: no rule can rule that out. If a class always had a training row, its only row would have to
be one; then so would each row that can be the only one, and as none is moved by another, all rows
of all classes would.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from fedmodel.data.rows import Rows
from fedmodel.errors import ConfigError, DataError
from fedmodel.seeds import Seed
from fedmodel.tasks import Label

__all__ = ["Drawn", "hold_out", "hold_out_everywhere"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """What sites have held out.

    Args:
        train: name → training rows.
        test: name → test rows.
        moved: sites at which a patient or text lies on the other side than it fell on.
    """

    train: Mapping[str, Rows]
    test: Mapping[str, Rows]
    moved: tuple[str, ...] = ()


class _Site:
    """One site's patients or texts, and those that are held out.

    Args:
        rows: of the site.
        fraction: share of patients or texts to hold out.
        seed: which of them.
        train_only: classes of which nothing is held out.
    """

    def __init__(
        self, rows: Rows, fraction: float, seed: Seed, train_only: Collection[str] = ()
    ) -> None:
        self._rows = rows
        self._keys: Sequence[str] = rows.texts if rows.patients is None else rows.patients
        self._stays = [_has(label, train_only) for label in rows.labels]
        self.coins = {
            key: seed.child("held out", key).value / 2**63 for key in dict.fromkeys(self._keys)
        }
        free = {key for key, stays in zip(self._keys, self._stays, strict=True) if not stays}
        self.free = [key for key in self.coins if key in free]
        self.out = {key for key in self.free if self.coins[key] < fraction}

    @property
    def trains(self) -> bool:
        """Whether a row is left to train on, or there is none at all."""
        return not self.out or any(self._stays) or len(self.out) < len(self.coins)

    @property
    def spares(self) -> bool:
        """Whether one more can be held out, and a row is left then."""
        return any(self._stays) or len(self.out) + 1 < len(self.coins)

    def put_back(self) -> None:
        """Train on the one that has fallen among the test rows most narrowly."""
        self.out.remove(max(self.out, key=lambda key: (self.coins[key], key)))

    def parts(self) -> tuple[Rows, Rows]:
        """Return training rows and test rows, each in their order."""
        pairs = zip(self._keys, self._stays, strict=True)
        held = [key in self.out and not stays for key, stays in pairs]
        train, test = (
            self._rows.select(i for i, out in enumerate(held) if out is on) for on in (False, True)
        )
        return train, test


def hold_out(
    rows: Rows, fraction: float, seed: Seed, train_only: Collection[str] = ()
) -> tuple[Rows, Rows]:
    """Set aside some of one site's rows for testing, whole patients where they are known.

    Rows with the same text stay together, so none is trained and tested on; but for those of
    classes that are never held out. That is decided for each row by its own label alone.

    Args:
        rows: rows of one site.
        fraction: share of the patients or texts to set aside, in (0, 1).
        seed: which of them.
        train_only: classes of which nothing is held out; chosen without regard to who has them.

    Returns:
        Training rows and test rows, each in their order.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"data.test_fraction must be in (0, 1), got {fraction}")
    return _Site(rows, fraction, seed, train_only).parts()


def hold_out_everywhere(
    sites: Mapping[str, Rows],
    fraction: float,
    seed: Seed,
    train_only: Collection[str] = (),
    *,
    each_trains: bool,
) -> Drawn:
    """Let each site hold out rows of its own, so that no seed decides whether the rows will do.

    Where all of a site's fell among the test rows, or none of any site did, the one that fell so
    most narrowly is moved: there, and only there, one more can move another.

    Args:
        sites: name → rows.
        fraction: share of the patients or texts to set aside, in (0, 1).
        seed: which of them.
        train_only: classes of which nothing is held out.
        each_trains: whether every site needs a row to train on. With per-unit privacy none does:
            nothing may be moved for it, and a site without a row gives noise alone.

    Raises:
        DataError: when there is too little for two sides, whatever the seed.
    """
    drawn = {
        name: _Site(rows, fraction, seed.child("test", name), train_only)
        for name, rows in sites.items()
    }
    moved = set()
    for name, site in drawn.items():
        if not site.trains and (each_trains or not any(s.trains for s in drawn.values())):
            site.put_back()
            moved.add(name)
    if not any(site.out for site in drawn.values()):
        moved.add(_hold_one_out(drawn, each_trains=each_trains))
    parts = {name: site.parts() for name, site in drawn.items()}
    return Drawn(
        train={name: train for name, (train, _) in parts.items()},
        test={name: test for name, (_, test) in parts.items()},
        moved=tuple(name for name in sites if name in moved),
    )


def _hold_one_out(drawn: Mapping[str, _Site], *, each_trains: bool) -> str:
    """Hold out the one of all sites that has missed it most narrowly; return where."""
    several = len(drawn) > 1 and not each_trains  # then others train
    found = [
        (site.coins[key], name, key)
        for name, site in drawn.items()
        if site.spares or several
        for key in site.free
    ]
    if not found:
        raise DataError(
            "no site can hold out a row to test on and have one left to train on: there is one "
            "patient or text at each (or data.train_only names all classes); give more rows, or "
            "set data.test=FILE"
        )
    _, name, key = min(found)
    drawn[name].out.add(key)
    return name


def _has(label: Label, names: Collection[str]) -> bool:
    return label in names if isinstance(label, str) else not set(names).isdisjoint(label)
