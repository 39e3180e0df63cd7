"""Everything that is said to Milvus: create a collection, insert in chunks, search, count, delete."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pymilvus import DataType, MilvusClient, MilvusException
from pymilvus.client.types import LoadState

from utilities.chunks import chunks_by_bytes
from utilities.collection_info import CollectionInfo
from utilities.errors import CollectionNotFound, InvalidArgument
from utilities.fingerprint import Fingerprint
from utilities.id_map import IdMap
from utilities.image_files import describe_file
from utilities.items import ITEM_FIELDS, Item
from utilities.milvus_connection import connect as connect
from utilities.milvus_connection import milvus_errors
from utilities.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: A server returns no more matches than this (`proxy.limits`, `quotaAndLimits.limits.topK`).
MAX_TOP_K = 16_384
#: Bytes of one message. A server takes 64 MiB; an eighth of it keeps the server's and our memory small.
MESSAGE_BYTES = 8 * 1024 * 1024
#: Rows that one page of an iteration holds. A server allows 16,384.
PAGE_ROWS = 8_192


def create_collection(
    client: MilvusClient,
    name: str,
    *,
    dimension: int,
    metric: str = "COSINE",
    fingerprint: Fingerprint | None = None,
    root: str | os.PathLike[str] | None = None,
) -> CollectionInfo:
    """Create a collection, or confirm that the one there is the same.

    The schema: `id`, `path`, `part`, `label` (the parent folder), `width`, `height`, `file_size`, `file_mtime_ns`, one
    vector field with an exact (FLAT) index, and dynamic fields for whatever else is inserted.

    Args:
        client: from `connect`.
        name: letters, digits and underscores, not beginning with a digit, at most 200.
        dimension: length of a vector.
        metric: `"COSINE"`, `"L2"` or `"IP"`.
        fingerprint: `embedder.fingerprint`. By default the collection is taken to hold vectors of the default embedder,
            ResNet50 with ImageNet weights, as `image_to_vec` makes them.
        root: directory that paths are relative to; by default the first insert settles it.

    Raises:
        InvalidArgument: a name or a metric that Milvus does not take, or a dimension that is not the embedder's.
        EmbedderMismatch: the collection exists with vectors of another embedder.
        DatabaseError: Milvus failed.
    """
    wanted = CollectionInfo.checked(name, dimension=dimension, metric=metric, fingerprint=fingerprint, root=root)
    with milvus_errors(f"create the collection {name!r}"):
        if client.has_collection(name):
            existing = describe_collection(client, name)
            existing.refuse_unless_same(wanted)
            return settle(client, existing, root=wanted.root, fingerprint=wanted.fingerprint)
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=True)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("path", DataType.VARCHAR, max_length=65_535)
        schema.add_field("part", DataType.VARCHAR, max_length=1_024)
        schema.add_field("label", DataType.VARCHAR, max_length=65_535)
        for number in ("width", "height", "file_size", "file_mtime_ns"):
            schema.add_field(number, DataType.INT64)
        schema.add_field(wanted.vector_field, DataType.FLOAT_VECTOR, dim=dimension)
        index = client.prepare_index_params()
        index.add_index(wanted.vector_field, index_type="FLAT", metric_type=wanted.metric)
        client.create_collection(
            name,
            schema=schema,
            index_params=index,
            properties=wanted.properties(),
            # A search sees what this process wrote, and does not wait for what others write.
            consistency_level="Session",
        )
    return wanted


def settle(
    client: MilvusClient, info: CollectionInfo, *, root: Path | None = None, fingerprint: Fingerprint | None = None
) -> CollectionInfo:
    """Note what a collection did not know of itself yet: its root, or the digest of its embedder's weights.

    Raises:
        DatabaseError: Milvus failed.
    """
    known = info
    if root is not None and info.root is None:
        known = replace(known, root=root)
    if fingerprint is not None and not info.fingerprint.weights_digest:
        known = replace(known, fingerprint=fingerprint)
    return known if known == info else _note(client, known)


def move_root(client: MilvusClient, info: CollectionInfo, root: str | os.PathLike[str]) -> CollectionInfo:
    """Note that a collection's tree lies elsewhere now. Ids and paths, which are relative to it, stay.

    Raises:
        DatabaseError: Milvus failed.
    """
    return _note(client, replace(info, root=Path(root).resolve()))


def _note(client: MilvusClient, info: CollectionInfo) -> CollectionInfo:
    with milvus_errors(f"change the properties of {info.name!r}"):
        client.alter_collection_properties(info.name, info.properties())
    return info


def describe_collection(client: MilvusClient, name: str) -> CollectionInfo:
    """What a collection says of itself.

    Raises:
        CollectionNotFound: no such collection, or not one of ours; the message says which there are.
        DatabaseError: Milvus failed.
    """
    with milvus_errors(f"describe the collection {name!r}"):
        if not client.has_collection(name):
            there = list_collections(client)
            hint = f"there are: {', '.join(there)}" if there else "`lookalike load DIR` makes the first"
            raise CollectionNotFound(f"There is no collection {name!r}; {hint}.")
        info = CollectionInfo.from_properties(name, client.describe_collection(name)["properties"])
    if info is None:
        raise CollectionNotFound(f"The collection {name!r} was not made by Lookalike; choose another name.")
    return info


def list_collections(client: MilvusClient) -> list[str]:
    """Names of the collections that Lookalike made, sorted.

    Raises:
        DatabaseError: Milvus failed.
    """
    with milvus_errors("list the collections"):
        names = sorted(client.list_collections())
        return [
            name
            for name in names
            if CollectionInfo.from_properties(name, client.describe_collection(name)["properties"])
        ]


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
        DatabaseError: Milvus failed.
    """
    settings = settings or Settings.load()
    info = describe_collection(client, name)
    embeddings = np.asarray(embeddings, dtype=np.float32)
    if embeddings.shape != (len(paths), info.fingerprint.dimension):
        raise InvalidArgument(
            f"{len(paths)} paths and the collection {name!r} need embeddings of shape "
            f"({len(paths)}, {info.fingerprint.dimension}), not {embeddings.shape}."
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
    info = settle(client, info, root=found)
    # A server would keep both of two rows with one id that come in one message.
    last = {item.id: row for row, item in enumerate(items)}
    rows = sorted(last.values())
    insert_items(client, info, [items[row] for row in rows], embeddings[rows])
    id_map = IdMap(settings.id_map_path(name))
    id_map.append(items[row] for row in rows)
    id_map.compact()
    flush(client, name)
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
    client: MilvusClient, info: CollectionInfo, items: Sequence[Item], embeddings: NDArray[np.float32]
) -> None:
    """Upsert items, in messages of at most `MESSAGE_BYTES`; on return all of them are acknowledged.

    Args:
        client: from `connect`.
        info: the collection.
        items: n items; an item whose id is there already replaces it.
        embeddings: (n, dimension) float32.

    Raises:
        DatabaseError: Milvus failed; items of earlier messages may have been taken.
    """
    with milvus_errors(f"insert into {info.name!r}"):
        for start, end in chunks_by_bytes(
            [_row_bytes(item) + embeddings.shape[1] * 4 for item in items], MESSAGE_BYTES
        ):
            client.upsert(
                info.name,
                [
                    {**asdict(item), info.vector_field: embedding}
                    for item, embedding in zip(items[start:end], embeddings[start:end], strict=True)
                ],
            )


