"""Is a load as fast as the machine allows? Against the peers' ways with Keras, and against the bare network."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from PIL.JpegImagePlugin import JpegImageFile

from benchmarks.data import large_photographs, photographs
from benchmarks.report import table, verdict
from pipelines import load
from tests.milvus_server import running_server
from utilities.backbones import import_keras
from utilities.directory_trees import find_images
from utilities.drawn_images import draw_tree
from utilities.embedder import Embedder, embed_in_batches, load_embedder
from utilities.item_streams import sample_pixels
from utilities.milvus_utilities import connect, drop_collection
from utilities.quantization import SAMPLE, quantize
from utilities.settings import Settings

BACKBONE = "resnet50"
ROUNDS = 5
#: Images of a whole load, and of each of Keras's slower ways.
LOADED, ONE_BY_ONE, BATCHED, LARGE = 2_048, 48, 160, 96


def run() -> str:
    """Measure all ways in turn, several times over, and return medians, and medians of the ratios within a round."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        settings = Settings(home=scratch / "home")
        source, kind = photographs(scratch)
        tree = _first(source, find_images(source)[:LOADED], scratch / "small")
        files = [tree / path for path in find_images(tree)]
        embedder = load_embedder(BACKBONE, "random", settings, runtime="openvino")
        exact = load_embedder(BACKBONE, "random", settings, runtime="openvino", precision="f32")
        pixels = sample_pixels(tree, find_images(tree), LOADED, embedder, settings)
        int8, _ = quantize(exact, pixels[: 2 * SAMPLE], settings)
        large = large_photographs(scratch, LARGE)
        one_by_one, batched = _keras_ways()
        small_rates = _rounds(
            {
                "one by one, `load_img` and `model.predict`": lambda: one_by_one(files[:ONE_BY_ONE]),
                "batches of 32, `load_img` and `model.predict`": lambda: batched(files[:BATCHED]),
                f"bare network, pixels in memory, {embedder.runtime}": lambda: _bare(embedder, pixels),
                f"whole load, {embedder.runtime}": lambda: _load(tree, embedder, settings),
                f"bare network, pixels in memory, {int8.runtime}": lambda: _bare(int8, pixels),
                f"whole load, {int8.runtime}": lambda: _load(tree, int8, settings),
            }
        )
        large_files = [large / path for path in find_images(large)]
        large_rates = _rounds(
            {
                "batches of 32, `load_img` and `model.predict`": lambda: batched(large_files[:32]),
                "the same load as below, decoded in full": lambda: _decoded_in_full(large, embedder, settings),
                f"whole load, {embedder.runtime}": lambda: _load(large, embedder, settings),
                f"whole load, {int8.runtime}": lambda: _load(large, int8, settings),
            }
        )
        memory = _memory(scratch)
    one, batch, bare, whole, bare_int8, whole_int8 = small_rates.values()
    large_batch, in_full, scaled, _ = large_rates.values()
    reached = [
        ("load against one-by-one predict", verdict(_ratio(whole, one), 8, unit=" ×")),
        ("load against batched Keras", verdict(_ratio(whole, batch), 2.5, unit=" ×")),
        ("load against the bare network", verdict(_ratio(whole, bare), 0.93)),
        ("the same in int8", f"{_ratio(whole_int8, bare_int8):.3g}"),
        ("12-megapixel JPEGs against full decoding", verdict(_ratio(scaled, in_full), 4, unit=" ×")),
        ("the same against batched Keras", f"{_ratio(scaled, large_batch):.3g} ×"),
        ("peak memory beside a server, 20,000 against 4,000", verdict(memory[1] / memory[0], 1.1, at_most=True)),
        ("peak memory with Milvus Lite inside, likewise", f"{memory[3] / memory[2]:.3g}"),
    ]
    return (
        f"## How fast is a load?\n\n{BACKBONE} with random weights, Milvus Lite, medians of {ROUNDS} rounds; a whole "
        "load finds, decodes, embeds, inserts, writes the id map, flushes and indexes.\n\n"
        f"{len(pixels):,} {kind}:\n\n{_rates(small_rates)}\n\n"
        f"{LARGE} JPEGs of 4000 by 3000 pixels:\n\n{_rates(large_rates)}\n\n"
        "Peak memory of the process, mobilenetv2, drawn images:\n\n"
        + table(
            ["database", "4,000 images", "20,000 images"],
            [
                ("a server", f"{memory[0]:,.0f} MiB", f"{memory[1]:,.0f} MiB"),
                (
                    "Milvus Lite, which holds the collection in the process",
                    f"{memory[2]:,.0f} MiB",
                    f"{memory[3]:,.0f} MiB",
                ),
            ],
        )
        + "\n\n"
        + table(["figure", "reached"], reached)
    )


