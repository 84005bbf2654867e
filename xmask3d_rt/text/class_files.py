"""Class lists as people have them: in lines, numbered, lettered, bulleted, in tables, as JSON.

What can be read in one way only is read; anything else is refused with the reason.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from xmask3d_rt.errors import one_line
from xmask3d_rt.scene.text_files import read_text

HEADINGS = ("name", "names", "class", "classes", "label", "labels", "category", "categories")
DELIMITERS = ("\t", ",", ";")
PLAIN = "write one class per line, ';' between synonyms"
NUMBER = re.compile(r"[-+]?\d+(\.\d+)?")
TRAILING_NUMBERS = re.compile(r"(.*?[^\s\d=|,:])(?:\s*[\s=|,:]\s*-?\d+)+")
BULLET = re.compile(r"[-–—*•]\s+(.*)")
ID = re.compile(r"\(?(-?\d+)\s*([:.)\]=|．、]\s+|[:)\]=|．、]|\.(?=\D)|-\s+|\s)\s*(\S.*)")
LETTER = re.compile(r"\(?([a-z]+)(?:[)．、]\s*|\.\s+)(\S.*)", re.IGNORECASE)
ALPHABET = tuple("abcdefghijklmnopqrstuvwxyz")
ROMAN = ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x", "xi", "xii")
ITEM_MARK = re.compile(r"(?:^|(?<=\s))\(?(\d+|[a-z]+)[.)]\s", re.IGNORECASE)
FLOW_ITEM = re.compile(r"""\s*(?:'([^']*)'|"([^"]*)"|([^,'"\[\]{}]+?))\s*(?:,|$)""")
FOREIGN_SEPARATOR = re.compile("[|，、；]")
KEY = re.compile(rf"({'|'.join(HEADINGS)})\s*:\s*(.*)", re.IGNORECASE)

Entries = list[list[str]]


def read_class_file(path: Path, where: str) -> Entries:
    """The names of every class of a file.

    Args:
        path: a text with a class per line (`;` between synonyms, `#` starts a comment),
            numbered, lettered or bulleted lines, a table with one column of names, a YAML list,
            or JSON.
        where: what messages start with.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another encoding, no classes, or a form that may be read in several ways.
    """
    text = read_text(path)
    entries = parse_class_text(text, where, heading=path.suffix.lower() in (".csv", ".tsv"))
    if not entries:
        raise ValueError(f"{where} holds no classes; {PLAIN}")
    return entries


def parse_class_text(text: str, where: str, heading: bool = False) -> Entries:
    """The names of every class of a text; see `read_class_file`.

    Args:
        text: all of it.
        where: what messages start with.
        heading: whether a first line such as "name" is the heading of the only column.

    Raises:
        ValueError: a form that may be read in several ways.
    """
    if text.lstrip()[:1] in ("[", "{"):
        return _parse_json(text, where)
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    lines = [line for line in lines if line and line != "---"]
    if not lines:
        return []
    if (key := KEY.fullmatch(lines[0])) and (len(lines) > 1 or key[2]):
        lines = lines[1:] if not key[2] else [*_unfold(key[2], where), *lines[1:]]
    elif heading and len(lines) > 1 and unquote(lines[0]).lower() in HEADINGS:
        lines = lines[1:]
    if all(line.endswith(",") for line in lines[:-1]):
        lines = [line.removesuffix(",") for line in lines]
    for line in lines:
        _check_marks(line, where)
    for parse in (_parse_table, _parse_row, _parse_bullets, _parse_numbers, _parse_letters):
        names = parse(lines, where)
        if names is not None:
            return names
    _check_plain(lines, where)
    return _split(lines)


def _split(lines: list[str]) -> Entries:
    """Synonyms of every line, without quotation marks."""
    return [[unquote(name) for name in unquote(line).split(";")] for line in lines]


