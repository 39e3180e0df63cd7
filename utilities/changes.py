"""What a tree holds that its collection does not, and the other way round."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from utilities.items import file_digest
from utilities.streams import in_order

#: Files that are read before their results are wanted.
READ_AHEAD = 64


def new_or_changed(directory: Path, paths: Sequence[str], stored: pd.DataFrame) -> list[str]:
    """The paths that are not stored, whole, with the file's present size and time of change. No file is opened.

    Args:
        directory: the tree's root.
        paths: POSIX paths relative to it.
        stored: what is known, in the columns of `Item`; and `items_of_file`, how many items a file has, where that may
            be other than one: on at least one of them, and 0 on those that do not say.
    """
    known: dict[str, list[tuple[int, int, str, int]]] = {}
    counts = stored["items_of_file"] if "items_of_file" in stored else [1] * len(stored)
    rows = zip(stored["file_size"], stored["file_mtime_ns"], stored["file_digest"], counts, strict=True)
    for path, row in zip(stored["path"], rows, strict=True):
        known.setdefault(path, []).append(row)

    def is_unchanged(path: str) -> bool:
        # A load that died may have left some of a file's items, or some of the file as it was before.
        parts = known.get(path, [])
        states, counts = {part[:3] for part in parts}, {part[3] for part in parts if part[3]}
        return len(states) == 1 and counts == {len(parts)} and parts[0][:2] == _state(directory / path)

    return [path for path in paths if not is_unchanged(path)]


def other_contents(directory: Path, paths: Sequence[str], stored: pd.DataFrame, *, progress: bool) -> list[str]:
    """Of paths that Milvus holds, those whose files hold other bytes than when they were embedded, or cannot be read.

    Args:
        directory: the tree's root.
        paths: POSIX paths relative to it.
        stored: the collection's items, in the columns of `Item`.
        progress: whether to draw a progress bar on standard error.
    """
    digests = dict(zip(stored["path"], stored["file_digest"], strict=True))
    with (
        ThreadPoolExecutor(thread_name_prefix="verify") as pool,
        closing(in_order(pool, partial(_digest, directory), paths, READ_AHEAD)) as digested,
    ):
        found = tqdm(
            digested,
            total=len(paths),
            unit="file",
            desc="verify",
            disable=not (progress and paths),
        )
        return [path for path, digest in zip(paths, found, strict=True) if digest != digests[path]]


def vanished_items(directory: Path, paths: Sequence[str], stored: pd.DataFrame) -> list[int]:
    """Ids of the stored items whose files are gone; one that was merely not asked for, by its extension, is not."""
    found = set(paths)
    return [
        id_
        for id_, path in zip(stored["id"], stored["path"], strict=True)
        if path not in found and _is_gone(directory / path)
    ]


def _state(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _digest(directory: Path, path: str) -> str | None:
    try:
        with (directory / path).open("rb") as file:
            return file_digest(file)
    except OSError:
        return None


def _is_gone(file: Path) -> bool:
    """Whether there is no such file; one in a folder that may not be entered may well be there."""
    try:
        file.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False
