"""Explore: see what was embedded, as maps, as clusters, and as a page to wander about in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from utilities.collection_info import CollectionInfo
from utilities.errors import InvalidArgument, MissingPackage
from utilities.explore_page import explore_page
from utilities.faces import boxes_of
from utilities.labels import Labels, labelled_sample
from utilities.maps import Clusters, k_means, normalized_mutual_information, on_a_grid, purity, tsne, umap
from utilities.matches import pictures_of
from utilities.milvus_utilities import connect, describe_collection, read_embeddings, read_items
from utilities.retrieval_metrics import exact_neighbours_of_each
from utilities.settings import Settings
from utilities.thumbnails import NOTHING, read_thumbnails, tile_grid, tile_map

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: The fewest items of which there is a map.
FEWEST = 10
#: Neighbours that the page shows.
NEIGHBOURS = 12
#: Clusters of the picture, and images of each.
CLUSTERS_SHOWN, TYPICAL_SHOWN = 12, 10


@dataclass(frozen=True)
class Exploration:
    """What was drawn, and what the clusters are."""

    collection: str
    items: int
    #: Of the items so many, drawn at random, are on the maps.
    sample: int
    clusters: int
    #: How well the clusters fit the labels; None where there are fewer than two labels.
    purity: float | None
    nmi: float | None
    pictures: list[Path]
    page: Path
    #: Images that are grey, since their files cannot be read.
    unreadable: int
    #: Why there is no map by UMAP; empty if there is one.
    without_umap: str


def run(
    collection: str,
    *,
    labels: Path | None = None,
    sample: int,
    clusters: int | None = None,
    out: Path,
    settings: Settings | None = None,
    progress: bool = True,
) -> Exploration:
    """Draw maps of a collection's vectors, its clusters, and a page of both maps and images.

    Args:
        collection: its name.
        labels: a CSV with the columns `path` and `label`; by default the folder that holds a file is its label.
        sample: at most so many items, drawn at random; with `labels`, of those that it names.
        clusters: how many k-means looks for; by default as many as there are labels, or the root of half the items.
        out: directory for pictures and page.
        settings: limits and places; from the environment by default.
        progress: whether to draw progress bars on standard error.

    Raises:
        CollectionNotFound: no such collection.
        InvalidArgument: too few items, or more clusters than items.
        DatabaseError: Milvus failed.
    """
    settings = settings or Settings.load()
    client = connect(settings=settings, must_exist=True)
    info = describe_collection(client, collection)
    everything = read_items(client, collection, info.attributes)
    items, truth = labelled_sample(everything, labels, sample)
    if len(items) < FEWEST:
        whose = " with a label" if labels else ""
        raise InvalidArgument(f"{collection!r} holds {len(items)} items{whose}; a map needs {FEWEST}.")
    count = clusters or (len(truth.names) if len(truth.names) > 1 else round(np.sqrt(len(items) / 2)))
    if count > len(items):
        raise InvalidArgument(f"{len(items):,} items cannot be put into {count:,} clusters; say fewer with --clusters.")
    embeddings = read_embeddings(client, info, items["id"].to_numpy(np.int64))
    found = k_means(embeddings, count)
    maps = {"t-SNE": tsne(embeddings)}
    without_umap = ""
    try:
        maps["UMAP"] = umap(embeddings)
    except MissingPackage as error:
        without_umap = str(error)
    thumbnails = read_thumbnails(pictures_of(info, items), boxes_of(items), settings, progress=progress)
    out.mkdir(parents=True, exist_ok=True)
    pictures = _draw_maps(out, collection, maps, truth)
    cells = on_a_grid(maps["t-SNE"])
    for name, picture in (("tiles", tile_map(maps["t-SNE"], thumbnails)), ("grid", tile_grid(cells, thumbnails))):
        pictures.append(out / f"{name}.png")
        picture.save(pictures[-1])
    pictures.append(out / "clusters.png")
    _draw_clusters(pictures[-1], info, items, truth, found, settings)
    page = out / "explore.html"
    neighbours = exact_neighbours_of_each(embeddings, NEIGHBOURS)
    page.write_text(
        explore_page(collection, len(everything), items["path"].tolist(), truth, thumbnails, maps, neighbours),
        encoding="utf-8",
    )
    labelled = len(truth.names) > 1
    return Exploration(
        collection,
        len(everything),
        len(items),
        found.count,
        purity(found, truth) if labelled else None,
        normalized_mutual_information(found, truth) if labelled else None,
        pictures,
        page,
        sum(thumbnail is NOTHING for thumbnail in thumbnails),
        without_umap,
    )


def _draw_maps(out: Path, name: str, maps: dict[str, NDArray[np.float64]], labels: Labels) -> list[Path]:
    from utilities.charts import label_scatter

    files = []
    for method, points in maps.items():
        files.append(out / f"{method.lower().replace('-', '')}.png")
        label_scatter(name, method, points, labels).savefig(files[-1])
    return files


def _draw_clusters(
    file: Path, info: CollectionInfo, items: pd.DataFrame, labels: Labels, clusters: Clusters, settings: Settings
) -> None:
    from utilities.plots import Tile, neighbour_rows

    paths = items["path"].tolist()
    pictures, boxes = pictures_of(info, items), boxes_of(items)

    def tile(item: int, title: str, subtitle: str) -> Tile:
        return Tile(pictures[item], title, subtitle, boxes[item])

    rows = []
    for cluster in range(min(CLUSTERS_SHOWN, clusters.count)):
        first, *others = clusters.most_typical(cluster, TYPICAL_SHOWN)
        members = labels.codes[clusters.codes == cluster]
        counts = np.bincount(members[members >= 0], minlength=1)
        size = f"{len(members):,} {info.item_is}{'' if len(members) == 1 else 's'}"
        share = f"{counts.max() / len(members):.0%} {labels.names[counts.argmax()]}" if counts.max() else "no label"
        typical = [tile(each, f"{clusters.typicality[each]:.2f}", Path(paths[each]).name) for each in others]
        rows.append((tile(first, size, share), typical))
    which = f"the {len(rows)} largest of {clusters.count} clusters" if len(rows) < clusters.count else "its clusters"
    heading = (
        f"{info.name}: {which}, and what is most typical of them; on each tile the cosine with the cluster's middle"
    )
    neighbour_rows(rows, heading=heading, settings=settings).savefig(file)
