"""TLS of a site and its coordinator: who is let in, by what, and what a renewal changes."""

import asyncio
import logging
import ssl
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import grpc
import pytest

from fedmodel.errors import ConfigError, FedmodelError, IdentityError, RunError
from fedmodel.identity.certificates import read_certificate
from fedmodel.identity.home import PartyHome
from fedmodel.identity.validity import utc_now
from fedmodel.transport import tls
from fedmodel.transport.options import channel_options, server_options
from fedmodel.transport.versions import check_versions
from tests.fedmodel.transport.consortium import TLS_NAME, Consortium, foreign_pair, rsa_pair
from tests.fedmodel.transport.echo import ask, serving, site_credentials

T = TypeVar("T")
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    return Consortium(tmp_path_factory.mktemp("consortium"))


def channel(
    port: int, credentials: grpc.ChannelCredentials, name: str = TLS_NAME
) -> grpc.aio.Channel:
    options = channel_options(None, name)
    return grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options)


def with_server(credentials: grpc.ServerCredentials, talk: Callable[[int], Awaitable[T]]) -> T:
    """Return what comes of talking to a server with these credentials, by its port."""

    async def run() -> T:
        async with serving(credentials) as port:
            return await talk(port)

    return asyncio.run(run())


async def refused(link: grpc.aio.Channel) -> grpc.StatusCode:
    """Return how a channel is refused."""
    async with link:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await ask(link)
    code = raised.value.code()
    assert isinstance(code, grpc.StatusCode)
    return code


def served_sha256(port: int) -> str:
    """Return the SHA-256 of the certificate that a server shows."""
    pem = ssl.get_server_certificate(("127.0.0.1", port), timeout=60)
    return read_certificate(pem).sha256


def test_a_site_is_known_by_its_certificate_and_address(consortium: Consortium) -> None:
    site = consortium.sites["north"]

    async def talk(port: int) -> bytes:
        async with channel(port, site_credentials(site, None)) as link:
            return await ask(link)

    said = with_server(tls.server_credentials(consortium.coordinator, None), talk)
    sha256, address, message = said.decode().split()
    certificate = site.certificate()
    assert certificate is not None
    assert (sha256, message) == (certificate.sha256, "hello")
    assert address.startswith("127.0.0.1:")


def strangers(consortium: Consortium) -> dict[str, grpc.ChannelCredentials]:
    """Return the credentials of those who aren't let in, with what is wrong with them."""
    root, now = consortium.authority.encode(), utc_now()
    key, certificate, _ = foreign_pair("site")
    pairs = {
        "expired": consortium.pair(start=now - 20 * DAY),
        "not yet valid": consortium.pair(start=now + DAY),
        "a coordinator's": consortium.pair("coordinator"),
        "another authority's": (key, certificate),
    }
    made = {what: grpc.ssl_channel_credentials(root, *pair) for what, pair in pairs.items()}
    return {"none": grpc.ssl_channel_credentials(root), **made}


@pytest.mark.long
def test_strangers_are_refused_and_a_site_is_let_in(consortium: Consortium) -> None:
    async def talk(port: int) -> tuple[dict[str, grpc.StatusCode], bytes]:
        found = {
            what: await refused(channel(port, credentials))
            for what, credentials in strangers(consortium).items()
        }
        found["plaintext"] = await refused(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
        good = grpc.ssl_channel_credentials(consortium.authority.encode(), *consortium.pair())
        async with channel(port, good) as link:
            return found, await ask(link)

    found, answer = with_server(tls.server_credentials(consortium.coordinator, None), talk)
    assert found == dict.fromkeys(found, grpc.StatusCode.UNAVAILABLE)
    assert len(found) == 6
    assert answer.endswith(b"hello")


@pytest.mark.long
def test_a_site_refuses_other_servers(consortium: Consortium) -> None:
    root, now = consortium.authority.encode(), utc_now()
    key, certificate, _ = foreign_pair("coordinator")
    servers = [
        (key, certificate),
        consortium.pair("coordinator", now - 20 * DAY, TLS_NAME),
        consortium.pair("coordinator", now + DAY, TLS_NAME),
        consortium.pair("coordinator", name="other.example.org"),
        consortium.pair("site", name=TLS_NAME),
    ]
    own = site_credentials(consortium.sites["north"], None)
    for pair in servers:
        credentials = grpc.ssl_server_credentials([pair], root, True)
        code = with_server(credentials, lambda port: refused(channel(port, own)))
        assert code == grpc.StatusCode.UNAVAILABLE
    good = grpc.ssl_server_credentials([consortium.pair("coordinator", name=TLS_NAME)], root, True)

    async def talk(port: int) -> bytes:
        async with channel(port, own) as link:
            return await ask(link)

    assert with_server(good, talk).endswith(b"hello")


def test_the_servers_own_test_takes_1_3_and_refuses_1_2(consortium: Consortium) -> None:
    home = consortium.coordinator

    async def talk(port: int) -> None:
        for host in ("127.0.0.1", "0.0.0.0"):
            await asyncio.to_thread(check_versions, f"{host}:{port}", home)

    with_server(tls.server_credentials(home, None), talk)


def test_a_whole_handshake_of_1_2_fails_also_with_a_good_certificate(
    consortium: Consortium, tmp_path: Path
) -> None:
    (tmp_path / "pair").write_bytes(b"".join(consortium.pair()))
    context = ssl.create_default_context(cadata=consortium.authority)
    context.load_cert_chain(tmp_path / "pair")

    async def greet(port: int) -> None:
        _, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname=TLS_NAME
        )
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    async def talk(port: int) -> None:
        await greet(port)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await greet(port)

    with_server(tls.server_credentials(consortium.coordinator, None), talk)


