"""What a CSV says of files: further attributes of their items, a column each, joined by path."""

from __future__ import annotations

import json
import logging
import math
import posixpath
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from utilities.csv_files import read_table
from utilities.errors import InvalidArgument
from utilities.exif import EXIF_ATTRIBUTES
from utilities.faces import FACE_ATTRIBUTES
from utilities.filters import KEYWORDS
from utilities.items import ITEM_FIELDS, Value, printable
from utilities.spans import SPAN_ATTRIBUTES

logger = logging.getLogger(__name__)

#: What a column may hold: the first of these that all of its cells are.
TYPES = ("integer", "number", "boolean", "text")
#: Names and types of columns.
Columns = tuple[tuple[str, str], ...]

#: Names that mean something already: `score` is how near a match is, and `folder` what matches are grouped by.
_RESERVED = {*ITEM_FIELDS, *FACE_ATTRIBUTES, *SPAN_ATTRIBUTES, *EXIF_ATTRIBUTES, "score", "folder"}
_VECTORS = "embedding_"
#: Zeros in front, as in 00123, make a text, which loses nothing.
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,18})")
_NUMBER = re.compile(r"-?((0|[1-9][0-9]*)(\.[0-9]+)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_BOOLEANS = {"true": True, "false": False}
#: Up to here every integer is a floating-point number, as JavaScript has them; what is longer, as a code is, is a text.
_EXACT = 2**53
#: Bytes of a row in JSON; a server takes 65,536 of all that an item has beside the fields of every item.
MOST_BYTES = 60_000
#: Paths that name no file, of which it is said which they are.
_FEW = 3


@dataclass(frozen=True)
class Attributes:
    """The content of a CSV."""

    #: Those that the collection had, and what is new or wider.
    columns: Columns
    #: By path; None stands for an empty cell.
    rows: Mapping[str, Mapping[str, Value | None]]

    def joined(self, path: str, before: Mapping[str, Value]) -> dict[str, Value]:
        """The values of a file: those of its row, and those that it had in columns which the CSV lacks.

        Raises:
            InvalidArgument: together they are more than `MOST_BYTES`.
        """
        values = {name: value for name, value in {**before, **self.rows.get(path, {})}.items() if value is not None}
        if (size := _bytes_of(values)) > MOST_BYTES:
            raise InvalidArgument(
                f"With what earlier CSVs have said of it, {path!r} would hold {size:,} bytes; Milvus takes at most "
                f"{MOST_BYTES:,} of an item. Empty another of its columns."
            )
        return values

    def matched(self, root: Path, paths: Collection[str], known: Columns = ()) -> Attributes:
        """The same by the paths of files, with the columns that a collection is to note.

        A path is taken as it is, else without blanks around it, `.`, the root in front, and backslashes, and whichever
        way its accents are encoded. Columns that give no file a value are left out, or as they were. Paths that name
        no file stay; it is logged which they are.

        Args:
            root: the tree.
            paths: those of the tree and of the collection, relative to it.
            known: as for `read_attributes`.

        Raises:
            InvalidArgument: two different rows of one file.
        """
        there = set(paths)
        by_plain = {_plain(path): path for path in there}
        roots = [f"{_plain(each.as_posix())}/" for each in (root, root.absolute(), root.resolve())]
        rows: dict[str, Mapping[str, Value | None]] = {}
        unknown = []
        for path, row in self.rows.items():
            file = path if path in there else _file_of(path, roots, there, by_plain)
            if file is None:
                unknown.append(path)
            if rows.setdefault(file or path, row) != row:
                raise InvalidArgument(
                    f"The CSV of attributes gives two different rows to {file!r}, the second as {path!r}; keep one."
                )
        if unknown:
            logger.warning(
                "%s of the CSV of attributes %s no file below %s, such as %s.",
                f"{len(unknown):,} path{'' if len(unknown) == 1 else 's'}",
                "names" if len(unknown) == 1 else "name",
                printable(str(root)),
                ", ".join(repr(path) for path in unknown[:_FEW]),
            )
        landing = {
            name for path, row in rows.items() if path in there for name, value in row.items() if value is not None
        }
        new = {name: kind for name, kind in self.columns if name in landing}
        return Attributes(tuple({**dict(known), **new}.items()), rows)


def read_attributes(file: Path, known: Columns = ()) -> Attributes:
    """Read a CSV of attributes: a column `path`, relative to the collection's root, and a column for each attribute.

    Args:
        file: UTF-8, with commas and a header.
        known: columns that the collection has already, whose types stay, but that integers may become numbers.

    Raises:
        InvalidArgument: what `read_table` refuses, a name that cannot be an attribute's, a value that is not of the
            type that its column has, two different rows of a path, or more than `MOST_BYTES`; the message says which.
    """
    table = read_table(file, ["path"], "attributes")
    names = [str(name) for name in table.columns if name != "path"]
    if not names:
        raise InvalidArgument(f"{str(file)!r} has no column beside path; each further one becomes an attribute.")
    for name in names:
        _check_name(name, file)
    lines, types = [int(line) for line in table.index], dict(known)
    values: dict[str, list[Value | None]] = {}
    for name in names:
        cells = [cell.strip() for cell in table[name]]
        if name not in types and any(cells):
            types[name] = next(kind for kind in TYPES if _are_of(kind, cells))
        elif types.get(name) == "integer" and not _are_of("integer", cells) and _are_of("number", cells):
            types[name] = "number"  # Milvus keeps both as numbers of JSON, so that those that are there need no change.
        if name in types:
            values[name] = _parsed_column(file, name, types[name], lines, cells)
    rows: dict[str, dict[str, Value | None]] = {}
    for number, (line, path) in enumerate(zip(lines, table["path"], strict=True)):
        row = {name: column[number] for name, column in values.items()}
        if rows.setdefault(path, row) != row:
            raise InvalidArgument(f"{str(file)!r}, line {line}, gives {path!r} another row; each path has one.")
        if (size := _bytes_of(row)) > MOST_BYTES:
            raise InvalidArgument(
                f"{str(file)!r}, line {line}, holds {size:,} bytes; Milvus takes at most {MOST_BYTES:,} of an item."
            )
    return Attributes(tuple(types.items()), rows)


def _bytes_of(values: Mapping[str, Value | None]) -> int:
    return len(json.dumps(values, ensure_ascii=False).encode())


def _file_of(path: str, roots: Sequence[str], there: Set[str], by_plain: Mapping[str, str]) -> str | None:
    """The one of the files that are there which a path means that is none of theirs."""
    plain = posixpath.normpath(_plain(path.replace("\\", "/")))
    root = next((each for each in roots if plain.startswith(each)), "")
    plain = plain[len(root) :]
    return plain if plain in there else by_plain.get(plain)


def _plain(path: str) -> str:
    """Without blanks around it; composed (NFC), since macOS and some archives decompose accents in file names."""
    return unicodedata.normalize("NFC", path.strip())


def _check_name(name: str, file: Path) -> None:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,254}", name) or name.lower() in KEYWORDS:
        raise InvalidArgument(
            f"{str(file)!r} has a column {name!r}, which a filter cannot name; use letters, digits and underscores, "
            "not beginning with a digit, and no word of Milvus's expressions."
        )
    if name in _RESERVED or name.startswith(_VECTORS):
        raise InvalidArgument(f"{str(file)!r} has a column {name!r}, a name that is taken; rename the column.")


