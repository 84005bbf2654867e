"""Rows of numbers in text, as PLY, PCD and plain text files have them."""

import re
from collections.abc import Sequence

import numpy as np

from xmask3d_rt.errors import one_line

# What the C library of Windows prints: -nan(ind), 1.#QNAN, -1.#IND, 1.#INF00
WINDOWS_NAN = re.compile(r"[-+]?nan\([\w]*\)|[-+]?\d\.#(?:QNAN|SNAN|IND|INF)\d*", re.IGNORECASE)


def parse_table(
    rows: Sequence[str], delimiter: str | None = None, columns: Sequence[int] | None = None
) -> np.ndarray:
    """Numbers of rows of text, [N, C] float64.

    Args:
        rows: no blank ones.
        delimiter: between columns; None: any white space.
        columns: those to read, the others may hold anything; None reads all.

    Raises:
        ValueError: a row with more or fewer columns than the first, or a word that is no number.
    """
    if columns is not None:
        _check_widths(rows, delimiter)
    try:
        return _load(rows, delimiter, columns)
    except ValueError:
        _check_widths(rows, delimiter)
        known = [WINDOWS_NAN.sub("nan", row) for row in rows]
    try:
        return _load(known, delimiter, columns)
    except ValueError as error:
        raise ValueError(f"not a table of numbers: {one_line(error)}") from error


def _load(rows: Sequence[str], delimiter: str | None, columns: Sequence[int] | None) -> np.ndarray:
    return np.loadtxt(
        rows, np.float64, comments=None, delimiter=delimiter, usecols=columns, ndmin=2
    )


def _check_widths(rows: Sequence[str], delimiter: str | None) -> None:
    width = len(rows[0].split(delimiter))
    for index, row in enumerate(rows):
        if len(row.split(delimiter)) != width:
            raise ValueError(
                f"not a table of numbers: row {index + 1} has {len(row.split(delimiter))} "
                f"columns, the first {width}: {one_line(row, 60)!r}"
            )
