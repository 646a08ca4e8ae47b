"""TLS of a site and its coordinator: who is let in, by what, and what a renewal changes."""

import asyncio

import grpc
import pytest

from fedmodel.transport import tls
from tests.transport.consortium import TLS_NAME, Consortium
from tests.transport.echo import ask, serving


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    return Consortium(tmp_path_factory.mktemp("consortium"))


def channel(
    port: int, credentials: grpc.ChannelCredentials, name: str = TLS_NAME
) -> grpc.aio.Channel:
    options = tls.channel_options(None, name)
    return grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options)


def test_a_site_is_known_by_its_certificate_and_address(consortium: Consortium) -> None:
    site = consortium.sites["north"]

    async def talk() -> bytes:
        async with (
            serving(tls.server_credentials(consortium.coordinator, None)) as port,
            channel(port, tls.channel_credentials(site, None)) as link,
        ):
            return await ask(link)

    sha256, address, said = asyncio.run(talk()).decode().split()
    certificate = site.certificate()
    assert certificate is not None
    assert (sha256, said) == (certificate.sha256, "hello")
    assert address.startswith("127.0.0.1:")