def unquote(name: str) -> str:
    """A name without white space and a pair of quotation marks around it."""
    name = name.strip()
    for first, last in ('""', "''", "“”", "‘’", "«»"):
        inner = name[1:-1]
        if len(name) > 1 and name[0] == first and name[-1] == last and first not in inner:
            return inner.strip()
    return name


def _check_plain(lines: list[str], where: str) -> None:
    """Refuse lines that hold more than names."""
    for number, line in enumerate(lines, 1):
        if unquote(line) != line:
            continue
        for mark, meaning in ((",", "a comma"), ("\t", "a tab")):
            if mark in line:
                raise ValueError(
                    f"{where}: class {number} ({_show(line)}) holds {meaning}; {PLAIN}, and "
                    "names that hold one in quotation marks"
                )
    if len(lines) < 2:
        return
    keyed = [line for line in lines if re.match(r"[\w ]+:(\s|$)", line)]
    if keyed:
        raise ValueError(f"{where}: {_show(keyed[0])} starts with a key; {PLAIN}")
    stems = {found[1] for line in lines if (found := TRAILING_NUMBERS.fullmatch(line))}
    if len(stems) == len(lines):
        raise ValueError(
            f"{where}: every line ends with a number ({_show(lines[0])}); {PLAIN}, without numbers "
            "or in quotation marks"
        )


def _show(text: object) -> str:
    return repr(one_line(text, limit=60))


def _parse_row(lines: list[str], where: str) -> Entries | None:
    """The names of a single line with commas between classes."""
    if len(lines) > 1 or "," not in lines[0] or unquote(lines[0]) != lines[0]:
        return None
    return split_row(lines[0], where)


def split_row(text: str, where: str) -> Entries:
    """The names in one line, `,` between classes; one that holds a comma is in quotation marks.

    Raises:
        ValueError: separators of another kind.
    """
    closed = text.rstrip().endswith(",")  # a blank name follows, which is said later
    items = (None if closed else _unfold_items(text)) or text.split(",")
    found = FOREIGN_SEPARATOR.search(text)
    if found and len(items) == 1 and unquote(text) == text.strip():
        raise ValueError(
            f"{where}: {_show(text)} is one name with {found[0]!r}; write ',' between classes and "
            "';' between synonyms, or the name in quotation marks"
        )
    written = [item.strip() for item in text.split(",")]
    return _split(_strip_marks(items, written, where) if len(written) == len(items) else items)


def _strip_marks(items: list[str], written: list[str], where: str) -> list[str]:
    """The items of a row without the marks of a list: 1. wall, 2. floor, or a) wall, b) floor.

    Args:
        items: without quotation marks.
        written: the same with them; what is quoted has no mark.
        where: what messages start with.

    Raises:
        ValueError: as of `_check_marks`.
    """
    for item in written:
        _check_marks(item, where)
    found = [ID.fullmatch(item) or LETTER.fullmatch(item) for item in written]
    matches = [match for match in found if match and (match.re is LETTER or match[2].strip())]
    if len(matches) < len(items) or not _is_counted([match[1].lower() for match in matches]):
        return items
    return [match[match.re.groups] for match in matches]


def _check_marks(text: str, where: str) -> None:
    """Refuse a name with several marks: what divides the classes is missing.

    Raises:
        ValueError: such as 1. wall 2. floor
    """
    marks = [mark.lower() for mark in ITEM_MARK.findall(text)] if "," not in text else []
    if len(marks) > 1 and ITEM_MARK.match(text) and _is_counted(marks):
        raise ValueError(
            f"{where}: {_show(text)} is one name that reads like a list; write ',' between "
            "classes, or the name in quotation marks"
        )


def _is_counted(marks: list[str]) -> bool:
    """Whether marks are all of 0, 1, 2 ... or 1, 2, 3 ... or a, b, c ... or i, ii, iii ..."""
    counts = (tuple(map(str, range(first, first + len(marks)))) for first in (0, 1))
    return tuple(marks) in (*counts, ALPHABET[: len(marks)], ROMAN[: len(marks)])


