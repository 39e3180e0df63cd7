"""What an item shows, as far as someone has said so: the folder that its file lies in, or a CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from utilities.csv_files import read_table
from utilities.errors import InvalidArgument
from utilities.sampling import draw_sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Columns of a CSV of labels; others are passed over, but for `part`, which may name one of several items of a file.
COLUMNS = ("path", "label")


@dataclass(frozen=True)
class Labels:
    """A label for each of n items, as a number."""

    #: (n,) positions in `names`; -1 for an item without a label.
    codes: NDArray[np.int64]
    #: Sorted, each once.
    names: list[str]

    @classmethod
    def of(cls, labels: Sequence[str | None]) -> Labels:
        """Number the labels of n items; None for an item without one."""
        codes, names = pd.factorize(np.array(labels, dtype=object), sort=True)
        return cls(np.asarray(codes, np.int64), [str(name) for name in names])

    def take(self, rows: NDArray[np.int64]) -> Labels:
        """The labels of some of the items; names that none of them has are gone."""
        return Labels.of([self.names[code] if code >= 0 else None for code in self.codes[rows]])

    def others(self) -> NDArray[np.int64]:
        """(n,) how many other items have an item's label; 0 for an item without one."""
        counts = np.bincount(self.codes[self.codes >= 0], minlength=len(self.names))
        return np.where(self.codes >= 0, np.append(counts, 1)[self.codes] - 1, 0)


def read_labels(file: Path) -> dict[tuple[str, str], str]:
    """Labels by path and part, from a CSV with a header that names the columns `path` and `label`, and perhaps `part`.

    Args:
        file: UTF-8; paths as the id map has them, relative to the collection's root.

    Raises:
        InvalidArgument: no such file, no CSV, a column is missing, or a path has two labels; the message says which.
    """
    rows = read_table(file, COLUMNS, "labels")
    if "part" not in rows:
        rows["part"] = ""
    different = rows.drop_duplicates([*COLUMNS, "part"])
    twice = different["path"][different.duplicated(["path", "part"])]
    if len(twice):
        raise InvalidArgument(f"{str(file)!r} gives {twice.iloc[0]!r} more than one label; each path has one.")
    return dict(zip(zip(rows["path"], rows["part"], strict=True), rows["label"], strict=True))


def labelled_sample(items: pd.DataFrame, file: Path | None, count: int) -> tuple[pd.DataFrame, Labels]:
    """A sample of items with their labels; where a CSV gives these, of the items that it names.

    Args:
        items: n rows with the columns `path` and `label`.
        file: as for `labels_of`.
        count: at most so many, drawn at random, the same at every call.

    Returns:
        The rows, numbered anew, sorted by path, and their labels.

    Raises:
        InvalidArgument: as `labels_of` does.
    """
    items = items.sort_values("path", ignore_index=True)
    labels = labels_of(items, file)
    possible = np.flatnonzero(labels.codes >= 0) if file else np.arange(len(items))
    rows = possible[draw_sample(len(possible), count)]
    return items.iloc[rows].reset_index(drop=True), labels.take(rows)


def labels_of(items: pd.DataFrame, file: Path | None = None) -> Labels:
    """The labels of items.

    A label of a whole image, by its folder or by a path without a part, is that of the face nearest to its middle,
    where items are faces: whom a photograph is of stands there (the rule of Labeled Faces in the Wild: Huang et al.,
    2007). The other faces in it have none. Of faces in videos only those have one that are named by their part.

    Args:
        items: n rows with the columns `path` and `label`; of faces also `part`, `width`, `height` and what
            `Face.attributes` has.
        file: as for `read_labels`; None to take the folder that holds each file.

    Raises:
        InvalidArgument: as `read_labels` does; or there are no items, or the file names none of them.
    """
    if items.empty:
        raise InvalidArgument("The collection holds no items; load a tree into it first.")
    means_image = _means_image(items)
    if file is None:
        return Labels.of(items["label"].where(means_image, None).tolist())
    known = read_labels(file)
    parts = items["part"] if "part" in items else [""] * len(items)
    found = Labels.of(
        [
            known.get((path, part)) or (known.get((path, "")) if whole else None) or None
            for path, part, whole in zip(items["path"], parts, means_image, strict=True)
        ]
    )
    if not found.names:
        first = items.iloc[0]
        part = f" and its part, such as {first['part']!r}" if first.get("part") else ""
        raise InvalidArgument(
            f"{str(file)!r} names none of the {len(items):,} items by its path, such as {first['path']!r}{part}."
        )
    return found


def _means_image(items: pd.DataFrame) -> pd.Series[bool]:
    """Which items a label of their whole image means: all that are images, and of an image's faces the middle one."""
    if "face_left" not in items:
        return pd.Series(True, index=items.index)
    if "time" in items:  # A video shows one person after another.
        return pd.Series(False, index=items.index)
    across = (items["face_left"] + items["face_width"] / 2 - items["width"] / 2) / items["width"]
    down = (items["face_top"] + items["face_height"] / 2 - items["height"] / 2) / items["height"]
    return pd.Series(~(across**2 + down**2).groupby(items["path"]).rank(method="first").gt(1), index=items.index)
