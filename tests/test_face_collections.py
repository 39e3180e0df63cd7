"""Collections of faces: one item a face, and what becomes of it when its image changes."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import ExifTags, Image
from pymilvus import MilvusClient

from pipelines import evaluate, explore, load, manage, query, reduce
from tests.face_pictures import OF_EACH, PEOPLE, album, beside_each_other, photographs
from tests.serving import run_lookalike
from utilities.changes import new_or_changed
from utilities.contents import FRUITLESS
from utilities.embedder import load_embedder
from utilities.errors import EmbedderMismatch, InvalidArgument, NoFace
from utilities.face_to_vec import face_to_vec
from utilities.faces import FACE_ATTRIBUTES, Face, find_faces
from utilities.id_map import IdMap
from utilities.image_files import open_image
from utilities.item_streams import embed_files
from utilities.items import item_id
from utilities.milvus_utilities import (
    connect,
    delete_items,
    describe_collection,
    read_embeddings,
    read_items,
    stored_items,
)
from utilities.selections import Selection
from utilities.settings import Settings
from utilities.similar_images import nearest_matches, plot_similar_images, similar_images

#: Faces of the album: one in each photograph, and those of the group.
FACES = len(PEOPLE) * OF_EACH + len(PEOPLE)


@pytest.fixture
def tree(lfw: Path, tmp_path: Path) -> Path:
    return album(lfw, tmp_path / "album")


@pytest.fixture
def home(settings: Settings, face_networks: Path) -> Settings:
    """Settings of a home that has dlib's network already."""
    settings.home.mkdir()
    settings.networks.symlink_to(face_networks)
    return settings


def run(tree: Path, settings: Settings, **arguments: object) -> load.LoadSummary:
    return load.run(tree, what="faces", settings=settings, progress=False, **arguments)  # type: ignore[arg-type]


def counts(summary: load.LoadSummary) -> tuple[int, int, int, int, int]:
    assert summary.found == sum(
        (summary.inserted, summary.unchanged, summary.without_faces, summary.failed, summary.left)
    )
    return summary.inserted, summary.unchanged, summary.without_faces, summary.failed, summary.items


def faces_in(settings: Settings, path: str) -> list[str]:
    rows = read_items(connect(settings=settings), "album")
    assert sorted(rows["id"]) == sorted(IdMap(settings.id_map_path("album")).read()["id"])
    return sorted(rows[rows["path"] == path]["part"])


@pytest.fixture
def anywhere(client: MilvusClient, client_settings: Settings, face_networks: Path) -> Settings:
    """Settings that lead to Milvus, embedded and as a server."""
    client_settings.home.mkdir(exist_ok=True)
    client_settings.networks.symlink_to(face_networks)
    return client_settings


