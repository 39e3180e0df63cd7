"""Explore: pictures that hold what they should, and a page that answers in a real browser."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

from pipelines import explore, load
from pipelines.explore import Exploration
from tests.conftest import COLOURS, MeanColour
from utilities.errors import InvalidArgument, MissingPackage
from utilities.settings import Settings
from utilities.thumbnails import NOTHING, read_thumbnails, tile_grid, tile_map


@pytest.fixture
def loaded(colour_tree: Path, settings: Settings, embedder: MeanColour) -> Path:
    # A label that would end the script which holds the page's data, and run another.
    hostile = colour_tree / "<script>alert(1)<"
    hostile.mkdir()
    Image.new("RGB", (9, 9), "cyan").save(hostile / "cyan.png")
    load.run(colour_tree, collection="colours", embedder=embedder, settings=settings, progress=False)
    return colour_tree


@pytest.fixture
def exploration(loaded: Path, settings: Settings, tmp_path: Path) -> Exploration:
    (loaded / "red/red_2.png").unlink()
    return explore.run("colours", sample=100, out=tmp_path / "out", settings=settings, progress=False)


def test_maps_tiles_clusters_and_the_page_are_written(exploration: Exploration) -> None:
    assert (exploration.items, exploration.sample, exploration.clusters) == (16, 16, 6)
    assert exploration.purity == exploration.nmi == 1
    assert exploration.unreadable == 1
    assert [file.name for file in exploration.pictures] == [
        "tsne.png",
        "umap.png",
        "tiles.png",
        "grid.png",
        "clusters.png",
    ]
    for file in exploration.pictures:
        with Image.open(file) as picture:
            assert picture.width > 100
    with Image.open(exploration.pictures[3]) as grid:
        colours = {colour for _, colour in grid.convert("RGB").getcolors(1_000_000) or []}
    assert {COLOURS["red"], COLOURS["green"], COLOURS["blue"]} <= colours


@pytest.fixture
def page(browser: Browser, exploration: Exploration) -> Iterator[Page]:
    """The page, of which nothing may fail and which may fetch nothing."""
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    troubles: list[str] = []
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("dialog", lambda dialog: troubles.append(dialog.message))
    address = exploration.page.as_uri()
    page.on("request", lambda request: None if request.url.startswith((address, "data:")) else troubles.append("fetch"))
    page.goto(address)
    yield page
    assert troubles == []
    page.close()


def _position(page: Page, path: str) -> tuple[float, float]:
    x, y = page.evaluate("path => place(data.items.findIndex(item => item.path === path))", path)
    box = page.locator("#map").bounding_box()
    assert box
    return box["x"] + x, box["y"] + y


def test_hovering_shows_an_image_and_clicking_its_neighbours(page: Page) -> None:
    assert page.locator("#count").text_content() == "16 of 16 items"
    assert page.locator("#hover").is_hidden()
    x, y = _position(page, "blue/blue_1.png")
    page.mouse.move(x, y)
    shown = page.locator("#hover span").text_content() or ""
    assert shown.startswith("blue · blue/blue_")  # Its equals lie at the same place.
    assert (page.locator("#hover img").get_attribute("src") or "").startswith("data:image/jpeg;base64,")
    page.mouse.click(x, y)
    assert page.locator("#name").text_content() == "blue"
    neighbours = page.locator("#neighbours li span")
    assert neighbours.count() == 12
    assert neighbours.all_text_contents()[:2] == ["blue", "blue"]
    page.locator("#neighbours button").nth(11).click()
    assert page.locator("#name").text_content() != "blue"


def test_maps_change_labels_filter_and_the_keyboard_walks(page: Page) -> None:
    assert page.locator("#maps button").all_text_contents() == ["t-SNE", "UMAP"]
    before = _position(page, "red/red_0.png")
    page.get_by_role("button", name="UMAP").click()
    assert page.get_by_role("button", name="UMAP").get_attribute("aria-pressed") == "true"
    assert _position(page, "red/red_0.png") != before
    page.get_by_label("Label").select_option("green")
    page.mouse.move(*_position(page, "red/red_0.png"))
    assert "red" not in (page.locator("#hover span").text_content() or "")
    page.get_by_label("Label").select_option("all")
    page.locator("#map").focus()
    for key in ("ArrowRight", "ArrowLeft", "ArrowUp", "Enter"):
        page.keyboard.press(key)
    assert page.locator("#chosen").is_visible()
    page.mouse.move(*_position(page, "red/red_0.png"))
    page.mouse.wheel(0, -800)
    assert page.evaluate("view.scale") > 2
    page.get_by_role("button", name="Whole map").click()
    assert page.evaluate("view.scale") == 1


def test_without_umap_the_rest_is_drawn(
    loaded: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_: object) -> object:
        raise MissingPackage("UMAP is not installed.")

    monkeypatch.setattr(explore, "umap", missing)
    found = explore.run("colours", sample=100, clusters=2, out=tmp_path, settings=settings, progress=False)
    assert found.without_umap == "UMAP is not installed."
    assert "umap.png" not in [file.name for file in found.pictures]
    assert found.clusters == 2
    with pytest.raises(InvalidArgument, match="16 items cannot be put into 17 clusters; say fewer"):
        explore.run("colours", sample=100, clusters=17, out=tmp_path, settings=settings, progress=False)


def test_too_few_items_have_no_map(tmp_path: Path, settings: Settings, embedder: MeanColour) -> None:
    for number in range(3):
        (tmp_path / "few").mkdir(exist_ok=True)
        Image.new("RGB", (4, 4), (number, 0, 9)).save(tmp_path / f"few/{number}.png")
    load.run(tmp_path / "few", embedder=embedder, settings=settings, progress=False)
    with pytest.raises(InvalidArgument, match="holds 3 items; a map needs 10"):
        explore.run("few", sample=100, out=tmp_path, settings=settings, progress=False)


def test_tiles_lie_where_their_points_do(tmp_path: Path, settings: Settings) -> None:
    red, blue = (Image.new("RGB", (40, 20), colour) for colour in ("red", "blue"))
    tiles = tile_map(np.array([[0.0, 0.0], [1.0, 1.0]]), [red, blue], side=100, tile=20)
    assert tiles.getpixel((10, 85)) == (255, 0, 0)
    assert tiles.getpixel((90, 5)) == (0, 0, 255)
    grid = tile_grid(np.array([[0, 0], [1, 1]]), [red, blue], tile=20)
    assert grid.size == (40, 40)
    assert grid.getpixel((10, 30)) == (255, 0, 0)
    assert grid.getpixel((30, 10)) == (0, 0, 255)
    assert grid.getpixel((10, 10)) == (255, 255, 255)
    assert read_thumbnails([tmp_path / "nothing.png"], [None], settings, progress=False) == [NOTHING]


def test_the_command_prints_what_was_drawn(
    lookalike: Callable[..., subprocess.CompletedProcess[str]], colour_tree: Path, tmp_path: Path
) -> None:
    lookalike("load", colour_tree, "--backbone", "mobilenetv2", "--weights", "random")
    result = lookalike("explore", "colours", "--out", tmp_path / "report")
    assert "colours: 15 of 15 items\n5 clusters, purity " in result.stdout
    assert f"page: {tmp_path / 'report' / 'explore.html'}\n" in result.stdout
    assert "tensorflow" not in result.stderr.lower()
    numbers = json.loads(lookalike("explore", "colours", "--out", tmp_path / "report", "--json").stdout)
    assert numbers["sample"] == 15
