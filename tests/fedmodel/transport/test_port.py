"""A port that can't be had: the system's reason, and nothing of gRPC's."""

import socket

import pytest

from fedmodel.errors import ConfigError, UnavailableError, exit_code
from fedmodel.transport.port import require_port


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:0", "0.0.0.0:0"])
def test_a_free_port(listen: str) -> None:
    require_port(listen)


def test_a_port_at_which_somebody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        said = f"can't listen at {listen}: Address already in use"
        with pytest.raises(UnavailableError, match=said) as raised:
            require_port(listen)
    assert exit_code(raised.value) == 3  # a service manager tries again: it may be free then
    require_port(listen)


def test_a_port_that_somebody_had_a_moment_ago() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        place = other.getsockname()
        with socket.create_connection(place), other.accept()[0]:
            pass  # closed here first: it lingers
    require_port(f"127.0.0.1:{place[1]}")


@pytest.mark.parametrize("listen", ["192.0.2.1:0", "http://0.0.0.0:0", "[x]:0"])
def test_no_address_of_this_machine(listen: str) -> None:
    with pytest.raises(ConfigError, match=r"can't listen at .*: .*; stop what"):
        require_port(listen)
