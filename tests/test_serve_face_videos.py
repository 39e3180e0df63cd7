"""Faces in videos over HTTP and on the page; real faces, real dlib."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, expect

from tests.serving import Site, loaded_home, serving
from tests.test_page import accessible, choose, opened
from tests.test_serve import paths, refused
from tests.test_serve_faces import PEOPLE, pictures_of
from utilities.drawn_videos import write_video
from utilities.web.models import SearchResult

FACE_FILMS = ("--collection", "cast", "--what", "videos", "--faces", "--every", "0.5")


def scene(test_data: Path, person: str, number: int) -> list[Image.Image]:
    """A second of someone, who stands at the left of a wide picture."""
    frame = Image.new("RGB", (500, 250), "grey")
    with Image.open(pictures_of(test_data, person)[number]) as picture:
        frame.paste(picture, (0, 0))
    return [frame] * 12


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory, test_data: Path) -> Path:
    """Two films, the first of two people."""
    tree = tmp_path_factory.mktemp("cast") / "cast"
    tree.mkdir()
    write_video(tree / "two.mp4", [*scene(test_data, PEOPLE[0], 0), *scene(test_data, PEOPLE[1], 0)])
    write_video(tree / "one.mp4", scene(test_data, PEOPLE[2], 0))
    return tree


@pytest.fixture(scope="module")
def site(tree: Path, face_networks: Path) -> Iterator[Site]:
    with serving(loaded_home(tree.parent, face_networks, tree, FACE_FILMS)) as site:
        yield site


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, test_data: Path) -> Path:
    """Someone of the first film, as another picture shows her."""
    file = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_video(file, scene(test_data, PEOPLE[1], 5))
    return file


def test_a_face_finds_where_it_is_in_videos(site: Site, test_data: Path) -> None:
    answer = site.search(pictures_of(test_data, PEOPLE[1])[5], "cast", face=1)
    assert paths(answer) == ["two.mp4", "one.mp4"]
    SearchResult.model_validate(answer.json())
    assert (len(answer.json()["faces"]), answer.json()["face"]) == (1, 1)
    match = answer.json()["matches"][0]
    assert 1 <= match["time"] < 2
    assert match["part"] == f"{match['time']:.3f}/1"
    assert match["spans"] == [{"start": 1, "end": pytest.approx(2, abs=0.1)}]
    for box in (match["box"], *(frame["box"] for frame in match["frames"])):
        assert box["left"] + box["width"] / 2 == pytest.approx(0.25, abs=0.03)  # the middle of the left half
    (collection,) = site.client.get("/collections").json()
    assert (collection["what"], collection["item_is"]) == ("videos", "face")


def test_a_clip_is_searched_with_by_its_faces(site: Site, clip: Path) -> None:
    answer = site.search(clip, "cast")
    assert paths(answer) == ["two.mp4", "one.mp4"]
    assert answer.json()["matches"][0]["spans"][0]["start"] == 1
    assert (answer.json()["faces"], answer.json()["face"]) == ([], None)
    said = "face: of a clip the largest face of each frame is searched with; leave out face."
    assert refused(site.search(clip, "cast", face=1), 422) == said


def test_a_clip_without_a_face_is_said(site: Site, tmp_path: Path) -> None:
    empty = tmp_path / "empty.mp4"
    write_video(empty, [Image.new("RGB", (160, 120), "red")] * 12)
    assert refused(site.search(empty, "cast"), 422).startswith("No face was found in any frame of empty.mp4;")


def test_the_page_outlines_faces_in_frames(browser: Browser, site: Site, test_data: Path) -> None:
    troubles: list[str] = []
    page = opened(browser, site, troubles, "faces in videos")
    choose(page, pictures_of(test_data, PEOPLE[1])[5])
    first = page.locator(".matches li").first
    expect(first.locator(".path")).to_have_text("two.mp4")
    expect(first.locator(".outline rect")).to_have_count(2)
    expect(first.locator(".about")).to_have_text("1.0–\u20602.0\u00a0s")
    first.locator(".tile").click()
    dialog = page.get_by_role("dialog")
    still = dialog.get_by_role("button", name="Play from").first
    expect(still.locator(".outline")).to_be_visible()
    picture, outline = still.locator("img").bounding_box(), still.locator(".light").bounding_box()
    assert picture
    assert outline
    middle = outline["x"] + outline["width"] / 2 - picture["x"]
    assert middle / picture["width"] == pytest.approx(0.25, abs=0.05)
    expect(dialog.locator("#viewer-about")).not_to_contain_text("face")
    accessible(page)
    page.close()
    assert troubles == []
