"""Comparisons: of networks on a tree, of indexes on vectors; what cannot be measured is listed with its reason."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pymilvus import MilvusClient

from pipelines import compare, load
from tests.conftest import MeanColour
from utilities.charts import recall_and_speed_chart, speed_and_quality_chart
from utilities.errors import InvalidArgument, NoImagesFound
from utilities.index_comparison import LIBRARIES, Measured, Problem, apart, jittered, measure_libraries, measure_milvus
from utilities.milvus_utilities import list_collections
from utilities.retrieval_metrics import Estimate, overlap_at_k
from utilities.settings import Settings


@pytest.fixture
def problem(tmp_path: Path) -> Problem:
    vectors = np.random.default_rng(0).standard_normal((400, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Problem.write(tmp_path, vectors, jittered(vectors, 60, seed=1))


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_library_finds_the_true_neighbours(library: str, problem: Problem) -> None:
    try:
        built = LIBRARIES[library](problem.vectors())
    except ModuleNotFoundError as error:
        pytest.skip(f"{error.name} is not installed; pip install -e '.[compare]' builds it")
    found = np.array(built.search(problem.queries()))
    recall = overlap_at_k(found, problem.truth())
    exact = library in ("scikit-learn, brute force", "scikit-learn, k-d tree", "FAISS, flat")
    assert recall == 1 if exact else recall > 0.8
    # The most thorough of the other settings finds no less than the least thorough.
    recalls = [overlap_at_k(np.array(search(problem.queries())), problem.truth()) for search in built.others]
    assert recalls == [] or recalls[-1] >= recalls[0]
    assert bool(recalls) != exact


def test_libraries_are_measured_in_processes_of_their_own(problem: Problem) -> None:
    (measured,) = measure_libraries(problem, ["FAISS, HNSW"])
    assert measured.what == "FAISS, HNSW"
    assert measured.reason == ""
    assert measured.recall > 0.9
    assert min(measured.build_seconds, measured.p50_milliseconds, measured.batch_milliseconds) > 0
    assert measured.p50_milliseconds <= measured.p99_milliseconds
    assert len(measured.curve) == 7


def _fail(problem: Problem) -> list[Measured]:
    raise MemoryError


def _die(problem: Problem) -> list[Measured]:
    os.kill(os.getpid(), 9)
    return []


def test_what_fails_or_dies_is_listed_with_its_reason(problem: Problem) -> None:
    assert [(row.what, row.reason) for row in apart(["a", "b"], _fail, problem)] == [
        ("a", "MemoryError"),
        ("b", "MemoryError"),
    ]
    (row,) = apart(["c"], _die, problem)
    assert row.reason == "its process was ended by the system, probably for lack of memory"


def test_a_library_that_is_missing_is_listed(problem: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "annoy.py").write_text("raise ModuleNotFoundError(\"No module named 'annoy'\", name='annoy')\n")
    monkeypatch.syspath_prepend(tmp_path)
    (row,) = measure_libraries(problem, ["Annoy"])
    assert row.reason == "it cannot be imported (No module named 'annoy'): .venv/bin/pip install -e '.[compare]'"
    assert np.isnan(row.recall)


def test_milvus_is_measured_and_leaves_nothing(
    client: MilvusClient, client_settings: Settings, problem: Problem
) -> None:
    settings = client_settings if client_settings.milvus_uri else Settings(home=problem.folder / "other")
    rows = measure_milvus(problem, "Milvus", settings, ("flat", "hnsw"))
    assert [row.what for row in rows] == ["Milvus, insertion", "Milvus, flat", "Milvus, hnsw"]
    assert [row.reason for row in rows] == ["", "", ""]
    assert rows[1].recall == 1
    assert rows[2].recall > 0.9
    assert np.isnan(rows[1].memory) == bool(client_settings.milvus_uri)
    assert list_collections(client) == []


def test_made_up_vectors_lie_near_real_ones() -> None:
    real = np.eye(8, dtype=np.float32)
    made = jittered(real, 500, seed=0)
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)
    assert (made @ real.T).max(axis=1).mean() == pytest.approx(0.94, abs=0.02)


def test_indexes_of_a_collection_are_compared(
    colour_tree: Path, settings: Settings, embedder: MeanColour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(10):
        Image.new("RGB", (9, 9), (255, 20 * number, 10)).save(colour_tree / f"red/more_{number}.png")
    load.run(colour_tree, collection="colours", embedder=embedder, settings=settings, progress=False)
    monkeypatch.setattr(compare, "LIBRARIES", {"FAISS, flat": LIBRARIES["FAISS, flat"]})
    monkeypatch.setattr(compare, "MILVUS_INDEXES", ("flat",))
    found = compare.indexes("colours", scale=300, out=tmp_path / "out", settings=settings, progress=False)
    assert (found.vectors, found.real, found.dimension) == (300, 25, 3)
    assert [row.what for row in found.rows] == ["Milvus Lite, insertion", "Milvus Lite, flat", "FAISS, flat"]
    assert found.rows[2].recall > 0.9
    with Image.open(found.chart) as chart:
        assert chart.width > 800
    with pytest.raises(InvalidArgument, match="holds 25 vectors; --scale must be more"):
        compare.indexes("colours", scale=24, out=tmp_path, settings=settings)


@pytest.fixture
def home(settings: Settings, networks: Path) -> Settings:
    settings.networks.parent.mkdir(parents=True)
    settings.networks.symlink_to(networks)
    return settings


def test_networks_are_compared_and_what_cannot_be_had_is_listed(
    colour_tree: Path, home: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")  # where nobody answers
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    damaged = tmp_path / "damaged.h5"
    damaged.write_bytes(b"no weights")
    (colour_tree / "red/broken.png").write_bytes(b"no image")
    names = ["MobileNetV2=random", f"vgg16={damaged}"]
    found = compare.backbones(colour_tree, names, sample=100, out=tmp_path / "out", settings=home, progress=False)
    assert (found.images, found.labels) == (16, 5)
    assert found.highest == pytest.approx((12 * 2 + 4 * 3) / 16 / 20)
    good, bad = found.rows
    assert (good.backbone, good.dimension, good.bytes_per_vector, good.reason) == ("mobilenetv2", 1280, 5120, "")
    assert good.images_per_second
    assert good.precision
    assert good.precision.mean == pytest.approx(2 / 20)  # All 15 stand among the first 20.
    assert good.accuracy
    assert good.map
    assert good.map.mean > 0.2
    assert (bad.backbone, bad.precision) == ("vgg16", None)
    assert "cannot be read" in bad.reason
    assert found.chart
    with Image.open(found.chart) as chart:
        assert chart.width > 700


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["resnet51"], "There is no backbone 'resnet51'; choose one of"),
        (["resnet50=weights.txt"], "is neither 'imagenet' nor 'random' nor a file"),
    ],
)
def test_a_network_that_is_misspelt_is_refused(
    colour_tree: Path, settings: Settings, tmp_path: Path, names: list[str], message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        compare.backbones(colour_tree, names, sample=100, out=tmp_path, settings=settings)


def test_a_tree_without_labels_is_refused(tmp_path: Path, settings: Settings) -> None:
    names = ["mobilenetv2=random"]
    (tmp_path / "a").mkdir()
    with pytest.raises(NoImagesFound):
        compare.backbones(tmp_path, names, sample=100, out=tmp_path, settings=settings)
    Image.new("RGB", (4, 4)).save(tmp_path / "a/1.png")
    with pytest.raises(
        InvalidArgument, match=r"The folders of .* tell nothing: of the 1 images looked at some must share a folder"
    ):
        compare.backbones(tmp_path, names, sample=100, out=tmp_path, settings=settings)


def test_charts_say_what_to_see() -> None:
    quality = {"a": (100.0, Estimate(0.5, 0.4, 0.6)), "b": (20.0, Estimate(0.7, 0.6, 0.8))}
    figure = speed_and_quality_chart("images", quality, "precision@20")
    assert "b finds best, a is fastest." in figure.texts[1].get_text()
    (axes,) = figure.axes
    assert "images a second" in axes.get_xlabel()
    assert "precision@20" in axes.get_ylabel()
    curves = {"FAISS, HNSW": [(0.9, 1e4), (1.0, 1e3)], "Milvus, flat": [(1.0, 100.0)]}
    (axes,) = recall_and_speed_chart("vectors", curves).axes
    legend = axes.get_legend()
    assert legend
    assert [text.get_text() for text in legend.get_texts()] == ["FAISS, HNSW", "Milvus, flat"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.5", "0.9", "0.99", "0.999", "all"]


def test_the_commands_print_tables(
    lookalike: Callable[..., subprocess.CompletedProcess[str]], colour_tree: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report"
    command = ["compare", "backbones", colour_tree, "--backbone", "mobilenetv2=random", "--out", out]
    printed = lookalike(*command).stdout
    assert "backbone            dimension  bytes a vector  images a second  precision@20" in printed
    assert f"chart: {out / 'backbones.png'}\n" in printed
    assert "precision@20 cannot be more than 0.1000 here" in printed
    damaged = tmp_path / "damaged.h5"
    damaged.write_bytes(b"no weights")
    nothing = lookalike("compare", "backbones", colour_tree, "--backbone", f"mobilenetv2={damaged}", "--out", out)
    assert nothing.returncode == 1
    assert "mobilenetv2=damaged.h5: The weights file" in nothing.stdout
    (row,) = json.loads(lookalike(*command, "--json").stdout)["rows"]
    assert (row["dimension"], row["bytes_per_vector"]) == (1280, 5120)
    for number in range(8):
        Image.new("RGB", (9, 9), (255, 25 * number, 10)).save(colour_tree / f"red/more_{number}.png")
    lookalike("load", colour_tree, "--backbone", "mobilenetv2", "--weights", "random")
    printed = lookalike("compare", "indexes", "colours", "--out", out).stdout
    assert "colours: 23 vectors of 1,280 dimensions\n" in printed
    assert "index                      build s  memory MiB  1 query ms  1,000 queries s  recall@20\n" in printed
    for name in ("Milvus Lite, hnsw", *LIBRARIES):
        assert name in printed
    assert f"chart: {out / 'indexes.png'}\n" in printed
