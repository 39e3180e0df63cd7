"""The search page over a collection of videos, in a real browser that plays them, over a real server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from tests.serving import Site, loaded_home, serving
from tests.serving_videos import FILMS, SIZE, draw_films, film
from tests.test_page import DESK, PHONE, accessible, choose, found, opened
from utilities.drawn_videos import write_video
from utilities.videos import VIDEO_EXTENSIONS
from utilities.web.app import PAGE

ONE, THREE = "trip/one.mp4", "<img src=x onerror=alert(1)>/three'\".mp4"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = draw_films(tmp_path_factory.mktemp("page") / "films")
    # Of a codec that no browser knows, and of a length that is told in minutes.
    write_video(tree / "old.avi", [Image.new("RGB", SIZE, "green")] * 24, codec="mpeg4")
    film(tree / "long.mp4", [("white", 62), ("red", 10)])
    return tree


@pytest.fixture(scope="module")
def site(tree: Path, networks: Path) -> Iterator[Site]:
    with serving(loaded_home(tree.parent, networks, tree, FILMS)) as site:
        yield site


WAITING = "11 frames of videos"


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    """The page, on which nothing may fail."""
    troubles: list[str] = []
    page = opened(browser, site, troubles, WAITING)
    yield page
    page.close()
    assert troubles == []


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture of each colour, and a clip."""
    folder = tmp_path_factory.mktemp("queries")
    for colour in ("red", "green", "blue"):
        Image.new("RGB", (64, 48), colour).save(folder / f"{colour}.png")
    film(folder / "clip.webm", [("green", 1), ("blue", 1)])
    return folder


def tile(page: Page, path: str) -> Locator:
    return page.locator(".matches li").filter(has=page.locator(".path", has_text=path))


def playing(page: Page) -> Locator:
    return page.get_by_role("dialog").locator("video")


def shown_at(video: Locator) -> float:
    """Seconds at which a video stands, once it shows something there."""
    time = video.evaluate(
        """async (video) => {
            for (let tried = 0; video.readyState < 2 || video.seeking; tried++) {
                if (tried === 500) throw new Error("It shows nothing.");
                await new Promise((done) => setTimeout(done, 20));
            }
            return video.currentTime;
        }"""
    )
    return float(time)


def colour(video: Locator) -> list[int]:
    """Of the middle of what a video shows, or an image."""
    pixel = video.evaluate(
        """(shown) => {
            const canvas = Object.assign(document.createElement("canvas"), { width: 4, height: 4 });
            const context = canvas.getContext("2d");
            context.drawImage(shown, 0, 0, 4, 4);
            return [...context.getImageData(2, 2, 1, 1).data].slice(0, 3);
        }"""
    )
    return [round(channel / 64) for channel in pixel]


def test_a_picture_finds_videos_and_says_where(page: Page, pictures: Path) -> None:
    choose(page, pictures / "blue.png")
    assert found(page)[0] == ONE
    first = page.locator(".tile").first
    expect(first.locator(".score")).to_have_text(re.compile(r"^1 · (0\.99|1\.00)\d\d$"))
    expect(first.locator(".time")).to_have_text("4.0\u00a0s")
    expect(first.locator(".about")).to_have_text("4.0–\u20606.0\u00a0s")
    expect(first.locator("img")).to_have_js_property("naturalWidth", SIZE[0])
    assert colour(first.locator("img")) == [0, 0, 4]
    expect(page.locator("#welcome")).to_be_hidden()
    expect(page.get_by_label("Similarity at least")).to_be_visible()
    expect(page.get_by_label("One per folder")).to_be_hidden()  # A video is one match already.


def test_a_name_is_text_whatever_it_says(page: Page, pictures: Path) -> None:
    choose(page, pictures / "green.png")
    assert THREE in found(page)
    expect(tile(page, "three").locator(".about")).to_have_text("0.0–\u20602.0\u00a0s, 3.0–\u20605.0\u00a0s")
    tile(page, "three").locator(".tile").click()
    expect(page.get_by_role("dialog").get_by_role("heading")).to_have_text(THREE)
    assert playing(page).get_attribute("aria-label") == THREE
    shown_at(playing(page))


