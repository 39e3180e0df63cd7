"""Train the last blocks of a network: epoch by epoch, with a checkpoint after each, until it no longer gets better."""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from utilities.augmentation import augmentation
from utilities.backbones import import_keras
from utilities.errors import LookalikeError
from utilities.image_files import open_file
from utilities.objectives import Objective
from utilities.settings import Settings
from utilities.streams import in_order, processors
from utilities.views import squashed

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

#: Of AdamW, falling to 0 by a cosine (Loshchilov and Hutter, SGDR, 2017, equation 5).
LEARNING_RATE, WEIGHT_DECAY = 3e-4, 1e-4
#: Epochs without a lower loss after which training ends.
PATIENCE = 3
#: Batches that are read and altered ahead of the network.
AHEAD = 2
_STATE, _LAST, _BEST = "state.json", "last.weights.h5", "best.weights.h5"


@dataclass
class Losses:
    """The mean loss of each epoch; of validation none where nothing was left for that."""

    training: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)

    @property
    def watched(self) -> list[float]:
        """Those that tell how good a network is."""
        return self.validation or self.training

    @property
    def of(self) -> str:
        """The name of the images that these are of."""
        return "validation" if self.validation else "training"

    @property
    def best(self) -> int:
        """The epoch with the lowest, from 1 on; 0 before the first has ended."""
        return int(np.argmin(self.watched)) + 1 if self.watched else 0


@dataclass(frozen=True)
class Pictures:
    """Images to learn from."""

    root: Path
    #: n POSIX paths relative to it.
    paths: Sequence[str]
    #: (n,) numbers; -1 where there is none.
    labels: NDArray[np.int64]

    def batches(
        self, objective: Objective, size: int, batch_size: int, seed: Sequence[int], settings: Settings
    ) -> Generator[tuple[NDArray[np.uint8], NDArray[Any]], None, None]:
        """Each of them once, in batches, read and altered by threads while the network works.

        Args:
            objective: in which order, and what of each.
            size: height and width in pixels of what the network takes.
            batch_size: images of a batch; the last may have fewer.
            seed: the same gives the same.
            settings: limits.

        Raises:
            ImageError: an image cannot be read, which could be when the training began.
        """
        random = np.random.default_rng(seed)
        order = objective.order(self.labels, random)
        augment = augmentation(int(random.integers(2**31)))

        def read(path: str) -> NDArray[np.uint8]:
            return squashed(open_file(self.root, path, size, settings)[0], size)

        threads = processors()

        def taken(pixels: Iterator[Any]) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
            for start in range(0, len(order), batch_size):
                rows = order[start : start + batch_size]
                yield np.stack(list(islice(pixels, len(rows)))), self.labels[rows]

        with (
            ThreadPoolExecutor(threads, thread_name_prefix="read") as readers,
            ThreadPoolExecutor(1, thread_name_prefix="alter") as alterer,  # One: they draw numbers in their turn.
            closing(in_order(readers, read, [self.paths[row] for row in order], 2 * batch_size)) as pixels,
            closing(in_order(alterer, lambda each: objective.batch(*each, augment), taken(pixels), AHEAD)) as batches,
        ):
            yield from batches


def unfreeze_last_stage(network: keras.Model) -> int:
    """Have only those blocks of a network learn that make its smallest maps; what is before them stays as it is.

    Batch normalisation keeps its statistics and scales, which few images would spoil (Keras's guide to transfer
    learning and fine-tuning).

    Args:
        network: from `backbones.build_network`, of images.

    Returns:
        How many numbers learn.
    """
    keras = import_keras()
    headless = next(layer for layer in network.layers if isinstance(layer, keras.Model))
    maps = [_map_size(layer) for layer in headless.layers]
    # Of one pixel are the maps of what weighs channels, as squeeze-and-excitation does, in every stage.
    smallest = min(size for size in maps if size > 1)
    first = maps.index(smallest)
    for number, layer in enumerate(headless.layers):
        layer.trainable = number >= first and not isinstance(layer, keras.layers.BatchNormalization)
    return int(sum(np.prod(weight.shape) for weight in network.trainable_weights))


def _map_size(layer: keras.layers.Layer) -> int:
    """Pixels of the map that a layer with weights makes; 0 for any other."""
    shape = tuple(getattr(layer.output, "shape", ()))
    return int(np.prod(shape[1:3])) if layer.weights and len(shape) == 4 else 0


