"""Which index a collection has, and how it is searched: chosen by the number of items and by the database.

The figures behind the choice are those of `benchmarks/results/search.md`.
"""

from __future__ import annotations

import contextlib
import math
import time
import weakref
from dataclasses import replace
from typing import Any

from utilities.collection_info import CollectionInfo
from utilities.errors import InvalidArgument
from utilities.milvus_client import MilvusClient
from utilities.milvus_collections import note
from utilities.milvus_connection import RETRIES, milvus_errors
from utilities.quiet import silent_standard_error

#: What may be asked for: Milvus's own names, or the one that suits.
INDEXES = ("auto", "flat", "ivf_flat", "ivf_sq8", "hnsw")
#: Up to so many items every vector is compared: exact, and as fast as need be.
MOST_ITEMS_COMPARED = 5_000
#: Lists of every IVF index of Milvus Lite, which makes one for each of its files.
LITE_LISTS = 128
#: Parameters of HNSW as its authors use them (Malkov and Yashunin 2018, section 4): links of a node, and candidates
#: that are looked at while one is inserted.
HNSW_PARAMETERS = {"M": 16, "efConstruction": 200}
#: Candidates that a search in HNSW keeps.
EF = 128
#: Lists that a search in IVF looks into: of `LITE_LISTS`, and of the `4 * sqrt(items)` of a server.
LITE_NPROBE, NPROBE = 16, 64
#: The most of either that a server takes, and a number by which Milvus Lite comes to see everything in HNSW: its files
#: have at most 100,000 items.
MAX_EF, MAX_NPROBE, LITE_EVERYTHING = 32_768, 65_536, 1_000_000
#: Seconds after which Milvus Lite is no longer waited for to index what was flushed.
SECONDS_TO_INDEX = 600

_embedded: weakref.WeakKeyDictionary[MilvusClient, bool] = weakref.WeakKeyDictionary()


def check_index(index: str) -> None:
    """Refuse what is no index.

    Raises:
        InvalidArgument: not one of `INDEXES`.
    """
    if index not in INDEXES:
        raise InvalidArgument(f"There is no index {index!r}; choose one of {', '.join(INDEXES)}.")


def choose_index(items: int, *, embedded: bool) -> str:
    """What `"auto"` means.

    Milvus Lite's own exact search copies every vector at every query, so that FAISS's inverted lists are faster even
    where all of them are looked into. A query with a filter must do that in Milvus Lite, whose IVF and HNSW look where
    they would without it, and may find there nothing that satisfies it. A server's do not, and its HNSW is its fastest.
    """
    if embedded:
        return "ivf_flat" if items > LITE_LISTS else "flat"
    return "hnsw" if items > MOST_ITEMS_COMPARED else "flat"


def is_embedded(client: MilvusClient) -> bool:
    """Whether it is Milvus Lite that answers; asked once of each connection."""
    if client not in _embedded:
        _embedded[client] = str(client.get_server_version()).startswith("milvus_lite")
    return _embedded[client]


def flush(client: MilvusClient, info: CollectionInfo) -> None:
    """Write what was inserted to the disk, and leave the index as it is.

    Raises:
        DatabaseError: Milvus failed.
    """
    with milvus_errors(f"flush {info.name!r}"), quiet(client):
        client.flush(info.name, retry_times=RETRIES)


def flush_and_index(client: MilvusClient, info: CollectionInfo, items: int) -> CollectionInfo:
    """Write what was inserted to the disk, and give the collection the index that suits its size, if it has another.

    A search is right without it, but slow. While the index is exchanged there is none, and searches fail.

    Args:
        client: from `connect`.
        info: the collection; `info.index` is what was asked for.
        items: how many it holds.

    Returns:
        The collection as it is now.

    Raises:
        DatabaseError: Milvus failed.
    """
    embedded = is_embedded(client)
    wanted = info.index if info.index != "auto" else choose_index(items, embedded=embedded)
    flush(client, info)
    with milvus_errors(f"index {info.name!r}"), quiet(client):
        if not _has_index(client, info, wanted, items):
            client.release_collection(info.name)
            for field in info.vector_fields:
                if field in client.list_indexes(info.name):  # Milvus Lite drops all of them with the first.
                    client.drop_index(info.name, field)
            # Waiting is a matter of half seconds; Milvus Lite has built the index when it answers.
            client.create_index(info.name, index_params(client, info, wanted, items), sync=not embedded)
            client.load_collection(info.name)
        if embedded:
            _wait_until_indexed(client, info)
    return info if info.indexed_items == items else note(client, replace(info, indexed_items=items))


