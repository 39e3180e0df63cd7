"""Indexes: chosen by size and database, exchanged without loss, and searched so that nothing is missed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from pymilvus import MilvusClient

from utilities.collection_info import CollectionInfo
from utilities.errors import InvalidArgument
from utilities.fingerprint import Fingerprint
from utilities.items import Item, item_id
from utilities.milvus_index import LITE_EVERYTHING, check_index, choose_index, current_index, is_embedded, search_params
from utilities.milvus_utilities import (
    create_collection,
    delete_items,
    describe_collection,
    flush_and_index,
    insert_items,
    nearest_neighbours,
)
from utilities.retrieval_metrics import exact_neighbours, overlap_at_k

DIMENSION, COUNT = 16, 1_500
FINGERPRINT = Fingerprint("test", "0" * 32, "", DIMENSION)


def vectors(count: int, seed: int) -> NDArray[np.float32]:
    found = np.random.default_rng(seed).standard_normal((count, DIMENSION)).astype(np.float32)
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def fill(client: MilvusClient, index: str | None = None) -> CollectionInfo:
    """1,500 items; number n has the width n and one of 100 labels."""
    info = create_collection(
        client, "indexed", dimension=DIMENSION, fingerprint=FINGERPRINT, root="/photos", index=index
    )
    items = [Item(item_id(str(n)), str(n), "", f"label{n % 100}", n, 0, 0, 0) for n in range(COUNT)]
    insert_items(client, info, items, vectors(COUNT, 0))
    return info


def as_if_large(info: CollectionInfo) -> CollectionInfo:
    """A collection that takes itself for one with too many items to compare them all."""
    return replace(info, indexed_items=10**6)


def numbers(found: list[list[dict[str, object]]]) -> NDArray[np.int64]:
    return np.array([[row["width"] for row in rows] for rows in found])


@pytest.mark.parametrize("index", ["ivf_flat", "ivf_sq8", "hnsw", "flat"])
def test_every_index_finds_nearly_what_comparing_everything_finds(client: MilvusClient, index: str) -> None:
    info = flush_and_index(client, fill(client, index), COUNT)
    assert (info.index, info.indexed_items) == (index, COUNT)
    assert current_index(client, info) == index
    assert describe_collection(client, info.name) == info
    queries = vectors(50, 1)
    expected = exact_neighbours(queries, vectors(COUNT, 0))
    overlap = overlap_at_k(numbers(nearest_neighbours(client, info, queries)), expected)
    assert overlap >= {"flat": 1, "ivf_flat": 1, "hnsw": 0.98, "ivf_sq8": 0.9}[index]


def test_a_large_collection_is_not_compared_as_a_whole_and_still_found_in(client: MilvusClient) -> None:
    info = as_if_large(flush_and_index(client, fill(client, "ivf_flat"), COUNT))
    queries = vectors(50, 1)
    found, expected = numbers(nearest_neighbours(client, info, queries)), exact_neighbours(queries, vectors(COUNT, 0))
    # Vectors at random are the worst case, as lists know nothing of them. Milvus Lite looks into an eighth, which holds
    # far more than an eighth of the neighbours, and less than all; a server has so few compared.
    overlap = overlap_at_k(found, expected)
    assert 0.3 < overlap < 1 if is_embedded(client) else overlap > 0.9


@pytest.mark.parametrize("metric", ["L2", "IP"])
def test_every_metric_has_its_index(client: MilvusClient, metric: str) -> None:
    info = create_collection(
        client, "indexed", dimension=DIMENSION, fingerprint=FINGERPRINT, root="/photos", metric=metric
    )
    insert_items(client, info, [Item(item_id(str(n)), str(n), "", "", n, 0, 0, 0) for n in range(300)], vectors(300, 0))
    for index in ("hnsw", "ivf_flat"):
        indexed = flush_and_index(client, replace(info, index=index), 300)
        found = numbers(nearest_neighbours(client, indexed, vectors(20, 1), top_k=10))
        # Of unit vectors all three metrics have the same neighbours.
        assert overlap_at_k(found, exact_neighbours(vectors(20, 1), vectors(300, 0), k=10)) > 0.97


def test_a_collection_that_lost_most_of_its_items_gives_all_it_has(client: MilvusClient) -> None:
    info = as_if_large(flush_and_index(client, fill(client, "ivf_flat"), COUNT))
    rest = set(range(0, COUNT, 100))
    delete_items(client, info.name, [item_id(str(n)) for n in range(COUNT) if n not in rest])
    for row in numbers(nearest_neighbours(client, info, vectors(5, 1), top_k=20)):
        assert set(row) == rest


def test_the_lists_of_a_server_grow_with_the_collection(server: MilvusClient) -> None:
    info = flush_and_index(server, fill(server, "ivf_flat"), 100)
    assert server.describe_index(info.name, info.vector_fields[0])["nlist"] == "40"
    grown = flush_and_index(server, info, COUNT)
    assert server.describe_index(info.name, info.vector_fields[0])["nlist"] == "155"
    assert flush_and_index(server, grown, COUNT + 100).indexed_items == COUNT + 100
    assert server.describe_index(info.name, info.vector_fields[0])["nlist"] == "155"


def test_milvus_lite_has_indexed_when_it_answers_and_nobody_advises(
    lite: MilvusClient, capfd: pytest.CaptureFixture[str]
) -> None:
    info = flush_and_index(lite, fill(lite), COUNT)
    more = [Item(item_id(f"more{n}"), f"more{n}", "", "", COUNT + n, 0, 0, 0) for n in range(200)]
    insert_items(lite, info, more, vectors(200, 3))
    flush_and_index(lite, info, COUNT + 200)
    assert lite.describe_index(info.name, info.vector_fields[0])["pending_index_rows"] == 0
    assert "clustering" not in "".join(capfd.readouterr())


def test_an_index_is_exchanged_only_for_another(client: MilvusClient, monkeypatch: pytest.MonkeyPatch) -> None:
    info = flush_and_index(client, fill(client), COUNT)
    chosen = current_index(client, info)
    assert chosen == choose_index(COUNT, embedded=is_embedded(client))
    monkeypatch.setattr(client, "drop_index", lambda *_: pytest.fail("exchanged"))
    assert flush_and_index(client, info, COUNT) == info
    assert flush_and_index(client, info, COUNT + 1).indexed_items == COUNT + 1


def test_a_filter_loses_nothing_whatever_the_index(client: MilvusClient) -> None:
    info = fill(client)
    queries = vectors(20, 1)
    own = vectors(COUNT, 0)[7::100]  # 15 items of one label, among 1,500
    for index in ("ivf_flat", "hnsw"):
        indexed = as_if_large(flush_and_index(client, replace(info, index=index), COUNT))
        found = numbers(nearest_neighbours(client, indexed, queries, top_k=10, filter='label == "label7"'))
        np.testing.assert_array_equal(found, 7 + 100 * exact_neighbours(queries, own, k=10))


@pytest.mark.parametrize("top_k", [101, 1_000, COUNT])
def test_as_many_come_back_as_are_asked_for(client: MilvusClient, top_k: int) -> None:
    info = fill(client)
    for index in ("ivf_flat", "hnsw"):
        indexed = as_if_large(flush_and_index(client, replace(info, index=index), COUNT))
        (found,) = nearest_neighbours(client, indexed, vectors(1, 1), top_k=top_k)
        # A graph may have lost a few of its nodes from sight; lists have not.
        assert len(found) == top_k if index == "ivf_flat" else len(found) >= 0.99 * top_k


@pytest.mark.parametrize("top_k", [1, 20, 100, 16_384])
def test_hnsw_is_always_asked_for_more_candidates_than_matches(lite: MilvusClient, top_k: int) -> None:
    info = fill(lite)
    for filter in ("", "width > 3"):
        assert top_k <= search_params(lite, info, top_k, filter)["params"]["ef"] <= LITE_EVERYTHING


def test_a_collection_whose_index_was_lost_on_the_way_gets_one(client: MilvusClient) -> None:
    info = fill(client)
    client.release_collection(info.name)
    client.drop_index(info.name, info.vector_fields[0])
    assert current_index(client, info) is None
    create_collection(client, info.name, dimension=DIMENSION, fingerprint=FINGERPRINT, root="/photos")
    assert current_index(client, info) == "flat"
    assert numbers(nearest_neighbours(client, info, vectors(COUNT, 0)[:3], top_k=1)).ravel().tolist() == [0, 1, 2]


def test_what_is_asked_for_stays_asked_for(lite: MilvusClient) -> None:
    info = flush_and_index(lite, fill(lite, "hnsw"), COUNT)
    same = create_collection(lite, info.name, dimension=DIMENSION, fingerprint=FINGERPRINT)
    assert same == info
    other = create_collection(lite, info.name, dimension=DIMENSION, fingerprint=FINGERPRINT, index="auto")
    assert current_index(lite, flush_and_index(lite, other, COUNT)) == "ivf_flat"


def test_the_choice() -> None:
    assert [choose_index(items, embedded=True) for items in (1, 128, 129, 10**6)] == ["flat", "flat", *["ivf_flat"] * 2]
    assert [choose_index(items, embedded=False) for items in (1, 5_000, 5_001)] == ["flat", "flat", "hnsw"]
    with pytest.raises(InvalidArgument, match="There is no index 'lsh'; choose one of auto, flat,"):
        check_index("lsh")