class Checkpoint:
    """The state of a training after its last whole epoch, on the disk; a training that was killed goes on from it."""

    def __init__(self, directory: Path) -> None:
        """Look for one.

        Args:
            directory: where it lies, and that of no other training; made with the first.
        """
        self._directory = directory
        #: Of the epochs that are done.
        self.losses = Losses()
        for epoch in sorted(directory.glob("*"), reverse=True):
            try:
                self.losses = Losses(**json.loads((epoch / _STATE).read_text()))
            except (OSError, ValueError):  # The process died while this was written.
                continue
            break

    def _of(self, epoch: int) -> Path:
        return self._directory / f"{epoch:04}"

    @property
    def _latest(self) -> Path:
        return self._of(len(self.losses.training))

    def restore(self, model: keras.Model) -> None:
        """Give a compiled model the weights, and its optimizer the state, that the last epoch left."""
        model.load_weights(self._latest / _LAST)

    def restore_best(self, model: keras.Model) -> None:
        """Give it those of the best epoch."""
        model.load_weights(self._latest / _BEST)

    def save(self, model: keras.Model, losses: Losses) -> None:
        """Keep a compiled model after an epoch; a process that dies on the way leaves the checkpoint before.

        Raises:
            OSError: it cannot be written.
        """
        self.losses = losses
        shutil.rmtree(self._latest, ignore_errors=True)
        self._latest.mkdir(parents=True)
        model.save_weights(self._latest / _LAST)
        epochs = len(losses.training)
        best = self._of(epochs) / _LAST if losses.best == epochs else self._of(epochs - 1) / _BEST
        shutil.copy(best, self._latest / _BEST)
        (self._latest / _STATE).write_text(json.dumps(asdict(losses)))  # the last, by which it is told to be whole
        for epoch in self._directory.glob("*"):
            if epoch != self._latest:
                _remove(epoch)

    def remove(self) -> None:
        """Remove it: the training has ended."""
        _remove(self._latest)


def _remove(epoch: Path) -> None:
    (epoch / _STATE).unlink(missing_ok=True)  # the first, lest a part is taken for the whole
    shutil.rmtree(epoch, ignore_errors=True)


def train(
    network: keras.Model,
    objective: Objective,
    training: Pictures,
    validation: Pictures,
    checkpoint: Checkpoint,
    settings: Settings,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    progress: bool = True,
) -> Losses:
    """Train what `unfreeze_last_stage` says, until epochs are over or `PATIENCE` of them have not lowered the loss.

    Args:
        network: from `backbones.build_network`; it has the weights of the best epoch afterwards.
        objective: what it is trained to.
        training: images to learn from.
        validation: images that tell when to stop, altered alike after each epoch; if there are none, the training loss
            does.
        checkpoint: where the training goes on from, and what it leaves after each epoch.
        settings: limits.
        epochs: at most so many.
        batch_size: images of a batch.
        seed: of what is drawn; two trainings on one kind of machine agree.
        progress: whether to draw a progress bar on standard error.

    Returns:
        The losses of all epochs, those before a restart, too.

    Raises:
        ImageError: an image can no longer be read.
        LookalikeError: the loss grew beyond all bounds.
        OSError: a checkpoint cannot be written.
    """
    keras = import_keras()
    keras.utils.set_random_seed(seed)
    model = objective.trained(network)
    unfreeze_last_stage(network)
    steps = -(-len(training.paths) // batch_size)
    schedule = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps * epochs)
    model.compile(keras.optimizers.AdamW(schedule, weight_decay=WEIGHT_DECAY), objective.loss)
    model.optimizer.build(model.trainable_variables)
    losses = checkpoint.losses
    if done := len(losses.training):
        checkpoint.restore(model)
        logger.info("Going on after epoch %d of %d.", done, epochs)
    size = network.input_shape[1]
    of = partial(Pictures.batches, objective=objective, size=size, batch_size=batch_size, settings=settings)
    with tqdm(total=steps * epochs, initial=steps * done, unit="batch", disable=not progress) as bar:
        while len(losses.training) < epochs and len(losses.watched) - losses.best < PATIENCE:
            epoch = len(losses.training) + 1
            bar.set_description(f"epoch {epoch} of {epochs}")
            _reseed(model, [seed, epoch])
            losses.training.append(_mean(model.train_on_batch, of(training, seed=[seed, epoch]), bar))
            if validation.paths:
                losses.validation.append(_mean(model.test_on_batch, of(validation, seed=[seed, 0])))
            if not math.isfinite(losses.training[-1]):
                raise LookalikeError(
                    f"The training went astray in epoch {epoch}: its loss is no number any more. Take another "
                    "objective, or other weights to begin with."
                )
            checkpoint.save(model, losses)
    checkpoint.restore_best(model)
    return losses


def _reseed(model: keras.Model, seed: Sequence[int]) -> None:
    """Have dropout and its like draw in an epoch what they would draw if the training had begun with it.

    The layers of a backbone are seeded by whoever built it, and a file of weights does not say where they were.
    """
    random = np.random.default_rng(seed)
    for variable in model.variables:
        if variable.path.endswith("seed_generator_state"):
            variable.assign(random.integers(2**31, size=variable.shape))


def _mean(
    step: Callable[..., float],
    batches: Generator[tuple[NDArray[np.uint8], NDArray[Any]], None, None],
    bar: tqdm[Any] | None = None,
) -> float:
    """The mean loss of what is shown, each image counted alike, and shown on a bar while it comes about."""
    total, count = 0.0, 0
    with closing(batches):
        for shown, expected in batches:
            total += float(step(shown, expected)) * len(shown)
            count += len(shown)
            if bar is not None:
                bar.set_postfix_str(f"loss {total / count:.4f}", refresh=False)
                bar.update()
    return total / count
