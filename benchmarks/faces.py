"""How fast are faces found and embedded? Against dlib's own way, one image after another in one process."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.data import test_data
from benchmarks.report import table, verdict
from pipelines import load
from utilities.directory_trees import find_images
from utilities.embedder import Embedder, embed_in_batches, load_embedder
from utilities.faces import find_faces, models
from utilities.milvus_utilities import connect, drop_collection
from utilities.settings import Settings

ROUNDS = 3
#: Of the photographs dlib's own way is measured on every tenth.
STEP = 10
#: What is timed: whole ways, and the network alone.
DLIB, LOAD, DLIB_ALONE, ALONE = "dlib", "load", "dlib alone", "alone"


def run() -> str:
    """Measure both ways in turn, several times over, and return medians, and medians of the ratios within a round."""
    folder = test_data()
    if folder is None:
        return "## How fast are faces?\n\nNot measured: LOOKALIKE_TEST_DATA names no folder with `data/lfw`."
    tree = folder / "data" / "lfw"
    files = [tree / path for path in find_images(tree)]
    with tempfile.TemporaryDirectory() as scratch:
        settings = Settings(home=Path(scratch))
        embedder = load_embedder("dlib", settings=settings, runtime="openvino")
        chips = np.concatenate([find_faces(_open(file), embedder.input_size)[1] for file in files[::STEP]])
        dlib = _Dlib()
        seconds: dict[str, list[float]] = {name: [] for name in (DLIB, LOAD, DLIB_ALONE, ALONE)}
        for counted in [False, *[True] * ROUNDS]:
            each = {
                DLIB: _seconds(lambda: dlib.read(files[::STEP])) / len(files[::STEP]),
                LOAD: _seconds(lambda: _load(tree, embedder, settings)) / len(files),
                DLIB_ALONE: _seconds(lambda: dlib.embed(chips)) / len(chips),
                ALONE: _seconds(lambda: embed_in_batches(embedder, chips)) / len(chips),
            }
            if counted:
                for name, value in each.items():
                    seconds[name].append(value)
    rows = [
        ("dlib's own way, one process", f"{1 / statistics.median(seconds[DLIB]):.1f}"),
        (f"`lookalike load --what faces`, {embedder.runtime}", f"{1 / statistics.median(seconds[LOAD]):.1f}"),
    ]
    alone = [
        ("dlib, `compute_face_descriptor`", f"{1000 * statistics.median(seconds[DLIB_ALONE]):.1f}"),
        (embedder.runtime, f"{1000 * statistics.median(seconds[ALONE]):.2f}"),
    ]
    reached = [
        ("load against dlib's own way", verdict(_ratio(seconds[DLIB], seconds[LOAD]), 1.7, unit=" ×")),
        ("the network alone", f"{_ratio(seconds[DLIB_ALONE], seconds[ALONE]):.3g} ×"),
    ]
    return (
        f"## How fast are faces?\n\n{len(files):,} photographs of Labeled Faces in the Wild, 250 by 250 pixels, dlib's "
        f"detector and network, Milvus Lite, medians of {ROUNDS} rounds.\n\n{table(['way', 'images a second'], rows)}"
        "\n\nThe network alone, with faces cut out beforehand:\n\n"
        f"{table(['run by', 'milliseconds a face'], alone)}\n\n{table(['figure', 'reached'], reached)}"
    )


class _Dlib:
    """What faces are usually embedded with."""

    def __init__(self) -> None:
        import dlib

        self.package: Any = dlib
        self.detector = dlib.get_frontal_face_detector()
        self.landmarks = dlib.shape_predictor(str(models() / "shape_predictor_5_face_landmarks.dat"))
        file = models() / "dlib_face_recognition_resnet_model_v1.dat"
        self.network = dlib.face_recognition_model_v1(str(file))

    def read(self, files: Sequence[Path]) -> None:
        for file in files:
            pixels = np.asarray(_open(file))
            for box in self.detector(pixels, 1):  # enlarged twice, as a load does
                chip = self.package.get_face_chip(pixels, self.landmarks(pixels, box), 150)
                self.network.compute_face_descriptor(chip)

    def embed(self, chips: NDArray[np.uint8]) -> None:
        for chip in chips:
            self.network.compute_face_descriptor(chip)


def _open(file: Path) -> Image.Image:
    with Image.open(file) as image:
        return image.convert("RGB")


def _load(tree: Path, embedder: Embedder, settings: Settings) -> None:
    load.run(tree, collection="faces", embedder=embedder, settings=settings, progress=False)
    drop_collection(connect(settings=settings), "faces")
    settings.id_map_path("faces").unlink()


def _seconds(way: Callable[[], object]) -> float:
    start = time.perf_counter()
    way()
    return time.perf_counter() - start


def _ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    return statistics.median(one / other for one, other in zip(slow, fast, strict=True))
