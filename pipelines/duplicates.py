"""Duplicates: files of a collection that show one picture, and the best of each."""

from __future__ import annotations

import csv
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from tqdm import tqdm

from utilities.collection_info import CollectionInfo
from utilities.duplicates import Found, Group, find_duplicates
from utilities.errors import DatabaseError, InvalidArgument, Stopped
from utilities.failures import Failure
from utilities.id_map import IdMap
from utilities.items import printable
from utilities.locks import only_writer
from utilities.milvus_utilities import connect, delete_items, describe_collection, list_collections, read_items
from utilities.set_aside import is_as_loaded, refuse_folder_of_tree, set_aside
from utilities.settings import Settings
from utilities.stopping import PutOff
from utilities.thumbnails import SheetGroup, group_sheet, read_thumbnails

if TYPE_CHECKING:
    from pymilvus import MilvusClient

#: Of the CSV.
COLUMNS = ["group", "rank", "path", "width", "height", "file_size", "differences"]
#: Groups of a contact sheet, and files of each that it shows.
GROUPS, SHOWN = 16, 14


@dataclass(frozen=True)
class Duplicate:
    """A file of a group."""

    id: int
    #: POSIX path relative to the root.
    path: str
    width: int
    height: int
    #: In bytes, and time of last change in nanoseconds: what the file had when it was loaded.
    file_size: int
    file_mtime_ns: int
    #: How it differs from the best: `identical` byte by byte, or else `mirrored`, `cropped`, `extended` (shows more),
    #: `resized`, `recoloured`, `altered` (in places, as by a text); `re-encoded` if none of these. Empty for the best.
    differences: tuple[str, ...]

    @property
    def shows_more(self) -> bool:
        """Whether it shows what the best does not, or something else in places: another text, a face."""
        return not {"altered", "extended"}.isdisjoint(self.differences)


@dataclass(frozen=True)
class Duplicates:
    """What was found."""

    collection: str
    root: Path
    items: int
    #: The largest group first; of each the best file first.
    groups: list[list[Duplicate]]
    #: Items whose files are gone, which are in no group.
    gone: int
    #: Files that could not be read, of which only byte-identical copies can be found.
    unreadable: list[Failure]
    #: A row for each file of a group.
    csv: Path
    #: Pictures of the groups.
    sheets: list[Path]

    @property
    def superfluous(self) -> list[Duplicate]:
        """All but the best of each group, and but what shows more."""
        return [each for group in self.groups for each in group[1:] if not each.shows_more]

    @property
    def kept(self) -> list[Duplicate]:
        """What shows more than the best of its group, or something else in places."""
        return [each for group in self.groups for each in group[1:] if each.shows_more]


@dataclass(frozen=True)
class Moved:
    """What was done with the superfluous files."""

    directory: Path
    #: How many were moved, and bytes of them.
    moved: int
    bytes: int
    #: What was not, with the reason; it lies where it was.
    left: list[Failure]
    #: How many were not to be, since they show what the best does not.
    kept: int
    #: Other collections of the tree, which still hold items of what was moved.
    others: list[str]


def run(collection: str, *, out: Path, settings: Settings | None = None, progress: bool = True) -> Duplicates:
    """Find groups of files that show one picture; write a CSV and contact sheets of them. No image is touched.

    Args:
        collection: its name.
        out: directory for the CSV and the sheets; sheets of an earlier run are removed.
        settings: limits and places; from the environment by default.
        progress: whether to draw progress bars on standard error.

    Raises:
        CollectionNotFound: no such collection.
        InvalidArgument: a collection of faces or of videos, or without a root or one that is not there; or `out` lies
            in the tree, or holds files of others by the names of these.
        DatabaseError: Milvus failed.
    """
    settings = settings or Settings.load()
    client = connect(settings=settings, must_exist=True)
    info = describe_collection(client, collection)
    root = _root_of_images(info)
    table = out / "duplicates.csv"
    _check_out(out, table, root)
    items = read_items(client, collection)
    found = find_duplicates(client, info, items, settings, progress=progress)
    groups = [_described(found, group) for group in found.groups]
    for sheet in _sheets(out):  # of an earlier run
        sheet.unlink()
    _table(groups).to_csv(table, index=False)  # Before the sheets: it tells the next run that they are ours.
    sheets = _draw(root, groups, out, settings, progress)
    return Duplicates(collection, root, len(items), groups, found.gone, found.failures, table, sheets)


