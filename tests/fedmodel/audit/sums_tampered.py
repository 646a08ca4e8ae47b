"""Tamperings with the secure sums that a coordinator's ledger tells of, signed as it would."""

import json
from collections.abc import Callable
from typing import Any

from tests.fedmodel.audit.forged import Forged
from tests.fedmodel.audit.forged_coordinator import signed_sums

__all__ = [
    "consent_of_another_site",
    "consents_of_another_set",
    "manifest",
    "manifest_swapped",
    "manifest_unsigned",
    "named_otherwise",
    "of",
    "sum_of_three",
    "takers_from_nowhere",
    "too_few_consents",
    "unmasked_twice",
    "update_beside_the_sum",
    "vector_of_another_site",
]

Entry = dict[str, Any]
Which = Callable[[Entry], bool]


def of(type_: str, round_: int | None = None) -> Which:
    """Return whether an entry is of a type, and a round."""
    return lambda e: e["type"] == type_ and round_ in (None, e.get("round"))


def manifest(**fields: Any) -> Callable[[Forged], None]:
    def tamper(forged: Forged) -> None:
        forged.coordinator.change(
            of("attempt", 2), lambda entry: entry["manifest"].update(fields), sums=True
        )

    tamper.__name__ = "_".join(("manifest_of_another", *fields))
    return tamper


def manifest_swapped(forged: Forged) -> None:
    (first,) = (e for e in forged.coordinator.entries() if of("attempt", 1)(e))
    forged.coordinator.change(
        of("attempt", 2), lambda e: e.update(manifest=first["manifest"]), sums=True
    )


def manifest_unsigned(forged: Forged) -> None:
    forged.coordinator.change(of("attempt", 2), lambda e: e["manifest"].update(signature="0" * 128))


def named_otherwise(forged: Forged) -> None:
    forged.coordinator.change(of("attempt", 2), lambda e: e.update(digest="0" * 64))


def sum_of_three(forged: Forged) -> None:
    def shrink(entry: Entry) -> None:
        entry["survivors"] = [1, 2, 3]
        for name in ("vectors", "consents"):
            entry[name] = {n: entry[name][n] for n in ("1", "2", "3")}

    forged.coordinator.change(of("unmask", 2), shrink, sums=True)


def consents_of_another_set(forged: Forged) -> None:
    """All but one are in it; those have consented to all."""

    def shrink(entry: Entry) -> None:
        entry["survivors"] = [1, 2, 3, 4]
        for name in ("vectors", "consents"):
            del entry[name]["5"]

    forged.coordinator.change(of("unmask", 2), shrink)
    forged.coordinator.change(of("result", 2), lambda e: e.update(given=e["given"][:4]))
    first, second = forged.rows()
    forged.write_rows([first, {**second, "updates": 4}])


def consent_of_another_site(forged: Forged) -> None:
    def swap(entry: Entry) -> None:
        entry["consents"]["1"] = entry["consents"]["2"]

    forged.coordinator.change(of("unmask", 2), swap)


def too_few_consents(forged: Forged) -> None:
    def drop(entry: Entry) -> None:
        entry["consents"] = {"1": entry["consents"]["1"]}

    forged.coordinator.change(of("unmask", 2), drop)


def vector_of_another_site(forged: Forged) -> None:
    def swap(entry: Entry) -> None:
        entry["vectors"]["1"] = entry["vectors"]["2"]

    forged.coordinator.change(of("unmask", 2), swap)


def takers_from_nowhere(forged: Forged) -> None:
    forged.coordinator.change(of("attempt", 2), cohort_of_four, sums=True)


def cohort_of_four(entry: Entry) -> None:
    entry["manifest"].update(
        cohort=entry["manifest"]["cohort"][:4], keys=entry["manifest"]["keys"][:4]
    )


def unmasked_twice(forged: Forged) -> None:
    """A round is asked for once more, and its second sum unmasked, too; all is signed."""
    entries = forged.coordinator.entries()
    (at,) = (n for n, e in enumerate(entries) if of("unmask", 2)(e))
    again, sum_ = json.loads(json.dumps(entries[at - 1 : at + 1]))
    asked = entries[at - 2]  # once more: a site draws noise once an attempt
    nothing = dict(next(e for e in entries if of("result", 2)(e)))
    nothing.update(given=[], mean="", model=asked["model"], finished=False)
    made = [*entries[: at + 1], nothing, asked, again, sum_, *entries[at + 1 :]]
    forged.coordinator.write(signed_sums(made))


def update_beside_the_sum(forged: Forged) -> None:
    """Five updates are in the mean, and the sum was of four, who have all signed for it."""

    def shrink(entry: Entry) -> None:
        entry["survivors"] = [1, 2, 3, 4]
        for name in ("vectors", "consents"):
            del entry[name]["5"]

    forged.coordinator.change(of("unmask", 2), shrink, sums=True)
