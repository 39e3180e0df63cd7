"""Maps and clusters: groups that a person knows stay groups."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from utilities.errors import MissingPackage
from utilities.labels import Labels
from utilities.maps import (
    Clusters,
    hdbscan,
    k_means,
    normalized_mutual_information,
    on_a_grid,
    pairwise_precision_recall,
    purity,
    tsne,
    umap,
)
from utilities.reduction import unit_length

#: Sizes of three groups of vectors.
SIZES = (30, 20, 10)


@pytest.fixture(scope="module")
def groups() -> NDArray[np.float32]:
    """Sixty vectors around three axes of sixteen."""
    random = np.random.default_rng(0)
    vectors = np.repeat(np.eye(16)[:3], SIZES, axis=0) + 0.05 * random.normal(size=(60, 16))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


CODES = np.repeat([0, 1, 2], SIZES)


@pytest.mark.parametrize("method", [tsne, umap])
def test_a_map_keeps_groups_together_and_is_the_same_every_time(method: object, groups: NDArray[np.float32]) -> None:
    assert callable(method)
    points = method(groups)
    assert points.shape == (60, 2)
    assert (points.min(), points.max()) == (0, 1)
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    np.testing.assert_array_equal(CODES[distances.argmin(axis=1)], CODES)
    np.testing.assert_array_equal(method(groups), points)


def test_umap_does_not_load_tensorflow_and_says_where_it_is_missing(
    groups: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = "tensorflow" in sys.modules
    umap(groups)
    assert ("tensorflow" in sys.modules) == loaded
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(MissingPackage, match=r"UMAP cannot be imported .*\[explore\]"):
        umap(groups)
    assert ("tensorflow" in sys.modules) == loaded


def test_every_point_gets_a_cell_of_its_own_near_where_it_was() -> None:
    corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], float)
    np.testing.assert_array_equal(on_a_grid(corners), corners)
    points = np.random.default_rng(0).random((50, 2))
    cells = on_a_grid(points)
    assert len({tuple(cell) for cell in cells.tolist()}) == 50
    assert cells.min() == 0
    assert (cells.max(axis=0) <= [7, 6]).all()
    assert np.corrcoef(points[:, 0], cells[:, 0])[0, 1] > 0.9
    assert np.corrcoef(points[:, 1], cells[:, 1])[0, 1] > 0.9


def test_k_means_finds_the_groups_largest_first(groups: NDArray[np.float32]) -> None:
    shuffled = np.random.default_rng(1).permutation(60)
    clusters = k_means(groups[shuffled], 3)
    np.testing.assert_array_equal(clusters.codes, CODES[shuffled])
    assert clusters.count == 3
    middle = groups[CODES == 2].mean(axis=0)
    expected = shuffled.argsort()[50:][np.argsort(-(groups[50:] @ middle))]
    np.testing.assert_array_equal(clusters.most_typical(2, 4), expected[:4])


def test_purity_and_mutual_information_of_a_worked_case() -> None:
    """Manning et al. 2008, figure 16.4: three clusters of x, o and d, whose purity is 12/17 and whose NMI is 0.36."""
    letters = "xxxxxo" + "xooood" + "xxddd"
    labels = Labels.of([*letters, None])
    clusters = Clusters(np.repeat([0, 1, 2, 0], [6, 6, 5, 1]), np.zeros(18, np.float32))
    assert purity(clusters, labels) == pytest.approx(12 / 17)
    assert normalized_mutual_information(clusters, labels) == pytest.approx(0.36, abs=0.01)


def test_groups_of_any_density_and_what_lies_alone() -> None:
    random = np.random.default_rng(0)
    middles = np.eye(8)[:3]
    sizes, widths = (9, 20, 5), (0.02, 0.1, 0.02)
    vectors = [m + w * random.standard_normal((n, 8)) for m, n, w in zip(middles, sizes, widths, strict=True)]
    alone = -np.eye(8)[:2]
    embeddings = unit_length(np.concatenate([*vectors, alone]).astype(np.float32))
    found = hdbscan(embeddings)
    assert found.codes.tolist() == [1] * 9 + [0] * 20 + [2] * 5 + [-1, -1]  # The largest is the first.
    assert found.count == 3
    assert (found.typicality[:34] > 0.8).all()
    assert found.typicality[34:].tolist() == [0, 0]
    assert set(found.most_typical(2, 99).tolist()) == set(range(29, 34))
    large = hdbscan(embeddings, least=9)
    assert large.codes.tolist() == [1] * 9 + [0] * 20 + [-1] * 7
    same = np.repeat(embeddings[:4], 3, axis=0)
    copies = hdbscan(same).codes.reshape(4, 3)
    assert (copies == copies[:, :1]).all()
    assert sorted(copies[:, 0]) == [0, 1, 2, 3]
    for few in range(4):
        assert hdbscan(embeddings[:few]).codes.tolist() == [-1] * few


def test_pairs_of_manning_and_others() -> None:
    # Figure 16.4, with its true positives 20, false positives 20 and false negatives 24.
    codes = np.array([0] * 6 + [1] * 6 + [2] * 5)
    labels = Labels.of([*"xxxxxo", *"xoooo", "d", *"xxddd"])
    clusters = Clusters(codes, np.ones(17, np.float32))
    assert pairwise_precision_recall(clusters, labels) == (20 / 40, 20 / 44)
    lonely = Clusters(np.full(4, -1), np.zeros(4, np.float32))
    assert pairwise_precision_recall(lonely, Labels.of(["a", "a", None, "b"])) == (None, 0)
    assert pairwise_precision_recall(lonely, Labels.of([None] * 4)) == (None, None)
