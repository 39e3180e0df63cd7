"""The id map: the CSV beside a collection, one row an item, that says which id is which path.

Rows are appended after Milvus has acknowledged their items, so the file never names an item that Milvus does not hold.
It is plain CSV (RFC 4180, UTF-8, one header line) and may be read by anything.
"""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Collection, Iterable
from pathlib import Path

import pandas as pd

from utilities.errors import IdMapError
from utilities.items import ITEM_FIELDS, Item

_DTYPES = {field.name: "int64" if field.type == "int" else "str" for field in dataclasses.fields(Item)}


class IdMap:
    """One collection's id map."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> pd.DataFrame:
        """All rows, in the order they were written; of several rows of one id, the last.

        Returns:
            A DataFrame with the columns of `Item`: `id`, `width`, `height`, `file_size` and `file_mtime_ns` int64,
            `path` and `label` strings. Empty where there is no file yet.

        Raises:
            IdMapError: the file is not an id map.
        """
        if not self.path.exists():
            return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in _DTYPES.items()})
        self._drop_torn_row()
        try:
            # Without keep_default_na a folder called "NA" would read as missing.
            rows = pd.read_csv(self.path, dtype=_DTYPES, keep_default_na=False, encoding="utf-8", lineterminator="\n")
            if list(rows.columns) != list(ITEM_FIELDS):
                raise ValueError(f"its columns are {', '.join(map(str, rows.columns))}")
        except ValueError as error:
            raise IdMapError(
                f"{self.path} is not an id map as it was written ({error}); write it anew with "
                f"`lookalike export {self.path.stem}`."
            ) from error
        return rows.drop_duplicates("id", keep="last", ignore_index=True)

    def append(self, items: Iterable[Item]) -> None:
        """Add rows and wait until they are on the disk.

        Raises:
            OSError: the file cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._drop_torn_row()
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            if file.tell() == 0:
                writer.writerow(ITEM_FIELDS)
            writer.writerows(dataclasses.astuple(item) for item in items)
            file.flush()
            os.fsync(file.fileno())

    def write(self, rows: pd.DataFrame) -> None:
        """Replace the whole file, in one step, with rows sorted by path."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(".csv.unfinished")
        with unfinished.open("w", newline="", encoding="utf-8") as file:
            rows.sort_values("path")[list(ITEM_FIELDS)].to_csv(file, index=False, lineterminator="\n")
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self.path)

    def compact(self) -> None:
        """Sort by path and drop the rows that a later row replaced: the bytes then depend on the items alone."""
        if self.path.exists():
            self.write(self.read())

    def remove(self, ids: Collection[int]) -> None:
        """Drop the rows of some ids."""
        if self.path.exists():
            rows = self.read()
            self.write(rows[~rows["id"].isin(list(ids))])

    def delete(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)

    def _drop_torn_row(self) -> None:
        """Cut off a last row without its line end: what a process that was killed while writing leaves behind."""
        if not self.path.exists():
            return
        with self.path.open("rb+") as file:
            content_end = file.seek(0, os.SEEK_END)
            position, tail = content_end, b""
            while position and b"\n" not in tail:
                position = max(0, position - 4096)
                file.seek(position)
                tail = file.read(content_end - position)
            file.truncate(position + tail.rfind(b"\n") + 1)
