"""A port to listen at: why it can't be had, before gRPC says so in lines of its own."""

import errno
import socket

from fedmodel.errors import ConfigError, UnavailableError

__all__ = ["require_port"]


def require_port(listen: str) -> None:
    """Check that somebody could listen at an address, by binding to it for a moment.

    Of a name that leads to several, none may be taken: who dials that one would get elsewhere.

    gRPC tells of a port that it can't have by a line on stderr, which would stand between those of
    a log that is JSON, and keeps the reason from who calls it.

    Args:
        listen: host and port; port 0 is any that is free.

    Raises:
        UnavailableError: when something else listens there: it may end, as does one that is
            started anew.
        ConfigError: when nothing can be bound there otherwise, with the system's reason.
    """
    host, _, port = listen.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    faults: list[OSError] = []
    try:
        places = socket.getaddrinfo(bare, int(port), type=socket.SOCK_STREAM)
    except OSError as error:
        places, faults = [], [error]
    for family, kind, protocol, _, place in places:
        try:
            with socket.socket(family, kind, protocol) as tried:
                # As gRPC does: connections of a process before that linger are no hindrance.
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                tried.bind(place)
        except OSError as error:
            faults.append(error)
    taken = next((fault for fault in faults if fault.errno == errno.EADDRINUSE), None)
    if taken is None and len(faults) < len(places):
        return
    if faults and all(fault.errno == errno.EADDRNOTAVAIL for fault in faults):
        raise ConfigError(
            f"can't listen at {listen}: this machine has no such address; give one of its own, or "
            f"0.0.0.0:{port} for all of them"
        ) from faults[0]
    fault = taken or next(iter(faults), None)
    error_type = ConfigError if taken is None else UnavailableError
    raise error_type(
        f"can't listen at {listen}: {(fault and fault.strerror) or 'no such address'}; stop what "
        "listens there already, if something does, or choose another listen=HOST:PORT"
    ) from fault
