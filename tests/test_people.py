"""Faces are put together by whose they are."""

from __future__ import annotations

import json
import subprocess
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from pipelines import compare, evaluate, people
from tests.conftest import draw_colours
from tests.face_pictures import OF_EACH, PEOPLE, album
from tests.serving import run_lookalike
from utilities.errors import InvalidArgument
from utilities.milvus_utilities import connect, describe_collection, read_items
from utilities.settings import Settings
from utilities.thumbnails import SIDE, contact_sheet


def table(found: people.People) -> pd.DataFrame:
    return pd.read_csv(found.csv, dtype=str, keep_default_na=False)


@pytest.fixture
def names(album_home: Settings, tmp_path: Path) -> Path:
    """A CSV that names one face of each person: three by their photographs, one by a face's number, too."""
    items = read_items(connect(settings=album_home), "album")
    first = [items[items["label"] == person]["path"].min() for person in PEOPLE]
    rows = [[path, part, person.upper()] for path, part, person in zip(first, ["", "", "", "1"], PEOPLE, strict=True)]
    file = tmp_path / "names.csv"
    pd.DataFrame(rows, columns=["path", "part", "label"]).to_csv(file, index=False)
    return file


def test_everybody_is_found_with_all_their_faces(album_home: Settings, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for name in ("people.csv", "person_77.png", "person_of_interest.png"):
        (tmp_path / "out" / name).write_text("path,label\n" if name.endswith("csv") else "")
    found = people.run("album", out=tmp_path / "out", settings=album_home, progress=False)
    assert [(each.name, each.faces, each.share) for each in found.people] == [
        (f"person {number}", OF_EACH + 1, None) for number in range(1, 5)
    ]
    assert (found.faces, found.alone, found.precision) == (24, 0, None)
    rows = table(found)
    for person, faces in rows.groupby("person"):
        # All photographs of one folder, and one face of the group.
        assert len(set(faces["path"].str.split("/").str[0])) == 2, person
    assert sorted(rows[rows["path"] == "group.png"]["part"]) == ["1", "2", "3", "4"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "people.csv",
        *(f"person_{number}.png" for number in range(1, 5)),
        "person_of_interest.png",  # which is not of an earlier run
    ]
    assert set(rows["label"]) == {""}  # A number is no name.
    with Image.open(found.people[0].sheet) as sheet:
        assert sheet.width > 6 * SIDE


def test_a_csv_names_and_judges_people(album_home: Settings, tmp_path: Path, names: Path) -> None:
    found = people.run("album", labels=names, out=tmp_path / "out", settings=album_home, progress=False)
    assert {each.name for each in found.people} == {person.upper() for person in PEOPLE}
    assert [each.share for each in found.people] == [1] * 4
    assert (found.precision, found.recall) == (None, None)  # No two of the four are one person.
    # The CSV that is written may be mended and given again: what it says of a face stays.
    rows = table(found)
    mended = (rows["path"] == "group.png") & (rows["part"] == "2")
    rows.loc[mended, "label"] = "Bob"
    rows.to_csv(found.csv, index=False)
    again = people.run("album", labels=found.csv, out=tmp_path / "out", settings=album_home, progress=False)
    assert [each.name for each in again.people] == [each.name for each in found.people]
    assert sorted(each.share or 0 for each in again.people) == [5 / 6, 1, 1, 1]
    pd.testing.assert_frame_equal(table(again), rows)
    # Nor is it lost by a run that is told of no names.
    people.run("album", out=tmp_path / "out", settings=album_home, progress=False)
    pd.testing.assert_frame_equal(table(again), rows)
    evaluation = evaluate.run(
        "album", labels=found.csv, top_k=5, out=tmp_path / "evaluation", settings=album_home, progress=False
    )
    assert evaluation.queries == 23
    assert evaluation.figures["precision@1"].mean > 0.9


def test_who_is_seen_too_seldom_is_nobody(album_home: Settings, tmp_path: Path) -> None:
    found = people.run("album", least=20, out=tmp_path / "out", settings=album_home, progress=False)
    assert (found.people, found.alone) == ([], 24)
    assert set(table(found)["person"]) == {""}


def test_a_collection_of_images_is_refused(tmp_path: Path, settings: Settings, networks: Path) -> None:
    settings.home.mkdir()
    settings.networks.symlink_to(networks)
    tree = draw_colours(tmp_path / "colours")
    lookalike = partial(run_lookalike, settings.home)
    lookalike("load", tree, "--backbone", "mobilenetv2", "--weights", "random")
    with pytest.raises(InvalidArgument, match="'colours' holds images; `lookalike load DIR --what faces` makes one"):
        people.run("colours", out=tmp_path, settings=settings)


def test_the_command_prints_a_table(settings: Settings, face_networks: Path, lfw: Path, tmp_path: Path) -> None:
    settings.home.mkdir()
    settings.networks.symlink_to(face_networks)
    tree = album(lfw, tmp_path / "album")
    run = partial(run_lookalike, settings.home)
    run("load", tree, "--what", "faces")
    folders = pd.DataFrame([(f"{p.parent.name}/{p.name}", p.parent.name) for p in tree.glob("*/*.jpg")])
    folders.to_csv(tmp_path / "who.csv", header=["path", "label"], index=False)
    result: subprocess.CompletedProcess[str] = run(
        "people", "album", "--labels", tmp_path / "who.csv", "--out", tmp_path / "out"
    )
    assert result.returncode == 0, result.stderr
    assert "album: 24 faces: 24 of 4 people, 0 like too few others to be anybody's\n" in result.stdout
    assert "person  name             faces  of that label\n" in result.stdout
    assert "pairwise precision 1.0000" in result.stdout
    assert f"everybody: {tmp_path / 'out' / 'people.csv'}\n" in result.stdout
    numbers = json.loads(run("people", "album", "--out", tmp_path / "out", "--json").stdout)
    assert [each["faces"] for each in numbers["people"]] == [6, 6, 6, 6]
    assert describe_collection(connect(settings=settings), "album").of_faces


def test_a_contact_sheet_has_a_cell_for_each_picture() -> None:
    red = Image.new("RGB", (SIDE, SIDE), "red")
    sheet = contact_sheet("red: 3 faces", [red, red, Image.new("RGB", (10, 10), "blue")], columns=2)
    colours = {colour: count for count, colour in sheet.getcolors(10_000) or []}
    assert colours[(255, 0, 0)] == 2 * SIDE * SIDE
    assert colours[(0, 0, 255)] == 100


def test_networks_of_faces_are_compared_by_faces(
    lfw: Path, face_networks: Path, settings: Settings, tmp_path: Path
) -> None:
    settings.home.mkdir()
    settings.networks.symlink_to(face_networks)
    tree = album(lfw, tmp_path / "album")
    (row,) = compare.backbones(tree, ["dlib"], sample=100, out=tmp_path, settings=settings, progress=False).rows
    assert (row.dimension, row.reason) == (128, "")
    assert row.accuracy is not None
    assert row.accuracy.mean == 1
    colours = draw_colours(tmp_path / "colours")
    (row,) = compare.backbones(colours, ["dlib"], sample=100, out=tmp_path, settings=settings, progress=False).rows
    assert row.reason == "too few faces were found"
