"""Partitions: which row is at which site."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fedmodel.data.headers import settings
from fedmodel.data.rows import Rows
from fedmodel.errors import ConfigError, DataError
from fedmodel.seeds import Seed
from fedmodel.tasks import written

__all__ = ["Partition", "site_names", "split"]

_ATTEMPTS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """How rows are shared among sites.

    Args:
        kind: ``natural`` (the site column says), ``iid``, or ``dirichlet``: label-skewed (arXiv
            1905.12022).
        sites: how many sites; for ``natural``, ``None`` takes as many as the column names.
        alpha: concentration of ``dirichlet``; small is skewed.
    """

    kind: Literal["natural", "iid", "dirichlet"] = "natural"
    sites: int | None = 5
    alpha: float = 0.5

    def __post_init__(self) -> None:
        if self.sites is None and self.kind != "natural":
            raise ConfigError(f"federation.partition={self.kind} needs federation.sites=<number>")
        if self.sites is not None and self.sites < 1:
            raise ConfigError(f"federation.sites must be at least 1, got {self.sites}")
        if not 0.001 <= self.alpha <= 1e6:
            raise ConfigError(f"federation.alpha must be in [0.001, 1e6], got {self.alpha}")

    @property
    def count(self) -> int:
        """How many sites to make, where they aren't those of a column."""
        return self.sites or 1


def site_names(count: int) -> list[str]:
    """Return names for sites that have none; their order is that of their numbers.

    >>> site_names(2)
    ['site-1', 'site-2']
    """
    width = len(str(count))
    return [f"site-{i:0{width}d}" for i in range(1, count + 1)]


def split(rows: Rows, partition: Partition, seed: Seed) -> dict[str, Rows]:
    """Share rows among sites; every row goes to exactly one.

    Where patients are known, ``iid`` and ``dirichlet`` keep each patient's rows at one site and
    take the patient's first label for all of them. Each set of labels counts as a label of its own.

    Args:
        rows: all rows.
        partition: how.
        seed: which row goes where; the same seed gives the same sites.

    Returns:
        The rows of each site, by name in sorted order; rows keep their order.

    Raises:
        DataError: if there is no site column, or too little to share.
    """
    if partition.kind == "natural":
        return _natural(rows, partition.sites)
    units = _units(rows)
    if len(units) < partition.count:
        what = "rows" if rows.patients is None else "patients"
        raise DataError(
            f"{partition.count} sites need at least as many {what}, got {len(units)}; set "
            f"federation.sites={max(1, len(units))} or lower, or give more rows"
        )
    order = [int(i) for i in seed.child("order").numpy().permutation(len(units))]
    parts = _shared([written(rows.labels[units[i][0]]) for i in order], partition, seed)
    return {
        name: rows.select(sorted(row for place in part for row in units[order[place]]))
        for name, part in zip(site_names(partition.count), parts, strict=True)
    }


def _natural(rows: Rows, sites: int | None) -> dict[str, Rows]:
    if rows.sites is None:
        raise DataError(
            "federation.partition=natural needs a column that names each row's site, got none; "
            f"{settings('site', rows.unread)}, or federation.partition=iid to share the rows out"
        )
    at: dict[str, list[int]] = {}
    for index, site in enumerate(rows.sites):
        at.setdefault(site, []).append(index)
    if sites not in (None, len(at)):
        raise DataError(
            f"federation.sites={sites}, but the site column names {len(at)} sites; set "
            f"federation.sites={len(at)}, or federation.partition=iid to share the rows anew"
        )
    return {site: rows.select(at[site]) for site in sorted(at)}


def _units(rows: Rows) -> list[list[int]]:
    """Return the groups of rows that stay together, in order of their first row."""
    if rows.patients is None:
        return [[index] for index in range(len(rows))]
    groups: dict[str, list[int]] = {}
    for index, patient in enumerate(rows.patients):
        groups.setdefault(patient, []).append(index)
    return list(groups.values())


def _shared(labels: Sequence[str], partition: Partition, seed: Seed) -> list[list[int]]:
    """Return the places in ``labels`` that go to each site."""
    import datasets
    from flwr_datasets.partitioner import DirichletPartitioner, IidPartitioner

    codes = {label: code for code, label in enumerate(sorted(set(labels)))}
    units = {"place": list(range(len(labels))), "label": [codes[label] for label in labels]}

    def parts(partitioner: Any) -> list[list[int]]:
        partitioner.dataset = datasets.Dataset.from_dict(units)
        loaded = (partitioner.load_partition(i) for i in range(partition.count))
        return [list(part["place"]) for part in loaded]

    if partition.kind == "iid":
        return parts(IidPartitioner(num_partitions=partition.count))
    smallest = max(1, min(10, len(labels) // (2 * partition.count)))
    for attempt in range(_ATTEMPTS):
        dirichlet = DirichletPartitioner(
            num_partitions=partition.count,
            partition_by="label",
            alpha=float(partition.alpha),
            min_partition_size=smallest,
            shuffle=False,
            seed=seed.child("dirichlet", attempt).value,
        )
        # It warns at each of its own ten tries; running out of all tries is an error below.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return parts(dirichlet)
            except ValueError:
                continue
    raise DataError(
        f"no split among {partition.count} sites with at least {smallest} rows or patients each "
        f"was found at federation.alpha={partition.alpha}; raise federation.alpha or lower "
        "federation.sites"
    )
