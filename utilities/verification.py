"""Whether two vectors are of one and the same person, told by a threshold on their cosine, and how often that is wrong.

Terms and definitions are those of ISO/IEC 19795-1, Biometric performance testing and reporting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from utilities.labels import Labels
from utilities.sampling import draw_sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Vectors whose pairs are compared at most: eight million pairs.
MOST = 4_000
#: The false match rate whose threshold is told: one in a thousand.
FALSE_MATCH_RATE = 1e-3


@dataclass(frozen=True)
class Verification:
    """What comparing all pairs of n vectors showed."""

    #: Pairs of one person's vectors, and of two persons'.
    mated: int
    non_mated: int
    #: (m,) each, the corners of the receiver operating characteristic, from the highest threshold to the lowest: the
    #: part of the non-mated pairs that is taken for one person, and the part of the mated pairs that is.
    false_match_rates: NDArray[np.float64]
    true_match_rates: NDArray[np.float64]
    #: Where as large a part of the non-mated pairs matches as of the mated pairs does not.
    equal_error_rate: float
    equal_error_threshold: float
    #: The lowest threshold at which no more than `FALSE_MATCH_RATE` of the non-mated pairs match, the part of them that
    #: does, and the part of the mated pairs.
    threshold: float
    false_match_rate: float
    true_match_rate: float


def verify(embeddings: NDArray[np.float32], labels: Labels) -> Verification | None:
    """Compare vectors in pairs.

    Args:
        embeddings: (n, dimension), rows of length 1; of what `rows_to_verify` has chosen.
        labels: of the n vectors: who each is.

    Returns:
        None where there are not both mated and non-mated pairs.
    """
    from sklearn.metrics import roc_curve

    codes = labels.codes
    first, second = np.triu_indices(len(codes), 1)
    mated = codes[first] == codes[second]
    if mated.all() or not mated.any():
        return None
    similarities = (embeddings @ embeddings.T)[first, second]
    false, true, thresholds = roc_curve(mated, similarities, drop_intermediate=False)
    # At infinity, where the curve begins, nothing matches.
    thresholds[0] = max(1.0, float(similarities.max()))
    crossing = int(np.argmax(false >= 1 - true))
    before, after = max(0, crossing - 1), crossing
    gaps = [1 - true[each] - false[each] for each in (before, after)]
    share = gaps[0] / (gaps[0] - gaps[1]) if gaps[0] != gaps[1] else 0.0
    place = int(np.flatnonzero(false <= FALSE_MATCH_RATE)[-1])
    corners = _corners(false, true)
    return Verification(
        mated=int(mated.sum()),
        non_mated=int((~mated).sum()),
        false_match_rates=false[corners],
        true_match_rates=true[corners],
        equal_error_rate=float(false[before] + share * (false[after] - false[before])),
        equal_error_threshold=float(thresholds[before] + share * (thresholds[after] - thresholds[before])),
        threshold=float(thresholds[place]),
        false_match_rate=float(false[place]),
        true_match_rate=float(true[place]),
    )


def _corners(false: NDArray[np.float64], true: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points of a curve are its ends or corners: those between them on a line draw nothing."""
    steps = np.stack([np.diff(false) > 0, np.diff(true) > 0])
    return np.concatenate([[True], (steps[:, 1:] != steps[:, :-1]).any(axis=0), [True]])


def rows_to_verify(labels: Labels) -> NDArray[np.int64]:
    """Which of many vectors to compare: those with a label.

    Where these are more than `MOST`, labels are drawn at random, the same at every call, until so many are reached.
    """
    labelled = np.flatnonzero(labels.codes >= 0)
    if len(labelled) <= MOST:
        return labelled
    order = np.random.default_rng(0).permutation(len(labels.names))
    sizes = np.bincount(labels.codes[labelled], minlength=len(labels.names))[order]
    chosen = order[: max(2, int(np.searchsorted(sizes.cumsum(), MOST, side="right")))]
    rows = labelled[np.isin(labels.codes[labelled], chosen)]
    return rows[draw_sample(len(rows), MOST)]  # Two labels may have more already.
