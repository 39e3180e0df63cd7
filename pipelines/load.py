"""Load: a directory tree goes into Milvus once."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from tqdm import tqdm

from utilities.backbones import DEFAULT_BACKBONE
from utilities.collection_info import check_name, unstated_fingerprint
from utilities.embedder import Embedder, embedder_of, load_embedder
from utilities.errors import CollectionNotFound
from utilities.failures import Failure, FailureList
from utilities.id_map import IdMap
from utilities.image_files import find_images
from utilities.image_to_vec import embed_files
from utilities.items import printable
from utilities.milvus_utilities import (
    connect,
    count_items,
    create_collection,
    delete_items,
    describe_collection,
    flush,
    insert_items,
    move_root,
    read_items,
)
from utilities.settings import Settings

if TYPE_CHECKING:
    from pymilvus import MilvusClient


@dataclass(frozen=True)
class LoadSummary:
    """What became of every image: found = inserted + unchanged + failed."""

    collection: str
    found: int
    inserted: int
    unchanged: int
    failed: int
    #: Items of files that are gone, which were removed if `prune` was said and otherwise still answer.
    vanished: int
    pruned: bool
    #: Items that the collection holds now, of this load and of earlier ones.
    items: int
    #: The CSV that maps ids to paths.
    id_map: Path
    #: The CSV that lists what failed and why; None if nothing did.
    failures: Path | None


def run(
    directory: Path,
    *,
    collection: str | None = None,
    backbone: str | None = None,
    weights: str | None = None,
    extension: str | None = None,
    metric: str | None = None,
    prune: bool = False,
    moved: bool = False,
    embedder: Embedder | None = None,
    settings: Settings | None = None,
    progress: bool = True,
) -> LoadSummary:
    """Embed every image of a tree that is not in the collection yet, and insert it.

    Args:
        directory: the tree; it becomes the collection's root.
        collection: its name; by default made from the directory's.
        backbone: a key of `utilities.backbones.BACKBONES`; by default the collection's own, else ResNet50.
        weights: `"imagenet"`, `"random"`, or a weights file's path; by default the collection's own, else `"imagenet"`.
        extension: take only files with this one, in any case.
        metric: `"COSINE"`, `"L2"` or `"IP"`; by default the collection's own, else `"COSINE"`.
        prune: remove the items whose files are gone.
        moved: the collection's tree lies in `directory` now.
        embedder: instead of one made from `backbone` and `weights`.
        settings: limits and places; from the environment by default.
        progress: whether to draw a progress bar on standard error.

    Raises:
        InvalidArgument: a call that cannot work, such as a directory that does not exist.
        NoImagesFound: no image in the tree.
        EmbedderMismatch: the collection holds vectors of another embedder.
        WeightsUnavailable, DatabaseError: as their names say; what was inserted before stays.
    """
    settings = settings or Settings.load()
    name = collection or collection_name(directory)
    check_name(name)
    unlisted: list[OSError] = []
    paths = find_images(directory, extension, on_error=unlisted.append)
    client = connect(settings=settings)
    if moved:
        move_root(client, describe_collection(client, name), directory)
    embedder, metric = _as_before(client, name, directory, backbone, weights, metric, embedder, settings)
    fingerprint = embedder.fingerprint
    info = create_collection(
        client, name, dimension=fingerprint.dimension, metric=metric, fingerprint=fingerprint, root=directory
    )

    stored = read_items(client, name)
    id_map = IdMap(settings.id_map_path(name))
    # Milvus is right where they differ: after a crash, or when the id map was lost.
    if not id_map.holds(stored):
        id_map.write(stored)
    vanished = vanished_items(directory, paths, stored)
    if prune:
        id_map.remove(vanished)
        delete_items(client, name, vanished)

    failures = FailureList(settings.failures_path(name))
    failures.append(_unlisted(directory, error) for error in unlisted)
    missing = new_or_changed(directory, paths, stored)
    inserted = 0
    with tqdm(total=len(missing), unit="image", desc=name, disable=not (progress and missing)) as bar:
        for chunk in embed_files(directory, missing, embedder, settings):
            # Milvus first, id map second: the CSV never names an item that Milvus does not hold.
            insert_items(client, info, chunk.items, chunk.embeddings)
            id_map.append(chunk.items)
            failures.append(chunk.failures)
            inserted += len(chunk.items)
            bar.update(len(chunk.items) + len(chunk.failures))
    flush(client, name)
    if inserted:
        id_map.compact()
    return LoadSummary(
        collection=name,
        found=len(paths) + len(unlisted),
        inserted=inserted,
        unchanged=len(paths) - len(missing),
        failed=failures.count,
        vanished=len(vanished),
        pruned=prune,
        items=count_items(client, name),
        id_map=id_map.path,
        failures=failures.path if failures.count else None,
    )


def collection_name(directory: Path) -> str:
    """A collection's name from a directory's: whatever Milvus does not take becomes an underscore."""
    name = re.sub(r"\W", "_", directory.resolve().name, flags=re.ASCII)[:200] or "images"
    return f"_{name}"[:200] if name[0].isdigit() else name


def new_or_changed(directory: Path, paths: Sequence[str], stored: pd.DataFrame) -> list[str]:
    """The paths that must be embedded: those Milvus does not hold with the file's present size and time."""
    states = dict(zip(stored["path"], zip(stored["file_size"], stored["file_mtime_ns"], strict=True), strict=True))
    return [path for path in paths if path not in states or states[path] != _state(directory / path)]


def vanished_items(directory: Path, paths: Sequence[str], stored: pd.DataFrame) -> list[int]:
    """Ids of the stored items whose files are gone; one that was merely not asked for, by its extension, is not."""
    found = set(paths)
    return [
        id_
        for id_, path in zip(stored["id"], stored["path"], strict=True)
        if path not in found and _is_gone(directory / path)
    ]


def _is_gone(file: Path) -> bool:
    """Whether there is no such file; one in a folder that may not be entered may well be there."""
    try:
        file.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _as_before(
    client: MilvusClient,
    name: str,
    directory: Path,
    backbone: str | None,
    weights: str | None,
    metric: str | None,
    embedder: Embedder | None,
    settings: Settings,
) -> tuple[Embedder, str]:
    """Embedder and metric: what was asked for, else what the collection has; refused before a network is built."""
    try:
        existing = describe_collection(client, name)
    except CollectionNotFound:
        embedder = embedder or load_embedder(backbone or DEFAULT_BACKBONE, weights or "imagenet", settings)
        return embedder, metric or "COSINE"
    metric = (metric or existing.metric).upper()
    wanted = replace(existing, root=directory.resolve(), metric=metric)
    if backbone:
        wanted = replace(wanted, fingerprint=unstated_fingerprint(backbone))
    existing.refuse_unless_same(wanted)
    if embedder is None:
        known = existing.fingerprint
        embedder = (
            load_embedder(backbone or known.backbone, weights, settings) if weights else embedder_of(known, settings)
        )
    return embedder, metric


def _state(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _unlisted(directory: Path, error: OSError) -> Failure:
    """A folder or file below the tree that could not be looked at; it counts as found, and as failed."""
    path = printable(os.path.relpath(error.filename, directory))
    return Failure(path, f"{printable(str(error.filename))} cannot be looked at: {error.strerror}.")
