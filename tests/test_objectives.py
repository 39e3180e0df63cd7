"""What a network is trained to: losses by hand, batches, and which blocks learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import draw_colours
from utilities.augmentation import altered, augmentation
from utilities.backbones import build_network, import_keras
from utilities.errors import InvalidArgument, LookalikeError
from utilities.fine_tuning import Checkpoint, Losses, Pictures, train, unfreeze_last_stage
from utilities.labels import Labels
from utilities.objectives import PAIR_TEMPERATURE, REBUILT, Autoencoder, Classify, Contrastive, Objective, check_labels
from utilities.reduction import unit_length
from utilities.settings import Settings


def directions(*degrees: float) -> NDArray[np.float32]:
    radians = np.deg2rad(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def noise() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)


def value(objective: Objective, expected: NDArray[np.generic], returned: NDArray[np.float32]) -> NDArray[np.float64]:
    ops = import_keras().ops
    loss = objective.loss(ops.convert_to_tensor(expected), ops.convert_to_tensor(returned))
    return np.asarray(ops.convert_to_numpy(loss), np.float64)


def test_the_contrastive_loss_is_that_of_equation_2() -> None:
    vectors, labels = directions(0, 20, 90, 100, 200, 210), np.array([0, 0, 1, 0, 1, 1])
    similarities = vectors.astype(np.float64) @ vectors.T.astype(np.float64) / PAIR_TEMPERATURE
    by_hand = []
    for own in range(6):
        others = [other for other in range(6) if other != own]
        alike = [other for other in others if labels[other] == labels[own]]
        competing = np.log(np.exp(similarities[own, others]).sum())
        by_hand.append(-np.mean([similarities[own, other] - competing for other in alike]))
    np.testing.assert_allclose(value(Contrastive(), labels, vectors), by_hand, rtol=1e-4)


def test_images_of_one_label_come_together() -> None:
    labels = np.repeat([0, 1, 2], [4, 5, 1])
    order = Contrastive().order(labels, np.random.default_rng(0))
    assert sorted(order) == list(range(10))
    shown = labels[order]
    runs = np.split(shown, np.flatnonzero(np.diff(shown)) + 1)
    assert all(len(run) >= 2 for run in runs if run[0] != 2)
    assert (order != Contrastive().order(labels, np.random.default_rng(1))).any()


def test_without_labels_two_copies_of_each_image_belong_together(noise: NDArray[np.uint8]) -> None:
    shown, expected = Contrastive().batch(noise, np.full(6, -1), augmentation(0))
    assert shown.shape == (12, 32, 32, 3)
    assert expected[:6].tolist() == expected[6:].tolist()
    assert len(set(expected)) == 6
    assert (shown[:6] != shown[6:]).mean() > 0.5
    # So do those of an image that meets none of its own.
    shown, expected = Contrastive().batch(noise, np.array([3, 3, 4, 4, 5, 3]), augmentation(0))
    assert (len(shown), expected.tolist()) == (7, [3, 3, 4, 4, 5, 3, 5])


def test_images_are_altered_alike_for_the_same_seed(noise: NDArray[np.uint8]) -> None:
    once, again = (altered(noise, augmentation(7)) for _ in range(2))
    assert once.dtype == np.uint8
    np.testing.assert_array_equal(once, again)
    assert (once != altered(noise, augmentation(8))).mean() > 0.5
    # Grey stays grey of about that brightness: nothing is brought in from outside of what an image shows.
    grey = altered(np.full((4, 32, 32, 3), 128, np.uint8), augmentation(0))
    assert np.ptp(grey, axis=(1, 2, 3)).max() <= 1
    assert 64 < grey.mean() < 192


def test_the_head_tells_the_labels_apart_before_the_network_learns() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 25)
    vectors = unit_length(np.eye(4, 16)[labels] + random.normal(0, 0.15, (100, 16)))
    keras = import_keras()
    same = keras.Input((16,))
    network = keras.Model(same, keras.layers.Identity()(same))
    found, again = (Classify(vectors, labels, seed=0).trained(network).predict(vectors, verbose=0) for _ in range(2))
    np.testing.assert_array_equal(found, again)
    assert (found.argmax(axis=1) == labels).all()
    # Cosines with directions of length 1, over the temperature.
    assert np.abs(found).max() <= 20 + 1e-3


def test_the_autoencoder_rebuilds_what_it_was_shown(noise: NDArray[np.uint8]) -> None:
    shown, expected = Autoencoder().batch(noise, np.full(6, -1), augmentation(0))
    assert expected.shape == (6, REBUILT, REBUILT, 3)
    assert (expected.min(), expected.max()) >= (0, 0)
    np.testing.assert_allclose(expected.mean(axis=(1, 2)), shown.mean(axis=(1, 2)) / 255, atol=0.01)
    keras = import_keras()
    vector = keras.Input((16,))
    rebuilt = Autoencoder().trained(keras.Model(vector, keras.layers.Identity()(vector)))
    assert rebuilt.output.shape == (None, REBUILT, REBUILT, 3)
    loss = value(Autoencoder(), np.zeros((2, 4, 4, 3), np.float32), np.full((2, 4, 4, 3), 0.5, np.float32))
    np.testing.assert_allclose(loss, [0.25, 0.25])


@pytest.mark.parametrize(
    ("backbone", "first"),
    [
        ("mobilenetv2", "block_13_depthwise"),
        ("resnet50", "conv5_block1_1_conv"),
        ("vgg16", "block5_conv1"),
        ("efficientnetb0", "block6a_dwconv"),
        ("densenet121", "conv5_block1_0_bn"),
        ("convnexttiny", "convnext_tiny_downsampling_block_2"),
    ],
)
def test_only_the_blocks_that_make_the_smallest_maps_learn(backbone: str, first: str) -> None:
    keras = import_keras()
    network, _ = build_network(backbone, "random")
    learning = unfreeze_last_stage(network)
    headless = next(layer for layer in network.layers if isinstance(layer, keras.Model))
    names = [layer.name for layer in headless.layers]
    for layer in headless.layers[: names.index(first)]:
        assert not layer.trainable, layer.name
    for layer in headless.layers[names.index(first) :]:
        assert layer.trainable == (not isinstance(layer, keras.layers.BatchNormalization)), layer.name
    assert 0 < learning < sum(np.prod(weight.shape) for weight in network.weights)


def test_the_best_epoch_is_that_of_validation_where_there_is_any() -> None:
    assert Losses().best == 0
    assert Losses([3.0, 2.0, 1.0], [3.0, 1.0, 2.0]).best == 2
    assert Losses([3.0, 1.0, 2.0]).best == 2


def test_a_loss_is_the_mean_of_all_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the batches: the last has fewer, and counts as much less."""
    draw_colours(tmp_path / "tree")
    paths = [file.relative_to(tmp_path / "tree").as_posix() for file in sorted((tmp_path / "tree").glob("*/*.png"))]
    pictures = Pictures(tmp_path / "tree", paths, np.repeat(np.arange(5), 3))
    vectors = unit_length(np.random.default_rng(0).normal(size=(15, 1280)))
    monkeypatch.setattr("utilities.fine_tuning.LEARNING_RATE", 0.0)
    monkeypatch.setattr("utilities.objectives.altered", lambda pixels, augment: pixels)
    found = []
    for batch_size in (4, 15):
        network, _ = build_network("mobilenetv2", "random")
        losses = train(
            network,
            Classify(vectors, pictures.labels, seed=0),
            pictures,
            pictures,
            Checkpoint(tmp_path / f"{batch_size}"),
            Settings(home=tmp_path),
            epochs=1,
            batch_size=batch_size,
            seed=0,
            progress=False,
        )
        found += [*losses.training, *losses.validation]
    np.testing.assert_allclose(found, found[0], rtol=1e-3)


