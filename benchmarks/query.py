"""How long does one query take? As a whole process, and stage by stage where everything is warm."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import photographs
from benchmarks.report import table, verdict
from pipelines import load
from utilities.directory_trees import find_images
from utilities.drawn_images import draw_tree
from utilities.embedder import embedder_of
from utilities.image_files import open_image
from utilities.milvus_utilities import connect, describe_collection, nearest_neighbours
from utilities.settings import Settings
from utilities.similar_images import similar_images

BACKBONE, ITEMS, ROUNDS, WARM = "resnet50", 4_000, 7, 200

#: The same query by the way of TensorFlow: its network is built in the process, and runs by `predict`.
BY_TENSORFLOW = """
import os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras, numpy as np
from utilities.milvus_utilities import connect, nearest_neighbours
from utilities.settings import Settings
home, weights, image = sys.argv[1:]
model = keras.applications.ResNet50(include_top=False, weights=weights, pooling="avg", input_shape=(224, 224, 3))
pixels = keras.utils.img_to_array(keras.utils.load_img(image, target_size=(224, 224)))
vector = model.predict(keras.applications.resnet50.preprocess_input(pixels[None]), verbose=0)
client = connect(settings=Settings.load(home=__import__("pathlib").Path(home)))
for match in nearest_neighbours(client, "images", vector / np.linalg.norm(vector))[0]:
    print(match["path"], match["score"])
"""
#: A query in a process of its own, which says when each stage was over.
BY_STAGES = """
import json, sys, time
start = time.perf_counter(); times = {}
def lap(name): times[name] = time.perf_counter() - start
from pathlib import Path
from utilities.similar_images import similar_images
from utilities.embedder import embedder_of
from utilities.image_to_vec import embed_images
from utilities.milvus_utilities import connect, describe_collection, nearest_neighbours
from utilities.settings import Settings
settings = Settings.load(home=Path(sys.argv[1]))
lap("import")
client = connect(settings=settings, must_exist=True); lap("open Milvus Lite")
info = describe_collection(client, "images"); lap("describe the collection")
embedder = embedder_of(info.fingerprint, settings); lap("import OpenVINO, read and compile the network")
vector = embed_images([sys.argv[2]], embedder, settings); lap("decode and embed")
nearest_neighbours(client, info, vector); lap("put the collection in use and search")
print(json.dumps(times))
"""


def run() -> str:
    """Cold queries by both ways in turn, then warm ones in this process."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        home = scratch / "home"
        settings = Settings(home=home)
        tree, kind = photographs(scratch)
        if len(find_images(tree)) < ITEMS - 100:
            tree, kind = scratch / "more", "drawn images"
            draw_tree(tree, per_category=286)
        image = str(tree / find_images(tree)[7])
        weights = str(_weights_file(scratch))
        environment = {**os.environ, "LOOKALIKE_HOME": str(home)}
        _python(
            "import sys; from pathlib import Path; from pipelines import load;"
            "load.run(Path(sys.argv[1]), collection='images', backbone=sys.argv[2], weights='random', progress=False)",
            [str(tree), BACKBONE],
            environment,
        )
        ours = [str(Path(sys.executable).with_name("lookalike")), "query", image, "--collection", "images"]
        seconds: dict[str, list[float]] = {"lookalike query": [], "the TensorFlow way": []}
        stages: list[dict[str, float]] = []
        for counted in [False, *[True] * ROUNDS]:
            start = time.perf_counter()
            subprocess.run(ours, check=True, capture_output=True, env=environment)
            middle = time.perf_counter()
            _python(BY_TENSORFLOW, [str(home), weights, image], environment)
            end = time.perf_counter()
            if counted:
                seconds["lookalike query"].append(middle - start)
                seconds["the TensorFlow way"].append(end - middle)
                stages.append(json.loads(_python(BY_STAGES, [str(home), image], environment)))
        warm = _warm_stages(settings, image)
        items = load.run(tree, collection="images", settings=settings, progress=False).items
    ratio = statistics.median(
        one / other for one, other in zip(seconds["lookalike query"], seconds["the TensorFlow way"], strict=True)
    )
    cold = statistics.median(seconds["lookalike query"])
    return (
        f"## How long does one query take?\n\n{BACKBONE} with random weights, Milvus Lite, {items:,} {kind}; medians "
        f"of {ROUNDS} processes, and of {WARM} queries in one.\n\n"
        + table(
            ["whole process", "seconds"], [(name, f"{statistics.median(each):.2f}") for name, each in seconds.items()]
        )
        + "\n\n"
        + table(["cold, stage by stage", "seconds"], _differences(stages))
        + "\n\n"
        + table(["warm, stage by stage", "milliseconds"], [(name, f"{each:.1f}") for name, each in warm.items()])
        + "\n\n"
        + table(
            ["figure", "reached"],
            [
                ("cold query", verdict(cold, 1.3, at_most=True, unit=" s")),
                ("against the TensorFlow way", verdict(ratio, 0.3, at_most=True)),
            ],
        )
    )


def _weights_file(scratch: Path) -> Path:
    """The random weights as a file, as ImageNet's are one where they were downloaded before."""
    file = scratch / "weights.weights.h5"
    program = (
        "import sys, keras; keras.applications.ResNet50(include_top=False, weights=None, pooling='avg',"
        "input_shape=(224, 224, 3)).save_weights(sys.argv[1])"
    )
    _python(program, [str(file)], dict(os.environ))
    return file


def _python(program: str, arguments: list[str], environment: dict[str, str]) -> str:
    result = subprocess.run(
        [sys.executable, "-c", program, *arguments], check=True, capture_output=True, text=True, env=environment
    )
    return result.stdout


def _differences(stages: list[dict[str, float]]) -> list[tuple[str, str]]:
    rows, before = [], [0.0] * len(stages)
    for name in stages[0]:
        now = [stage[name] for stage in stages]
        rows.append((name, f"{statistics.median(a - b for a, b in zip(now, before, strict=True)):.2f}"))
        before = now
    return rows


def _warm_stages(settings: Settings, image: str) -> dict[str, float]:
    """Milliseconds of each stage of a query where network and collection are in memory."""
    client = connect(settings=settings)
    info = describe_collection(client, "images")
    embedder = embedder_of(info.fingerprint, settings)

    def decode() -> Any:
        return embedder.see(open_image(image, settings, at_least=embedder.input_size))

    pixels = decode()
    vector = embedder.embed(pixels[None])
    stages: dict[str, Any] = {
        "decode": decode,
        f"embed, {embedder.runtime}": lambda: embedder.embed(pixels[None]),
        "search": lambda: nearest_neighbours(client, info, vector),
        "`similar_images`, all of it": lambda: similar_images(image, "images", client=client, settings=settings),
    }
    milliseconds = {}
    for name, stage in stages.items():
        times = []
        for _ in range(WARM):
            start = time.perf_counter()
            stage()
            times.append(1_000 * (time.perf_counter() - start))
        milliseconds[name] = float(np.median(times))
    return milliseconds