def test_a_video_stands_at_its_best_frame_and_plays_from_others(page: Page, pictures: Path) -> None:
    choose(page, pictures / "green.png")
    tile(page, "three").locator(".tile").click()
    video, dialog = playing(page), page.get_by_role("dialog")
    begun = shown_at(video)
    assert begun in (pytest.approx(0, abs=0.01), pytest.approx(3, abs=0.01))
    assert video.evaluate("video => video.paused")
    assert colour(video) == [0, 2, 0]
    spans = dialog.get_by_role("group", name="Where it is shown").get_by_role("button")
    assert spans.all_text_contents() == ["0.0–2.0\u00a0s", "3.0–5.0\u00a0s"]
    dialog.get_by_role("button", name="Play 3.0–5.0").click()
    expect(video).to_have_js_property("paused", False)
    assert 3 <= shown_at(video) < 4.9
    stills = dialog.get_by_role("group", name="Frames that match best").get_by_role("button")
    assert stills.all_text_contents() == ["0.0\u00a0s", "3.0\u00a0s"]
    dialog.get_by_role("button", name="Play from 0.0").press("Enter")
    video.evaluate("video => new Promise((moved) => { video.ontimeupdate = moved; })")
    assert 0 < shown_at(video) < 2.9
    expect(dialog.get_by_role("button", name="Play from 0.0")).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.locator("#viewer-video[src]"), "it plays on, and holds a connection").to_have_count(0)


def test_a_late_frame_is_shown_in_minutes(page: Page, pictures: Path) -> None:
    choose(page, pictures / "red.png")
    expect(tile(page, "long.mp4").locator(".time")).to_have_text("1:02.0")
    tile(page, "long.mp4").locator(".tile").click()
    assert shown_at(playing(page)) == pytest.approx(62, abs=0.01)
    assert colour(playing(page)) == [4, 0, 0]
    expect(page.get_by_role("button", name="Play 1:02.0–1:12.0")).to_be_visible()


def test_keys_go_from_match_to_match_and_not_out_of_a_video(page: Page, pictures: Path) -> None:
    choose(page, pictures / "blue.png")
    names = found(page)
    page.locator(".tile").first.click()
    dialog, video = page.get_by_role("dialog"), playing(page)
    shown_at(video)
    video.focus()
    page.keyboard.press("ArrowRight")  # which seeks
    expect(dialog.get_by_role("heading")).to_have_text(names[0])
    dialog.get_by_role("button", name="Next match").focus()
    page.keyboard.press("ArrowRight")
    expect(dialog.get_by_role("heading")).to_have_text(names[1])
    page.keyboard.press("ArrowLeft")
    expect(dialog.get_by_role("heading")).to_have_text(names[0])
    assert shown_at(video) == pytest.approx(4, abs=0.01)
    expect(dialog.get_by_role("link", name="Open the file")).to_have_attribute("href", re.compile("/video"))


def test_what_a_browser_cannot_play_is_shown_as_frames(page: Page, pictures: Path) -> None:
    choose(page, pictures / "green.png")
    tile(page, "old.avi").locator(".tile").click()
    dialog = page.get_by_role("dialog")
    said = "This browser cannot play this file; a frame of it is shown instead."
    expect(dialog.get_by_role("status")).to_have_text(said)
    expect(playing(page)).to_be_hidden()
    image = dialog.get_by_role("img", name="old.avi at 0.0")
    expect(image).to_have_js_property("naturalWidth", SIZE[0])
    assert colour(image) == [0, 2, 0]
    expect(dialog.get_by_role("button", name="Play 0.0")).to_be_disabled()
    dialog.get_by_role("button", name="Show the frame at 0.0").click()
    expect(image).to_be_visible()
    accessible(page)
    last = dialog.get_by_role("button", name="Next match").is_disabled()
    page.keyboard.press("ArrowLeft" if last else "ArrowRight")
    expect(playing(page)).to_be_visible()  # Another match is tried anew.
    expect(dialog.get_by_role("status")).to_be_empty()
    shown_at(playing(page))


