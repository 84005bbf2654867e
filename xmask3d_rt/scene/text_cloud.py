"""Point clouds as text: a point per row, with or without a heading.

A heading names the columns. Without one the number of columns says what they are, as far as it
can; a file that could mean two things is refused, and what was chosen is said in a note.
"""

import re
from dataclasses import dataclass

import numpy as np

from xmask3d_rt.errors import one_line
from xmask3d_rt.scene.columns import DARK_16_BIT, UNITS, NamedTable, list_names
from xmask3d_rt.scene.tables import WINDOWS_NAN, parse_table
from xmask3d_rt.scene.text_files import find_encoding

DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+(?:[eE][-+]?\d+)?")
MAX_LEADING = 20  # lines before the points that are neither points nor comments
MAX_COMMENTS = 1000  # looked at for a heading
MAX_UNNAMED = 32  # columns without heading
LABEL_RATIO = 4  # times as many values as a column of labels have those of colours
THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+\.\d*")
LONE_COUNT = re.compile(r"[0-9]{1,15}")
HEADING_HELP = "name the columns in a first line such as 'x y z intensity r g b'"


@dataclass(frozen=True)
class Layout:
    """How the rows of a text are split."""

    delimiter: str | None  # None: white space
    decimal_comma: bool = False
    quotes: bool = False
    closed: bool = False  # every row ends with the delimiter

    def clean(self, row: str) -> str:
        """A row with points in its numbers and a word in every column."""
        if self.quotes:
            row = row.replace('"', "").replace("'", "")
        if self.decimal_comma:
            row = row.replace(",", ".")
        elif self.delimiter is None:
            row = row.replace(",", " ").replace(";", " ")
        if self.delimiter is None:
            return row
        if self.closed:
            row = row.removesuffix(self.delimiter)
        words = row.split(self.delimiter)
        if all(map(str.strip, words)):
            return row
        return self.delimiter.join(word.strip() or "nan" for word in words)


def parse_text(content: bytes) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
    """Positions [N, 3], colours [N, 3] or None as the text has them, and notes on the choice.

    Raises:
        ValueError: no table of numbers, or columns that could mean different things.
    """
    text = content.decode(find_encoding(content), errors="replace")  # a comment may be of another
    comments, lines = _split_lines(text)
    leading, rows = _split_leading(lines)
    rows, notes = _drop_counts(rows)
    if not rows:
        raise ValueError("the file holds no points")
    if len(leading) > MAX_LEADING:
        raise ValueError(f"not a table of numbers: {one_line(leading[0], 60)!r}")
    comments = comments[:MAX_COMMENTS]
    layout = _find_layout(rows, [*comments, *leading])
    rows = [layout.clean(row) for row in rows]
    first = rows[0].split(layout.delimiter)
    names = _find_heading(comments, leading, layout, len(first))
    if len(rows) > 1 and "." in rows[1] and first == _count_up(len(first)):
        rows = rows[1:]  # pandas numbers columns that have no names
        notes += ("the first line numbers the columns and was not read as a point",)
    if layout.decimal_comma:
        notes += ("commas were read as decimal points",)
    xyz, rgb, chosen = (
        _take_named(names, rows, layout.delimiter)
        if names is not None
        else _take_by_position(parse_table(rows, layout.delimiter))
    )
    return xyz, rgb, (*notes, *chosen)


def _split_lines(text: str) -> tuple[list[str], list[str]]:
    """Comments without their marks, and the other lines that are not blank."""
    comments, lines = [], []
    for line in text.splitlines():
        line = line.strip()
        if line and line[0] in "#/":
            comments.append(line.lstrip("#/ "))
        elif line:
            lines.append(_cut_comment(line) if "#" in line else line)
    return comments, lines


def _cut_comment(line: str) -> str:
    """A row without the comment behind it; a heading may have # in its names."""
    plain = WINDOWS_NAN.sub("nan", line)
    return plain.partition("#")[0].rstrip() if line[0] in "+-.0123456789" else line


def _split_leading(lines: list[str]) -> tuple[list[str], list[str]]:
    """Lines before the first that begins with a number, and the rest."""
    for index, line in enumerate(lines):
        plain = WINDOWS_NAN.sub("nan", line.replace('"', " ").replace("'", " "))
        first, *others = re.split(r"[\s,;]+", plain.strip(), maxsplit=64)
        numbers = sum(map(_is_number, others)) > len(others) / 2 and len(others) > 1
        if _is_number(first) or (numbers and not first and others != _count_up(len(others))):
            return lines[:index], lines[index:]
        if numbers and first:
            raise ValueError(
                f"not a table of numbers: line {index + 1} begins with {one_line(first, 40)!r}"
            )
    return lines, []