def test_each_face_is_an_item(client: MilvusClient, anywhere: Settings, tree: Path) -> None:
    first = run(tree, anywhere)
    assert first.what == "faces"
    assert counts(first) == (21, 0, 1, 0, FACES)
    assert first.faceless is not None
    assert list(pd.read_csv(first.faceless)["path"]) == ["wall.png"]
    rows = pd.read_csv(first.id_map, dtype={"part": str})
    assert list(rows[rows["path"] == "group.png"]["part"]) == ["1", "2", "3", "4"]
    assert list(rows["id"]) == [item_id(path, part) for path, part in zip(rows["path"], rows["part"], strict=True)]
    info = describe_collection(client, "album")
    assert (info.of_faces, info.fingerprint.backbone, info.fingerprint.dimension) == (True, "dlib", 128)
    stored = [row for page in stored_items(client, "album", fields=["path", "part", *info.attributes]) for row in page]
    group = sorted((row for row in stored if row["path"] == "group.png"), key=lambda row: int(row["part"]))
    places = [Face.of(row) for row in group]
    assert all(face is not None and face.score > 0 for face in places)
    assert {row["faces"] for row in group} == {4}
    # From left to right each picture of the group holds one.
    assert sorted(int((face.left + face.width / 2) // 250) for face in places if face) == [0, 1, 2, 3]
    written = first.id_map.read_bytes()
    again = run(tree, anywhere)
    assert counts(again) == (0, 21, 1, 0, FACES)
    assert first.id_map.read_bytes() == written
    everybody = similar_images(tree / "group.png", "album", filter="faces == 1", settings=anywhere)
    assert len(everybody) == 20


def test_a_face_has_what_is_said_of_its_image(home: Settings, lfw: Path, tmp_path: Path) -> None:
    tree, shop = tmp_path / "album", tmp_path / "shop.csv"
    tree.mkdir()
    exif = Image.Exif()
    exif[ExifTags.Base.DateTime] = "2023:05:17 10:31:00"
    beside_each_other([photographs(lfw, person)[0] for person in PEOPLE[:2]], 2).save(tree / "two.jpg", exif=exif)
    shop.write_text("path,event\ntwo.jpg,wedding\n")
    summary = run(tree, home, attributes=shop)
    assert summary.attributes
    assert (summary.attributes.items, summary.attributes.files_without_row) == (2, 0)
    (match,) = similar_images(
        photographs(lfw, PEOPLE[1])[1],
        "album",
        filter='event == "wedding" and taken > "2023" and faces == 2',
        settings=home,
    )
    assert match.attributes == {"taken": "2023-05-17T10:31:00", "event": "wedding"}
    assert match.face


def test_the_middle_face_is_found_among_the_others(album_home: Settings, lfw: Path) -> None:
    for person in PEOPLE:
        unseen = photographs(lfw, person)[OF_EACH + 1]
        matches = similar_images(unseen, "album", top_k=OF_EACH, settings=album_home)
        assert [match.label for match in matches if match.path != "group.png"] == [person] * len(
            [match for match in matches if match.path != "group.png"]
        )
        assert len({match.path for match in matches}) == OF_EACH


def test_matches_are_images_and_say_where_the_face_is(album_home: Settings, lfw: Path) -> None:
    matches = similar_images(photographs(lfw, "Tiger_Woods")[0], "album", top_k=22, settings=album_home)
    assert len(matches) == 21  # Each image once; the wall shows nobody.
    assert [match.rank for match in matches] == list(range(1, 22))
    scores = [match.score for match in matches]
    assert scores == sorted(scores, reverse=True)
    (group,) = [match for match in matches if match.path == "group.png"]
    assert group.face is not None
    assert group.face.left // 250 == PEOPLE.index("Tiger_Woods")
    assert group.box is not None
    assert group.box.left == group.face.left / 1000


def test_pages_of_images_join_to_the_whole(album_home: Settings) -> None:
    client = connect(settings=album_home)
    info = describe_collection(client, "album")
    (vector,) = read_embeddings(client, info, np.array([item_id("group.png", "1")]))
    (whole,) = nearest_matches(client, info, vector[None], Selection(21))
    pages = [nearest_matches(client, info, vector[None], Selection(6, offset=offset))[0] for offset in (0, 6, 12, 18)]
    assert [match for page in pages for match in page] == whole
    assert [len(page) for page in pages] == [6, 6, 6, 3]
    with pytest.raises(InvalidArgument, match="1,000 matches after the first 16,000 cannot be had"):
        nearest_matches(client, info, vector[None], Selection(1_000, offset=16_000))


def test_a_plot_shows_the_face_that_was_searched_for(
    album_home: Settings, portraits_far_apart: Path, tmp_path: Path
) -> None:
    queries = [str(portraits_far_apart)]
    for face in (1, 5, 9):
        (plain,) = query.run(queries, collection="album", face=face, settings=album_home)
        (drawn,) = query.run(queries, collection="album", face=face, plot=tmp_path / "p.png", settings=album_home)
        assert drawn.faces == plain.faces == 9
        assert drawn.matches == plain.matches


@pytest.fixture
def portraits_far_apart(lfw: Path, tmp_path: Path) -> Path:
    """A photograph of nine people that is decoded at half its size, and was taken with the camera turned."""
    pictures = [photographs(lfw, folder.name)[0] for folder in sorted(lfw.iterdir())[:9]]
    image = beside_each_other(pictures, 3, side=1_700)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned clockwise
    image.rotate(90).save(tmp_path / "nine.jpg", exif=exif, quality=85)
    return tmp_path / "nine.jpg"


def test_boxes_are_places_in_the_upright_whole(home: Settings, portraits_far_apart: Path, tmp_path: Path) -> None:
    tree = tmp_path / "nine"
    tree.mkdir()
    shutil.move(portraits_far_apart, tree)
    assert counts(run(tree, home)) == (1, 0, 0, 0, 9)
    matches = similar_images(tree / "nine.jpg", "nine", settings=home)
    assert (matches[0].width, matches[0].height) == (5_100, 5_100)
    items = read_items(connect(settings=home), "nine", FACE_ATTRIBUTES)
    cells = {
        (int((left + width / 2) // 1_700), int((top + height / 2) // 1_700))
        for left, top, width, height in zip(
            *(items[f"face_{side}"] for side in ("left", "top", "width", "height")), strict=True
        )
    }
    assert len(cells) == 9
    upright = open_image(tree / "nine.jpg")
    cut = matches[0].box.of(upright) if matches[0].box else upright
    assert len(find_faces(cut.resize((400, 400)), 8)[0]) == 1


def test_many_images_of_nobody_are_told_of_as_they_come(home: Settings, tree: Path, tmp_path: Path) -> None:
    walls = tmp_path / "walls"
    walls.mkdir()
    for number in range(2 * FRUITLESS + 9):
        Image.new("RGB", (60, 40), (number, 90, 90)).save(walls / f"{number:03}.png")
    shutil.copy(tree / "group.png", walls / "050.png")
    embedder = load_embedder("dlib", settings=home)
    paths = sorted(path.name for path in walls.iterdir())
    chunks = list(embed_files(walls, paths, embedder, home))
    assert [len(chunk.items) for chunk in chunks if chunk.items] == [4]
    assert len(chunks) >= 2
    assert FRUITLESS <= len(chunks[0].finished) < len(paths)
    told = [{item.path for item in (*chunk.items, *chunk.without_faces)} for chunk in chunks]
    assert sorted(path for each in told for path in each) == paths
    assert all(len(chunk.items) == len(chunk.embeddings) for chunk in chunks)
    assert counts(run(walls, home)) == (1, 0, len(paths) - 1, 0, 4)


def test_any_face_of_a_query_can_be_searched_for(album_home: Settings) -> None:
    root = describe_collection(connect(settings=album_home), "album").root
    assert root is not None
    group = str(root / "group.png")
    (largest,) = query.run([group], collection="album", selection=Selection(3), settings=album_home)
    assert (largest.face, largest.faces) == (1, 4)
    assert {match.label for match in largest.matches[1:]} == {PEOPLE[0]}
    every = query.run([group], collection="album", selection=Selection(3), face="all", settings=album_home)
    assert [result.face for result in every] == [1, 2, 3, 4]
    assert {result.matches[1].label for result in every} == set(PEOPLE)
    (second,) = query.run([group], collection="album", selection=Selection(3), face=2, settings=album_home)
    assert [match.id for match in second.matches] == [match.id for match in every[1].matches]
    for number in (5, 0, -1):
        with pytest.raises(InvalidArgument, match=rf"There is no face {number} in .*group.png, which shows 4 faces"):
            query.run([group], collection="album", face=number, settings=album_home)
    with pytest.raises(NoFace, match=r"No face was found in .*wall.png; faces from 40 pixels on are found"):
        query.run([str(root / "wall.png")], collection="album", settings=album_home)


def test_the_figure_frames_faces(album_home: Settings, lfw: Path) -> None:
    figure = plot_similar_images(photographs(lfw, "Tony_Blair")[0], "album", top_k=2, settings=album_home)
    query_axes, *tiles = figure.axes
    # Each picture has a frame of its own, and a face's is drawn twice, dark below light.
    assert [len(axes.patches) for axes in (query_axes, *tiles)] == [3, 3, 3]


def test_an_image_that_changes_keeps_no_face_of_before(home: Settings, tree: Path, lfw: Path) -> None:
    run(tree, home)
    assert faces_in(home, "group.png") == ["1", "2", "3", "4"]
    shutil.copy(photographs(lfw, "Tiger_Woods")[7], tree / "group.png")
    assert counts(run(tree, home)) == (1, 20, 1, 0, FACES - 3)
    assert faces_in(home, "group.png") == ["1"]
    shutil.copy(tree / "wall.png", tree / "group.png")
    assert counts(run(tree, home)) == (0, 20, 2, 0, FACES - 4)
    assert faces_in(home, "group.png") == []
    shutil.copy(photographs(lfw, "Tiger_Woods")[7], tree / "wall.png")
    assert counts(run(tree, home)) == (1, 20, 1, 0, FACES - 3)
    assert counts(run(tree, home)) == (0, 21, 1, 0, FACES - 3)


def test_a_load_that_dies_before_it_removed_what_is_shown_no_more_is_mended(
    home: Settings, tree: Path, lfw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tree, home)
    shutil.copy(photographs(lfw, "Tiger_Woods")[7], tree / "group.png")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("utilities.loading.delete_items", die)
        with pytest.raises(KeyboardInterrupt):
            run(tree, home)
    assert len(read_items(connect(settings=home), "album")) == FACES
    assert counts(run(tree, home)) == (1, 20, 1, 0, FACES - 3)
    assert faces_in(home, "group.png") == ["1"]


def test_items_of_one_file_that_disagree_are_not_unchanged(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b"content")
    status = file.stat()
    row = {"path": "a.png", "file_size": status.st_size, "file_mtime_ns": status.st_mtime_ns}
    now, before = {**row, "file_digest": "new", "items_of_file": 1}, {**row, "file_digest": "old", "items_of_file": 2}
    for rows, changed in (([now], []), ([before, before], []), ([before], ["a.png"]), ([now, before], ["a.png"])):
        for order in (rows, rows[::-1]):
            assert new_or_changed(tmp_path, ["a.png"], pd.DataFrame(order)) == changed


def test_images_that_are_not_asked_for_stay_on_the_list(home: Settings, tree: Path) -> None:
    listed = run(tree, home).faceless
    assert listed is not None
    written = listed.read_bytes()
    assert counts(run(tree, home, extension="jpg")) == (0, 20, 0, 0, FACES)
    assert listed.read_bytes() == written


def test_a_face_that_a_dying_load_left_out_is_found_again(home: Settings, tree: Path) -> None:
    run(tree, home)
    lost = item_id("group.png", "3")
    delete_items(connect(settings=home), "album", [lost])
    assert counts(run(tree, home)) == (1, 20, 1, 0, FACES)
    assert faces_in(home, "group.png") == ["1", "2", "3", "4"]


def test_the_list_of_images_without_faces_may_be_lost(home: Settings, tree: Path) -> None:
    listed = run(tree, home).faceless
    assert listed is not None
    written = listed.read_bytes()
    listed.write_text("nothing of ours\n")
    assert counts(run(tree, home)) == (0, 21, 1, 0, FACES)
    assert listed.read_bytes() == written
    (tree / "wall.png").unlink()
    gone = run(tree, home)
    assert counts(gone) == (0, 21, 0, 0, FACES)
    assert gone.faceless is None
    assert not listed.exists()


def test_verify_and_prune_know_faces(home: Settings, tree: Path) -> None:
    run(tree, home)
    assert counts(run(tree, home, verify=True)) == (0, 21, 1, 0, FACES)
    (tree / "group.png").unlink()
    assert run(tree, home).vanished == 4
    pruned = run(tree, home, prune=True)
    assert (pruned.vanished, pruned.items) == (4, FACES - 4)
    manage.drop("album", home)
    assert [path.name for path in home.home.glob("album*") if path.suffix == ".csv"] == []
    assert counts(run(tree, home)) == (20, 0, 1, 0, FACES - 4)


def test_a_collection_is_of_faces_or_of_images(home: Settings, tree: Path, networks: Path, face_networks: Path) -> None:
    run(tree, home)
    with pytest.raises(EmbedderMismatch, match="'album' holds faces, not images; load into another --collection"):
        load.run(tree, what="images", settings=home)
    assert load.run(tree, settings=home, progress=False).what == "faces"
    with pytest.raises(InvalidArgument, match="--backbone resnet50 embeds images, not faces; choose one of dlib,"):
        load.run(tree, what="faces", backbone="resnet50", collection="other", settings=home)
    with pytest.raises(InvalidArgument, match="--backbone dlib embeds faces, not images; choose one of resnet50"):
        load.run(tree, what="images", backbone="dlib", collection="other", settings=home)
    with pytest.raises(InvalidArgument, match="--what 'people' is not known; choose one of images, faces"):
        load.run(tree, what="people", settings=home)


def test_fewer_dimensions_of_faces(home: Settings, tree: Path, tmp_path: Path) -> None:
    run(tree, home, collection="few", pca=16)
    matches = similar_images(tree / "group.png", "few", top_k=3, settings=home)
    assert matches[0].path == "group.png"
    assert matches[0].score == pytest.approx(1, abs=1e-3)
    run(tree, home)
    reduction = reduce.run("album", into="reduced", pca=8, out=tmp_path / "out", settings=home, progress=False)
    assert reduction.into == ("reduced", FACES, 8)
    assert similar_images(tree / "group.png", "reduced", top_k=1, settings=home)[0].face is not None


def test_explore_shows_faces(album_home: Settings, tmp_path: Path) -> None:
    exploration = explore.run("album", sample=100, out=tmp_path, settings=album_home, progress=False)
    assert (exploration.sample, exploration.unreadable) == (FACES, 0)
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.width > 0


def test_evaluate_gives_thresholds(album_home: Settings, tmp_path: Path) -> None:
    evaluation = evaluate.run("album", top_k=4, out=tmp_path, settings=album_home, progress=False)
    # Of the group's faces the one next to the middle has its folder's label, which is wrong here; the others have none,
    # and are passed over.
    assert (evaluation.items, evaluation.labels, evaluation.queries) == (FACES, 5, 20)
    assert evaluation.figures["precision@1"].mean >= 0.9
    assert evaluation.verification is not None
    assert evaluation.verification.mated == len(PEOPLE) * OF_EACH * (OF_EACH - 1) / 2
    assert evaluation.verification.equal_error_rate < 0.05
    assert evaluation.roc is not None
    assert evaluation.roc.exists()


def test_faces_of_a_tree_in_memory(tree: Path, face_networks: Path, caplog: pytest.LogCaptureFixture) -> None:
    embeddings, items = face_to_vec(tree, settings=Settings(home=face_networks.parent), progress=False)
    assert embeddings.shape == (FACES, 128)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    assert [(item.path, item.part) for item in items] == sorted((item.path, item.part) for item in items)
    assert f"No face was found in {tree}/wall.png" in caplog.text
    walls = tree.parent / "walls"
    walls.mkdir()
    shutil.copy(tree / "wall.png", walls)
    with pytest.raises(NoFace, match="No face was found in the 1 images"):
        face_to_vec(walls, settings=Settings(home=face_networks.parent), progress=False)


def test_the_commands_say_what_they_did(home: Settings, tree: Path) -> None:
    lookalike = partial(run_lookalike, home.home)
    loading = lookalike("load", tree, "--what", "faces")
    assert "22 found: 21 inserted, 0 unchanged, 1 without a face, 0 failed; album holds 24 faces" in loading.stdout
    assert "images without a face: " in loading.stdout
    assert "tensorflow" not in loading.stderr.lower()
    result = lookalike("query", tree / "group.png", "--face", "all", "--top-k", "2")
    assert "group.png, face 1 of 4\nrank  similarity  face  path\n   1      1.0000  1     group.png" in result.stdout
    assert result.stdout.count("query: ") == 4
    first = json.loads(lookalike("query", tree / "group.png", "--json").stdout)
    assert (first["face"], first["faces"]) == (1, 4)
    assert set(first["matches"][0]["face"]) == {"left", "top", "width", "height", "score"}
    wrong = lookalike("query", tree / "group.png", "--face", "largest")
    assert wrong.returncode == 2
    assert "'largest' is neither a number, from 1, the largest, nor all" in wrong.stderr
    assert '"what": "faces"' in lookalike("info", "album", "--json").stdout


def test_without_dlib_the_command_says_what_to_install(home: Settings, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "without" / "dlib").mkdir(parents=True)
    (tmp_path / "without" / "dlib" / "__init__.py").write_text("raise ImportError(\"No module named 'dlib'\")\n")
    result = run_lookalike(
        home.home, "load", tree, "--what", "faces", PYTHONPATH=f"{tmp_path / 'without'}:{Path(__file__).parents[1]}"
    )
    assert result.returncode == 1
    assert "Faces are found by dlib, which cannot be imported" in result.stderr
    assert "pip install -e '.[faces]'" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_face_number_is_for_collections_of_faces(
    lookalike: Callable[..., subprocess.CompletedProcess[str]], colour_tree: Path
) -> None:
    lookalike("load", colour_tree, "--backbone", "mobilenetv2", "--weights", "random")
    result = lookalike("query", colour_tree / "red/red_0.png", "--face", "1")
    assert result.returncode == 2
    assert "--face is for collections of faces; 'colours' holds images" in result.stderr
    people = lookalike("people", "colours")
    assert (people.returncode, "`lookalike load DIR --what faces` makes one of faces" in people.stderr) == (2, True)
