"""Collections of videos: what is an item, what becomes of it when its file changes, how a load that died goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pymilvus import MilvusClient

from pipelines import evaluate, explore, load, manage, people, reduce
from tests.conftest import MeanColour
from tests.serving import run_lookalike
from tests.test_videos import COLOURS, colour, scenes, write_sound
from utilities.changes import new_or_changed
from utilities.drawn_videos import write_video
from utilities.errors import EmbedderMismatch, InvalidArgument, NoImagesFound, UnreadableVideo
from utilities.id_map import IdMap
from utilities.image_files import open_image
from utilities.item_streams import embed_files, merged, sample_pixels
from utilities.items import item_id
from utilities.matches import pictures_of
from utilities.milvus_utilities import connect, delete_items, describe_collection, read_items, stored_items
from utilities.selections import Selection
from utilities.settings import Settings
from utilities.similar_images import plot_similar_images, search, similar_images
from utilities.video_to_vec import video_to_vec
from utilities.videos import Sampling

#: Frames, at 12 a second, of each of `COLOURS` in each video of the tree, and the items that its sampled frames make:
#: one a colour.
LENGTHS = {"a/first.mp4": (24, 36, 12), "a/second.mkv": (0, 0, 24, 30), "b/third.webm": (12, 0, 0, 0, 48)}
ITEMS = 3 + 2 + 2


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "films"
    for path, lengths in LENGTHS.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        write_video(root / path, scenes(*lengths), codec="libvpx-vp9" if path.endswith("webm") else "libx264")
    (root / "a" / "cover.png").write_bytes(b"no video")
    return root


def run(tree: Path, settings: Settings, **arguments: object) -> load.LoadSummary:
    arguments = {"what": "videos", "embedder": MeanColour(), **arguments}
    return load.run(tree, settings=settings, progress=False, **arguments)  # type: ignore[arg-type]


def counts(summary: load.LoadSummary) -> tuple[int, int, int, int]:
    assert summary.found == sum(
        (summary.inserted, summary.unchanged, summary.without_faces, summary.failed, summary.left)
    )
    return summary.inserted, summary.unchanged, summary.failed, summary.items


def stretches(settings: Settings, path: str) -> list[tuple[float, float]]:
    client = connect(settings=settings)
    rows = read_items(client, "films", describe_collection(client, "films").attributes)
    assert sorted(rows["id"]) == sorted(IdMap(settings.id_map_path("films")).read()["id"])
    return sorted(
        (start, end) for start, end, each in zip(rows["time"], rows["until"], rows["path"], strict=True) if each == path
    )


def test_items_are_stretches_of_videos(client: MilvusClient, client_settings: Settings, tree: Path) -> None:
    summary = run(tree, client_settings)
    assert counts(summary) == (3, 0, 0, ITEMS)
    assert (summary.what, summary.item_is, summary.damaged) == ("videos", "frame", 0)
    info = describe_collection(client, "films")
    assert info.sampling == Sampling(1.0)
    rows = {row["id"]: row for page in stored_items(client, "films", fields=["*"]) for row in page}
    first = [row for row in rows.values() if row["path"] == "a/first.mp4"]
    assert sorted((row["part"], row["time"], row["until"], row["items"]) for row in first) == [
        ("0.000", 0, 2, 0),
        ("2.000", 2, 5, 0),
        ("5.000", 5, 6, 3),
    ]
    for row in first:
        assert row["id"] == item_id("a/first.mp4", row["part"])
        assert (row["label"], row["width"], row["height"]) == ("a", 64, 48)
        assert row["file_size"] == (tree / "a/first.mp4").stat().st_size
    # Loading twice changes nothing.
    assert counts(run(tree, client_settings, what=None)) == (0, 3, 0, ITEMS)
    assert {row["id"] for page in stored_items(client, "films", fields=["id"]) for row in page} == {
        row["id"] for row in rows.values()
    }


def test_a_clip_and_a_picture_find_their_video(client: MilvusClient, client_settings: Settings, tree: Path) -> None:
    run(tree, client_settings)
    clip, picture = tree.parent / "clip.mp4", tree.parent / "picture.png"
    write_video(clip, scenes(0, 0, 12, 24))
    Image.new("RGB", (30, 30), COLOURS[4]).save(picture)
    of_clip, of_picture = search(
        [clip, picture], "films", client=client, embedder=MeanColour(), settings=client_settings
    )
    assert of_clip.matches[0].path == "a/second.mkv"
    assert len(of_clip.matches) == 3
    assert [(span.start, span.end) for span in of_clip.matches[0].spans] == [(0, 4.5)]
    assert of_clip.picture is not None
    assert of_picture.picture is None
    first = of_picture.matches[0]
    assert (first.path, first.time, [str(span) for span in first.spans]) == ("b/third.webm", 1, ["1.0–5.0 s"])
    assert colour(open_image(first.picture)) == COLOURS[4]
    # A clip first, or last, or alone: every answer belongs to its query.
    for queries in ([picture, clip], [clip, picture], [clip], [picture, picture, clip, clip]):
        answers = search(queries, "films", Selection(1), client=client, embedder=MeanColour(), settings=client_settings)
        assert [answer.query for answer in answers] == list(range(len(queries)))
        for each, answer in zip(queries, answers, strict=True):
            assert answer.matches[0].path == ("a/second.mkv" if each == clip else "b/third.webm")


def test_a_video_that_has_changed_is_embedded_anew(client_settings: Settings, client: MilvusClient, tree: Path) -> None:
    assert client
    run(tree, client_settings)
    assert len(stretches(client_settings, "a/first.mp4")) == 3
    write_video(tree / "a/first.mp4", scenes(0, 24))
    write_video(tree / "new.mov", scenes(12))
    assert counts(run(tree, client_settings)) == (2, 2, 0, ITEMS - 3 + 1 + 1)
    assert stretches(client_settings, "a/first.mp4") == [(0, 2)]
    # The same size and time, other bytes: only `verify` looks at them.
    file = tree / "new.mov"
    status = file.stat()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert counts(run(tree, client_settings)) == (0, 4, 0, ITEMS - 1)
    assert counts(run(tree, client_settings, verify=True)) == (1, 3, 0, ITEMS - 1)
    file.unlink()
    assert run(tree, client_settings).vanished == 1
    assert run(tree, client_settings, prune=True).items == ITEMS - 2


def test_a_load_that_died_in_the_midst_of_a_video_is_mended(
    client: MilvusClient, client_settings: Settings, tree: Path
) -> None:
    run(tree, client_settings)
    for part in ("0.000", "2.000", "5.000"):  # the last says how many there are
        delete_items(client, "films", [item_id("a/first.mp4", part)])
        assert counts(run(tree, client_settings)) == (1, 2, 0, ITEMS)
        assert stretches(client_settings, "a/first.mp4") == [(0, 2), (2, 5), (5, 6)]


def test_videos_whose_items_disagree_are_not_whole(tree: Path) -> None:
    status = (tree / "a/first.mp4").stat()
    whole = pd.DataFrame(
        {
            "path": "a/first.mp4",
            "file_size": status.st_size,
            "file_mtime_ns": status.st_mtime_ns,
            "file_digest": "x",
            "items_of_file": [0, 0, 3],
        }
    )
    assert new_or_changed(tree, ["a/first.mp4"], whole) == []
    assert new_or_changed(tree, ["a/first.mp4"], whole.assign(items_of_file=[0, 0, 0])) == ["a/first.mp4"]
    assert new_or_changed(tree, ["a/first.mp4"], whole.assign(items_of_file=[0, 0, 2])) == ["a/first.mp4"]
    assert new_or_changed(tree, ["a/first.mp4"], whole.assign(file_digest=["x", "x", "y"])) == ["a/first.mp4"]


def test_what_cannot_be_read_is_listed_and_what_decodes_is_taken(
    settings: Settings, tree: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_sound(tree / "a/song.mp4")
    (tree / "b/empty.avi").touch()
    noise = np.random.default_rng(0).integers(0, 255, (120, 48, 64, 3), np.uint8)
    cut = tree / "cut.mkv"
    write_video(cut, map(Image.fromarray, noise))
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    summary = run(tree, settings)
    assert counts(summary)[:3] == (4, 0, 2)
    assert summary.damaged == 1
    assert "cut.mkv shows nothing after" in caplog.text
    assert summary.failures is not None
    failures = pd.read_csv(summary.failures)
    assert failures["path"].tolist() == ["a/song.mp4", "b/empty.avi"]
    assert "has no video stream" in failures["reason"][0]
    again = run(tree, settings)
    assert counts(again)[:3] == (0, 4, 2)


def test_a_video_that_is_being_written_fails_and_is_taken_when_it_is_done(settings: Settings, tree: Path) -> None:
    class Records(MeanColour):
        def embed(self, pixels: np.ndarray) -> np.ndarray:
            (tree / "a/first.mp4").touch()
            return super().embed(pixels)

    # Long enough that the network sees its beginning before its end is decoded.
    write_video(tree / "a/first.mp4", scenes(*[12] * 400))
    summary = run(tree, settings, embedder=Records())
    assert counts(summary)[:3] == (2, 0, 1)
    assert summary.failures is not None
    assert "was written to while it was read" in summary.failures.read_text()
    assert counts(run(tree, settings))[:3] == (1, 2, 0)
    assert len(stretches(settings, "a/first.mp4")) == 400


def test_names_that_no_utf_8_is(settings: Settings, tree: Path) -> None:
    (tree / "b/third.webm").rename(tree / "b" / os.fsdecode(b"\xff.webm"))
    summary = run(tree, settings)
    assert counts(summary) == (2, 0, 1, ITEMS - 2)
    assert summary.failures is not None
    assert "is not UTF-8; rename the file" in summary.failures.read_text()


def test_a_collection_keeps_what_it_holds(settings: Settings, tree: Path, colour_tree: Path) -> None:
    run(tree, settings)
    with pytest.raises(EmbedderMismatch, match="'films' holds videos, not images; load into another --collection"):
        run(tree, settings, what="images")
    with pytest.raises(EmbedderMismatch, match="'films' holds frames of videos, not the faces in them"):
        run(tree, settings, faces=True)
    with pytest.raises(InvalidArgument, match="'films' holds frames of videos, taken every 1 s; load into another"):
        run(tree, settings, every=2.0)
    with pytest.raises(InvalidArgument, match="'films' holds frames of videos, taken every 1 s; load into another"):
        run(tree, settings, what=None, scenes=True)
    assert counts(run(tree, settings, what=None, every=1.0)) == (0, 3, 0, ITEMS)
    load.run(colour_tree, embedder=MeanColour(), settings=settings, progress=False)
    with pytest.raises(EmbedderMismatch, match="'colours' holds images, not videos"):
        run(colour_tree, settings, collection="colours")


def test_calls_that_contradict_themselves(settings: Settings, tree: Path, colour_tree: Path) -> None:
    for arguments in ({"every": 1.0}, {"scenes": True}, {"faces": True}):
        with pytest.raises(InvalidArgument, match="--every, --scenes and --faces say something of videos"):
            run(tree, settings, what=None, **arguments)
    with pytest.raises(InvalidArgument, match="--every and --scenes say different things"):
        run(tree, settings, every=1.0, scenes=True)
    with pytest.raises(InvalidArgument, match="cannot be taken every 0 seconds"):
        run(tree, settings, every=0.0)
    with pytest.raises(InvalidArgument, match="--backbone resnet50 embeds images, not faces"):
        run(tree, settings, embedder=None, faces=True, backbone="resnet50")
    with pytest.raises(NoImagesFound, match="No video lies in"):
        run(colour_tree, settings)
    (tree / "a/cover.png").unlink()
    with pytest.raises(NoImagesFound, match=r"No image lies in .*; the 3 videos there are loaded with --what videos"):
        run(tree, settings, what=None)


def test_frames_by_scene(settings: Settings, tmp_path: Path) -> None:
    root = tmp_path / "films"
    root.mkdir()
    still = np.random.default_rng(0).integers(0, 255, (3, 48, 64, 3), np.uint8)
    still[1, ..., 0] = 255  # Of other mean colours than noise.
    still[2, ..., 2] = 255
    frames = [Image.fromarray(each) for each, length in zip(still, (30, 40, 20), strict=True) for _ in range(length)]
    write_video(root / "a.mp4", frames)
    assert run(root, settings, scenes=True).items == 3
    assert np.round([start for start, _ in stretches(settings, "a.mp4")], 2).tolist() == [0, 2.5, 5.83]
    assert describe_collection(connect(settings=settings), "films").sampling == Sampling(None)


def test_videos_in_memory(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    embeddings, items = video_to_vec(tree, embedder=MeanColour(), progress=False)
    assert embeddings.shape == (ITEMS, 3)
    assert [item.path for item in items] == ["a/first.mp4"] * 3 + ["a/second.mkv"] * 2 + ["b/third.webm"] * 2
    assert [item.attributes["time"] for item in items] == [0, 2, 5, 0, 2, 0, 1]
    every = video_to_vec(tree, "MKV", sampling=Sampling(3.0), embedder=MeanColour(), progress=False)[1]
    assert [(item.path, item.part) for item in every] == [("a/second.mkv", "0.000"), ("a/second.mkv", "3.000")]
    (tree / "a/second.mkv").write_bytes(b"x")
    with pytest.raises(UnreadableVideo, match="None of the 1 videos"):
        video_to_vec(tree, "mkv", embedder=MeanColour(), progress=False)
    assert "Left out: " in caplog.text


def test_the_stream_is_lazy_and_ends_when_it_is_closed(tmp_path: Path) -> None:
    for number in range(6):
        write_video(tmp_path / f"{number}.mp4", scenes(*[12] * 60))
    stream = embed_files(tmp_path, [f"{number}.mp4" for number in range(6)], MeanColour(), Settings(), Sampling(1.0))
    next(stream)
    assert any(thread.name.startswith("decode") for thread in threading.enumerate())
    stream.close()
    assert not any(thread.name.startswith(("decode", "prepare")) for thread in threading.enumerate())


def test_a_video_in_which_nothing_happens_is_heard_of_meanwhile(tmp_path: Path) -> None:
    write_video(tmp_path / "still.mp4", scenes(12 * 600))
    chunks = list(merged(embed_files(tmp_path, ["still.mp4"], MeanColour(), Settings(), Sampling(0.1)), 64))
    assert len(chunks) > 10
    assert [len(chunk.items) for chunk in chunks] == [0] * (len(chunks) - 1) + [1]
    assert all(chunk.embeddings.base is None or len(chunk.embeddings) for chunk in chunks)


def test_a_video_that_fails_keeps_what_is_known_of_it(settings: Settings, tree: Path) -> None:
    # A space as macOS writes it, which is not printable.
    name = "a/Recording\u202fPM.mp4"
    (tree / "a/first.mp4").rename(tree / name)
    run(tree, settings)
    (tree / name).write_bytes(b"x")
    assert counts(run(tree, settings)) == (0, 2, 1, ITEMS)
    assert len(stretches(settings, name)) == 3
    assert name in pd.read_csv(settings.failures_path("films"))["path"].tolist()


def test_a_sample_is_of_all_videos(tree: Path) -> None:
    pixels = sample_pixels(tree, sorted(LENGTHS), 6, MeanColour(), Settings(), Sampling(0.1))
    assert pixels.shape == (6, 8, 8, 3)
    # Two of each.
    assert [colour(Image.fromarray(each)) for each in pixels].count(COLOURS[4]) == 1
    assert len({colour(Image.fromarray(each)) for each in pixels}) >= 4
    by_scene = sample_pixels(tree, sorted(LENGTHS), 6, MeanColour(), Settings(), Sampling(None))
    np.testing.assert_array_equal(by_scene, pixels)


def test_everything_else_that_is_done_with_a_collection(settings: Settings, tree: Path, tmp_path: Path) -> None:
    write_video(tree / "c.mp4", scenes(*[12] * 12))
    run(tree, settings)
    client = connect(settings=settings)
    info = describe_collection(client, "films")
    items = read_items(client, "films", info.attributes)
    for picture, path, time_ in zip(pictures_of(info, items), items["path"], items["time"], strict=True):
        assert open_image(picture).size == (64, 48)
        assert str(picture) == f"{tree / path} at {time_:g} s"
    exploration = explore.run("films", sample=100, clusters=2, out=tmp_path / "out", settings=settings, progress=False)
    assert (exploration.sample, exploration.unreadable) == (ITEMS + 12, 0)
    with pytest.raises(InvalidArgument, match="`--what videos --faces` one of faces in videos"):
        people.run("films", out=tmp_path / "out", settings=settings)
    with pytest.raises(InvalidArgument, match="would only find itself"):
        evaluate.run("films", out=tmp_path / "out", settings=settings)
    # The path of a video names all of its frames.
    assert manage.delete("films", ["a/first.mp4"], settings=settings) == 3
    assert counts(run(tree, settings)) == (1, 3, 0, ITEMS + 12)
    moved = tree.rename(tmp_path / "elsewhere")
    assert counts(run(moved, settings, collection="films", moved=True)) == (0, 4, 0, ITEMS + 12)


def test_queries_that_cannot_be(settings: Settings, tree: Path, colour_tree: Path) -> None:
    run(tree, settings)
    load.run(colour_tree, embedder=MeanColour(), settings=settings, progress=False)
    clip = tree / "a/first.mp4"
    ask = {"embedder": MeanColour(), "settings": settings}
    with pytest.raises(InvalidArgument, match="is a video, and 'colours' holds images; `lookalike load DIR --what"):
        similar_images(clip, "colours", **ask)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="--face is for collections of faces; 'films' holds videos"):
        similar_images(clip, "films", face=1, **ask)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="is the address of a video, which is not fetched"):
        similar_images("https://example.org/clip.mp4", "films", **ask)  # type: ignore[arg-type]
    with pytest.raises(UnreadableVideo, match=r"gone\.mp4 is not a video that can be opened"):
        similar_images(tree / "gone.mp4", "films", **ask)  # type: ignore[arg-type]


def test_a_plot_shows_frames_and_copes_with_files_that_are_gone(settings: Settings, tree: Path, tmp_path: Path) -> None:
    run(tree, settings)
    clip = tmp_path / "clip.mp4"
    write_video(clip, scenes(12, 12))
    shutil.rmtree(tree / "b")
    figure = plot_similar_images(clip, "films", embedder=MeanColour(), settings=settings)
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[0] == "Query"
    assert titles[1].startswith("1 · 1.000  a/first.mp4")
    assert {"0.0 s", "2.0 s", "0.0–5.0 s"} <= {*texts}
    assert "file cannot\nbe read" in texts
    figure.savefig(tmp_path / "plot.png")


@pytest.fixture
def film(lookalike: Callable[..., subprocess.CompletedProcess[str]], tree: Path) -> Path:
    """The tree, loaded by the command."""
    loading = lookalike("load", tree, "--what", "videos", "--backbone", "mobilenetv2", "--weights", "random")
    assert loading.returncode == 0, loading.stderr
    assert "3 found: 3 inserted, 0 unchanged, 0 failed; films holds" in loading.stdout
    assert "frames\n" in loading.stdout
    return tree


def test_the_commands_say_what_they_found(
    lookalike: Callable[..., subprocess.CompletedProcess[str]], film: Path, tmp_path: Path
) -> None:
    found = lookalike("query", film / "a/first.mp4", "--plot", tmp_path / "plot.png")
    assert found.returncode == 0, found.stderr
    lines = found.stdout.splitlines()
    assert lines[2].split() == ["rank", "similarity", "where", "path"]
    assert lines[3].endswith("0.0–6.0 s  a/first.mp4")
    assert (tmp_path / "plot.png").stat().st_size > 10_000
    answer = json.loads(lookalike("query", film / "b/third.webm", "--json").stdout)
    first = answer["matches"][0]
    assert first["path"] == "b/third.webm"
    assert first["similarity"] == pytest.approx(1, abs=1e-3)
    assert first["spans"][0]["start"] == 0
    assert {"id", "time", "score"} <= set(first["frames"][0])
    info = json.loads(lookalike("info", "films", "--json").stdout)
    assert (info["what"], info["item_is"], info["frames"]) == ("videos", "frame", "every 1 s")
    assert "frames  mobilenetv2" in lookalike("collections").stdout
    refused = lookalike("query", film / "a/cover.png")
    assert (refused.returncode, "is not an image" in refused.stderr) == (1, True)


def test_without_pyav_the_command_says_what_to_install(settings: Settings, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "without" / "av").mkdir(parents=True)
    (tmp_path / "without" / "av" / "__init__.py").write_text("raise ImportError(\"No module named 'av'\")\n")
    path = f"{tmp_path / 'without'}:{Path(__file__).parents[1]}"
    result = run_lookalike(settings.home, "load", tree, "--what", "videos", PYTHONPATH=path)
    assert result.returncode == 1
    assert "pip install -e '.[videos]'" in result.stderr
    assert "Traceback" not in result.stderr


def test_ctrl_c_in_the_midst_of_a_long_video(settings: Settings, test_data: Path, tmp_path: Path) -> None:
    tree = tmp_path / "films"
    tree.mkdir()
    blocks = list(map(Image.fromarray, np.random.default_rng(0).integers(0, 255, (400, 3, 4, 3), np.uint8)))
    write_video(tree / "long.mp4", (each for block in blocks for each in [block.resize((64, 48), 0)] * 12))
    weights = str(test_data / "weights/mobilenetv2_imagenet_notop.weights.h5")
    command = [str(Path(sys.executable).with_name("lookalike")), "load", str(tree), "--what", "videos"]
    command += ["--every", "0.1", "--backbone", "mobilenetv2", "--weights", weights]
    environment = {**os.environ, "LOOKALIKE_HOME": str(settings.home)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    id_map = IdMap(settings.id_map_path("films"))
    while process.poll() is None and not (id_map.path.exists() and len(id_map.read())):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    printed, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "Stopped with 1 video left; the same command goes on from there." in said
    assert "1 found: 0 inserted, 0 unchanged, 0 failed, 1 left" in printed
    assert "Traceback" not in said
    before = len(id_map.read())
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert "1 found: 1 inserted" in result.stdout, result.stderr
    assert len(id_map.read()) > before > 0
    # Fewer dimensions of the same videos.
    reduction = reduce.run("films", into="fewer", pca=32, out=tmp_path / "out", settings=settings, progress=False)
    assert reduction.into == ("fewer", len(id_map.read()), 32)
    # A folder's name says nothing of frames that find their neighbours.
    assert reduction.full.precision is None
    clip = tmp_path / "clip.mp4"
    write_video(clip, (each for block in blocks[200:204] for each in [block.resize((64, 48), 0)] * 12))
    (match,) = similar_images(clip, "fewer", settings=settings)
    assert (match.path, [str(span) for span in match.spans]) == ("long.mp4", ["200.0–204.0 s"])
