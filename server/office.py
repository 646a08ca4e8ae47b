"""The coordinator's own folder, opened: who it is, its keys, and the roster that it goes by."""

from dataclasses import dataclass, field
from pathlib import Path

from fedmodel.errors import ConfigError
from fedmodel.identity.handed import signed_roster_in
from fedmodel.identity.home import PartyHome
from fedmodel.identity.keys import SigningKey
from fedmodel.identity.passphrase import read_passphrase
from fedmodel.identity.provision import CoordinatorKeys
from fedmodel.identity.signed_roster import SignedRoster
from fedmodel.identity.trust import TRUST, read_trust
from fedmodel.identity.validity import utc_now
from fedmodel.runs import RunFolder
from fedmodel.wire.grids import node_of
from server.ask import Ask
from server.assemble import Known, excluded_nodes
from server.ledger_memory import other_memories

__all__ = ["Office", "home_of", "node_names", "roster_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """A coordinator that may speak.

    Args:
        home: its folder.
        roster: who belongs to the consortium.
        passphrase: that its keys are sealed under.
        keys: its own.
    """

    home: PartyHome
    roster: SignedRoster
    passphrase: bytes | None = field(repr=False)
    keys: CoordinatorKeys

    @classmethod
    def open(cls, ask: Ask) -> "Office":
        """Open the folder that is asked for.

        Raises:
            ConfigError: where there is no coordinator, no certificate or no roster yet.
            IdentityError: when something there can't be relied on.
            LedgerError: when it can't be read.
        """
        home = home_of(ask)
        roster = roster_of(ask, home)
        if home.certificate() is None:
            raise ConfigError(
                f"{home.folder} has no certificate yet; take over the consortium's: fedmodel "
                f"provision role=coordinator home={home.folder} certificate=PATH"
            )
        passphrase = read_passphrase(ask.passphrase) if home.sealed else None
        keys = CoordinatorKeys(
            roster=roster,
            signer=SigningKey(home.secret("key", passphrase)),
            seal=home.secret("seal-key", passphrase),
        )
        return cls(home=home, roster=roster, passphrase=passphrase, keys=keys)

    def known(self, folder: RunFolder, ask: Ask, *, private: bool) -> Known:
        """Return what a run's coordinator knows of the sites.

        Args:
            folder: of the run.
            ask: whom its operator leaves out, and why there is a run.
            private: whether sites have ledgers of it.

        Raises:
            ConfigError: for a name that no site has.
        """
        exclude = excluded_nodes(node_names(self.roster), ask.exclude)
        keys = {node_of(n): m.key for n, m in enumerate(self.roster.members, start=1)}
        heads = folder.tree_heads
        return Known(
            keys=self.keys,
            site_keys=keys,
            memory=[heads, self.home.folder / heads.name] if private else [],
            copies=other_memories(heads, keys) if private else [],
            exclude=exclude,
            purpose=ask.purpose,
            home=self.home.folder,
        )


def node_names(roster: SignedRoster) -> dict[int, str]:
    """Return which node is which site."""
    return {node_of(n): m.name for n, m in enumerate(roster.members, start=1)}


def home_of(ask: Ask) -> PartyHome:
    """Return the coordinator's folder.

    Raises:
        ConfigError: where there is none, or another party's.
    """
    home = PartyHome(ask.folder)
    if not home.exists:
        raise ConfigError(
            f"{ask.folder} has no coordinator; make one: fedmodel provision role=coordinator "
            f"home={ask.folder} name=NAME tls=HOST"
        )
    owner = home.read().owner
    if owner.role != "coordinator":
        raise ConfigError(
            f"{ask.folder} has the {owner.role} {owner.name!r}; serve needs a coordinator's folder"
        )
    return home


def roster_of(ask: Ask, home: PartyHome) -> SignedRoster:
    """Return the roster to go by; a newer one is taken over, unless something is only to be shown.

    Args:
        ask: names a newer one, perhaps.
        home: of the coordinator.

    Raises:
        ConfigError: where there is none yet, or it can't be read.
        IdentityError: when it can't be relied on.
    """
    if ask.roster is None:
        return home.current_roster()
    newer = signed_roster_in(Path(ask.roster).expanduser())
    trust = read_trust(home.folder / TRUST)
    if trust is None:
        raise ConfigError(
            "this is the first roster here, and nobody has confirmed the consortium's key; take it "
            f"over: fedmodel provision role=coordinator home={home.folder} roster={ask.roster}"
        )
    if ask.check:
        trust.check(newer, utc_now())
        home.read().check_listed(newer)
        return newer
    home.take(newer, None)
    return home.current_roster()
