"""Passphrases: where they are read, and that none is ever typed as an argument or shown."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedmodel.errors import ConfigError
from fedmodel.identity.passphrase import read_passphrase

WORDS = "correct horse battery staple"


@pytest.fixture
def descriptor() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):
            os.close(end)


def test_without_a_source_there_is_none() -> None:
    assert read_passphrase(None) is None


def test_a_prompt_asks_twice_for_a_new_one() -> None:
    asked: list[str] = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return WORDS

    assert read_passphrase("prompt", ask=ask) == WORDS.encode()
    assert len(asked) == 1
    assert read_passphrase("prompt", new=True, ask=ask) == WORDS.encode()
    assert len(asked) == 3
    answers = iter([WORDS, WORDS + "x"])
    with pytest.raises(ConfigError, match="the two passphrases differ"):
        read_passphrase("prompt", new=True, ask=lambda _: next(answers))


def test_one_spelling_of_a_letter_opens_what_another_sealed() -> None:
    one = read_passphrase("prompt", ask=lambda _: "B\u00e4renfell")
    assert one == read_passphrase("prompt", ask=lambda _: "Ba\u0308renfell")


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_file_descriptor_gives_one_line(descriptor: tuple[int, int], end: str) -> None:
    out, into = descriptor
    os.write(into, (WORDS + end).encode())
    os.close(into)
    assert read_passphrase(f"fd:{out}", new=True) == WORDS.encode()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "got none"),
        (b"\n", "got none"),
        (b"x" * 2000, "got more"),
        (b"one\ntwo", "got several"),
        (b"\xff\xfe" * 8, "in UTF-8"),
        (b"short", "at least 12 characters, got 5"),
    ],
)
def test_what_cant_be_a_passphrase_is_refused_and_not_shown(
    descriptor: tuple[int, int], text: bytes, says: str
) -> None:
    out, into = descriptor
    os.write(into, text)
    os.close(into)
    with pytest.raises(ConfigError, match=says) as caught:
        read_passphrase(f"fd:{out}", new=True)
    assert "two" not in str(caught.value)


def test_a_closed_descriptor_is_told() -> None:
    with pytest.raises(ConfigError, match="can't read a passphrase from file descriptor 987654"):
        read_passphrase("fd:987654")


def test_a_credential_is_a_file_of_the_service_manager(tmp_path: Path) -> None:
    path, here = tmp_path / "site-key", {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    path.write_text(WORDS + "\n")
    for mode in (0o400, 0o600, 0o440):
        path.chmod(mode)
        assert read_passphrase("credential:site-key", environ=here) == WORDS.encode()
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="everybody may read the credential"):
        read_passphrase("credential:site-key", environ=here)
    with pytest.raises(ConfigError, match=r"can't read the credential .*none: No such file"):
        read_passphrase("credential:none", environ=here)
    with pytest.raises(ConfigError, match=r"needs \$CREDENTIALS_DIRECTORY"):
        read_passphrase("credential:site-key", environ={})


@pytest.mark.parametrize(
    "source", [WORDS, "", "fd:", "fd:-1", "fd:x", "credential:../key", "credential:", "env:WORDS"]
)
def test_a_passphrase_itself_is_no_source_and_isnt_repeated(source: str) -> None:
    with pytest.raises(ConfigError, match="expected prompt, fd:N or credential:NAME") as caught:
        read_passphrase(source)
    assert WORDS not in str(caught.value)


def test_without_a_terminal_nothing_is_echoed(monkeypatch: pytest.MonkeyPatch) -> None:
    import getpass

    def fall_back(prompt: str = "") -> str:
        import warnings

        warnings.warn("can't control echo", getpass.GetPassWarning, stacklevel=2)
        raise AssertionError("it was read with an echo")

    monkeypatch.setattr(getpass, "getpass", fall_back)
    with pytest.raises(ConfigError, match="there is no terminal to ask at"):
        read_passphrase("prompt")