def test_each_epoch_shows_the_images_anew_and_validation_shows_them_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_colours(tmp_path / "tree")
    paths = [file.relative_to(tmp_path / "tree").as_posix() for file in sorted((tmp_path / "tree").glob("*/*.png"))]
    shown = []
    altered_as_usual = altered

    def noted(pixels: NDArray[np.uint8], augment: Any) -> NDArray[np.uint8]:
        shown.append(altered_as_usual(pixels, augment))
        return shown[-1]

    monkeypatch.setattr("utilities.objectives.altered", noted)
    pictures = Pictures(tmp_path / "tree", paths, np.full(15, -1))
    network, _ = build_network("mobilenetv2", "random")
    checkpoint, settings = Checkpoint(tmp_path / "checkpoint"), Settings(home=tmp_path)
    train(
        network,
        Autoencoder(),
        pictures,
        pictures,
        checkpoint,
        settings,
        epochs=2,
        batch_size=15,
        seed=0,
        progress=False,
    )
    first, validation, second, validation_again = shown
    assert (first != second).mean() > 0.1
    np.testing.assert_array_equal(validation, validation_again)


def test_the_network_ends_with_the_weights_of_the_best_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_colours(tmp_path / "tree")
    pictures = Pictures(tmp_path / "tree", ["red/red_0.png", "blue/blue_0.png"], np.full(2, -1))
    nothing = Pictures(tmp_path / "tree", [], np.empty(0, np.int64))
    network, _ = build_network("mobilenetv2", "random")
    after_each = []

    class Noting(Checkpoint):
        def save(self, model: Any, losses: Losses) -> None:
            super().save(model, losses)
            after_each.append(np.concatenate([weight.ravel() for weight in network.get_weights()]))

    monkeypatch.setattr(Losses, "best", 1)
    checkpoint, settings = Noting(tmp_path / "checkpoint"), Settings(home=tmp_path)
    train(
        network, Autoencoder(), pictures, nothing, checkpoint, settings, epochs=2, batch_size=2, seed=0, progress=False
    )
    first, second = after_each
    assert (first != second).any()
    np.testing.assert_array_equal(np.concatenate([weight.ravel() for weight in network.get_weights()]), first)