def check_destination(collection: str, directory: Path, settings: Settings | None = None) -> None:
    """Refuse to move files into a folder before they are looked for.

    Raises:
        InvalidArgument: as `run`, or the folder and the tree lie in each other.
    """
    client = connect(settings=settings or Settings.load(), must_exist=True)
    refuse_folder_of_tree(directory, _root_of_images(describe_collection(client, collection)))


def move(found: Duplicates, directory: Path, settings: Settings | None = None) -> Moved:
    """Move what is superfluous into a folder, under its relative paths, and remove its items.

    Not moved are the best of each group and what shows more; nor are files that have changed since they were
    loaded, links, what the best leads to, files whose name is taken there, and groups whose best is not there as it was
    any more. Each of these is listed with the reason, and the rest goes on.

    Args:
        found: what `run` returned.
        directory: outside the tree; made if it is not there.
        settings: as for `run`.

    Raises:
        InvalidArgument: the folder and the tree lie in each other.
        CollectionBusy: another process changes the collection.
        IdMapError: the id map is not as it was written; nothing was moved.
        DatabaseError: Milvus failed; the message says how many files were moved all the same.
        Stopped: Ctrl-C or SIGTERM came; the items of what was moved until then are removed.
    """
    settings = settings or Settings.load()
    refuse_folder_of_tree(directory, found.root)
    client = connect(settings=settings, must_exist=True)
    moved: list[Duplicate] = []
    left: list[Failure] = []
    id_map = IdMap(settings.id_map_path(found.collection))
    with only_writer(settings, found.collection), PutOff() as stop:
        id_map.read()  # What is wrong with it is to be said before a file is moved.
        try:
            for group in found.groups:
                for each in group[1:]:
                    if stop.signal:
                        break
                    if each.shows_more:
                        continue
                    reason = _move(found.root, group[0], each, directory)
                    if reason:
                        left.append(Failure(each.path, reason))
                    else:
                        moved.append(each)
        finally:  # A second signal does not wait.
            _remove_items(client, found, moved, id_map)
    if stop.signal:
        raise Stopped(f"Stopped after {len(moved):,} files were moved; the others lie where they were.", stop.signal)
    infos = [describe_collection(client, name) for name in list_collections(client) if name != found.collection]
    others = [each.name for each in infos if each.root == found.root]
    return Moved(directory, len(moved), sum(each.file_size for each in moved), left, len(found.kept), others)


def _remove_items(client: MilvusClient, found: Duplicates, moved: list[Duplicate], id_map: IdMap) -> None:
    ids = [each.id for each in moved]
    try:
        id_map.remove(ids)  # First, so that it never names an item that Milvus does not hold.
        delete_items(client, found.collection, ids)
    except (DatabaseError, OSError) as error:
        raise DatabaseError(
            f"{len(moved):,} files were moved, but their items not removed ({error}); "
            f"`lookalike load {shlex.quote(str(found.root))} --collection {found.collection} --prune` removes them."
        ) from error


def _root_of_images(info: CollectionInfo) -> Path:
    if info.of_faces or info.sampling:
        raise InvalidArgument(
            f"{info.name!r} holds {info.what}; duplicates are found in a collection of images: `lookalike load DIR`."
        )
    if info.root is None:
        raise InvalidArgument(f"{info.name!r} holds nothing yet; load a tree into it first.")
    if not info.root.is_dir():
        raise InvalidArgument(
            f"{str(info.root)!r}, the tree of {info.name!r}, is not there; mount it, or load the tree from where it is "
            "now into another collection."
        )
    return info.root