def _unfold(flow: str, where: str) -> list[str]:
    """The items of a list in brackets, as YAML and Python write them."""
    inner = flow.strip().removeprefix("[").removesuffix("]").strip().removesuffix(",")
    items = _unfold_items(inner) if flow.strip()[:1] == "[" and flow.strip()[-1] == "]" else None
    if items is None:
        raise ValueError(f'{where}: {_show(flow)} is no list such as ["wall", "floor"]; {PLAIN}')
    return items


def _unfold_items(text: str) -> list[str] | None:
    """Comma-separated items, of which some may be quoted; None where the quotes do not match."""
    text = " ".join(text.split())
    items, position = [], 0
    while position < len(text):
        item = FLOW_ITEM.match(text, position)
        if item is None:
            return None
        items.append(next(part for part in item.groups() if part is not None))
        position = item.end()
    return items


def _parse_bullets(lines: list[str], where: str) -> Entries | None:
    """The names of a list whose lines start with a dash or a star."""
    bullets = [BULLET.fullmatch(line) for line in lines]
    if not any(bullets):
        return None
    names = [bullet[1] for bullet in bullets if bullet]
    if len(names) < len(lines):
        raise ValueError(f"{where}: some lines start with a bullet, others do not; {PLAIN}")
    _check_plain(names, where)
    return _split(names)


def _parse_numbers(lines: list[str], where: str) -> Entries | None:
    """The names of a numbered list: all lines start with a number, no two with the same."""
    found = [ID.fullmatch(line) for line in lines]
    matches = [match for match in found if match]
    if len(matches) < len(lines):
        return None
    ids = [int(match[1]) for match in matches if len(match[1]) < 19]
    marked = all(match[2].strip() for match in matches)
    counted = ids[:1] in ([0], [1]) and ids == sorted(ids)
    names = [match[3] for match in matches]
    if len(set(ids)) == len(lines) == len(set(names)) and (marked or (counted and len(lines) > 1)):
        _check_plain(names, where)
        return _split(names)
    if len(lines) == 1:
        return None
    raise ValueError(
        f"{where}: every line starts with a number ({_show(lines[0])}), but not as a list is "
        f"numbered; {PLAIN}, without numbers or in quotation marks"
    )


def _parse_letters(lines: list[str], where: str) -> Entries | None:
    """The names of a list whose lines start with a), b), c) ... or i), ii), iii) ..."""
    matches = [match for line in lines if (match := LETTER.fullmatch(line))]
    if len(matches) < len(lines):
        return None
    marks = [match[1].lower() for match in matches]
    if _is_counted(marks):
        names = [match[2] for match in matches]
        _check_plain(names, where)
        return _split(names)
    if len(lines) > 1 and marks[0] == "a" and marks == sorted(marks):
        raise ValueError(
            f"{where}: every line starts with a letter ({_show(lines[0])}), but not as a list is "
            f"lettered; {PLAIN}, without letters or in quotation marks"
        )
    return None


def _parse_table(lines: list[str], where: str) -> Entries | None:
    """The names in a table: the one column of text beside columns of numbers, or by heading."""
    for delimiter in DELIMITERS:
        rows = _split_table(lines, delimiter, where)
        if rows is None:
            continue
        body = rows[1:] if _has_heading(rows, delimiter) else rows
        texts = [i for i in range(len(rows[0])) if not _is_numeric(row[i] for row in body)]
        if body is not rows and len(texts) > 1:
            headed = [i for i in texts if _words(rows[0][i]) & set(HEADINGS)]
            texts = headed or texts
        if len(texts) == 1:
            return [[unquote(name) for name in row[texts[0]].split(";")] for row in body]
        # Without numbers a row of `;` holds synonyms, and one line with commas is a list.
        if len(texts) < len(rows[0]) or (delimiter != ";" and len(rows) > 1):
            raise ValueError(
                f"{where} looks like a table with {len(texts)} columns of text; "
                f"{PLAIN}, or head the column of names with 'name'"
            )
    return None