def _parsed_column(file: Path, name: str, kind: str, lines: Sequence[int], cells: Sequence[str]) -> list[Value | None]:
    for line, cell in zip(lines, cells, strict=True):
        if cell and not _is_of(kind, cell):
            raise InvalidArgument(
                f"{str(file)!r}, line {line}, gives {name!r} as {cell!r}, and the collection holds it as {kind}; mend "
                "the value, or rename the column."
            )
    return [_parsed(kind, cell) if cell else None for cell in cells]


def _are_of(kind: str, cells: Sequence[str]) -> bool:
    return all(_is_of(kind, cell) for cell in cells if cell)


def _is_of(kind: str, cell: str) -> bool:
    if kind == "integer":
        return bool(_INTEGER.fullmatch(cell)) and abs(int(cell)) <= _EXACT
    if kind == "number":
        if not _NUMBER.fullmatch(cell) or not math.isfinite(float(cell)):
            return False
        return not cell.lstrip("-").isdigit() or abs(int(cell)) <= _EXACT
    return kind == "text" or cell.lower() in _BOOLEANS


def _parsed(kind: str, cell: str) -> Value:
    if kind == "text":
        return cell
    return int(cell) if kind == "integer" else float(cell) if kind == "number" else _BOOLEANS[cell.lower()]
