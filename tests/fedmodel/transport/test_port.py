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


@pytest.mark.parametrize("other", ["192.0.2.1", "127.0.0.2"])
@pytest.mark.parametrize("turned", [False, True])
def test_a_name_of_several_addresses_of_which_one_is_taken(
    other: str, turned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the other isn't this machine's or is free: half of the sites would go elsewhere."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        places = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))
            for host in ("127.0.0.1", other)
        ]
        found = places[::-1] if turned else places
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        with pytest.raises(UnavailableError, match="already in use"):
            require_port(f"coordinator.example:{port}")


def test_of_several_addresses_one_that_isnt_this_machines_is_no_hindrance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 0))
        for host in ("127.0.0.1", "192.0.2.1")
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    require_port("coordinator.example:0")


def test_a_port_that_somebody_had_a_moment_ago() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        place = other.getsockname()
        with socket.create_connection(place), other.accept()[0]:
            pass  # closed here first: it lingers
    require_port(f"127.0.0.1:{place[1]}")


@pytest.mark.parametrize("listen", ["http://0.0.0.0:0", "[x]:0"])
def test_no_address_of_this_machine(listen: str) -> None:
    with pytest.raises(ConfigError, match=r"can't listen at .*: .*; stop what"):
        require_port(listen)


def test_an_address_of_another_machine_is_told_as_that() -> None:
    """Nothing listens there that could be stopped."""
    said = "can't listen at 192.0.2.1:0: this machine has no such address; give one of its own"
    with pytest.raises(ConfigError, match=said) as raised:
        require_port("192.0.2.1:0")
    assert "stop what" not in str(raised.value)
