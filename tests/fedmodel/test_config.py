import contextlib
import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmodel import config
from fedmodel.errors import ConfigError


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    kind: Literal["alpha", "beta"] = "alpha"
    names: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    count: int
    rate: float = 0.5
    maybe: float | None = None
    switch: bool = False
    inner: Inner = dataclasses.field(default_factory=Inner)
    named: Mapping[str, Inner] = dataclasses.field(default_factory=dict)
    rates: dict[str, float] | None = None
    rest: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def test_a_mapping_becomes_a_nested_dataclass() -> None:
    built = config.build(
        Outer, {"count": 2, "rate": 1, "inner": {"kind": "beta", "names": ["a"]}, "maybe": "1e-4"}
    )
    assert built == Outer(count=2, rate=1.0, maybe=1e-4, inner=Inner(kind="beta", names=("a",)))


def test_a_mapping_of_names_is_read_into_a_new_one() -> None:
    given = {"x": {"kind": "beta"}}
    rest = {"a": [1, {"b": None}]}
    built = config.build(Outer, {"count": 2, "named": given, "rates": {"r": 1}, "rest": rest})
    assert built.named == {"x": Inner(kind="beta")}
    assert built.rates == {"r": 1.0}
    assert built.rest == rest
    assert config.to_mapping(built)["named"] == {"x": {"kind": "beta", "names": []}}
    given["y"] = {}
    assert set(built.named) == {"x"}


@pytest.mark.parametrize(
    ("mapping", "says"),
    [
        ({"cuont": 2}, "unknown key 'cuont' (did you mean 'count'?)"),
        ({}, "missing key 'count' (a whole number)"),
        ({"count": "two"}, "count must be a whole number, got 'two'"),
        ({"count": True}, "count must be a whole number, got True"),
        ({"count": 1, "rate": float("nan")}, "rate must be a finite number"),
        ({"count": 1, "switch": 1}, "switch must be true or false, got 1"),
        ({"count": 1, "inner": {"kind": "bata"}}, "inner.kind='bata' isn't a choice (did you mean"),
        ({"count": 1, "inner": {"names": "ab"}}, "inner.names must be a list of text, got 'ab'"),
        ({"count": 1, "inner": 3}, "'inner' must be a mapping"),
        ({"count": 1, "named": [1]}, "named must be a mapping of names to Inner, got [1]"),
        ({"count": 1, "named": {"x": {"nmes": []}}}, "unknown key 'named.x.nmes' (did you mean"),
        ({"count": 1, "rates": {"x": "y"}}, "rates.x must be a number, got 'y'"),
        ({"count": 1, "rates": {1: 2.0}}, "rates must be a mapping of names to a number"),
        ({"count": 1, "rate": 10**400}, "rate must be a number, got 1000"),
        ({"count": 1, "inner": {"names": {"a": 1}}}, "inner.names must be a list of text, got {"),
        ({"count": 1, "rest": 3}, "rest must be a mapping of names to anything, got 3"),
    ],
)
def test_what_is_wrong_is_said_with_its_path(mapping: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.build(Outer, mapping)
    assert says in str(caught.value)


def test_canonical_json_sorts_and_refuses_nan() -> None:
    # RFC 8785, 3.2.3: keys sorted, no white space, numbers as ECMAScript prints them.
    assert config.canonical({"b": 1.0, "a": [1e-7, True, None]}) == b'{"a":[1e-7,true,null],"b":1}'
    with pytest.raises(ConfigError):
        config.canonical({"a": float("nan")})


@pytest.mark.long
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=8))
def test_whatever_comes_only_a_config_error_escapes(value: Any) -> None:
    for key in ("count", "inner", "maybe"):
        with contextlib.suppress(ConfigError):
            config.build(Outer, {"count": 1, key: value})


@pytest.mark.long
@given(st.dictionaries(st.text(max_size=5), st.floats(-(2.0**52), 2.0**52)))
def test_canonical_json_is_json_with_the_same_meaning(value: dict[str, float]) -> None:
    assert json.loads(config.canonical(value)) == value
