"""The file of a hospital's own, ``site.yaml``: what it brings to jobs, and what it allows.

``fedmodel provision role=site`` writes it, with a comment at every key; its people change it. None
of it is sent. A key that isn't known is refused: what somebody has written down as a rule must
count.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from clients.declared import Declared, bracket_fault
from clients.policy import Policy
from fedmodel import _files, config
from fedmodel._paths import conf_dir
from fedmodel._yaml import LARGEST, parse_yaml
from fedmodel.config import suggest
from fedmodel.data import Source
from fedmodel.errors import ConfigError, DataError
from fedmodel.job import Performance
from fedmodel.ledger.site_state import dataset_name
from fedmodel.provision.site_file import PRESETS, SITE_FILE
from fedmodel.transport.proxy import check_own_proxy, split_address

__all__ = ["SITE_FILE", "Link", "SiteFile", "policy_of"]

_RULES = ("policy", "budget", "floors")
_PEOPLE = ("approval", "approvers", "needed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """How a site reaches its coordinator.

    Args:
        address: host name and port to dial, such as ``fl.example.org:8443``; ``None``: not yet
            known.
        passphrase: where the one is read that the site's keys are sealed under; never one itself.
        proxy: that the connection goes through, a URL, maybe with user and password; ``none``:
            through none; ``None``: as the environment says (:mod:`fedmodel.transport.proxy`).
    """

    address: str | None = None
    passphrase: str | None = None
    proxy: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.proxy is not None:
            check_own_proxy(self.proxy)
        if self.address is None:
            return
        try:
            split_address(self.address)
        except ConfigError as error:
            raise ConfigError(f"coordinator.address: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteFile:
    """What a site's file says.

    Args:
        name: of the site.
        state: folder of all that it keeps from run to run.
        dataset: name that it gives to its rows.
        task: what a row's label is.
        data: where the rows are, as plain keys; :meth:`source` reads them.
        declared: what it says of its rows; ``None``: nothing yet.
        performance: how its machine goes about a job; ``None``: as the coordinator proposes.
        coordinator: how it is reached.
        preset: that its rules begin with.
        policy: what it allows.
    """

    name: str
    state: Path
    dataset: str = "main"
    task: Literal["sequence-classification", "multi-label-classification"] = (
        "sequence-classification"
    )
    data: Mapping[str, Any] = field(default_factory=dict)
    declared: Declared | None = None
    performance: Performance | None = None
    coordinator: Link = field(default_factory=Link)
    preset: Literal["strict", "trial"] = "strict"
    policy: Policy = field(default_factory=Policy)

    @classmethod
    def read(cls, path: Path) -> "SiteFile":
        """Return what a file says; paths in it begin at its folder.

        Args:
            path: of the file.

        Raises:
            ConfigError: naming the file and the line or key, for what can't be read or isn't known.
        """
        try:
            # A link to the file elsewhere begins no new state there: that has forgotten its ledger.
            path = path.resolve()
            if path.exists() and not path.is_file():
                raise ConfigError("it isn't a file")
            return cls.parse(_files.read(path, LARGEST + 1), path.parent)
        except OSError as error:
            raise ConfigError(f"can't read {path}: {error.strerror}") from error
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error

    @classmethod
    def parse(cls, text: bytes, folder: Path) -> "SiteFile":
        """Return what the text of a file says.

        Args:
            text: UTF-8.
            folder: at which its paths begin.

        Raises:
            ConfigError: for what can't be read or isn't known.
        """
        found = parse_yaml(text)
        form = found.pop("schema", None)
        if form != "fedmodel.site/1":
            raise ConfigError(
                f"expected 'schema: fedmodel.site/1', got {form!r:.60}; fedmodel provision "
                "role=site writes such a file"
            )
        rules = {name: _section(found, name) for name in _RULES}
        rules["approval"] = {name: found.pop(name) for name in _PEOPLE if name in found}
        _check_known(found)
        made = config.build(_Plain, found)
        _check_data(made.data)
        return cls(
            name=made.name,
            state=folder / _expanded("state", made.state),
            dataset=dataset_name(made.dataset),
            task=made.task,
            data={**made.data, **_at(folder, made.data)},
            declared=_declared(made.declared),
            performance=_performance(made.performance),
            coordinator=made.coordinator,
            preset=made.preset,
            policy=policy_of(made.preset, rules),
        )

    def source(self) -> Source:
        """Return where the rows are.

        Raises:
            ConfigError: while the file doesn't say so.
        """
        if self.data.get("train") is None:
            raise ConfigError("data.train is null: write where the rows are, and data.kind")
        return config.build(Source, self.data, "data")

    def own_numbers(self) -> Declared:
        """Return what the site declares.

        Raises:
            DataError: while the file doesn't say so.
        """
        if self.declared is None:
            raise DataError(
                "declared.records is null: write how many rows there are, at least and at most, "
                "such as [500, 2000]; fedmodel site check site=site.yaml tells how many there are"
            )
        return self.declared


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plain:
    """The file's keys but for the rules."""

    name: str
    state: str = "."
    dataset: str = "main"
    task: Literal["sequence-classification", "multi-label-classification"] = (
        "sequence-classification"
    )
    data: Mapping[str, Any] = field(default_factory=dict)
    declared: Mapping[str, Any] = field(default_factory=dict)
    performance: Mapping[str, Any] | None = None
    coordinator: Link = field(default_factory=Link)
    preset: Literal["strict", "trial"] = "strict"

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ConfigError("name is empty; write the site's name, as the roster has it")
        if not self.state.strip():
            raise ConfigError("state is empty; give a folder")