def _count_up(count: int) -> list[str]:
    """The names that pandas gives to columns without any."""
    return [str(index) for index in range(count)]


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _drop_counts(rows: list[str]) -> tuple[list[str], tuple[str, ...]]:
    """Rows without the lone number of points that precedes each scan of a PTS file."""
    counts = [int(row) for row in rows if LONE_COUNT.fullmatch(row)]
    if not counts or len(counts) == len(rows):
        return rows, ()
    points = [row for row in rows if not LONE_COUNT.fullmatch(row)]
    if sum(counts) == len(points):
        return points, ()
    if len(counts) > 1 or not LONE_COUNT.fullmatch(rows[0]):
        return rows, ()
    return points, (f"the file announces {counts[0]} points and holds {len(points)}",)


def _find_layout(rows: list[str], headings: list[str]) -> Layout:
    """How rows are split, as the first one shows; a contradicting row fails to parse later.

    Args:
        rows: of numbers.
        headings: lines that may name the columns.

    Raises:
        ValueError: commas that separate columns, digits, or both.
    """
    first = rows[0]
    quotes = '"' in first or "'" in first
    row = first.replace('"', "").replace("'", "") if quotes else first
    for delimiter in (";", "\t", ","):
        if delimiter not in row:
            continue
        fields = [field.strip() for field in row.split(delimiter)]
        headed = any(len(line.split(delimiter)) == len(fields) for line in headings)
        if delimiter == "\t" and not headed:
            continue  # as any white space
        if delimiter == "," and _has_decimal_commas(row):
            return Layout(None, True, quotes)
        comma = delimiter != "," and any("," in row for row in rows)
        mixed = not headed and any(re.search(r"\s", field) for field in fields)
        grouped = delimiter == "," and any(map(THOUSANDS.fullmatch, row.split()))
        split_digits = delimiter == "," and any(map(_has_split_digits, rows[:100]))
        if (mixed and comma) or grouped or split_digits:
            raise ValueError(
                f"its commas may belong to numbers: {one_line(first, 60)!r}; write decimal "
                "points, or separate the columns by ';' alone"
            )
        if mixed:
            break  # two kinds of separators: x y z, r g b
        closed = all(row.rstrip().endswith(delimiter) for row in rows)
        return Layout(delimiter, comma, quotes, closed)
    return Layout(None, False, quotes)


def _has_decimal_commas(row: str) -> bool:
    """Whether a row split by blanks has commas within numbers alone: 1,5 2,5 3,0 255 0 0."""
    words = row.split()
    with_comma = [word for word in words if "," in word]
    return (
        len(words) >= 3
        and bool(with_comma)
        and all(map(DECIMAL_COMMA.fullmatch, with_comma))
        and all(_is_number(word.replace(",", ".")) for word in words)
    )


def _has_split_digits(row: str) -> bool:
    """Whether columns look like the digits on both sides of a decimal comma: 1,052,-0,5,..."""
    fields = [field.strip(" \"'") for field in row.split(",")]
    if not all(re.fullmatch(r"[-+]?\d+", field) for field in fields):
        return False
    return any(re.fullmatch(r"-0|[-+]?0\d+", field) for field in fields)


def _find_heading(
    comments: list[str], leading: list[str], layout: Layout, width: int
) -> list[str] | None:
    """Names of the columns; None where no line names them.

    Raises:
        ValueError: names for more or fewer columns than there are, or none of x, y, z.
    """
    for line in reversed([*comments, *leading]):
        names = _split_heading(line, layout, width)
        used = NamedTable(names, ()).find_used()
        # A comment may just speak of x, y and z; a heading begins with them or names colours.
        is_heading = used and (line in leading or used[:3] == (0, 1, 2) or len(used) > 3)
        if is_heading and len(names) == width:
            return names
        if is_heading:
            raise ValueError(
                f"its heading names {len(names)} columns ({list_names(names)}), its rows have "
                f"{width}"
            )
        if line in leading and len(names) == width and not any(map(_is_number, names)):
            raise ValueError(f"its heading names no x, y and z: {list_names(names)}")
    return None


def _split_heading(line: str, layout: Layout, width: int) -> list[str]:
    """Names in a line, split as the rows are if that gives one for each column."""
    line = UNITS.sub("", line)
    line = re.sub(r"^[\w ]+:\s", "", line)  # Columns: x y z
    closed = line.removesuffix(layout.delimiter or "") if layout.closed else line
    for words in (closed.split(layout.delimiter), re.split(r"[\s,;]+", line.strip(" ,;\t"))):
        names = [word.strip(" \t\"'") for word in words]
        if len(names) == width:
            break
    return names


