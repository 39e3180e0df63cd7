"""One HTML page that holds a map of images, the images, and each one's neighbours; it needs nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING

from PIL import Image

from utilities.items import printable
from utilities.labels import Labels
from utilities.thumbnails import data_url

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def explore_page(
    collection: str,
    total: int,
    paths: Sequence[str],
    labels: Labels,
    thumbnails: Sequence[Image.Image],
    maps: Mapping[str, NDArray[np.float64]],
    neighbours: NDArray[np.int64],
) -> str:
    """The page.

    Args:
        collection: its name.
        total: how many items it holds, of which n are shown.
        paths: n paths.
        labels: of the n items.
        thumbnails: n pictures.
        maps: by the name of a method, (n, 2), each axis from 0 to 1.
        neighbours: (n, k) numbers of the nearest, among the n.

    Returns:
        HTML, with a content security policy that lets it fetch nothing.
    """
    items = [
        {"path": printable(path), "label": int(label), "image": data_url(thumbnail), "neighbours": nearest.tolist()}
        for path, label, thumbnail, nearest in zip(paths, labels.codes, thumbnails, neighbours, strict=True)
    ]
    data = {
        "collection": collection,
        "total": total,
        "labels": labels.names,
        "maps": {name: points.round(4).tolist() for name, points in maps.items()},
        "items": items,
    }
    template = files("utilities").joinpath("explore_page.html").read_text(encoding="utf-8")
    # Nothing in the data may end the script that holds it.
    return template.replace("@DATA@", json.dumps(data).replace("<", "\\u003c"))
