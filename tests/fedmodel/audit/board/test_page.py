"""The page and the PDF: readable by everybody, self-contained, safe against others' texts."""

import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest

from fedmodel.audit.board import page as pages
from fedmodel.audit.board.page import report_page, report_pdf
from fedmodel.audit.board.report import Report
from fedmodel.errors import MissingExtraError, UnavailableError
from tests.fedmodel.audit.board.test_report import report
from tests.fedmodel.audit.forged import GOLDEN

_VOID = {"meta", "link", "br", "hr", "img", "input"}
KINDS = ("distributed", "none", "served", "patient")


class Page(HTMLParser):
    """A page's tags, with their attributes, and the text of each."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def all(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in names]


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_built_so_that_everybody_can_read_it(kind: str) -> None:
    found = Page(report_page(report(GOLDEN / kind)))
    assert (found.open, found.wrong) == ([], [])
    assert found.all("html")[0]["lang"] == "en"
    levels = [int(tag[1]) for tag, _ in found.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 == levels.count(1)
    assert all(later <= before + 1 for before, later in pairwise(levels))
    assert len(found.all("table")) == len(found.all("caption")) > 3
    assert all(each.get("scope") in ("row", "col") for each in found.all("th"))
    ids = [each["id"] for _, each in found.tags if "id" in each]
    assert len(ids) == len(set(ids))
    told = [each.get("aria-describedby") or each.get("aria-labelledby") for _, each in found.tags]
    assert {each for each in told if each} <= set(ids)
    # A table that is wider than a phone is scrolled by itself, by keyboard, too.
    assert all(each["tabindex"] == "0" for each in found.all("div") if each.get("role") == "region")
    assert [each["role"] for each in found.all("svg")] == (
        ["img"] if kind in ("distributed", "patient") else []
    )


@pytest.mark.parametrize("kind", KINDS)
def test_it_loads_nothing(kind: str) -> None:
    found = Page(report_page(report(GOLDEN / kind)))
    assert not found.all("script", "link", "iframe", "object", "img")
    for _, attributes in found.tags:
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith("#")


def _luminance(colour: str) -> float:
    """Return the relative luminance of a colour (WCAG 2.2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_its_colours_stand_out_in_both_schemes() -> None:
    text = report_page(report(GOLDEN / "record"))
    style = text[text.index("<style>") : text.index("</style>")]
    schemes = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"(--[\w-]+): (#[0-9a-f]{6})", scheme))
        assert {"--ink", "--bad", "--good", "--open", "--quiet", "--line-5"} <= set(colours)
        for name in set(colours) - {"--page", "--soft", "--rule"}:
            for ground in ("--page", "--soft"):
                assert _contrast(colours[name], colours[ground]) >= 4.5, (name, ground)


def _hostile(found: Report, text: str) -> Report:
    (first, *rest) = found.facts.sites
    facts = replace(
        found.facts,
        sites=(replace(first, name=text, refused=text), *rest),
        courses=tuple(replace(each, sites=(text,)) for each in found.facts.courses),
    )
    checks = {
        name: tuple(replace(each, reason=text, party=text, entry=text) for each in some)
        for name, some in found.findings.checks.items()
    }
    findings = replace(found.findings, run=text, checks=checks)
    return replace(found, facts=facts, findings=findings)


@pytest.mark.parametrize(
    "text",
    ["</style><script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "$\\frac{a}{b}$"],
)
def test_names_of_others_are_text(text: str) -> None:
    made = report_page(_hostile(report(GOLDEN / "record"), text))
    found = Page(made)
    assert (found.open, found.wrong) == ([], [])
    assert not found.all("script", "img")
    assert not any(name.startswith("on") for _, each in found.tags for name in each)


def test_what_nobody_sees_is_written_out() -> None:
    made = report_page(_hostile(report(GOLDEN / "record"), "a\u202eb\x1b[2J"))
    assert "\u202e" not in made
    assert "\\u202e" in made
    assert "\x1b" not in made


@pytest.mark.long
def test_the_pdf_is_tagged_and_has_the_same_words() -> None:
    try:
        made = report_pdf(report(GOLDEN / "distributed"))
    except UnavailableError as error:
        pytest.skip(str(error))
    assert made.startswith(b"%PDF-")
    inside = made + b"".join(_streams(made))
    for mark in (b"/StructTreeRoot", b"/Lang", b"/TH", b"/Figure", b"pdfuaid"):
        assert mark in inside, mark


def _streams(pdf: bytes) -> Iterator[bytes]:
    """Yield what a PDF's compressed streams hold, as far as they are that."""
    for match in re.finditer(rb"stream\r?\n(.*?)endstream", pdf, re.DOTALL):
        with suppress(zlib.error):
            yield zlib.decompressobj().decompress(match[1])


def test_without_what_prints_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    real = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name.split(".")[0] in ("weasyprint", "matplotlib"):
            raise ImportError(name)
        return real(name, *rest, **named)

    found = report(GOLDEN / "record")
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"pip install 'fedmodel\[report\]'"):
        pages.report_pdf(found)
    with pytest.raises(MissingExtraError, match=r"pip install 'fedmodel\[report\]'"):
        pages.report_page(found)
