"""Views, pooling and length: what a network makes of them, by every runtime, from load to query."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pymilvus import MilvusClient

from pipelines import load
from pipelines.printing import info_as_json
from tests.test_backbones import pixels
from utilities.backbones import BACKBONES, build_network
from utilities.drawn_images import draw_tree
from utilities.embedder import embed_in_batches, embedder_of, load_embedder, reduce_embedder
from utilities.errors import EmbedderMismatch, InvalidArgument
from utilities.exported_networks import find_by_weights
from utilities.milvus_utilities import connect, describe_collection, read_embeddings, read_items, stored_embeddings
from utilities.reduced_collections import copy_reduced
from utilities.reduction import PrincipalComponents, unit_length
from utilities.settings import Settings
from utilities.similar_images import similar_images
from utilities.variants import PLAIN, Variant

VIEWS = Variant(views="squash,crop,mirror")
GEM = Variant("gem", "squash,mirror")
KEPT = Variant(keep_length=True)


@pytest.fixture(scope="module")
def home(networks: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home with an untrained MobileNetV2, plain and of several views, and what else is exported here."""
    settings = Settings(home=tmp_path_factory.mktemp("variants"))
    settings.networks.mkdir()
    for network in networks.iterdir():
        (settings.networks / network.name).symlink_to(network)
    load_embedder("mobilenetv2", "random", settings, variant=VIEWS, runtime="openvino")
    return settings


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    draw_tree(folder, per_category=1)
    return folder


