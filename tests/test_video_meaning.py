"""Copies of clips find their videos, and people those that show them: measured with real networks on real pictures."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines import load
from tests.altered_videos import ALTERATIONS, LONG, frames_between, write_clip
from utilities.collection_info import CollectionInfo
from utilities.drawn_videos import draw_videos, moving_pictures, write_video
from utilities.embedder import Embedder, embedder_of
from utilities.matches import Match
from utilities.milvus_utilities import connect, describe_collection
from utilities.selections import Selection
from utilities.settings import Settings
from utilities.similar_images import Answer, search
from utilities.videos import Video

VIDEOS = 60


@dataclass(frozen=True)
class Searched:
    """A collection, and what is needed to search it many times."""

    info: CollectionInfo
    embedder: Embedder
    settings: Settings
    files: list[Path]

    def ask(self, query: Path, top_k: int = VIDEOS) -> Answer:
        client = connect(settings=self.settings)
        (answer,) = search(
            [query], self.info.name, Selection(top_k), client=client, embedder=self.embedder, settings=self.settings
        )
        return answer


def searched(root: Path, settings: Settings, **arguments: object) -> Searched:
    summary = load.run(root, what="videos", settings=settings, progress=False, **arguments)  # type: ignore[arg-type]
    assert (summary.inserted, summary.failed, summary.damaged) == (VIDEOS, 0, 0)
    info = describe_collection(connect(settings=settings), root.name)
    return Searched(info, embedder_of(info.fingerprint, settings), settings, sorted(root.glob("*.mp4")))


@pytest.fixture(scope="module")
def corpus(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """Sixty videos of 10 to 30 seconds over pictures of Caltech 101."""
    folder = tmp_path_factory.mktemp("corpus")
    draw_videos(folder / "videos", sorted((test_data / "data/caltech101").glob("*/*.jpg")), VIDEOS)
    weights = str(test_data / "weights/mobilenetv2_imagenet_notop.weights.h5")
    return searched(folder / "videos", Settings(home=folder / "home"), backbone="mobilenetv2", weights=weights)


@pytest.fixture(scope="module")
def found(corpus: Searched, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[float, Match | None]]]:
    """Of each alteration, and each video: where in it a clip of five seconds began, and the video among the matches."""
    clip = tmp_path_factory.mktemp("clips") / "clip.mp4"
    results: dict[str, list[tuple[float, Match | None]]] = {alteration: [] for alteration in ALTERATIONS}
    for number, file in enumerate(corpus.files):
        length = Video(file).seconds
        assert length is not None
        assert length >= 10
        begins = random.Random(number).uniform(0, length - LONG)
        frames = frames_between(file, begins, begins + LONG)
        for alteration, result in results.items():
            write_clip(clip, frames, alteration)
            matches = corpus.ask(clip, 3).matches
            result.append((begins, next((match for match in matches if match.file == file), None)))
    return results


@pytest.mark.parametrize("alteration", ALTERATIONS)
def test_a_copy_of_a_clip_finds_its_video_and_its_place(
    found: dict[str, list[tuple[float, Match | None]]], alteration: str
) -> None:
    first = placed = 0
    for begins, match in found[alteration]:
        if match is None:
            continue
        first += match.rank == 1
        placed += match.spans[0].start < begins + LONG and match.spans[0].end > begins
        # And not just all of it.
        assert sum(span.end - span.start for span in match.spans) <= 4 * LONG
    print(f"{alteration}: {first} of {VIDEOS} first, {placed} in their place")
    assert first >= 0.95 * VIDEOS
    assert placed >= 0.90 * VIDEOS


@pytest.fixture(scope="module")
def broadcasts(lfw: Path, face_networks: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Searched, np.ndarray]:
    """Sixty videos, in each of which four people appear, and who: (videos, people) truth."""
    folder = tmp_path_factory.mktemp("broadcasts")
    (folder / "videos").mkdir()
    (folder / "home").mkdir()
    (folder / "home" / "networks").symlink_to(face_networks)
    people = sorted(each for each in lfw.iterdir() if each.is_dir())
    truth = np.zeros((VIDEOS, len(people)), bool)
    for number in range(VIDEOS):
        draw = random.Random(number)
        shown = draw.sample(range(len(people)), 4)
        truth[number, shown] = True
        # The first ten photographs of each are for videos; with the others they are searched for.
        pictures = [draw.choice(sorted(people[person].glob("*.jpg"))[:10]) for person in shown]
        write_video(folder / "videos" / f"{number:02}.mp4", moving_pictures(pictures, 20, number))
    return searched(folder / "videos", Settings(home=folder / "home"), faces=True), truth


def test_another_picture_of_a_person_finds_the_videos_that_show_them(
    broadcasts: tuple[Searched, np.ndarray],
    lfw: Path,
) -> None:
    videos, truth = broadcasts
    people = sorted(each for each in lfw.iterdir() if each.is_dir())
    values = []
    for number in np.flatnonzero(truth.any(axis=0)):
        query = sorted(people[number].glob("*.jpg"))[10:][number % 10]
        matches = videos.ask(query).matches
        right = np.array([truth[videos.files.index(match.file), number] for match in matches])
        places = np.flatnonzero(right) + 1
        # Videos that are not found at all count as found last.
        values.append(sum(rank / place for rank, place in enumerate(places, start=1)) / truth[:, number].sum())
    mean = float(np.mean(values))
    print(f"mean average precision {mean:.4f} over {len(values)} people and {truth.sum()} appearances")
    assert mean >= 0.95


def test_a_clip_of_a_person_finds_the_others(
    broadcasts: tuple[Searched, np.ndarray],
    lfw: Path,
    tmp_path: Path,
) -> None:
    videos, truth = broadcasts
    people = sorted(each for each in lfw.iterdir() if each.is_dir())
    right = 0
    sought = np.flatnonzero(truth.any(axis=0))[:20]
    for number in sought:
        photograph = sorted(people[number].glob("*.jpg"))[15]
        write_video(tmp_path / "clip.mp4", [Image.open(photograph).resize((320, 320))] * 24)
        answer = videos.ask(tmp_path / "clip.mp4", 1)
        assert answer.faces
        assert answer.matches[0].box is not None
        right += bool(truth[videos.files.index(answer.matches[0].file), number])
    assert right >= 18
