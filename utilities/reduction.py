"""PCA: fit a projection to fewer dimensions, keep it, apply it, and measure what each number of dimensions is worth."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from utilities.errors import InvalidArgument
from utilities.fingerprint import Fingerprint

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Vectors that a projection is fitted on, drawn at random where there are more. Of 2,048 dimensions these are 40 MB.
FIT_SAMPLE = 5_000
#: Of the largest variance: below this part of it lies what rounding to float32 leaves.
SMALLEST_VARIANCE = 1e-10
#: Below this length a projected vector has no direction that means anything; it is left as it is.
SHORTEST = 1e-12


@dataclass(frozen=True)
class Projection:
    """Unit vectors become shorter ones: centred, turned to the axes of largest variance, cut off, made unit again."""

    #: (dimension,) float32, subtracted first.
    mean: NDArray[np.float32]
    #: (reduced, dimension) float32: a row for each new axis; divided by the axis's deviation if whitened.
    axes: NDArray[np.float32]
    whitened: bool

    @property
    def digest(self) -> str:
        """Hexadecimal BLAKE2b of the arrays."""
        digest = hashlib.blake2b(digest_size=16)
        for array in (self.mean, self.axes):
            digest.update(np.ascontiguousarray(array, np.float32).data)
        return digest.hexdigest()

    def __call__(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Project.

        Args:
            embeddings: (n, dimension) float32.

        Returns:
            (n, reduced) float32, rows of length 1.
        """
        return unit_length((embeddings - self.mean) @ self.axes.T)

    def fingerprint(self, before: Fingerprint) -> Fingerprint:
        """Of an embedder whose vectors are projected."""
        return replace(before, dimension=len(self.axes), pca_digest=self.digest)

    def save(self, file: Path) -> None:
        """Write it as an `.npz` file."""
        np.savez(file, mean=self.mean, axes=self.axes, whitened=np.array(self.whitened))

    @classmethod
    def load(cls, file: Path) -> Projection:
        """Read what `save` wrote."""
        with np.load(file, allow_pickle=False) as arrays:
            return cls(arrays["mean"], arrays["axes"], bool(arrays["whitened"]))


@dataclass(frozen=True)
class PrincipalComponents:
    """All axes of a sample of vectors, the one of largest variance first."""

    mean: NDArray[np.float32]
    #: (min(n, dimension), dimension) float32.
    axes: NDArray[np.float32]
    #: (min(n, dimension),) the variance along each.
    variances: NDArray[np.float64]

    @classmethod
    def of(cls, embeddings: NDArray[np.float32]) -> PrincipalComponents:
        """Pearson, On lines and planes of closest fit (1901), by scikit-learn.

        Args:
            embeddings: (n, dimension), n at least 2.
        """
        from sklearn.decomposition import PCA

        solver = "covariance_eigh" if len(embeddings) >= embeddings.shape[1] else "full"
        with np.errstate(invalid="ignore"):  # Vectors that are all the same have no variance to divide by.
            fitted = PCA(svd_solver=solver).fit(np.asarray(embeddings, np.float64))
        return cls(
            fitted.mean_.astype(np.float32), fitted.components_.astype(np.float32), np.array(fitted.explained_variance_)
        )

    @property
    def rank(self) -> int:
        """Axes along which the sample varies at all: fewer than vectors, and fewer than dimensions if some are idle."""
        return int((self.variances > max(SMALLEST_VARIANCE * self.variances[0], SHORTEST)).sum())

    def projection(self, dimension: int, *, whiten: bool = False) -> Projection:
        """The projection to the first axes.

        Args:
            dimension: how many.
            whiten: divide by the deviation along each, so that all count alike; for retrieval it seldom helps.

        Raises:
            InvalidArgument: fewer than 1, or more than `rank`, which is 0 where all vectors are the same.
        """
        if not self.rank:
            raise InvalidArgument("PCA cannot be fitted to these vectors, which are all the same.")
        if not 1 <= dimension <= self.rank:
            raise InvalidArgument(
                f"--pca {dimension:,} cannot be had: a sample of these vectors, which have {self.axes.shape[1]:,} "
                f"dimensions, varies along {self.rank:,}; take a number from 1 to {self.rank:,}."
            )
        axes = self.axes[:dimension]
        if whiten:
            axes = np.asarray(axes / np.sqrt(self.variances[:dimension, None]), np.float32)
        return Projection(self.mean, axes, whiten)


def unit_length(vectors: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """(…, dimension) float32 in the same directions, each of length 1; one of no length stays as it is."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, SHORTEST), np.float32)


def dimensions_to_try(most: int) -> list[int]:
    """2, 3, 4, 6, 8, 12, 16 and so on, and the most there are."""
    steps = [number for power in range(1, most.bit_length() + 1) for number in (2**power, 3 * 2 ** (power - 1))]
    return [*(step for step in sorted(steps) if step < most), most]