@pytest.mark.long
def test_an_rsa_key_lets_1_2_in_and_the_servers_own_test_says_so(consortium: Consortium) -> None:
    root = consortium.authority.encode()
    credentials = grpc.ssl_server_credentials([rsa_pair(consortium)], root, True)

    async def talk(port: int) -> None:
        await asyncio.to_thread(check_versions, f"127.0.0.1:{port}", consortium.coordinator)

    with pytest.raises(RunError, match=r"takes TLS 1\.2, expected 1\.3 only"):
        with_server(credentials, talk)


def test_the_servers_own_test_says_that_1_3_fails_or_nobody_answers(consortium: Consortium) -> None:
    home, root = consortium.coordinator, consortium.authority.encode()
    key, certificate, _ = foreign_pair("coordinator")
    other = grpc.ssl_server_credentials([(key, certificate)], root, True)
    ports = []

    async def talk(port: int) -> None:
        ports.append(port)
        await asyncio.to_thread(check_versions, f"127.0.0.1:{port}", home)

    with pytest.raises(RunError, match=r"doesn't take TLS 1\.3 as fl\.example\.org of this"):
        with_server(other, talk)
    with pytest.raises(RunError, match="doesn't answer itself"):
        check_versions(f"127.0.0.1:{ports[0]}", home)