def _first(source: Path, paths: Sequence[str], tree: Path) -> Path:
    """A tree of copies of some files of another."""
    for path in paths:
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes((source / path).read_bytes())
    return tree


def _keras_ways() -> tuple[Callable[[Sequence[Path]], int], Callable[[Sequence[Path]], int]]:
    """What reverse image search is usually made of."""
    keras = import_keras()
    model = keras.applications.ResNet50(include_top=False, weights=None, pooling="avg", input_shape=(224, 224, 3))
    preprocess = keras.applications.resnet50.preprocess_input

    def read(file: Path) -> NDArray[np.float32]:
        return np.asarray(keras.utils.img_to_array(keras.utils.load_img(file, target_size=(224, 224))))

    def one_by_one(files: Sequence[Path]) -> int:
        for file in files:
            model.predict(preprocess(read(file)[None]), verbose=0)
        return len(files)

    def batched(files: Sequence[Path]) -> int:
        for start in range(0, len(files), 32):
            model.predict(preprocess(np.stack([read(file) for file in files[start : start + 32]])), verbose=0)
        return len(files)

    return one_by_one, batched


def _bare(embedder: Embedder, pixels: NDArray[np.uint8]) -> int:
    return len(embed_in_batches(embedder, pixels))


def _load(tree: Path, embedder: Embedder, settings: Settings) -> int:
    summary = load.run(tree, collection="images", embedder=embedder, settings=settings, progress=False)
    drop_collection(connect(settings=settings), "images")
    settings.id_map_path("images").unlink()
    return summary.inserted


def _decoded_in_full(tree: Path, embedder: Embedder, settings: Settings) -> int:
    """Every pixel of a JPEG is decoded before the image is made small."""
    with mock.patch.object(JpegImageFile, "draft"):
        return _load(tree, embedder, settings)


def _rounds(ways: dict[str, Callable[[], int]]) -> dict[str, list[float]]:
    """Images a second of each way, in every round; the round before the first is not counted."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for counted in [False, *[True] * ROUNDS]:
        for name, way in ways.items():
            start = time.perf_counter()
            count = way()
            if counted:
                rates[name].append(count / (time.perf_counter() - start))
    return rates


def _ratio(rates: Sequence[float], others: Sequence[float]) -> float:
    return statistics.median(rate / other for rate, other in zip(rates, others, strict=True))


def _rates(rates: dict[str, list[float]]) -> str:
    return table(["way", "images a second"], [(name, f"{statistics.median(each):.1f}") for name, each in rates.items()])


def _memory(scratch: Path) -> list[float]:
    """Peak memory in MiB: beside a server with 4,000 and with 20,000 images, then with Milvus Lite inside."""
    trees = []
    for per_category in (286, 1_429):
        tree = scratch / f"drawn_{per_category}"
        draw_tree(tree, per_category=per_category)
        trees.append(tree)
    home = scratch / "memory"
    load_embedder("mobilenetv2", "random", Settings(home=home), runtime="openvino")  # Exported before.
    with running_server(scratch / "memory_server") as server:
        beside = [_peak(tree, home, "--milvus-uri", server.uri) for tree in trees]
    return beside + [_peak(tree, home) for tree in trees]


def _peak(tree: Path, home: Path, *options: str) -> float:
    """Of a `lookalike load` in a process of its own."""
    program = (
        "import json, resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, capture_output=True);"
        "print(json.dumps(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024))"
    )
    lookalike = [str(Path(sys.executable).with_name("lookalike")), "--home", str(home), *options, "load", str(tree)]
    command = [sys.executable, "-c", program, *lookalike, "--backbone", "mobilenetv2", "--weights", "random"]
    return float(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
