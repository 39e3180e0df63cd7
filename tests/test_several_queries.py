"""Like these, not like those: by a combined vector, and by fused rankings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pymilvus import MilvusClient

from pipelines import load, query
from tests.clusters import clustered, insert_clusters, unit
from tests.conftest import MeanColour
from utilities.collection_info import unstated_fingerprint
from utilities.errors import InvalidArgument
from utilities.faces import FACE_ATTRIBUTES
from utilities.image_files import ImageSource
from utilities.items import Item, item_id
from utilities.milvus_utilities import create_collection, insert_items
from utilities.plots import mosaic
from utilities.selections import Selection
from utilities.settings import Settings
from utilities.several_queries import TOGETHER, Together, combined_vector, fused_rankings
from utilities.similar_images import matches_of_several, search, similar_images
from utilities.videos import Sampling

QUERIES = clustered(seed=1)[0][[0, 1, 40]]


def test_a_combined_vector_is_the_mean_less_half_of_what_is_not_wanted(client: MilvusClient) -> None:
    info, vectors, items = insert_clusters(client)
    matches = matches_of_several(client, info, QUERIES, Selection(30), Together("vector", 1))
    combined = unit(QUERIES[:2].mean(axis=0) - QUERIES[2] / 2)
    expected = np.argsort(-(vectors @ combined))[:30]
    assert [match.path for match in matches] == [items[row].path for row in expected]
    assert matches[0].similarity == pytest.approx(float(vectors[expected[0]] @ combined), abs=1e-5)
    # Of one long picture the combined vector is as long as it is.
    (same,) = combined_vector(info, 7 * QUERIES[:1], QUERIES[:0])[None]
    np.testing.assert_allclose(same, 7 * QUERIES[0], rtol=1e-5)


def test_fused_rankings_are_the_mean_of_reciprocal_ranks(client: MilvusClient) -> None:
    info, vectors, items = insert_clusters(client)
    ranks = (-(QUERIES @ vectors.T)).argsort(axis=1).argsort(axis=1) + 1  # (3, n)
    scores = (1 / (60 + ranks[:2])).mean(axis=0) - 0.5 / (60 + ranks[2])
    expected = np.argsort(-scores, kind="stable")
    matches = matches_of_several(client, info, QUERIES, Selection(30), Together("ranks", 1))
    assert [match.fused for match in matches] == pytest.approx(list(scores[expected[:30]]))
    assert [match.path for match in matches[:10]] == [items[row].path for row in expected[:10]]
    assert (matches[0].similarity, matches[0].distance) == (None, None)
    with pytest.raises(InvalidArgument, match="fused rankings go no further than the first 1,000"):
        matches_of_several(client, info, QUERIES, Selection(10, offset=991), Together("ranks", 1))
    page = matches_of_several(client, info, QUERIES, Selection(10, offset=5), Together("ranks", 1))
    assert page == matches[5:15]
    grouped = matches_of_several(client, info, QUERIES, Selection(30, group_by="label"), Together("ranks", 1))
    assert [match.label for match in grouped] == list(dict.fromkeys(items[row].label for row in expected))


def test_pictures_that_meet_two_faces_of_one_image_meet_one_image(lite: MilvusClient) -> None:
    info = create_collection(
        lite, "people", dimension=128, fingerprint=unstated_fingerprint("dlib"), root="/photos", columns=()
    )
    directions = {("x.jpg", "1"): (1, 0.2), ("x.jpg", "2"): (1, -0.2), ("y.jpg", "1"): (1, 0)}
    directions |= {(f"z{number}.jpg", "1"): (1, 0.6 + number / 10) for number in range(5)}
    items = [
        Item(item_id(path, part), path, part, "photos", 10, 10, 0, 0, attributes=dict.fromkeys(FACE_ATTRIBUTES, 0.1))
        for path, part in directions
    ]
    vectors = np.zeros((len(items), 128), np.float32)
    vectors[:, :2] = list(directions.values())
    insert_items(lite, info, items, vectors)
    queries = np.zeros((2, 128), np.float32)
    queries[:, :2] = [(1, 0.25), (1, -0.25)]
    for by in TOGETHER:
        found = matches_of_several(lite, info, queries, Selection(5), Together(by))
        assert [match.path for match in found[:2]] == (["x.jpg", "y.jpg"] if by == "ranks" else ["y.jpg", "x.jpg"])
        assert len({match.path for match in found}) == 5
    one, other = ({"path": "x", "part": part} for part in "12")
    (row,) = fused_rankings([[{"path": "y"}, one], [other]], [], "path")[:1]
    assert row == {**other, "score": pytest.approx((1 / 62 + 1 / 61) / 2)}


def test_an_item_that_a_ranking_does_not_name_gets_nothing_from_it() -> None:
    a, b, c = ({"id": number} for number in range(3))
    fused = fused_rankings([[a, b], [b, c]], [[c]])
    assert [row["id"] for row in fused] == [1, 0, 2]
    assert fused[0]["score"] == pytest.approx((1 / 62 + 1 / 61) / 2)
    assert fused[2]["score"] == pytest.approx(1 / 62 / 2 - 0.5 / 61)


@pytest.mark.parametrize("by", ["vector", "ranks"])
def test_pictures_of_two_colours_without_a_third(
    by: str, colour_tree: Path, embedder: MeanColour, settings: Settings, lite: MilvusClient
) -> None:
    load.run(colour_tree, embedder=embedder, settings=settings, progress=False)
    purple = Image.new("RGB", (8, 8), (160, 0, 160))
    red, blue = (colour_tree / f"{colour}/{colour}_0.png" for colour in ("red", "blue"))
    for picture in (red, blue):
        places = []
        for unlike in (0, 1):
            together = Together(by, unlike)
            (answer,) = search([purple, picture], "colours", together=together, embedder=embedder, settings=settings)
            assert (answer.query, answer.faces, answer.face) == (0, [], None)
            places.append([match.label for match in answer.matches].index(picture.parent.name))
        assert places[0] < places[1]
    refused: list[tuple[list[ImageSource], str, str]] = [
        ([purple, "clip.mp4"], "colours", "clip.mp4 is a video; several pictures are one query, without clips"),
        ([purple, red], "films", "'films' holds videos, where each query is searched for by itself"),
    ]
    create_collection(
        lite, "films", dimension=3, fingerprint=embedder.fingerprint, root=colour_tree, sampling=Sampling()
    )
    for pictures, name, said in refused:
        with pytest.raises(InvalidArgument, match=said):
            search(pictures, name, together=Together(by), embedder=embedder, settings=settings)


@pytest.mark.parametrize(
    ("together", "said"),
    [(Together("mean"), "choose one of vector, ranks"), (Together("vector", 3), "Nothing is wanted")],
)
def test_what_cannot_be_one_query_is_refused(lite: MilvusClient, together: Together, said: str) -> None:
    info, _, _ = insert_clusters(lite)
    with pytest.raises(InvalidArgument, match=said):
        matches_of_several(lite, info, QUERIES, Selection(), together)
    with pytest.raises(InvalidArgument, match="fused rankings have no similarity"):
        matches_of_several(lite, info, QUERIES, Selection(min_similarity=0.1), Together("ranks"))


def test_the_command_says_how_pictures_were_one_query(lookalike, colour_tree: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    loaded = lookalike("load", str(colour_tree), "--backbone", "mobilenetv2", "--weights", "random")
    assert loaded.returncode == 0, loaded.stderr
    red, yellow, grey = (str(colour_tree / f"{colour}/{colour}_0.png") for colour in ("red", "yellow", "grey"))
    plot = tmp_path / "plots" / "several.png"
    said = lookalike("query", red, yellow, "--not", grey, "--plot", str(plot))
    assert f"query: {red} and {yellow}, not {grey}, by a combined vector" in said.stdout, said.stderr
    assert plot.exists()
    answers = [
        json.loads(lookalike("query", red, yellow, "--together", "vector", *more, "--json").stdout)["matches"]
        for more in ((), ("--not", grey))
    ]
    assert [match["similarity"] for match in answers[0]] != [match["similarity"] for match in answers[1]]
    said = lookalike("query", red, yellow, "--together", "ranks", "--json", "--top-k", "2")
    answer = json.loads(said.stdout)
    assert (answer["query"], answer["not"], answer["together"]) == ([red, yellow], [], "ranks")
    assert {"rank", "fused", "path"} <= {*answer["matches"][0]}
    assert "similarity" not in answer["matches"][0]
    said = lookalike("query", red, "--expand", "3", "--rerank", "reciprocal")
    assert "similarity: to the query, moved towards its 3 nearest neighbours\n" in said.stdout
    assert "order: re-ranked by reciprocal, so that similarity need not fall\n" in said.stdout
    for arguments, status, words in (
        (("--not", grey, "--face", "1"), 2, "leave it out with --not and --together"),
        (("--together", "both"), 2, "choose one of vector, ranks"),
        (("--using", "mobilenetv2=much"), 2, "give every network a weight"),
    ):
        refused = lookalike("query", red, *arguments)
        assert refused.returncode == status
        assert words in refused.stderr
        assert "Traceback" not in refused.stderr


def test_what_matches_are_not_to_be_like_is_crossed_out() -> None:
    white, blue = Image.new("RGB", (300, 300), "white"), Image.new("RGB", (300, 300), "blue")
    picture = np.asarray(mosaic([white, blue], [blue, white]))
    red = (picture == (0xC0, 0x18, 0x18)).all(axis=-1)
    half = len(red) // 2
    assert not red[:half].any()
    assert red[half:, :half].any()
    assert red[half:, half:].any()


def test_a_selection_has_its_own_number_and_filter(colour_tree: Path, lite: MilvusClient) -> None:
    with pytest.raises(InvalidArgument, match="stand beside a selection"):
        similar_images(colour_tree / "red/red_0.png", "colours", 5, selection=Selection(expand=3), client=lite)


def test_a_result_is_called_by_its_pictures() -> None:
    result = query.QueryResult(("a.jpg", "b\n.jpg"), [], ("c.jpg", "d.jpg"), "vector")
    assert result.called == "a.jpg and b\\n.jpg, not c.jpg or d.jpg"
