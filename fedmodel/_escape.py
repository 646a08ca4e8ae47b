"""Escaping of texts from others before a person's terminal, log or file shows them.

A terminal obeys control characters, so a name may clear the screen or rewrite the line above; marks
of direction turn a text round; a line end begins a line that looks like another's.
"""

__all__ = ["escaped"]


def escaped(text: str, *, lines: bool = False) -> str:
    r"""Return a text in which every character that isn't shown as itself is written out.

    Letters of all scripts, digits, punctuation and the plain blank stay. Control and format
    characters, other blanks, line ends, halves of surrogate pairs and what isn't assigned become
    ``\x1b``, ``\u202e`` and the like.

    Args:
        text: from anywhere.
        lines: let line ends and tabs stand: the text is one's own, and has several lines.

    >>> print(escaped("caf\u00e9 \x1b[2J\u202e"))
    café \x1b[2J\u202e
    """
    if text.isprintable():
        return text
    kept = "\n\t" if lines else ""
    return "".join(
        c if c.isprintable() or c in kept else c.encode("unicode_escape").decode() for c in text
    )
