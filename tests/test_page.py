"""The search page in a real browser, over a real server."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect

from tests.conftest import draw_colours
from tests.serving import Site, loaded_home, run_lookalike, serving

DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = draw_colours(tmp_path_factory.mktemp("page") / "colours")
    hostile = tree / "<img src=x onerror=alert(1)>"
    hostile.mkdir()
    Image.new("RGB", (9, 9), "cyan").save(hostile / "cyan'\".png")
    return tree


@pytest.fixture(scope="module")
def site(tree: Path, networks: Path) -> Iterator[Site]:
    with serving(loaded_home(tree.parent, networks, tree)) as site:
        yield site


def opened(browser: Browser, site: Site, troubles: list[str], waiting: str = "16 images", **options: object) -> Page:
    page = browser.new_page(**{"viewport": DESK, **options})  # type: ignore[arg-type]
    page.set_default_timeout(15_000)
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("dialog", lambda dialog: troubles.append(dialog.message))
    own = (site.url, "blob:", "data:")
    page.on("request", lambda request: None if request.url.startswith(own) else troubles.append(request.url))
    page.goto(site.url)
    expect(page.locator("#welcome")).to_contain_text(f"{waiting} wait to be found in")
    return page


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    """The page, which may fetch nothing from elsewhere, and on which nothing may fail."""
    troubles: list[str] = []
    page = opened(browser, site, troubles)
    yield page
    page.close()
    assert troubles == []


def found(page: Page, query: int = 0) -> list[str]:
    """The paths that a query has found, once it is answered."""
    section = page.locator(".query").nth(query)
    expect(section.locator("[data-part=busy]")).to_be_hidden()
    return section.locator(".tile .path").all_text_contents()


def choose(page: Page, *files: Path) -> None:
    page.set_input_files("#files", [str(file) for file in files])
    expect(page.locator(".query").first.locator(".tile").first).to_be_visible()


def bring(page: Page, event: str, content: bytes | None, name: str = "", text: str = "") -> None:
    """Drop or paste, as a browser would say it: a file, or a text."""
    page.evaluate(
        """([event, content, name, text]) => {
            const data = new DataTransfer();
            if (content) {
                const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
                data.items.add(new File([bytes], name, { type: "image/png" }));
            } else data.setData(event === "paste" ? "text/plain" : "text/uri-list", text);
            const options = { clipboardData: data, dataTransfer: data, bubbles: true, cancelable: true };
            if (event === "paste") document.body.dispatchEvent(new ClipboardEvent("paste", options));
            else for (const each of ["dragover", "drop"]) document.body.dispatchEvent(new DragEvent(each, options));
        }""",
        [event, base64.b64encode(content).decode() if content else None, name, text],
    )


def test_a_picture_that_is_chosen_is_found_with_all_that_is_known_of_it(page: Page, tree: Path) -> None:
    choose(page, tree / "red/red_1.png")
    assert len(found(page)) == 16
    first = page.locator(".tile").first
    expect(first.locator(".path")).to_have_text("red/red_1.png")
    expect(first.locator(".score")).to_have_text("1.0000")
    expect(first.locator(".about")).to_have_text("red · 21\u00a0×\u00a016")
    assert first.locator("img").evaluate("image => image.complete && image.naturalWidth") == 21
    expect(page.locator("#status")).to_have_text("16 matches for red_1.png")
    expect(page.get_by_role("heading", name="red_1.png")).to_be_visible()
    assert "<img src=x onerror=alert(1)>/cyan'\".png" in found(page)


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_a_picture_that_is_dropped_or_pasted_is_found(page: Page, tree: Path, event: str) -> None:
    bring(page, event, (tree / "blue/blue_2.png").read_bytes(), "from elsewhere.png")
    assert found(page)[0] == "blue/blue_2.png"
    expect(page.locator("h2", has_text="from elsewhere.png")).to_be_visible()
    expect(page.locator("#veil")).to_be_hidden()


def test_several_pictures_stand_below_each_other(page: Page, tree: Path) -> None:
    choose(page, tree / "red/red_0.png", tree / "green/green_0.png")
    assert [found(page, query)[0] for query in (0, 1)] == ["red/red_0.png", "green/green_0.png"]
    page.get_by_role("button", name="Remove").first.click()
    assert found(page)[0] == "green/green_0.png"
    page.get_by_role("button", name="Remove").first.click()
    expect(page.locator("#welcome")).to_be_visible()
    expect(page.get_by_role("button", name="Choose pictures")).to_be_focused()


def test_filters_hold_for_every_query_and_are_offered(page: Page, tree: Path) -> None:
    choose(page, tree / "red/red_0.png", tree / "green/green_0.png")
    assert page.locator("#labels option").count() == 6
    for name in ("Taken from", "Taken until", "Camera"):  # of which no image says anything
        expect(page.get_by_label(name)).to_be_hidden()
    page.get_by_label("Label").fill("blue")
    page.get_by_label("Label").press("Enter")
    expect(page.locator(".tile")).to_have_count(6)
    for query in (0, 1):
        assert {path.split("/")[0] for path in found(page, query)} == {"blue"}
    page.get_by_label("Label").fill("")
    page.get_by_label("Folder", exact=True).fill("<img src=x onerror=alert(1)>/")
    page.get_by_label("Folder", exact=True).blur()
    expect(page.locator(".tile")).to_have_count(2)
    page.get_by_label("Folder", exact=True).fill("no such folder")
    page.get_by_label("Folder", exact=True).blur()
    expect(page.get_by_text("Nothing matches.")).to_have_count(2)
    page.get_by_role("button", name="Clear filters").click()
    expect(page.locator(".tile")).to_have_count(32)


def test_whoever_is_quicker_than_the_list_of_collections_is_answered(browser: Browser, site: Site, tree: Path) -> None:
    page = browser.new_page()
    held: list[Route] = []
    page.route("**/collections", lambda route: held.append(route))
    page.goto(site.url)
    page.set_input_files("#files", str(tree / "red/red_0.png"))
    expect(page.get_by_role("heading", name="red_0.png")).to_be_visible()
    held[0].continue_()
    expect(page.locator(".tile")).to_have_count(16)
    page.close()


def test_more_is_shown_by_steps(page: Page, tree: Path) -> None:
    page.get_by_label("Matches", exact=True).select_option("10")
    choose(page, tree / "red/red_0.png")
    assert len(found(page)) == 10
    page.get_by_role("button", name="Show more").click()
    expect(page.locator(".tile")).to_have_count(16)
    expect(page.get_by_role("button", name="Show more")).to_be_hidden()
    expect(page.locator(".tile").nth(10)).to_be_focused()
    expect(page.locator("[data-part=count]")).to_have_text("16 matches")
    assert len(set(found(page))) == 16


def test_more_like_a_match(page: Page, tree: Path) -> None:
    choose(page, tree / "red/red_0.png")
    page.get_by_role("button", name="More like blue/blue_1.png").click()
    expect(page.locator(".query")).to_have_count(2)
    expect(page.locator(".query h2").first).to_have_text("blue/blue_1.png")
    expect(page.locator(".query h2").first).to_be_focused()
    expect(page.locator(".query").first.locator(".path").first).to_have_text("blue/blue_1.png")
    image = page.locator(".query").first.locator(".picture img")
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") == 21


def test_a_part_is_searched_with(page: Page, tmp_path: Path) -> None:
    picture = Image.new("RGB", (400, 400), "red")
    picture.paste("blue", (200, 0, 400, 400))
    picture.save(tmp_path / "two.png")
    choose(page, tmp_path / "two.png")
    whole = found(page)
    page.get_by_role("button", name="Crop").click()
    box = page.locator(".picture").bounding_box()
    assert box
    mouse, right, middle = page.mouse, box["x"] + box["width"], box["y"] + box["height"] / 2
    with page.expect_response("**/search"):
        mouse.move(right - 5, box["y"] + 5)
        mouse.down()
        mouse.move(right - box["width"] * 0.45, middle, steps=4)
        mouse.up()
    assert found(page)[0].startswith("blue/")
    with page.expect_response("**/search"):  # The same part, moved to the other half.
        mouse.move(right - 20, box["y"] + 20)
        mouse.down()
        mouse.move(box["x"] + 20, box["y"] + 20, steps=4)
        mouse.up()
    assert found(page)[0].startswith("red/")
    crop = page.get_by_role("group", name="Part to search with.")
    crop.focus()
    with page.expect_response("**/search"):
        for _ in range(30):
            crop.press("ArrowRight")
    assert found(page)[0].startswith("blue/")
    before = crop.bounding_box()
    crop.press("Shift+ArrowUp")
    after = crop.bounding_box()
    assert before
    assert after
    assert (after["x"], after["y"]) == (before["x"], before["y"])
    assert after["height"] < before["height"]
    with page.expect_response("**/search"):
        page.get_by_role("button", name="Whole picture").click()
    assert found(page) == whole


def test_a_match_is_looked_at_by_keys(page: Page, tree: Path) -> None:
    choose(page, tree / "red/red_0.png")
    paths = found(page)
    page.locator(".tile").nth(1).focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("heading")).to_have_text(paths[1])
    expect(dialog.get_by_text("2 · 0.")).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(dialog.get_by_role("heading")).to_have_text(paths[2])
    for _ in range(4):
        page.keyboard.press("ArrowLeft")
    expect(dialog.get_by_role("heading")).to_have_text(paths[0])
    expect(dialog.get_by_role("button", name="Previous match")).to_be_disabled()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.locator(".tile").nth(3).click()
    dialog.get_by_role("button", name="More like this").click()
    expect(page.locator(".query h2").first).to_have_text(paths[3])


def test_what_browsers_do_not_show_is_shown(page: Page, tmp_path: Path) -> None:
    Image.new("RGB", (60, 40), "red").save(tmp_path / "scan.tiff")
    choose(page, tmp_path / "scan.tiff")
    image = page.locator(".picture img")
    expect(image).to_have_js_property("naturalWidth", 60)


def test_errors_are_sentences_and_another_try_is_offered(
    browser: Browser, site: Site, networks: Path, tmp_path: Path
) -> None:
    tree = draw_colours(tmp_path / "colours")
    with serving(loaded_home(tmp_path, networks, tree)) as own:
        page = browser.new_page()
        page.goto(own.url)
        broken = tmp_path / "broken.png"
        broken.write_bytes(b"no picture")
        page.set_input_files("#files", str(broken))
        expect(page.get_by_role("alert")).to_have_text("broken.png is not an image that can be opened.")
        expect(page.get_by_role("button", name="Crop")).to_be_disabled()
        page.get_by_label("Address of a picture").fill("http://192.168.0.1/cat.jpg")
        page.get_by_label("Address of a picture").press("Enter")
        expect(page.get_by_role("alert").first).to_contain_text("leads to 192.168.0.1, which is no public address")
        (tree / "red/red_1.png").unlink()
        page.set_input_files("#files", str(tree / "red/red_0.png"))
        expect(page.get_by_text("The file is gone.")).to_be_visible()
        assert own.stop() == 0
        page.set_input_files("#files", str(tree / "red/red_0.png"))
        expect(page.get_by_role("alert").first).to_contain_text("The server does not answer")
        expect(page.get_by_role("button", name="Try again").first).to_be_visible()
        page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
def test_everyone_can_use_it(browser: Browser, site: Site, tree: Path, scheme: str, viewport: dict[str, int]) -> None:
    troubles: list[str] = []
    page = opened(browser, site, troubles, color_scheme=scheme, viewport=viewport, reduced_motion="reduce")
    assert page.locator("html").get_attribute("data-bs-theme") == scheme
    accessible(page)
    choose(page, tree / "red/red_0.png", tree / "blue/blue_0.png")
    page.get_by_role("button", name="Crop").first.click()
    assert len(found(page)) == 16
    accessible(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "wider than the screen"
    page.locator(".tile").first.click()
    accessible(page)
    page.close()
    assert troubles == []


def accessible(page: Page) -> None:
    found = Axe().run(page).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in found] == []


def test_the_documentation_needs_nothing_from_elsewhere(browser: Browser, site: Site) -> None:
    troubles: list[str] = []
    page = browser.new_page()
    page.on("console", lambda message: troubles.append(message.text))
    page.on(
        "request", lambda request: None if request.url.startswith((site.url, "data:")) else troubles.append(request.url)
    )
    page.goto(f"{site.url}/docs")
    expect(page.get_by_text("/collections/{name}/search")).to_be_visible()
    page.close()
    assert troubles == []


def test_a_browser_asks_for_the_token(browser: Browser, networks: Path, tmp_path: Path) -> None:
    tree = draw_colours(tmp_path / "colours")
    with serving(loaded_home(tmp_path, networks, tree), "--token", "secret") as own:
        context = browser.new_context(http_credentials={"username": "", "password": "secret"})
        page = context.new_page()
        page.goto(own.url)
        choose(page, tree / "red/red_0.png")
        assert page.locator(".tile img").first.evaluate("image => image.decode().then(() => image.naturalWidth)") == 20
        context.close()


def test_another_collection_answers_the_same_pictures(browser: Browser, networks: Path, tmp_path: Path) -> None:
    tree = draw_colours(tmp_path / "colours")
    home = loaded_home(tmp_path, networks, tree)
    options = ["--collection", "reds", "--backbone", "mobilenetv2", "--weights", "random"]
    assert run_lookalike(home, "load", tree / "red", *options).returncode == 0
    with serving(home) as own:
        page = browser.new_page()
        page.goto(own.url)
        choose(page, tree / "blue/blue_0.png")
        page.get_by_role("button", name="More like blue/blue_1.png").click()
        expect(page.locator(".query")).to_have_count(2)
        page.get_by_label("Collection").focus()
        page.get_by_label("Collection").select_option("reds")
        expect(page.locator(".query")).to_have_count(1)  # An item of the other one is none here.
        expect(page.locator(".tile")).to_have_count(3)
        assert sorted(found(page)) == ["red_0.png", "red_1.png", "red_2.png"]
        expect(page.get_by_label("Collection")).to_be_focused()
        page.close()