def test_a_clip_is_searched_with(page: Page, pictures: Path) -> None:
    expect(page.get_by_role("button", name="Choose pictures or clips")).to_be_visible()
    choose(page, pictures / "clip.webm")
    assert found(page)[0] == ONE
    expect(page.locator(".tile .about").first).to_have_text("2.0–\u20606.0\u00a0s")
    preview = page.get_by_alt_text("The first frame of the clip searched with: clip.webm")
    expect(preview).to_have_js_property("naturalWidth", SIZE[0])
    assert colour(preview) == [0, 2, 0]
    expect(page.get_by_role("button", name="Crop")).to_be_hidden()


def test_more_like_a_frame(page: Page, pictures: Path) -> None:
    choose(page, pictures / "blue.png")
    page.get_by_role("button", name="More like trip/one.mp4").click()
    expect(page.locator(".query h2").first).to_have_text("trip/one.mp4 at 4.0\u00a0s")
    assert found(page)[0] == ONE
    with page.expect_response("**/search") as answer:
        page.get_by_role("button", name="Crop").first.click()
    assert answer.value.status == 200
    assert found(page)[0] == ONE


def test_the_page_and_the_server_agree_on_what_a_clip_is(page: Page) -> None:
    script = (PAGE / "videos.js").read_text()
    listed = re.search(r"EXTENSIONS = \[(.*?)\]", script, re.DOTALL)
    assert listed
    assert {f".{each}" for each in re.findall(r'"(\w+)"', listed[1])} == set(VIDEO_EXTENSIONS)
    accepted = page.locator("#files").get_attribute("accept")
    assert accepted
    assert {"image/*", "video/*", *VIDEO_EXTENSIONS} == set(accepted.split(","))


def test_files_that_are_gone_are_said(browser: Browser, networks: Path, pictures: Path, tmp_path: Path) -> None:
    tree = draw_films(tmp_path / "films")
    with serving(loaded_home(tmp_path, networks, tree, FILMS), "--token", "secret") as own:
        context = browser.new_context(http_credentials={"username": "", "password": "secret"})
        page = context.new_page()
        page.goto(own.url)
        choose(page, pictures / "blue.png")
        page.locator(".tile").first.click()
        assert shown_at(playing(page)) == pytest.approx(4, abs=0.01)  # which is asked for with the token
        page.keyboard.press("Escape")
        (tree / ONE).unlink()
        page.reload()
        choose(page, pictures / "blue.png")
        expect(page.locator(".tile .about").first).to_have_text("The file is gone.")
        page.locator(".tile").first.click()
        expect(page.get_by_role("dialog").get_by_role("status")).to_contain_text("The file is gone")
        context.close()


def test_a_broken_clip_is_said(browser: Browser, site: Site, tmp_path: Path) -> None:
    page = browser.new_page()
    page.goto(site.url)
    expect(page.locator("#welcome")).to_contain_text(WAITING)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    page.set_input_files("#files", str(tmp_path / "broken.mp4"))
    expect(page.get_by_role("alert")).to_contain_text("broken.mp4 is not a video that can be opened")
    page.close()


def test_a_video_opened_by_itself_is_played(page: Page, pictures: Path) -> None:
    choose(page, pictures / "blue.png")
    page.locator(".tile").first.click()
    with page.context.expect_page() as opened_page:
        page.get_by_role("link", name="Open the file").click()
    video = opened_page.value.locator("video")
    expect(video).to_have_js_property("videoWidth", SIZE[0])
    opened_page.value.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
def test_everyone_can_use_it(
    browser: Browser, site: Site, pictures: Path, scheme: str, viewport: dict[str, int]
) -> None:
    troubles: list[str] = []
    page = opened(browser, site, troubles, WAITING, color_scheme=scheme, viewport=viewport, reduced_motion="reduce")
    choose(page, pictures / "green.png", pictures / "clip.webm")
    assert found(page)
    accessible(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "wider than the screen"
    tile(page, "three").first.locator(".tile").click()
    shown_at(playing(page))
    accessible(page)
    dialog = page.get_by_role("dialog").bounding_box()
    assert dialog
    assert dialog["x"] >= 0
    assert dialog["x"] + dialog["width"] <= viewport["width"]
    assert page.evaluate("(dialog => dialog.scrollWidth <= dialog.clientWidth)(document.querySelector('#viewer'))")
    page.close()
    assert troubles == []
