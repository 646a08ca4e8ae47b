"""The verb ``join``: one hospital takes part in runs, by its own file, until it is asked to stop.

Exit codes: 0 asked to stop (SIGTERM, SIGINT), which gives nothing back that a run has reserved;
1 something can't be relied on, or failed; 2 wrong usage or input; 3 the coordinator wasn't there
for ``patience`` seconds, or a disk is full: the same command may be given again.
"""

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clients.app import SiteApp
from clients.current_roster import CurrentRoster
from clients.line import Carrier, Line
from clients.network import over_network
from clients.site import Site
from clients.site_file import Link, SiteFile
from clients.start import start
from fedmodel import config
from fedmodel._escape import escaped
from fedmodel._signals import Stopped, asked_to_stop
from fedmodel.errors import ConfigError, FedmodelError, exit_code
from fedmodel.identity.home import PartyHome
from fedmodel.identity.passphrase import read_passphrase
from fedmodel.logs import LogForm, lines_to_stderr

__all__ = ["Ask", "join", "main"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What is asked.

    Args:
        site: the hospital's own file.
        address: of the coordinator; ``None``: the file's.
        passphrase: where one is read; ``None``: as the file says.
        patience: seconds without the coordinator after which to give up; ``None``: never.
        format: of the log.
    """

    site: str
    address: str | None = None
    passphrase: str | None = None
    patience: float | None = None
    format: LogForm = "lines"

    def __post_init__(self) -> None:
        Link(address=self.address)
        if self.patience is not None and self.patience <= 0:
            raise ConfigError(f"patience must be seconds above 0, got {self.patience:g}")

    @classmethod
    def of(cls, mapping: Mapping[str, Any]) -> "Ask":
        """Return what a composed configuration asks.

        Raises:
            ConfigError: for a missing or wrong value.
        """
        if mapping.get("site") is None:
            raise ConfigError(
                "join needs site=<the hospital's own site.yaml>; fedmodel provision role=site "
                "writes one"
            )
        return config.build(cls, mapping)


def main(
    mapping: dict[str, Any], given: Sequence[str] = (), *, carrier: Carrier = over_network
) -> int:
    """Take part in runs until asked to stop.

    Args:
        mapping: the composed configuration.
        given: unused.
        carrier: carries the messages.

    Returns:
        The exit code.

    Raises:
        ConfigError: for a missing or wrong value.
    """
    ask = Ask.of(mapping)
    with lines_to_stderr(ask.format):
        try:
            join(ask, carrier)
        except Stopped:
            pass
        except (FedmodelError, OSError) as error:
            logger.error("%s", escaped(str(error)))
            return exit_code(error)
        logger.info("asked to stop: what runs have reserved stays, and they go on with this site")
    return 0


def join(ask: Ask, carrier: Carrier = over_network) -> None:
    """Start a site and let it answer until this process is asked to stop.

    Args:
        ask: which, and how it reaches its coordinator.
        carrier: carries the messages.

    Raises:
        FedmodelError: when the site can't start or go on.
        Stopped: when it was asked to stop before it had started.
    """
    with asked_to_stop():
        file = SiteFile.read(Path(ask.site).expanduser())
        address = ask.address or file.coordinator.address
        if address is None:
            raise ConfigError(
                "coordinator.address is null in the site's file: write whom to dial, such as "
                "fl.example.org:8443, or give address="
            )
        home = _home(file)
        source = ask.passphrase or file.coordinator.passphrase
        passphrase = read_passphrase(source) if home.sealed else None
        roster = CurrentRoster(home)
        site = start(file, roster=roster.read(), passphrase=passphrase)
        logger.info("site %s: ready for runs of %s", site.name, address)
    stop = threading.Event()
    with asked_to_stop(stop.set):
        carrier(
            Line(
                site_app=SiteApp(_Current(site, roster)),
                home=home,
                passphrase=passphrase,
                address=address,
                proxy=file.coordinator.proxy,
                patience=ask.patience,
                runs=site.state.run_folder,
                stop=stop,
            )
        )


class _Current:
    """The site by the roster that it goes by now: the same value as long as that is the same."""

    def __init__(self, site: Site, roster: CurrentRoster) -> None:
        self._site, self._roster = site, roster

    def __call__(self, context: object) -> Site:
        roster = self._roster.read()
        if roster is not self._site.roster:
            self._site = replace(self._site, roster=roster)
        return self._site


def _home(file: SiteFile) -> PartyHome:
    """Return the site's folder, if it is its own and has what it takes to be known.

    Raises:
        ConfigError: if not.
    """
    home = PartyHome(file.state)
    make = f"fedmodel provision role=site home={file.state}"
    if not home.exists:
        raise ConfigError(f"{file.state} has no keys of a site yet; make them: {make} name=NAME")
    owner = home.read().owner
    if (owner.role, owner.name) != ("site", file.name):
        raise ConfigError(
            f"{file.state} has the {owner.role} {owner.name!r}, and the file is of the site "
            f"{file.name!r}; correct the file's name or state"
        )
    if home.certificate() is None:
        raise ConfigError(
            f"{file.state} has no certificate yet; take over the consortium's: {make} "
            "certificate=PATH"
        )
    return home