def _check_out(out: Path, table: Path, root: Path) -> None:
    """Make the folder; refuse one in the tree, whose next load would take the sheets for images, and others' files."""
    if out.resolve().is_relative_to(root.resolve()):
        raise InvalidArgument(
            f"{str(out)!r} lies in the tree {str(root)!r}, whose next load would take the contact sheets for images; "
            "give --out a folder elsewhere."
        )
    if table.exists():
        with table.open(newline="", encoding="utf-8", errors="replace") as file:
            others = [] if next(csv.reader(file), []) == COLUMNS else [table]
    else:
        others = _sheets(out)
    if others:
        raise InvalidArgument(f"{str(others[0])!r} was not written by this command; give --out another folder.")
    out.mkdir(parents=True, exist_ok=True)


def _sheets(out: Path) -> list[Path]:
    return [path for path in sorted(out.glob("duplicates_*.png")) if re.fullmatch(r"duplicates_[0-9]+", path.stem)]


def _described(found: Found, group: Group) -> list[Duplicate]:
    rows = found.items.iloc[group.rows].to_dict("records")
    return [
        Duplicate(
            id=row["id"],
            path=row["path"],
            width=row["width"],
            height=row["height"],
            file_size=row["file_size"],
            file_mtime_ns=row["file_mtime_ns"],
            differences=told,
        )
        for row, told in zip(rows, group.differences, strict=True)
    ]


def _move(root: Path, best: Duplicate, each: Duplicate, directory: Path) -> str | None:
    """Move a file, and return None, or why it was not moved."""
    file = root / each.path
    if not is_as_loaded(root / best.path, best.file_size, best.file_mtime_ns):
        return f"its best, {best.path}, is gone or has changed since it was loaded; load the tree again"
    if not is_as_loaded(file, each.file_size, each.file_mtime_ns):
        return "it is gone or has changed since it was loaded; load the tree again"
    if file.is_symlink():
        return "it is a link"
    if (root / best.path).resolve() == file.resolve():
        return f"its best, {best.path}, is a link to it"
    try:
        set_aside(file, directory / each.path)
    except OSError as error:
        return error.strerror or str(error)
    return None


def _draw(root: Path, groups: list[list[Duplicate]], out: Path, settings: Settings, progress: bool) -> list[Path]:
    pages = [groups[start : start + GROUPS] for start in range(0, len(groups), GROUPS)]
    digits = len(str(len(pages)))
    sheets = []
    for number, page in enumerate(tqdm(pages, unit="sheet", disable=not (progress and pages))):
        files = [root / each.path for group in page for each in group[:SHOWN]]
        thumbnails = iter(read_thumbnails(files, [None] * len(files), settings, progress=False))
        shown = []
        for place, group in enumerate(page, start=number * GROUPS + 1):
            some = group[:SHOWN]
            heading = f"{place}: {len(group):,} files" + (f", the best {SHOWN}" if len(group) > SHOWN else "")
            shown.append(SheetGroup(heading, [next(thumbnails) for _ in some], [_caption(each) for each in some]))
        sheet = out / f"duplicates_{number + 1:0{digits}}.png"
        group_sheet(shown).save(sheet)
        sheets.append(sheet)
    return sheets


def _caption(each: Duplicate) -> list[str]:
    size = f"{each.width:,} × {each.height:,}, {each.file_size / 1024:,.0f} KiB"
    return [printable(each.path), size, ", ".join(each.differences) or "the best"]


def _table(groups: list[list[Duplicate]]) -> pd.DataFrame:
    rows = [
        (number, rank, each.path, each.width, each.height, each.file_size, " ".join(each.differences))
        for number, group in enumerate(groups, start=1)
        for rank, each in enumerate(group, start=1)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)
