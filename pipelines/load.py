"""Load: a directory tree goes into Milvus once."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from utilities.attributes import read_attributes
from utilities.collection_info import CollectionInfo, check_metric, check_name
from utilities.directory_trees import check_directory, find_images, find_videos
from utilities.embedder import Embedder, check_runtime
from utilities.embedder_choice import Wanted, embedder_of_load, networks_wanted, refuse_other_networks
from utilities.ensembles import fingerprints_of
from utilities.errors import InvalidArgument
from utilities.failures import Failure, FailureList
from utilities.items import printable
from utilities.loading import Loading
from utilities.loading import LoadStopped as LoadStopped
from utilities.loading import LoadSummary as LoadSummary
from utilities.locks import only_writer
from utilities.milvus_utilities import (
    check_index,
    check_several_fields,
    connect,
    create_collection,
    describe_collection,
    find_collection,
    list_collections,
    move_root,
    stored_items,
)
from utilities.patience import patiently
from utilities.settings import Settings
from utilities.videos import Sampling, import_av
from utilities.without_faces import WithoutFaces

if TYPE_CHECKING:
    from pymilvus import MilvusClient

logger = logging.getLogger(__name__)

#: What can be loaded.
WHAT = ("images", "faces", "videos")


def run(
    directory: Path,
    *,
    what: str | None = None,
    every: float | None = None,
    scenes: bool = False,
    faces: bool = False,
    collection: str | None = None,
    backbone: str | Sequence[str] | None = None,
    weights: str | None = None,
    extension: str | None = None,
    attributes: Path | None = None,
    metric: str | None = None,
    runtime: str = "auto",
    precision: str = "auto",
    pca: int | None = None,
    whiten: bool = False,
    pooling: str | None = None,
    views: str | None = None,
    keep_length: bool = False,
    index: str | None = None,
    prune: bool = False,
    verify: bool = False,
    moved: bool = False,
    embedder: Embedder | None = None,
    settings: Settings | None = None,
    progress: bool = True,
) -> LoadSummary:
    """Embed every image or video of a tree, or every face in them, that is not in the collection yet, and insert it.

    However an earlier load ended, this one goes on from there: the id map is mended after Milvus, and what Milvus does
    not hold is embedded. A server that goes away meanwhile is waited for.

    Args:
        directory: the tree; it becomes the collection's root.
        what: `"images"`, `"faces"` for the faces in them, or `"videos"`; by default what the collection holds, else
            what the backbone sees.
        every: with videos, seconds from one frame that is taken to the next; by default the collection's own, else 1.
        scenes: with videos, take the first frame of each scene instead.
        faces: with videos, the items are the faces in those frames.
        collection: its name; by default made from the directory's.
        backbone: a key of `utilities.backbones.BACKBONES`, or several for an ensemble, each perhaps with weights of its
            own as `NAME=WEIGHTS`; by default the collection's own, else the one that the weights were fine-tuned from,
            else ResNet50, or dlib's network for faces.
        weights: `"imagenet"`, `"random"`, or a weights file's path; by default the collection's own, else what the
            backbone is trained to.
        extension: take only files with this one, in any case.
        attributes: a CSV with a column `path`, relative to the directory, and further ones: each becomes an attribute
            of the file's items, also of those that are not embedded again. What it does not name stays as it was.
        metric: `"COSINE"`, `"L2"` or `"IP"`; by default the collection's own, else `"COSINE"`.
        runtime: one of `utilities.embedder.RUNTIMES`.
        precision: one of `utilities.embedder.PRECISIONS`; int8 is calibrated on a sample of the tree by the
            collection's first load.
        pca: dimensions that the vectors are projected to, by PCA fitted on a sample of the tree by the collection's
            first load; by default the collection's own, else the network's.
        whiten: with `pca`, whether all of them are made to vary alike.
        pooling: one of `utilities.variants.POOLINGS`; by default the collection's own, else `"average"`.
        views: ways to see a picture, one or several of `utilities.views.VIEWS`, separated by commas; by default the
            collection's own, else `"squash"`.
        keep_length: whether vectors keep the length that the network gives them; later loads need not say it.
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
        NoImagesFound: no image, or no video, in the tree.
        MissingPackage: int8, faces or videos need one that is not installed.
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
    asked = Wanted(what, None, weights, runtime, precision, pca, whiten, faces, pooling, views, keep_length)
    wanted = networks_wanted(asked, [backbone] if isinstance(backbone, str) else backbone or [])
    asked.variant()  # which there may not be: better now than after a wait for the server
    if every is not None and scenes:
        raise InvalidArgument("--every and --scenes say different things of which frames to take; give one of them.")
    sampling = Sampling(every) if every is not None else Sampling(None) if scenes else None
    check_directory(directory)
    unlisted: list[OSError] = []
    with only_writer(settings, name):
        client = connect(settings=settings)
        if moved:
            there = describe_collection(client, name)
            there.refuse_new_items()
            _move(client, there, directory)
        existing = find_collection(client, name)
        holds = what or (existing.what if existing else None)
        if holds != "videos" and (every is not None or scenes or faces):
            raise InvalidArgument("--every, --scenes and --faces say something of videos; give --what videos, too.")
        if existing:
            existing.refuse_new_items()
            metric = (metric or existing.metric).upper()
            wanted = refuse_other_networks(existing, wanted)
            sampling = sampling or existing.sampling
            same = replace(existing, root=directory.resolve(), metric=metric, sampling=sampling)
            existing.refuse_unless_same(same)
        elif what == "videos":
            sampling = sampling or Sampling()
        if not existing and not collection:
            _note_others_of(client, directory)
        if len(wanted) > 1:
            check_several_fields(client)  # Better refused now than after the networks are loaded.
        if sampling:
            import_av()  # Better missed now than after the network is loaded.
        known = existing.columns if existing else ()
        said = read_attributes(attributes, known) if attributes else None
        find = find_videos if sampling else find_images
        paths = find(directory, extension, on_error=unlisted.append)
        if said:
            read = partial(_stored_paths, client, name)
            stored = patiently(read, settings.server_patience_seconds) if existing else []
            said = said.matched(directory, [*paths, *stored], known)
        if embedder is None:
            embedder = embedder_of_load(existing, wanted, directory, paths, settings, sampling, progress=progress)
        fingerprint, *others = fingerprints_of(embedder)
        create = partial(
            create_collection,
            client,
            name,
            dimension=embedder.dimension,
            metric=metric or "COSINE",
            fingerprint=fingerprint,
            others=tuple(others),
            root=directory,
            index=index,
            sampling=sampling,
            columns=said.columns if said else (),
        )
        info = patiently(create, settings.server_patience_seconds)
        if not existing:  # What was found out about images went with the collection that is gone.
            WithoutFaces(settings.without_faces_path(name)).delete()
        failures = FailureList(settings.failures_path(name))
        failures.append(_unlisted(directory, error) for error in unlisted)
        loading = Loading(directory, paths, client, info, embedder, settings, failures, progress, said)
        return loading.run(prune=prune, verify=verify)


def _note_others_of(client: MilvusClient, directory: Path) -> None:
    infos = [describe_collection(client, each) for each in list_collections(client)]
    others = [info.name for info in infos if info.root == directory.resolve() and not info.augmented]
    if others:
        logger.warning(
            "This tree is in %s already; a new collection is made. To load into that one, say --collection.",
            " and ".join(map(repr, others)),
        )


def _stored_paths(client: MilvusClient, name: str) -> list[str]:
    return [row["path"] for page in stored_items(client, name, fields=["path"]) for row in page]


def _move(client: MilvusClient, info: CollectionInfo, directory: Path) -> None:
    stored = _stored_paths(client, info.name)
    if stored and not any((directory / path).exists() for path in stored):
        raise InvalidArgument(
            f"None of the {len(stored):,} items of {info.name!r} lies in {str(directory)!r}, such as "
            f"{stored[0]!r}; the tree that has moved is another one."
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
