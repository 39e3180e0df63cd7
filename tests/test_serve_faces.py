"""Faces over HTTP: searched with, added and removed; real faces, real dlib."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.datastructures import UploadFile

from tests.conftest import draw_colours
from tests.serving import COLOURS, FACES, Site, loaded_home, run_lookalike, serving
from tests.test_serve import paths, png, refused
from utilities.errors import DatabaseError
from utilities.items import item_id
from utilities.milvus_utilities import connect, count_items, insert_items
from utilities.settings import Settings
from utilities.web import items
from utilities.web.models import AddedItems, SearchResult
from utilities.web.service import Service

#: Some of whom `data/lfw` has pictures that show nobody else.
PEOPLE = ("Alvaro_Uribe", "Jennifer_Aniston", "Laura_Bush", "Tony_Blair")


def pictures_of(test_data: Path, person: str) -> list[Path]:
    return sorted((test_data / "data/lfw" / person).glob("*.jpg"))


def group_picture(test_data: Path, people: tuple[str, ...] = PEOPLE[:3]) -> Image.Image:
    """People side by side, each half as large again as the next, in pictures that are in no tree."""
    sides = [540, 360, 240]
    group = Image.new("RGB", (sum(sides), sides[0]), "grey")
    for number, (person, side) in enumerate(zip(people, sides, strict=False)):
        with Image.open(pictures_of(test_data, person)[5]) as picture:
            group.paste(picture.resize((side, side)), (sum(sides[:number]), 0))
    return group


def copy_people(test_data: Path, root: Path) -> Path:
    """Everyone with four pictures, and a noise that nobody is in."""
    for person in PEOPLE:
        (root / person).mkdir(parents=True)
        for picture in pictures_of(test_data, person)[:4]:
            shutil.copy(picture, root / person)
    Image.effect_noise((200, 200), 90).save(root / "noise.png")
    return root


def home_of_both(folder: Path, networks: Path, face_networks: Path, tree: Path) -> Path:
    """A home with the faces of a tree, and a collection of coloured images."""
    both = folder / "networks"
    both.mkdir()
    for network in (*networks.iterdir(), *face_networks.iterdir()):
        (both / network.name).symlink_to(network)
    home = loaded_home(folder, both, tree, FACES)
    assert run_lookalike(home, "load", draw_colours(folder / "colours"), *COLOURS).returncode == 0
    return home


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory, test_data: Path) -> Path:
    return copy_people(test_data, tmp_path_factory.mktemp("tree") / "people")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory, face_networks: Path, tree: Path) -> Path:
    return loaded_home(tmp_path_factory.mktemp("faces"), face_networks, tree, FACES)


@pytest.fixture(scope="module")
def site(loaded: Path) -> Iterator[Site]:
    with serving(loaded) as site:
        yield site


def search(site: Site, picture: Image.Image | Path, **options: Any) -> Any:
    answer = site.search(picture if isinstance(picture, Path) else png(picture), "people", **options)
    assert answer.status_code == 200, answer.text
    SearchResult.model_validate(answer.json())
    return answer.json()


def people(result: Any) -> list[str]:
    return [match["label"] for match in result["matches"]]


def test_a_picture_finds_whoever_is_in_it(site: Site, test_data: Path) -> None:
    for person in PEOPLE:
        result = search(site, pictures_of(test_data, person)[4], top_k=4)
        assert people(result) == [person] * 4
        (face,) = result["faces"]
        assert result["face"] == 1
        assert face["score"] > 0
        for match in result["matches"]:
            box = match["box"]
            assert match["part"] == "1"
            # Pictures of this data set have the face in their middle.
            assert box["left"] < 0.5 < box["left"] + box["width"]
            assert box["top"] < 0.5 < box["top"] + box["height"]


def test_any_face_of_a_picture_is_searched_with(site: Site, test_data: Path) -> None:
    group = group_picture(test_data)
    for number, person in enumerate(PEOPLE[:3], start=1):
        result = search(site, group, face=number, top_k=4)
        assert people(result) == [person] * 4
        assert result["face"] == number
    middles = [face["left"] + face["width"] / 2 for face in result["faces"]]
    assert middles == pytest.approx([270 / 1140, 720 / 1140, 1020 / 1140], abs=0.03)
    assert search(site, group, top_k=4) == search(site, group, face=1, top_k=4)
    detail = refused(site.search(png(group), "people", face=4), 422)
    assert detail == "There is no face 4 in bytes, which shows 3 faces."


def test_faces_in_a_part_are_told_in_the_whole(site: Site, test_data: Path) -> None:
    group = group_picture(test_data)
    whole = search(site, group)["faces"]
    part = search(site, group, crop="0.4737,0,0.5263,1", top_k=4)
    assert people(part) == [PEOPLE[1]] * 4
    assert len(part["faces"]) == 2
    for found, known in zip(part["faces"], whole[1:], strict=True):
        # The detector's boxes have few sizes, each a fifth larger than the next.
        for start, length in (("left", "width"), ("top", "height")):
            assert found[length] == pytest.approx(known[length], rel=0.25)
            middles = [face[start] + face[length] / 2 for face in (found, known)]
            assert middles[0] == pytest.approx(middles[1], abs=0.02)
    assert people(search(site, group, crop="0.4737,0,0.5263,1", face=2, top_k=4)) == [PEOPLE[2]] * 4


def test_a_face_that_is_stored_is_searched_with_as_it_is(site: Site, tree: Path) -> None:
    file = next((tree / PEOPLE[0]).iterdir())
    by_picture = search(site, file)
    by_id = site.ask({"id": by_picture["matches"][0]["id"]}, "people")
    assert paths(by_id) == [match["path"] for match in by_picture["matches"]]
    assert (by_id.json()["faces"], by_id.json()["face"]) == ([], None)
    assert by_id.json()["matches"][0]["similarity"] == pytest.approx(1, abs=1e-3)
    again = site.ask({"id": by_picture["matches"][0]["id"], "crop": [0, 0, 1, 1], "face": 1}, "people")
    assert paths(again) == paths(by_id)
    assert again.json()["faces"] == by_picture["faces"]


def test_what_shows_no_face_is_said(site: Site, tree: Path, test_data: Path) -> None:
    said = refused(site.search(tree / "noise.png", "people"), 422)
    assert said.startswith("No face was found in noise.png; faces from 40 pixels on are found, upright and seen from")
    corner = site.search(png(group_picture(test_data)), "people", crop="0.85,0.6,0.15,0.4")
    assert "No face was found in bytes" in refused(corner, 422)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"vector": [1.0] * 128, "face": 1}, "a vector shows no faces"),
        ({"id": 1, "face": 1}, "an item is one face already"),
        ({"id": 1, "crop": [0, 0, 1, 1], "face": 0}, "face: Input should be greater than or equal to 1"),
    ],
)
def test_a_face_that_cannot_be_meant_is_refused(site: Site, body: dict[str, Any], sentence: str) -> None:
    assert sentence in refused(site.ask(body, "people"), 422)


def test_collections_say_what_they_hold(networks: Path, face_networks: Path, tree: Path, tmp_path: Path) -> None:
    with serving(home_of_both(tmp_path, networks, face_networks, tree)) as site:
        known = site.client.get("/collections").json()
        assert [(each["name"], each["what"], each["items"]) for each in known] == [
            ("colours", "images", 15),
            ("people", "faces", 16),
        ]
        picture = tmp_path / "colours/red/red_0.png"
        sentence = "face: 'colours' holds images, which are searched as a whole; leave out face."
        assert refused(site.search(picture, face=1), 422) == sentence
        result = site.search(picture, top_k=1).json()
        assert (result["faces"], result["face"]) == ([], None)
        assert (result["matches"][0]["part"], result["matches"][0]["box"]) == ("", None)


def test_without_dlib_it_is_said_what_the_server_lacks(loaded: Path, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "dlib.py").write_text("raise ImportError('no dlib here')")
    places = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    home = tmp_path / "home"
    shutil.copytree(loaded, home, symlinks=True)
    with serving(home, "--token", "secret", PYTHONPATH=places) as site:
        site.client.headers["Authorization"] = "Bearer secret"
        assert "people cannot be searched with pictures: Faces are found by dlib" in site.log.read_text()
        picture = next((tree / PEOPLE[0]).iterdir())
        added = site.client.post(
            "/collections/people/items", files={"file": picture.read_bytes()}, data={"path": "new.jpg"}
        )
        for answer in (site.search(picture, "people"), added):
            assert "lacks a package that this needs; its log says which" in refused(answer, 501)
        assert not (tree / "new.jpg").exists()
        id = item_id(f"{PEOPLE[0]}/{picture.name}", "1")
        assert people(site.ask({"id": id, "top_k": 4}, "people").json()) == [PEOPLE[0]] * 4
        assert "Traceback" not in site.log.read_text()


@pytest.fixture
def writable(face_networks: Path, test_data: Path, tmp_path: Path) -> Iterator[tuple[Site, Path, Path]]:
    """A server that takes items, its home, and its tree."""
    tree = copy_people(test_data, tmp_path / "people")
    home = loaded_home(tmp_path, face_networks, tree, FACES)
    with serving(home, "--token", "secret") as site:
        site.client.headers["Authorization"] = "Bearer secret"
        yield site, home, tree


WHERE = "/collections/people/items"


def count(site: Site) -> int:
    return int(site.client.get("/collections/people").json()["items"])


def test_all_faces_of_an_image_are_added_and_each_is_removed(
    writable: tuple[Site, Path, Path], test_data: Path
) -> None:
    site, home, tree = writable
    path, group = 'it\'s "new"/group.png', group_picture(test_data)
    made = site.client.post(WHERE, files={"file": png(group)}, data={"path": path})
    assert made.status_code == 201, made.text
    AddedItems.model_validate(made.json())
    added = made.json()["items"]
    assert [(item["id"], item["path"], item["part"]) for item in added] == [
        (str(item_id(path, part)), path, part) for part in ("1", "2", "3")
    ]
    assert site.client.get(made.headers["location"]).content == png(group)
    result = search(site, group, face=2, top_k=1)
    assert (result["matches"][0]["id"], result["matches"][0]["box"]) == (added[1]["id"], added[1]["box"])
    assert count(site) == 19
    assert site.client.delete(f"{WHERE}/{added[1]['id']}").status_code == 204
    assert count(site) == 18
    assert search(site, group, face=2, top_k=1)["matches"][0]["path"] != path
    assert search(site, group, face=1, top_k=1)["matches"][0]["path"] == path
    assert site.stop() == 0
    again = run_lookalike(home, "load", tree, "--collection", "people")
    assert "18 found: 1 inserted, 16 unchanged, 1 without a face, 0 failed; people holds 19 faces" in again.stdout
    assert "disagreed" not in again.stderr


def test_an_image_that_has_changed_leaves_no_face_behind(writable: tuple[Site, Path, Path], test_data: Path) -> None:
    site, home, tree = writable
    path = 'it\'s "new".png'
    group_picture(test_data).save(tree / path)
    assert len(site.client.post(WHERE, json={"path": path}).json()["items"]) == 3
    group_picture(test_data, PEOPLE[3:]).save(tree / path)
    (item,) = site.client.post(WHERE, json={"path": path}).json()["items"]
    assert item["part"] == "1"
    assert count(site) == 17
    (tree / path).write_bytes((tree / "noise.png").read_bytes())
    assert "No face was found" in refused(site.client.post(WHERE, json={"path": path}), 422)
    assert count(site) == 16  # Nor does it show whom it showed before.
    group_picture(test_data, PEOPLE[3:]).save(tree / path)
    assert len(site.client.post(WHERE, json={"path": path}).json()["items"]) == 1
    assert path.replace('"', '""') in (home / "people.csv").read_text()
    without_faces = home / "people.without_faces.csv"
    assert "noise.png" in without_faces.read_text()
    group_picture(test_data).save(tree / "noise.png")
    assert len(site.client.post(WHERE, json={"path": "noise.png"}).json()["items"]) == 3
    assert not without_faces.exists()
    assert site.stop() == 0
    again = run_lookalike(home, "load", tree, "--collection", "people")
    assert "18 found: 0 inserted, 18 unchanged, 0 without a face" in again.stdout
    assert "disagreed" not in again.stderr


def test_faces_of_which_nobody_knows_whether_they_were_taken_are_forgotten(
    loaded: Path, tree: Path, test_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def insert_and_fail(*arguments: Any) -> None:
        insert_items(*arguments)
        raise DatabaseError("No answer came.")

    monkeypatch.setattr(items, "insert_items", insert_and_fail)
    shutil.copytree(loaded, tmp_path / "home", symlinks=True)
    settings = Settings(home=tmp_path / "home")
    client = connect(settings=settings)
    service = Service(settings, client, None)
    upload = UploadFile(io.BytesIO(png(group_picture(test_data))))
    with contextlib.closing(client), contextlib.closing(service.search):
        with pytest.raises(DatabaseError):
            items._add(service, "people", "group.png", upload)
        assert count_items(client, "people") == 16
    assert not (tree / "group.png").exists()


def test_an_image_without_a_face_is_not_added(writable: tuple[Site, Path, Path]) -> None:
    site, home, tree = writable
    before = (home / "people.csv").read_bytes()
    upload = {"file": (tree / "noise.png").read_bytes()}
    answer = site.client.post(WHERE, files=upload, data={"path": "new/noise.png"})
    assert "No face was found in new/noise.png" in refused(answer, 422)
    assert not (tree / "new/noise.png").exists()
    assert "No face was found in noise.png" in refused(site.client.post(WHERE, json={"path": "noise.png"}), 422)
    assert (tree / "noise.png").exists()
    assert (home / "people.csv").read_bytes() == before
    assert count(site) == 16
