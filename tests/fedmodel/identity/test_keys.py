import pickle
from pathlib import Path

import pytest

from fedmodel.errors import ConfigError, LedgerError
from fedmodel.identity import SigningKey, kept_secret
from fedmodel.seeds import Entropy


def test_a_key_signs_and_prints_no_secret() -> None:
    seed = Entropy().bytes(32)
    key = SigningKey(seed)
    assert key.public == SigningKey(seed).public
    assert key.sign(b"x") == SigningKey(seed).sign(b"x")
    assert seed.hex() not in repr(key)
    assert key.fingerprint in repr(key)
    with pytest.raises(TypeError):
        pickle.dumps(key)


def test_a_secret_is_drawn_once_and_kept_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "key"
    secret = kept_secret(path, "key", Entropy())
    assert kept_secret(path, "key", Entropy()) == kept_secret(path, "key") == secret
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text() == f"fedmodel.key/1 {secret.hex()}\n"
    assert [p.name for p in tmp_path.iterdir()] == ["key"]


def test_what_is_wrong_with_a_secret_is_told(tmp_path: Path) -> None:
    path = tmp_path / "key"
    with pytest.raises(LedgerError, match="restore the site's key from a copy"):
        kept_secret(path, "key")
    assert not path.exists()
    secret = kept_secret(path, "key", Entropy()).hex()
    with pytest.raises(LedgerError, match="isn't a salt file"):
        kept_secret(path, "salt", Entropy())
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        kept_secret(path, "key", Entropy())
    path.chmod(0o600)
    for text in ("", "fedmodel.key/1 ", f"fedmodel.key/2 {secret}", f"fedmodel.key/1 {secret}00"):
        path.write_text(text)
        with pytest.raises(LedgerError, match="isn't a key file") as caught:
            kept_secret(path, "key", Entropy())
        assert secret not in str(caught.value)
    with pytest.raises(LedgerError, match="can't read"):
        kept_secret(tmp_path, "key", Entropy())
    with pytest.raises(LedgerError, match="can't write"):
        kept_secret(tmp_path / "none" / "key", "key", Entropy())
