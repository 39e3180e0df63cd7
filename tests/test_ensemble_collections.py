"""A collection of several networks: one pass fills a field for each, and their rankings are fused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pymilvus import MilvusClient

from pipelines import evaluate, load, manage
from pipelines.printing import print_state, state_as_json
from tests.clusters import unit
from tests.conftest import MeanColour
from utilities.collection_info import CollectionInfo
from utilities.embedder import Embedder
from utilities.ensembles import Ensemble
from utilities.errors import EmbedderMismatch, InvalidArgument
from utilities.image_to_vec import embed_images
from utilities.items import item_id
from utilities.milvus_utilities import (
    create_collection,
    current_index,
    describe_collection,
    insert_embeddings,
    read_embeddings,
    read_items,
)
from utilities.reranking import expanded, reciprocal_order
from utilities.selections import Selection
from utilities.settings import Settings
from utilities.several_queries import TOGETHER, Together
from utilities.similar_images import Match, matches_of_several, nearest_matches, search


class MeanSquare(MeanColour):
    """Embeds an image as the mean squares of its channels, and their product: other neighbours than `MeanColour`'s."""

    fingerprint = replace(MeanColour.fingerprint, backbone="mean_square", dimension=4)
    dimension = 4

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        squares = ((pixels / 255.0) ** 2).mean(axis=(1, 2))
        vectors = np.concatenate([squares, squares.prod(axis=1, keepdims=True) + 0.3], axis=1)
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


MEMBERS: tuple[Embedder, Embedder] = (MeanColour(), MeanSquare())
ENSEMBLE = Ensemble(MEMBERS)


@pytest.fixture
def ask(colour_tree: Path, settings: Settings, lite: MilvusClient) -> Callable[..., list[Match]]:
    """Searches the colour tree, loaded by both, with its first red image."""
    load.run(colour_tree, embedder=ENSEMBLE, settings=settings, progress=False)

    def asked(embedder: Embedder = ENSEMBLE, **wishes: object) -> list[Match]:
        selection = Selection(**{"top_k": 15, **wishes})  # type: ignore[arg-type]
        query = colour_tree / "red" / "red_0.png"
        (answer,) = search([query], "colours", selection, client=lite, embedder=embedder, settings=settings)
        return answer.matches

    return asked


def similarities(client: MilvusClient, tree: Path) -> tuple[list[str], NDArray[np.float32]]:
    """Paths, and (2, n) cosines of each network with the first red image, from what Milvus holds."""
    items = read_items(client, "colours")
    vectors = read_embeddings(client, describe_collection(client, "colours"), items["id"].to_numpy(np.int64))
    query = embed_images([tree / "red" / "red_0.png"], ENSEMBLE)[0]
    parts = [slice(0, 3), slice(3, 7)]
    # Read vectors are of length 1 as a whole, so that each network's are of length 1 / √2.
    return items["path"].tolist(), np.stack([vectors[:, part] @ query[part] for part in parts]) * np.sqrt(2)


def test_the_fields_hold_what_each_network_makes(
    ask: Callable[..., list[Match]], colour_tree: Path, lite: MilvusClient
) -> None:
    info = describe_collection(lite, "colours")
    assert info.vector_fields == ("embedding_mean_colour", "embedding_mean_square")
    assert info.fingerprints == (MEMBERS[0].fingerprint, MEMBERS[1].fingerprint)
    assert (info.dimension, current_index(lite, info)) == (7, "flat")
    row = lite.query("colours", 'path == "red/red_1.png"', output_fields=[*info.vector_fields])[0]
    for field, member in zip(info.vector_fields, MEMBERS, strict=True):
        np.testing.assert_allclose(row[field], embed_images([colour_tree / "red" / "red_1.png"], member)[0], atol=1e-6)


