"""Files opened: compressed or not, in any encoding, and known by their first bytes.

A name's ending is not relied on: files out of a cache have none, and people rename them.
"""

import bz2
import codecs
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from fedmodel.data.columns import problem
from fedmodel.errors import ConfigError
from fedmodel.watch import UNWATCHED, Watch

__all__ = ["Form", "mark", "opened", "reading"]

# Each module's ``open`` reads what another file gives.
_COMPRESSED: Mapping[bytes, tuple[str, Any]] = {
    b"\x1f\x8b": ("gzip", gzip),
    b"BZh": ("bzip2", bz2),
    b"\xfd7zXZ\0": ("xz", lzma),
}
_OTHER = {
    b"PK\x03\x04": ("a ZIP archive or an Excel workbook", "set data=excel, or unpack it"),
    b"\xd0\xcf\x11\xe0": ("an old Excel workbook, perhaps", "set data=excel"),
    b"PAR1": ("a Parquet file", "set data=parquet"),
    b"ARROW1": ("an Arrow file", "set data=folder data.train=<the folder it is in>"),
    b"%PDF": ("a PDF file", "give a table of texts"),
    b"\x28\xb5\x2f\xfd": ("a file compressed by zstd", "unpack it, or use gzip"),
    b"{\\rtf": ("a document (RTF)", "save its table as CSV"),
    b"<!doctype": ("a web page", "download the file itself; this may be a page to log in"),
    b"<html": ("a web page", "download the file itself; this may be a page to log in"),
    b"<?xml": ("a file of XML", "save its table as CSV"),
    b"version https://git-lfs": ("a pointer of Git LFS", "fetch the file itself: git lfs pull"),
}
# Marks that a shell, or the grammar of overrides, has other plans for.
_WORDS = {
    "comma": ",",
    "semicolon": ";",
    "semi-colon": ";",
    "tab": "\t",
    "tabulator": "\t",
    "t": "\t",
    "x09": "\t",
    "bar": "|",
    "vertical bar": "|",
    "pipe": "|",
    "colon": ":",
}
_ESCAPED = {"t", "x09"}  # words only after a backslash
# Encodings that are no way to write a file, or that don't say where they fail.
_NO_FILES = {"idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape", "mbcs", "oem"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    r"""How a file of text is written.

    Args:
        separator: between the values of a CSV file: one character, or ``comma``, ``semicolon``,
            ``tab``, ``bar``; ``None``: by its header.
        encoding: by Python's name for it; ``None``: UTF-8, with or without a byte order mark.

    Raises:
        ConfigError: for a separator or an encoding that can't be one.

    >>> Form(separator="tab", encoding="Latin1")
    Form(separator='\t', encoding='iso8859-1')
    """

    separator: str | None = None
    encoding: str | None = None

    def __post_init__(self) -> None:
        if self.separator is not None:
            separator = mark(self.separator)
            if len(separator) != 1 or separator in '"\r\n\0 ' or separator.isalnum():
                raise ConfigError(
                    "data.separator must be a word (comma, semicolon, tab, bar), or one character "
                    "that isn't a letter, a digit, a quote, a blank or a line end, got "
                    f"{self.separator!r}{_cut(self.separator)}"
                )
            object.__setattr__(self, "separator", separator)
        if self.encoding is not None:
            object.__setattr__(self, "encoding", _encoding(self.encoding))

    def seen(self, start: bytes) -> "Form":
        """Return the form with the encoding that a file's first bytes name, where none is given."""
        wide = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return replace(self, encoding="utf-16") if wide and self.encoding is None else self

    @property
    def utf8(self) -> bool:
        """Whether it is UTF-8."""
        return self.encoding in (None, "utf-8", "utf-8-sig")


def mark(value: str) -> str:
    r"""Return the mark that a value is, or is the word for, however it came through a shell.

    >>> mark(";"), mark("semicolon"), mark(r"\;"), mark("'|'"), mark(r"\t"), mark("Tabs")
    (';', ';', ';', '|', '\t', '\t')
    """
    bare = value.strip(" ")
    while len(bare) > 2 and bare[0] == bare[-1] and bare[0] in "'\"":
        bare = bare[1:-1]
    if re.fullmatch(r"<\w+>", bare):
        bare = bare[1:-1]
    word = bare.lstrip("\\")
    if len(word) == len(bare) and word.lower().removesuffix("s") in _ESCAPED:
        return value
    known = _WORDS.get(word.lower(), _WORDS.get(word.lower().removesuffix("s")))
    if known is not None:
        return known
    return word if len(word) == 1 and not word.isalnum() else value


def _cut(value: str) -> str:
    if value:
        return ""
    return (
        ". A shell ends a command at ; or | and drops a tab, unless they are in quotes: write "
        "data.separator=semicolon, bar or tab"
    )


def _encoding(name: str) -> str:
    try:
        found = codecs.lookup(name).name
        b"a\0".decode(found, "replace")  # refuses what isn't about text
    except (LookupError, ValueError):
        found = "undefined"
    if found.replace("-", "_") in _NO_FILES:
        raise ConfigError(
            "data.encoding must name an encoding of text, such as utf-8, cp1252, latin-1 or "
            f"utf-16, got {name!r}"
        )
    return found


class _Watched(io.FileIO):
    """A file that tells how many bytes were read."""

    def __init__(self, path: Path, watch: Watch) -> None:
        super().__init__(path)
        self._watch = watch

    def readinto(self, buffer: Any, /) -> int | None:
        """Fill a buffer."""
        count = super().readinto(buffer)
        self._watch.advance(count or 0)
        return count

    def readall(self) -> bytes:
        """Return all that is left."""
        found = super().readall()
        self._watch.advance(len(found))
        return found


def reading(watch: Watch, name: str, total: int | None = None) -> AbstractContextManager[None]:
    """Return the stage in which rows are read.

    Args:
        watch: who is told.
        name: what messages call the file; of a path the last part is shown.
        total: parts that are told as done: bytes or rows.
    """
    return watch.stage(f"reading {name.rpartition('/')[2]}", total)


@contextmanager
def opened(path: Path, name: str, kind: str, watch: Watch = UNWATCHED) -> Iterator[BinaryIO]:
    """Open a file of text for reading, decompressed where it is compressed.

    Args:
        path: the file.
        name: what messages call it.
        kind: the kind of file that is expected, for messages.
        watch: who is told how many of its bytes are read.

    Raises:
        DataError: if it is of another kind by its first bytes, or compressed and damaged.
    """
    with (
        io.BufferedReader(_Watched(path, watch)) as raw,
        reading(watch, name, path.stat().st_size),
    ):
        start = raw.read(32)
        raw.seek(0)
        for magic, (got, fix) in _OTHER.items():
            if start.startswith(magic) or start.lower().startswith(magic):
                raise problem(name, "", expected=kind, got=got, fix=fix)
        packed = next((how for magic, how in _COMPRESSED.items() if start.startswith(magic)), None)
        if packed is None:
            yield raw
            return
        method, module = packed
        damaged = False
        try:
            with module.open(raw, "rb") as file:
                yield file
        except (EOFError, zlib.error, lzma.LZMAError):
            damaged = True
        except OSError as error:
            if error.errno is not None:
                raise
            damaged = True
        if damaged:
            raise problem(
                name,
                "",
                expected=f"a whole file compressed by {method}",
                got="one that is damaged or cut off",
                fix="copy or write the file again",
            )
