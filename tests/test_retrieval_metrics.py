"""Metrics, on cases that a person can work out."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from utilities.retrieval_metrics import (
    average_precision,
    bootstrap,
    exact_neighbours,
    exact_neighbours_of_each,
    exact_rankings,
    nearest_label,
    overlap_at_k,
    precision_at_k,
    recall_at_k,
)


def directions(*degrees: float) -> NDArray[np.float32]:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_exact_neighbours_are_the_smallest_angles() -> None:
    found = exact_neighbours(directions(0, 90), directions(80, 10, -20, 180), k=3)
    np.testing.assert_array_equal(found, [[1, 2, 0], [0, 1, 3]])


def test_exact_neighbours_of_nothing_and_of_many() -> None:
    assert exact_neighbours(directions(), directions(1, 2, 3), k=2).shape == (0, 2)
    random = np.random.default_rng(0)
    many = random.standard_normal((3_000, 4)).astype(np.float32)
    many /= np.linalg.norm(many, axis=1, keepdims=True)
    np.testing.assert_array_equal(exact_neighbours(many, many, k=1)[:, 0], np.arange(3_000))


@pytest.mark.parametrize(
    ("found", "expected", "overlap"),
    [
        ([[1, 2, 3, 4]], [[4, 3, 2, 1]], 1.0),
        ([[1, 2, 3, 4]], [[1, 2, 5, 6]], 0.5),
        ([[1, 2, -1, -1]], [[1, 2, 3, 4]], 0.5),
        ([[1, 2], [3, 4]], [[1, 2], [5, 6]], 0.5),
        ([[9, 8]], [[1, 2]], 0.0),
    ],
)
def test_overlap_at_k(found: list[list[int]], expected: list[list[int]], overlap: float) -> None:
    assert overlap_at_k(np.array(found), np.array(expected)) == overlap


#: Places 1, 3 and 6 of the first ranking are relevant; of the second, only the fourth.
RELEVANT = np.array([[1, 0, 1, 0, 0, 1], [0, 0, 0, 1, 0, 0]], bool)


@pytest.mark.parametrize(("k", "expected"), [(1, [1, 0]), (2, [1 / 2, 0]), (4, [2 / 4, 1 / 4]), (6, [3 / 6, 1 / 6])])
def test_precision_at_k(k: int, expected: list[float]) -> None:
    np.testing.assert_allclose(precision_at_k(RELEVANT, k), expected)


@pytest.mark.parametrize(("k", "expected"), [(1, [1 / 5, 0]), (3, [2 / 5, 0]), (6, [3 / 5, 1])])
def test_recall_at_k(k: int, expected: list[float]) -> None:
    np.testing.assert_allclose(recall_at_k(RELEVANT, np.array([5, 1]), k), expected)


def test_average_precision_of_whole_rankings_counts_what_was_not_found() -> None:
    # (1/1 + 2/3 + 3/6) / 5: two of the five relevant stand nowhere. Then 1/4 of one.
    np.testing.assert_allclose(average_precision(RELEVANT, np.array([5, 1])), [(1 + 2 / 3 + 3 / 6) / 5, 1 / 4])


def test_average_precision_at_k_is_perfect_where_all_k_places_are_right() -> None:
    # Of five relevant three places could hold three: (1/1 + 2/3) / 3. Of one relevant, one.
    np.testing.assert_allclose(average_precision(RELEVANT, np.array([5, 1]), 3), [(1 + 2 / 3) / 3, 0])
    everything = np.ones((1, 3), bool)
    assert average_precision(everything, np.array([7]), 3) == 1
    assert average_precision(everything, np.array([3])) == 1


@pytest.mark.parametrize(
    ("labels", "k", "winner"),
    [
        ([4, 7, 7], 1, 4),
        ([4, 7, 7], 3, 7),
        ([4, 7, 7, 4], 4, 4),  # As many votes: the nearest voter's.
        ([7, 4, 4, 7, 9], 5, 7),
        ([4, -1, -1], 3, 4),  # Who is not there does not vote.
        ([-1, -1, -1], 3, -1),
    ],
)
def test_nearest_label(labels: list[int], k: int, winner: int) -> None:
    assert nearest_label(np.array([labels]), k) == [winner]


def test_the_nearest_of_each_leaves_out_itself() -> None:
    found = exact_neighbours_of_each(directions(0, 10, 90, 70), k=20)
    np.testing.assert_array_equal(found, [[1, 3, 2], [0, 3, 2], [3, 1, 0], [2, 1, 0]])


def test_exact_rankings_are_of_everything_but_the_query(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, labels = directions(0, 10, 25, 60, 90), np.array([0, 1, 0, 1, 2])
    queries = np.array([0, 1, 2, 3])
    nearest = [[1, 2, 3], [0, 2, 3], [1, 0, 3], [4, 2, 1]]
    # From 0 degrees: 10, 25*, 60, 90; from 10: 0, 25, 60*, 90; from 25: 10, 0*, 60, 90; from 60: 90, 25, 10*, 0.
    worth = [1 / 2, 1 / 3, 1 / 2, 1 / 3]
    for most, blocks in ((2**22, 1), (5, 4)):  # The second time one query after the other.
        monkeypatch.setattr("utilities.retrieval_metrics._RANKED", most)
        found = [*exact_rankings(embeddings, labels, queries, k=3)]
        assert len(found) == blocks
        np.testing.assert_array_equal(np.concatenate([neighbours for neighbours, _ in found]), nearest)
        np.testing.assert_allclose(np.concatenate([values for _, values in found]), worth)


def test_the_bootstrap_holds_the_mean_and_narrows_with_the_root_of_the_number() -> None:
    few = bootstrap(np.random.default_rng(1).normal(0.5, 0.1, 100))
    many = bootstrap(np.random.default_rng(1).normal(0.5, 0.1, 10_000))
    assert few.low < 0.5 < few.high
    assert many.low < 0.5 < many.high
    # Twice 1.96 standard errors: 0.1 / sqrt(n).
    assert few.high - few.low == pytest.approx(2 * 1.96 * 0.01, rel=0.25)
    assert many.high - many.low == pytest.approx(2 * 1.96 * 0.001, rel=0.25)
    assert bootstrap(np.ones(3)).low == bootstrap(np.ones(3)).high == 1


def test_groups_that_go_together_make_a_wider_interval() -> None:
    groups = np.repeat(np.arange(20), 50)
    values = np.random.default_rng(0).normal(0.5, 0.1, 20)[groups]
    alone, together = bootstrap(values), bootstrap(values, groups)
    assert alone.mean == pytest.approx(together.mean)
    assert together.high - together.low > 5 * (alone.high - alone.low)
    single = bootstrap(values, np.arange(len(values)))
    assert (single.low, single.high) == (alone.low, alone.high)
