"""A whole consortium on one machine, to try it: every part is played as it is in earnest."""

from pathlib import Path

from fedmodel import _files
from fedmodel.errors import ConfigError
from fedmodel.identity.consortium_home import ConsortiumHome
from fedmodel.identity.handed import signed_roster_in, text_of, unmade
from fedmodel.identity.home import PartyHome
from fedmodel.provision import show
from fedmodel.provision.ask import Ask
from fedmodel.provision.consortium import admitted
from fedmodel.provision.site_file import write_site_file

__all__ = ["provision_demo"]

_DAYS = 90


def provision_demo(ask: Ask) -> int:
    """Make a consortium, a coordinator and sites; return the exit code.

    Raises:
        ConfigError: where the folder has something else in it.
        LedgerError: when it can't be written.
    """
    home = ask.folder
    names = site_names(ask.sites)
    if ConsortiumHome(home / "consortium").exists:
        there = sorted(path.parent.name for path in home.glob("*/party.json"))
        if there != sorted(["coordinator", *names]):
            raise ConfigError(
                f"{home} has a demo of {len(there) - 1} sites; nothing was changed. Give the name "
                "of a new folder, home=PATH"
            )
        show.say(f"the demo is in {home} already; nothing was changed")
    else:
        try:
            _files.make_folder(home.parent)
            with _files.staged(home) as folder:
                _play(folder, names, ask.preset or "trial")
        except OSError as error:
            raise unmade(home, error) from error
        sites = f"{len(names)} site{'s' * (len(names) != 1)}"
        show.say(f"a consortium, its coordinator and {sites} are in {home}. All their")
        show.say("keys lie side by side and unencrypted: for trying it, not for patients' data.")
    _next(home, len(names))
    return 0


def site_names(count: int) -> list[str]:
    """Return names of sites as a simulation calls them."""
    width = len(str(count))
    return [f"site-{i:0{width}d}" for i in range(1, count + 1)]


def _play(folder: Path, names: list[str], preset: str) -> None:
    consortium = ConsortiumHome(folder / "consortium")
    consortium.make("demo")
    parties = [PartyHome(folder / "coordinator")]
    parties[0].make("coordinator", "coordinator", "localhost")
    for name in names:
        parties.append(PartyHome(folder / name))
        parties[-1].make("site", name, None)
        # Who tries it out is all of its people; strict rules are shown with all they ask for.
        approval = "auto" if preset == "trial" else "each"
        write_site_file(folder / name, name, preset, approval=approval)
    with consortium.opened() as found:
        for party in parties:
            found = admitted(consortium, found, party.request(), _DAYS)
    for party in parties:
        roster = signed_roster_in(consortium.roster_path)
        certificate = text_of(consortium.certificate_path(party.read().owner.tls))
        party.take(roster, certificate, confirmed=True)


def _next(home: Path, sites: int) -> None:
    def quoted(*parts: str) -> str:
        import shlex

        return " ".join(map(shlex.quote, parts))

    show.steps(
        "next, in any order:",
        [
            "look at a party: " + show.command(role="site", home=home / site_names(sites)[0]),
            "look at the consortium: " + show.command(role="consortium", home=home / "consortium"),
            "train with these identities, updates sealed to the coordinator: "
            + quoted(
                "fedmodel", "simulate", f"state={home}", f"federation.sites={sites}", "secagg=seal"
            ),
            "see what the sites have spent: " + quoted("fedmodel", "budget", f"state={home}"),
        ],
    )
