"""Attributes over HTTP and on the page: offered, filtered by, and shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from PIL.ExifTags import Base
from playwright.sync_api import Browser, Page, expect

from tests.conftest import draw_colours
from tests.serving import COLOURS, Site, loaded_home, serving
from tests.test_page import PHONE, accessible, choose, found, opened
from tests.test_serve import paths, refused

TOKEN = {"Authorization": "Bearer secret"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The colour tree, with three photographs by two cameras."""
    tree = draw_colours(tmp_path_factory.mktemp("attributes") / "colours")
    photograph(tree / "red/a.jpg", "2019:06:01 10:00:00", 'Odd "5D" \\')
    photograph(tree / "red/b.jpg", "2023:05:17 23:59:59", "NIKON D850")
    photograph(tree / "blue/c.jpg", "2023:05:18 00:00:00", "NIKON D850")
    return tree


def photograph(file: Path, taken: str, camera: str) -> None:
    exif = Image.Exif()
    exif.update({Base.DateTime: taken, Base.Model: camera})
    Image.new("RGB", (30, 20), "red").save(file, exif=exif)


@pytest.fixture(scope="module")
def site(tree: Path, networks: Path) -> Iterator[Site]:
    shop = tree.parent / "shop.csv"
    shop.write_text("path,price,sale\nred/b.jpg,80.5,true\nred/red_0.png,9,false\n")
    home = loaded_home(tree.parent, networks, tree, (*COLOURS, "--attributes", str(shop)))
    with serving(home, LOOKALIKE_API_TOKEN="secret") as site:
        site.client.headers.update(TOKEN)
        yield site


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    troubles: list[str] = []
    page = opened(browser, site, troubles, "18 images", http_credentials={"username": "", "password": "secret"})
    yield page
    page.close()
    assert troubles == []


def test_what_can_be_filtered_by(site: Site) -> None:
    facets = site.client.get("/collections/colours/facets").json()
    assert facets["cameras"] == [{"value": "NIKON D850", "items": 2}, {"value": 'Odd "5D" \\', "items": 1}]
    assert facets["taken"] == {"first": "2019-06-01T10:00:00", "last": "2023-05-18T00:00:00"}


def test_matches_say_what_is_known_and_filters_use_it(site: Site, tree: Path) -> None:
    answer = site.search(tree / "red/b.jpg", filter="price > 50 and sale == true").json()
    assert [match["attributes"] for match in answer["matches"]] == [
        {"taken": "2023-05-17T23:59:59", "camera": "NIKON D850", "price": 80.5, "sale": True}
    ]
    assert paths(site.search(tree / "red/b.jpg", filter='taken < "2020"')) == ["red/a.jpg"]
    plain = site.search(tree / "red/b.jpg", filter='path == "grey/grey_0.png"').json()["matches"]
    assert plain[0]["attributes"] == {}


def test_a_misspelt_field_is_a_problem(site: Site, tree: Path) -> None:
    detail = refused(site.search(tree / "red/b.jpg", filter="prize > 50"), 422)
    assert "there is no field 'prize'; there are id, path," in detail
    assert "taken, camera, price, sale." in detail
    assert "no field 'prize'" in refused(site.ask({"vector": [1.0] * 1280, "filter": "prize > 50"}), 422)


def test_what_is_added_again_keeps_what_the_csv_said(site: Site) -> None:
    answer = site.client.post("/collections/colours/items", json={"path": "red/b.jpg"})
    assert answer.status_code == 201
    (item,) = answer.json()["items"]
    assert item["attributes"] == {
        "taken": "2023-05-17T23:59:59",
        "camera": "NIKON D850",
        "price": 80.5,
        "sale": True,
    }
    found = site.ask({"id": item["id"], "filter": "sale == true"}).json()["matches"]
    assert [match["path"] for match in found] == ["red/b.jpg"]


def test_dates_and_cameras_are_chosen_on_the_page(page: Page, tree: Path) -> None:
    choose(page, tree / "red/red_0.png")
    page.get_by_label("Taken until").fill("2023-05-17")  # that day included
    expect(page.locator(".tile")).to_have_count(2)
    page.get_by_label("Taken from").fill("2023-05-17")
    expect(page.locator(".tile")).to_have_count(1)
    assert found(page) == ["red/b.jpg"]
    expect(page.get_by_label("Taken from")).to_have_attribute("min", "2019-06-01")
    page.get_by_role("button", name="Clear filters").click()
    expect(page.locator(".tile")).to_have_count(18)
    assert page.get_by_label("Camera").locator("option").all_text_contents() == [
        "all",
        "NIKON D850 (2)",
        'Odd "5D" \\ (1)',
    ]
    page.get_by_label("Camera").select_option('Odd "5D" \\')
    expect(page.locator(".tile")).to_have_count(1)
    assert found(page) == ["red/a.jpg"]
    page.get_by_label("Camera").select_option("NIKON D850")
    expect(page.locator(".tile")).to_have_count(2)
    page.get_by_label("Label").fill("red")
    page.get_by_label("Label").press("Enter")
    expect(page.locator(".tile")).to_have_count(1)
    page.locator(".tile").click()
    about = page.locator("#viewer-attributes")
    expect(about).to_have_text("2023-05-17\u00a023:59 · NIKON D850 · price: 80.5 · sale: true")


def test_everyone_can_choose_them(browser: Browser, site: Site, tree: Path) -> None:
    troubles: list[str] = []
    credentials = {"username": "", "password": "secret"}
    page = opened(browser, site, troubles, "18 images", viewport=PHONE, http_credentials=credentials)
    expect(page.get_by_label("Camera")).to_be_visible()
    accessible(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "wider than the screen"
    page.close()
    assert troubles == []
