"""Load: a directory tree goes into Milvus once."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from utilities.backbones import DEFAULT_BACKBONE
from utilities.embedder import Embedder, load_embedder
from utilities.id_map import IdMap
from utilities.image_files import find_images
from utilities.image_to_vec import Failure, embed_files
from utilities.milvus_utilities import connect, count_items, create_collection, flush, insert_items, stored_items
from utilities.settings import Settings


@dataclass(frozen=True)
class LoadSummary:
    """What became of every image: found = inserted + unchanged + failed."""

    collection: str
    found: int
    inserted: int
    unchanged: int
    failed: int
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
    backbone: str = DEFAULT_BACKBONE,
    weights: str = "imagenet",
    extension: str | None = None,
    metric: str = "COSINE",
    embedder: Embedder | None = None,
    settings: Settings | None = None,
    progress: bool = True,
) -> LoadSummary:
    """Embed every image of a tree that is not in the collection yet, and insert it.

    Args:
        directory: the tree; it becomes the collection's root.
        collection: its name; by default made from the directory's.
        backbone: a key of `utilities.backbones.BACKBONES`.
        weights: `"imagenet"`, `"random"`, or a weights file's path.
        extension: take only files with this one, in any case.
        metric: `"COSINE"`, `"L2"` or `"IP"`.
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
    found = find_images(directory, extension)
    client = connect(settings=settings)
    embedder = embedder or load_embedder(backbone, weights, settings)
    info = create_collection(
        client,
        name,
        dimension=embedder.fingerprint.dimension,
        metric=metric,
        fingerprint=embedder.fingerprint,
        weights=_portable(weights),
        root=directory,
    )
    id_map = IdMap(settings.id_map_path(name))
    in_milvus = {row["id"] for page in stored_items(client, name, fields=["id"]) for row in page}
    missing = without_unchanged(directory, found, id_map.read(), in_milvus)
    failures: list[Failure] = []
    inserted = 0
    with tqdm(
        total=len(found), initial=len(found) - len(missing), unit="image", desc=name, disable=not progress
    ) as bar:
        for chunk in embed_files(directory, missing, embedder, settings):
            # Milvus first, id map second: the CSV never names an item that Milvus does not hold.
            insert_items(client, info, chunk.items, chunk.embeddings)
            id_map.append(chunk.items)
            inserted += len(chunk.items)
            failures += chunk.failures
            bar.update(len(chunk.items) + len(chunk.failures))
    if inserted:
        flush(client, name)
        id_map.compact()
    return LoadSummary(
        collection=name,
        found=len(found),
        inserted=inserted,
        unchanged=len(found) - len(missing),
        failed=len(failures),
        items=count_items(client, name),
        id_map=id_map.path,
        failures=_write_failures(settings.failures_path(name), failures),
    )


def collection_name(directory: Path) -> str:
    """A collection's name from a directory's: whatever Milvus does not take becomes an underscore."""
    name = re.sub(r"\W", "_", directory.resolve().name, flags=re.ASCII)[:200] or "images"
    return f"_{name}"[:200] if name[0].isdigit() else name


def without_unchanged(directory: Path, paths: Sequence[str], known: pd.DataFrame, in_milvus: set[int]) -> list[str]:
    """The paths that must be embedded: new, changed in size or time since, or lost by Milvus."""
    states = {
        path: (size, mtime)
        for id_, path, size, mtime in zip(
            known["id"], known["path"], known["file_size"], known["file_mtime_ns"], strict=True
        )
        if id_ in in_milvus
    }
    return [path for path in paths if path not in states or states[path] != _state(directory / path)]


def _state(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _portable(weights: str) -> str:
    """A weights file is noted with its whole path, since a query may come from another directory."""
    return weights if weights in ("imagenet", "random") else str(Path(weights).resolve())


def _write_failures(path: Path, failures: Sequence[Failure]) -> Path | None:
    """Replace the list of failures; there is none after a load in which nothing failed."""
    if not failures:
        path.unlink(missing_ok=True)
        return None
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "reason"])
        writer.writerows(astuple(failure) for failure in failures)
    return path
