"""Lines of ``fedmodel.ledger/2``: read for ever, never made anew.

Where they differ from today's:

* Steps don't name their mechanism. That leaves open whose noise it was (for records and patients:
  the site's own, or shared among sites), not what it cost: ε comes from rate, noise multiplier and
  steps.
* The end of a reservation that is given back is of type ``release``.
"""

from typing import Any

from fedmodel.ledger import schema_3 as three

__all__ = ["read_release", "read_reserve", "read_spend", "write_release", "write_steps"]

Mapping = dict[str, Any]


def read_reserve(line: Mapping) -> Mapping:
    """Return today's form of a ``reserve``."""
    return _parts_without(line, "parts")


def read_spend(line: Mapping) -> Mapping:
    """Return today's form of a ``spend``."""
    return {**_parts_without(line, "given_up"), "mechanism": None}


def read_release(line: Mapping) -> Mapping:
    """Return today's form of a ``release``."""
    return {**line, "type": "give-back"}


def write_release(entry: Mapping) -> Mapping:
    """Return the line that :func:`read_release` has read."""
    return {**three.write(entry), "type": "release"}


def write_steps(entry: Mapping) -> Mapping:
    """Return the line that :func:`read_reserve` or :func:`read_spend` has read."""
    found = {key: value for key, value in three.write(entry).items() if key != "mechanism"}
    for key in ("parts", "given_up"):
        if key in found:
            found[key] = [write_steps(part) for part in found[key]]
    return found


def _parts_without(line: Mapping, key: str) -> Mapping:
    parts = line.get(key)
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        return line  # whoever builds the entry says what is wrong with it
    return {**line, key: [{**part, "mechanism": None} for part in parts]}