def test_what_is_said_of_it_is_said_of_each_network(
    ask: Callable[..., list[Match]], settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    state = manage.info("colours", settings)
    said = state_as_json(state)
    assert said["dimension"] == 7
    assert [each["backbone"] for each in said["networks"]] == ["mean_colour", "mean_square"]
    assert "backbone" not in said
    print_state(state)
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["backbone", "2", "mean_square"] in shown


def test_rankings_are_fused_by_reciprocal_rank(
    ask: Callable[..., list[Match]], colour_tree: Path, lite: MilvusClient
) -> None:
    paths, each = similarities(lite, colour_tree)
    assert [*(-each[0]).argsort()] != [*(-each[1]).argsort()]
    ranks = (-each).argsort(axis=1, kind="stable").argsort(axis=1) + 1
    fused = dict(zip(paths, (1 / (60 + ranks)).sum(axis=0), strict=True))
    matches = ask()
    assert (matches[0].path, matches[0].similarity) == ("red/red_0.png", None)
    # Shades of one colour are all but the same to one of the networks: ranks may be exchanged there.
    assert [match.fused for match in matches] == pytest.approx(sorted(fused.values(), reverse=True), abs=2e-3)
    assert len({match.path for match in matches}) == 15


def test_weighted_rankings_are_the_weighted_sum_of_similarities(
    ask: Callable[..., list[Match]], colour_tree: Path, lite: MilvusClient
) -> None:
    paths, each = similarities(lite, colour_tree)
    expected = dict(zip(paths, (np.array([0.2, 0.8]) @ (1 + each) / 2), strict=True))
    matches = ask(using=("mean_colour", "mean_square"), weights=(0.2, 0.8))
    assert {match.path: match.fused for match in matches} == pytest.approx(expected, abs=1e-4)
    assert [match.fused for match in matches] == sorted((match.fused for match in matches), reverse=True)  # type: ignore[type-var]


def test_some_networks_answer_alone(ask: Callable[..., list[Match]], colour_tree: Path, lite: MilvusClient) -> None:
    paths, each = similarities(lite, colour_tree)
    for number, member in enumerate(MEMBERS):
        matches = ask(member, using=(member.fingerprint.backbone.upper(),))
        expected = dict(zip(paths, each[number], strict=True))
        assert {match.path: match.similarity for match in matches} == pytest.approx(expected, abs=1e-4)
    with pytest.raises(EmbedderMismatch, match=r"mean_colour.* and mean_square"):
        ask(MEMBERS[0])
    with pytest.raises(InvalidArgument, match="several networks, whose rankings are fused"):
        ask(min_similarity=0.5)


def test_pages_groups_and_filters_go_with_fusion(ask: Callable[..., list[Match]]) -> None:
    whole = ask()
    assert [*ask(top_k=5), *ask(top_k=10, offset=5)] == whole
    assert len(ask(group_by="label")) == 5
    assert {match.label for match in ask(filter='label == "blue"')} == {"blue"}
    with pytest.raises(InvalidArgument, match="measures have nothing to vote on"):
        ask(rerank="measures")
    with pytest.raises(InvalidArgument, match="each needs a weight from 0 to 1"):
        ask(weights=(0.5, 2))
    with pytest.raises(InvalidArgument, match="not all of them 0"):
        ask(weights=(0, 0))


def insert_random(client: MilvusClient, settings: Settings, count: int) -> tuple[CollectionInfo, NDArray[np.float32]]:
    """An ensemble's collection of random vectors, and these, (count, 7), of all lengths."""
    first, second = (member.fingerprint for member in MEMBERS)
    create_collection(client, "things", dimension=7, fingerprint=first, others=(second,))
    vectors = np.random.default_rng(0).standard_normal((count, 7)).astype(np.float32)
    paths = [f"/photos/{number}.jpg" for number in range(count)]
    insert_embeddings(client, "things", vectors, paths, settings=settings)
    return describe_collection(client, "things"), vectors


def parts(vectors: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Those of each network, of length 1."""
    return [unit(vectors[..., :3]), unit(vectors[..., 3:])]


def fused(queries: list[NDArray[np.float32]], vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """What reciprocal ranks come to, (n,)."""
    cosines = [own @ query for query, own in zip(queries, parts(vectors), strict=True)]
    return sum(1 / (60 + (-each).argsort().argsort() + 1) for each in cosines)  # type: ignore[return-value]


def test_each_network_expands_its_own_query(lite: MilvusClient, settings: Settings) -> None:
    info, vectors = insert_random(lite, settings, 80)
    queries = [each[0] for each in parts(vectors)]
    near = (-fused(queries, vectors)).argsort(kind="stable")[:3]
    moved = [unit(expanded(query, own[near])) for query, own in zip(queries, parts(vectors), strict=True)]
    (matches,) = nearest_matches(lite, info, vectors[:1], Selection(20, expand=3))
    expected = np.sort(fused(moved, vectors))[::-1][:20]
    assert [match.fused for match in matches] == pytest.approx(expected.tolist(), abs=1e-6)
    assert not np.allclose(expected, np.sort(fused(queries, vectors))[::-1][:20], atol=1e-6)


@pytest.mark.parametrize("weights", [(), (0.9, 0.1)])
def test_the_first_are_reranked_by_the_mean_of_the_networks(
    lite: MilvusClient, settings: Settings, weights: tuple[float, ...]
) -> None:
    info, vectors = insert_random(lite, settings, 80)
    count = np.sqrt(weights or (1, 1))
    balanced = np.concatenate([root * own for root, own in zip(count, parts(vectors), strict=True)], axis=1)
    order = reciprocal_order(balanced[0], balanced)
    (matches,) = nearest_matches(lite, info, vectors[:1], Selection(20, rerank="reciprocal", weights=weights))
    assert [match.path for match in matches] == [f"{row}.jpg" for row in order[:20]]


def test_each_network_counts_alike_where_all_are_compared(lite: MilvusClient, settings: Settings) -> None:
    info, vectors = insert_random(lite, settings, 20)
    ids = np.array([item_id(f"{number}.jpg") for number in range(20)])
    read = read_embeddings(lite, info, ids)
    cosines = sum(own @ own.T for own in parts(vectors)) / 2
    np.testing.assert_allclose(read @ read.T, cosines, atol=1e-5)


@pytest.mark.parametrize("metric", ["L2", "IP"])
def test_any_metric_will_do(colour_tree: Path, settings: Settings, lite: MilvusClient, metric: str) -> None:
    load.run(colour_tree, embedder=ENSEMBLE, metric=metric, settings=settings, progress=False)
    query = colour_tree / "red" / "red_0.png"
    for weights in ((), (0.5, 0.5)):
        selection = Selection(15, weights=weights)
        (answer,) = search([query], "colours", selection, client=lite, embedder=ENSEMBLE, settings=settings)
        assert answer.matches[0].path == "red/red_0.png"
        assert len(answer.matches) == 15


def test_a_later_load_takes_the_same_networks(
    ask: Callable[..., list[Match]], colour_tree: Path, settings: Settings, tmp_path: Path
) -> None:
    (colour_tree / "red" / "red_0.png").rename(colour_tree / "red" / "new.png")
    summary = load.run(colour_tree, embedder=ENSEMBLE, settings=settings, progress=False)
    assert (summary.inserted, summary.unchanged, summary.items) == (1, 14, 16)
    with pytest.raises(EmbedderMismatch, match="mean_colour and mean_square, not of resnet50"):
        load.run(colour_tree, backbone="resnet50", settings=settings, progress=False)
    with pytest.raises(EmbedderMismatch, match="cannot be compared"):
        load.run(colour_tree, embedder=MEMBERS[0], settings=settings, progress=False)
    evaluation = evaluate.run("colours", out=tmp_path, settings=settings, progress=False)
    assert evaluation.figures["precision@1"].mean > 0.5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"backbone": ["vgg16", "VGG16"]}, "vgg16 is given twice"),
        ({"backbone": ["vgg16", "dlib"]}, "Several networks are for images"),
        ({"backbone": [""]}, "There is no backbone ''"),
        ({"backbone": "vgg16=~/none.h5"}, f"no weights file '{Path.home()}/none.h5'"),
        (
            {"backbone": ["vgg16=a.h5", "resnet50=b.h5"], "weights": "c.h5"},
            "Each --backbone names its own weights; --weights c.h5 would be of none",
        ),
        ({"backbone": ["vgg16", "resnet50"], "what": "videos"}, "Several networks are for images"),
    ],
)
def test_what_is_no_ensemble_is_refused(
    colour_tree: Path, settings: Settings, arguments: dict[str, object], said: str
) -> None:
    with pytest.raises(InvalidArgument, match=said):
        load.run(colour_tree, settings=settings, progress=False, **arguments)  # type: ignore[arg-type]


def test_python_inserts_vectors_side_by_side(lite: MilvusClient, settings: Settings) -> None:
    first, second = (member.fingerprint for member in MEMBERS)
    create_collection(lite, "things", dimension=7, fingerprint=first, others=(second,))
    vectors = np.random.default_rng(0).random((5, 7), np.float32)
    ids = insert_embeddings(lite, "things", vectors, [f"/photos/{n}.jpg" for n in range(5)], settings=settings)
    row = lite.query("things", f"id == {ids[3]}", output_fields=["embedding_mean_colour", "embedding_mean_square"])[0]
    np.testing.assert_allclose([*row["embedding_mean_colour"], *row["embedding_mean_square"]], vectors[3], rtol=1e-6)
    with pytest.raises(InvalidArgument, match="do not come from"):
        create_collection(lite, "others", dimension=3, fingerprint=first, others=(second,))


def test_a_server_that_is_too_old_says_what_it_lacks(
    server: MilvusClient, milvus_server: str, colour_tree: Path, settings: Settings
) -> None:
    with pytest.raises(InvalidArgument, match=r"version 2\.3\.5.*, which has one vector field.*no hybrid.* 2\.4"):
        load.run(colour_tree, embedder=ENSEMBLE, settings=replace(settings, milvus_uri=milvus_server), progress=False)
    assert server.list_collections() == []


def test_an_ensemble_that_outgrows_its_first_index_gets_another(lite: MilvusClient, settings: Settings) -> None:
    first, second = (member.fingerprint for member in MEMBERS)
    create_collection(lite, "things", dimension=7, fingerprint=first, others=(second,))
    vectors = np.random.default_rng(0).random((200, 7), np.float32)
    paths = [f"/photos/{number}.jpg" for number in range(200)]
    for _ in range(2):
        insert_embeddings(lite, "things", vectors, paths, settings=settings)
        info = describe_collection(lite, "things")
        assert current_index(lite, info) == "ivf_flat"
    assert len(nearest_matches(lite, info, vectors[:1], Selection(50))[0]) == 50


def test_pages_of_fused_rankings_fit_together(lite: MilvusClient, settings: Settings) -> None:
    info, vectors = insert_random(lite, settings, 1_200)
    (whole,) = nearest_matches(lite, info, vectors[:1], Selection(600))
    pages = [nearest_matches(lite, info, vectors[:1], Selection(100, offset=each))[0] for each in range(0, 600, 100)]
    assert [match for page in pages for match in page] == whole
    with pytest.raises(InvalidArgument, match="fused rankings go no further than the first 1,000"):
        nearest_matches(lite, info, vectors[:1], Selection(100, offset=950))
    assert len(nearest_matches(lite, info, vectors[:1], Selection(20, group_by="label"))[0]) == 1
    for by in TOGETHER:
        together = Together(by, 1)
        whole = matches_of_several(lite, info, vectors[:3], Selection(600), together)
        pages = [
            matches_of_several(lite, info, vectors[:3], Selection(100, offset=each), together)
            for each in range(0, 600, 100)
        ]
        assert [match for page in pages for match in page] == whole
