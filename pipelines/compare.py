"""Compare: networks on a tree of images, and indexes on a collection's vectors."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from utilities.backbones import backbone_and_weights, backbone_named, check_weights, sees_faces, weights_origin
from utilities.directory_trees import find_images
from utilities.embedder import load_embedder
from utilities.errors import InvalidArgument, LookalikeError
from utilities.evaluation import TOP_K, choose_queries, exact_score, highest_precision
from utilities.index_comparison import (
    LIBRARIES,
    QUERIES,
    Measured,
    Problem,
    jittered,
    measure_libraries,
    measure_milvus,
)
from utilities.item_streams import embed_sample
from utilities.items import file_digest, label_of
from utilities.labels import Labels, labels_of
from utilities.milvus_index import INDEXES, is_embedded
from utilities.milvus_utilities import connect, describe_collection, read_embeddings, read_items
from utilities.retrieval_metrics import Estimate, bootstrap
from utilities.sampling import draw_sample
from utilities.settings import Settings
from utilities.splits import trained_on

#: Milvus's own types of index.
MILVUS_INDEXES = tuple(index for index in INDEXES if index != "auto")


@dataclass(frozen=True)
class BackboneQuality:
    """What a network is worth on a tree, or why that could not be found out."""

    backbone: str
    weights: str
    dimension: int
    #: Of the whole way from files to vectors.
    images_per_second: float | None = None
    precision: Estimate | None = None
    map: Estimate | None = None
    #: Of five neighbours that vote for a label.
    accuracy: Estimate | None = None
    #: Empty if it was measured.
    reason: str = ""

    @property
    def bytes_per_vector(self) -> int:
        """As Milvus stores it, in float32."""
        return 4 * self.dimension

    @property
    def name(self) -> str:
        """What tells it from the same backbone with other weights."""
        own = self.weights == backbone_named(self.backbone).weights
        return self.backbone if own else f"{self.backbone}={Path(self.weights).name}"


@dataclass(frozen=True)
class BackboneComparison:
    """Networks in the order they were named."""

    images: int
    labels: int
    #: Images that one of the networks was trained on, which none of them is searched with by.
    trained_on: int
    #: The precision@20 of a perfect network: below 1 where labels have few images.
    highest: float
    rows: list[BackboneQuality]
    #: None if no network could be measured.
    chart: Path | None


@dataclass(frozen=True)
class IndexComparison:
    """Indexes: Milvus's, then the libraries'."""

    collection: str
    vectors: int
    dimension: int
    #: Of these vectors so many are real; the others were made of them.
    real: int
    rows: list[Measured]
    chart: Path


def backbones(
    directory: Path,
    names: Sequence[str],
    *,
    sample: int,
    out: Path,
    settings: Settings | None = None,
    progress: bool = True,
) -> BackboneComparison:
    """Embed a sample of a tree with each of several networks, and search it by exact comparison.

    Args:
        directory: the tree; the folder that holds a file is its label.
        names: `NAME` or `NAME=WEIGHTS`, where the name is a key of `utilities.backbones.BACKBONES` and the weights are
            `imagenet`, the default, `random` or a file's path.
        sample: at most so many images, drawn at random.
        out: directory for the chart.
        settings: limits and places; from the environment by default.
        progress: whether to draw progress bars on standard error.

    Raises:
        InvalidArgument: no such directory, backbone or file, or no two images with one label.
        NoImagesFound: no image in the tree.
    """
    settings = settings or Settings.load()
    wanted = [_parsed(name) for name in names]
    found = find_images(directory)
    paths = [found[row] for row in draw_sample(len(found), sample)]
    truth = Labels.of([label_of(directory, path) for path in paths])
    if not len(choose_queries(truth)):
        raise InvalidArgument(
            f"The folders of {str(directory)!r} tell nothing: of the {len(paths):,} images looked at some must share a "
            "folder, and not all of them."
        )
    taught = trained_on(*(weights_origin(weights) for _, weights in wanted))
    unseen = np.array([digest not in taught for digest in _read_once(directory, paths)])
    queries = choose_queries(truth, but=~unseen)
    if not len(queries):
        raise InvalidArgument(
            f"One of the networks was trained on whatever could be searched with of {str(directory)!r}; add images."
        )
    rows = [_quality(directory, paths, name, weights, taught, settings, progress) for name, weights in wanted]
    measured = [row for row in rows if not row.reason]
    chart = out / "backbones.png" if measured else None
    if chart:
        _draw_backbones(chart, directory, measured)
    seen = int((~unseen).sum())
    return BackboneComparison(len(paths), len(truth.names), seen, highest_precision(truth, queries), rows, chart)


def _parsed(name: str) -> tuple[str, str]:
    backbone, weights = backbone_and_weights(name)
    weights = weights or backbone_named(backbone).weights
    check_weights(backbone, weights)
    return backbone, weights


def _read_once(directory: Path, paths: Sequence[str]) -> list[str]:
    """The files' digests; the system holds them in memory then, and the first network is not charged for the disk."""
    digests = []
    for path in paths:
        try:
            with (directory / path).open("rb") as file:
                digests.append(file_digest(file))
        except OSError:  # which is reported where it matters
            digests.append("")
    return digests