def policy_of(preset: str, rules: Mapping[str, Mapping[str, Any]]) -> Policy:
    """Return a policy: a preset's, and what stands above it.

    Args:
        preset: its name. What nobody says is as it has it, so that a line that is lost loosens
            nothing.
        rules: keys of ``policy``, ``budget``, ``floors`` and ``approval``.

    Raises:
        ConfigError: for an unknown key, or a rule that no job keeps.
    """
    if preset not in PRESETS:
        raise ConfigError(
            f"preset={preset!r:.60} isn't a choice{suggest(preset, PRESETS)}; expected one of: "
            f"{', '.join(PRESETS)}"
        )
    known = parse_yaml(_files.read(conf_dir() / "policy" / f"{preset}.yaml"))
    said = {name: {**known[name], **rules.get(name, {})} for name in _RULES}
    return Policy.of(said, rules.get("approval", {}))


def _section(found: dict[str, Any], name: str) -> Mapping[str, Any]:
    section = found.pop(name, None)
    if section is None:
        return {}
    if not isinstance(section, dict):
        raise ConfigError(f"'{name}' must be a mapping of keys to values, got {section!r:.60}")
    return section


def _check_known(found: Mapping[str, Any]) -> None:
    known = ("schema", *_RULES, *_PEOPLE, *(each.name for each in fields(_Plain)))
    for key in found:
        if key not in known:
            raise ConfigError(
                f"unknown key '{key:.80}'{suggest(key, known)}; known here: "
                f"{', '.join(sorted(known))}"
            )


def _check_data(data: Mapping[str, Any]) -> None:
    known = [each.name for each in fields(Source)]
    for key in data:
        if key not in known:
            raise ConfigError(
                f"unknown key 'data.{key:.80}'{suggest(key, known)}; known here: "
                f"{', '.join(sorted(known))}"
            )
    if data.get("train") is not None:
        config.build(Source, data, "data")


def _at(folder: Path, data: Mapping[str, Any]) -> dict[str, str]:
    """Return the paths of the data as they begin at a folder."""
    if data.get("kind") in (None, "hub", "synthetic"):
        return {}
    named = {key: data.get(key) for key in ("train", "test")}
    return {
        key: str(folder.absolute() / _expanded(f"data.{key}", value))
        for key, value in named.items()
        if isinstance(value, str)
    }


def _expanded(key: str, text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ConfigError(
            f"{key}={text!r:.100} begins with ~, and its user has no home folder that is known; "
            "write the whole path"
        ) from None


def _declared(said: Mapping[str, Any]) -> Declared | None:
    if said.get("records") is None:
        known = [each.name for each in fields(Declared)]
        if unknown := [key for key in said if key not in known]:
            raise ConfigError(
                f"unknown key 'declared.{unknown[0]:.80}'{suggest(unknown[0], known)}"
            )
        return None
    for key in ("records", "patients"):
        if isinstance(said.get(key), (int, float, str)):  # one number is what people write first
            raise bracket_fault(f"declared.{key}", said[key])
    return config.build(Declared, said, "declared")


def _performance(said: Mapping[str, Any] | None) -> Performance | None:
    return None if said is None else config.build(Performance, said, "performance")
