"""Load: a directory tree goes into Milvus once."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pandas as pd
from tqdm import tqdm

from utilities.changes import new_or_changed, other_contents, vanished_items
from utilities.collection_info import CollectionInfo, check_metric, check_name
from utilities.directory_trees import find_images
from utilities.embedder import Embedder, check_runtime
from utilities.embedder_choice import Wanted, embedder_as_before, new_embedder, refuse_another_embedder
from utilities.errors import DatabaseError, DatabaseNotReady, DatabaseUnreachable, InvalidArgument, Stopped
from utilities.failures import Failure, FailureList
from utilities.id_map import IdMap
from utilities.item_streams import Chunk, embed_files, merged
from utilities.items import printable
from utilities.locks import only_writer
from utilities.milvus_utilities import (
    check_index,
    connect,
    count_items,
    create_collection,
    delete_items,
    describe_collection,
    find_collection,
    flush,
    flush_and_index,
    insert_items,
    move_root,
    read_items,
)
from utilities.patience import patiently
from utilities.settings import Settings
from utilities.stopping import PutOff
from utilities.streams import in_order
from utilities.without_faces import WithoutFaces

if TYPE_CHECKING:
    from pymilvus import MilvusClient

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

#: Files whose items are inserted together: fewer messages, and little to do again after a crash.
INSERTED_TOGETHER = 64
#: Times that a load looks whether Milvus still holds what it has acknowledged, and embeds again what it does not.
PASSES = 3
#: What can be loaded.
WHAT = ("images", "faces")


@dataclass(frozen=True)
class LoadSummary:
    """What became of every image: found = inserted + unchanged + without_faces + failed + left."""

    collection: str
    #: `"images"` or `"faces"`: what was looked for in the images, and what the collection's items are.
    what: str
    found: int
    inserted: int
    unchanged: int
    #: Images that show no face, where faces were looked for; 0 otherwise. They are listed in `faceless`.
    without_faces: int
    failed: int
    #: Not looked at, because the load was stopped; 0 otherwise.
    left: int
    #: Items of files that are gone, which were removed if `prune` was said and otherwise still answer.
    vanished: int
    pruned: bool
    #: Items that the collection holds now, of this load and of earlier ones.
    items: int
    #: The CSV that maps ids to paths.
    id_map: Path
    #: The CSV that lists what failed and why; None if nothing did.
    failures: Path | None
    #: The CSV that lists the images without a face; None if there is none.
    faceless: Path | None


class LoadStopped(Stopped):
    """Ctrl-C or SIGTERM came; what was embedded is inserted, and another load goes on from there."""

    def __init__(self, summary: LoadSummary, signal_number: int) -> None:
        left = f"{summary.left:,} {'image' if summary.left == 1 else 'images'}"
        super().__init__(f"Stopped with {left} left; the same command goes on from there.", signal_number)
        self.summary = summary


def run(
    directory: Path,
    *,
    what: str | None = None,
    collection: str | None = None,
    backbone: str | None = None,
    weights: str | None = None,
    extension: str | None = None,
    metric: str | None = None,
    runtime: str = "auto",
    precision: str = "auto",
    pca: int | None = None,
    whiten: bool = False,
    index: str | None = None,
    prune: bool = False,
    verify: bool = False,
    moved: bool = False,
    embedder: Embedder | None = None,
    settings: Settings | None = None,
    progress: bool = True,
) -> LoadSummary:
    """Embed every image of a tree, or every face in them, that is not in the collection yet, and insert it.

    However an earlier load ended, this one goes on from there: the id map is mended after Milvus, and what Milvus does
    not hold is embedded. A server that goes away meanwhile is waited for.

    Args:
        directory: the tree; it becomes the collection's root.
        what: `"images"`, or `"faces"` for the faces in them; by default what the collection holds, else what the
            backbone sees.
        collection: its name; by default made from the directory's.
        backbone: a key of `utilities.backbones.BACKBONES`; by default the collection's own, else ResNet50, or
            dlib's network for faces.
        weights: `"imagenet"`, `"random"`, or a weights file's path; by default the collection's own, else what the
            backbone is trained to.
        extension: take only files with this one, in any case.
        metric: `"COSINE"`, `"L2"` or `"IP"`; by default the collection's own, else `"COSINE"`.
        runtime: one of `utilities.embedder.RUNTIMES`.
        precision: one of `utilities.embedder.PRECISIONS`; int8 is calibrated on a sample of the tree by the
            collection's first load.
        pca: dimensions that the vectors are projected to, by PCA fitted on a sample of the tree by the collection's
            first load; by default the collection's own, else the network's.
        whiten: with `pca`, whether all of them are made to vary alike.
        index: one of `utilities.milvus_index.INDEXES`; by default the collection's own, else `"auto"`,
            which is chosen by the number of items and the database.
        prune: remove the items whose files are gone.
        verify: read every file that seems unchanged, and embed it again if its bytes are not those that were embedded.
        moved: the collection's tree lies in `directory` now.
        embedder: instead of one made from `backbone` and `weights`.
        settings: limits and places; from the environment by default.
        progress: whether to draw a progress bar on standard error.

    Raises:
        InvalidArgument: a call that cannot work, such as a directory that does not exist.
        NoImagesFound: no image in the tree.
        MissingPackage: int8, or faces, need one that is not installed.
        EmbedderMismatch: the collection holds vectors of another embedder.
        CollectionBusy: another process is loading into it.
        IdMapError: the id map was changed by another hand.
        WeightsUnavailable, DatabaseError: as their names say; what was inserted before stays.
        LoadStopped: Ctrl-C or SIGTERM came while images were embedded; the chunk in hand was finished.
    """
    settings = settings or Settings.load()
    name = collection or collection_name(directory)
    check_name(name)
    check_index(index or "auto")
    check_metric(metric or "COSINE")
    check_runtime(runtime, precision)
    if what not in (None, *WHAT):
        raise InvalidArgument(f"--what {what!r} is not known; choose one of {', '.join(WHAT)}.")
    if whiten and not pca:
        raise InvalidArgument("--whiten says something of --pca; give that, too.")
    unlisted: list[OSError] = []
    paths = find_images(directory, extension, on_error=unlisted.append)
    with only_writer(settings, name):
        client = connect(settings=settings)
        if moved:
            _move(client, describe_collection(client, name), directory)
        existing = find_collection(client, name)
        wanted = Wanted(what, backbone, weights, runtime, precision, pca, whiten)
        if existing:
            metric = (metric or existing.metric).upper()
            existing.refuse_unless_same(replace(existing, root=directory.resolve(), metric=metric))
            refuse_another_embedder(existing, wanted)
        if embedder is None and existing:
            embedder = embedder_as_before(existing.fingerprint, wanted, settings)
        elif embedder is None:
            embedder = new_embedder(directory, paths, wanted, settings, progress=progress)
        create = partial(
            create_collection,
            client,
            name,
            dimension=embedder.fingerprint.dimension,
            metric=metric or "COSINE",
            fingerprint=embedder.fingerprint,
            root=directory,
            index=index,
        )
        info = patiently(create, settings.server_patience_seconds)
        if not existing:  # What was found out about images went with the collection that is gone.
            WithoutFaces(settings.without_faces_path(name)).delete()
        failures = FailureList(settings.failures_path(name))
        failures.append(_unlisted(directory, error) for error in unlisted)
        load = _Load(directory, paths, client, info, embedder, settings, failures, progress)
        return load.run(prune=prune, verify=verify)


class _Load:
    """One load into one collection that nobody else changes meanwhile."""

    def __init__(
        self,
        directory: Path,
        paths: Sequence[str],
        client: MilvusClient,
        info: CollectionInfo,
        embedder: Embedder,
        settings: Settings,
        failures: FailureList,
        progress: bool,
    ) -> None:
        self.directory, self.paths, self.client, self.info = directory, paths, client, info
        self.embedder, self.settings, self.failures, self.progress = embedder, settings, failures, progress
        self.id_map = IdMap(settings.id_map_path(info.name))
        self.unlisted = failures.count
        self.without_faces = WithoutFaces(settings.without_faces_path(info.name))
        self.stop = PutOff()
        #: Set when Milvus is no longer waited for.
        self.hurry = self.stop.requested
        #: Paths that this load is to embed, and how many of them are inserted or failed.
        self.wanted: set[str] = set()
        self.done = 0
        #: Ids that Milvus holds for each path, and those of faces that their images, which have changed, show no more.
        self.known: dict[str, set[int]] = {}
        self.stale: list[int] = []

    def run(self, *, prune: bool, verify: bool) -> LoadSummary:
        stored = self._stored_items()
        vanished = vanished_items(self.directory, self.paths, stored)
        if prune:
            self._remove(vanished)
        faceless = self.without_faces.read()
        gone = faceless["id"].isin(vanished_items(self.directory, self.paths, faceless))
        self.without_faces.remove(set(faceless["path"][gone]))
        looked_at = pd.concat([stored, faceless.assign(faces=1)]) if len(faceless) else stored
        missing = new_or_changed(self.directory, self.paths, looked_at)
        if verify:
            unchanged = sorted(set(self.paths).difference(missing))
            missing = sorted([*missing, *other_contents(self.directory, unchanged, looked_at, progress=self.progress)])
        self.wanted = set(missing)
        self.without_faces.remove(self.wanted)
        for path, id_ in zip(stored["path"], stored["id"], strict=True):
            if path in self.wanted:
                self.known.setdefault(path, set()).add(id_)
        there = len(self.paths) - len(missing)
        if missing:
            logger.info(
                "Embedding %s with %s on %s%s.",
                f"{len(missing):,} image{'' if len(missing) == 1 else 's'}",
                self.info.fingerprint.backbone,
                self.embedder.runtime,
                f"; {there:,} {'is' if there == 1 else 'are'} there already" if there else "",
            )
        with self.stop:
            try:
                items = self._embed_and_settle(missing)
            except (DatabaseUnreachable, DatabaseNotReady) as error:
                if not self.stop.signal:
                    raise
                logger.warning("%s", error)
                items = len(self.id_map.read())
        left = len(self.wanted) - self.done
        now_faceless = set(self.without_faces.read()["path"]).intersection(self.paths)
        newly = len(self.wanted.intersection(now_faceless))
        summary = LoadSummary(
            collection=self.info.name,
            what=self.info.what,
            found=len(self.paths) + self.unlisted,
            inserted=self.done - (self.failures.count - self.unlisted) - newly,
            unchanged=len(self.paths) - len(self.wanted) - (len(now_faceless) - newly),
            without_faces=len(now_faceless),
            failed=self.failures.count,
            left=left,
            vanished=len(vanished),
            pruned=prune,
            items=items,
            id_map=self.id_map.path,
            failures=self.failures.path if self.failures.count else None,
            faceless=self.without_faces.path if len(now_faceless) else None,
        )
        if self.stop.signal:
            raise LoadStopped(summary, self.stop.signal)
        return summary

    def _stored_items(self) -> pd.DataFrame:
        """What Milvus holds, which is right where the id map says otherwise; that is mended."""
        attributes = ["faces"] if self.info.of_faces else []
        stored = self._patiently(lambda: read_items(self.client, self.info.name, attributes))
        differences = self.id_map.compare(stored)
        if differences:
            logger.info("The id map and Milvus disagreed (%s); the id map is written anew.", differences)
        if not differences.in_form:
            self.id_map.write(stored)
        return stored

    def _remove(self, ids: Sequence[int]) -> None:
        # The id map first: it never names an item that Milvus does not hold.
        self.id_map.remove(ids)
        delete_items(self.client, self.info.name, ids, self._patiently)

    def _embed_and_settle(self, missing: Sequence[str]) -> int:
        """Embed files, and again those whose items Milvus has lost; returns how many items it holds."""
        self._embed(missing)
        if self.stale:
            self._remove(self.stale)
        for _ in range(PASSES):
            self.id_map.compact()
            acknowledged = self.id_map.read()
            items = self._patiently(lambda: count_items(self.client, self.info.name))
            if self.stop.signal or items >= len(acknowledged):
                break
            held = self._stored_items()["id"]
            lost = set(acknowledged["path"][~acknowledged["id"].isin(held)]).intersection(self.paths)
            logger.warning("Milvus has lost %s items that it had acknowledged; embedding them again.", len(lost))
            self.done -= len(lost & self.wanted)
            self.wanted |= lost
            self._embed(sorted(lost))
        else:
            raise DatabaseError(
                f"Milvus has acknowledged items of {self.info.name!r} and lost them, {PASSES} times over; look into "
                "its log, and load again."
            )
        if self.stop.signal:  # An index of millions takes minutes.
            self._patiently(lambda: flush(self.client, self.info))
        else:
            self._patiently(lambda: flush_and_index(self.client, self.info, items))
        return items

    def _embed(self, missing: Sequence[str]) -> None:
        """Embed and insert files until all are done or the load is stopped."""

        def insert(chunk: Chunk) -> int:
            # Milvus first, id map second: the CSV never names an item that Milvus does not hold.
            insert_items(self.client, self.info, chunk.items, chunk.embeddings, self._patiently)
            self.id_map.append(chunk.items)
            self.without_faces.append(chunk.without_faces)
            self.failures.append(chunk.failures)
            now = {item.id for item in chunk.items}
            for path in {item.path for item in (*chunk.items, *chunk.without_faces)}:
                self.stale += self.known.pop(path, set()) - now
            self.done += chunk.files
            return chunk.files

        with (
            tqdm(total=len(missing), unit="image", desc=self.info.name, disable=not (self.progress and missing)) as bar,
            ThreadPoolExecutor(1, thread_name_prefix="insert") as inserter,
            closing(embed_files(self.directory, missing, self.embedder, self.settings)) as chunks,
            closing(in_order(inserter, insert, merged(chunks, INSERTED_TOGETHER), ahead=2)) as inserted,
        ):
            for files in inserted:
                bar.update(files)
                if self.stop.signal:
                    break

    def _patiently(self, call: Callable[[], Result]) -> Result:
        try:
            return patiently(call, self.settings.server_patience_seconds, self.hurry)
        except (DatabaseUnreachable, DatabaseNotReady):
            self.hurry.set()  # What was begun meanwhile need not wait as long again.
            raise


def _move(client: MilvusClient, info: CollectionInfo, directory: Path) -> None:
    stored = read_items(client, info.name)["path"]
    if len(stored) and not any((directory / path).exists() for path in stored):
        raise InvalidArgument(
            f"None of the {len(stored):,} items of {info.name!r} lies in {str(directory)!r}, such as "
            f"{stored.iloc[0]!r}; the tree that has moved is another one."
        )
    move_root(client, info, directory)


def collection_name(directory: Path) -> str:
    """A collection's name from a directory's: whatever Milvus does not take becomes an underscore."""
    name = re.sub(r"\W", "_", directory.resolve().name, flags=re.ASCII)[:200] or "images"
    return f"_{name}"[:200] if name[0].isdigit() else name


def _unlisted(directory: Path, error: OSError) -> Failure:
    """A folder or file below the tree that could not be looked at; it counts as found, and as failed."""
    path = printable(os.path.relpath(error.filename, directory))
    return Failure(path, f"{printable(str(error.filename))} cannot be looked at: {error.strerror}.")
