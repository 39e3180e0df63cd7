"""The files of items over HTTP, and items that come and go."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.conftest import draw_colours
from tests.serving import Site, id_of, loaded_home, run_lookalike, serving
from tests.test_serve import paths, png, refused
from utilities.items import item_id
from utilities.locks import only_writer
from utilities.settings import Settings

TOKEN = {"Authorization": "Bearer secret"}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = draw_colours(tmp_path / "colours")
    Image.effect_noise((700, 300), 90).save(tree / "grey/scan.tiff")
    return tree


@pytest.fixture
def home(tmp_path: Path, networks: Path, tree: Path) -> Path:
    return loaded_home(tmp_path, networks, tree)


@pytest.fixture
def site(home: Path) -> Iterator[Site]:
    with serving(home, LOOKALIKE_API_TOKEN="secret") as site:
        site.client.headers.update(TOKEN)
        yield site


def get(site: Site, home: Path, path: str, what: str, **headers: str) -> httpx.Response:
    return site.client.get(f"/items/{id_of(home, path)}/{what}?collection=colours", headers=headers)


def test_a_file_is_sent_as_it_is_and_small(site: Site, home: Path, tree: Path) -> None:
    whole = get(site, home, "red/red_0.png", "image")
    assert whole.content == (tree / "red/red_0.png").read_bytes()
    assert whole.headers["content-type"] == "image/png"
    assert whole.headers["cache-control"] == "private, max-age=3600"
    assert "sandbox" in whole.headers["content-security-policy"]
    again = get(site, home, "red/red_0.png", "image", **{"If-None-Match": whole.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    Image.new("RGB", (9, 9)).save(tree / "red/red_0.png")
    changed = get(site, home, "red/red_0.png", "image", **{"If-None-Match": whole.headers["etag"]})
    assert changed.status_code == 200
    small = get(site, home, "grey/scan.tiff", "thumbnail")
    assert small.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(small.content)) as picture:
        assert picture.size == (400, 171)


def test_what_browsers_do_not_show_is_sent_as_a_jpeg(site: Site, home: Path, tree: Path) -> None:
    scan = get(site, home, "grey/scan.tiff", "image")
    assert scan.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(scan.content)) as picture:
        assert (picture.format, picture.size) == ("JPEG", (700, 300))
    preview = site.client.post(
        "/preview", files={"file": ("scan.tiff", (Path(home).parent / "colours/grey/scan.tiff").read_bytes())}
    )
    with Image.open(io.BytesIO(preview.content)) as picture:
        assert (picture.format, picture.size) == ("JPEG", (700, 300))


def test_a_type_is_told_by_the_content(site: Site, home: Path, tree: Path) -> None:
    (tree / "red/red_1.png").write_text("<script>alert(1)</script>")
    assert "is not an image" in refused(get(site, home, "red/red_1.png", "image"), 422)
    assert "is not an image" in refused(get(site, home, "red/red_1.png", "thumbnail"), 422)


def test_only_files_of_items_below_the_root_are_sent(site: Site, home: Path, tree: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.png"
    Image.new("RGB", (5, 5)).save(outside)
    (tree / "red/red_2.png").unlink()
    assert "'red/red_2.png' of the item" in refused(get(site, home, "red/red_2.png", "image"), 404)
    (tree / "red/red_2.png").symlink_to(outside)
    for what in ("image", "thumbnail"):
        assert "is gone" in refused(get(site, home, "red/red_2.png", what), 404)
    assert "is gone" in refused(site.ask({"id": id_of(home, "red/red_2.png"), "crop": [0, 0, 0.5, 0.5]}), 404)
    Image.new("RGB", (5, 5)).save(tree / "not_loaded.png")
    for number in (item_id("not_loaded.png"), item_id("../outside.png"), 0, 2**63, 10**18):
        refused(site.client.get(f"/items/{number}/image"), 404)
    for text in ("..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd", "-1", "1e3", "\u0661"):
        assert site.client.get(f"/items/{text}/image").status_code in (404, 422)
    for text in (
        "../../../../etc/passwd",
        "..%2f..%2f..%2fpyproject.toml",
        "%2e%2e/app.py",
        "bootstrap/..%2f..%2f__init__.py",
    ):
        refused(site.client.get(f"/static/{text}"), 404)


def test_an_upload_becomes_an_item(site: Site, home: Path, tree: Path) -> None:
    picture = Image.effect_noise((64, 48), 120).convert("RGB")
    where = "/collections/colours/items"
    made = site.client.post(where, files={"file": ("x.png", png(picture))}, data={"path": "new/noise.png"})
    assert made.status_code == 201
    (item,) = made.json()["items"]
    assert item == {
        "id": str(item_id("new/noise.png")),
        "path": "new/noise.png",
        "label": "new",
        "width": 64,
        "height": 48,
        "part": "",
        "box": None,
        "attributes": {},
    }
    assert (tree / "new/noise.png").read_bytes() == png(picture)
    assert site.client.get(made.headers["location"]).content == png(picture)
    assert paths(site.search(png(picture), top_k=1)) == ["new/noise.png"]
    assert {"value": "new", "items": 1} in site.client.get("/collections/colours/facets").json()["labels"]
    twice = site.client.post(where, files={"file": ("x.png", png(picture))}, data={"path": "new/noise.png"})
    assert "a file 'noise.png' at this path already" in refused(twice, 409)
    assert id_of(home, "new/noise.png") == item["id"]
    gone = site.client.delete(f"{where}/{item['id']}")
    assert (gone.status_code, gone.content) == (204, b"")
    assert "has no item" in refused(site.client.delete(f"{where}/{item['id']}"), 404)
    assert (tree / "new/noise.png").exists()
    assert "new/noise.png" not in (home / "colours.csv").read_text()
    assert paths(site.search(png(picture), top_k=1)) != ["new/noise.png"]
    back = site.client.post(where, json={"path": "new/noise.png"})  # It lies in the tree.
    assert (back.status_code, back.json()) == (201, {"items": [item]})
    assert site.stop() == 0
    again = run_lookalike(home, "load", tree, "--collection", "colours")
    assert "17 found: 0 inserted, 17 unchanged" in again.stdout


@pytest.mark.parametrize(
    "path",
    [
        "../evil.png",
        "/etc/evil.png",
        "a/../../evil.png",
        "a//b.png",
        ".hidden/x.png",
        "a/.x.png",
        "x\n.png",
        "x.html",
        "x",
        "",
    ],
)
def test_a_path_that_a_load_would_not_find_is_refused(site: Site, tree: Path, path: str) -> None:
    before = sorted(tree.parent.rglob("*"))
    upload = site.client.post(
        "/collections/colours/items", files={"file": png(Image.new("RGB", (4, 4)))}, data={"path": path}
    )
    assert refused(upload, 422).startswith("path: ")
    assert sorted(tree.parent.rglob("*")) == before


def test_what_cannot_be_added_leaves_nothing_behind(site: Site, home: Path, tree: Path, tmp_path: Path) -> None:
    where = "/collections/colours/items"
    (tree / "leads_out").symlink_to(tmp_path)
    upload = {"file": png(Image.new("RGB", (4, 4)))}
    assert "is no path in the tree" in refused(
        site.client.post(where, files=upload, data={"path": "leads_out/x.png"}), 422
    )
    (tree / "alias").symlink_to(tree / "red")
    (tree / "round").symlink_to(tree / "round")
    for path in ("alias/x.png", "round/x.png", f"{'x' * 300}.png"):
        assert "is no path in the tree" in refused(site.client.post(where, files=upload, data={"path": path}), 422)
    assert "is no path in the tree" in refused(site.client.post(where, json={"path": "alias/red_0.png"}), 422)
    broken = site.client.post(where, files={"file": b"no picture"}, data={"path": "new/broken.png"})
    assert refused(broken, 422) == "new/broken.png is not an image that can be opened."
    assert list((tree / "new").iterdir()) == []
    assert "no file 'no/such.png' in the tree" in refused(site.client.post(where, json={"path": "no/such.png"}), 422)
    with only_writer(Settings(home=home), "colours"):
        busy = site.client.post(where, files=upload, data={"path": "busy.png"})
        assert "Another process is changing the collection" in refused(busy, 503)
        assert int(busy.headers["retry-after"]) > 0
    assert not (tree / "busy.png").exists()
    assert len((home / "colours.csv").read_text().splitlines()) == 17


def test_a_tree_that_is_gone_is_not_made_anew(site: Site, home: Path, tree: Path) -> None:
    tree.rename(tree.with_name("elsewhere"))
    upload = {"file": png(Image.new("RGB", (4, 4)))}
    answer = site.client.post("/collections/colours/items", files=upload, data={"path": "new/x.png"})
    assert "is not where it was loaded from" in refused(answer, 409)
    assert not tree.exists()
    assert "is gone" in refused(get(site, home, "red/red_0.png", "image"), 404)


@pytest.mark.skipif(os.geteuid() == 0, reason="whoever is root may write everywhere")
def test_a_tree_that_may_not_be_written_is_said(site: Site, tree: Path) -> None:
    tree.chmod(0o500)
    upload = {"file": png(Image.new("RGB", (4, 4)))}
    answer = site.client.post("/collections/colours/items", files=upload, data={"path": "x.png"})
    tree.chmod(0o700)
    assert "cannot be written into the tree: Permission denied" in refused(answer, 403)
