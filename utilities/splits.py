"""Which images a network was trained on, and which were held out: told by file, and kept beside the weights."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from utilities.backbones import NAMED_WEIGHTS
from utilities.errors import InvalidArgument
from utilities.labels import Labels
from utilities.tuned_weights import TunedWeights

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

#: What is learned from; what tells when to stop; what quality is measured on.
TRAINING, VALIDATION, HELD_OUT = "training", "validation", "held-out"
#: Of what may be trained on, by default, and of what is trained on, to tell when to stop.
TRAINING_SHARE, VALIDATION_SHARE = 0.8, 0.1


def stratified_split(
    labels: Labels, digests: Sequence[str], training: int | None, seed: int, seen: Set[str] = frozenset()
) -> NDArray[np.str_]:
    """Part the images of each label at random.

    Args:
        labels: of n images; those without one are parted like a label of their own.
        digests: of their n files, all different.
        training: so many of each label are trained on, a tenth of which is for validation where there are 3 or more;
            by default `TRAINING_SHARE` of them. One at least is held out.
        seed: of what is drawn.
        seen: digests of files that were trained on before, which are never held out.

    Returns:
        (n,) of `TRAINING`, `VALIDATION` and `HELD_OUT`. The same arguments give the same, in whatever order.

    Raises:
        InvalidArgument: of some label everything was trained on before.
    """
    random = np.random.default_rng(seed)
    split = np.full(len(digests), HELD_OUT, dtype=f"<U{max(map(len, (TRAINING, VALIDATION, HELD_OUT)))}")
    for code in range(-1, len(labels.names)):
        own = sorted(np.flatnonzero(labels.codes == code).tolist(), key=digests.__getitem__)
        random.shuffle(own)
        own.sort(key=lambda row: digests[row] not in seen)  # which keeps the order among each
        before = sum(digests[row] in seen for row in own)
        if own and before == len(own):
            of = f" of {labels.names[code]!r}" if code >= 0 else ""
            raise InvalidArgument(
                f"The weights have been trained on all {before:,} images{of} before, so that none can be held out; add "
                "others, or begin with other weights."
            )
        share = round(TRAINING_SHARE * len(own)) if training is None else training
        taught = max(1, before, min(share, len(own) - 1))
        validated = math.ceil(VALIDATION_SHARE * taught) if taught >= 3 else 0
        split[own[:validated]], split[own[validated:taught]] = VALIDATION, TRAINING
    return split


def split_beside(weights: str) -> Path:
    """Where the split of a file of weights lies."""
    return Path(weights).with_suffix(".split.csv")


def write_split(
    file: Path, items: pd.DataFrame, labels: Labels, split: NDArray[np.str_], seen: Set[str] = frozenset()
) -> None:
    """Write who is in which part, as a CSV that may be read as one of labels, too.

    Args:
        file: CSV, UTF-8; a reader sees all of it or none.
        items: n rows with the columns `path` and `file_digest`.
        labels: of the n images.
        split: (n,) from `stratified_split`.
        seen: digests of files that the weights had been trained on before; those that are not here have no path.

    Raises:
        OSError: it cannot be written.
    """
    names = [labels.names[code] if code >= 0 else "" for code in labels.codes]
    table = items[["path", "file_digest"]].assign(label=names, split=split)
    gone = sorted(seen - set(items["file_digest"]))
    earlier = pd.DataFrame({"path": "", "label": "", "split": TRAINING, "file_digest": gone})
    unfinished = file.with_name(f".{os.getpid()}-{file.name}")
    whole = pd.concat([table, earlier]) if gone else table
    whole.to_csv(unfinished, index=False, columns=["path", "label", "split", "file_digest"], lineterminator="\n")
    unfinished.replace(file)


def trained_on(*weights: str) -> set[str]:
    """The digests of the files that a network, or one of several, has seen in training.

    Args:
        weights: as `Fingerprint.weights`. What was not fine-tuned has seen none of them; of a file that was, and lies
            without its split, a warning says that this is not known.

    Raises:
        InvalidArgument: a split that cannot be read; the message names it.
    """
    seen: set[str] = set()
    for each in sorted(set(weights) - set(NAMED_WEIGHTS)):
        file = split_beside(each)
        if not file.is_file():
            if TunedWeights.of(each):
                logger.warning("%s is gone: which images %s was trained on cannot be told.", file, each)
            continue
        try:
            table = pd.read_csv(file, dtype=str, keep_default_na=False)
            seen |= set(table["file_digest"][table["split"] != HELD_OUT])
        except (ValueError, KeyError, OSError) as error:
            raise InvalidArgument(
                f"{str(file)!r}, which should say what a network was trained on, cannot be read: {error}. Put back "
                "what `lookalike fine-tune` wrote, or remove it."
            ) from error
    return seen


def were_trained_on(items: pd.DataFrame, *weights: str) -> NDArray[np.bool_]:
    """Which images a network has seen in training, told by what is in their files.

    What it has seen, it finds the like of more easily than of what it has not.

    Args:
        items: n rows with the column `file_digest`.
        weights: as for `trained_on`, whose errors this has.

    Returns:
        (n,).
    """
    return np.asarray(items["file_digest"].isin(trained_on(*weights)), np.bool_)
