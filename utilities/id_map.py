"""The id map: the CSV beside a collection, one row an item, that says which id is which path.

Rows are appended after Milvus has acknowledged their items, and removed before the items are: the file never names an
item that Milvus does not hold. It is plain CSV (UTF-8, one header line, texts in quotes) and may be read by anything.
"""

from __future__ import annotations

import csv
import dataclasses
import io
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

        A last row without its line end, which a process that is writing or was killed leaves behind, is passed over.

        Returns:
            A DataFrame with the columns of `Item`: `id`, `width`, `height`, `file_size` and `file_mtime_ns` int64,
            `path`, `part` and `label` strings. Empty where there is no file yet.

        Raises:
            IdMapError: the file is not an id map.
        """
        content = self.path.read_bytes() if self.path.exists() else b""
        content = content[: content.rfind(b"\n") + 1]
        if not content:
            return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in _DTYPES.items()})
        try:
            # Without keep_default_na a folder called "NA" would read as missing.
            rows = pd.read_csv(io.BytesIO(content), dtype=_DTYPES, keep_default_na=False, lineterminator="\n")
            if list(rows.columns) != list(ITEM_FIELDS):
                raise ValueError(f"its columns are {', '.join(map(str, rows.columns))}")
        except ValueError as error:
            raise IdMapError(
                f"{self.path} is not an id map as it was written ({error}); write it anew with "
                f"`lookalike export {self.path.stem}`."
            ) from error
        return rows.drop_duplicates("id", keep="last", ignore_index=True)

    def holds(self, items: pd.DataFrame) -> bool:
        """Whether the file says of exactly these items what they say of themselves.

        Args:
            items: in the columns of `Item`.

        Raises:
            IdMapError: the file is not an id map.
        """
        mine = self.read().sort_values("id", ignore_index=True)
        theirs = items.sort_values("id", ignore_index=True)
        return len(mine) == len(theirs) and bool((mine.to_numpy(object) == theirs.to_numpy(object)).all())

    def append(self, items: Iterable[Item]) -> None:
        """Add rows and wait until they are on the disk.

        Raises:
            OSError: the file cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._drop_torn_row()
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
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
            rows.sort_values("path")[list(ITEM_FIELDS)].to_csv(
                file, index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC
            )
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
        """Cut off a last row without its line end, so that the next row does not continue it."""
        if not self.path.exists():
            return
        with self.path.open("rb+") as file:
            end = file.seek(0, os.SEEK_END)
            position, tail = end, b""
            while position and b"\n" not in tail:
                position = max(0, position - 4096)
                file.seek(position)
                tail = file.read(end - position)
            whole = position + tail.rfind(b"\n") + 1
            if whole < end:
                file.truncate(whole)
