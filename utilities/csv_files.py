"""Read a CSV that someone else wrote, as text, and say by the line what is wrong with it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from utilities.errors import InvalidArgument

#: What spreadsheets separate columns by, beside commas.
_SEPARATORS = {";": "semicolons", "\t": "tabs"}


def read_table(file: Path, needed: Sequence[str], what: str) -> pd.DataFrame:
    """The rows of a CSV whose first line is a header.

    Args:
        file: UTF-8, with commas; blanks after them are passed over.
        needed: columns that it must have.
        what: what it is a file of, as errors call it.

    Returns:
        A DataFrame of strings, in the CSV's own columns, each row by the number of the line that it ends in. Columns
        without a name and without a value, which a comma at the end of each line makes, are left out.

    Raises:
        InvalidArgument: no such file, no CSV, another encoding or separator, a column that is missing or there twice,
            or a row longer than the header.
    """
    if not file.is_file():
        raise InvalidArgument(f"There is no file of {what} {str(file)!r}.")
    try:
        text = file.read_bytes().decode("utf-8-sig")
        if "\0" in text:  # UTF-16 without a mark at its beginning
            raise UnicodeError
        first = text.partition("\n")[0]
        separator = next((name for mark, name in _SEPARATORS.items() if _named(needed, first.split(mark))), None)
        if separator:
            raise InvalidArgument(f"{str(file)!r} separates its columns by {separator}; save it with commas.")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
        lines = dict((reader.line_num, row) for row in reader if any(row))  # noqa: C402  # the number changes
        if not lines:
            raise ValueError("No columns")
    except UnicodeError as error:
        raise InvalidArgument(f"{str(file)!r} is not in UTF-8; save it as UTF-8.") from error
    except (ValueError, OSError, csv.Error) as error:
        raise InvalidArgument(f"{str(file)!r} cannot be read as a CSV: {str(error).strip().rstrip('.')}.") from error
    header = [name.strip() for name in lines.pop(next(iter(lines)))]
    missing = [column for column in needed if column not in header]
    if missing:
        raise InvalidArgument(
            f"{str(file)!r} has no column {' and no column '.join(missing)}; its first line must be a header that "
            f"names {' and '.join(needed)}."
        )
    twice = next((name for name in header if name and header.count(name) > 1), None)
    if twice:
        raise InvalidArgument(f"{str(file)!r} has two columns {twice!r}; rename one of them.")
    for number, row in lines.items():
        if any(row[len(header) :]):
            raise InvalidArgument(
                f"{str(file)!r}, line {number}, has {len(row)} values for {len(header)} columns; put quotes around a "
                "value that holds a comma."
            )
    cells = [(row + [""] * len(header))[: len(header)] for row in lines.values()]
    table = pd.DataFrame(cells, index=list(lines), columns=header, dtype=str)
    empty = (table == "").all().to_numpy() & (table.columns == "")
    return table.loc[:, ~empty]


def _named(columns: Sequence[str], cells: Sequence[str]) -> bool:
    """Whether one of several cells, perhaps in quotes, is the name of a column."""
    return len(cells) > 1 and any(cell.strip().strip('"') in columns for cell in cells)