def quiet(client: MilvusClient) -> contextlib.AbstractContextManager[None]:
    """Where Milvus Lite builds an index, FAISS advises on standard error to cluster more points than there are."""
    return silent_standard_error() if is_embedded(client) else contextlib.nullcontext()


def _has_index(client: MilvusClient, info: CollectionInfo, wanted: str, items: int) -> bool:
    """Whether it is there, and was not made for a collection of quite another size."""
    if current_index(client, info) != wanted:
        return False
    lists = client.describe_index(info.name, info.vector_fields[0]).get("nlist")  # Milvus Lite does not say.
    return lists is None or 0.5 <= _lists(items) / int(lists) <= 2


def _wait_until_indexed(client: MilvusClient, info: CollectionInfo) -> None:
    """Milvus Lite indexes what was flushed after it has answered."""
    end = time.monotonic() + SECONDS_TO_INDEX
    while time.monotonic() < end:
        described = [client.describe_index(info.name, field) for field in info.vector_fields]
        if not any(each["pending_index_rows"] for each in described):
            return
        time.sleep(0.02)


def _lists(items: int) -> int:
    """Of an IVF index on a server, as Milvus's documentation recommends."""
    return max(1, min(MAX_NPROBE, round(4 * math.sqrt(items))))


def restore_index(client: MilvusClient, info: CollectionInfo) -> None:
    """Give a collection that has no index, because a process died while it was exchanged, an exact one.

    Raises:
        DatabaseError: Milvus failed.
    """
    with milvus_errors(f"index {info.name!r}"):
        if current_index(client, info) is None:
            with quiet(client):
                client.create_index(info.name, index_params(client, info, "flat", 0))
                client.load_collection(info.name)


def current_index(client: MilvusClient, info: CollectionInfo) -> str | None:
    """The index that a collection has, the same for each of its vector fields; None between two of them, where a
    process died.
    """
    with milvus_errors(f"describe the index of {info.name!r}"):
        if not {*info.vector_fields}.issubset(client.list_indexes(info.name)):
            return None
        kinds = {client.describe_index(info.name, field)["index_type"].lower() for field in info.vector_fields}
    return str(kinds.pop()) if len(kinds) == 1 else None


def index_params(client: MilvusClient, info: CollectionInfo, index: str, items: int) -> Any:
    """What `MilvusClient.create_index` takes.

    Milvus Lite 3.2 does not see build parameters as pymilvus 3.0 sends them, and keeps to 128 lists, M = 16 and
    efConstruction = 200 whatever is asked for.
    """
    parameters: dict[str, int] = {}
    if index == "hnsw":
        parameters = HNSW_PARAMETERS
    elif index.startswith("ivf"):
        parameters = {"nlist": _lists(items)}
    params = client.prepare_index_params()
    for field in info.vector_fields:
        params.add_index(field, index_name=field, index_type=index.upper(), metric_type=info.metric, params=parameters)
    return params


def search_params(
    client: MilvusClient, info: CollectionInfo, top_k: int, filter: str, *, thorough: bool = False
) -> dict[str, Any]:
    """What `MilvusClient.search` takes; parameters of an index that the collection has not are passed over.

    Args:
        client: from `connect`.
        info: the collection.
        top_k: matches wanted. HNSW demands that `ef` is at least as large.
        filter: a Milvus expression; empty for none.
        thorough: whether to look everywhere, which finds whatever there is.
    """
    embedded = is_embedded(client)
    thorough = thorough or (bool(filter) and embedded)
    # Lists are of any length: a few of them may not hold a large top-k.
    all_lists = thorough or top_k > 100 or info.indexed_items <= MOST_ITEMS_COMPARED
    nprobe = MAX_NPROBE if all_lists else LITE_NPROBE if embedded else NPROBE
    most = LITE_EVERYTHING if embedded else MAX_EF
    ef = most if thorough else min(most, max(EF, 2 * top_k))
    return {"metric_type": info.metric, "params": {"ef": ef, "nprobe": nprobe}}