def _take_named(
    names: list[str], rows: list[str], delimiter: str | None
) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
    """Positions and colours by the names of a heading; other columns may hold anything."""
    indices = NamedTable(names, ()).find_used()
    table = NamedTable(
        [names[index] for index in indices], [*parse_table(rows, delimiter, indices).T]
    )
    notes: tuple[str, ...] = ()
    if indices != tuple(range(len(names))):
        notes = (f"{list_names(table.names)} were read of the columns {list_names(names)}",)
    return table.take_points(), table.take_colors(), notes


def _take_by_position(
    table: np.ndarray,
) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
    """Positions and colours of a table without heading.

    Raises:
        ValueError: fewer than three columns, or none or several that can be the colours.
    """
    width = table.shape[1]
    if width < 3:
        raise ValueError(f"needs 3 columns (x y z) or 6 (x y z r g b), got {width}")
    if width in (4, 7) and _numbers_rows(table):
        xyz, rgb, notes = _take_by_position(table[:, 1:])
        return xyz, rgb, ("column 1 numbers the points and was not read", *notes)
    if width < 6:
        unread = () if width == 3 else (f"no heading: of {width} columns, 3 were read as x y z",)
        return table[:, :3], None, unread
    first = _find_color_columns(table)
    place = f"columns {first + 1} to {first + 3} as colours r g b"
    return (
        table[:, :3],
        table[:, first : first + 3],
        (f"no heading: columns 1 to 3 were taken as x y z, {place}",),
    )


def _numbers_rows(table: np.ndarray) -> bool:
    """Whether the first column numbers the rows: 0, 1, 2 ..., 1, 2, 3 ..., or any whole numbers,
    no two alike, in front of three columns of fractions.
    """
    first, steps = table[:, 0], np.arange(len(table))
    if len(table) < 3 or not np.isfinite(first).all():
        return False
    if first[0] in (0, 1) and (first - first[0] == steps).all():
        return True
    known = table[np.isfinite(table[:, 1:4]).all(axis=1), 1:4]
    whole = not (first % 1).any() and len(np.unique(first)) == len(first)
    return whole and bool((known % 1).any(axis=0).all())


def _find_color_columns(table: np.ndarray) -> int:
    """Index of the first of three columns that hold the colours.

    Six columns are x y z r g b, seven x y z intensity r g b; of more, r g b follow x y z unless
    other columns can be colours, too.
    """
    width = table.shape[1]
    if width > MAX_UNNAMED:
        raise ValueError(f"no heading for its {width} columns; {HEADING_HELP}")
    fitting = [
        start for start in range(3, width - 2) if _may_be_colors(table[:, start : start + 3])
    ]
    if width == 6:
        return _check_six(table)
    if width == 7 and 4 in fitting and not (3 in fitting and _is_no_color(table)):
        return 4
    if width > 7 and 3 in fitting and not any(start >= 6 for start in fitting):
        return 3
    if len(fitting) == 1:
        return fitting[0]
    reason = "several triples" if fitting else "none"
    raise ValueError(
        f"no heading, and {reason} of its {width} columns can be colours 0-255; {HEADING_HELP}"
    )


def _check_six(table: np.ndarray) -> int:
    colors = table[:, 3:][np.isfinite(table[:, 3:]).all(axis=1)]
    if not colors.size:
        return 3
    low, high = colors.min(), colors.max()
    swapped = _may_be_colors(table[:, :3]) and bool((colors % 1).any())
    if low < 0 or swapped or (high <= 1 and (colors % 1).any()):
        raise ValueError(
            f"no heading, so columns 4 to 6 would be colours r g b from 0 to 255, but they go from "
            f"{low:g} to {high:g}: normals, coordinates or colours up to 1? {HEADING_HELP}"
        )
    return 3


def _may_be_colors(columns: np.ndarray) -> bool:
    """Whether columns hold whole numbers up to 255 or 16 bits, not zeros and ones alone."""
    known = columns[np.isfinite(columns).all(axis=1)]
    if not known.size or known.min() < 0 or (known % 1).any():
        return False
    return 1 < known.max() <= 255 or DARK_16_BIT <= known.max() < 1 << 16


def _is_no_color(table: np.ndarray) -> bool:
    """Whether the last column is an opacity, a label or a number of the row rather than a colour:
    it is constant, has far fewer values than the two columns in front of it, or only rises.
    """
    last = table[:, -1]
    if len(last) < 2:
        return False
    values, *others = (len(np.unique(table[:, -index])) for index in (1, 2, 3))
    return values == 1 or values * LABEL_RATIO <= min(others) or bool((np.diff(last) > 0).all())
