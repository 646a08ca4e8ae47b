"""Certificates: what is issued, and that nothing else is relied on."""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmodel.errors import (
    ConfigError,
    ExpiredError,
    FedmodelError,
    IdentityError,
    PossessionError,
    PurposeError,
    SignerError,
)
from fedmodel.identity import certificates as c
from fedmodel.identity.validity import as_text, ending
from tests.examples import examples

FUZZ = settings(max_examples=examples(150), deadline=None, derandomize=True)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SEED, OTHER, ROOT = b"a" * 32, b"b" * 32, b"r" * 32
WHO = "0123456789abcdef" * 2
AUTHORITY = c.make_authority(ROOT, "c0" * 16, NOW)
REQUEST = c.make_request(SEED, WHO, "north.example.org")


def issued(request: str = REQUEST, **changes: Any) -> str:
    fields: dict[str, Any] = {"subject": WHO, "name": "north.example.org", "now": NOW}
    fields = fields | {"purpose": "site"} | changes
    return c.issue(AUTHORITY, ROOT, request, **fields)


def checked(pem: str, authority: str = AUTHORITY, **changes: Any) -> c.Certificate:
    fields: dict[str, Any] = {"subject": WHO, "name": "north.example.org", "now": NOW}
    fields = fields | {"purpose": "site"} | changes
    return c.check_certificate(pem, authority, **fields)


def test_what_is_issued_can_be_relied_on_for_ninety_days() -> None:
    said = checked(issued())
    assert said.names == ("north.example.org",)
    assert said.subject == WHO
    assert said.key == c.certified_key(SEED) != c.certified_key(OTHER)
    assert said.end - NOW == timedelta(days=90)
    assert said.start <= NOW
    checked(issued(), now=NOW + timedelta(days=90, seconds=-1))
    with pytest.raises(ExpiredError, match=r"was good until 2026-05-30T12:00:00Z"):
        checked(issued(), now=NOW + timedelta(days=90))
    with pytest.raises(ExpiredError, match=r"is good from .* on, and it is"):
        checked(issued(), now=NOW - timedelta(hours=1))


def test_a_warning_comes_thirty_days_ahead() -> None:
    end = checked(issued()).end
    assert ending("it", end, NOW + timedelta(days=59)) is None
    assert (
        ending("it", end, NOW + timedelta(days=60)) == f"it expires in 30 days, on {as_text(end)}"
    )
    assert ending("it", end, NOW + timedelta(days=91)) == f"it has expired, on {as_text(end)}"


def test_an_ip_address_is_a_name_too() -> None:
    request = c.make_request(SEED, WHO, "10.0.0.5")
    said = checked(issued(request, name="10.0.0.5"), name="10.0.0.5")
    assert said.names == ("10.0.0.5",)
    found = x509.load_pem_x509_certificate(said.pem.encode())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert isinstance(next(iter(names)), x509.IPAddress)


def test_openssl_agrees(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(AUTHORITY)
    (tmp_path / "leaf.pem").write_text(issued())
    (tmp_path / "request.pem").write_text(REQUEST)
    at = str(int(NOW.timestamp()))

    def verify(purpose: str) -> int:
        return subprocess.run(
            ["openssl", "verify", "-x509_strict", "-attime", at, "-purpose", purpose]  # noqa: RUF005
            + ["-CAfile", "ca.pem", "leaf.pem"],
            cwd=tmp_path,
            capture_output=True,
            check=False,
        ).returncode

    try:
        assert verify("sslclient") == 0
    except FileNotFoundError:
        pytest.skip("openssl isn't installed")
    assert verify("sslserver") != 0
    asked = subprocess.run(
        ["openssl", "req", "-verify", "-noout", "-in", "request.pem"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert asked.returncode == 0


def test_the_pem_of_a_key_is_the_certified_ones() -> None:
    key = serialization.load_pem_private_key(c.tls_key_pem(SEED), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    der = key.public_key().public_bytes(serialization.Encoding.DER, form)
    assert der == c.certified_key(SEED)


# -- what isn't relied on ------------------------------------------------------------------------


def test_another_authoritys_certificate_is_refused() -> None:
    foreign = c.make_authority(OTHER, "c1" * 16, NOW)
    same_name = c.make_authority(OTHER, "c0" * 16, NOW)
    for authority in (foreign, same_name, issued()):
        with pytest.raises(SignerError, match="isn't issued by the consortium's authority"):
            checked(issued(), authority)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"purpose": "coordinator"}, "is for a site, expected one for a coordinator"),
        ({"name": "south.example.org"}, "is for north.example.org .* expected south"),
        ({"subject": "ff" * 16}, "of identity 0123.* expected north.example.org of ffff"),
    ],
)
def test_a_certificate_is_for_one_purpose_name_and_identity(
    change: dict[str, Any], says: str
) -> None:
    with pytest.raises(PurposeError, match=says):
        checked(issued(), **change)


