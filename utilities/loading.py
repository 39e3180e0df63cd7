"""One load of a tree into its collection: what is missing is embedded and inserted, whatever an earlier load left."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pandas as pd
from tqdm import tqdm

from utilities.attribute_join import AttributeJoin, JoinSummary
from utilities.attributes import Attributes
from utilities.changes import new_or_changed, other_contents, vanished_items
from utilities.collection_info import CollectionInfo
from utilities.contents import Chunk
from utilities.embedder import Embedder
from utilities.errors import DatabaseError, DatabaseNotReady, DatabaseUnreachable, Stopped
from utilities.failures import FailureList
from utilities.id_map import IdMap
from utilities.item_streams import embed_files, merged
from utilities.items import printable
from utilities.milvus_utilities import count_items, delete_items, flush, flush_and_index, insert_items, read_items
from utilities.patience import patiently
from utilities.settings import Settings
from utilities.stopping import PutOff
from utilities.streams import in_order
from utilities.without_faces import WithoutFaces

if TYPE_CHECKING:
    from pymilvus import MilvusClient

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

#: Files, or items of a video, that are inserted together: fewer messages, and little to do again after a crash.
INSERTED_TOGETHER = 64
#: Times that a load looks whether Milvus still holds what it has acknowledged, and embeds again what it does not.
PASSES = 3


@dataclass(frozen=True)
class LoadSummary:
    """What became of every file: found = inserted + unchanged + without_faces + failed + left."""

    collection: str
    #: `"images"`, `"faces"` or `"videos"`; and what an item is: `"image"`, `"face"` or `"frame"`.
    what: str
    item_is: str
    found: int
    inserted: int
    unchanged: int
    #: Files that show no face, where faces were looked for; 0 otherwise. They are listed in `faceless`.
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
    #: The CSV that lists the files without a face; None if there is none.
    faceless: Path | None
    #: Videos among the inserted of which only a part could be decoded; it is said of each when it happens.
    damaged: int
    #: What became of the CSV of attributes; None if there was none.
    attributes: JoinSummary | None


class LoadStopped(Stopped):
    """Ctrl-C or SIGTERM came; what was embedded is inserted, and another load goes on from there."""

    def __init__(self, summary: LoadSummary, signal_number: int) -> None:
        kind = "video" if summary.what == "videos" else "image"
        left = f"{summary.left:,} {kind}{'' if summary.left == 1 else 's'} left"
        if summary.attributes and (lacking := summary.attributes.left):
            left += f", and {lacking:,} {summary.item_is}{'' if lacking == 1 else 's'} without their new attributes"
        super().__init__(f"Stopped with {left}; the same command goes on from there.", signal_number)
        self.summary = summary


class Loading:
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
        attributes: Attributes | None = None,
    ) -> None:
        self.directory, self.paths, self.client, self.info = directory, paths, client, info
        self.embedder, self.settings, self.failures, self.progress = embedder, settings, failures, progress
        self.file_is = "video" if info.sampling else "image"
        self.id_map = IdMap(settings.id_map_path(info.name))
        self.unlisted = failures.count
        self.without_faces = WithoutFaces(settings.without_faces_path(info.name))
        self.stop = PutOff()
        #: Set when Milvus is no longer waited for.
        self.hurry = self.stop.requested
        #: Paths that this load is to embed, and how many of them are inserted or failed.
        self.wanted: set[str] = set()
        self.done = 0
        #: Paths of videos that are damaged and were inserted.
        self.damaged: set[str] = set()
        #: Ids that Milvus holds for each path, and those of what their files, which have changed, show no more.
        self.known: dict[str, set[int]] = {}
        self.stale: list[int] = []
        #: Stored items that are to have other attributes and were not written yet.
        self.outdated = 0
        self.attributes = AttributeJoin(client, info, attributes, self._patiently)

    def run(self, *, prune: bool, verify: bool) -> LoadSummary:
        stored = self._stored_items()
        vanished = vanished_items(self.directory, self.paths, stored)
        faceless = self.without_faces.read()
        gone = faceless["id"].isin(vanished_items(self.directory, self.paths, faceless))
        self.without_faces.remove(set(faceless["path"][gone]))
        looked_at = pd.concat([stored, faceless.assign(items_of_file=1)]) if len(faceless) else stored
        missing = new_or_changed(self.directory, self.paths, looked_at)
        if verify:
            unchanged = sorted(set(self.paths).difference(missing))
            missing = sorted([*missing, *other_contents(self.directory, unchanged, looked_at, progress=self.progress)])
        self.wanted = set(missing)
        self.without_faces.remove(self.wanted)
        for path, id_ in zip(stored["path"], stored["id"], strict=True):
            if path in self.wanted:
                self.known.setdefault(path, set()).add(id_)
        self.attributes.read([id_ for ids in self.known.values() for id_ in ids])
        if prune:
            self._remove(vanished)
            stored = stored[~stored["id"].isin(vanished)]
        there = len(self.paths) - len(missing)
        if missing:
            logger.info(
                "Embedding %s with %s%s%s.",
                f"{len(missing):,} {self.file_is}{'' if len(missing) == 1 else 's'}",
                "" if self.info.others else f"{self.info.fingerprint.backbone} on ",
                self.embedder.runtime,
                f"; {there:,} {'is' if there == 1 else 'are'} there already" if there else "",
            )
        with self.stop:
            try:
                self._write_attributes(self.attributes.outdated(stored, self.wanted))
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
            item_is=self.info.item_is,
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
            damaged=len(self.damaged),
            attributes=self.attributes.summary(self.paths, stored, self.outdated),
        )
        if self.stop.signal:
            raise LoadStopped(summary, self.stop.signal)
        return summary

    def _stored_items(self) -> pd.DataFrame:
        """What Milvus holds, which is right where the id map says otherwise; that is mended."""
        count = self.info.items_of_file
        stored = self._patiently(lambda: read_items(self.client, self.info.name, [count] if count else []))
        if count:
            stored = stored.rename(columns={count: "items_of_file"})
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

    def _write_attributes(self, ids: Sequence[int]) -> None:
        self.outdated = len(ids)
        with tqdm(
            total=len(ids), unit=self.info.item_is, desc="attributes", disable=not (self.progress and ids)
        ) as bar:
            for written in self.attributes.write(ids):
                bar.update(written)
                self.outdated -= written
                if self.stop.signal:
                    break

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

        def insert(chunk: Chunk) -> tuple[int, int]:
            # Milvus first, id map second: the CSV never names an item that Milvus does not hold.
            items = self.attributes.joined(chunk.items)
            insert_items(self.client, self.info, items, chunk.embeddings, self._patiently)
            self.id_map.append(items)
            self.attributes.note(items)
            self.without_faces.append(chunk.without_faces)
            self.failures.append(chunk.failures)
            for item in chunk.items:
                self.known.get(item.path, set()).discard(item.id)
            for path in {*chunk.finished}.difference(failure.path for failure in chunk.failures):
                self.stale += self.known.pop(path, set())
            for damage in chunk.damaged:
                logger.warning("%s %s; what could be decoded is inserted.", printable(damage.path), damage.reason)
            self.damaged.update(damage.path for damage in chunk.damaged)
            self.done += len(chunk.finished)
            return len(chunk.finished), len(chunk.items)

        with (
            tqdm(
                total=len(missing), unit=self.file_is, desc=self.info.name, disable=not (self.progress and missing)
            ) as bar,
            ThreadPoolExecutor(1, thread_name_prefix="insert") as inserter,
            closing(embed_files(self.directory, missing, self.embedder, self.settings, self.info.sampling)) as chunks,
            closing(in_order(inserter, insert, merged(chunks, INSERTED_TOGETHER), ahead=2)) as inserted,
        ):
            embedded = 0
            for files, items in inserted:
                embedded += items
                if self.info.sampling:  # One video may take hours.
                    bar.set_postfix_str(f"{embedded:,} {self.info.item_is}s")
                bar.update(files)
                if self.stop.signal:
                    break

    def _patiently(self, call: Callable[[], Result]) -> Result:
        try:
            return patiently(call, self.settings.server_patience_seconds, self.hurry)
        except (DatabaseUnreachable, DatabaseNotReady):
            self.hurry.set()  # What was begun meanwhile need not wait as long again.
            raise