def test_a_training_that_went_astray_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_colours(tmp_path / "tree")
    pictures = Pictures(tmp_path / "tree", ["red/red_0.png"] * 4, np.full(4, -1))
    monkeypatch.setattr("utilities.fine_tuning.LEARNING_RATE", 1e30)
    network, _ = build_network("mobilenetv2", "random")
    nothing = Pictures(tmp_path / "tree", [], np.empty(0, np.int64))
    checkpoint, settings = Checkpoint(tmp_path / "checkpoint"), Settings(home=tmp_path)
    with pytest.raises(LookalikeError, match="went astray in epoch"):
        train(
            network,
            Autoencoder(),
            pictures,
            nothing,
            checkpoint,
            settings,
            epochs=3,
            batch_size=2,
            seed=0,
            progress=False,
        )


@pytest.mark.parametrize(
    ("labels", "objective", "says"),
    [
        (["cup", "pan"] * 2, "classfy", "There is no objective 'classfy'"),
        ([None] * 4, "classify", "--objective classify needs labels, and there are none"),
        (["cup"] * 4, "classify", "needs two categories at least, and all images are of 'cup'"),
        (["cup"] * 2 + ["pan"], "classify", "Of 'pan' there is one image"),
        (["cup"] * 2 + ["pan"], "contrastive", "Of 'pan' there is one image"),
        (["cup"] * 2 + list("abcde"), "contrastive", "Of 'a', 'b', 'c' and 2 more there is one image"),
    ],
)
def test_labels_that_cannot_be_trained_with_are_refused(labels: list[str | None], objective: str, says: str) -> None:
    with pytest.raises(InvalidArgument, match=says):
        check_labels(Labels.of(labels), objective)


def test_objectives_that_need_no_labels_take_what_there_is() -> None:
    check_labels(Labels.of(["cup", "pan", "pan"]), "autoencoder")
    for labels in ([None] * 3, ["cup"] * 3):
        check_labels(Labels.of(labels), "contrastive")
