"""Search for as long as a process lives: networks stay loaded, and searches that come together go together."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from utilities.batches import Batches
from utilities.collection_info import CollectionInfo
from utilities.embedder import Embedder, embed_in_batches, embedder_of
from utilities.ensembles import as_one
from utilities.errors import InvalidArgument, LookalikeError
from utilities.fingerprint import Fingerprint
from utilities.milvus_utilities import by_field, settle
from utilities.selections import Selection
from utilities.settings import Settings
from utilities.similar_images import Match, nearest_matches
from utilities.video_search import nearest_videos
from utilities.video_to_vec import clip_to_vec

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pymilvus import MilvusClient

#: Searches of a batch: as many images as the network is fast with (`OpenVINOEmbedder.batch_size`).
TOGETHER = 8
#: Batches under way at once: while one is searched with, the next is embedded.
BATCHES = 2


@dataclass(frozen=True, eq=False)
class _Search:
    info: CollectionInfo
    selection: Selection
    #: `Embedder.input_shape` uint8 to be embedded, or else (dimension,) float32.
    pixels: NDArray[np.uint8] | None = None
    vector: NDArray[np.float32] | None = None


class WarmSearch:
    """Searches in any collection of one Milvus; safe to use from many threads."""

    def __init__(self, client: MilvusClient, settings: Settings) -> None:
        """Start the threads that search."""
        self.client, self.settings = client, settings
        self._networks: dict[Fingerprint, Embedder] = {}
        self._loading = threading.Lock()
        self._batches: Batches[_Search, list[Match]] = Batches(self._answer, TOGETHER, BATCHES)

    def embedder(self, info: CollectionInfo) -> Embedder:
        """A collection's own network, or those of an ensemble that are in use; each is loaded at the first call.

        Raises:
            WeightsUnavailable, EmbedderMismatch: as `embedder_of` does.
        """
        found = as_one([self._network(each) for each in info.fingerprints])
        if not info.fingerprint.weights_digest:
            settle(self.client, info, fingerprint=found.fingerprint)
        return found

    def _network(self, fingerprint: Fingerprint) -> Embedder:
        found = self._networks.get(fingerprint)
        if found is None:
            with self._loading:
                found = self._networks.get(fingerprint) or embedder_of(fingerprint, self.settings)
                self._networks[fingerprint] = found
        return found

    def by_pixels(self, info: CollectionInfo, pixels: NDArray[np.uint8], selection: Selection) -> Future[list[Match]]:
        """Search for an image.

        Args:
            info: the collection, as `selection.check` returned it.
            pixels: what its `embedder` sees of the image, `Embedder.input_shape` uint8.
            selection: which matches.

        Returns:
            What becomes the matches, nearest first, or an error as `nearest_neighbours` raises it.
        """
        return self._batches.submit(_Search(info, selection, pixels=pixels))

    def by_vector(
        self, info: CollectionInfo, vector: NDArray[np.floating[Any]], selection: Selection
    ) -> Future[list[Match]]:
        """Search for a vector; as `by_pixels` otherwise.

        Args:
            info: the collection, as `selection.check` returned it.
            vector: (dimension,), of an ensemble those of the networks in use side by side; finite as float32, and where
                the collection compares by cosine no network's all 0.
            selection: which matches.

        Raises:
            InvalidArgument: another vector.
        """
        if vector.shape != (info.dimension,):
            networks = " and ".join(f"{each.backbone} ({each.dimension:,})" for each in info.fingerprints)
            raise InvalidArgument(
                f"The collection {info.name!r} holds vectors of {info.dimension:,} numbers"
                f"{f', those of {networks} side by side' if info.others else ''}; one of {len(vector):,} cannot be "
                "compared with them."
            )
        with np.errstate(over="ignore"):  # What is too large is infinite then, and refused.
            vector = vector.astype(np.float32)
        lengths = [np.linalg.norm(each.astype(np.float64)) for each in by_field(info, vector).values()]
        if not np.isfinite(lengths).all() or (min(lengths) == 0 and info.metric == "COSINE"):
            whose = "one network's" if info.others else "its"
            raise InvalidArgument(f"The vector has no direction: {whose} numbers are all 0, or not all finite.")
        return self._batches.submit(_Search(info, selection, vector=vector))

    def by_clip(
        self, info: CollectionInfo, file: Path, selection: Selection, *, name: str, patience: float
    ) -> list[Match]:
        """Search for a clip: here and now, since its frames fill batches of their own.

        Args:
            info: a collection of videos.
            file: the clip.
            selection: which matches.
            name: what errors call it.
            patience: seconds that decoding it may take.

        Returns:
            The matches, nearest first.

        Raises:
            LookalikeError: as for `clip_to_vec` and `nearest_videos`.
        """
        clip = clip_to_vec(file, self.embedder(info), name=name, patience=patience)
        return nearest_videos(self.client, info, clip.embeddings, selection, step=clip.step)

    def close(self) -> None:
        """Finish what was asked for."""
        self._batches.close()

    def _answer(self, searches: Sequence[_Search]) -> list[list[Match] | Exception]:
        vectors = self._vectors(searches)
        alike = defaultdict(list)
        for row, search in enumerate(searches):
            alike[search.info, search.selection].append(row)
        answers: dict[int, list[Match] | Exception] = {}
        for (info, selection), rows in alike.items():
            try:
                together = np.stack([vectors[row] for row in rows])
                found: Sequence[list[Match] | Exception] = nearest_matches(self.client, info, together, selection)
            except LookalikeError as error:  # which is no matter of the others in the batch
                found = [error] * len(rows)
            answers.update(zip(rows, found, strict=True))
        return [answers[row] for row in range(len(searches))]

    def _vectors(self, searches: Sequence[_Search]) -> dict[int, NDArray[np.float32]]:
        """By row; images of one network are embedded together."""
        vectors: dict[int, NDArray[np.float32]] = {}
        images = defaultdict(list)
        for row, search in enumerate(searches):
            if search.vector is not None:
                vectors[row] = search.vector
            else:
                images[search.info.fingerprints].append(row)
        for rows in images.values():
            pixels = np.stack([pixels for row in rows if (pixels := searches[row].pixels) is not None])
            embeddings = embed_in_batches(self.embedder(searches[rows[0]].info), pixels)
            vectors.update(zip(rows, embeddings, strict=True))
        return vectors
