"""Certificates for TLS: keys, requests, the consortium's authority, and what it certifies.

X.509 (RFC 5280) over P-256 with SHA-256. A TLS key is derived from 32 secret bytes by HKDF (FIPS
186-5, A.2.1: 128 bits more than the order has, so that no scalar is likelier than another). A
certificate says one purpose, one name and whose identity it belongs to; whatever else a request
asks for isn't copied. Time is an argument.
"""

import ipaddress
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, TypeAlias, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedmodel import _hazmat
from fedmodel.errors import IdentityError, PossessionError, PurposeError, SignerError
from fedmodel.identity.names import require_tls_name
from fedmodel.identity.validity import SKEW, check_valid

__all__ = [
    "DAYS",
    "Certificate",
    "Purpose",
    "certified_key",
    "check_authority",
    "check_certificate",
    "check_request",
    "issue",
    "make_authority",
    "make_request",
    "read_certificate",
    "tls_key_pem",
]

DAYS = 90
Purpose: TypeAlias = Literal["site", "coordinator"]

_AUTHORITY_DAYS = 3653
_LARGEST = 1 << 14  # bytes of a PEM file; a certificate of ours has some 900
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # SP 800-186, 3.2.1.3
_USES = {"site": ExtendedKeyUsageOID.CLIENT_AUTH, "coordinator": ExtendedKeyUsageOID.SERVER_AUTH}
_BAD = (  # what reading a foreign file may raise
    ValueError,
    TypeError,
    UserWarning,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What a certificate says.

    Args:
        pem: its text.
        sha256: of its DER form, hex: what ``openssl x509 -fingerprint -sha256`` shows.
        subject: common name: fingerprint of the identity that it belongs to.
        names: in TLS.
        start: of its validity.
        end: likewise.
        key: the certified key, DER (RFC 5480).
    """

    pem: str
    sha256: str
    subject: str
    names: tuple[str, ...]
    start: datetime
    end: datetime
    key: bytes


def tls_key_pem(seed: bytes) -> bytes:
    """Return a TLS key as PKCS#8 PEM, in the clear: for memory, not for a file.

    Args:
        seed: 32 random bytes.
    """
    return _key(seed).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def make_request(seed: bytes, subject: str, name: str) -> str:
    """Return a request for a certificate (PKCS#10, RFC 2986), PEM, signed by the key it is for.

    Args:
        seed: of the TLS key.
        subject: fingerprint of the identity that it will belong to.
        name: in TLS.
    """
    builder = x509.CertificateSigningRequestBuilder().subject_name(_named(subject))
    builder = builder.add_extension(_alternative(name), critical=False)
    return _pem(builder.sign(_key(seed), hashes.SHA256()))


def check_request(pem: str, subject: str) -> bytes:
    """Return the key (DER) that a request is for, once it is shown that whoever asks has it.

    Args:
        pem: of the request, from outside.
        subject: that it must name.

    Raises:
        IdentityError: when it isn't a request for a P-256 key.
        PossessionError: when its own key hasn't signed it, or it is for another identity.
    """
    request = _read(x509.load_pem_x509_csr, pem, "a certificate request")
    try:
        key = _public_bytes(request.public_key())
        signed, named = request.is_signature_valid, _common_name(request.subject)
    except _BAD as error:
        raise _unusual("a certificate request", error) from error
    if not signed:
        raise PossessionError(
            "the certificate request isn't signed by its own key: whoever asks may not have that "
            "key, or the request was changed; ask for a new one"
        )
    if named != subject:
        raise PossessionError(
            f"the certificate request is for identity {named:.40}, expected {subject}: it was made "
            "for somebody else; ask for a new one"
        )
    return key


def make_authority(seed: bytes, name: str, now: datetime) -> str:
    """Return the certificate of an authority, PEM, signed by itself: of ten years.

    Args:
        seed: of its key.
        name: of the consortium's identity (its fingerprint).
        now: the time.
    """
    key, subject = _key(seed), _named(name)
    end = now + timedelta(days=_AUTHORITY_DAYS)
    builder = _builder(subject, subject, key.public_key(), now, end)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(authority=True), critical=True)
    return _pem(builder.sign(key, hashes.SHA256()))


def issue(
    authority: str,
    seed: bytes,
    request: str,
    *,
    subject: str,
    name: str,
    purpose: Purpose,
    now: datetime,
    days: int = DAYS,
) -> str:
    """Return a certificate, PEM, for the key of a request.

    Args:
        authority: certificate of who issues it.
        seed: of the authority's key.
        request: whose key is certified; of what else it asks for nothing is taken.
        subject: fingerprint of the identity that it belongs to.
        name: in TLS.
        purpose: ``site`` (a TLS client) or ``coordinator`` (a TLS server).
        now: the time.
        days: that it is good for, never beyond the authority's own time.

    Raises:
        IdentityError: when the request isn't one.
        PossessionError: when it isn't signed by its own key, or names another identity.
        ExpiredError: when the authority's own time is over.
    """
    certified = check_request(request, subject)
    end = min(now + timedelta(days=days), check_authority(authority, now).end)
    issuer = _read(x509.load_pem_x509_certificate, authority, "an authority's certificate")
    key = _p256(serialization.load_der_public_key(certified))
    builder = _builder(_named(subject), issuer.subject, key, now, end)
    for extension, critical in (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_usage(authority=False), True),
        (x509.ExtendedKeyUsage([_USES[purpose]]), True),
        (_alternative(name), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(_p256(issuer.public_key())), False),
    ):
        builder = builder.add_extension(extension, critical=critical)
    return _pem(builder.sign(_key(seed), hashes.SHA256()))


def read_certificate(pem: str) -> Certificate:
    """Return what a certificate says; whether it can be relied on is another question.

    Raises:
        IdentityError: when it isn't one, or not for a P-256 key.
    """
    found = _read(x509.load_pem_x509_certificate, pem, "a certificate")
    try:
        return Certificate(
            pem=pem,
            sha256=found.fingerprint(hashes.SHA256()).hex(),
            subject=_common_name(found.subject),
            names=_names(found),
            start=found.not_valid_before_utc,
            end=found.not_valid_after_utc,
            key=_public_bytes(found.public_key()),
        )
    except _BAD as error:
        raise _unusual("a certificate", error) from error


def check_authority(pem: str, now: datetime) -> Certificate:
    """Return what an authority's certificate says, once it may certify others.

    Raises:
        IdentityError: when it isn't a certificate, or isn't signed by its own key.
        PurposeError: when it isn't an authority's.
        ExpiredError: when its time is over.
    """
    found = _read(x509.load_pem_x509_certificate, pem, "an authority's certificate")
    try:
        found.verify_directly_issued_by(found)
        basic = found.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (*_BAD, InvalidSignature) as error:
        raise _unusual("an authority's certificate", error) from error
    if not basic.ca:
        raise PurposeError("expected an authority's certificate, got a party's")
    said = read_certificate(pem)
    check_valid("the authority's certificate", said.start, said.end, now)
    return said


def check_certificate(
    pem: str, authority: str, *, purpose: Purpose, subject: str, name: str, now: datetime
) -> Certificate:
    """Return what a certificate says, once it can be relied on.

    Args:
        pem: of the certificate, from outside.
        authority: certificate of the consortium's authority.
        purpose: that it must be for.
        subject: fingerprint of the identity that it must belong to.
        name: in TLS that it must be for.
        now: the time.

    Raises:
        IdentityError: when it isn't a certificate.
        SignerError: when another authority has issued it, or it was changed.
        PurposeError: when it is for another purpose, identity or name.
        ExpiredError: when its time is over, or hasn't begun.
    """
    found = _read(x509.load_pem_x509_certificate, pem, "a certificate")
    issuer = _read(x509.load_pem_x509_certificate, authority, "an authority's certificate")
    try:
        found.verify_directly_issued_by(issuer)
    except (*_BAD, InvalidSignature) as error:
        raise SignerError(
            "the certificate isn't issued by the consortium's authority (another one's, or it was "
            "changed); take the one that the consortium has handed out"
        ) from error
    said = read_certificate(pem)
    _check_use(found, purpose)
    if (said.subject, said.names) != (subject, (name,)):
        raise PurposeError(
            f"the certificate is for {', '.join(said.names):.80} of identity {said.subject:.40}, "
            f"expected {name} of {subject}; take the one that was issued for this party"
        )
    check_valid(f"the certificate of {name}", said.start, said.end, now)
    return said


def certified_key(seed: bytes) -> bytes:
    """Return the public half (DER) of a TLS key: what a certificate of it names."""
    return _public_bytes(_key(seed).public_key())


def _check_use(found: x509.Certificate, purpose: Purpose) -> None:
    try:
        uses = list(found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        authority = found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except _BAD as error:
        raise PurposeError("the certificate doesn't say what it is for") from error
    if uses != [_USES[purpose]] or authority:
        known = {use: name for name, use in _USES.items()}
        said = " and ".join(known.get(use, use.dotted_string) for use in uses)
        raise PurposeError(
            f"the certificate is for a {said:.80}{' and an authority' * authority}, expected one "
            f"for a {purpose}"
        )


def _key(seed: bytes) -> ec.EllipticCurvePrivateKey:
    wide = _hazmat.hkdf(seed, b"fedmodel.tls-key/1", length=48)
    return ec.derive_private_key(int.from_bytes(wide) % (_ORDER - 1) + 1, ec.SECP256R1())


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _named(subject: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])


def _alternative(name: str) -> x509.SubjectAlternativeName:
    require_tls_name("a name in TLS", name)
    try:
        return x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(name))])
    except ValueError:
        return x509.SubjectAlternativeName([x509.DNSName(name)])


def _names(found: x509.Certificate) -> tuple[str, ...]:
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in names)


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if len(found) == 1 else ""


def _p256(key: object) -> ec.EllipticCurvePublicKey:
    # An RSA key at the server would let TLS 1.2 in again; Ed25519 no TLS library of gRPC takes.
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("expected a P-256 key, got another")
    return key


def _public_bytes(key: object) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return _p256(key).public_bytes(serialization.Encoding.DER, form)


def _pem(made: x509.Certificate | x509.CertificateSigningRequest) -> str:
    return made.public_bytes(serialization.Encoding.PEM).decode()


def _read(load: Callable[[bytes], T], pem: str, what: str) -> T:
    if len(pem) > _LARGEST:
        raise IdentityError(f"{what} has at most {_LARGEST} characters, got {len(pem)}")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # of what RFC 5280 disallows
        try:
            return load(pem.encode())
        except _BAD as error:
            raise _unusual(what, error) from error


def _unusual(what: str, error: Exception) -> IdentityError:
    return IdentityError(f"expected {what} (PEM, P-256), got something else ({error!s:.120})")