def test_an_authority_is_no_party_and_a_party_no_authority() -> None:
    with pytest.raises(PurposeError):
        checked(AUTHORITY)
    c.check_authority(AUTHORITY, NOW)
    with pytest.raises(IdentityError):
        c.check_authority(issued(), NOW)
    with pytest.raises(ExpiredError):
        c.check_authority(AUTHORITY, NOW + timedelta(days=4000))


def test_a_request_shows_that_its_key_is_there() -> None:
    assert c.check_request(REQUEST, WHO) == c.certified_key(SEED)
    stolen = bytearray(x509.load_pem_x509_csr(REQUEST.encode()).public_bytes(DER))
    stolen[-1] ^= 1
    pem = x509.load_der_x509_csr(bytes(stolen)).public_bytes(serialization.Encoding.PEM).decode()
    with pytest.raises(PossessionError, match="isn't signed by its own key"):
        c.check_request(pem, WHO)
    with pytest.raises(PossessionError, match="isn't signed by its own key"):
        issued(pem)
    with pytest.raises(PossessionError, match="it was made for somebody else"):
        c.check_request(REQUEST, "ff" * 16)


DER = serialization.Encoding.DER


def foreign_request(key: Any, *extra: x509.ExtensionType) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, WHO)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    for each in extra:
        builder = builder.add_extension(each, critical=False)
    made = builder.sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(lambda: rsa.generate_private_key(65537, 2048), marks=pytest.mark.long),
        lambda: ec.generate_private_key(ec.SECP384R1()),
    ],
)
def test_only_p256_is_certified(key: Any) -> None:
    with pytest.raises(IdentityError, match="expected a P-256 key"):
        issued(foreign_request(key()))


def test_what_a_request_wants_besides_isnt_given() -> None:
    wanted = foreign_request(
        ec.generate_private_key(ec.SECP256R1()),
        x509.BasicConstraints(ca=True, path_length=None),
        x509.SubjectAlternativeName([x509.DNSName("coordinator.example.org")]),
    )
    said = checked(issued(wanted))
    assert said.names == ("north.example.org",)


@pytest.mark.parametrize("name", ["", "North", "a b", "a..b", "-a", "*.org", "10.0.0", "010.0.0.5"])
def test_a_name_in_tls_is_one(name: str) -> None:
    with pytest.raises(ConfigError, match="must be a DNS name in small letters"):
        c.make_request(SEED, WHO, name)


def test_a_large_file_isnt_parsed() -> None:
    with pytest.raises(IdentityError, match="at most 16384 characters"):
        c.read_certificate("x" * (1 << 20))


@pytest.mark.long
@FUZZ
@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda b: b.decode("latin-1")))
def test_any_text_is_refused(text: str) -> None:
    for read in (
        c.read_certificate,
        lambda pem: c.check_request(pem, WHO),
        lambda pem: c.check_authority(pem, NOW),
        checked,
    ):
        with pytest.raises(FedmodelError):
            read(text)


@pytest.mark.long
@FUZZ
@given(st.integers(0, 10_000), st.integers(0, 7))
def test_a_flipped_bit_is_noticed(place: int, bit: int) -> None:
    der = bytearray(x509.load_pem_x509_certificate(ISSUED.encode()).public_bytes(DER))
    der[place % len(der)] ^= 1 << bit
    pem = "-----BEGIN CERTIFICATE-----\n" + _base64(bytes(der)) + "-----END CERTIFICATE-----\n"
    try:
        checked(pem)
    except FedmodelError:
        return
    # An ECDSA signature has more than one spelling; what it signs has one.
    found, whole = (x509.load_pem_x509_certificate(text.encode()) for text in (pem, ISSUED))
    assert found.tbs_certificate_bytes == whole.tbs_certificate_bytes


def _base64(data: bytes) -> str:
    import base64

    return base64.encodebytes(data).decode()


ISSUED = issued()
