"""What a selection asks for is what comes, in the order of a comparison with everything."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pymilvus import MilvusClient

from tests.clusters import clustered, insert_clusters
from utilities.errors import InvalidArgument
from utilities.reranking import expanded, reciprocal_order
from utilities.selections import Selection
from utilities.similar_images import nearest_matches

QUERY = clustered(seed=1)[0][:3]


@pytest.mark.parametrize("metric", ["COSINE", "L2", "IP"])
def test_an_expanded_query_finds_what_lies_near_its_neighbours(client: MilvusClient, metric: str) -> None:
    info, vectors, items = insert_clusters(client, metric=metric)
    for query, matches in zip(QUERY, nearest_matches(client, info, QUERY, Selection(20, expand=10)), strict=True):
        near = vectors[np.argsort(-(vectors @ query))[:10]]
        moved = expanded(query, near)
        expected = np.argsort(-(vectors @ moved))[:20]
        assert [match.path for match in matches] == [items[row].path for row in expected]
        score = float(vectors[expected[0]] @ moved)
        assert matches[0].score == pytest.approx(score if metric != "L2" else np.sqrt(2 - 2 * score), abs=1e-4)


def test_the_first_hundred_are_reranked_and_pages_fit_together(client: MilvusClient) -> None:
    info, vectors, items = insert_clusters(client)
    first = np.argsort(-(vectors @ QUERY[0]), kind="stable")
    order = [*first[:100][reciprocal_order(QUERY[0], vectors[first[:100]])], *first[100:]]
    (whole,) = nearest_matches(client, info, QUERY[:1], Selection(150, rerank="reciprocal"))
    assert [match.path for match in whole] == [items[row].path for row in order[:150]]
    assert [match.rank for match in whole] == list(range(1, 151))
    assert whole[0].similarity == pytest.approx(float(vectors[order[0]] @ QUERY[0]), abs=1e-5)
    page = Selection(15, offset=90, rerank="reciprocal")
    assert nearest_matches(client, info, QUERY[:1], page)[0] == whole[90:105]


def test_groups_filters_and_the_least_similarity(client: MilvusClient) -> None:
    info, vectors, items = insert_clusters(client)
    similarities = vectors @ QUERY[0]
    nearest = [items[row] for row in np.argsort(-similarities)]
    folders = list(dict.fromkeys(item.label for item in nearest))
    for field in ("folder", "label"):
        (matches,) = nearest_matches(client, info, QUERY[:1], Selection(20, group_by=field))
        assert [match.label for match in matches] == folders
    (matches,) = nearest_matches(client, info, QUERY[:1], Selection(3, offset=2, group_by="folder"))
    assert [(match.rank, match.label) for match in matches] == list(enumerate(folders, start=1))[2:5]
    least = float(np.sort(similarities)[-7])
    (matches,) = nearest_matches(client, info, QUERY[:1], Selection(50, min_similarity=least - 1e-6))
    assert len(matches) == 7
    (matches,) = nearest_matches(
        client, info, QUERY[:1], Selection(50, min_similarity=least - 1e-6, rerank="diffusion")
    )
    assert len(matches) == 7
    some = Selection(20, 'label == "3"', expand=5, rerank="diffusion")
    (matches,) = nearest_matches(client, info, QUERY[:1], some)
    assert {match.label for match in matches} == {"3"}
    assert len(matches) == 20
    assert nearest_matches(client, info, QUERY[:1], replace(some, filter='label == "none"')) == [[]]


@pytest.mark.parametrize(
    ("selection", "said"),
    [
        (Selection(rerank="best"), "no re-ranking 'best'; choose one of reciprocal, diffusion, measures"),
        (Selection(expand=101), "1 to 100 neighbours, not 101"),
        (Selection(expand=-1), "1 to 100 neighbours"),
        (Selection(group_by="colour"), "no field 'colour' to group by; choose one of folder, path"),
        (Selection(using=("vgg16",)), "holds no vectors of 'vgg16'; it holds those of resnet50"),
        (Selection(weights=(0.5,)), "One network alone needs no weight"),
        (Selection(min_similarity=float("nan")), "The least similarity is nan"),
        (Selection(min_similarity=50), "The least similarity is 50; a cosine goes from -1 to 1"),
    ],
)
def test_what_cannot_be_asked_is_refused(lite: MilvusClient, selection: Selection, said: str) -> None:
    info, _, _ = insert_clusters(lite)
    with pytest.raises(InvalidArgument, match=said):
        nearest_matches(lite, info, QUERY, selection)


def test_distances_have_no_least_similarity(lite: MilvusClient) -> None:
    info, _, _ = insert_clusters(lite, metric="L2")
    with pytest.raises(InvalidArgument, match="searched by distance"):
        nearest_matches(lite, info, QUERY, Selection(min_similarity=0.5))
