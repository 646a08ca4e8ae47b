"""The recipes against published vectors, and what they refuse."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.bindings._rust import openssl
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fedmodel import _hazmat
from fedmodel.errors import ProtocolError
from fedmodel.seeds import Entropy

VECTORS = Path(__file__).parents[1] / "vectors"


def vectors(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_text())


class Fixed(Entropy):
    def __init__(self, data: bytes) -> None:
        self.data = data

    def bytes(self, count: int) -> bytes:
        assert count == len(self.data)
        return self.data


def flipped(data: bytes, place: int) -> bytes:
    wrong = bytearray(data)
    wrong[place] ^= 1
    return bytes(wrong)


@pytest.mark.parametrize("name", ["aes_ctr", "aes_gcm", "hkdf", "hpke", "x25519"])
def test_the_vectors_say_where_they_are_from(name: str) -> None:
    assert vectors(name)["source"].startswith(("NIST ", "RFC "))


def test_x25519_as_published() -> None:
    data = vectors("x25519")
    for case in data["function"]:
        out = _hazmat.x25519(bytes.fromhex(case["scalar"]), bytes.fromhex(case["u"]))
        assert out.hex() == case["out"]
    k = u = bytes.fromhex(data["iterated"]["start"])
    for count in range(1, 1001):
        k, u = _hazmat.x25519(k, u), k
        if str(count) in data["iterated"]:
            assert k.hex() == data["iterated"][str(count)]


def test_x25519_exchange_as_published() -> None:
    case = {name: bytes.fromhex(text) for name, text in vectors("x25519")["exchange"].items()}
    assert _hazmat.x25519_public(case["alice_private"]) == case["alice_public"]
    assert _hazmat.x25519_public(case["bob_private"]) == case["bob_public"]
    assert _hazmat.x25519(case["alice_private"], case["bob_public"]) == case["shared"]
    assert _hazmat.x25519(case["bob_private"], case["alice_public"]) == case["shared"]


@pytest.mark.parametrize("public", [bytes(32), b"\1" + bytes(31), bytes(31), b""])
def test_x25519_refuses_low_order_and_wrong_lengths(public: bytes) -> None:
    for use in (_hazmat.x25519, lambda _, key: _hazmat.hpke_seal(key, b"text", b"")):
        with pytest.raises(ProtocolError, match="X25519 key isn't usable"):
            use(b"k" * 32, public)


@pytest.mark.parametrize("case", vectors("hkdf")["cases"])
def test_hkdf_as_published(case: dict[str, Any]) -> None:
    ikm, salt, info = (bytes.fromhex(case[name]) for name in ("ikm", "salt", "info"))
    assert _hazmat.hkdf(ikm, info, salt=salt, length=case["length"]).hex() == case["okm"]


def test_aes_ctr_as_published() -> None:
    data = {
        name: bytes.fromhex(text) for name, text in vectors("aes_ctr").items() if name != "source"
    }
    cipher = Cipher(algorithms.AES256(data["key"]), modes.CTR(data["counter"])).encryptor()
    assert cipher.update(data["plaintext"]) == data["ciphertext"]


def test_a_mask_stream_is_aes_of_2_3_4_and_so_on_in_either_mode() -> None:
    seed = bytes(range(32))
    block = Cipher(algorithms.AES256(seed), modes.ECB()).encryptor()
    want = b"".join(block.update(count.to_bytes(16)) for count in range(2, 302))
    assert _hazmat.mask_stream(seed).update(bytes(4800)) == want
    for gcm in (True, False):
        assert _hazmat._stream(seed, gcm=gcm).update(bytes(4800)) == want


def test_a_mask_stream_in_parts_is_the_stream() -> None:
    whole = _hazmat.mask_stream(b"s" * 32).update(bytes(1000))
    stream = _hazmat.mask_stream(b"s" * 32)
    parts = []
    for size in (1, 15, 16, 17, 400, 551):
        out = np.empty(size, np.uint8)
        stream.update_into(bytes(size), memoryview(out))  # type: ignore[arg-type]
        parts.append(out.tobytes())
    assert b"".join(parts) == whole


@pytest.mark.parametrize("case", vectors("aes_gcm")["cases"])
def test_aes_gcm_as_published(case: dict[str, str]) -> None:
    data = {name: bytes.fromhex(text) for name, text in case.items()}
    sealed = _hazmat.aead_seal(data["key"], data["plaintext"], data["aad"], Fixed(data["nonce"]))
    assert sealed == data["nonce"] + data["ciphertext"] + data["tag"]
    assert _hazmat.aead_open(data["key"], sealed, data["aad"]) == data["plaintext"]


def test_hpke_as_published() -> None:
    # The published text is sealed with associated data, which the public interface leaves empty.
    # So this opens it by the library's own helper, and then the same text without, under the
    # published key and nonce.
    data = {name: bytes.fromhex(text) for name, text in vectors("hpke").items() if name != "source"}
    private = X25519PrivateKey.from_private_bytes(data["skRm"])
    assert _hazmat.x25519_public(data["skRm"]) == data["pkRm"]
    opened = openssl.hpke._decrypt_with_aad(
        _hazmat._HPKE, data["enc"] + data["ct"], private, data["info"], data["aad"]
    )
    assert opened == data["pt"]
    bare = data["enc"] + AESGCM(data["key"]).encrypt(data["base_nonce"], data["pt"], b"")
    assert _hazmat.hpke_open(data["skRm"], bare, data["info"]) == data["pt"]


def _aead() -> tuple[bytes, Callable[[bytes, bytes, bytes], bytes]]:
    return _hazmat.aead_seal(b"k" * 32, b"text" * 25, b"context", Entropy()), _hazmat.aead_open


def _hpke() -> tuple[bytes, Callable[[bytes, bytes, bytes], bytes]]:
    public = _hazmat.x25519_public(b"k" * 32)
    return _hazmat.hpke_seal(public, b"text" * 25, b"context"), _hazmat.hpke_open


@pytest.mark.parametrize("make", [_aead, _hpke])
def test_what_was_sealed_opens_as_it_was_or_not_at_all(
    make: Callable[[], tuple[bytes, Callable[[bytes, bytes, bytes], bytes]]],
) -> None:
    sealed, opens = make()
    assert opens(b"k" * 32, sealed, b"context") == b"text" * 25
    assert make()[0] != sealed
    wrong = [
        (b"j" * 32, sealed, b"context"),
        (b"k" * 32, sealed, b"contexts"),
        (b"k" * 32, sealed[:-1], b"context"),
        (b"k" * 32, sealed[:5], b"context"),
        (b"k" * 32, b"", b"context"),
        *((b"k" * 32, flipped(sealed, place), b"context") for place in (0, 11, 40, -1)),
    ]
    for key, text, context in wrong:
        with pytest.raises(ProtocolError, match="doesn't open"):
            opens(key, text, context)
