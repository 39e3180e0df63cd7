"""Everything that is said to Milvus: create a collection, insert in chunks, search, count, delete."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from utilities.attributes import Columns
from utilities.chunks import chunks_by_bytes
from utilities.collection_info import CollectionInfo
from utilities.errors import InvalidArgument
from utilities.fingerprint import Fingerprint
from utilities.id_map import IdMap
from utilities.image_files import describe_file
from utilities.items import Item
from utilities.locks import only_writer
from utilities.milvus_client import DataType, MilvusClient
from utilities.milvus_collections import describe_collection as describe_collection
from utilities.milvus_collections import find_collection as find_collection
from utilities.milvus_collections import list_collections as list_collections
from utilities.milvus_collections import note
from utilities.milvus_connection import MESSAGE_BYTES, PAGE_ROWS, RETRIES, milvus_errors, remove_debris
from utilities.milvus_connection import connect as connect
from utilities.milvus_connection import ping as ping
from utilities.milvus_index import check_index as check_index
from utilities.milvus_index import current_index as current_index
from utilities.milvus_index import flush as flush
from utilities.milvus_index import flush_and_index as flush_and_index
from utilities.milvus_index import index_params, is_embedded, restore_index
from utilities.milvus_reading import columns_of as columns_of
from utilities.milvus_reading import count_items as count_items
from utilities.milvus_reading import find_item as find_item
from utilities.milvus_reading import read_embeddings as read_embeddings
from utilities.milvus_reading import read_items as read_items
from utilities.milvus_reading import stored_columns as stored_columns
from utilities.milvus_reading import stored_embeddings as stored_embeddings
from utilities.milvus_reading import stored_items as stored_items
from utilities.milvus_search import FUSED as FUSED
from utilities.milvus_search import MAX_TOP_K as MAX_TOP_K
from utilities.milvus_search import by_field as by_field
from utilities.milvus_search import check_depth as check_depth
from utilities.milvus_search import first_of_each as first_of_each
from utilities.milvus_search import first_of_each_file as first_of_each_file
from utilities.milvus_search import nearest_neighbours as nearest_neighbours
from utilities.milvus_search import nearest_that as nearest_that
from utilities.milvus_search import path_is as path_is
from utilities.milvus_search import take_vectors as take_vectors
from utilities.patience import patiently
from utilities.settings import Settings
from utilities.videos import Sampling

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: The first version of a server that has several vector fields in a collection, and hybrid search.
SEVERAL_FIELDS = (2, 4)
#: What makes a call that may be repeated, such as `patiently`.
Attempt = Callable[[Callable[[], object]], object]


def _once(call: Callable[[], object]) -> object:
    return call()


def create_collection(
    client: MilvusClient,
    name: str,
    *,
    dimension: int,
    metric: str = "COSINE",
    fingerprint: Fingerprint | None = None,
    root: str | os.PathLike[str] | None = None,
    index: str | None = None,
    sampling: Sampling | None = None,
    others: tuple[Fingerprint, ...] = (),
    columns: Columns = (),
) -> CollectionInfo:
    """Create a collection, or confirm that the one there is the same.

    The schema: the fields of `Item`, a vector field for each network, and dynamic fields for whatever else is inserted.
    It begins with an exact (FLAT) index; `flush_and_index` builds another when the items are there.

    Args:
        client: from `connect`.
        name: letters, digits and underscores, not beginning with a digit, at most 200.
        dimension: length of a vector; of an ensemble, of all of an item's vectors together.
        metric: `"COSINE"`, `"L2"` or `"IP"`.
        fingerprint: `embedder.fingerprint`. By default the collection is taken to hold vectors of the default embedder,
            ResNet50 with ImageNet weights, as `image_to_vec` makes them.
        root: directory that paths are relative to; by default the first insert settles it.
        index: one of `utilities.milvus_index.INDEXES`; by default the collection's own, which begins as `"auto"`.
        sampling: of a collection of videos, which of their frames its items are; None for one of images.
        others: of an ensemble, the fingerprints of its further networks.
        columns: what a CSV says of its files, as `attributes.read_attributes` has it; by default the collection's own.

    Raises:
        InvalidArgument: a name, an index or a metric that Milvus does not take, a dimension that is not the
            embedder's, or an ensemble on a server that has one vector field a collection.
        EmbedderMismatch: the collection exists with vectors of another embedder.
        DatabaseError: Milvus failed.
    """
    check_index(index or "auto")
    wanted = CollectionInfo.checked(
        name,
        dimension=dimension,
        metric=metric,
        fingerprint=fingerprint,
        root=root,
        index=index or "auto",
        sampling=sampling,
        others=others,
        columns=columns,
    )
    return create(client, wanted, index)


def create(client: MilvusClient, wanted: CollectionInfo, index: str | None) -> CollectionInfo:
    """As `create_collection`, of what the collection is to say of itself.

    Args:
        client: from `connect`.
        wanted: the collection to be.
        index: another index than one that is there has; None to leave that.

    Raises:
        LookalikeError: as for `create_collection`.
    """
    name = wanted.name
    with milvus_errors(f"create the collection {name!r}"):
        if client.has_collection(name):
            existing = describe_collection(client, name)
            existing.refuse_unless_same(wanted)
            restore_index(client, existing)
            settled = partial(settle, client, existing, root=wanted.root, fingerprint=wanted.fingerprint)
            return settled(index=index, columns=wanted.columns)
        if wanted.others:
            check_several_fields(client)
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=True)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("path", DataType.VARCHAR, max_length=65_535)
        schema.add_field("part", DataType.VARCHAR, max_length=1_024)
        schema.add_field("label", DataType.VARCHAR, max_length=65_535)
        for number in ("width", "height", "file_size", "file_mtime_ns"):
            schema.add_field(number, DataType.INT64)
        schema.add_field("file_digest", DataType.VARCHAR, max_length=32)
        for field, each in zip(wanted.vector_fields, wanted.fingerprints, strict=True):
            schema.add_field(field, DataType.FLOAT_VECTOR, dim=each.dimension)
        remove_debris(client, name)
        client.create_collection(
            name,
            schema=schema,
            properties=wanted.properties(),
            # A search sees what this process wrote, and does not wait for what others write.
            consistency_level="Session",
        )
        # An empty index needs no waiting for, which would be a matter of half seconds.
        client.create_index(name, index_params(client, wanted, "flat", 0), sync=False)
        client.load_collection(name)
    return wanted


def check_several_fields(client: MilvusClient) -> None:
    """Refuse a server whose collections have one vector field.

    Raises:
        InvalidArgument: the server is older than `SEVERAL_FIELDS`.
        DatabaseError: Milvus failed.
    """
    with milvus_errors("ask for the version"):
        version = str(client.get_server_version())
    numbers = tuple(int(each) for each in re.findall(r"\d+", version)[:2])
    if not is_embedded(client) and numbers < SEVERAL_FIELDS:
        raise InvalidArgument(
            f"The Milvus server is version {version.lstrip('v')}, which has one vector field a collection and no "
            "hybrid search: several networks in one collection need 2.4 or newer, or the embedded database; load with "
            "one --backbone, or leave out MILVUS_URI."
        )


def settle(
    client: MilvusClient,
    info: CollectionInfo,
    *,
    root: Path | None = None,
    fingerprint: Fingerprint | None = None,
    index: str | None = None,
    columns: Columns = (),
) -> CollectionInfo:
    """Note what a collection did not know of itself yet: its root, the digest of its embedder's weights, or columns; or
    that it is to have another index.

    Raises:
        DatabaseError: Milvus failed.
    """
    known = info
    if root is not None and info.root is None:
        known = replace(known, root=root)
    if fingerprint is not None and not info.fingerprint.weights_digest:
        known = replace(known, fingerprint=fingerprint)
    if index is not None:
        known = replace(known, index=index)
    if columns:
        known = replace(known, columns=tuple({**dict(known.columns), **dict(columns)}.items()))
    return known if known == info else note(client, known)


def move_root(client: MilvusClient, info: CollectionInfo, root: str | os.PathLike[str]) -> CollectionInfo:
    """Note that a collection's tree lies elsewhere now. Ids and paths, which are relative to it, stay.

    Raises:
        DatabaseError: Milvus failed.
    """
    return note(client, replace(info, root=Path(root).resolve()))


def insert_embeddings(
    client: MilvusClient,
    name: str,
    embeddings: NDArray[np.floating[Any]],
    paths: Sequence[str],
    *,
    root: str | os.PathLike[str] | None = None,
    settings: Settings | None = None,
) -> list[int]:
    """Insert embeddings with their paths, and write the id map beside them.

    Paths that are there already are replaced. The next search in this process sees the new items.

    Args:
        client: from `connect`.
        name: a collection from `create_collection`.
        embeddings: (n, dimension), finite.
        paths: n paths; relative ones are seen from the working directory. Files need not exist. Of a path that comes
            twice, the last embedding is kept.
        root: directory that the collection's paths are relative to. By default the one the collection has; at its first
            insert, the deepest directory that holds all the paths.
        settings: where the id map lies; from the environment by default.

    Returns:
        The n ids, in the order of the paths.

    Raises:
        InvalidArgument: shapes that do not fit, values that are not finite, or a path outside the root.
        CollectionNotFound: no such collection.
        CollectionBusy: another process is changing it.
        DatabaseError: Milvus failed.
    """
    settings = settings or Settings.load()
    with only_writer(settings, name):
        return _insert_embeddings(client, name, embeddings, paths, root, settings)


def _insert_embeddings(
    client: MilvusClient,
    name: str,
    embeddings: NDArray[np.floating[Any]],
    paths: Sequence[str],
    root: str | os.PathLike[str] | None,
    settings: Settings,
) -> list[int]:
    info = describe_collection(client, name)
    info.refuse_new_items()
    embeddings = np.asarray(embeddings, dtype=np.float32)
    if embeddings.shape != (len(paths), info.dimension):
        raise InvalidArgument(
            f"{len(paths)} paths and the collection {name!r} need embeddings of shape "
            f"({len(paths)}, {info.dimension}), not {embeddings.shape}."
        )
    if not np.isfinite(embeddings).all():
        raise InvalidArgument("The embeddings hold values that are not finite.")
    if not paths:
        return []
    # The root is free of links, so the folders of the paths must be, too; a path that is a link itself keeps its name.
    files = [Path(path).parent.resolve() / Path(path).name for path in paths]
    wanted = Path(root).resolve() if root is not None else None
    if wanted:
        info.refuse_unless_same(replace(info, root=wanted))
    found = info.root or wanted or Path(os.path.commonpath([file.parent for file in files]))
    items = [_item_of(replace(info, root=found), file) for file in files]
    said = {id_: values for id_, _, values in columns_of(client, info, [item.id for item in items])}
    items = [item.having(said.get(item.id, {})) for item in items]
    info = settle(client, info, root=found)
    # A server would keep both of two rows with one id that come in one message.
    last = {item.id: row for row, item in enumerate(items)}
    rows = sorted(last.values())
    attempt: Attempt = partial(patiently, seconds=settings.server_patience_seconds)
    insert_items(client, info, [items[row] for row in rows], embeddings[rows], attempt)
    id_map = IdMap(settings.id_map_path(name))
    id_map.append(items[row] for row in rows)
    id_map.compact()
    attempt(lambda: flush_and_index(client, info, count_items(client, name)))
    return [item.id for item in items]


def _item_of(info: CollectionInfo, file: Path) -> Item:
    assert info.root is not None
    if not file.is_relative_to(info.root):
        raise InvalidArgument(
            f"{str(file)!r} lies outside {str(info.root)!r}, the root of the collection {info.name!r}; create the "
            "collection with a root that holds every path."
        )
    return describe_file(info.root, file.relative_to(info.root).as_posix())


def insert_items(
    client: MilvusClient,
    info: CollectionInfo,
    items: Sequence[Item],
    embeddings: NDArray[np.float32],
    attempt: Attempt = _once,
) -> None:
    """Upsert items, in messages of at most `MESSAGE_BYTES`; on return all of them are acknowledged.

    Args:
        client: from `connect`.
        info: the collection.
        items: n items; an item whose id is there already replaces it.
        embeddings: (n, dimension) float32; of an ensemble each item's vectors side by side.
        attempt: what sends each message, by a call that may be repeated; by default it is sent once. To repeat the
            whole instead would never end where a server limits the rate: the first message would use it up each time.

    Raises:
        DatabaseError: Milvus failed; items of earlier messages may have been taken.
    """
    # Milvus Lite 3.2 joins a row with the one that was there, so that what an item has no more must be said.
    absent = dict.fromkeys(info.attributes) if is_embedded(client) else {}

    def send(start: int, end: int) -> None:
        rows = zip(items[start:end], embeddings[start:end], strict=True)
        with milvus_errors(f"insert into {info.name!r}"):
            client.upsert(
                info.name,
                [{**item.row(), **absent, **item.attributes, **by_field(info, vectors)} for item, vectors in rows],
                retry_times=RETRIES,
            )

    sizes = [_row_bytes(item) + embeddings.shape[1] * 4 for item in items]
    for start, end in chunks_by_bytes(sizes, MESSAGE_BYTES):
        attempt(partial(send, start, end))


def _row_bytes(item: Item) -> int:
    # Five numbers of eight bytes, the digest, and what the wire format adds to each field; attributes travel as JSON.
    attributes = len(json.dumps(dict(item.attributes)))
    return len(item.path.encode()) + len(item.part.encode()) + len(item.label.encode()) + attributes + 160


def delete_items(client: MilvusClient, name: str, ids: Sequence[int], attempt: Attempt = _once) -> None:
    """Delete items by their ids; ids that are not there are no error. The next search sees none of them.

    Args:
        client: from `connect`.
        name: a collection.
        ids: of its items.
        attempt: what sends each message, as in `insert_items`.

    Raises:
        DatabaseError: Milvus failed; items of earlier messages may be deleted.
    """

    def send(start: int) -> None:
        with milvus_errors(f"delete from {name!r}"):
            client.delete(name, ids=list(ids[start : start + PAGE_ROWS]))

    for start in range(0, len(ids), PAGE_ROWS):
        attempt(partial(send, start))
    if ids:
        # A server's deletions, unlike its upserts, are not seen by the next search until it was asked to catch up.
        attempt(partial(count_items, client, name))


def drop_collection(client: MilvusClient, name: str) -> None:
    """Remove a collection with everything in it.

    Raises:
        CollectionNotFound: no such collection.
        DatabaseError: Milvus failed.
    """
    describe_collection(client, name)
    with milvus_errors(f"drop {name!r}"):
        client.drop_collection(name)
