"""Tamperings with the tree heads of the coordinator's ledger that sites keep."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.fedmodel.audit.forged import Forged
from tests.fedmodel.audit.forged_coordinator import coordinators_head, key_of

__all__ = ["SHOWN", "shown_of"]


def shown_of(forged: Forged, site: str = "site-1") -> Path:
    """Return where a site keeps the coordinator's tree head."""
    (path,) = forged.path.glob(f"sites/{site}/runs/*/coordinator-head.json")
    return path


def lines(forged: Forged) -> list[bytes]:
    return forged.coordinator.path.read_bytes().splitlines()


def changed(line: bytes) -> bytes:
    return line.replace(b'"nonce":"', b'"nonce":"0')


def in_other_words(forged: Forged) -> None:
    path = shown_of(forged)
    path.write_bytes(path.read_bytes().replace(b'"size":', b'"size": '))


def none_at_all(forged: Forged) -> None:
    shown_of(forged).write_bytes(b"{}\n")


def signed_by_somebody(forged: Forged) -> None:
    head = coordinators_head(lines(forged)[:5], key_of("coordinator"))
    shown_of(forged).write_bytes(head.signed(key_of("somebody")).to_json() + b"\n")


def newer_than_the_ledger(forged: Forged) -> None:
    """The coordinator had an entry more, when the site was shown it."""
    more = lines(forged)
    forged.coordinator.show(shown_of(forged), [*more, changed(more[-1])])


def of_other_entries(forged: Forged) -> None:
    """No other site keeps a tree head of so many."""
    *first, last = lines(forged)[:5]
    forged.coordinator.show(shown_of(forged), [*first, changed(last)])


def of_another_run(forged: Forged) -> None:
    first, *rest = lines(forged)[:5]
    other = first.replace(forged.run.encode(), b"other-01234567")
    forged.coordinator.show(shown_of(forged), [other, *rest])


def of_another_coordinator(forged: Forged) -> None:
    head = coordinators_head(lines(forged)[:5], key_of("another"))
    shown_of(forged).write_bytes(head.to_json() + b"\n")


def another_than_to_others(forged: Forged) -> None:
    """Two sites were shown so many entries, and not the same."""
    *first, last = lines(forged)[:-1]
    forged.coordinator.show(shown_of(forged), [*first, changed(last)])


SHOWN: Mapping[str, Sequence[Callable[[Forged], None]]] = {
    "shown-head-form": [in_other_words, none_at_all],
    "shown-head-signed": [signed_by_somebody],
    "shown-head": [
        *(newer_than_the_ledger, of_other_entries, of_another_run, of_another_coordinator),
    ],
    "one-head": [another_than_to_others],
}