def _row_bytes(item: Item) -> int:
    # Five numbers of eight bytes, and what the wire format adds to each field.
    return len(item.path.encode()) + len(item.part.encode()) + len(item.label.encode()) + 120


def flush(client: MilvusClient, name: str) -> None:
    """Write what was inserted to the disk and build its index.

    A search is right without it, but slow: Milvus Lite reads what is not flushed row by row.
    """
    with milvus_errors(f"flush {name!r}"):
        client.flush(name)


def nearest_neighbours(
    client: MilvusClient,
    collection: str | CollectionInfo,
    embeddings: NDArray[np.floating[Any]],
    top_k: int = 20,
    filter: str = "",
) -> list[list[dict[str, Any]]]:
    """The nearest items of each of several vectors.

    Args:
        client: from `connect`.
        collection: its name, or what `describe_collection` said of it, which saves asking again.
        embeddings: (n, dimension); n may be any number, they are sent in messages of at most `MESSAGE_BYTES`.
        top_k: matches for each, 1 to `MAX_TOP_K`.
        filter: a Milvus expression that the matches satisfy, such as `label == "cup"`; empty for none.

    Returns:
        n lists, nearest first, each of at most `top_k` dictionaries: the fields of `Item`, and `score`, which is the
        cosine or inner product, or for L2 the Euclidean distance.

    Raises:
        InvalidArgument: `top_k` out of range, vectors of another dimension, or an expression that Milvus cannot read.
        CollectionNotFound: no such collection.
        DatabaseError: Milvus failed.
    """
    if not 1 <= top_k <= MAX_TOP_K:
        raise InvalidArgument(f"A top-k of {top_k} cannot be had; Milvus returns from 1 to {MAX_TOP_K:,} matches.")
    info = collection if isinstance(collection, CollectionInfo) else describe_collection(client, collection)
    embeddings = np.asarray(embeddings, dtype=np.float32)
    dimension = info.fingerprint.dimension
    if embeddings.ndim != 2 or embeddings.shape[1] != dimension:
        raise InvalidArgument(
            f"The collection {info.name!r} holds vectors of {dimension} dimensions; embeddings of shape "
            f"{embeddings.shape} cannot be compared with them."
        )
    found = []
    step = min(PAGE_ROWS, max(1, MESSAGE_BYTES // (4 * dimension)))
    with _loaded(client, info.name, "search", filter):
        for start in range(0, len(embeddings), step):
            found += client.search(
                info.name,
                data=list(embeddings[start : start + step]),
                anns_field=info.vector_field,
                limit=top_k,
                filter=filter,
                output_fields=list(ITEM_FIELDS),
                search_params={"metric_type": info.metric},
            )
    # Milvus returns the square of the Euclidean distance.
    score = (lambda distance: float(np.sqrt(max(distance, 0.0)))) if info.metric == "L2" else float
    return [[{**hit["entity"], "id": hit["id"], "score": score(hit["distance"])} for hit in hits] for hits in found]


@contextlib.contextmanager
def _loaded(client: MilvusClient, name: str, doing: str, filter: str = "") -> Iterator[None]:
    """Have a collection in use, and tell a filter that cannot be read from a database that failed."""
    with milvus_errors(f"{doing} {name!r}"):
        # The embedded database forgets at every start which collections are in use; a server remembers.
        if client.get_load_state(name)["state"] != LoadState.Loaded:
            client.load_collection(name)
        try:
            yield
        except MilvusException as error:
            if not filter:
                raise
            # Milvus has one kind of error for both. If it answers without the filter, the filter is at fault.
            client.query(name, filter="", output_fields=["id"], limit=1)
            reason = error.message.strip().splitlines()[0][:200].rstrip(".?")
            raise InvalidArgument(f"The filter {filter!r} cannot be applied to {name!r}: {reason}.") from error


def count_items(client: MilvusClient, name: str) -> int:
    """How many items a collection holds, counted rather than estimated.

    Raises:
        DatabaseError: Milvus failed.
    """
    with _loaded(client, name, "count"):
        rows = client.query(name, filter="", output_fields=["count(*)"], consistency_level="Strong")
        return int(rows[0]["count(*)"])


def stored_items(
    client: MilvusClient, name: str, filter: str = "", fields: Sequence[str] = ITEM_FIELDS
) -> Iterator[list[dict[str, Any]]]:
    """Read a collection in pages of at most `PAGE_ROWS` rows, whatever its size.

    Args:
        client: from `connect`.
        name: a collection.
        filter: a Milvus expression; empty for everything.
        fields: what to read of each item.

    Raises:
        InvalidArgument: an expression that Milvus cannot read.
        DatabaseError: Milvus failed.
    """
    with _loaded(client, name, "read", filter):
        pages = client.query_iterator(
            name, batch_size=PAGE_ROWS, filter=filter, output_fields=list(fields), consistency_level="Strong"
        )
        while page := pages.next():
            yield page
        pages.close()


def read_items(client: MilvusClient, name: str) -> pd.DataFrame:
    """All items of a collection, without their vectors, in the columns of `Item`; as `stored_items` otherwise."""
    rows = [row for page in stored_items(client, name) for row in page]
    return pd.DataFrame(rows, columns=list(ITEM_FIELDS))


def delete_items(client: MilvusClient, name: str, ids: Sequence[int]) -> None:
    """Delete items by their ids; ids that are not there are no error.

    Raises:
        DatabaseError: Milvus failed.
    """
    with milvus_errors(f"delete from {name!r}"):
        for start in range(0, len(ids), PAGE_ROWS):
            client.delete(name, ids=list(ids[start : start + PAGE_ROWS]))


def drop_collection(client: MilvusClient, name: str) -> None:
    """Remove a collection with everything in it.

    Raises:
        CollectionNotFound: no such collection.
        DatabaseError: Milvus failed.
    """
    describe_collection(client, name)
    with milvus_errors(f"drop {name!r}"):
        client.drop_collection(name)
