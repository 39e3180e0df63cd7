"""Maps of vectors in two dimensions, and clusters: what lies near what."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from utilities.errors import MissingPackage
from utilities.labels import Labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Axes that t-SNE gets, after PCA, as its authors recommend; they take what is noise away, and most of the time.
TSNE_AXES = 50
#: Vectors that are enough for a group of density; smaller groups than are asked for are left out afterwards.
DENSE = 3
#: Neighbours that a point is held near to, in effect.
PERPLEXITY = 30


def tsne(embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
    """Van der Maaten and Hinton, Visualizing Data using t-SNE (2008), by scikit-learn, after PCA; seeded.

    Args:
        embeddings: (n, dimension), n at least 4.

    Returns:
        (n, 2), each axis from 0 to 1.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    axes = min(TSNE_AXES, *embeddings.shape)
    fewer = PCA(axes, random_state=0).fit_transform(embeddings)
    perplexity = min(PERPLEXITY, (len(embeddings) - 1) / 3)
    return _unit_square(TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(fewer))


def umap(embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
    """McInnes, Healy and Melville, UMAP (2018), by its authors' package, on cosines; seeded.

    Args:
        embeddings: (n, dimension), n at least 4.

    Returns:
        (n, 2), each axis from 0 to 1.

    Raises:
        MissingPackage: it cannot be imported.
    """
    package = _import_umap()
    neighbours = min(15, len(embeddings) - 1)
    # One thread, or the seed does not make two maps agree.
    reducer = package.UMAP(n_neighbors=neighbours, metric="cosine", init="pca", random_state=0, n_jobs=1)
    return _unit_square(reducer.fit_transform(embeddings))


def _import_umap() -> Any:
    """UMAP without TensorFlow, which it would import for a kind of map that is not drawn here."""
    unwanted = "tensorflow" not in sys.modules
    if unwanted:
        sys.modules["tensorflow"] = None  # type: ignore[assignment]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # It says so.
            import umap
    except ImportError as error:  # It is not there, or what it needs has another version.
        raise MissingPackage(f"UMAP cannot be imported ({error}): .venv/bin/pip install -e '.[explore]'.") from error
    finally:
        if unwanted:
            del sys.modules["tensorflow"]
    return umap


def on_a_grid(points: NDArray[np.float64]) -> NDArray[np.int64]:
    """Cells of a grid for points of a map, one each, so that all are moved as little as can be.

    The linear assignment problem of squared distances, by SciPy (Crouse 2016); n = 2,000 takes seconds.

    Args:
        points: (n, 2), each axis from 0 to 1.

    Returns:
        (n, 2) columns and rows, from 0; the grid is about square, and no cell is taken twice.
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    columns = int(np.ceil(np.sqrt(len(points))))
    rows = int(np.ceil(len(points) / columns))
    cells = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2)
    # By ranks, since maps are dense here and empty there.
    ranks = np.argsort(np.argsort(points, axis=0, kind="stable"), axis=0, kind="stable") / max(1, len(points) - 1)
    middles = (cells + 0.5) / [columns, rows]
    own, chosen = linear_sum_assignment(cdist(0.5 * (points + ranks), middles, "sqeuclidean"))
    found = np.empty((len(points), 2), np.int64)
    found[own] = cells[chosen]
    return found


@dataclass(frozen=True)
class Clusters:
    """A division of n vectors into k groups."""

    #: (n,) the group of each, from 0; the largest group first. -1 for what is in none.
    codes: NDArray[np.int64]
    #: (n,) cosine with the middle of the own group; 0 for what is in none.
    typicality: NDArray[np.float32]

    @property
    def count(self) -> int:
        """How many groups there are."""
        return int(self.codes.max(initial=-1)) + 1

    def most_typical(self, cluster: int, count: int) -> NDArray[np.int64]:
        """Numbers of a group's vectors, the nearest to its middle first."""
        members = np.flatnonzero(self.codes == cluster)
        return members[np.argsort(-self.typicality[members], kind="stable")][:count]


def k_means(embeddings: NDArray[np.float32], count: int) -> Clusters:
    """Lloyd, Least squares quantization in PCM (1982), by scikit-learn; seeded, the best of four beginnings.

    Args:
        embeddings: (n, dimension), rows of length 1.
        count: how many groups, at most n.
    """
    from sklearn.cluster import KMeans

    return _clusters(embeddings, KMeans(count, n_init=4, random_state=0).fit_predict(embeddings))


def hdbscan(embeddings: NDArray[np.float32], least: int = 3) -> Clusters:
    """Campello, Moulavi and Sander, Density-based clustering (2013), by scikit-learn: groups of any density, no number.

    What lies alone is in no group. Time grows with the square of n: 20,000 take minutes.

    Args:
        embeddings: (n, dimension), rows of length 1.
        least: the fewest members of a group, at least 2.
    """
    from sklearn.cluster import HDBSCAN

    dense = min(least, DENSE)
    if len(embeddings) <= dense:  # of which scikit-learn makes no groups
        return _clusters(embeddings, np.full(len(embeddings), -1))
    # On the unit sphere the Euclidean distance orders as the cosine does.
    found = HDBSCAN(min_cluster_size=dense, min_samples=dense, copy=True).fit_predict(embeddings.astype(np.float64))
    sizes = np.bincount(found[found >= 0], minlength=1)
    large = np.flatnonzero(sizes >= least)
    numbers = np.full(len(sizes), -1)
    numbers[large] = np.arange(len(large))
    return _clusters(embeddings, np.where(found >= 0, numbers[found], -1))


def _clusters(embeddings: NDArray[np.float32], groups: NDArray[np.int64]) -> Clusters:
    """Groups, numbered anew by their size, and how typical each of their members is."""
    grouped = groups >= 0
    count = int(groups.max(initial=-1)) + 1
    sizes = np.bincount(groups[grouped], minlength=count)
    place = np.argsort(np.argsort(-sizes, kind="stable"), kind="stable").astype(np.int64)
    sums = np.zeros((count, embeddings.shape[1]))
    np.add.at(sums, groups[grouped], embeddings[grouped])
    middles = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    codes = np.full(len(groups), -1, np.int64)
    codes[grouped] = place[groups[grouped]]
    typicality = np.zeros(len(groups), np.float32)
    typicality[grouped] = np.sum(embeddings[grouped] * middles[groups[grouped]], axis=1)
    return Clusters(codes, typicality)


def purity(clusters: Clusters, labels: Labels) -> float:
    """The part of the labelled items that have their group's commonest label (Manning et al. 2008, section 16.3)."""
    labelled = labels.codes >= 0
    table = np.zeros((clusters.count, len(labels.names)), np.int64)
    np.add.at(table, (clusters.codes[labelled], labels.codes[labelled]), 1)
    return float(table.max(axis=1).sum() / table.sum())


def normalized_mutual_information(clusters: Clusters, labels: Labels) -> float:
    """What groups and labels say of each other, from 0, nothing, to 1 (Manning et al. 2008, section 16.3)."""
    from sklearn.metrics import normalized_mutual_info_score

    labelled = labels.codes >= 0
    return float(normalized_mutual_info_score(labels.codes[labelled], clusters.codes[labelled]))


def pairwise_precision_recall(clusters: Clusters, labels: Labels) -> tuple[float | None, float | None]:
    """How right groups are, by pairs of labelled items (Manning et al. 2008, section 16.3).

    An item in no group is in one pair with nothing.

    Returns:
        The part of the pairs in one group that share their label, and the part of the pairs that share their label that
        are in one group; None where there is no such pair.
    """
    from sklearn.metrics.cluster import contingency_matrix

    labelled = labels.codes >= 0
    groups = clusters.codes[labelled].copy()
    alone = groups < 0
    groups[alone] = clusters.count + np.arange(alone.sum())
    if not len(groups):
        return None, None
    table = contingency_matrix(labels.codes[labelled], groups, sparse=True)

    def pairs(sizes: NDArray[np.int64]) -> int:
        return int((sizes * (sizes - 1) // 2).sum())

    both = pairs(table.data.astype(np.int64))
    together, alike = (pairs(np.asarray(table.sum(axis=axis), np.int64).ravel()) for axis in (0, 1))
    return both / together if together else None, both / alike if alike else None


def _unit_square(points: NDArray[np.floating]) -> NDArray[np.float64]:
    low, high = points.min(axis=0), points.max(axis=0)
    return np.asarray((points - low) / np.maximum(high - low, 1e-12), np.float64)
