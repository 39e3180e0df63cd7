"""Metrics, on cases that a person can work out."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from utilities.retrieval_metrics import exact_neighbours, overlap_at_k


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
