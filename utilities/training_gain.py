"""What a training was worth: the same held-out images, searched with before and after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from utilities.evaluation import TOP_K, choose_queries, exact_score
from utilities.labels import Labels
from utilities.retrieval_metrics import Estimate, bootstrap
from utilities.sampling import draw_sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Held-out images that are searched with, at most.
MOST_QUERIES = 5_000
#: What of a ranking is told, and by which of these it is told whether the training helped.
METRICS, DECISIVE = ("precision@5", "precision@20", "map", "accuracy@5"), "map"


@dataclass(frozen=True)
class Change:
    """A metric before and after the training, on the same queries."""

    metric: str
    before: Estimate
    after: Estimate
    #: Of each query after less before.
    difference: Estimate


@dataclass(frozen=True)
class Comparison:
    """Held-out images, searched for among others."""

    #: `"held-out images"` or `"images that the training saw"`.
    among: str
    queries: int
    #: The precision@20 of perfect answers: below 1 where labels have few images there.
    highest: float
    #: One for each of `METRICS`.
    changes: list[Change]


def compare_held_out(
    before: NDArray[np.float32],
    after: NDArray[np.float32],
    labels: Labels,
    held_out: NDArray[np.bool_],
) -> list[Comparison]:
    """Search with held-out images, among themselves, and among the images that the training saw.

    Args:
        before: (n, dimension) of all images by the network as it was, rows of length 1.
        after: the same by the network that was trained.
        labels: of the n images.
        held_out: (n,) which of them the training has not seen.

    Returns:
        First what tells whether the network tells new images apart, then what a user meets, whose collection holds the
        images that the training saw. Not the first where no two held-out images share one.
    """
    found = []
    alone = Labels(np.where(held_out, labels.codes, -1), labels.names)
    unseen = np.flatnonzero(held_out)
    for name, among, queries in (
        ("held-out images", held_out, choose_queries(alone, MOST_QUERIES)),
        ("images that the training saw", ~held_out, unseen[draw_sample(len(unseen), MOST_QUERIES)]),
    ):
        if not len(queries):
            continue
        old, new = (exact_score(each, labels, queries, among, progress=False) for each in (before, after))
        changes = [
            Change(metric, bootstrap(old[metric]), bootstrap(new[metric]), bootstrap(new[metric] - old[metric]))
            for metric in METRICS
        ]
        there = np.bincount(labels.codes[among], minlength=len(labels.names))[labels.codes[queries]] - among[queries]
        found.append(Comparison(name, len(queries), float(np.minimum(there, TOP_K).mean() / TOP_K), changes))
    return found


def training_helped(comparisons: Sequence[Comparison]) -> bool | None:
    """Whether it did, by `DECISIVE` in the first comparison; None if its interval does not tell, or there is none."""
    if not comparisons:
        return None
    difference = next(each for each in comparisons[0].changes if each.metric == DECISIVE).difference
    return None if difference.low <= 0 <= difference.high else difference.mean > 0