@pytest.mark.long
@pytest.mark.parametrize("first", ["grpc", "os; os.environ['GRPC_SSL_CIPHER_SUITES'] = 'ALL'"])
def test_other_suites_are_refused(first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRPC_SSL_CIPHER_SUITES")
    code = f"import {first}\nfrom fedmodel.transport import tls\ntls.require_suites()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ConfigError: gRPC was loaded with other cipher suites" in done.stderr


@pytest.mark.long
def test_a_renewed_certificate_is_served_at_once(tmp_path: Path) -> None:
    consortium = Consortium(tmp_path, ("north",))
    home, site = consortium.coordinator, consortium.sites["north"]
    old = home.certificate()

    async def talk(port: int) -> tuple[str, str, bytes]:
        own = site_credentials(site, None)
        async with channel(port, own) as before, channel(port, own) as after:
            await ask(before)
            first = await asyncio.to_thread(served_sha256, port)
            home.renew()
            consortium.admit(home)
            assert await asyncio.to_thread(served_sha256, port) == first
            consortium.hand_out(home)
            second = await asyncio.to_thread(served_sha256, port)
            return first, second, await ask(before) + await ask(after)

    first, second, answers = with_server(tls.server_credentials(home, None), talk)
    new = home.certificate()
    assert old is not None
    assert new is not None
    assert (first, second) == (old.sha256, new.sha256)
    assert first != second
    assert answers.count(b"hello") == 2


@pytest.mark.long
def test_a_broken_new_file_changes_nothing_and_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    consortium = Consortium(tmp_path, ("north",))
    home = consortium.coordinator
    path = home.folder / "certificate.pem"
    good = path.read_text()

    async def talk(port: int) -> list[str]:
        seen = [await asyncio.to_thread(served_sha256, port)]
        for text in ("no certificate", "no certificate at all", good):
            path.write_text(text)
            seen += [await asyncio.to_thread(served_sha256, port) for _ in range(2)]
        return seen

    with caplog.at_level(logging.INFO, logger="fedmodel.transport"):
        seen = with_server(tls.server_credentials(home, None), talk)
    assert set(seen) == {read_certificate(good).sha256}
    told = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == 1
    assert "the certificate in use stays" in told[0]
    assert "was read anew" in caplog.records[-1].message


@pytest.mark.long
def test_what_is_no_good_at_the_start_is_named(tmp_path: Path) -> None:
    consortium = Consortium(tmp_path, ("north",))
    home, site = consortium.coordinator, consortium.sites["north"]
    path = home.folder / "certificate.pem"
    good = path.read_text()
    _, rsa_certificate = rsa_pair(consortium)
    _, expired = consortium.pair("coordinator", utc_now() - 20 * DAY, TLS_NAME)

    def told(kind: type[FedmodelError] = IdentityError) -> str:
        with pytest.raises(kind) as raised:
            tls.server_credentials(home, None)
        return str(raised.value)

    path.write_bytes(rsa_certificate)
    assert "expected a P-256 key, got another" in told()
    path.write_bytes(expired)
    assert "coordinator" in told()
    path.write_text(good)
    key = (home.folder / "tls-key").read_text()
    (home.folder / "tls-key").write_text((site.folder / "tls-key").read_text())
    assert "the certificate is for another TLS key" in told()
    (home.folder / "tls-key").write_text(key)
    path.unlink()
    assert "has no certificate yet" in told(ConfigError)
    with pytest.raises(IdentityError, match="expected one for a coordinator"):
        tls.server_credentials(site, None)


@pytest.mark.slow
def test_sealed_keys_open_under_their_passphrase_alone(tmp_path: Path) -> None:
    consortium = Consortium(tmp_path, ("north",))
    sealed = PartyHome(tmp_path / "sealed")
    words = b"correct horse battery staple"
    sealed.make("site", "sealed", None, words)
    consortium.admit(sealed)
    consortium.hand_out(sealed)

    async def talk(port: int) -> bytes:
        async with channel(port, site_credentials(sealed, words)) as link:
            return await ask(link)

    answer = with_server(tls.server_credentials(consortium.coordinator, None), talk)
    assert answer.endswith(b"hello")
    with pytest.raises(IdentityError, match="doesn't open"):
        site_credentials(sealed, b"wrong")
    with pytest.raises(ConfigError, match="no passphrase is given"):
        site_credentials(sealed, None)


def test_no_key_is_shown(consortium: Consortium) -> None:
    material = tls.read_material(consortium.coordinator, None, "coordinator")
    assert b"PRIVATE KEY" in material.key
    assert "PRIVATE" not in repr(material)


def test_a_dead_peer_is_noticed_within_45_seconds_at_both_ends() -> None:
    for options in (server_options(), channel_options(None, TLS_NAME)):
        said = dict(options)
        assert int(said["grpc.keepalive_time_ms"]) + int(said["grpc.http2.ping_timeout_ms"]) < 45e3
        # Oftener than a server allows ends with "Too many pings".
        least = dict(server_options())["grpc.http2.min_ping_interval_without_data_ms"]
        assert int(said["grpc.keepalive_time_ms"]) > int(least)


def test_while_a_site_pings_its_coordinator_neednt() -> None:
    site, coordinator = (
        int(dict(options)["grpc.keepalive_time_ms"])
        for options in (channel_options(None, TLS_NAME), server_options())
    )
    assert coordinator - site >= 2000  # a site's ping may come so much later than the one before


def test_a_second_server_on_the_port_doesnt_start(consortium: Consortium) -> None:
    credentials = tls.server_credentials(consortium.coordinator, None)

    async def talk(port: int) -> None:
        other = grpc.aio.server(options=server_options())
        with pytest.raises(RuntimeError, match="bind"):
            other.add_secure_port(f"127.0.0.1:{port}", credentials)

    with_server(credentials, talk)


def test_connections_stay_below_the_limit_of_files(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, most in ((1024, 512), (1 << 20, 4096)):
        monkeypatch.setattr("resource.getrlimit", lambda _, limit=limit: (limit, limit))
        assert dict(server_options())["grpc.max_allowed_incoming_connections"] == most
