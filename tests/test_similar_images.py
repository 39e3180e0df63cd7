"""From a picture to its neighbours, and to a figure of them."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from pymilvus import MilvusClient

from pipelines import load
from tests.conftest import MeanColour
from utilities.errors import CollectionNotFound, EmbedderMismatch, InvalidArgument, UnreadableImage
from utilities.fingerprint import Fingerprint
from utilities.image_files import ImageSource
from utilities.items import item_id
from utilities.milvus_utilities import create_collection, describe_collection, insert_embeddings
from utilities.selections import Selection
from utilities.settings import Settings
from utilities.similar_images import plot_similar_images, search, similar_images


@pytest.fixture
def colours(colour_tree: Path, embedder: MeanColour, settings: Settings, lite: MilvusClient) -> Path:
    """The colour tree, loaded as the collection `colours`."""
    load.run(colour_tree, embedder=embedder, settings=settings, progress=False)
    return colour_tree


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def test_an_image_of_the_collection_is_its_own_first_match(
    colours: Path, embedder: MeanColour, settings: Settings
) -> None:
    query = colours / "yellow/yellow_0.png"
    matches = similar_images(query, collection="colours", top_k=4, embedder=embedder, settings=settings)
    assert [match.rank for match in matches] == [1, 2, 3, 4]
    assert {match.label for match in matches[:3]} == {"yellow"}
    assert matches[3].label == "grey"
    yellow = next(match for match in matches if match.path == "yellow/yellow_0.png")
    assert (yellow.id, yellow.file, yellow.width, yellow.height) == (item_id("yellow/yellow_0.png"), query, 20, 16)
    assert yellow.similarity == pytest.approx(1, abs=1e-5)
    assert yellow.distance is None


def test_every_kind_of_query_gives_the_same_answer(colours: Path, embedder: MeanColour, settings: Settings) -> None:
    path = colours / "red/red_1.png"
    image = Image.open(path)
    queries: list[ImageSource] = [path, str(path), path.read_bytes(), image, np.asarray(image)]
    answers = search(queries, "colours", Selection(5), embedder=embedder, settings=settings)
    assert len(answers) == 5
    assert all(answer.matches == answers[0].matches for answer in answers)
    assert {match.label for match in answers[0].matches[:3]} == {"red"}


def test_filter(colours: Path, embedder: MeanColour, settings: Settings) -> None:
    matches = similar_images(
        colours / "red/red_0.png", "colours", filter='label in ["blue", "grey"]', embedder=embedder, settings=settings
    )
    assert [match.label for match in matches] == ["grey"] * 3 + ["blue"] * 3


def test_l2_gives_distances(colour_tree: Path, embedder: MeanColour, settings: Settings, lite: MilvusClient) -> None:
    load.run(colour_tree, collection="by_l2", metric="l2", embedder=embedder, settings=settings, progress=False)
    matches = similar_images(Image.new("RGB", (3, 3), (255, 0, 0)), "by_l2", embedder=embedder, settings=settings)
    assert matches[0].similarity is None
    assert matches[0].distance == pytest.approx(0, abs=1e-3)
    blue = next(match for match in matches if match.label == "blue")
    assert blue.distance == pytest.approx(2**0.5, abs=1e-3)


def test_refusals(colours: Path, embedder: MeanColour, settings: Settings, tmp_path: Path) -> None:
    query = colours / "red/red_0.png"
    with pytest.raises(CollectionNotFound, match="there are: colours"):
        similar_images(query, "shapes", embedder=embedder, settings=settings)
    with pytest.raises(InvalidArgument, match="top-k of 0"):
        similar_images(query, "colours", top_k=0, embedder=embedder, settings=settings)
    with pytest.raises(UnreadableImage, match="There is no file"):
        similar_images(tmp_path / "nothing.png", "colours", embedder=embedder, settings=settings)
    other = MeanColour()
    other.fingerprint = Fingerprint("mean_colour", "1" * 32, embedder.fingerprint.preprocessing, 3)
    with pytest.raises(EmbedderMismatch, match=r"weights 00000000; a query embedded by .*weights 11111111"):
        similar_images(query, "colours", embedder=other, settings=settings)


def test_a_query_settles_whose_vectors_a_collection_holds(
    embedder: MeanColour, settings: Settings, lite: MilvusClient
) -> None:
    unstated = replace(embedder.fingerprint, weights_digest="")
    create_collection(lite, "colours", dimension=3, fingerprint=unstated)
    insert_embeddings(lite, "colours", np.eye(3), ["/photos/a", "/photos/b", "/photos/c"], settings=settings)
    red = Image.new("RGB", (3, 3), "red")
    assert similar_images(red, "colours", 1, embedder=embedder, settings=settings)[0].path == "a"
    assert describe_collection(lite, "colours").fingerprint == embedder.fingerprint


def test_the_figure_holds_the_query_and_every_neighbour(
    colours: Path, embedder: MeanColour, settings: Settings, tmp_path: Path
) -> None:
    figure = plot_similar_images(
        colours / "green/green_0.png", "colours", top_k=7, embedder=embedder, settings=settings
    )
    assert isinstance(figure, Figure)
    query, *tiles = figure.axes
    assert len(tiles) == 7
    titles = [axes.get_title(loc="left") for axes in tiles]
    assert titles[0].startswith("1 · 1.000")
    assert [title.split(" · ")[0] for title in titles] == [str(rank) for rank in range(1, 8)]
    assert "green/green_0.png" in query.texts[0].get_text()
    # The tile shows the neighbour's own pixels.
    drawn = np.asarray(tiles[0].images[0].get_array())
    assert drawn[0, 0, 1] > 200
    assert drawn[0, 0, 0] == 0
    figure.savefig(tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as saved:
        assert saved.width > saved.height > 300


def test_a_neighbour_whose_file_is_gone_is_drawn_as_such(
    colours: Path, embedder: MeanColour, settings: Settings
) -> None:
    (colours / "red/red_1.png").unlink()
    figure = plot_similar_images(colours / "red/red_0.png", "colours", top_k=3, embedder=embedder, settings=settings)
    texts = [[text.get_text() for text in axes.texts] for axes in figure.axes[1:]]
    assert sum("file cannot\nbe read" in each for each in texts) == 1


@pytest.mark.parametrize("count", [1, 20, 60])
def test_names_with_dollar_signs_and_many_tiles_are_drawn(colours: Path, settings: Settings, count: int) -> None:
    from utilities.plots import Tile, image_grid

    tile = Tile(colours / "red/red_0.png", "1 · $x$", "a_rather_long_$folder$/with_a_very_long_name.jpeg")
    figure = image_grid(Image.new("RGB", (30, 10)), "$\\frac{", [tile] * count, note="a note", settings=settings)
    figure.canvas.draw()
    captions = [axes.texts[0].get_text() for axes in figure.axes[1:]]
    assert captions[0].startswith("a_rather_lo")
    assert captions[0].endswith(".jpeg")
    assert len(captions[0]) <= 25
