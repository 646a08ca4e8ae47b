"""What is asked of a hospital's desk, and of which site's state."""

from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from clients.site_file import SiteFile
from fedmodel.errors import ConfigError, LedgerError
from fedmodel.identity.passphrase import read_passphrase
from fedmodel.ledger import Ledger
from fedmodel.ledger.caps import Caps
from fedmodel.ledger.site_state import SiteState, is_state, sites_in

__all__ = ["Ask", "state_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What is asked.

    Args:
        do: what to do.
        job: with which offer.
        state: folder of the site's state, or of several sites'.
        site: which of them; or the site's own file, which says where its state is.
        dataset: whose budget is shown.
        expires: of an approval.
        why: kept with a decision.
        signer: file of the key of whoever decides, where the site's policy names approvers.
        name: of whoever a key is made for.
        passphrase: where the one is read that the key is sealed under; never one itself.
        to: file that a hand-in is written to.
        format: ``table`` or ``json``.
        budget: the site's caps.
    """

    do: Literal["jobs", "show", "approve", "refuse", "revoke", "key", "check", "hand-in"] = "jobs"
    job: str | None = None
    state: str | None = None
    site: str | None = None
    dataset: str = "main"
    expires: str = "30d"
    why: str | None = None
    signer: str | None = None
    name: str | None = None
    passphrase: str | None = None
    to: str | None = None
    format: Literal["table", "json"] = "table"
    budget: Caps = field(default_factory=Caps)

    def __post_init__(self) -> None:
        if self.do == "key":
            if not self.signer or not self.name:
                raise ConfigError(
                    'site key needs as=<file of your key> and name="YOUR NAME"; it makes the file, '
                    "and prints what the site's policy takes"
                )
            return
        if self.do == "check" and self.file is None:
            got = "" if self.site is None else f", got site={self.site}"
            raise ConfigError(f"site check needs site=<the site's own file, site.yaml>{got}")
        if self.file is None and (not self.state or not self.state.strip()):
            raise ConfigError(
                "site needs state=<folder of the site's own state>, or site=<its site.yaml>"
            )
        if self.do not in ("jobs", "check") and not self.job:
            where = f"site={self.site}" if self.file is not None else f"state={self.state}"
            raise ConfigError(
                f"site {self.do} needs a job: fedmodel site {self.do} RUN {where}; "
                f"fedmodel site jobs {where} lists them"
            )

    @property
    def file(self) -> Path | None:
        """The site's own file, where it is named."""
        named = self.site is not None and self.site.endswith((".yaml", ".yml"))
        return Path(str(self.site)).expanduser() if named else None

    def by(self, said: SiteFile) -> "Ask":
        """Return what is asked of the state, ledger and caps that the site's file names."""
        # Of the site's own key: who signs with another says where its own is read.
        own = said.coordinator.passphrase if self.signer is None else None
        return replace(
            self,
            state=str(said.state),
            site=None,
            dataset=said.dataset,
            passphrase=self.passphrase or own,
            budget=said.policy.caps if self.budget == Caps() else self.budget,
        )


def state_of(ask: Ask) -> SiteState:
    """Return the state of the one site that is meant.

    Raises:
        ConfigError: when there is none, or more than one.
    """
    root, site = Path(str(ask.state)).expanduser(), ask.site
    found = [root] if is_state(root) or (root / "offers").is_dir() else _sites_in(root)
    meant = [f for f in found if site is None or site in (f.name, _called(f))]
    if len(meant) != 1:
        names = ", ".join(_called(f) for f in found[:20])
        raise ConfigError(
            f"{root} has the state of {len(meant) or 'no'} sites"
            f"{'' if site is None else f' called {site!r}'}; set site= to one of: {names or 'none'}"
        )
    # A passphrase is of the key that decides.
    own = None if ask.signer is not None else read_passphrase(ask.passphrase)
    return SiteState(meant[0], _called(meant[0]), passphrase=own)


def _sites_in(root: Path) -> list[Path]:
    """Return the sites' folders; one that has had offers may have no key yet."""
    return sorted({*sites_in(root), *(path.parent for path in root.glob("*/offers"))})


def _called(folder: Path) -> str:
    """Return a site's name: by its ledgers, else its folder's."""
    for path in sorted((folder / "ledgers").glob("*.jsonl")):
        with suppress(LedgerError):  # of what can't be read the ledger's own verbs tell
            opened = Ledger(path).book().opened
            if opened is not None:
                return opened.site
    return folder.name
