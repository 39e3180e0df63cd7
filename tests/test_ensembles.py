"""Several networks, one pass over the images: each of them makes what it makes alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.conftest import MeanColour
from utilities.embedder import Embedder, embed_in_batches, load_embedder
from utilities.ensembles import Ensemble
from utilities.image_to_vec import image_to_vec
from utilities.settings import Settings
from utilities.views import Sight


class Corners(Sight):
    """Embeds the picture and its mirror image as the red of their corners; two batches are under way at once."""

    batch_size = 3
    runtime = "numpy"

    def __init__(self) -> None:
        super().__init__(replace(MeanColour.fingerprint, dimension=4, views="squash,mirror"), 16)
        self.ahead = 0

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        reds: NDArray[np.float32] = pixels[..., [0, 0, -1, -1], [0, -1, 0, -1], 0].mean(axis=1, dtype=np.float32)
        return reds + 1

    def embed_stream(self, batches: Iterable[NDArray[np.uint8]]) -> Generator[NDArray[np.float32], None, None]:
        under_way: deque[NDArray[np.uint8]] = deque()
        for batch in batches:
            under_way.append(batch)
            self.ahead = max(self.ahead, len(under_way))
            if len(under_way) == 2:
                yield self.embed(under_way.popleft())
        yield from map(self.embed, under_way)


@pytest.fixture
def members(networks: Path) -> list[Embedder]:
    network = load_embedder("mobilenetv2", "random", Settings(home=networks.parent), runtime="openvino")
    return [MeanColour(), network, Corners()]


def test_an_ensemble_is_an_embedder_that_gives_what_its_members_give(
    members: list[Embedder], colour_tree: Path, settings: Settings
) -> None:
    ensemble: Embedder = Ensemble(members)
    assert (ensemble.dimension, ensemble.input_size, ensemble.batch_size) == (3 + 1280 + 4, 224, 3)
    assert ensemble.input_shape == (8 * 8 * 3 + 224 * 224 * 3 + 2 * 16 * 16 * 3,)
    embeddings, paths = image_to_vec(colour_tree, embedder=ensemble, settings=settings, progress=False)
    assert embeddings.shape == (15, ensemble.dimension)
    alone = [image_to_vec(colour_tree, embedder=each, settings=settings, progress=False) for each in members]
    assert isinstance(ensemble, Ensemble)
    for theirs, (expected, same) in zip(ensemble.split(embeddings), alone, strict=True):
        assert paths == same
        np.testing.assert_allclose(theirs, expected, atol=1e-5)


def test_one_batch_is_split_and_joined(members: list[Embedder]) -> None:
    ensemble = Ensemble(members)
    image = Image.new("RGB", (40, 30), (200, 10, 30))
    pixels = np.stack([ensemble.see(image)] * 2)
    expected = np.concatenate([each.embed(np.stack([each.see(image)] * 2)) for each in members], axis=1)
    np.testing.assert_allclose(ensemble.embed(pixels), expected, atol=1e-5)
    assert embed_in_batches(ensemble, pixels[:0]).shape == (0, ensemble.dimension)


def test_its_streams_go_in_step_and_may_be_left() -> None:
    asked = 0

    def batches() -> Iterator[NDArray[np.uint8]]:
        nonlocal asked
        for number in range(100):
            asked += 1
            yield np.full((3, *ensemble.input_shape), number, np.uint8)

    ensemble = Ensemble([MeanColour(), Corners()])
    stream = ensemble.embed_stream(batches())
    firsts = [next(stream)[0, 3] for _ in range(5)]
    assert firsts == [1, 2, 3, 4, 5]
    assert asked <= 7
    stream.close()
    assert asked <= 7
