"""Headers: which column is which, and what to say where a wanted one isn't there."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from fedmodel._text import one_form, only_seen
from fedmodel.config import nearest, suggest
from fedmodel.data.columns import Columns, looks_like_data, problem, shown
from fedmodel.errors import DataError

__all__ = ["dotted", "find_columns", "guesses", "repeated", "settings"]

_MOST_NAMES = 20
_LOOKED_AT = 100  # rows

# Words that people call the columns by, of each role; earlier words go first.
_LISTS = {
    "text": """text texts note notes report reports document content body narrative transcription
        transcript abstract sentence findings impression finding summary description comment message
        review history befund bericht notiz texte rapport texto informe testo""",
    "label": """label labels class classes target category diagnosis dx outcome y code icd icd10 tag
        sentiment diagnose klasse kategorie classe etiqueta clase diagnostic diagnostico""",
    "site": """site sites hospital hospitals center centre clinic institution facility location
        ward klinik krankenhaus standort hopital clinica sitio source""",
    "patient": """patient patients pid patientid subject subjectid mrn person personid case caseid
        participant fall fallnummer paciente paziente""",
}
_WORDS: Mapping[str, tuple[str, ...]] = {
    role: tuple(words.split()) for role, words in _LISTS.items()
}
_PLAIN = re.compile(r"[^\W\d][\w.:/-]*")
_SIMPLE = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)


def find_columns(
    name: str,
    present: Sequence[str],
    wanted: Columns,
    place: str = "",
    *,
    leaves: Callable[[], Sequence[str]] | None = None,
    is_header: Callable[[], bool] | None = None,
) -> list[tuple[str, tuple[str, ...]] | None]:
    """Find the wanted columns among those that are there.

    Args:
        name: what messages call the file.
        present: names of its columns.
        wanted: the columns to read.
        place: words on where the names stand.
        leaves: names of what lies in columns that hold objects, with dots, for a message; ``None``:
            none holds any.
        is_header: whether these may be names at all, and not the first row of a file without any;
            asked only where a column isn't found. ``None``: they are names.

    Returns:
        For each wanted column, text and labels first: its name, and the path into its objects;
        ``None`` for one that may be absent and is.

    Raises:
        DataError: if one isn't there or a name stands twice.
    """
    _check_differ(name, present, place, {_plain(column) for _, column in wanted.roles()})
    found: list[tuple[str, tuple[str, ...]] | None] = []
    absent: list[tuple[str, str]] = []
    for role, column in wanted.roles():
        at = _find(column, present, leaves is not None)
        found.append(at)
        if at is not None:
            continue
        if role in ("text", "label") or not wanted.optional:
            absent.append((role, column))
    if absent:
        inner = present if leaves is None else leaves()
        raise _missing(name, inner, place, wanted, absent, is_header)
    return found


def guesses(present: Sequence[str], roles: Sequence[str], *, parts: bool = True) -> dict[str, str]:
    """Return which column may have which role, by its name; a column has one role at most.

    Args:
        present: names of the columns.
        roles: to look for.
        parts: whether a word in a name is enough, where it isn't the whole name.

    >>> guesses(["hospital", "final_report", "dx", "age"], ["text", "label", "site", "patient"])
    {'text': 'final_report', 'label': 'dx', 'site': 'hospital'}
    """
    found: dict[str, str] = {}
    for whole in (True, False) if parts else (True,):
        for role in roles:
            free = [c for c in present if c not in found.values() and not looks_like_data(c)]
            ranked = [(rank, c) for c in free if (rank := _rank(c, role, whole)) is not None]
            if role not in found and ranked:
                found[role] = min(ranked, key=lambda pair: pair[0])[1]
    return {role: found[role] for role in roles if role in found}


def settings(role: str, unread: Sequence[str]) -> str:
    """Return how to name the column of a role that nobody has asked for, with a guess.

    Args:
        role: ``site`` or ``patient``.
        unread: names of the columns that no other role has.

    >>> settings("site", ["age", "site_name"])
    'perhaps data.site=site_name'
    >>> settings("site", ["age", "stite"])
    'perhaps data.site=stite'
    >>> settings("site", ["age", "dose"])
    'set data.site=COLUMN (there are also the columns: age, dose)'
    """
    names = [column for column in unread if not looks_like_data(column)]
    found = guesses(names, [role]).get(role) or nearest(role, names)
    if found is not None:
        return f"perhaps {_setting(role, found)}"
    more = ", …" * (len(names) > _MOST_NAMES)
    others = f" (there are also the columns: {', '.join(names[:_MOST_NAMES])}{more})"
    return f"set data.{role}=COLUMN" + (others if names else "")


def dotted(record: Mapping[str, Any]) -> list[str]:
    """Return the names of all that lies in an object, and in objects in it.

    >>> dotted({"note": {"text": "a", "by": {"id": 7}}, "dx": "x"})
    ['note.text', 'note.by.id', 'dx']
    """
    found: list[str] = []
    waiting: list[tuple[str, Any]] = list(record.items())[::-1]
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, Mapping) and value:
            waiting += [(f"{name}.{key}", inner) for key, inner in value.items()][::-1]
        else:
            found.append(name)
    return found


def repeated(header: Sequence[str], rows: Iterable[Sequence[str]]) -> bool:
    """Return whether a name is a value in its column too, as where there is no header.

    >>> repeated(["S1", "mild"], [["S2", "none"], ["S1", "severe"]])
    True
    """
    below = list(islice(rows, _LOOKED_AT))
    return any(
        name and any(name == row[i] for row in below if i < len(row))
        for i, name in enumerate(header)
    )


def _rank(column: str, role: str, whole: bool) -> int | None:
    plain = unicodedata.normalize("NFKD", column)
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    parts = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", plain).casefold()
    tokens = re.findall(r"[^\W_]+", parts)
    names = {"".join(tokens)} if whole else set(tokens)
    ranks = [rank for rank, word in enumerate(_WORDS[role]) if word in names]
    return min(ranks, default=None)


def _find(column: str, present: Sequence[str], nested: bool) -> tuple[str, tuple[str, ...]] | None:
    if column in present:
        return column, ()
    alike = [name for name in present if _plain(name) == _plain(column)]
    if len(alike) == 1:
        return alike[0], ()
    parts = column.split(".")
    for cut in range(len(parts) - 1, 0, -1) if nested else ():
        if (top := ".".join(parts[:cut])) in present:
            return top, tuple(parts[cut:])
    return None


def _plain(name: str) -> str:
    """Return a name without what isn't seen: blanks around it, marks of no width, Unicode form."""
    return one_form(only_seen(name))


