"""Videos over HTTP: searched with pictures, frames and clips; their frames and files; and how they are removed."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from PIL import Image
from starlette.datastructures import UploadFile

from tests.conftest import draw_colours
from tests.serving import COLOURS, Site, loaded_home, run_lookalike, serving
from tests.serving_videos import FILMS, SIZE, draw_films, film
from tests.test_serve import paths, png, refused
from utilities.errors import UnreadableVideo
from utilities.milvus_utilities import connect
from utilities.settings import Settings
from utilities.videos import VIDEO_EXTENSIONS, Video
from utilities.web import clips
from utilities.web.files import _VIDEO_TYPES
from utilities.web.models import SearchOptions, SearchResult
from utilities.web.service import Service

ONE, TWO, THREE = "trip/one.mp4", "trip/two.webm", "<img src=x onerror=alert(1)>/three'\".mp4"
LARGEST_UPLOAD = 60_000


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_films(tmp_path_factory.mktemp("tree") / "films")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, networks: Path, tree: Path) -> Path:
    """A home with the films, and with a collection of images."""
    folder = tmp_path_factory.mktemp("videos")
    home = loaded_home(folder, networks, tree, FILMS)
    assert run_lookalike(home, "load", draw_colours(folder / "colours"), *COLOURS).returncode == 0
    return home


@pytest.fixture(scope="module")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server puts clips for a while."""
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def site(home: Path, temporary: Path) -> Iterator[Site]:
    with serving(home, TMPDIR=str(temporary), LOOKALIKE_UPLOAD_MAX_BYTES=str(LARGEST_UPLOAD)) as site:
        yield site


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of green and a second of blue, as the first film has them in its middle."""
    return film(tmp_path_factory.mktemp("clip") / "clip.MKV", [("green", 1), ("blue", 1)])


def search(site: Site, query: Image.Image | Path, **options: Any) -> list[dict[str, Any]]:
    answer = site.search(query if isinstance(query, Path) else png(query), "films", **options)
    assert answer.status_code == 200, answer.text
    SearchResult.model_validate(answer.json())
    found: list[dict[str, Any]] = answer.json()["matches"]
    return found


def of(path: str) -> str:
    """A filter: items of this file."""
    return 'path == "{}"'.format(path.replace('"', '\\"'))


def colour(answer: httpx.Response) -> tuple[int, ...]:
    """Of the middle of a picture."""
    assert answer.status_code == 200, answer.text
    with Image.open(io.BytesIO(answer.content)) as image:
        assert image.format == "JPEG"
        assert image.size == SIZE
        pixel = image.convert("RGB").getpixel((80, 60))
    assert isinstance(pixel, tuple)
    return tuple(round(channel / 64) for channel in pixel)


def test_a_picture_finds_videos_and_where_in_them(site: Site) -> None:
    first, *others = search(site, Image.new("RGB", (64, 64), "blue"))
    assert (first["path"], first["label"], first["rank"]) == (ONE, "trip", 1)
    assert (first["width"], first["height"]) == SIZE
    assert first["similarity"] == pytest.approx(1, abs=0.01)
    assert first["time"] == 4
    assert first["spans"] == [{"start": 4, "end": pytest.approx(6, abs=0.1)}]
    (frame,) = first["frames"]
    assert (frame["id"], frame["time"], frame["box"]) == (first["id"], 4, None)
    assert frame["similarity"] == pytest.approx(first["similarity"])
    assert first["video"] == f"/items/{first['id']}/video?collection=films"
    assert {match["path"] for match in others} == {TWO, THREE}


def test_a_scene_that_comes_twice_has_two_spans(site: Site) -> None:
    (match,) = search(site, Image.new("RGB", (64, 64), "green"), filter=of(THREE))
    assert [span["start"] for span in match["spans"]] == [0, 3]
    assert [frame["time"] for frame in match["frames"]] == [0, 3]
    assert match["spans"][0]["end"] == 2


def test_a_clip_finds_videos_and_where_in_them(site: Site, clip: Path, temporary: Path) -> None:
    answer = site.search(clip, "films")
    assert paths(answer)[0] == ONE
    SearchResult.model_validate(answer.json())
    first, second, *_ = answer.json()["matches"]
    assert first["similarity"] == pytest.approx(1, abs=0.01)
    assert second["similarity"] < first["similarity"] - 0.03  # It shows one half only.
    assert first["spans"] == [{"start": 2, "end": pytest.approx(6, abs=0.1)}]
    assert [frame["time"] for frame in first["frames"]] == [2, 4]
    assert (answer.json()["query"], answer.json()["faces"], answer.json()["face"]) == ("clip.MKV", [], None)
    assert [each.name for each in temporary.iterdir() if not each.name.startswith("lookalike-metrics")] == []
    page = search(site, clip, top_k=1, offset=1)
    assert [(match["rank"], match["path"]) for match in page] == [(2, second["path"])]
    assert [match["path"] for match in search(site, clip, min_similarity=0.99)] == [ONE]
    assert "each of which is one match already" in refused(site.search(clip, "films", group_by="folder"), 422)


def test_a_frame_that_is_stored_is_searched_with_as_it_is(site: Site) -> None:
    (match,) = search(site, Image.new("RGB", (64, 64), "green"), filter=of(ONE))
    for body in ({"id": match["id"]}, {"id": match["id"], "crop": [0.1, 0.1, 0.5, 0.5]}):
        found = site.ask({**body, "filter": of(THREE)}, "films").json()["matches"]
        assert [span["start"] for span in found[0]["spans"]] == [0, 3]
        assert found[0]["similarity"] == pytest.approx(1, abs=0.02)


def test_collections_say_which_frames_they_hold(site: Site) -> None:
    colours, films = site.client.get("/collections").json()
    assert (films["what"], films["item_is"], films["sampling"]) == ("videos", "frame", "every 0.5 s")
    assert (colours["what"], colours["item_is"], colours["sampling"]) == ("images", "image", None)
    assert films["items"] == 8
    image = site.search(png(Image.new("RGB", (9, 9), "red")), "colours", top_k=1).json()["matches"][0]
    assert (image["video"], image["time"], image["spans"], image["frames"]) == (None, None, [], [])


def test_pictures_of_one_video_are_those_of_its_frames(site: Site) -> None:
    match = search(site, Image.new("RGB", (64, 64), "blue"), filter=of(ONE))[0]
    others = site.search(png(Image.new("RGB", (64, 64), "red")), "films", filter=of(ONE)).json()["matches"][0]
    for what in ("thumbnail", "image"):
        blue, red = site.client.get(match[what]), site.client.get(others[what])
        assert (colour(blue), colour(red)) == ((0, 0, 4), (4, 0, 0))
        assert blue.headers["etag"] != red.headers["etag"]
        assert blue.headers["content-type"] == "image/jpeg"
        assert "sandbox" in blue.headers["content-security-policy"]
        again = site.client.get(match[what], headers={"If-None-Match": blue.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_the_file_is_sent_in_ranges(site: Site, tree: Path) -> None:
    match = search(site, Image.new("RGB", (64, 64), "blue"))[0]
    content = (tree / ONE).read_bytes()
    whole = site.client.get(match["video"])
    assert (whole.status_code, whole.content) == (200, content)
    headers = whole.headers
    assert (headers["content-type"], headers["accept-ranges"]) == ("video/mp4", "bytes")
    assert (headers["content-disposition"], headers["cache-control"]) == (
        'inline; filename="one.mp4"',
        "private, max-age=3600",
    )
    assert headers["content-security-policy"].startswith("default-src 'none'; media-src 'self'; sandbox ")
    assert headers["x-content-type-options"] == "nosniff"
    size = len(content)
    for asked, part in (
        ("0-9", content[:10]),
        ("100-", content[100:]),
        ("-5", content[-5:]),
        (f"9-{size}", content[9:]),
    ):
        answer = site.client.get(match["video"], headers={"Range": f"bytes={asked}", "If-Range": headers["etag"]})
        assert (answer.status_code, answer.content) == (206, part)
        assert answer.headers["content-range"].endswith(f"/{size}")
    changed = site.client.get(match["video"], headers={"Range": "bytes=0-9", "If-Range": '"another"'})
    assert (changed.status_code, changed.content) == (200, content)
    for asked in (
        f"bytes={size}-",
        "bytes=-0",
        "bytes=5-3",
        "bytes=-",
        "bytes=0-1,3-4",
        "lines=0-1",
        f"bytes={'9' * 99}-",
    ):
        answer = site.client.get(match["video"], headers={"Range": asked})
        assert "ask for one, such as bytes=0-1023" in refused(answer, 416)
        assert answer.headers["content-range"] == f"bytes */{size}"
    again = site.client.get(match["video"], headers={"If-None-Match": headers["etag"], "Range": "bytes=0-9"})
    assert (again.status_code, again.content) == (304, b"")


def test_an_image_is_no_video(site: Site) -> None:
    match = site.search(png(Image.new("RGB", (9, 9), "red")), "colours", top_k=1).json()["matches"][0]
    answer = site.client.get(f"/items/{match['id']}/video?collection=colours")
    assert refused(answer, 404) == f"The item {match['id']} is of an image; /items/{match['id']}/image is its file."


def test_every_extension_has_a_type_that_no_browser_runs() -> None:
    assert set(_VIDEO_TYPES) == set(VIDEO_EXTENSIONS)
    assert all(kind.startswith("video/") or kind == "application/mxf" for kind in _VIDEO_TYPES.values())


def test_a_clip_is_previewed_by_its_first_frame(site: Site, clip: Path) -> None:
    answer = site.client.post("/preview", files={"file": (clip.name, clip.read_bytes())})
    assert colour(answer) == (0, 2, 0)


@pytest.mark.parametrize(
    ("options", "collection", "sentence"),
    [
        ({}, "colours", "clip.MKV is a video, and 'colours' holds images; search it with a picture."),
        ({"crop": "0,0,0.5,0.5"}, "films", "crop: a clip is searched with as a whole; leave out crop."),
        ({"face": 1}, "films", "face: 'films' holds videos, which are searched as a whole; leave out face."),
        ({"filter": "nonsense =="}, "films", "filter"),
    ],
)
def test_a_clip_that_cannot_be_meant_is_refused(
    site: Site, clip: Path, options: dict[str, Any], collection: str, sentence: str
) -> None:
    assert sentence in refused(site.search(clip, collection, **options), 422)


@pytest.mark.parametrize("content", [b"", b"no video"])
def test_a_broken_clip_is_said(site: Site, temporary: Path, content: bytes) -> None:
    for address in ("/collections/films/search", "/preview"):
        answer = site.client.post(address, files={"file": ("<b>.mp4", content)})
        assert refused(answer, 422).startswith("<b>.mp4 is not a video that can be opened")
    assert [each.name for each in temporary.iterdir() if not each.name.startswith("lookalike-metrics")] == []


def test_a_script_that_names_another_file_is_no_video(clip: Path, tmp_path: Path) -> None:
    shutil.copy(clip, tmp_path / "film.mkv")
    (tmp_path / "script.mp4").write_text("ffconcat version 1.0\nfile film.mkv\n")
    with pytest.raises(UnreadableVideo, match="is not a video that can be opened"):
        Video(tmp_path / "script.mp4")


def test_a_clip_that_was_cut_off_is_searched_with_as_far_as_it_goes(site: Site, tmp_path: Path) -> None:
    whole = film(tmp_path / "whole.mkv", [("blue", 2), ("green", 2)]).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    assert paths(site.search(tmp_path / "cut.mkv", "films"))[0] == ONE


def test_a_clip_too_large_is_refused(site: Site) -> None:
    answer = site.client.post("/collections/films/search", files={"file": ("a.mp4", bytes(3 * LARGEST_UPLOAD))})
    assert "LOOKALIKE_UPLOAD_MAX_BYTES allows more" in refused(answer, 413)


def test_the_address_of_a_video_is_not_fetched(site: Site) -> None:
    answer = site.ask({"url": "https://films.example/a.mp4"}, "films")
    assert refused(answer, 422) == "url: this is the address of a video, which is not fetched; upload the file."


def test_decoding_a_clip_comes_to_an_end(
    home: Path, clip: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    copied = tmp_path / "home"
    shutil.copytree(home, copied, symlinks=True)
    monkeypatch.setattr(clips, "SECONDS_TO_DECODE", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "clips"))
    (tmp_path / "clips").mkdir()
    settings = Settings(home=copied)
    client = connect(settings=settings)
    service = Service(settings, client, None)
    try:
        upload = UploadFile(io.BytesIO(clip.read_bytes()), filename="clip.mkv")
        with pytest.raises(UnreadableVideo, match=r"clip\.mkv takes more than 0 s to decode"):
            anyio.run(clips.search_with, service, service.collection("films"), SearchOptions(), upload, "clip.mkv")
    finally:
        service.search.close()
        client.close()
    assert list((tmp_path / "clips").iterdir()) == []


@pytest.fixture
def writable(networks: Path, tree: Path, tmp_path: Path) -> Iterator[tuple[Site, Path, Path]]:
    """A server that takes items, its home, and its tree."""
    own = tmp_path / "films"
    shutil.copytree(tree, own)
    home = loaded_home(tmp_path, networks, own, FILMS)
    with serving(home, "--token", "secret") as site:
        site.client.headers["Authorization"] = "Bearer secret"
        yield site, home, own


WHERE = "/collections/films/items"


def test_a_video_that_is_gone_or_damaged_is_said(writable: tuple[Site, Path, Path], clip: Path) -> None:
    site, _, tree = writable
    match = search(site, Image.new("RGB", (64, 64), "blue"))[0]
    for what in ("thumbnail", "image"):
        assert colour(site.client.get(match[what])) == (0, 0, 4)
    film(tree / ONE, [("red", 1)])  # which has nothing at 4 s
    for what in ("thumbnail", "image"):
        assert refused(site.client.get(match[what]), 422) == "one.mp4 has no frame at 4 s."
    (tree / ONE).write_bytes(b"<script>alert(1)</script>")
    for what in ("thumbnail", "image"):
        assert "one.mp4 is not a video that can be opened" in refused(site.client.get(match[what]), 422)
    sent = site.client.get(match["video"])  # as it is, and as nothing that runs
    assert (sent.headers["content-type"], sent.headers["x-content-type-options"]) == ("video/mp4", "nosniff")
    (tree / ONE).unlink()
    for what in ("thumbnail", "image", "video"):
        assert "'trip/one.mp4' of the item" in refused(site.client.get(match[what]), 404)
    (tree / ONE).symlink_to(clip)
    for what in ("thumbnail", "image", "video"):
        assert "is gone" in refused(site.client.get(match[what]), 404)
    assert "is gone" in refused(site.ask({"id": match["id"], "crop": [0, 0, 0.5, 0.5]}, "films"), 404)


def test_a_video_is_removed_as_a_whole(writable: tuple[Site, Path, Path]) -> None:
    site, home, tree = writable
    match = search(site, Image.new("RGB", (64, 64), "red"), filter=of(THREE))[0]
    assert site.client.delete(f"{WHERE}/{match['id']}").status_code == 204
    assert "has no item" in refused(site.client.delete(f"{WHERE}/{match['id']}"), 404)
    assert {each["path"] for each in search(site, Image.new("RGB", (64, 64), "green"))} == {ONE, TWO}
    assert site.client.get("/collections/films").json()["items"] == 5
    assert "three" not in (home / "films.csv").read_text()
    assert (tree / THREE).exists()
    assert site.stop() == 0
    again = run_lookalike(home, "load", tree, "--collection", "films")
    assert "3 found: 1 inserted, 2 unchanged" in again.stdout
    assert "disagreed" not in again.stderr


def test_videos_are_not_added_over_http(writable: tuple[Site, Path, Path], clip: Path) -> None:
    site, _, tree = writable
    sentence = "'films' holds videos, which are not added here; put the file into the tree, and load that again."
    upload = site.client.post(WHERE, files={"file": clip.read_bytes()}, data={"path": "new.mkv"})
    assert refused(upload, 422) == sentence
    assert not (tree / "new.mkv").exists()
    assert refused(site.client.post(WHERE, json={"path": ONE}), 422) == sentence
