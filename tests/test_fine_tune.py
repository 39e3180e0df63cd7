"""Fine-tuning, from the tree to the collection that is searched by what was trained; and every call that cannot work.

The last tests need LOOKALIKE_TEST_DATA; see `test_data` in conftest.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipelines import compare, evaluate, fine_tune, load, query, reduce
from tests.conftest import draw_colours
from utilities.backbones import build_network, import_keras
from utilities.embedder import load_embedder
from utilities.errors import CollectionBusy, EmbedderMismatch, InvalidArgument, LookalikeError, NoImagesFound
from utilities.locks import only_holder
from utilities.milvus_utilities import connect, describe_collection
from utilities.settings import Settings
from utilities.splits import HELD_OUT
from utilities.tuned_weights import TunedWeights

#: Fine-tune an untrained MobileNetV2.
fine_tuned = partial(fine_tune.run, backbone="mobilenetv2", weights="random", progress=False)
#: Categories of Caltech 101 that ImageNet's features confuse.
CONFUSED = (
    *("ant", "beaver", "butterfly", "cougar_body", "cougar_face", "crab", "crayfish", "dragonfly", "emu", "flamingo"),
    *("flamingo_head", "ibis", "Leopards", "lobster", "octopus", "rooster", "scorpion", "wild_cat"),
)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, networks: Path) -> Settings:
    """Settings of a home with the untrained MobileNetV2, which the tests of this file share."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(networks, home / "networks")
    return Settings(home=home)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images of each of five colours, one of which cannot be read."""
    root = tmp_path_factory.mktemp("tree") / "tree"
    draw_colours(root)
    for file in sorted(root.glob("*/*.png")):
        with Image.open(file) as image:
            image.transpose(Image.Transpose.ROTATE_90).resize((24, 24)).save(file.with_stem(f"{file.stem}_again"))
    (root / "red" / "broken.png").write_bytes(b"no image")
    return root


@pytest.fixture(scope="module")
def tuned(tree: Path, settings: Settings) -> fine_tune.FineTuning:
    """Trained for an epoch to tell the colours apart."""
    out = settings.home / "weights" / "colours.keras"
    return fine_tuned(tree, out=out, epochs=1, settings=settings)


def test_what_was_done_is_told(tuned: fine_tune.FineTuning, tree: Path) -> None:
    assert (tuned.backbone, tuned.objective, tuned.labels) == ("mobilenetv2", "classify", 5)
    # Of six four are trained on, one tells when to stop, one is held out.
    assert (tuned.training, tuned.validation, tuned.held_out, tuned.failed) == (20, 5, 5, 1)
    assert len(tuned.losses.training) == len(tuned.losses.validation) == 1
    # With one held-out image of each label there is nothing to find among the held-out.
    assert [(each.among, each.queries) for each in tuned.comparisons] == [("images that the training saw", 5)]
    assert tuned.comparisons[0].highest == pytest.approx(5 / 20)
    assert [each.metric for each in tuned.comparisons[0].changes] == [
        "precision@5",
        "precision@20",
        "map",
        "accuracy@5",
    ]
    split = pd.read_csv(tuned.split)
    assert len(split) == 30
    assert set(split["path"]) == {file.relative_to(tree).as_posix() for file in tree.glob("*/*.png")} - {
        "red/broken.png"
    }
    assert tuned.failures is not None
    assert pd.read_csv(tuned.failures)["path"].tolist() == ["red/broken.png"]
    with Image.open(tuned.chart) as picture:
        assert picture.width > 600
    # The checkpoint has served.
    assert {file.name for file in tuned.weights.parent.iterdir()} == {
        *("colours.keras", "colours.split.csv", "colours.png", "colours.failures.csv")
    }


def test_the_file_says_what_it_is_and_is_the_whole_network(tuned: fine_tune.FineTuning, settings: Settings) -> None:
    about = TunedWeights.of(tuned.weights)
    assert about == TunedWeights("mobilenetv2", "squashed to 224x224 bilinearly, tf", 1280, "classify")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), np.uint8)
    whole = import_keras().saving.load_model(tuned.weights, compile=False)
    embedder = load_embedder(weights=tuned.weights, settings=settings, precision="f32")
    untrained = load_embedder("mobilenetv2", "random", settings, precision="f32")
    np.testing.assert_allclose(embedder.embed(pixels), whole.predict_on_batch(pixels), atol=1e-4)
    assert np.abs(embedder.embed(pixels) - untrained.embed(pixels)).max() > 1e-3
    assert embedder.fingerprint.weights_digest != untrained.fingerprint.weights_digest
    assert embedder.fingerprint.weights == str(tuned.weights.resolve())


def test_only_the_last_blocks_have_changed(tuned: fine_tune.FineTuning) -> None:
    before, _ = build_network("mobilenetv2", "random")
    after, _ = build_network("mobilenetv2", tuned.weights)
    keras = import_keras()
    changed = set()
    for old, new in zip(
        *([m for m in net.layers if isinstance(m, keras.Model)] for net in (before, after)), strict=True
    ):
        for one, other in zip(old.layers, new.layers, strict=True):
            if any((a != b).any() for a, b in zip(one.get_weights(), other.get_weights(), strict=True)):
                changed.add(one.name)
    assert "block_16_project" in changed
    assert "block_13_depthwise" in changed
    assert not {name for name in changed if name.endswith("_BN") or name.startswith(("block_12", "block_1_", "Conv1"))}


def test_a_collection_is_loaded_by_the_weights_alone(
    tuned: fine_tune.FineTuning, tree: Path, settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = "tuned"
    summary = load.run(tree, collection=name, weights=str(tuned.weights), settings=settings, progress=False)
    assert (summary.inserted, summary.failed) == (30, 1)
    info = describe_collection(connect(settings=settings), name)
    assert (info.fingerprint.backbone, info.fingerprint.dimension) == ("mobilenetv2", 1280)
    untrained = load_embedder("mobilenetv2", "random", settings)
    assert info.fingerprint.weights_digest != untrained.fingerprint.weights_digest
    found = query.run([str(tree / "red" / "red_0.png")], collection=name, settings=settings)
    assert found[0].matches[0].path == "red/red_0.png"
    # No query of an evaluation was trained on.
    evaluation = evaluate.run(name, out=tmp_path, settings=settings, progress=False)
    assert (evaluation.queries, evaluation.trained_on) == (tuned.held_out, tuned.training + tuned.validation)
    hidden = tuned.split.rename(tuned.split.with_suffix(".hidden"))
    assert evaluate.run(name, out=tmp_path, settings=settings, progress=False).trained_on == 0
    assert f"{tuned.split.resolve()} is gone: which images" in caplog.text
    hidden.rename(tuned.split)
    with pytest.raises(EmbedderMismatch, match="mobilenetv2 that was fine-tuned, not a resnet50"):
        load.run(tree, collection="x", backbone="resnet50", weights=str(tuned.weights), settings=settings)
    with pytest.raises(EmbedderMismatch, match="holds vectors of"):
        load.run(tree, collection=name, backbone="mobilenetv2", weights="random", settings=settings, progress=False)


def test_nor_is_one_of_other_measurements(
    tuned: fine_tune.FineTuning, tree: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    for module in (compare, reduce):
        choose = module.choose_queries

        def noted(*arguments: object, choose: Callable[..., np.ndarray] = choose, **more: object) -> np.ndarray:
            asked.append(choose(*arguments, **more))
            return asked[-1]

        monkeypatch.setattr(module, "choose_queries", noted)
    names = ["mobilenetv2=random", f"mobilenetv2={tuned.weights}"]
    comparison = compare.backbones(tree, names, sample=100, out=tmp_path, settings=settings, progress=False)
    assert comparison.trained_on == tuned.training + tuned.validation
    # Before anything is opened labels must tell something; each network is measured on the same queries after that.
    assert [len(each) for each in asked[2:]] == [tuned.held_out] * 2
    load.run(tree, collection="for_pca", weights=str(tuned.weights), settings=settings, progress=False)
    reduce.run("for_pca", out=tmp_path, settings=settings, progress=False)
    assert len(asked[-1]) == tuned.held_out


def test_two_runs_agree_and_a_killed_one_goes_on(tree: Path, settings: Settings, tmp_path: Path) -> None:
    """With EfficientNetB0, whose dropout draws numbers of its own."""
    network, _ = build_network("efficientnetb0", "random")
    network.save(tmp_path / "untrained.keras")

    def started(out: Path) -> subprocess.Popen[str]:
        command = ["fine-tune", str(tree), "--out", str(out), "--objective", "contrastive", "--epochs", "3", "--json"]
        begin = ["--backbone", "efficientnetb0", "--weights", str(tmp_path / "untrained.keras")]
        lookalike = [str(Path(sys.executable).with_name("lookalike")), "--home", str(settings.home)]
        return subprocess.Popen(
            [*lookalike, *command, *begin], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    whole, killed = tmp_path / "whole.keras", tmp_path / "killed.keras"
    first = started(killed)
    while not list(killed.with_suffix(".checkpoint").glob("*/*/state.json")):
        assert first.poll() is None, first.communicate()
        time.sleep(0.02)
    first.kill()
    first.communicate()
    assert not killed.exists()
    done = max(int(state.parent.name) for state in killed.with_suffix(".checkpoint").glob("*/*/state.json"))
    output, messages = started(killed).communicate()
    assert f"Going on after epoch {done} of 3." in messages, messages
    expected, messages = started(whole).communicate()
    assert "Going on" not in messages
    assert json.loads(output)["losses"] == json.loads(expected)["losses"]
    assert json.loads(output)["comparisons"] == json.loads(expected)["comparisons"]
    assert build_network("efficientnetb0", killed)[1] == build_network("efficientnetb0", whole)[1]
    assert not killed.with_suffix(".checkpoint").exists()


def test_another_training_leaves_a_stopped_one_its_checkpoint(
    tree: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "tuned.keras"

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("pipelines.fine_tune._save", stop)
        for seed in (0, 1):
            with pytest.raises(KeyboardInterrupt):
                fine_tuned(tree, out=out, epochs=1, seed=seed, settings=settings)
    assert len(list(out.with_suffix(".checkpoint").glob("*/0001/state.json"))) == 2
    with caplog.at_level("INFO"):
        found = fine_tuned(tree, out=out, epochs=1, settings=settings)
    assert "Going on after epoch 1 of 1." in caplog.text
    assert len(found.losses.training) == 1
    assert not out.with_suffix(".checkpoint").exists()


def test_a_disk_that_is_full_is_said(
    tree: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("utilities.fine_tuning.Checkpoint.save", full)
    with pytest.raises(LookalikeError, match=r"tuned.keras cannot be written: No space left on device; once it can"):
        fine_tuned(tree, out=tmp_path / "tuned.keras", epochs=1, settings=settings)


def test_weights_that_were_fine_tuned_hold_out_nothing_that_they_have_seen(
    tuned: fine_tune.FineTuning, tree: Path, settings: Settings, tmp_path: Path
) -> None:
    more = tmp_path / "more"
    shutil.copytree(tree, more)
    for file in sorted(more.glob("*/*_?.png")):
        with Image.open(file) as image:
            image.rotate(180).resize((32, 32)).save(file.with_stem(f"{file.stem}_more"))
    again = fine_tuned(
        more, out=tmp_path / "again.keras", weights=str(tuned.weights), seed=3, epochs=1, settings=settings
    )
    first, second = (pd.read_csv(each.split).set_index("file_digest")["split"] for each in (tuned, again))
    seen = first.index[first != HELD_OUT]
    assert (second[seen] != HELD_OUT).all()
    assert (second == HELD_OUT).any()


def test_one_process_at_a_time_writes_a_file(tree: Path, settings: Settings, tmp_path: Path) -> None:
    out = tmp_path / "tuned.keras"
    with (
        only_holder(out.with_suffix(".checkpoint") / "lock", "busy", "", ""),
        pytest.raises(CollectionBusy, match="Another process is fine-tuning into"),
    ):
        fine_tuned(tree, out=out, settings=settings)


def test_the_same_picture_twice_is_learned_from_once_and_odd_names_fail(
    tree: Path, settings: Settings, tmp_path: Path
) -> None:
    odd = tmp_path / "odd"
    shutil.copytree(tree, odd)
    shutil.copy(odd / "red" / "red_0.png", odd / "red" / "copy.png")
    shutil.copy(odd / "red" / "red_0.png", odd / "blue" / "copy.png")
    with Path(os.fsdecode(bytes(odd / "grey") + b"/\xff.png")).open("wb") as file:
        file.write((odd / "grey" / "grey_0.png").read_bytes())
    found = fine_tuned(odd, out=tmp_path / "tuned.keras", epochs=1, settings=settings)
    assert (found.training + found.validation + found.held_out, found.failed, found.left_out) == (30, 2, 2)


def test_mixed_precision_trains_and_32_bits_are_saved(
    tree: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, which needs none to be tried: the processor computes the same, slowly."""
    monkeypatch.setattr(fine_tune, "gpu_is_present", lambda: True)
    out = tmp_path / "mixed.keras"
    fine_tuned(tree, out=out, epochs=1, settings=settings)
    keras = import_keras()
    whole = keras.saving.load_model(out, compile=False)
    headless = next(layer for layer in whole.layers if isinstance(layer, keras.Model))
    assert {layer.compute_dtype for layer in headless.layers} == {"float32"}


