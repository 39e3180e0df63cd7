"""A tree becomes embeddings and paths that stay aligned, whatever fails on the way."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Generator, Iterable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.conftest import COLOURS, MeanColour
from utilities.contents import READ_AHEAD
from utilities.directory_trees import find_images
from utilities.errors import InvalidArgument, UnreadableImage
from utilities.image_to_vec import embed_images, image_to_vec
from utilities.item_streams import embed_files, sample_pixels
from utilities.settings import Settings


def test_embeddings_and_paths_of_a_tree(colour_tree: Path, embedder: MeanColour) -> None:
    embeddings, paths = image_to_vec(colour_tree, embedder=embedder)
    assert embeddings.shape == (15, 3)
    assert embeddings.dtype == np.float32
    assert paths == sorted(paths)
    assert paths[0] == f"{colour_tree}/blue/blue_0.png"
    for embedding, path in zip(embeddings, paths, strict=True):
        red, green, blue = (channel > 50 for channel in COLOURS[Path(path).parent.name])
        np.testing.assert_array_equal(embedding > 0.1, [red, green, blue])


def test_what_fails_is_left_out_of_both_and_said(
    colour_tree: Path, embedder: MeanColour, caplog: pytest.LogCaptureFixture
) -> None:
    whole, _ = image_to_vec(colour_tree, embedder=embedder)
    for name in ("blue/aaa.jpg", "green/green_1.png", "yellow/zzz.jpg"):
        (colour_tree / name).write_bytes(b"damaged")
    with caplog.at_level(logging.WARNING):
        embeddings, paths = image_to_vec(colour_tree, embedder=embedder)
    assert len(embeddings) == len(paths) == 14
    gone = sorted([*paths, f"{colour_tree}/green/green_1.png"]).index(f"{colour_tree}/green/green_1.png")
    np.testing.assert_array_equal(embeddings, np.delete(whole, gone, axis=0))
    assert [record.getMessage().split("/")[-1].split()[0] for record in caplog.records] == [
        "aaa.jpg",
        "green_1.png",
        "zzz.jpg",
    ]


def test_extension(colour_tree: Path, embedder: MeanColour) -> None:
    Image.new("RGB", (9, 9), "red").save(colour_tree / "one.JPEG")
    _, paths = image_to_vec(colour_tree, extension="jpeg", embedder=embedder)
    assert paths == [f"{colour_tree}/one.JPEG"]


def test_a_tree_of_nothing_but_damage(tmp_path: Path, embedder: MeanColour) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(UnreadableImage, match="None of the 1 images"):
        image_to_vec(tmp_path, embedder=embedder)
    with pytest.raises(InvalidArgument, match="no directory"):
        image_to_vec(tmp_path / "b", embedder=embedder)


@pytest.mark.parametrize("count", [1, 3, 4, 5, 4 * READ_AHEAD + 5])
def test_every_path_is_in_exactly_one_chunk_in_order(tmp_path: Path, embedder: MeanColour, count: int) -> None:
    paths = [f"{number:04}.png" for number in range(count)]
    for number, path in enumerate(paths):
        if number % 7 == 3:
            (tmp_path / path).write_bytes(b"damaged")
        else:
            Image.new("RGB", (2, 2), (number % 256, number // 256, 9)).save(tmp_path / path)
    chunks = list(embed_files(tmp_path, paths, embedder, Settings()))
    assert [item.path for chunk in chunks for item in chunk.items] == [p for n, p in enumerate(paths) if n % 7 != 3]
    assert [failure.path for chunk in chunks for failure in chunk.failures] == paths[3::7]
    for chunk in chunks:
        assert len(chunk.items) == len(chunk.embeddings)
        for item, embedding in zip(chunk.items, chunk.embeddings, strict=True):
            number = int(item.path[:4])
            assert embedding[0] / embedding[2] == pytest.approx(number % 256 / 9, abs=0.01)


def test_a_name_that_is_not_utf8_is_a_failure_with_a_printable_path(tmp_path: Path, embedder: MeanColour) -> None:
    name = b"caf\xe9.png".decode(errors="surrogateescape")
    Image.new("RGB", (2, 2)).save(tmp_path / name)
    (chunk,) = embed_files(tmp_path, [name], embedder, Settings())
    assert chunk.items == []
    assert chunk.failures[0].path == r"caf\xe9.png"
    assert "not UTF-8" in chunk.failures[0].reason


def test_a_file_that_vanishes_is_a_failure(tmp_path: Path, embedder: MeanColour) -> None:
    (chunk,) = embed_files(tmp_path, ["gone.png"], embedder, Settings())
    assert "There is no file" in chunk.failures[0].reason


def test_queries_of_several_kinds(embedder: MeanColour) -> None:
    red = Image.new("RGB", (4, 4), "red")
    embeddings = embed_images([red, np.asarray(red)], embedder)
    np.testing.assert_allclose(embeddings, [[1, 0, 0], [1, 0, 0]], atol=1e-5)
    assert embed_images([], embedder).shape == (0, 3)


class LooksAhead(MeanColour):
    """Asks for three batches before it gives the first, as a network that runs several at once does."""

    def embed_stream(self, batches: Iterable[NDArray[np.uint8]]) -> Generator[NDArray[np.float32], None, None]:
        under_way: deque[NDArray[np.uint8]] = deque()
        for batch in batches:
            under_way.append(batch)
            if len(under_way) == 3:
                yield self.embed(under_way.popleft())
        yield from map(self.embed, under_way)


@pytest.mark.parametrize("bad", [range(0, 9), range(6, 20), range(31, 40), range(0, 40), range(0, 40, 3)])
def test_items_and_vectors_stay_together_whatever_fails_around_them(tmp_path: Path, bad: range) -> None:
    paths = [f"{number:02}.png" for number in range(40)]
    for number, path in enumerate(paths):
        if number in bad:
            (tmp_path / path).write_bytes(b"damaged")
        else:
            Image.new("RGB", (2, 2), (5 * number, 100, 9)).save(tmp_path / path)
    chunks = list(embed_files(tmp_path, paths, LooksAhead(), Settings()))
    assert [failure.path for chunk in chunks for failure in chunk.failures] == [paths[number] for number in bad]
    assert [item.path for chunk in chunks for item in chunk.items] == [p for n, p in enumerate(paths) if n not in bad]
    for chunk in chunks:
        assert len(chunk.items) == len(chunk.embeddings)
        for item, embedding in zip(chunk.items, chunk.embeddings, strict=True):
            assert embedding[0] / embedding[1] == pytest.approx(5 * int(item.path[:2]) / 100, abs=0.02)


def test_who_leaves_a_stream_does_not_wait_for_what_was_to_be_decoded(tmp_path: Path) -> None:
    paths = [f"{number:03}.png" for number in range(200)]
    for path in paths:
        Image.new("RGB", (2, 2)).save(tmp_path / path)
    decoded: list[Image.Image] = []

    class SeesSlowly(MeanColour):
        def see(self, image: Image.Image) -> NDArray[np.uint8]:
            time.sleep(0.02)
            decoded.append(image)
            return super().see(image)

    stream = embed_files(tmp_path, paths, SeesSlowly(), Settings())
    next(stream)
    before = len(decoded)
    assert before
    stream.close()
    assert len(decoded) - before <= 2 * (os.cpu_count() or 1)


def test_a_sample_is_the_same_every_time_and_passes_over_what_cannot_be_read(
    colour_tree: Path, embedder: MeanColour
) -> None:
    (colour_tree / "bad.png").write_bytes(b"damaged")
    paths = find_images(colour_tree)
    sample = sample_pixels(colour_tree, paths, 10, embedder, Settings())
    assert sample.shape in [(10, 8, 8, 3), (9, 8, 8, 3)]
    np.testing.assert_array_equal(sample, sample_pixels(colour_tree, paths, 10, embedder, Settings()))
    assert sample_pixels(colour_tree, paths, 100, embedder, Settings()).shape == (15, 8, 8, 3)
    assert sample_pixels(colour_tree, ["bad.png"], 5, embedder, Settings()).shape == (0, 8, 8, 3)
