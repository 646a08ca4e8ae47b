"""YAML that people write by hand, read strictly: plain mappings, lists, scalars, and each key once.

What YAML can do besides (tags, anchors, merged keys, days as objects, numbers to other bases than
ten) isn't read: a policy must mean to its reader what it means here.
"""

import re
from typing import Any

import yaml

from fedmodel.errors import ConfigError

__all__ = ["LARGEST", "parse_yaml"]

LARGEST = 1 << 16  # bytes
_DEEPEST = 8
_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
_LEFT_OUT = (
    *("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:merge", "tag:yaml.org,2002:value"),
    # As YAML 1.1 has them 010 is 8, and 1:30 is 90.
    *(_INT, _FLOAT),
)
# Ends of lines to YAML and to few editors, and what turns the direction of what is shown.
_MISLEADING = re.compile("[\u0085\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class _Strict(yaml.SafeLoader):
    """A loader of plain data."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (as the base has it)
        first: [(tag, form) for tag, form in known if tag not in _LEFT_OUT]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse what isn't plain: one part of the file may not stand for another."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        mark = event.start_mark
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _fault(mark, "an anchor or alias (& or *), which isn't read here")
        if getattr(event, "tag", None):
            raise _fault(mark, "a tag (!), which isn't read here")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Refuse a key that stands twice: the reader sees one, and the other may count."""
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _fault(key.start_mark, "a key that is no word")
            if key.value in seen:
                raise _fault(key.start_mark, f"the key '{key.value:.80}' a second time")
            seen.add(key.value)
        made = super().construct_mapping(node, deep)
        return {str(key): value for key, value in made.items()}


_WHOLE = r"[-+]?(?:0|[1-9]\d*)"
_Strict.add_implicit_resolver(_INT, re.compile(rf"{_WHOLE}\Z", re.ASCII), list("-+0123456789"))
_Strict.add_implicit_resolver(
    _FLOAT,
    re.compile(rf"(?:{_WHOLE}\.\d*(?:[eE][-+]?\d+)?|[-+]?\.(?:inf|nan))\Z", re.ASCII),
    list("-+.0123456789"),
)


def _fault(mark: Any, what: str) -> ConfigError:
    where = "" if mark is None else f"line {mark.line + 1}: "
    return ConfigError(f"{where}got {what}")


def parse_yaml(text: bytes) -> dict[str, Any]:
    """Return what a file says.

    Args:
        text: of the file, UTF-8.

    Raises:
        ConfigError: naming the line, for what isn't plain YAML, or isn't a mapping; and for more
            than :data:`LARGEST` bytes.
    """
    if len(text) > LARGEST:
        raise ConfigError(f"expected at most {LARGEST} bytes of YAML, got {len(text)}")
    try:
        read = text.decode("utf-8-sig")
        if odd := _MISLEADING.search(read):
            raise ConfigError(
                f"line {read.count(chr(10), 0, odd.start()) + 1}: got a character "
                f"(U+{ord(odd[0]):04X}) that shows a file otherwise than it is read; remove it"
            )
        found = yaml.load(read, Loader=_Strict)  # noqa: S506 (a SafeLoader)
    except UnicodeDecodeError as error:
        raise ConfigError(f"expected UTF-8, got a byte that isn't, at {error.start}") from error
    except yaml.MarkedYAMLError as error:
        raise _fault(error.problem_mark, f"what isn't YAML ({error.problem})") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"got what isn't YAML ({type(error).__name__})") from error
    if not isinstance(found, dict):
        raise ConfigError("expected keys with values, such as 'name: north'")
    if _depth(found) > _DEEPEST:
        raise ConfigError(f"got mappings or lists in one another, more than {_DEEPEST} deep")
    return found


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0)
