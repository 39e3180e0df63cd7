"""The search page over a collection of faces, in a real browser, over a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.serving import FACES, Site, loaded_home, serving
from tests.test_page import DESK, PHONE, accessible, choose, found, opened
from tests.test_serve_faces import PEOPLE, copy_people, group_picture, home_of_both, pictures_of


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory, test_data: Path) -> Path:
    tree = copy_people(test_data, tmp_path_factory.mktemp("page") / "people")
    group_picture(test_data).save(tree / "three.png")
    return tree


@pytest.fixture(scope="module")
def site(tree: Path, face_networks: Path) -> Iterator[Site]:
    with serving(loaded_home(tree.parent, face_networks, tree, FACES)) as site:
        yield site


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    """The page, on which nothing may fail."""
    troubles: list[str] = []
    page = opened(browser, site, troubles, "19 faces")
    yield page
    page.close()
    assert troubles == []


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory, test_data: Path) -> Path:
    """Three people, of whom one half as large again as the next."""
    file = tmp_path_factory.mktemp("group") / "group.png"
    group_picture(test_data).save(file)
    return file


def labels(page: Page, count: int = 4) -> set[str]:
    """Whom the first matches show."""
    return {path.split("/")[0] for path in found(page)[:count] if path != "three.png"}


def face(page: Page, number: int, count: int = 3) -> Locator:
    return page.get_by_role("button", name=f"Face {number} of {count}")


def middle(place: Locator) -> tuple[float, float]:
    box = place.bounding_box()
    assert box
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_another_face_of_the_picture_is_searched_with(page: Page, group: Path) -> None:
    choose(page, group)
    assert labels(page) == {PEOPLE[0]}
    expect(page.get_by_role("group", name="Faces in the picture").get_by_role("button")).to_have_count(3)
    expect(face(page, 1)).to_have_attribute("aria-pressed", "true")
    expect(page.locator("[data-part=face]")).to_have_text("Searched with face 1 of 3; press another to change.")
    with page.expect_response("**/search"):
        face(page, 2).click()
    assert labels(page) == {PEOPLE[1]}
    expect(page.locator("#status")).to_have_text("17 matches for face 2 of 3 in group.png")
    with page.expect_response("**/search"):  # By keys; the focus stays where it is.
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
    assert labels(page) == {PEOPLE[2]}
    expect(face(page, 3)).to_be_focused()
    pressed = [face(page, number).get_attribute("aria-pressed") for number in (1, 2, 3)]
    assert pressed == ["false", "false", "true"]
    picture = page.locator(".picture").bounding_box()
    assert picture
    for number, (x, y) in enumerate(((270, 290), (720, 190), (1020, 130)), start=1):
        across, down = middle(face(page, number))
        assert (across - picture["x"]) / picture["width"] == pytest.approx(x / 1140, abs=0.04)
        assert (down - picture["y"]) / picture["height"] == pytest.approx(y / 540, abs=0.08)


def test_more_matches_are_of_the_same_face(page: Page, group: Path) -> None:
    page.get_by_label("Matches", exact=True).select_option("10")
    choose(page, group)
    with page.expect_response("**/search"):
        face(page, 3).click()
    assert labels(page) == {PEOPLE[2]}
    page.get_by_role("button", name="Show more").click()
    expect(page.locator(".tile")).to_have_count(17)
    assert len(set(found(page))) == 17


def test_a_part_shows_its_own_faces(page: Page, group: Path) -> None:
    choose(page, group)
    with page.expect_response("**/search"):
        face(page, 2).click()
    with page.expect_response("**/search"):
        page.get_by_role("button", name="Crop").click()
    found(page)
    box = page.locator(".picture").bounding_box()
    assert box
    mouse, right = page.mouse, box["x"] + box["width"]
    with page.expect_response("**/search"):  # of the smallest face alone, and over the others
        mouse.move(right - 2, box["y"] + 2)
        mouse.down()
        mouse.move(right - box["width"] * 240 / 1140, box["y"] + box["height"] * 0.44, steps=4)
        mouse.up()
    assert labels(page) == {PEOPLE[2]}
    faces = page.locator(".face")
    expect(faces).to_have_count(1)
    assert faces.evaluate("face => face.parentElement.inert")
    assert (middle(faces)[0] - box["x"]) / box["width"] == pytest.approx(1020 / 1140, abs=0.04)
    expect(page.locator("[data-part=face]")).to_be_empty()
    with page.expect_response("**/search"):
        page.get_by_role("button", name="Whole picture").click()
    assert labels(page) == {PEOPLE[0]}
    expect(face(page, 1)).to_be_enabled()
    assert not faces.first.evaluate("face => face.parentElement.inert")


def test_a_match_shows_which_face_it_is(page: Page, test_data: Path) -> None:
    choose(page, pictures_of(test_data, PEOPLE[1])[4])
    tile = page.locator("li", has_text="three.png")
    expect(tile.locator(".about")).to_contain_text("face\u00a02")
    expect(tile.locator(".outline rect")).to_have_count(2)
    expect(page.locator("li").first.locator(".about")).not_to_contain_text("face")
    outlined_right(tile.locator("img"), tile.locator(".light"))
    tile.locator(".tile").click()
    dialog = page.get_by_role("dialog")
    outlined_right(dialog.locator("img"), dialog.locator(".light"))
    page.keyboard.press("ArrowRight")
    expect(dialog.get_by_role("heading")).not_to_have_text("three.png")
    expect(dialog.locator(".outline")).to_have_count(1)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="More like three.png").click()
    expect(page.locator(".query")).to_have_count(2)
    assert found(page)[0] == "three.png"
    assert labels(page, 5) == {PEOPLE[1]}  # and not whoever is face 1 of that picture
    outlined_right(page.locator(".picture img").first, page.locator(".picture .light").first)
    expect(page.locator(".query").first.locator(".face")).to_have_count(0)


def outlined_right(image: Locator, outline: Locator) -> None:
    """The outline lies over the second of three people, wherever the picture lies in its frame."""
    expect(outline).to_be_visible()
    frame = image.bounding_box()
    assert frame
    scale = min(frame["width"] / 1140, frame["height"] / 540)
    x, y = middle(outline)
    assert (x - frame["x"] - frame["width"] / 2) / scale == pytest.approx(720 - 1140 / 2, abs=40)
    assert (y - frame["y"] - frame["height"] / 2) / scale == pytest.approx(190 - 540 / 2, abs=40)


def test_a_picture_without_a_face_is_said(browser: Browser, site: Site, tree: Path) -> None:
    page = browser.new_page()
    page.goto(site.url)
    page.set_input_files("#files", str(tree / "noise.png"))
    expect(page.get_by_role("alert")).to_contain_text("No face was found in noise.png")
    expect(page.locator(".face")).to_have_count(0)
    page.close()


def test_labels_are_counted_in_faces(page: Page) -> None:
    assert page.locator("#labels option").first.text_content() == "4 faces"


def test_a_collection_of_images_shows_no_faces(
    browser: Browser, networks: Path, face_networks: Path, tree: Path, group: Path, tmp_path: Path
) -> None:
    with serving(home_of_both(tmp_path, networks, face_networks, tree)) as own:
        page = browser.new_page()
        page.goto(own.url)
        page.get_by_label("Collection").select_option("people")
        choose(page, group)
        with page.expect_response("**/search"):
            face(page, 2).click()
        found(page)
        page.get_by_label("Collection").select_option("colours")
        expect(page.locator(".tile")).to_have_count(15)
        expect(page.locator(".face, .outline")).to_have_count(0)
        expect(page.locator("[data-part=face]")).to_be_empty()
        page.get_by_label("Collection").select_option("people")
        expect(face(page, 1)).to_have_attribute("aria-pressed", "true")
        page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
def test_everyone_can_use_it(browser: Browser, site: Site, group: Path, scheme: str, viewport: dict[str, int]) -> None:
    troubles: list[str] = []
    page = opened(browser, site, troubles, "19 faces", color_scheme=scheme, viewport=viewport, reduced_motion="reduce")
    choose(page, group)
    accessible(page)
    face(page, 2).focus()
    accessible(page)
    page.get_by_role("button", name="Crop").click()
    found(page)
    accessible(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "wider than the screen"
    page.locator(".tile").first.click()
    accessible(page)
    page.close()
    assert troubles == []
