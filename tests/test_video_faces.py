"""Collections of faces in videos: what an item is, and what becomes of videos that show nobody."""

from __future__ import annotations

from itertools import repeat
from pathlib import Path

import pytest
from PIL import Image

from pipelines import load, people, query
from tests.face_pictures import PEOPLE, photographs
from utilities.drawn_videos import write_video
from utilities.errors import InvalidArgument, NoFace
from utilities.faces import Face
from utilities.milvus_utilities import connect, describe_collection, read_items
from utilities.settings import Settings
from utilities.similar_images import plot_similar_images, search, similar_images

FPS = 4


@pytest.fixture(scope="module")
def news(lfw: Path, face_networks: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Settings]:
    """Videos of two people each, three seconds long, and one of a wall; loaded."""
    folder = tmp_path_factory.mktemp("news")
    tree, settings = folder / "news", Settings(home=folder / "home")
    tree.mkdir()
    settings.home.mkdir()
    settings.networks.symlink_to(face_networks)
    wall = Image.new("RGB", (320, 240), "#c0b090")
    for number, person in enumerate(PEOPLE):
        others = [PEOPLE[(number + 1) % len(PEOPLE)], person]
        shown = [Image.open(photographs(lfw, each)[number]).resize((240, 240)) for each in others]
        frames = []
        for picture in shown:
            frame = wall.copy()
            frame.paste(picture, (40, 0))
            frames += [*repeat(frame, 3 * FPS), *repeat(wall, FPS)]
        write_video(tree / f"{person}.mp4", frames, FPS)
    write_video(tree / "wall.mp4", [wall] * 12, FPS)
    summary = run(tree, settings)
    assert (summary.found, summary.inserted, summary.without_faces) == (5, 4, 1)
    assert summary.item_is == "face"
    return tree, settings


def run(tree: Path, settings: Settings) -> load.LoadSummary:
    return load.run(tree, what="videos", faces=True, settings=settings, progress=False)


def test_a_second_load_changes_nothing(news: tuple[Path, Settings]) -> None:
    tree, settings = news
    again = run(tree, settings)
    assert (again.inserted, again.unchanged, again.without_faces) == (0, 4, 1)
    client = connect(settings=settings)
    items = read_items(client, "news", describe_collection(client, "news").attributes)
    # Each face is one item for as long as it is shown, or two where it is encoded a little otherwise at first.
    assert 8 <= len(items) <= 12
    assert items.groupby("path")["items"].max().tolist() == items.groupby("path").size().tolist()
    assert all(part.count("/") == 1 for part in items["part"])


def test_a_photograph_and_a_clip_find_who_is_in_them(news: tuple[Path, Settings], lfw: Path, tmp_path: Path) -> None:
    _, settings = news
    person = PEOPLE[1]
    photograph, clip = photographs(lfw, person)[8], tmp_path / "clip.mp4"
    write_video(clip, [Image.open(photograph).resize((300, 300))] * 8, FPS)
    truth = {f"{person}.mp4", f"{PEOPLE[0]}.mp4"}
    for answer in search([photograph, clip], "news", settings=settings):
        assert {match.path for match in answer.matches[:2]} == truth
        assert answer.face == 1
        for match in answer.matches[:2]:
            # In his own video a person comes second, in that of the one before first.
            assert match.face is not None
            assert match.time is not None
            assert (match.time >= 4) == (match.path == f"{person}.mp4")
            assert match.spans[0].start <= match.time <= match.spans[0].end
            assert all(isinstance(frame.face, Face) for frame in match.frames)
    plot_similar_images(clip, "news", settings=settings).savefig(tmp_path / "plot.png")
    (best, *_) = similar_images(photograph, "news", 1, filter="time >= 4", settings=settings)
    assert best.path == f"{person}.mp4"


def test_a_clip_is_not_searched_with_by_one_face(news: tuple[Path, Settings], lfw: Path, tmp_path: Path) -> None:
    tree, settings = news
    (result,) = query.run([str(tree / f"{PEOPLE[0]}.mp4")], collection="news", settings=settings)
    assert (result.face, result.faces) == (None, None)
    assert result.matches[0].path == f"{PEOPLE[0]}.mp4"
    with pytest.raises(NoFace, match=r"No face was found in any frame of .*wall\.mp4"):
        query.run([str(tree / "wall.mp4")], collection="news", settings=settings)
    with pytest.raises(InvalidArgument, match="--face is for pictures; of a clip"):
        query.run([str(tree / "wall.mp4")], collection="news", face=1, settings=settings)


def test_a_label_of_a_video_names_nobody_in_it(news: tuple[Path, Settings], tmp_path: Path) -> None:
    _, settings = news
    items = read_items(connect(settings=settings), "news")
    labels = tmp_path / "labels.csv"
    items[["path"]].drop_duplicates().assign(label="somebody").to_csv(labels, index=False)
    with pytest.raises(InvalidArgument, match=r"names none of the .* and its part, such as '\d+\.\d{3}/1'"):
        people.run("news", labels=labels, out=tmp_path / "people", settings=settings, progress=False)
    items[["path", "part"]].head(2).assign(label="somebody").to_csv(labels, index=False)
    found = people.run("news", labels=labels, least=2, out=tmp_path / "people", settings=settings, progress=False)
    assert found.faces == len(items)


def test_people_and_maps_show_frames(news: tuple[Path, Settings], tmp_path: Path) -> None:
    _, settings = news
    found = people.run("news", least=2, out=tmp_path / "people", settings=settings, progress=False)
    assert found.faces >= 8
