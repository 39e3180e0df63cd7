"""PCA: the projection itself, folded into a network on every runtime, at a load, and over a whole collection."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pymilvus import MilvusClient

from pipelines import load, reduce
from tests.conftest import MeanColour
from utilities.drawn_images import draw_tree
from utilities.embedder import embedder_of, load_embedder, reduce_embedder
from utilities.errors import EmbedderMismatch, InvalidArgument, Stopped, WeightsUnavailable
from utilities.exported_networks import find_by_fingerprint
from utilities.id_map import IdMap
from utilities.milvus_utilities import (
    connect,
    create_collection,
    delete_items,
    describe_collection,
    drop_collection,
    insert_embeddings,
    nearest_neighbours,
    read_embeddings,
    read_items,
    stored_columns,
)
from utilities.reduction import PrincipalComponents, Projection, dimensions_to_try
from utilities.sampling import draw_sample
from utilities.settings import Settings


def unit(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


@pytest.fixture
def cloud() -> NDArray[np.float32]:
    """400 vectors of six dimensions around (1, 2, 3, 4, 5, 6), which vary along three of them, by 9, 4 and 1."""
    random = np.random.default_rng(0)
    spread = np.zeros((400, 6))
    spread[:, [1, 3, 5]] = random.normal(size=(400, 3)) * [3, 2, 1]
    return np.asarray(spread + np.arange(1, 7), np.float32)


def test_the_axes_are_those_of_largest_variance(cloud: NDArray[np.float32]) -> None:
    components = PrincipalComponents.of(cloud)
    assert components.rank == 3
    np.testing.assert_allclose(components.mean, cloud.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(np.abs(components.axes[:3, [1, 3, 5]]), np.eye(3), atol=0.12)
    np.testing.assert_allclose(components.variances[:3], [9, 4, 1], rtol=0.2)
    projected = components.projection(2)(cloud)
    assert projected.dtype == np.float32
    np.testing.assert_allclose(np.abs(projected), np.abs(unit((cloud - cloud.mean(axis=0))[:, [1, 3]])), atol=0.2)


def test_all_axes_keep_every_angle_of_the_centred_vectors(cloud: NDArray[np.float32]) -> None:
    projected = PrincipalComponents.of(cloud).projection(3)(cloud)
    centred = unit(cloud - cloud.mean(axis=0))
    np.testing.assert_allclose(projected @ projected.T, centred @ centred.T, atol=1e-4)


def test_whitened_axes_vary_alike(cloud: NDArray[np.float32]) -> None:
    projection = PrincipalComponents.of(cloud).projection(3, whiten=True)
    np.testing.assert_allclose(((cloud - projection.mean) @ projection.axes.T).std(axis=0), [1, 1, 1], rtol=0.01)


def test_fewer_vectors_than_dimensions_have_fewer_axes() -> None:
    few = np.random.default_rng(0).normal(size=(10, 64)).astype(np.float32)
    assert PrincipalComponents.of(few).rank == 9


@pytest.mark.parametrize("dimension", [0, 4, 7])
def test_a_number_that_cannot_be_had_is_refused(cloud: NDArray[np.float32], dimension: int) -> None:
    with pytest.raises(InvalidArgument, match=rf"--pca {dimension} cannot be had.*take a number from 1 to 3\."):
        PrincipalComponents.of(cloud).projection(dimension)


def test_a_vector_without_direction_stays_finite(cloud: NDArray[np.float32]) -> None:
    projection = PrincipalComponents.of(cloud).projection(2)
    np.testing.assert_array_equal(projection(projection.mean[None]), [[0, 0]])


def test_a_projection_is_read_as_it_was_written(cloud: NDArray[np.float32], tmp_path: Path) -> None:
    projection = PrincipalComponents.of(cloud).projection(2, whiten=True)
    projection.save(tmp_path / "projection.npz")
    again = Projection.load(tmp_path / "projection.npz")
    assert again.digest == projection.digest
    assert again.whitened
    assert PrincipalComponents.of(cloud).projection(2).digest != projection.digest


def test_a_sample_is_drawn_without_doubles_and_the_same_every_time() -> None:
    assert draw_sample(5, 5).tolist() == [0, 1, 2, 3, 4]
    drawn = draw_sample(1_000, 100)
    assert len(set(drawn.tolist())) == 100
    assert drawn.tolist() == sorted(drawn.tolist()) == draw_sample(1_000, 100).tolist()


def test_numbers_to_try_end_with_the_largest() -> None:
    assert dimensions_to_try(20) == [2, 3, 4, 6, 8, 12, 16, 20]
    assert dimensions_to_try(16) == [2, 3, 4, 6, 8, 12, 16]
    assert dimensions_to_try(1) == [1]


@pytest.fixture
def home(settings: Settings, networks: Path) -> Settings:
    """Settings with the untrained MobileNetV2 at hand, in a folder of their own, so that what is folded stays here."""
    settings.networks.mkdir(parents=True)
    for network in networks.iterdir():
        (settings.networks / network.name).symlink_to(network)
    return settings


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    draw_tree(tmp_path / "drawn", per_category=3)
    return tmp_path / "drawn"


@pytest.mark.parametrize("whiten", [False, True])
def test_every_runtime_projects(home: Settings, tree: Path, whiten: bool) -> None:
    whole = load_embedder("mobilenetv2", "random", home, runtime="openvino", precision="f32")
    pixels = np.stack([np.asarray(Image.open(file).resize((224, 224))) for file in sorted(tree.rglob("*.jpg"))])
    vectors = np.concatenate([*whole.embed_stream([pixels[:20], pixels[20:]])])
    projection = PrincipalComponents.of(vectors).projection(8, whiten=whiten)
    for runtime in ("openvino", "keras"):
        reduced = reduce_embedder(whole, projection, home, runtime=runtime, precision="f32")
        assert reduced.fingerprint == replace(whole.fingerprint, dimension=8, pca_digest=projection.digest)
        # An untrained network's vectors differ in their last digits only, which centring brings to the front.
        np.testing.assert_allclose(reduced.embed(pixels[:4]), projection(whole.embed(pixels[:4])), atol=5e-3)
    with pytest.raises(InvalidArgument, match=r"There is no network of mean_colour"):
        reduce_embedder(MeanColour(), projection, home)


def test_a_load_projects_and_the_next_one_goes_on(home: Settings, tree: Path, tmp_path: Path) -> None:
    arguments = {"collection": "drawn", "backbone": "mobilenetv2", "weights": "random", "settings": home}
    summary = load.run(tree, pca=8, progress=False, **arguments)  # type: ignore[arg-type]
    assert summary.inserted == len(list(tree.rglob("*.jpg")))
    client = connect(settings=home)
    info = describe_collection(client, "drawn")
    assert info.fingerprint.dimension == 8
    embeddings = read_embeddings(client, info, read_items(client, "drawn")["id"].to_numpy())
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(embeddings.mean(axis=0), 0, atol=0.3)  # Centred: every direction is taken.
    assert load.run(tree, progress=False, **arguments).unchanged == summary.inserted  # type: ignore[arg-type]
    assert load.run(tree, pca=8, progress=False, **arguments).inserted == 0  # type: ignore[arg-type]
    with pytest.raises(EmbedderMismatch, match="not of 9 dimensions by PCA; load into another --collection"):
        load.run(tree, pca=9, progress=False, **arguments)  # type: ignore[arg-type]
    with pytest.raises(EmbedderMismatch, match="are not whitened; load into another --collection"):
        load.run(tree, pca=8, whiten=True, progress=False, **arguments)  # type: ignore[arg-type]
    network = find_by_fingerprint(info.fingerprint, home)
    assert network
    network.directory.rename(tmp_path / "elsewhere")
    with pytest.raises(WeightsUnavailable, match="was fitted to images where it was loaded; copy mobilenetv2-8-"):
        embedder_of(info.fingerprint, home)


@pytest.mark.parametrize(
    ("pca", "whiten", "message"),
    [
        (5_000, False, "--pca 5,000 is no number from 1 to 1,280, the dimensions of mobilenetv2"),
        (1_000, False, "--pca 1,000 has to be fitted to more than 1,000 images that can be read, and here are"),
        (None, True, "--whiten says something of --pca"),
    ],
)
def test_a_projection_that_cannot_be_fitted_is_refused(
    home: Settings, tree: Path, pca: int | None, whiten: bool, message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        load.run(tree, backbone="mobilenetv2", weights="random", pca=pca, whiten=whiten, settings=home, progress=False)


@pytest.fixture
def loaded(client: MilvusClient, client_settings: Settings, networks: Path, tree: Path) -> Settings:
    """A collection `drawn` of untrained MobileNetV2, embedded and on a server."""
    client_settings.networks.mkdir(parents=True)
    for network in networks.iterdir():
        (client_settings.networks / network.name).symlink_to(network)
    years = tree.parent / "years.csv"
    years.write_text("path,year\n" + "".join(f"{path.relative_to(tree)},2020\n" for path in tree.glob("*/*1.jpg")))
    load.run(
        tree,
        backbone="mobilenetv2",
        weights="random",
        attributes=years,
        settings=client_settings,
        progress=False,
    )
    return client_settings


def test_a_collection_is_reduced_into_another_without_its_images(
    client: MilvusClient, loaded: Settings, tree: Path, tmp_path: Path
) -> None:
    images = sorted(tree.rglob("*.jpg"))
    hidden = tmp_path / "hidden"
    tree.rename(hidden)
    found = reduce.run("drawn", into="less", pca=8, out=tmp_path / "out", settings=loaded, progress=False)
    hidden.rename(tree)
    assert found.into == ("less", len(images), 8)
    assert [each.dimension for each in found.reduced][:5] == [2, 3, 4, 6, 8]
    assert found.full.dimension == 1280
    assert found.full.overlap == 1
    overlaps = [each.overlap for each in found.reduced]
    assert overlaps[-1] > overlaps[0]
    with Image.open(found.chart) as chart:
        assert chart.width > 900
    items = read_items(client, "less")
    assert set(items["path"]) == set(read_items(client, "drawn")["path"])
    assert not IdMap(loaded.id_map_path("less")).compare(items)
    less = describe_collection(client, "less")
    drawn = describe_collection(client, "drawn")
    said = sorted(stored_columns(client, less), key=lambda each: each[0])
    assert said
    assert said == sorted(stored_columns(client, drawn), key=lambda each: each[0])
    # Its own network embeds what is loaded and queried later: an image finds itself.
    embedder = embedder_of(less.fingerprint, loaded, precision="f32")
    pixels = np.asarray(Image.open(images[5]).resize((224, 224)))[None]
    best = nearest_neighbours(client, less, embedder.embed(pixels), 1)[0][0]
    assert best["score"] > 0.9
    assert load.run(tree, collection="less", settings=loaded, progress=False).unchanged == len(images)


def test_a_copy_that_was_interrupted_is_completed(
    loaded: Settings, client: MilvusClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = {"into": "less", "pca": 8, "out": tmp_path, "settings": loaded, "progress": False}

    def interrupted(*_: object) -> None:
        raise Stopped("Stopped.", 2)

    with monkeypatch.context() as patch:
        patch.setattr("utilities.copied_collections.insert_items", interrupted)
        with pytest.raises(
            Stopped, match=r"^Stopped with 0 of \d+ items copied to 'less'; the same command goes on"
        ) as stopped:
            reduce.run("drawn", **arguments)  # type: ignore[arg-type]
    assert stopped.value.exit_status == 130
    reduce.run("drawn", **arguments)  # type: ignore[arg-type]
    items = read_items(client, "less")
    before = read_embeddings(client, describe_collection(client, "less"), items["id"].to_numpy())
    delete_items(client, "less", items["id"].tolist()[::2])
    loaded.id_map_path("less").unlink()
    found = reduce.run("drawn", sample=30, **arguments)  # type: ignore[arg-type]  # Another sample, the same projection.
    assert found.into == ("less", len(items), 8)
    after = read_embeddings(client, describe_collection(client, "less"), items["id"].to_numpy())
    np.testing.assert_allclose(after, before, atol=1e-5)
    with pytest.raises(EmbedderMismatch, match="not of 'drawn' reduced to 7 dimensions; choose another name"):
        reduce.run("drawn", **{**arguments, "pca": 7})  # type: ignore[arg-type]
    for others, message in (
        ({"into": "drawn"}, "choose another name"),
        ({"whiten": True}, "reduced to 8 dimensions and whitened; choose another name"),
    ):
        with pytest.raises(EmbedderMismatch, match=message):
            reduce.run("drawn", **{**arguments, **others})  # type: ignore[arg-type]
    # Without a number the copy's own counts.
    assert reduce.run("drawn", **{**arguments, "pca": None}).into == ("less", len(items), 8)  # type: ignore[arg-type]
    with pytest.raises(
        InvalidArgument, match="'less' are reduced already, to 8 dimensions; reduce the collection that"
    ):
        reduce.run("less", **{**arguments, "into": "least", "pca": 4})  # type: ignore[arg-type]
    network = find_by_fingerprint(describe_collection(client, "less").fingerprint, loaded)
    assert network
    network.directory.rename(tmp_path / "elsewhere")
    with pytest.raises(WeightsUnavailable, match=r"The network of the collection 'less', mobilenetv2-8-\w+, is not in"):
        reduce.run("drawn", **arguments)  # type: ignore[arg-type]
    drop_collection(client, "less")


def test_vectors_of_any_length_are_reduced_by_their_directions(
    lite: MilvusClient, settings: Settings, networks: Path, tmp_path: Path
) -> None:
    """As a notebook inserts them, into a collection that does not know what made them."""
    settings.networks.symlink_to(networks)
    random = np.random.default_rng(0)
    vectors = unit(random.normal(size=(60, 1280)))
    lengths = np.linspace(0.1, 50, 60, dtype=np.float32)[:, None]
    fingerprint = replace(load_embedder("mobilenetv2", "random", settings).fingerprint, weights_digest="")
    create_collection(lite, "long", dimension=1280, fingerprint=fingerprint)
    paths = [str(tmp_path / f"{row % 2}/{row}.jpg") for row in range(60)]
    ids = np.array(insert_embeddings(lite, "long", vectors * lengths, paths, settings=settings))
    np.testing.assert_allclose(read_embeddings(lite, describe_collection(lite, "long"), ids), vectors, atol=1e-5)
    for _ in range(2):  # The second completes the first.
        found = reduce.run("long", into="short", pca=8, out=tmp_path, settings=settings, progress=False)
        assert found.into == ("short", 60, 8)
    reduced = read_embeddings(lite, describe_collection(lite, "short"), ids)
    # The sample is sorted by path, which does not matter to PCA but for signs, and not at all to cosines.
    expected = PrincipalComponents.of(vectors).projection(8)(vectors)
    np.testing.assert_allclose(reduced @ reduced.T, expected @ expected.T, atol=1e-3)


def test_without_labels_that_tell_anything_neighbours_are_counted(loaded: Settings, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    paths = IdMap(loaded.id_map_path("drawn")).read()["path"]
    labels.write_text("\n".join(["path,label", *(f"{path},same" for path in paths[1:])]))
    found = reduce.run("drawn", labels=labels, out=tmp_path, settings=loaded, progress=False)
    assert found.sample == len(paths) - 1
    assert found.full.precision is None
    assert found.best is None
    assert found.reduced[-1].overlap == 1
    assert found.enough is not None
    with pytest.raises(InvalidArgument, match="name that one with --into"):
        reduce.run("drawn", pca=8, out=tmp_path, settings=loaded, progress=False)
    labels.write_text(f"path,label\n{paths[0]},alone\n")
    with pytest.raises(InvalidArgument, match="holds 1 items with a label, too few to fit PCA to; 22 are needed"):
        reduce.run("drawn", labels=labels, out=tmp_path, settings=loaded, progress=False)


def test_vectors_that_are_all_the_same_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="which are all the same"):
        PrincipalComponents.of(np.ones((30, 4), np.float32)).projection(1)


def test_the_command_shows_what_is_enough(
    lookalike: Callable[..., subprocess.CompletedProcess[str]], tree: Path, tmp_path: Path
) -> None:
    lookalike("load", tree, "--backbone", "mobilenetv2", "--weights", "random")
    printed = lookalike("reduce", "drawn", "--out", tmp_path / "report").stdout
    assert "dimensions  variance %  precision@20     mAP  nearest 20 kept\n" in printed
    assert "all 1280" in printed
    assert f"chart: {tmp_path / 'report' / 'reduction.png'}\n" in printed
    numbers = json.loads(lookalike("reduce", "drawn", "--out", tmp_path / "report", "--json").stdout)
    assert numbers["full"]["dimension"] == 1280
    assert numbers["into"] is None
    count = len(list(tree.rglob("*.jpg")))
    copied = lookalike("reduce", "drawn", "--into", "less", "--pca", "6", "--whiten", "--out", tmp_path / "report")
    assert copied.stdout.splitlines()[-1] == f"less holds {count} items of 6 dimensions"
    assert lookalike("load", tree, "--collection", "less", "--pca", "6").stdout.startswith(f"{count} found: 0 inserted")
    shown = dict(
        line.split(maxsplit=1) for line in lookalike("info", "less").stdout.splitlines() if " digest" not in line
    )
    assert shown["dimension"] == "6"
    query = lookalike("query", sorted(tree.rglob("*.jpg"))[0], "--collection", "less", "--top-k", "1")
    assert query.returncode == 0, query.stderr
    loaded = lookalike(
        "load",
        tree,
        "--collection",
        "again",
        "--pca",
        "6",
        "--whiten",
        "--backbone",
        "mobilenetv2",
        "--weights",
        "random",
    )
    assert loaded.stdout.startswith(f"{count} found: {count} inserted"), loaded.stderr
