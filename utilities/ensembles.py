"""Several networks that see the same images: one pass over them, and the embeddings of each."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from itertools import tee
from typing import TYPE_CHECKING

import numpy as np

from utilities.embedder import Embedder, embedder_of
from utilities.fingerprint import Fingerprint
from utilities.settings import Settings

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image


class Ensemble:
    """An `Embedder` of several, whose vectors are theirs side by side; as safe to use from many threads as they are.

    Its fingerprint is the first member's, by which it is told whether faces are seen: vectors are to be compared
    member by member, each by its own fingerprint.
    """

    def __init__(self, members: Sequence[Embedder]) -> None:
        """Of at least one embedder; none of several sees faces, which one network's chips would not fit another's."""
        self.members = tuple(members)
        self.fingerprint = self.members[0].fingerprint
        self.dimension = sum(each.dimension for each in self.members)
        self.input_size = max(each.input_size for each in self.members)
        self.input_shape: tuple[int, ...] = (sum(math.prod(each.input_shape) for each in self.members),)
        self.batch_size = min(each.batch_size for each in self.members)
        #: As `Embedder.runtime`.
        self.runtime = "; ".join(f"{each.fingerprint.backbone}: {each.runtime}" for each in self.members)

    def see(self, image: Image.Image) -> NDArray[np.uint8]:
        """As `Embedder.see`: what the members see, one after the other in one row of bytes."""
        return np.concatenate([each.see(image).ravel() for each in self.members])

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """As `Embedder.embed`."""
        seen = zip(self.members, self._seen(pixels), strict=True)
        return np.concatenate([member.embed(each) for member, each in seen], axis=1)

    def embed_stream(self, batches: Iterable[NDArray[np.uint8]]) -> Generator[NDArray[np.float32], None, None]:
        """As `Embedder.embed_stream`: the members' streams go in step, so that none has many batches before another."""
        with ExitStack() as stack:
            streams = [
                stack.enter_context(closing(member.embed_stream(self._seen_by(number, copy))))
                for number, (member, copy) in enumerate(zip(self.members, tee(batches, len(self.members)), strict=True))
            ]
            for embeddings in zip(*streams, strict=True):
                yield np.concatenate(embeddings, axis=1)

    def split(self, embeddings: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """What each member made.

        Args:
            embeddings: (n, dimension), as `embed` returns them.

        Returns:
            Of each member, (n, its dimension) float32.
        """
        return np.split(embeddings, np.cumsum([each.dimension for each in self.members])[:-1], axis=1)

    def _seen(self, pixels: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        """Of each member what `see` has put into rows: (n, *its input_shape)."""
        ends = np.cumsum([math.prod(each.input_shape) for each in self.members])
        rows = np.split(pixels, ends[:-1], axis=1)
        return [each.reshape(-1, *member.input_shape) for member, each in zip(self.members, rows, strict=True)]

    def _seen_by(self, number: int, batches: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
        return (self._seen(pixels)[number] for pixels in batches)


def embedder_of_all(fingerprints: Sequence[Fingerprint], settings: Settings) -> Embedder:
    """The embedder that a collection was loaded with: of several networks an ensemble; errors as for `embedder_of`."""
    return as_one([embedder_of(each, settings) for each in fingerprints])


def as_one(members: Sequence[Embedder]) -> Embedder:
    """The embedder that several are, at least one: of one of them it is that itself."""
    return members[0] if len(members) == 1 else Ensemble(members)


def fingerprints_of(embedder: Embedder) -> tuple[Fingerprint, ...]:
    """Of each network of an embedder."""
    return (
        tuple(each.fingerprint for each in embedder.members)
        if isinstance(embedder, Ensemble)
        else (embedder.fingerprint,)
    )
