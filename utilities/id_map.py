"""The id map: the CSV beside a collection, one row an item, that says which id is which path.

Rows are appended after Milvus has acknowledged their items, and removed before the items are: the file never names an
item that Milvus does not hold. It is plain CSV (UTF-8, one header line, texts in quotes) and may be read by anything.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import os
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from utilities.errors import IdMapError
from utilities.items import ITEM_FIELDS, Item, item_id, printable

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEWLINE = b"\n"
_NUMBER = re.compile("-?[0-9]{1,19}")
_DTYPES = {
    field.name: "int64" if field.type == "int" else "str"
    for field in dataclasses.fields(Item)
    if field.name in ITEM_FIELDS
}


@dataclass(frozen=True)
class Differences:
    """Where an id map and the items that Milvus holds disagree, in numbers of items."""

    #: Milvus holds them, the id map lacks them: a process died between the two, or the file was lost.
    not_in_id_map: int
    #: The id map names them, Milvus does not hold them: the collection was dropped, or has lost them.
    not_in_milvus: int
    #: Both know them, and say different things of them.
    changed: int
    #: Whether the file is, to the byte, what `IdMap.write` makes of the items.
    in_form: bool

    def __str__(self) -> str:
        parts = [
            (self.not_in_id_map, "not in the id map"),
            (self.not_in_milvus, "not in Milvus"),
            (self.changed, "described differently"),
        ]
        return ", ".join(f"{count:,} {what}" for count, what in parts if count) or "none"

    def __bool__(self) -> bool:
        return bool(self.not_in_id_map or self.not_in_milvus or self.changed)


class IdMap:
    """One collection's id map."""

    def __init__(self, path: Path) -> None:
        self.path = path
        #: Whether this object has seen to it that the file ends with a whole row.
        self._ends_whole = False

    def read(self) -> pd.DataFrame:
        """All rows, in the order they were written; of several rows of one id, the last.

        A last row that is not whole, which a process that is writing or was killed leaves behind, is passed over.

        Returns:
            A DataFrame with the columns of `Item`: `id`, `width`, `height`, `file_size` and `file_mtime_ns` int64,
            the others strings. Empty where there is no file yet.

        Raises:
            IdMapError: the file is not an id map as it was written; the message names the line.
        """
        return self._parse(self._without_torn_row(self._content()))

    def compare(self, items: pd.DataFrame) -> Differences:
        """Where the file and the items of Milvus disagree.

        Args:
            items: in the columns of `Item`.

        Raises:
            IdMapError: the file was changed by another hand than ours: a row that cannot be read, or an id that is not
                that of its path; the message names the line.
        """
        content = self._content()
        if content == _rendered(items):
            return Differences(0, 0, 0, in_form=True)
        content = self._without_torn_row(content)
        self._check_rows(content)
        mine, theirs = (rows.set_index("id") for rows in (self._parse(content), items))
        both = mine.index.intersection(theirs.index)
        same = (mine.loc[both].to_numpy(object) == theirs.loc[both, list(mine.columns)].to_numpy(object)).all(axis=1)
        return Differences(
            not_in_id_map=len(theirs) - len(both),
            not_in_milvus=len(mine) - len(both),
            changed=int((~same).sum()),
            in_form=False,
        )

    def append(self, items: Iterable[Item]) -> None:
        """Add rows and wait until they are on the disk.

        Raises:
            OSError: the file cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self._ends_whole:
            self._drop_torn_row()
        self._ends_whole = False  # as long as it is being written
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
            if file.tell() == 0:
                writer.writerow(ITEM_FIELDS)
            writer.writerows(item.row().values() for item in items)
            file.flush()
            os.fsync(file.fileno())
        self._ends_whole = True

    def write(self, rows: pd.DataFrame) -> None:
        """Replace the whole file, in one step, with rows sorted by path and part: its bytes depend on nothing else."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(".csv.unfinished")
        try:
            with unfinished.open("wb") as file:
                file.write(_rendered(rows))
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(self.path)
        finally:
            unfinished.unlink(missing_ok=True)

    def compact(self) -> None:
        """Sort by path and part and drop the rows that a later row replaced."""
        if self.path.exists():
            self.write(self.read())

    def remove(self, ids: Collection[int]) -> None:
        """Drop the rows of some ids."""
        if ids and self.path.exists():
            rows = self.read()
            self.write(rows[~rows["id"].isin(list(ids))])

    def delete(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)

    def _content(self) -> bytes:
        return self.path.read_bytes() if self.path.exists() else b""

    def _without_torn_row(self, content: bytes) -> bytes:
        """Up to the end of the last whole row: a line break outside quotes.

        A process that died leaves no more than a piece of one row after it. Where whole rows lie in that piece, a quote
        is missing that was there.
        """
        ends = _row_ends(content)
        whole = content[: ends[-1] + 1] if len(ends) else b""
        if re.search(rb'\n-?[0-9]{1,19},"', content[len(whole) :]):
            raise self._refusal(f"a quote is missing in line {whole.count(NEWLINE) + 1} or after it")
        return whole

    def _parse(self, content: bytes) -> pd.DataFrame:
        if not content:
            return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in _DTYPES.items()})
        try:
            # Without keep_default_na a folder called "NA" would read as missing.
            rows = pd.read_csv(io.BytesIO(content), dtype=_DTYPES, keep_default_na=False, lineterminator="\n")
            if list(rows.columns) != list(ITEM_FIELDS):
                raise ValueError(f"its columns are {', '.join(map(str, rows.columns))}")
        except (ValueError, OverflowError) as error:
            self._check_rows(content)
            raise self._refusal(str(error)) from error
        return rows.drop_duplicates("id", keep="last", ignore_index=True)

    def _check_rows(self, content: bytes) -> None:
        """Refuse what another hand has changed, by the line."""
        ends = _row_ends(content)
        windows = next((end for end in ends if content[end - 1 : end] == b"\r"), None)
        if windows is not None:
            raise self._refusal(f"line {content.count(NEWLINE, 0, windows) + 1} ends as on Windows, in CR LF")
        try:
            text = io.StringIO(content.decode(), newline="")
        except UnicodeDecodeError as error:
            line = content.count(NEWLINE, 0, error.start) + 1
            raise self._refusal(f"line {line} is not UTF-8") from error
        reader = csv.reader(text, strict=True)
        line = 1
        try:
            for row in reader:
                if line == 1:
                    if row != list(ITEM_FIELDS):
                        raise self._refusal(f"line 1 should name the columns {', '.join(ITEM_FIELDS)}")
                else:
                    self._check_row(row, line)
                line = reader.line_num + 1
        except csv.Error as error:
            raise self._refusal(f"line {line}: {error}") from error

    def _check_row(self, row: list[str], line: int) -> None:
        if len(row) != len(ITEM_FIELDS):
            raise self._refusal(f"line {line} has {len(row)} fields instead of {len(ITEM_FIELDS)}")
        fields = dict(zip(ITEM_FIELDS, row, strict=True))
        for name, dtype in _DTYPES.items():
            if dtype == "int64" and not (_NUMBER.fullmatch(fields[name]) and abs(int(fields[name])) < 2**63):
                raise self._refusal(f"line {line}: {name} is {fields[name]!r}, which is no such number")
        if int(fields["id"]) != item_id(fields["path"], fields["part"]):
            raise self._refusal(f"line {line}: {fields['id']} is not the id of {printable(fields['path'])!r}")

    def _refusal(self, reason: str) -> IdMapError:
        return IdMapError(
            f"{self.path} is not an id map as it was written ({reason}); write it anew with "
            f"`lookalike export {self.path.stem}`."
        )

    def _drop_torn_row(self) -> None:
        """Cut off a last row that is not whole, so that the next row does not continue it."""
        content = self._content()
        whole = len(self._without_torn_row(content))
        if whole < len(content):
            os.truncate(self.path, whole)


def _rendered(items: pd.DataFrame) -> bytes:
    """The bytes of an id map of these items."""
    rows = items.sort_values(["path", "part"])[list(ITEM_FIELDS)]
    text = rows.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    return text.encode()


def _row_ends(content: bytes) -> NDArray[np.int64]:
    """Where the line breaks are that end rows: those after an even number of quotes."""
    characters = np.frombuffer(content, np.uint8)
    within_quotes = np.logical_xor.accumulate(characters == ord('"'))
    return np.flatnonzero((characters == ord("\n")) & ~within_quotes)
