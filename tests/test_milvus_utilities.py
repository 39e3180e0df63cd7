"""Milvus itself, embedded and as a server: schema, upsert, search, count, delete, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pymilvus import MilvusClient

from tests.conftest import MeanColour
from utilities.collection_info import CollectionInfo, unstated_fingerprint
from utilities.errors import (
    CollectionNotFound,
    DatabaseError,
    DatabaseLocked,
    DatabaseUnreachable,
    EmbedderMismatch,
    InvalidArgument,
)
from utilities.fingerprint import Fingerprint
from utilities.id_map import IdMap
from utilities.items import Item, item_id
from utilities.milvus_connection import MESSAGE_BYTES
from utilities.milvus_utilities import (
    connect,
    count_items,
    create_collection,
    delete_items,
    describe_collection,
    drop_collection,
    insert_embeddings,
    insert_items,
    list_collections,
    move_root,
    nearest_neighbours,
    stored_items,
)
from utilities.settings import Settings

REPOSITORY = Path(__file__).parent.parent
DIMENSION = 8
FINGERPRINT = Fingerprint("resnet50", "a" * 32, "as it is", DIMENSION)


def create(client: MilvusClient, name: str = "things", metric: str = "COSINE") -> CollectionInfo:
    return create_collection(client, name, dimension=DIMENSION, metric=metric, fingerprint=FINGERPRINT, root="/photos")


def unit_vectors(count: int, dimension: int = DIMENSION) -> NDArray[np.float32]:
    vectors = np.random.default_rng(0).standard_normal((count, dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def items(count: int) -> list[Item]:
    return [
        Item.of_file(Path("/photos"), f"{n % 3}/{n:05}.jpg", width=n, height=2, file_size=7, file_mtime_ns=2**60 + n)
        for n in range(count)
    ]


def test_a_collection_says_what_it_is(client: MilvusClient) -> None:
    created = create(client)
    assert created == describe_collection(client, "things")
    assert created == CollectionInfo("things", Path("/photos"), "COSINE", FINGERPRINT)
    assert list_collections(client) == ["things"]


@pytest.mark.parametrize("metric", ["COSINE", "L2", "IP"])
def test_search_equals_brute_force(client: MilvusClient, metric: str) -> None:
    info = create(client, metric=metric)
    vectors = unit_vectors(300) * np.linspace(0.5, 2, 300, dtype=np.float32)[:, None]
    insert_items(client, info, items(300), vectors)
    queries = unit_vectors(320)[300:]
    found = nearest_neighbours(client, "things", queries, top_k=20)
    if metric == "L2":
        scores = -np.linalg.norm(queries[:, None] - vectors[None], axis=2)
    else:
        lengths = np.linalg.norm(vectors, axis=1) if metric == "COSINE" else 1.0
        scores = queries @ vectors.T / lengths
    best = np.argsort(-scores, axis=1)[:, :20]
    assert [[row["width"] for row in rows] for rows in found] == best.tolist()
    expected = np.take_along_axis(scores, best, axis=1)
    np.testing.assert_allclose(
        [[row["score"] for row in rows] for rows in found],
        -expected if metric == "L2" else expected,
        rtol=1e-4,
        atol=1e-5,
    )


def test_what_was_stored_comes_back_whole(client: MilvusClient) -> None:
    info = create(client)
    wanted = items(10)
    insert_items(client, info, wanted, unit_vectors(10))
    stored = sorted((Item(**row) for page in stored_items(client, "things") for row in page), key=lambda i: i.path)
    assert stored == sorted(wanted, key=lambda i: i.path)  # 2**60 + n survives: no number passes through a float


def test_inserting_twice_changes_nothing_and_replaces(client: MilvusClient) -> None:
    info = create(client)
    vectors = unit_vectors(50)
    insert_items(client, info, items(50), vectors)
    insert_items(client, info, items(50), vectors[::-1].copy())
    assert count_items(client, "things") == 50
    nearest = nearest_neighbours(client, "things", vectors[:1], top_k=50)[0]
    assert nearest[0]["width"] == 49
    assert len({row["id"] for row in nearest}) == 50


def test_more_bytes_than_one_message_takes(server: MilvusClient) -> None:
    # 10,000 vectors of 2,048 numbers are 82 MB; a server refuses messages over 64 MB.
    wide = Fingerprint("resnet50", "a" * 32, "as it is", 2048)
    info = create_collection(server, "wide", dimension=2048, fingerprint=wide, root="/photos")
    vectors = np.random.default_rng(0).standard_normal((10_000, 2048)).astype(np.float32)
    insert_items(server, info, items(10_000), vectors)
    assert count_items(server, "wide") == 10_000
    found = nearest_neighbours(server, "wide", vectors[[0, 4_999, 9_999]], top_k=1)
    assert [rows[0]["width"] for rows in found] == [0, 4_999, 9_999]


def test_pages_of_a_large_collection_hold_every_row_once(client: MilvusClient) -> None:
    info = create(client)
    insert_items(client, info, items(20_000), unit_vectors(20_000))
    ids = [row["id"] for page in stored_items(client, "things", fields=["id"]) for row in page]
    assert len(ids) == len(set(ids)) == 20_000


@pytest.mark.parametrize("count", [1, 126, 127, 128, 300])
def test_insert_at_the_edges_of_a_message(lite: MilvusClient, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    info = create(lite)
    # A row of these is 120 + 11 + 1 + 32 bytes, so that 127 rows fill a message to the byte.
    monkeypatch.setattr("utilities.milvus_utilities.MESSAGE_BYTES", 127 * 164)
    assert MESSAGE_BYTES < 64 * 1024 * 1024
    vectors = unit_vectors(count)
    insert_items(lite, info, items(count), vectors)
    found = nearest_neighbours(lite, "things", vectors, top_k=1)
    assert [rows[0]["width"] for rows in found] == list(range(count))


def test_pages_of_an_answer_join_to_the_whole(client: MilvusClient) -> None:
    info = create(client)
    insert_items(client, info, items(60), unit_vectors(60))
    query = unit_vectors(61)[60:]
    (whole,) = nearest_neighbours(client, "things", query, top_k=60)
    pages = [nearest_neighbours(client, "things", query, top_k=25, offset=offset)[0] for offset in (0, 25, 50, 75)]
    assert [len(page) for page in pages] == [25, 25, 10, 0]
    assert [row["id"] for page in pages for row in page] == [row["id"] for row in whole]
    for top_k, offset in ((20, -1), (1, 16_384), (16_384, 1)):
        with pytest.raises(InvalidArgument, match="Milvus looks no further than the first 16,384"):
            nearest_neighbours(client, "things", query, top_k=top_k, offset=offset)


def test_a_folder_is_a_range_of_paths(client: MilvusClient) -> None:
    info = create(client)
    paths = ["a_b/1.jpg", "a_b/c/2.jpg", "axb/3.jpg", "a_b2/4.jpg", "a_b.jpg", "a_b-/5.jpg"]
    insert_items(client, info, [Item.of_file(Path("/photos"), path) for path in paths], unit_vectors(6))
    found = nearest_neighbours(client, "things", unit_vectors(1), filter='path >= "a_b/" and path < "a_b0"')[0]
    assert sorted(row["path"] for row in found) == ["a_b/1.jpg", "a_b/c/2.jpg"]


def test_filter_delete_and_drop(client: MilvusClient) -> None:
    info = create(client)
    insert_items(client, info, items(30), unit_vectors(30))
    found = nearest_neighbours(client, "things", unit_vectors(1), top_k=20, filter='label == "1"')[0]
    assert sorted(row["path"] for row in found) == [f"1/{n:05}.jpg" for n in range(1, 30, 3)]
    delete_items(client, "things", [item_id("1/00001.jpg"), item_id("not/there.jpg")])
    assert count_items(client, "things") == 29
    drop_collection(client, "things")
    assert list_collections(client) == []


def test_a_missing_collection_is_named_with_those_that_there_are(client: MilvusClient) -> None:
    with pytest.raises(CollectionNotFound, match="no collection 'cats'; `lookalike load DIR` makes the first"):
        describe_collection(client, "cats")
    create(client)
    with pytest.raises(CollectionNotFound, match="no collection 'cats'; there are: things"):
        nearest_neighbours(client, "cats", unit_vectors(1))


def test_a_collection_of_somebody_else_is_left_alone(client: MilvusClient) -> None:
    client.create_collection("theirs", dimension=4)
    assert list_collections(client) == []
    with pytest.raises(CollectionNotFound, match="not made by Lookalike"):
        describe_collection(client, "theirs")


@pytest.mark.parametrize("top_k", [0, -1, 16_385])
def test_top_k_out_of_range(client: MilvusClient, top_k: int) -> None:
    create(client)
    with pytest.raises(InvalidArgument, match=f"A top-k of {top_k} cannot be had; Milvus returns from 1 to 16,384"):
        nearest_neighbours(client, "things", unit_vectors(1), top_k=top_k)


def test_the_largest_top_k(client: MilvusClient) -> None:
    info = create(client)
    insert_items(client, info, items(30), unit_vectors(30))
    assert len(nearest_neighbours(client, "things", unit_vectors(1), top_k=16_384)[0]) == 30


def test_an_unreadable_filter(client: MilvusClient) -> None:
    create(client)
    with pytest.raises(InvalidArgument, match="filter 'label = ' cannot be applied"):
        nearest_neighbours(client, "things", unit_vectors(1), filter="label = ")


def test_vectors_of_another_length(client: MilvusClient) -> None:
    create(client)
    with pytest.raises(InvalidArgument, match="holds vectors of 8 dimensions"):
        nearest_neighbours(client, "things", unit_vectors(1, 9))


def test_creating_again_confirms_or_refuses(lite: MilvusClient) -> None:
    first = create(lite)
    assert create(lite) == first
    other = Fingerprint("resnet50", "b" * 32, "as it is", DIMENSION)
    with pytest.raises(EmbedderMismatch, match=r"weights aaaaaaaa; vectors of .*weights bbbbbbbb"):
        create_collection(lite, "things", dimension=DIMENSION, fingerprint=other)
    with pytest.raises(InvalidArgument, match="compares by COSINE, not L2"):
        create(lite, metric="l2")
    with pytest.raises(InvalidArgument, match="holds the tree '/photos', not '/other'"):
        create_collection(lite, "things", dimension=DIMENSION, fingerprint=FINGERPRINT, root="/other")


@pytest.mark.parametrize("name", ["", "1st", "with space", "a-b", "a/b", "é", "a" * 201])
def test_names_that_a_server_would_refuse(lite: MilvusClient, name: str) -> None:
    with pytest.raises(InvalidArgument, match="is no name for a collection"):
        create(lite, name)


def test_metrics_and_dimensions_that_cannot_be(lite: MilvusClient) -> None:
    with pytest.raises(InvalidArgument, match="no metric 'hamming'; choose one of cosine, l2, ip"):
        create(lite, metric="hamming")
    with pytest.raises(InvalidArgument, match="1280 dimensions do not come from resnet50, 2048 dimensions"):
        create_collection(lite, "things", dimension=1280)


def test_insert_embeddings_writes_milvus_and_the_id_map(
    client: MilvusClient, settings: Settings, colour_tree: Path
) -> None:
    create_collection(client, "colours", dimension=3, fingerprint=MeanColour.fingerprint)
    paths = [str(colour_tree / "red/red_0.png"), str(colour_tree / "blue/blue_1.png"), str(colour_tree / "gone.png")]
    ids = insert_embeddings(client, "colours", np.eye(3), paths, settings=settings)
    assert ids == [item_id("red/red_0.png"), item_id("blue/blue_1.png"), item_id("gone.png")]
    assert describe_collection(client, "colours").root == colour_tree
    rows = IdMap(settings.id_map_path("colours")).read()
    assert dict(zip(rows["id"], rows["width"], strict=True)) == dict(zip(ids, [20, 21, 0], strict=True))
    again = insert_embeddings(client, "colours", np.eye(3), paths, settings=settings)
    assert again == ids
    assert len(settings.id_map_path("colours").read_text().splitlines()) == 4
    best = nearest_neighbours(client, "colours", np.eye(3)[1:2], top_k=1)[0][0]
    assert (best["path"], best["label"], best["width"]) == ("blue/blue_1.png", "blue", 21)


def test_of_a_path_that_comes_twice_the_last_embedding_is_kept(client: MilvusClient, settings: Settings) -> None:
    create_collection(client, "colours", dimension=3, fingerprint=MeanColour.fingerprint, root="/photos")
    ids = insert_embeddings(client, "colours", np.eye(3), ["/photos/a", "/photos/b", "/photos/a"], settings=settings)
    assert ids == [item_id("a"), item_id("b"), item_id("a")]
    assert count_items(client, "colours") == 2
    assert nearest_neighbours(client, "colours", np.eye(3)[2:], top_k=1)[0][0]["path"] == "a"


def test_the_first_embedder_with_known_weights_settles_a_collection_that_knew_none(lite: MilvusClient) -> None:
    create_collection(lite, "things", dimension=2048)
    stated = [replace(unstated_fingerprint("resnet50"), weights_digest=digit * 32) for digit in "12"]
    create_collection(lite, "things", dimension=2048, fingerprint=stated[0])
    assert describe_collection(lite, "things").fingerprint == stated[0]
    create_collection(lite, "things", dimension=2048)
    with pytest.raises(EmbedderMismatch, match=r"weights 11111111; vectors of .*weights 22222222"):
        create_collection(lite, "things", dimension=2048, fingerprint=stated[1])


def test_a_refused_insert_leaves_the_root_open(lite: MilvusClient, settings: Settings) -> None:
    create_collection(lite, "colours", dimension=3, fingerprint=MeanColour.fingerprint)
    with pytest.raises(InvalidArgument, match="outside '/photos'"):
        insert_embeddings(lite, "colours", np.eye(3)[:1], ["/elsewhere/a"], root="/photos", settings=settings)
    assert describe_collection(lite, "colours").root is None
    insert_embeddings(lite, "colours", np.eye(3)[:1], ["/elsewhere/a"], root="/elsewhere", settings=settings)
    move_root(lite, describe_collection(lite, "colours"), "/moved")
    assert describe_collection(lite, "colours").root == Path("/moved")


def test_more_queries_than_one_message_takes(client: MilvusClient, monkeypatch: pytest.MonkeyPatch) -> None:
    info = create(client)
    insert_items(client, info, items(30), unit_vectors(30))
    monkeypatch.setattr("utilities.milvus_search.MESSAGE_BYTES", 7 * 4 * DIMENSION)
    found = nearest_neighbours(client, info, unit_vectors(30), top_k=1)
    assert [rows[0]["width"] for rows in found] == list(range(30))
    assert nearest_neighbours(client, info, np.empty((0, DIMENSION))) == []


def test_insert_embeddings_sees_relative_paths_from_the_working_directory(
    lite: MilvusClient, settings: Settings, colour_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(colour_tree.parent)
    create_collection(lite, "colours", dimension=3, fingerprint=MeanColour.fingerprint, root="colours")
    ids = insert_embeddings(lite, "colours", np.eye(3)[:1], ["colours/red/red_0.png"], settings=settings)
    assert ids == [item_id("red/red_0.png")]


def test_insert_embeddings_refuses_what_does_not_fit(lite: MilvusClient, settings: Settings) -> None:
    create_collection(lite, "colours", dimension=3, fingerprint=MeanColour.fingerprint, root="/photos")
    with pytest.raises(InvalidArgument, match=r"2 paths .* need embeddings of shape \(2, 3\), not \(3, 3\)"):
        insert_embeddings(lite, "colours", np.eye(3), ["/photos/a", "/photos/b"], settings=settings)
    with pytest.raises(InvalidArgument, match="not finite"):
        insert_embeddings(lite, "colours", np.full((1, 3), np.nan), ["/photos/a"], settings=settings)
    with pytest.raises(InvalidArgument, match="'/elsewhere/a' lies outside '/photos'"):
        insert_embeddings(lite, "colours", np.eye(3)[:1], ["/elsewhere/a"], settings=settings)
    assert insert_embeddings(lite, "colours", np.empty((0, 3)), [], settings=settings) == []
    assert count_items(lite, "colours") == 0


def test_the_embedded_database_remembers(settings: Settings, tmp_path: Path) -> None:
    script = tmp_path / "load.py"
    script.write_text(
        "import numpy as np, sys\n"
        "from tests.test_milvus_utilities import create, items, unit_vectors\n"
        "from utilities.milvus_utilities import connect, insert_items\n"
        "client = connect(sys.argv[1])\n"
        "insert_items(client, create(client), items(20), unit_vectors(20))\n"
    )
    subprocess.run([sys.executable, script, settings.database_uri], check=True, cwd=REPOSITORY, env={"PYTHONPATH": "."})
    client = connect(settings=settings)
    try:
        found = nearest_neighbours(client, "things", unit_vectors(20), top_k=1)
        assert [rows[0]["width"] for rows in found] == list(range(20))
    finally:
        client.close()


def test_no_server(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnreachable, match=r"No Milvus server answers at .*docker compose up -d"):
        connect("http://127.0.0.1:1")


def test_an_embedded_database_that_another_process_holds(settings: Settings) -> None:
    settings.home.mkdir()
    script = "import sys; from utilities.milvus_utilities import connect; connect(sys.argv[1]); print('up'); input()"
    with subprocess.Popen(
        [sys.executable, "-u", "-c", script, settings.database_uri],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=REPOSITORY,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"up\n"
        with pytest.raises(DatabaseLocked, match="open in another process; end that process"):
            connect(settings=settings)
        holder.communicate(b"\n")
    connect(settings=settings).close()


@pytest.mark.parametrize("uri", ["milvus", "foo://bar"])
def test_an_address_that_is_none(uri: str) -> None:
    with pytest.raises(InvalidArgument, match=rf"MILVUS_URI is '{uri}'; give http://HOST:PORT or the path of a \.db"):
        connect(uri)


def test_an_address_with_a_bad_port() -> None:
    with pytest.raises(InvalidArgument, match="'http://localhost:notaport', which is no address"):
        connect("http://localhost:notaport")


def test_the_embedded_database_is_reached_past_a_proxy(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "import sys; from utilities.milvus_utilities import connect; print(connect(sys.argv[1]).list_collections())"
    )
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "grpc_proxy"), "http://127.0.0.1:1")
    result = subprocess.run(
        [sys.executable, "-c", script, settings.database_uri],
        env={**os.environ, **proxies},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "[]\n"


def test_an_embedded_database_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file where a folder should be")
    with pytest.raises(DatabaseError, match="cannot be opened"):
        connect(str(tmp_path / "home" / "milvus.db"))
    (tmp_path / "milvus.db").write_text("not a database")
    with pytest.raises(DatabaseError, match="cannot be opened"):
        connect(str(tmp_path / "milvus.db"))
