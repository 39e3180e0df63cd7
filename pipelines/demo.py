"""Demo: load a tree, query one of its images, and draw the top 20."""

from __future__ import annotations

import logging
import textwrap
from dataclasses import replace
from pathlib import Path

from pipelines import load, manage, query
from utilities.backbones import DEFAULT_BACKBONE
from utilities.directory_trees import find_images
from utilities.drawn_images import draw_tree
from utilities.embedder import UNTRAINED, load_embedder
from utilities.errors import WeightsUnavailable
from utilities.image_files import open_image
from utilities.milvus_utilities import connect, list_collections
from utilities.settings import Settings

logger = logging.getLogger(__name__)

#: Everything the demo writes lies here.
OUTPUT = Path("demo")
#: Its neighbours show what similarity means: first the shape, then the next shape, whatever the colour.
DRAWN_QUERY = "triangle/triangle_10.jpg"


def run(
    images: Path | None = None,
    picture: Path | None = None,
    backbone: str = DEFAULT_BACKBONE,
    weights: str = "imagenet",
    settings: Settings | None = None,
) -> tuple[load.LoadSummary, query.QueryResult, str]:
    """Load images, query one, and draw its neighbours into `demo/top20.png`.

    Args:
        images: a tree; by default one is drawn into `demo/images`.
        picture: the query; by default an image of the tree.
        backbone: a key of `utilities.backbones.BACKBONES`.
        weights: `"imagenet"`, `"random"`, or a weights file's path. Where the download of `"imagenet"` fails, the demo,
            and only the demo, goes on with `"random"`.
        settings: limits; from the environment by default. The database is always the embedded one under `demo`.

    Returns:
        The load's summary, the query's result, and a note on the weights that is empty if they are as asked.
    """
    settings = replace(settings or Settings.load(), home=OUTPUT / "data", milvus_uri=None)
    if images is None:
        images = OUTPUT / "images"
        draw_tree(images)
        picture = picture or images / DRAWN_QUERY
    elif picture is None:
        found = find_images(images)
        picture = images / found[len(found) // 2]
    open_image(picture, settings)  # Better now than after the load.
    weights, note = _available(backbone, weights, settings)
    # A demo starts from nothing each time.
    if "demo" in list_collections(connect(settings=settings)):
        manage.drop("demo", settings)
    summary = load.run(images, collection="demo", backbone=backbone, weights=weights, settings=settings)
    result = query.run(
        [str(picture)],
        collection="demo",
        plot=OUTPUT / "top20.png",
        note="\n".join(textwrap.wrap(note, 36)),
        settings=settings,
    )[0]
    return summary, result, note


def _available(backbone: str, weights: str, settings: Settings) -> tuple[str, str]:
    try:
        load_embedder(backbone, weights, settings)
    except WeightsUnavailable as error:
        if weights != "imagenet":
            raise
        logger.warning("%s This demo goes on with random weights.", error)
        weights = "random"
    return weights, UNTRAINED if weights == "random" else ""
