"""Secrets sealed under a passphrase: what opens them, and what no file can do to its reader."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmodel import _hazmat
from fedmodel.errors import ConfigError, FedmodelError, IdentityError, LedgerError
from fedmodel.identity import keyfile
from fedmodel.identity.keyfile import Scrypt, is_sealed, kept_secret, secret_text, write_secret
from fedmodel.seeds import Entropy
from tests.examples import examples

VECTORS = Path(__file__).resolve().parents[2] / "vectors"
FUZZ = settings(max_examples=examples(200), deadline=None, derandomize=True)
CHEAP = Scrypt(n=1 << 14)
SECRET = bytes(range(32))
WORDS = b"correct horse battery staple"


@pytest.mark.long
@pytest.mark.parametrize("case", json.loads((VECTORS / "scrypt.json").read_text())["cases"])
def test_scrypt_is_that_of_its_rfc(case: dict[str, Any]) -> None:
    key = _hazmat.scrypt(
        case["passphrase"].encode(),
        case["salt"].encode(),
        n=case["n"],
        r=case["r"],
        p=case["p"],
        length=64,
    )
    assert key.hex() == case["key"]


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    write_secret(path, secret_text(SECRET, "key", WORDS, cost=CHEAP))
    return path


@pytest.mark.long
def test_only_its_passphrase_opens_it(sealed: Path) -> None:
    assert is_sealed(sealed)
    assert sealed.stat().st_mode & 0o777 == 0o600
    assert SECRET.hex() not in sealed.read_text()
    assert kept_secret(sealed, "key", passphrase=WORDS) == SECRET
    for other in (b"", b"Correct horse battery staple", WORDS + b" "):
        with pytest.raises(IdentityError, match="another passphrase seals it, or it was changed"):
            kept_secret(sealed, "key", passphrase=other)
    with pytest.raises(ConfigError, match="is sealed, and no passphrase is given"):
        kept_secret(sealed, "key", Entropy())
    with pytest.raises(LedgerError, match="isn't a salt file but a key"):
        kept_secret(sealed, "salt", passphrase=WORDS)


def test_two_files_of_a_secret_have_nothing_in_common() -> None:
    one, two = (json.loads(secret_text(SECRET, "key", WORDS, cost=CHEAP)) for _ in range(2))
    assert one["kdf"]["salt"] != two["kdf"]["salt"]
    assert one["sealed"] != two["sealed"]


@pytest.mark.long
def test_what_is_written_costs_as_much_as_is_advised(tmp_path: Path) -> None:
    made = kept_secret(tmp_path / "key", "key", Entropy(), WORDS)
    head = json.loads((tmp_path / "key").read_text())
    assert (head["schema"], head["kdf"]["name"]) == ("fedmodel.keyfile/1", "scrypt")
    assert head["kdf"]["n"] >= 1 << 17
    assert head["kdf"]["r"] == 8
    assert kept_secret(tmp_path / "key", "key", passphrase=WORDS) == made


def test_what_earlier_versions_wrote_is_read_in_the_clear(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(f"fedmodel.key/1 {SECRET.hex()}\n")
    path.chmod(0o600)
    assert kept_secret(path, "key") == SECRET
    assert not is_sealed(path)
    # Whoever counts on a passphrase is told that there is none.
    with pytest.raises(ConfigError, match="isn't sealed, but a passphrase is given"):
        kept_secret(path, "key", passphrase=WORDS)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_others_may_not_read_it_though_it_is_sealed(sealed: Path, mode: int) -> None:
    sealed.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        kept_secret(sealed, "key", passphrase=WORDS)


def changed(path: Path, **change: Any) -> None:
    found = json.loads(path.read_text())
    found["kdf"] |= change.pop("kdf", {})
    path.write_text(json.dumps(found | change, separators=(",", ":"), sort_keys=True) + "\n")


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    "costs",
    [
        {"n": 1 << 40},
        {"n": 1 << 13},
        {"n": 100_000},
        {"n": 0},
        {"n": -(1 << 17)},
        {"n": 10**400},
        {"r": 1 << 20},
        {"p": 1 << 20},
        {"p": 0},
        {"name": "none"},
    ],
)
def test_costs_of_a_foreign_file_are_bounded_before_they_are_paid(
    sealed: Path, costs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def derive(*args: Any, **costs: Any) -> bytes:
        raise AssertionError("a key was derived")

    monkeypatch.setattr(_hazmat, "scrypt", derive)
    changed(sealed, kdf=costs)
    with pytest.raises(LedgerError, match="isn't a sealed file of this version"):
        kept_secret(sealed, "key", passphrase=WORDS)


def test_memory_that_isnt_there_is_one_clear_error(
    sealed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def derive(*args: Any, **costs: Any) -> bytes:
        raise MemoryError

    monkeypatch.setattr(_hazmat, "scrypt", derive)
    with pytest.raises(LedgerError, match="takes 16 MiB of memory"):
        kept_secret(sealed, "key", passphrase=WORDS)


def test_a_large_file_isnt_read(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"{" * (1 << 24))
    path.chmod(0o600)
    with pytest.raises(LedgerError, match="more than 4096 bytes"):
        kept_secret(path, "key", passphrase=WORDS)


@pytest.mark.parametrize("change", [{"kind": "salt"}, {"schema": "fedmodel.keyfile/2"}, {"x": 1}])
def test_a_file_says_what_it_is(sealed: Path, change: dict[str, Any]) -> None:
    changed(sealed, **change)
    with pytest.raises(LedgerError, match="isn't a"):
        kept_secret(sealed, "key", passphrase=WORDS)


def test_a_kind_is_authenticated(sealed: Path) -> None:
    changed(sealed, kind="tls-key")
    with pytest.raises(IdentityError, match="doesn't open"):
        kept_secret(sealed, "tls-key", passphrase=WORDS)


@pytest.mark.sample(5)
@pytest.mark.long
@pytest.mark.parametrize("place", range(0, 400, 23))
def test_a_changed_byte_is_noticed(sealed: Path, place: int) -> None:
    text = bytearray(sealed.read_bytes())
    text[place % (len(text) - 1)] ^= 1
    sealed.write_bytes(text)
    with pytest.raises(FedmodelError):
        kept_secret(sealed, "key", passphrase=WORDS)


@pytest.mark.long
@FUZZ
@given(st.binary(max_size=300) | st.text(max_size=80).map(lambda t: b"{" + t.encode()))
def test_any_bytes_are_a_secret_or_an_error(text: bytes) -> None:
    with contextlib.suppress(FedmodelError):
        assert len(keyfile._opened(Path("key"), "key", text, WORDS)) == 32
    with contextlib.suppress(FedmodelError):
        assert len(keyfile._clear(Path("key"), "key", text)) == 32