def _check_differ(name: str, present: Sequence[str], place: str, wanted: Collection[str]) -> None:
    # Spreadsheets write columns without a name at the end of every line.
    counts = Counter(present)
    twice = [column for column in counts if counts[column] > 1 and _plain(column) in wanted]
    if twice:
        raise problem(
            name,
            place,
            expected="column names that differ",
            got=f"the same name more than once: {', '.join(map(_named, twice[:5]))}",
            fix="rename or remove the doubles",
        )


def _named(column: str) -> str:
    return "a long name" if looks_like_data(column) else shown(column)


def _missing(
    name: str,
    present: Sequence[str],
    place: str,
    wanted: Columns,
    absent: Sequence[tuple[str, str]],
    is_header: Callable[[], bool] | None,
) -> DataError:
    expected = " and ".join(f"a column '{column}' (the {role})" for role, column in absent)
    if is_header is not None and not (_could_be_names(present, wanted) and is_header()):
        # These may be a row's values, which are not to be shown.
        many = "a column whose name looks" if len(present) == 1 else "columns whose names look"
        got = f"{len(present)} {many} like data".replace("1 a", "a")
        keys = ", ".join(dict.fromkeys(_key(role, wanted) for role, _ in absent))
        fix = f"begin the file with a line of column names, or set {keys}"
        fix = _parted(present, absent) or fix
        return problem(name, place, expected=expected, got=got, fix=fix)
    listed = ", ".join("(a long name)" if looks_like_data(c) else c for c in present[:_MOST_NAMES])
    got = f"the columns: {listed or '(none)'}" + ", …" * (len(present) > _MOST_NAMES)
    return problem(
        name,
        place,
        expected=expected,
        got=got,
        fix=_parted(present, absent) or _fix(present, wanted, absent),
    )


def _parted(present: Sequence[str], absent: Sequence[tuple[str, str]]) -> str:
    """Return what to do where all wanted names are in the one that is there, else nothing."""
    if len(absent) < 2 or len(present) != 1 or not all(c in present[0] for _, c in absent):
        return ""
    return "set data.separator to the character between the names"


def _could_be_names(present: Sequence[str], wanted: Columns) -> bool:
    known = [column for _, column in wanted.roles()]
    return (
        any(column in present or suggest(column, present) for column in known)
        or bool(guesses(present, list(_WORDS), parts=False))
        or all(_PLAIN.fullmatch(column) for column in present)
    )


def _key(role: str, wanted: Columns) -> str:
    return "data.labels" if role == "label" and wanted.flags else f"data.{role}"


def _fix(present: Sequence[str], wanted: Columns, absent: Sequence[tuple[str, str]]) -> str:
    """Say which keys to set, with guesses; also for the columns that nobody has asked for yet."""
    named = {column for _, column in wanted.roles()}
    free = [column for column in present if column not in named]
    missing, asked = dict(absent), {role for role, _ in wanted.roles()}
    roles = [role for role in _WORDS if role in missing or role not in asked]
    guessed, said = guesses(free, roles), []
    for role, column in absent:
        near = suggest(column, [c for c in free if not looks_like_data(c)])
        if role == "label" and wanted.flags:
            said.append(f"set data.labels to the columns of the labels{near}")
        elif role in guessed:
            said.append(f"perhaps {_setting(role, guessed[role])}")
        else:
            said.append(f"set data.{role} to the column of the {role}{near}")
    more = [_setting(role, column) for role, column in guessed.items() if role not in missing]
    if more:
        said.append(f"and, where you want it, {' '.join(more)}")
    return ", ".join(dict.fromkeys(said))


def _setting(role: str, column: str) -> str:
    """Return what names a column, as it is typed into a shell."""
    if _SIMPLE.fullmatch(column):
        return f"data.{role}={column}"
    quoted = column.replace("\\", "\\\\").replace("'", "\\'")
    return f"\"data.{role}='{quoted}'\"" if '"' not in column else f"data.{role}=COLUMN"