def test_several_views_are_the_mean_of_each_by_itself(home: Settings, tree: Path) -> None:
    plain = load_embedder("mobilenetv2", "random", home, runtime="openvino", precision="f32")
    several = load_embedder("mobilenetv2", "random", home, variant=VIEWS, runtime="openvino", precision="f32")
    assert several.fingerprint == replace(plain.fingerprint, views="squash,crop,mirror")
    assert (several.input_shape, several.batch_size) == ((4, 224, 224, 3), plain.batch_size // 4)
    images = [Image.open(file) for file in sorted(tree.rglob("*.jpg"))[:5]]
    shown = np.stack([several.see(image) for image in images])
    each = plain.embed(shown.reshape(-1, 224, 224, 3)).reshape(5, 4, -1)
    # An untrained network's vectors differ in their last digits only.
    np.testing.assert_allclose(embed_in_batches(several, shown), unit_length(each.mean(axis=1)), atol=1e-6)
    assert np.abs(each[:, 0] - each.mean(axis=1)).max() > 1e-5


@pytest.mark.parametrize(
    ("backbone", "variant"), [("mobilenetv2", VIEWS), ("efficientnetb0", GEM), ("mobilenetv2", KEPT)], ids=str
)
def test_every_runtime_and_a_later_process_embed_alike(backbone: str, variant: Variant, home: Settings) -> None:
    exact = load_embedder(backbone, "random", home, variant=variant, runtime="openvino", precision="f32")
    keras = load_embedder(backbone, "random", home, variant=variant, runtime="keras")
    again = embedder_of(exact.fingerprint, home, precision="f32")
    assert exact.fingerprint.variant == variant
    for other in (keras, again):
        assert other.fingerprint == exact.fingerprint
        assert (other.input_shape, other.input_size) == (exact.input_shape, exact.input_size)
    shown = pixels(224, 6)[np.arange(6 * exact.batch_size) % 6].reshape(-1, 224, 224, 3)
    views = exact.input_shape[0] if len(exact.input_shape) == 4 else 1
    shown = shown[: len(shown) // views * views].reshape(-1, *exact.input_shape)
    embeddings = embed_in_batches(exact, shown)
    scale = np.abs(embeddings).max()
    for other in (keras, again):
        np.testing.assert_allclose(embed_in_batches(other, shown), embeddings, atol=1e-5 * scale)
    lengths = np.linalg.norm(embeddings, axis=1)
    assert (np.abs(lengths - 1).max() < 1e-5) != variant.keep_length


@pytest.mark.parametrize("name", ["mobilenetv2", "efficientnetb0", "convnexttiny"])
def test_the_generalised_mean_is_that_of_the_feature_maps(name: str) -> None:
    import keras

    backbone, images = BACKBONES[name], pixels(224, 2)
    network, _ = build_network(name, "random", variant=Variant("gem", keep_length=True))
    plain = getattr(keras.applications, backbone.constructor)(
        include_top=False, pooling=None, weights=None, input_shape=(224, 224, 3)
    )
    inner = next(layer for layer in network.layers if isinstance(layer, keras.Model))
    plain.set_weights(inner.get_weights())  # Pooling has none.
    scaled = images / np.float32(127.5) - 1 if name == "mobilenetv2" else images.astype(np.float32)
    # The layer normalisation of ConvNeXt follows its pooling.
    last = plain.layers[-1].input if name == "convnexttiny" else plain.output
    maps = np.asarray(keras.Model(plain.input, last)(scaled), np.float64)  # (2, height, width, channels)
    assert (maps < 0).any() == (name != "mobilenetv2")
    peaks = maps.max(axis=(1, 2, 3))[:, None]
    expected = (np.maximum(maps, 1e-6 * peaks[..., None, None]) ** 3).mean(axis=(1, 2)) ** (1 / 3)
    if name == "convnexttiny":
        deviations = expected - expected.mean(axis=1, keepdims=True)
        expected = deviations / np.sqrt(expected.var(axis=1, keepdims=True) + 1e-6)
    largest = np.abs(expected).max()
    np.testing.assert_allclose(np.asarray(network(images)), expected, rtol=2e-3, atol=1e-3 * largest)
    assert np.abs(maps.mean(axis=(1, 2)) - expected).max() > 0.05 * largest


def test_one_weights_file_gives_each_variant_a_network_of_its_own(home: Settings) -> None:
    plain, several = (find_by_weights("mobilenetv2", "random", home, variant) for variant in (PLAIN, VIEWS))
    assert plain
    assert several
    assert plain[0].directory != several[0].directory
    assert find_by_weights("mobilenetv2", "random", home, Variant(views="pad,mirror")) is None


def test_a_collection_remembers_its_views_from_load_to_query(home: Settings, tree: Path) -> None:
    arguments = {"collection": "seen", "settings": home, "progress": False}
    first = {"backbone": "mobilenetv2", "weights": "random", "views": "mirror,crop,squash"}
    count = len(list(tree.rglob("*.jpg")))
    assert load.run(tree, **arguments, **first).inserted == count  # type: ignore[arg-type]
    for again in ({}, first, {"pooling": "average"}, {"backbone": "mobilenetv2"}, {"weights": "random"}):
        assert load.run(tree, **arguments, **again).unchanged == count  # type: ignore[arg-type]
    for other in ({"views": "squash"}, {"pooling": "gem"}):
        with pytest.raises(EmbedderMismatch, match="views squash,crop,mirror, which a later load cannot change"):
            load.run(tree, **arguments, **other)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="has no length of its own"):
        load.run(tree, **arguments, keep_length=True)  # type: ignore[arg-type]
    picture = min(tree.rglob("*.jpg"))
    match = similar_images(picture, "seen", 1, settings=home)[0]
    assert match.similarity == pytest.approx(1, abs=1e-3)
    plain = load_embedder("mobilenetv2", "random", home)
    with pytest.raises(EmbedderMismatch, match="a query embedded by mobilenetv2"):
        similar_images(picture, "seen", 1, embedder=plain, settings=home)
    said = info_as_json(describe_collection(connect(settings=home), "seen"))
    assert (said["pooling"], said["views"], said["keep_length"]) == ("average", "squash,crop,mirror", False)


def test_fewer_dimensions_of_several_views_are_fitted_to_their_mean(home: Settings, tree: Path) -> None:
    several = load_embedder("mobilenetv2", "random", home, variant=VIEWS, runtime="openvino", precision="f32")
    images = [Image.open(file) for file in sorted(tree.rglob("*.jpg"))]
    shown = np.stack([several.see(image) for image in images])
    vectors = embed_in_batches(several, shown)
    projection = PrincipalComponents.of(vectors).projection(4)
    for runtime in ("openvino", "keras"):
        reduced = reduce_embedder(several, projection, home, runtime=runtime, precision="f32")
        assert reduced.fingerprint == replace(several.fingerprint, dimension=4, pca_digest=projection.digest)
        assert reduced.input_shape == several.input_shape
        np.testing.assert_allclose(embed_in_batches(reduced, shown), projection(vectors), atol=5e-3)


def test_lengths_that_are_kept_stay_in_milvus_and_are_refused_where_unit_vectors_are_needed(
    home: Settings, tree: Path
) -> None:
    arguments = {"settings": home, "progress": False}
    first = {"backbone": "mobilenetv2", "weights": "random", "keep_length": True}
    load.run(tree, collection="kept", metric="l2", **arguments, **first)  # type: ignore[arg-type]
    client = connect(settings=home)
    info = describe_collection(client, "kept")
    ((page, vectors),) = stored_embeddings(client, info, ["id", "path"])
    embedder = embedder_of(info.fingerprint, home)
    expected = np.stack([embedder.see(Image.open(tree / row["path"]).convert("RGB")) for row in page])
    np.testing.assert_allclose(vectors, embed_in_batches(embedder, expected), rtol=1e-3)
    assert np.linalg.norm(vectors, axis=1).max() < 0.9
    ids = read_items(client, "kept")["id"].to_numpy()
    np.testing.assert_allclose(np.linalg.norm(read_embeddings(client, info, ids), axis=1), 1, atol=1e-5)
    picture = min(tree.rglob("*.jpg"))
    match = similar_images(picture, "kept", 1, settings=home)[0]
    assert match.distance == pytest.approx(0, abs=1e-3)
    assert load.run(tree, collection="kept", **arguments).inserted == 0  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="--keep-length: --pca is fitted to unit vectors"):
        load.run(tree, collection="fewer", pca=4, **arguments, **first)  # type: ignore[arg-type]
    projection = PrincipalComponents.of(unit_length(vectors)).projection(2)
    with pytest.raises(InvalidArgument, match="vectors of 'kept' keep their length"):
        copy_reduced(client, info, "fewer", projection, home, progress=False)
    with pytest.raises(InvalidArgument, match="PCA is fitted to unit vectors, not to those of mobilenetv2"):
        reduce_embedder(embedder, projection, home)


@pytest.mark.parametrize("flag", [{"pooling": "gem"}, {"views": "crop"}, {"keep_length": True}])
def test_networks_of_faces_have_no_variants(
    flag: dict[str, str], tree: Path, settings: Settings, lite: MilvusClient
) -> None:
    with pytest.raises(InvalidArgument, match="are for networks that are shown whole images; dlib is shown faces"):
        load.run(tree, what="faces", **flag, settings=settings, progress=False)  # type: ignore[arg-type]


def test_a_choice_that_there_is_not_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    for arguments, message in (
        ({"pooling": "max"}, "There is no pooling 'max'"),
        ({"pooling": ""}, "There is no pooling ''; choose one of average, gem"),
        ({"views": ""}, "There is no view ''; choose one or several of"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            load.run(tmp_path / "nothing", **arguments, settings=Settings(home=tmp_path))  # type: ignore[arg-type]


def test_a_pooling_is_called_in_any_case() -> None:
    assert Variant("GEM") == Variant("gem")
