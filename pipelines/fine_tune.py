"""Fine-tune: a network learns a tree's own images, and shows on others what that was worth."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from utilities.backbones import backbone_named, backbone_of, build_network, sees_faces, weights_origin
from utilities.directory_trees import find_images
from utilities.embedder import Embedder, load_embedder
from utilities.errors import InvalidArgument, LookalikeError, NoImagesFound
from utilities.failures import FailureList
from utilities.fine_tuning import Checkpoint, Losses, Pictures, train
from utilities.item_streams import embed_sample
from utilities.items import is_utf8, label_of
from utilities.keras_runtime import gpu_is_present
from utilities.labels import Labels, labels_of
from utilities.locks import only_holder
from utilities.objectives import Autoencoder, Classify, Contrastive, Objective, check_labels
from utilities.settings import Settings
from utilities.splits import HELD_OUT, TRAINING, VALIDATION, split_beside, stratified_split, trained_on, write_split
from utilities.training_gain import Comparison, compare_held_out, training_helped
from utilities.tuned_weights import TunedWeights

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FineTuning:
    """What was trained, and what that was worth."""

    weights: Path
    backbone: str
    objective: str
    #: Labels, and images in each part of the split; those that cannot be read are in none, nor is what was left out:
    #: images without a label where others have one, and all but one of those that are the same.
    labels: int
    training: int
    validation: int
    held_out: int
    failed: int
    left_out: int
    losses: Losses
    #: From `compare_held_out`, and by `training_helped`.
    comparisons: list[Comparison]
    helped: bool | None
    split: Path
    chart: Path
    failures: Path | None


def run(
    directory: Path,
    *,
    out: Path,
    objective: str = "classify",
    backbone: str | None = None,
    weights: str | None = None,
    labels: Path | None = None,
    use_labels: bool = True,
    training: int | None = None,
    epochs: int = 6,
    seed: int = 0,
    settings: Settings | None = None,
    progress: bool = True,
) -> FineTuning:
    """Train the last blocks of a backbone on a part of a tree, and measure on the rest what that was worth.

    A run that was stopped goes on after its last whole epoch when the same is asked for again.

    Args:
        directory: the tree; the folder that holds a file is its label.
        out: the file of weights to write, which ends in `.keras`; its split, its chart and its checkpoints lie beside
            it.
        objective: one of `utilities.objectives.OBJECTIVES`.
        backbone: a key of `utilities.backbones.BACKBONES`, of images; by default the one that the weights were
            fine-tuned from, else ResNet50.
        weights: what the training begins with, as `load_embedder` takes them.
        labels: a CSV with the columns `path` and `label`; what it does not name is left out.
        use_labels: False where folders mean nothing.
        training: train on so many images of each label, and hold out the rest; by default four in five.
        epochs: at most so many.
        seed: of what is drawn: the split, the order, and how images are altered.
        settings: limits and places; from the environment by default.
        progress: whether to draw progress bars on standard error.

    Raises:
        InvalidArgument: a call that cannot work, such as labels that the objective cannot be trained with.
        EmbedderMismatch: weights of another backbone.
        NoImagesFound: no image in the tree, or none that can be read.
        WeightsUnavailable: the weights cannot be had.
        CollectionBusy: another process writes the same weights.
        LookalikeError: they cannot be written, the training went astray, or files changed meanwhile.
    """
    settings = settings or Settings.load()
    _check_out(out, directory)
    if labels and not use_labels:
        raise InvalidArgument("--labels and --no-labels say different things; give one of them.")
    paths = find_images(directory)
    wanted = _labelled(directory, paths, labels, use_labels, objective)
    name = (backbone or backbone_of(weights)).lower()
    if sees_faces(name):
        raise InvalidArgument(f"--backbone {name} sees faces, which are not fine-tuned; choose a network of images.")
    origin = weights or backbone_named(name).weights
    before = load_embedder(name, origin, settings)
    checkpoints = _checkpoints(out)
    busy, unwritable = f"Another process is fine-tuning into {str(out)!r}", f"{str(out)!r} cannot be written"
    with only_holder(checkpoints / "lock", busy, unwritable, "choose another --out"):
        failures = FailureList(out.with_suffix(".failures.csv"))
        items, vectors = _embedded(directory, wanted, before, settings, failures, "before", progress)
        # The same picture in two places would be learned from and searched with, or have two labels.
        once = np.flatnonzero(~items["file_digest"].duplicated())
        items, vectors = items.iloc[once].reset_index(drop=True), vectors[once]
        truth = _labels(items, labels, use_labels)
        check_labels(truth, objective)
        if len(truth.names) < 2:  # One for all tells nothing.
            truth = Labels.of([None] * len(items))
        digests, seen = items["file_digest"].tolist(), trained_on(weights_origin(origin))
        split = stratified_split(truth, digests, training, seed, seen)
        taught, held_out = split == TRAINING, split == HELD_OUT

        on_gpu = gpu_is_present()
        batch_size = 128 if on_gpu else 32
        depends_on = [asdict(before.fingerprint), objective, on_gpu, epochs, seed, *digests, *truth.codes.tolist()]
        checkpoint = Checkpoint(checkpoints / _digest([*depends_on, *split.tolist()]))
        if out.exists() and not checkpoint.losses.training:  # written by another training, which was not finished
            raise _there_already(out)
        logger.info("What is stopped goes on after its last whole epoch when the same command is given again.")
        network, _ = build_network(name, origin, mixed_bfloat16=on_gpu)
        try:
            losses = train(
                network,
                _objective(objective, vectors[taught], truth.codes[taught], seed),
                _pictures(directory, items, truth, taught),
                _pictures(directory, items, truth, split == VALIDATION),
                checkpoint,
                settings,
                epochs=epochs,
                batch_size=batch_size,
                seed=seed,
                progress=progress,
            )
            write_split(split_beside(str(out)), items, truth, split, seen)
            _save(network, out, name, origin, objective)
            chart = _draw(out.with_suffix(".png"), f"{name}, {objective}", losses)
        except OSError as error:
            why = error.strerror or error
            reason = f"{out} cannot be written: {why}; once it can, the same command goes on from here."
            raise LookalikeError(reason) from error

        comparisons = []
        if truth.names:
            after = load_embedder(name, out, settings)
            again, tuned = _embedded(directory, items["path"].tolist(), after, settings, None, "after", progress)
            if again["file_digest"].tolist() != digests:
                raise LookalikeError(f"Files in {str(directory)!r} changed; {out} is written, but not measured.")
            comparisons = compare_held_out(vectors, tuned, truth, held_out)
        checkpoint.remove()
    shutil.rmtree(checkpoints, ignore_errors=True)
    return FineTuning(
        weights=out,
        backbone=name,
        objective=objective,
        labels=len(truth.names),
        training=int(taught.sum()),
        validation=int((split == VALIDATION).sum()),
        held_out=int(held_out.sum()),
        failed=failures.count,
        left_out=len(paths) - failures.count - len(items),
        losses=losses,
        comparisons=comparisons,
        helped=training_helped(comparisons),
        split=split_beside(str(out)),
        chart=chart,
        failures=failures.path if failures.count else None,
    )


def _check_out(out: Path, directory: Path) -> None:
    if out.suffix != ".keras":
        raise InvalidArgument(f"--out {str(out)!r} has to end in .keras, as files of whole networks do.")
    if out.resolve().is_relative_to(directory.resolve()):
        raise InvalidArgument(
            f"--out {str(out)!r} lies in {str(directory)!r}, among the images, of which the chart beside it would "
            "become one; choose another folder."
        )
    begun = any(_checkpoints(out).glob("*/*/*.json"))
    for each in (out, out.with_suffix(".png"), split_beside(str(out))):
        if each.exists() and not begun:
            raise _there_already(each)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent):
            pass  # Better now than after hours.
    except OSError as error:
        raise InvalidArgument(f"--out {str(out)!r} cannot be written: {error.strerror}.") from error


def _checkpoints(out: Path) -> Path:
    """A folder for each training that was begun and has not ended."""
    return out.with_suffix(".checkpoint")


def _there_already(out: Path) -> InvalidArgument:
    return InvalidArgument(f"{str(out)!r} is there already; choose another --out, or remove that file.")


def _labelled(directory: Path, paths: Sequence[str], file: Path | None, use_labels: bool, objective: str) -> list[str]:
    """The images that are of use: those that a CSV names, or all; labels that cannot be trained with are refused."""
    named = [path for path in paths if is_utf8(path)]  # Others will fail, each with its reason.
    if not named:
        return list(paths)
    table = pd.DataFrame({"path": named, "label": [label_of(directory, path) for path in named]})
    labels = _labels(table, file, use_labels)
    check_labels(labels, objective)
    unlabelled = set(table["path"][labels.codes < 0]) if labels.names else set()
    return [path for path in paths if path not in unlabelled]


def _labels(items: pd.DataFrame, file: Path | None, use_labels: bool) -> Labels:
    return labels_of(items, file) if use_labels else Labels.of([None] * len(items))


def _embedded(
    directory: Path,
    paths: Sequence[str],
    embedder: Embedder,
    settings: Settings,
    failures: FailureList | None,
    name: str,
    progress: bool,
) -> tuple[pd.DataFrame, NDArray[np.float32]]:
    """The items of the files that can be read, as a table, and their embeddings."""
    items, vectors = embed_sample(directory, paths, embedder, settings, name=name, failures=failures, progress=progress)
    if not items:
        raise NoImagesFound(f"None of the {len(paths):,} images in {str(directory)!r} can be read.")
    return pd.DataFrame([item.row() for item in items]), vectors


def _pictures(directory: Path, items: pd.DataFrame, labels: Labels, part: NDArray[np.bool_]) -> Pictures:
    return Pictures(directory, items["path"][part].tolist(), labels.codes[part])


def _objective(name: str, embeddings: NDArray[np.float32], labels: NDArray[np.int64], seed: int) -> Objective:
    if name == "classify":
        return Classify(embeddings, labels, seed)
    return Contrastive() if name == "contrastive" else Autoencoder()


def _digest(described: Sequence[object]) -> str:
    return hashlib.blake2b(json.dumps(described).encode(), digest_size=16).hexdigest()


def _save(network: keras.Model, out: Path, backbone: str, origin: str, objective: str) -> None:
    """Write the network as it computes in 32 bits, whatever it was trained in."""
    exact, _ = build_network(backbone, origin)
    exact.set_weights(network.get_weights())
    row = backbone_named(backbone)
    TunedWeights(backbone, row.preprocessing, row.dimension, objective).save(exact, out)


def _draw(file: Path, name: str, losses: Losses) -> Path:
    from utilities.charts import loss_chart

    loss_chart(name, losses).savefig(file)
    return file