@pytest.mark.parametrize("objective", ["contrastive", "autoencoder"])
def test_without_labels_nothing_is_claimed(tree: Path, settings: Settings, tmp_path: Path, objective: str) -> None:
    found = fine_tuned(
        tree, out=tmp_path / "tuned.keras", objective=objective, use_labels=False, epochs=1, settings=settings
    )
    assert (found.labels, found.comparisons, found.helped) == (0, [], None)
    assert found.training + found.validation + found.held_out == 30
    assert pd.read_csv(found.split, keep_default_na=False)["label"].eq("").all()


def test_a_csv_says_the_labels_and_what_it_does_not_name_is_left_out(
    tree: Path, settings: Settings, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.csv"
    named = [f"{file.parent.name}/{file.name}" for file in tree.glob("*/*_?.png")]
    warm = {"red", "yellow"}
    rows = [f"{path},{'warm' if path.split('/')[0] in warm else 'cold'}" for path in named]
    labels.write_text("\n".join(["path,label", *rows]))
    found = fine_tuned(tree, out=tmp_path / "t.keras", labels=labels, epochs=1, settings=settings)
    assert found.labels == 2
    assert set(pd.read_csv(found.split)["path"]) == set(named)
    assert [each.among for each in found.comparisons] == ["held-out images", "images that the training saw"]


def refused(settings: Settings, directory: Path, out: Path, **more: Any) -> str:
    with pytest.raises((InvalidArgument, NoImagesFound)) as error:
        fine_tuned(directory, out=out, settings=settings, **more)
    assert not list(out.with_suffix(".checkpoint").glob("*/*/state.json"))
    return str(error.value)


def test_calls_that_cannot_work_are_refused_before_anything_is_trained(
    tree: Path, settings: Settings, tmp_path: Path, tuned: fine_tune.FineTuning, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fine_tune, "train", lambda *_, **__: pytest.fail("it was trained"))
    out = tmp_path / "tuned.keras"
    assert "has to end in .keras" in refused(settings, tree, out.with_suffix(".h5"))
    assert "is there already" in refused(settings, tree, tuned.weights)
    assert "among the images" in refused(settings, tree, tree / "red" / "tuned.keras")
    assert "say different things" in refused(settings, tree, out, labels=tree / "labels.csv", use_labels=False)
    assert "sees faces, which are not fine-tuned" in refused(settings, tree, out, backbone="dlib", weights=None)
    assert "There is no objective 'x'" in refused(settings, tree, out, objective="x")
    assert "There is no directory" in refused(settings, tmp_path / "nowhere", out)
    assert "all images are of 'red'" in refused(settings, tree / "red", out)
    assert "needs labels, and there are none" in refused(settings, tree, out, use_labels=False)
    assert "There is no weights file" in refused(settings, tree, out, weights="nowhere.keras")
    assert "not a vgg16" in refused(settings, tree, out, backbone="vgg16", weights=str(tuned.weights))
    (tmp_path / "file").write_text("")
    assert "cannot be written: " in refused(settings, tree, tmp_path / "file" / "tuned.keras")
    alone = tmp_path / "alone"
    shutil.copytree(tree, alone)
    for file in sorted((alone / "grey").glob("*.png"))[1:]:
        file.unlink()
    assert "Of 'grey' there is one image" in refused(settings, alone, out)
    # The other one cannot be read, which only reading tells.
    (alone / "grey" / "broken.png").write_bytes(b"no image")
    assert "Of 'grey' there is one image" in refused(settings, alone, out)
    broken = tmp_path / "broken"
    for name in ("a/1.png", "a/2.png", "b/1.png", "b/2.png"):
        (broken / name).parent.mkdir(parents=True, exist_ok=True)
        (broken / name).write_bytes(b"no image")
    assert "None of the 4 images" in refused(settings, broken, out)


def test_weights_of_another_backbone_are_refused(tree: Path, settings: Settings, tmp_path: Path) -> None:
    keras = import_keras()
    file = tmp_path / "small.keras"
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(file)
    said = refused(settings, tree, tmp_path / "tuned.keras", weights=str(file))
    assert said.endswith(
        "does not hold the weights of a headless mobilenetv2; give a file of that network, saved by Keras."
    )


def test_training_helps_images_that_it_has_not_seen(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("confused") / "animals"
    for name in CONFUSED:
        shutil.copytree(test_data / "data" / "caltech101" / name, root / name)
    home = tmp_path_factory.mktemp("home")
    out = home / "animals.keras"
    found = fine_tune.run(
        root,
        out=out,
        backbone="mobilenetv2",
        weights=str(test_data / "weights/mobilenetv2_imagenet_notop.weights.h5"),
        training=25,
        epochs=3,
        settings=Settings(home=home),
        progress=False,
    )
    among_held_out, among_trained_on = ({each.metric: each for each in one.changes} for one in found.comparisons)
    assert found.helped
    assert among_held_out["precision@5"].difference.mean > 0.05
    assert among_held_out["map"].difference.low > 0
    assert among_trained_on["precision@20"].difference.mean > 0.05
    split = pd.read_csv(found.split)
    per_label = split.groupby("label")["split"].apply(lambda parts: (parts != HELD_OUT).sum())
    assert per_label.eq(25).all()