def _split_table(lines: list[str], delimiter: str, where: str) -> list[list[str]] | None:
    """The cells of every line; None unless all lines have the same number, at least two."""
    try:
        rows = list(csv.reader(lines, delimiter=delimiter, skipinitialspace=True))
    except csv.Error as error:
        raise ValueError(f"{where} is no list of classes: {one_line(error)}; {PLAIN}") from error
    if len(rows) != len(lines) or len(rows[0]) < 2 or len({len(row) for row in rows}) > 1:
        return None
    return [[cell.strip() for cell in row] for row in rows]


def _is_numeric(cells: Iterator[str]) -> bool:
    return all(NUMBER.fullmatch(cell) for cell in cells)


def _words(heading: str) -> set[str]:
    return set(re.split(r"[\W_]+", heading.lower()))


def _has_heading(rows: list[list[str]], delimiter: str) -> bool:
    """Whether the first row names columns: one of them holds numbers below, or it is 'name'."""
    first, body = rows[0], rows[1:]
    if not body or any(NUMBER.fullmatch(cell) for cell in first):
        return False
    numeric = any(_is_numeric(row[i] for row in body) for i in range(len(first)))
    # Columns of text that `;` divides are synonyms.
    return numeric or (delimiter != ";" and "name" in {cell.lower() for cell in first})


def _parse_json(text: str, where: str) -> Entries:
    """The names in a JSON document, or in a list as YAML and Python write them."""
    try:
        value = json.loads(text, object_pairs_hook=_check_keys)
    except (ValueError, RecursionError) as error:
        if re.fullmatch(r"\s*\[[^\[\]{}]*\]\s*", text):
            return _split(_unfold(text.strip(), where))
        raise ValueError(
            f"{where} starts like JSON but is not: {one_line(error, limit=200)}; {PLAIN}"
        ) from error
    names = _find_names(value)
    if names is None:
        raise ValueError(
            f'{where}: this JSON is no list of names; write ["wall", ["sofa", "couch"], "floor"]'
        )
    return names


def _check_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; a key that is there twice would lose a class."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {_show(twice)} is there twice")
    return found


def _find_names(value: Any) -> Entries | None:
    """Names in a list, in the list of a dictionary such as {"classes": …}, or by their number."""
    if isinstance(value, list):
        found = [_find_synonyms(item) for item in value]
        return None if None in found else [item for item in found if item is not None]
    if not isinstance(value, dict):
        return None
    lists = [value[key] for key in value if _words(key) & set(HEADINGS)]
    if len(lists) == 1 and isinstance(lists[0], (list, dict)):
        return _find_names(lists[0])
    if value and all(isinstance(name, str) for name in value.values()):
        return _order(value, key=lambda pair: pair[0], name=lambda pair: pair[1])
    if value and all(type(number) is int for number in value.values()):
        return _order(value, key=lambda pair: str(pair[1]), name=lambda pair: pair[0])
    return None


def _order(
    pairs: dict[str, Any], key: Callable[[Any], str], name: Callable[[Any], str]
) -> Entries | None:
    """Names by their number; None where the numbers are none."""
    numbered = [(key(pair), name(pair)) for pair in pairs.items()]
    if not all(re.fullmatch(r"-?\d{1,18}", number) for number, _ in numbered):
        return None
    return [[title] for _, title in sorted(numbered, key=lambda pair: int(pair[0]))]


def _find_synonyms(item: Any) -> list[str] | None:
    if isinstance(item, str):
        return [item]
    if isinstance(item, dict):
        return [item["name"]] if isinstance(item.get("name"), str) else None
    if isinstance(item, list) and item and all(isinstance(name, str) for name in item):
        return item
    return None
