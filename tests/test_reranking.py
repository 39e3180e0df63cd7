"""Better rankings of the same vectors, against what can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tests.clusters import OF_EACH, clustered, unit
from utilities.reranking import (
    K1,
    K2,
    ORIGINAL,
    augmented,
    diffusion_order,
    expanded,
    reciprocal_order,
    vote_of_measures,
)


def test_a_query_moves_towards_its_neighbours_by_the_power_of_their_similarity() -> None:
    query = np.array([2.0, 0.0], np.float32)
    neighbours = np.array([[0.6, 0.8], [-1.0, 0.0]], np.float32)  # cosines 0.6 and -1, which does not count
    expected = 2 * unit(np.array([1 + 0.6**3 * 0.6, 0.6**3 * 0.8]))
    np.testing.assert_allclose(expanded(query, neighbours), expected, rtol=1e-6)
    np.testing.assert_allclose(expanded(query, neighbours[:0]), query)


def test_an_item_moves_towards_its_neighbours_less_and_less() -> None:
    vectors = np.array([[1.0, 0, 0]], np.float32)
    neighbours = np.array([[[0, 1.0, 0], [0, 0, 1.0]]], np.float32)
    np.testing.assert_allclose(augmented(vectors, neighbours), unit(np.array([[1, 2 / 3, 1 / 3]])), rtol=1e-6)
    nobody = np.zeros((1, 2, 3), np.float32)
    np.testing.assert_allclose(augmented(2 * vectors, nobody), vectors)
    long = neighbours * np.array([[[50.0], [0.1]]], np.float32)
    np.testing.assert_allclose(augmented(vectors, long), augmented(vectors, neighbours), rtol=1e-6)


@pytest.mark.parametrize("order", [reciprocal_order, diffusion_order])
def test_the_neighbours_of_neighbours_put_more_that_is_right_first(order) -> None:  # type: ignore[no-untyped-def]
    items, codes = clustered()
    queries, _ = clustered(seed=1)
    before, after = [], []
    for query, code in zip(queries[::5], codes[::5], strict=True):
        first = np.argsort(-(items @ query), kind="stable")[:100]
        found = order(query, items[first])
        assert sorted(found) == list(range(100))
        before.append((codes[first[:20]] == code).mean())
        after.append((codes[first[found[:20]]] == code).mean())
    assert np.mean(after) > np.mean(before) + 0.05
    assert OF_EACH > 20


def test_reciprocal_order_is_that_of_the_definition() -> None:
    """Zhong et al., worked out neighbour by neighbour with sets."""
    items, _ = clustered()
    query = clustered(seed=1)[0][0]
    vectors = np.concatenate([query[None], items[np.argsort(-(items @ query))[:60]]]).astype(np.float64)
    distances = 2 - 2 * vectors @ vectors.T
    distances /= distances.max(axis=1, keepdims=True)
    nearest = distances.argsort(axis=1, kind="stable")
    count = len(vectors)

    def reciprocal(i: int, k: int) -> set[int]:
        return {j for j in nearest[i, : k + 1] if i in nearest[j, : k + 1]}

    encoded = np.zeros((count, count))
    for i in range(count):
        members = reciprocal(i, K1)
        for j in list(members):
            half = reciprocal(j, round(K1 / 2))
            if len(half & reciprocal(i, K1)) > 2 / 3 * len(half):
                members |= half
        weights = {j: np.exp(-distances[i, j]) for j in members}
        for j, weight in weights.items():
            encoded[i, j] = weight / sum(weights.values())
    encoded = np.stack([encoded[nearest[i, :K2]].mean(axis=0) for i in range(count)])
    overlap = np.minimum(encoded[0], encoded).sum(axis=1)
    final = ORIGINAL * distances[0] + (1 - ORIGINAL) * (1 - overlap / (2 - overlap))
    found = reciprocal_order(query, vectors[1:].astype(np.float32))
    np.testing.assert_allclose(final[1:][found], np.sort(final[1:]), atol=1e-4)


@pytest.mark.parametrize("copies", [22, 60])
def test_vectors_that_are_the_same_many_times_do_not_stop_the_others_from_moving(copies: int) -> None:
    items, query = clustered()[0], clustered(seed=1)[0][0]
    first = np.argsort(-(items @ query), kind="stable")[: 100 - copies]
    same = np.repeat(items[first[:1]], copies, axis=0)
    with np.errstate(all="raise"):
        order = reciprocal_order(query, np.concatenate([same, items[first]]))
    assert sorted(order) == list(range(100))
    others = [each - copies for each in order if each >= copies]
    assert others != sorted(others)


def test_what_no_neighbour_reaches_stands_last_in_the_order_of_its_similarity() -> None:
    near = unit(np.array([[1.0, 0.02 * n, 0] for n in range(12)]))
    far = unit(np.array([[0.1, 0, 1.0], [0.3, 0, 1.0]]))
    order = diffusion_order(np.array([1.0, 0, 0], np.float32), np.concatenate([far, near]))
    assert list(order[-2:]) == [1, 0]


def test_of_unit_vectors_all_measures_vote_alike_and_of_others_they_are_outvoted() -> None:
    query = np.array([1.0, 0], np.float32)
    same = unit(np.array([[1, 0.5], [1, 0.1], [1, 0.9]]))
    assert list(vote_of_measures(query, same)) == [1, 0, 2]
    # Inner product alone would put the long one first; cosine and distance outvote it.
    others = np.array([[50.0, 49.0], [0.9, 0.1], [0.8, 0.2]], np.float32)
    assert list(vote_of_measures(query, others)) == [1, 0, 2]


@pytest.mark.parametrize("order", [reciprocal_order, diffusion_order, vote_of_measures])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_candidates_are_ordered_too(order, count: int) -> None:  # type: ignore[no-untyped-def]
    assert sorted(order(np.ones(4, np.float32), np.eye(4, dtype=np.float32)[:count])) == list(range(count))
