"""A site on its roster: who the others are, and that it is itself among them by its own key."""

from clients.site import Site
from fedmodel.errors import ConfigError, ProtocolError, RefusedError
from fedmodel.identity import Roster

__all__ = ["own_roster"]


def own_roster(site: Site, joining: str) -> Roster:
    """Return the site's roster, after checking that the site is on it.

    Args:
        site: whose it is.
        joining: names this joining.

    Raises:
        RefusedError: when it has none, isn't on it, or is by another key.
        ProtocolError: when the joining has no name.
    """
    if site.roster is None:
        raise RefusedError(
            "the job hides updates (secagg), and this site has no roster that says who the others "
            "are; get the consortium's, or agree on secagg=off"
        )
    if not joining:
        raise ProtocolError("the job hides updates, but its offer doesn't name the joining")
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
