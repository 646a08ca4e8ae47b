"""A site on its roster: who the others are, and that it is itself among them by its own key."""

from clients.site import Site
from fedmodel.errors import ConfigError, ProtocolError, RefusedError
from fedmodel.identity import Roster

__all__ = ["hidden_roster", "own_roster"]


def own_roster(site: Site, why: str) -> Roster:
    """Return the site's roster, after checking that the site is on it.

    Args:
        site: whose it is.
        why: it is needed.

    Raises:
        RefusedError: when it has none, isn't on it, or is by another key.
    """
    if site.roster is None:
        raise RefusedError(
            f"{why}, and this site has no roster that says who the others are; get the "
            "consortium's, or agree on secagg=off with a coordinator that has none"
        )
    try:
        known = site.roster.keys[site.roster.number_of(site.name)]
    except ConfigError as error:
        raise RefusedError(str(error)) from error
    if known != site.state.key.public:
        raise RefusedError(
            "the roster has another key under this site's name than this site's own; get the "
            "consortium to enter the right one"
        )
    return site.roster


def hidden_roster(site: Site, joining: str) -> Roster:
    """Return the roster of a site whose updates are to be hidden in a joining.

    Args:
        site: whose it is.
        joining: names this joining.

    Raises:
        RefusedError: as :func:`own_roster`.
        ProtocolError: when the joining has no name.
    """
    roster = own_roster(site, "the job hides updates (secagg)")
    if not joining:
        raise ProtocolError("the job hides updates, but its offer doesn't name the joining")
    return roster
