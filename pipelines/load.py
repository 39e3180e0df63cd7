"""Load: a directory tree goes into Milvus once."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from utilities.backbones import DEFAULT_BACKBONE
from utilities.collection_info import CollectionInfo, check_metric, check_name, unstated_fingerprint
from utilities.embedder import Embedder, check_runtime, embedder_of, load_embedder
from utilities.errors import EmbedderMismatch, InvalidArgument
from utilities.failures import Failure, FailureList
from utilities.fingerprint import Fingerprint
from utilities.id_map import IdMap
from utilities.image_files import find_images
from utilities.image_to_vec import Chunk, embed_files, sample_pixels
from utilities.items import printable
from utilities.milvus_utilities import (
    check_index,
    connect,
    count_items,
    create_collection,
    delete_items,
    describe_collection,
    find_collection,
    flush_and_index,
    insert_items,
    move_root,
    read_items,
)
from utilities.quantization import SAMPLE, import_nncf, quantize
from utilities.settings import Settings
from utilities.streams import in_order

logger = logging.getLogger(__name__)

#: Files whose items are inserted together: fewer messages, and little to do again after a crash.
INSERTED_TOGETHER = 64


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
    runtime: str = "auto",
    precision: str = "auto",
    index: str | None = None,
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
        runtime: one of `utilities.embedder.RUNTIMES`.
        precision: one of `utilities.embedder.PRECISIONS`; int8 is calibrated on a sample of the tree by the
            collection's first load.
        index: one of `utilities.milvus_index.INDEXES`; by default the collection's own, else `"auto"`,
            which is chosen by the number of items and the database.
        prune: remove the items whose files are gone.
        moved: the collection's tree lies in `directory` now.
        embedder: instead of one made from `backbone` and `weights`.
        settings: limits and places; from the environment by default.
        progress: whether to draw a progress bar on standard error.

    Raises:
        InvalidArgument: a call that cannot work, such as a directory that does not exist.
        NoImagesFound: no image in the tree.
        MissingPackage: int8 needs one that is not installed.
        EmbedderMismatch: the collection holds vectors of another embedder.
        WeightsUnavailable, DatabaseError: as their names say; what was inserted before stays.
    """
    settings = settings or Settings.load()
    name = collection or collection_name(directory)
    check_name(name)
    check_index(index or "auto")
    check_metric(metric or "COSINE")
    check_runtime(runtime, precision)
    unlisted: list[OSError] = []
    paths = find_images(directory, extension, on_error=unlisted.append)
    client = connect(settings=settings)
    if moved:
        move_root(client, describe_collection(client, name), directory)
    existing = find_collection(client, name)
    if existing:
        metric = (metric or existing.metric).upper()
        _refuse_another(existing, directory, backbone, metric, precision)
    if embedder is None:
        wanted = _Wanted(backbone, weights, runtime, precision)
        if existing:
            embedder = _embedder_as_before(existing.fingerprint, wanted, settings)
        else:
            embedder = _new_embedder(directory, paths, wanted, settings)
    fingerprint = embedder.fingerprint
    info = create_collection(
        client,
        name,
        dimension=fingerprint.dimension,
        metric=metric or "COSINE",
        fingerprint=fingerprint,
        root=directory,
        index=index,
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
    if missing:
        logger.info("Embedding %s images with %s on %s.", f"{len(missing):,}", fingerprint.backbone, embedder.runtime)

    def insert(chunk: Chunk) -> Chunk:
        # Milvus first, id map second: the CSV never names an item that Milvus does not hold.
        insert_items(client, info, chunk.items, chunk.embeddings)
        id_map.append(chunk.items)
        failures.append(chunk.failures)
        return chunk

    with (
        tqdm(total=len(missing), unit="image", desc=name, disable=not (progress and missing)) as bar,
        ThreadPoolExecutor(1, thread_name_prefix="insert") as inserter,
        closing(embed_files(directory, missing, embedder, settings)) as chunks,
        closing(in_order(inserter, insert, merged(chunks, INSERTED_TOGETHER), ahead=2)) as inserted_chunks,
    ):
        for chunk in inserted_chunks:
            inserted += len(chunk.items)
            bar.update(len(chunk.items) + len(chunk.failures))
    if inserted:
        id_map.compact()
    items = count_items(client, name)
    flush_and_index(client, info, items)
    return LoadSummary(
        collection=name,
        found=len(paths) + len(unlisted),
        inserted=inserted,
        unchanged=len(paths) - len(missing),
        failed=failures.count,
        vanished=len(vanished),
        pruned=prune,
        items=items,
        id_map=id_map.path,
        failures=failures.path if failures.count else None,
    )


def merged(chunks: Iterable[Chunk], rows: int) -> Iterator[Chunk]:
    """Chunks of at least `rows` files each, but the last, made of smaller ones."""
    waiting: list[Chunk] = []
    for chunk in chunks:
        waiting.append(chunk)
        if sum(len(each.items) + len(each.failures) for each in waiting) >= rows:
            yield _join(waiting)
            waiting = []
    if waiting:
        yield _join(waiting)


def _join(chunks: Sequence[Chunk]) -> Chunk:
    return Chunk(
        [item for chunk in chunks for item in chunk.items],
        np.concatenate([chunk.embeddings for chunk in chunks]),
        [failure for chunk in chunks for failure in chunk.failures],
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


@dataclass(frozen=True)
class _Wanted:
    """What was asked for; None and `"auto"` were not."""

    backbone: str | None
    weights: str | None
    runtime: str
    precision: str


def _refuse_another(
    existing: CollectionInfo, directory: Path, backbone: str | None, metric: str, precision: str
) -> None:
    """Refuse what the collection is not, before a network is built."""
    wanted = replace(existing, root=directory.resolve(), metric=metric)
    if backbone:  # which says nothing of weights and of what was done to them
        known = existing.fingerprint
        unstated = unstated_fingerprint(backbone)
        wanted = replace(
            wanted,
            fingerprint=replace(unstated, pca_digest=known.pca_digest, quantization_digest=known.quantization_digest),
        )
    existing.refuse_unless_same(wanted)
    if precision == "int8" and not existing.fingerprint.quantization_digest:
        raise EmbedderMismatch(
            f"The collection {existing.name!r} holds vectors of {existing.fingerprint}, not of a network in int8; load "
            "into another --collection, or leave out --precision."
        )


def _embedder_as_before(known: Fingerprint, wanted: _Wanted, settings: Settings) -> Embedder:
    """The collection's own embedder, or the one of the weights that are asked for, which may be another."""
    own = partial(embedder_of, known, settings, runtime=wanted.runtime, precision=wanted.precision)
    if wanted.weights is None:
        return own()
    load = partial(load_embedder, wanted.backbone or known.backbone, wanted.weights, settings)
    if not known.quantization_digest:
        return load(runtime=wanted.runtime, precision=wanted.precision)
    exact = load(runtime="openvino", precision="f32")
    return own() if exact.fingerprint == replace(known, quantization_digest="") else exact


def _new_embedder(directory: Path, paths: Sequence[str], wanted: _Wanted, settings: Settings) -> Embedder:
    backbone, weights = wanted.backbone or DEFAULT_BACKBONE, wanted.weights or "imagenet"
    if wanted.precision != "int8":
        return load_embedder(backbone, weights, settings, runtime=wanted.runtime, precision=wanted.precision)
    if wanted.runtime == "keras":
        raise InvalidArgument("The runtime keras does not compute in int8; leave out --runtime.")
    import_nncf()  # which may be missing: better now than after a minute
    exact = load_embedder(backbone, weights, settings, runtime="openvino", precision="f32")
    pixels = sample_pixels(directory, paths, 2 * SAMPLE, exact, settings)
    embedder, quality = quantize(exact, pixels, settings)
    logger.info("Quantised %s: %s.", backbone, quality)
    return embedder


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