def _quality(
    directory: Path,
    paths: Sequence[str],
    name: str,
    weights: str,
    taught: Set[str],
    settings: Settings,
    progress: bool,
) -> BackboneQuality:
    nothing = BackboneQuality(name, weights, backbone_named(name).dimension)
    try:
        embedder = load_embedder(name, weights, settings)
        embed_sample(directory, paths[: embedder.batch_size], embedder, settings, name=name, progress=False)  # compiles
    except LookalikeError as error:
        return replace(nothing, reason=str(error))
    start = time.perf_counter()
    items, embeddings = embed_sample(directory, paths, embedder, settings, name=name, progress=progress)
    seconds = time.perf_counter() - start
    table = pd.DataFrame([{**item.row(), **item.attributes} for item in items])
    truth = labels_of(table) if items else Labels.of([])
    queries = choose_queries(truth, but=table["file_digest"].isin(taught).to_numpy() if items else None)
    if not len(queries):
        return replace(nothing, reason=f"too few {'faces were found' if sees_faces(name) else 'images can be read'}")
    values = exact_score(embeddings, truth, queries, progress=False)
    return replace(
        nothing,
        images_per_second=len(paths) / seconds,
        precision=bootstrap(values[f"precision@{TOP_K}"]),
        map=bootstrap(values["map"]),
        accuracy=bootstrap(values["accuracy@5"]),
    )


def _draw_backbones(file: Path, directory: Path, rows: Sequence[BackboneQuality]) -> None:
    from utilities.charts import speed_and_quality_chart

    points = {row.name: (row.images_per_second or 0.0, row.precision) for row in rows if row.precision is not None}
    file.parent.mkdir(parents=True, exist_ok=True)
    speed_and_quality_chart(directory.resolve().name, points, f"precision@{TOP_K}").savefig(file)


def indexes(
    collection: str,
    *,
    scale: int | None = None,
    out: Path,
    settings: Settings | None = None,
    progress: bool = True,
) -> IndexComparison:
    """Search a collection's vectors by every index at hand.

    Args:
        collection: its name.
        scale: so many vectors, made of the collection's by moving them a little; by default those that there are.
        out: directory for the chart.
        settings: limits and places; from the environment by default.
        progress: whether to draw progress bars on standard error.

    Raises:
        CollectionNotFound: no such collection.
        InvalidArgument: too few vectors.
        DatabaseError: Milvus failed.
    """
    settings = settings or Settings.load()
    client = connect(settings=settings, must_exist=True)
    info = describe_collection(client, collection)
    ids = read_items(client, collection)["id"].to_numpy(np.int64)
    if len(ids) < TOP_K:
        raise InvalidArgument(f"The collection {collection!r} holds {len(ids):,} vectors; at least {TOP_K} are needed.")
    if scale and scale < len(ids):
        raise InvalidArgument(f"The collection {collection!r} holds {len(ids):,} vectors; --scale must be more.")
    real = read_embeddings(client, info, ids)
    vectors = np.concatenate([real, jittered(real, scale - len(real), seed=1)]) if scale else real
    rows: list[Measured] = []
    with tempfile.TemporaryDirectory() as folder:
        problem = Problem.write(Path(folder), vectors, jittered(real, QUERIES, seed=2))
        count, dimension = vectors.shape
        del real, vectors  # They lie in files now, for other processes.
        total = len(MILVUS_INDEXES) + len(LIBRARIES)
        with tqdm(total=total, unit="index", desc="indexes", disable=not progress) as bar:
            if is_embedded(client):
                # Another database, since this one belongs to this process.
                rows += measure_milvus(problem, "Milvus Lite", Settings(home=Path(folder)), MILVUS_INDEXES)
            else:
                rows += measure_milvus(problem, "Milvus", settings, MILVUS_INDEXES)
            bar.update(len(MILVUS_INDEXES))
            for measured in measure_libraries(problem, LIBRARIES):
                rows.append(measured)
                bar.update()
    chart = out / "indexes.png"
    _draw_indexes(chart, f"{collection}: {count:,} vectors of {dimension:,} dimensions", rows)
    return IndexComparison(collection, count, dimension, len(ids), rows, chart)


def _draw_indexes(file: Path, title: str, rows: Sequence[Measured]) -> None:
    from utilities.charts import recall_and_speed_chart

    file.parent.mkdir(parents=True, exist_ok=True)
    recall_and_speed_chart(title, {row.what: row.curve for row in rows if row.curve}).savefig(file)
