"""Videos: which frames are taken, when they are shown, which way up; and files that are damaged or no videos."""

from __future__ import annotations

import itertools
import os
import re
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from utilities.drawn_videos import write_video
from utilities.errors import InvalidArgument, MissingPackage, UnreadableVideo
from utilities.image_files import open_image
from utilities.videos import Report, Sampling, Still, Video, is_video

PLENTY = 10**7
#: Colours that no encoder takes for each other.
COLOURS = ["#d02020", "#20a020", "#2020d0", "#c0c020", "#a020a0"]


def plain(colour: str, size: tuple[int, int] = (64, 48)) -> Image.Image:
    return Image.new("RGB", size, colour)


def scenes(*lengths: int, size: tuple[int, int] = (64, 48)) -> Iterator[Image.Image]:
    """One colour after another, each for so many frames."""
    for length, colour in zip(lengths, itertools.cycle(COLOURS), strict=False):
        yield from itertools.repeat(plain(colour, size), length)


def times(file: Path, sampling: Sampling) -> list[float]:
    return [round(frame.time, 3) for frame in Video(file).frames(sampling, PLENTY)]


def damage(file: Path) -> str:
    video, report = Video(file), Report()
    assert list(video.frames(Sampling(), PLENTY, report))
    return video.damage(report)


def colour(image: Image.Image) -> str:
    """Which of `COLOURS` an image shows most of."""
    mean = np.asarray(image).reshape(-1, 3).mean(0)
    known = [np.asarray(plain(each, (1, 1)))[0, 0].astype(float) for each in COLOURS]
    return COLOURS[int(np.argmin([np.linalg.norm(mean - each) for each in known]))]


def write_at(file: Path, shown: Iterable[tuple[Image.Image, float]]) -> None:
    """A video whose frames are shown at these seconds."""
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1_000)
        for image, time in shown:
            frame = av.VideoFrame.from_image(image)  # type: ignore[no-untyped-call]
            frame.pts, frame.time_base = round(time * 1_000), Fraction(1, 1_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_sound(file: Path, seconds: int = 1, cover: bool = False) -> None:
    with av.open(str(file), "w") as container:
        stream = container.add_stream("aac", rate=44_100)
        stream.layout = "mono"
        for _ in range(seconds):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 44_100), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 44_100
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.fixture
def five_scenes(tmp_path: Path) -> Path:
    """Two seconds of each colour."""
    file = tmp_path / "scenes.mp4"
    write_video(file, scenes(*[24] * 5))
    return file


def test_frames_are_taken_at_even_times(five_scenes: Path) -> None:
    video, report = Video(five_scenes), Report()
    frames = list(video.frames(Sampling(1.0), PLENTY, report))
    assert [round(frame.time, 3) for frame in frames] == list(range(10))
    assert [colour(frame.image) for frame in frames] == [each for each in COLOURS for _ in range(2)]
    assert video.seconds == pytest.approx(10)
    assert (report.damaged, round(report.end, 3), round(report.longest_gap, 3)) == (0, 10, 0)
    assert video.damage(report) == ""
    assert times(five_scenes, Sampling(2.5)) == [0, 2.5, 5, 7.5]
    assert len(times(five_scenes, Sampling(0.01))) == 120
    assert times(five_scenes, Sampling(100)) == [0]
    assert times(five_scenes, Sampling(1.0, most=4)) == [0, 2.5, 5, 7.5]


@pytest.mark.parametrize("every", [0.0, -1.0, float("nan"), float("inf")])
def test_times_that_are_none_are_refused(every: float) -> None:
    with pytest.raises(InvalidArgument, match="cannot be taken every"):
        Sampling(every)


def test_the_first_frame_of_each_scene(tmp_path: Path) -> None:
    file = tmp_path / "scenes.mkv"
    still = [Image.fromarray(each) for each in np.random.default_rng(0).integers(0, 255, (4, 48, 64, 3), np.uint8)]
    lengths = [30, 6, 24, 300]
    frames = [image for image, length in zip(still, lengths, strict=True) for _ in range(length)]
    write_video(file, frames, quality=5)
    found = list(Video(file).frames(Sampling(None), PLENTY))
    # The last scene is so long that it is taken three times.
    assert [frame.time for frame in found] == pytest.approx([0, 2.5, 3, 5, 15, 25], abs=0.01)
    shown = [
        np.argmin([np.abs(np.asarray(frame.image, int) - np.asarray(each)).mean() for each in still]) for frame in found
    ]
    assert shown == [0, 1, 2, 3, 3, 3]


def test_one_scene_is_one_frame(tmp_path: Path) -> None:
    file = tmp_path / "pan.mp4"
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (12, 40, 3), np.uint8)).resize((400, 48))
    write_video(file, (noise.crop((left, 0, left + 64, 48)) for left in range(60)))
    assert times(file, Sampling(None)) == [0]


def test_a_variable_frame_rate_keeps_its_times(tmp_path: Path) -> None:
    file = tmp_path / "variable.mkv"
    # Bursts and pauses: what is shown from 0.3 to 4 s is one frame.
    shown = [0.0, 0.1, 0.2, 0.3, 4.0, 4.05, 4.1, 6.5]
    write_at(file, zip(scenes(4, 3, 1), shown, strict=True))
    found = list(Video(file).frames(Sampling(1.0), PLENTY))
    assert [frame.time for frame in found] == [0.0, 4.0, 6.5]
    assert [colour(frame.image) for frame in found] == COLOURS[:3]
    assert damage(file) == ""  # A picture that stays is no gap.


def test_times_count_from_the_first_frame(tmp_path: Path) -> None:
    file = tmp_path / "late.mkv"
    write_at(file, zip(scenes(3, 3), (100 + 0.5 * number for number in range(6)), strict=True))
    video = Video(file)
    assert [frame.time for frame in video.frames(Sampling(1.0), PLENTY)] == [0, 1, 2]
    assert colour(video.at(2.0, PLENTY)) == COLOURS[1]
    assert video.seconds == pytest.approx(3, abs=0.6)
    assert damage(file) == ""


def test_bars_are_looked_for_all_over_a_recording_that_begins_late(tmp_path: Path) -> None:
    night, day = plain("#000000"), plain("#c0c020")
    night.paste("#808080", (20, 10, 40, 30))
    file = tmp_path / "late.ts"
    write_at(file, [(night if number < 50 else day, 5_000 + number / 25) for number in range(200)])
    assert Video(file).size == (64, 48)


def test_sound_that_is_longer_is_no_damage(tmp_path: Path) -> None:
    file = tmp_path / "song.mkv"
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=12, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("aac", rate=44_100)
        sound.layout = "mono"
        for image in scenes(48):
            container.mux(stream.encode(av.VideoFrame.from_image(image)))  # type: ignore[no-untyped-call]
        container.mux(stream.encode(None))
        for _ in range(15):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 44_100), np.float32), format="fltp", layout="mono")
            silence.sample_rate = 44_100
            container.mux(sound.encode(silence))
        container.mux(sound.encode(None))
    assert damage(file) == ""


@pytest.mark.parametrize("extension", ["ts", "mpg"])
def test_recordings_that_were_put_together_count_on(tmp_path: Path, extension: str) -> None:
    codec = "libx264" if extension == "ts" else "mpeg2video"
    file, parts = tmp_path / f"joined.{extension}", []
    for number, lengths in enumerate([(75, 75), (0, 0, 50, 50)]):
        part = tmp_path / f"{number}.{extension}"
        write_video(part, scenes(*lengths), 25, codec=codec)
        parts.append(part.read_bytes())
    file.write_bytes(b"".join(parts))
    found = list(Video(file).frames(Sampling(), PLENTY))
    assert [round(frame.time) for frame in found] == list(range(10))
    assert [colour(frame.image) for frame in found] == [COLOURS[number] for number in (0, 0, 0, 1, 1, 1, 2, 2, 3, 3)]
    by_scene = times(file, Sampling(None))
    assert by_scene == sorted(set(by_scene))


def test_names_that_look_like_protocols(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("Movie: clip.mp4", "12:30.mp4", "file:x.mp4", "%03d.mp4", "a?b#c.mp4"):
        write_video(tmp_path / "plain.mp4", scenes(12))
        (tmp_path / "plain.mp4").rename(tmp_path / name)
        assert times(Path(name), Sampling()) == [0]


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    file = tmp_path / "wide.mkv"
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=12)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(2, 1)
        for image in scenes(12):
            container.mux(stream.encode(av.VideoFrame.from_image(image)))  # type: ignore[no-untyped-call]
        container.mux(stream.encode(None))
    (frame,) = Video(file).frames(Sampling(), PLENTY)
    assert Video(file).size == frame.image.size == (128, 48)


def test_a_stream_that_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "grows.ts"
    parts = []
    for number, size in enumerate([(64, 48), (320, 240)]):
        part = tmp_path / f"{number}.ts"
        write_video(part, scenes(24, size=size), 12)
        parts.append(part.read_bytes())
    file.write_bytes(b"".join(parts))
    for sampling in (Sampling(0.5), Sampling(None)):
        assert {frame.image.size for frame in Video(file).frames(sampling, PLENTY)} >= {(320, 240)}
    monkeypatch.setattr("utilities.videos.MOST_PIXELS", 30_000)
    assert {frame.image.size for frame in Video(file).frames(Sampling(0.5), PLENTY)} == {(64, 48)}


#: Matrices, and the corner at which they show what is stored in the upper left: quarter turns clockwise, mirrored, and
#: askew by a little.
ONE = 1 << 16
MATRICES = {
    "90": ((0, ONE, -ONE, 0), (-1, 0)),
    "180": ((-ONE, 0, 0, -ONE), (-1, -1)),
    "270": ((0, -ONE, ONE, 0), (0, -1)),
    "mirrored": ((-ONE, 0, 0, ONE), (-1, 0)),
    "mirrored and turned": ((0, -ONE, -ONE, 0), (-1, -1)),
    "askew": ((ONE, ONE // 8, -ONE // 8, ONE), (0, 0)),
}


@pytest.mark.parametrize("how", MATRICES)
def test_a_phone_that_was_held_in_any_way(tmp_path: Path, how: str) -> None:
    stored = plain("#202020")
    stored.paste("#d02020", (0, 0, 32, 24))  # in the upper left
    file = tmp_path / "phone.mp4"
    write_video(file, [stored] * 12)
    # The matrix in the track's header (ISO/IEC 14496-12, section 8.3.2).
    (a, b, c, d), corner = MATRICES[how]
    content = bytearray(file.read_bytes())
    start = content.index(b"tkhd") + 4 + 40
    content[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    file.write_bytes(content)
    video = Video(file)
    (frame,) = video.frames(Sampling(), PLENTY)
    assert video.size == frame.image.size == ((48, 64) if a == 0 else (64, 48))
    pixel = frame.image.getpixel((corner[0] % frame.image.width, corner[1] % frame.image.height))
    assert pixel[0] > 150  # type: ignore[index]  # red is there now


@pytest.mark.parametrize(("across", "down"), [(0, 30), (40, 0), (20, 20)])
def test_black_bars_are_no_part_of_the_picture(tmp_path: Path, across: int, down: int) -> None:
    whole = Image.new("RGB", (128 + 2 * across, 96 + 2 * down))

    def framed(image: Image.Image) -> Image.Image:
        copy = whole.copy()
        copy.paste(image, (across, down))
        return copy

    file = tmp_path / "bars.mp4"
    write_video(file, map(framed, scenes(24, 24, size=(128, 96))))
    video = Video(file)
    assert np.abs(np.subtract(video.size, (128, 96))).max() <= 2
    for frame in video.frames(Sampling(), PLENTY):
        assert frame.image.size == video.size
        assert np.asarray(frame.image).max(axis=2).min() > 100


def test_a_dark_scene_makes_no_bars(tmp_path: Path) -> None:
    night, day = plain("#000000"), plain("#c0c020")
    night.paste("#808080", (20, 10, 40, 30))
    file = tmp_path / "night.mp4"
    write_video(file, [night] * 24 + [day] * 24)
    assert Video(file).size == (64, 48)
    write_video(file, [plain("#000000")] * 24)  # nothing but black
    assert Video(file).size == (64, 48)


def test_a_frame_is_found_again_by_its_time(five_scenes: Path) -> None:
    video = Video(five_scenes)
    for frame in video.frames(Sampling(0.7), PLENTY):
        np.testing.assert_array_equal(video.at(round(frame.time, 3), PLENTY), frame.image)
        np.testing.assert_array_equal(open_image(Still(five_scenes, round(frame.time, 3))), frame.image)
    with pytest.raises(UnreadableVideo, match="has no frame at 11 s"):
        video.at(11, PLENTY)


def test_a_large_frame_is_made_smaller(tmp_path: Path) -> None:
    file = tmp_path / "large.mp4"
    write_video(file, [plain("#20a020", (640, 360))] * 3)
    (frame,) = Video(file).frames(Sampling(), 160 * 90)
    assert frame.image.size == (160, 90)
    assert Video(file).size == (640, 360)


def test_other_containers_and_codecs(tmp_path: Path) -> None:
    for name, codec in (("a.webm", "libvpx-vp9"), ("a.avi", "mpeg4"), ("a.mpg", "mpeg2video"), ("a.mov", "mpeg4")):
        file = tmp_path / name
        rate = 25 if codec == "mpeg2video" else 12
        write_video(file, scenes(2 * rate, 2 * rate), rate, codec=codec)
        found = list(Video(file).frames(Sampling(), PLENTY))
        assert [colour(frame.image) for frame in found] == [COLOURS[0]] * 2 + [COLOURS[1]] * 2, name


def test_a_stream_that_does_not_say_how_long_it_is(tmp_path: Path) -> None:
    file = tmp_path / "live.mkv"
    with (
        file.open("wb") as sink,
        av.open(_OnlyWrites(sink), "w", format="matroska", options={"live": "1"}) as container,
    ):
        stream = container.add_stream("libx264", rate=12, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for image in scenes(24, 24):
            container.mux(stream.encode(av.VideoFrame.from_image(image)))  # type: ignore[no-untyped-call]
        container.mux(stream.encode(None))
    video = Video(file)
    assert video.seconds is None
    assert [round(frame.time, 2) for frame in video.frames(Sampling(), PLENTY)] == [0, 1, 2, 3]
    assert damage(file) == ""
    assert colour(video.at(3.0, PLENTY)) == COLOURS[1]


class _OnlyWrites:
    """A file that a muxer cannot go back in."""

    def __init__(self, file: object) -> None:
        self.write = file.write  # type: ignore[attr-defined]


def no_video(tmp_path: Path, what: str) -> Path:
    file = tmp_path / f"{what.replace(' ', '_')}.mp4"
    if what == "empty":
        file.touch()
    elif what == "text":
        file.write_text("hello")
    elif what == "sound alone":
        write_sound(file)
    elif what == "cut off":
        write_video(file, scenes(24))
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])  # The index of an MP4 stands at its end.
    elif what == "of an unknown kind":
        write_video(file, scenes(24))
        file.write_bytes(file.read_bytes().replace(b"avc1", b"zzzz").replace(b"avcC", b"zzzC"))
    elif what == "a folder":
        file.mkdir()
    elif what == "a pipe":
        os.mkfifo(file)
    elif what == "a playlist":
        write_video(tmp_path / "other.ts", scenes(24))
        file.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nother.ts\n#EXT-X-ENDLIST\n")
    elif what == "a list of files":
        write_video(tmp_path / "other.mp4", scenes(24))
        file.write_text("ffconcat version 1.0\nfile other.mp4\n")
    return file


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("gone", "is not a video that can be opened .No such file"),
        ("empty", "is not a video that can be opened .it is empty"),
        ("text", "is not a video that can be opened .its content is no video"),
        ("a folder", "is not a file"),
        ("a pipe", "is not a file"),
        ("a playlist", "is not a video that can be opened"),
        ("a list of files", "is not a video that can be opened"),
        ("sound alone", "has no video stream"),
        ("cut off", "is not a video that can be opened"),
        ("of an unknown kind", "is of a kind that FFmpeg cannot decode"),
    ],
)
def test_what_is_no_video_is_said_in_a_sentence(tmp_path: Path, what: str, why: str) -> None:
    file = no_video(tmp_path, what)
    with pytest.raises(UnreadableVideo, match=why) as error:
        Video(file)
    assert str(file) in str(error.value)
    assert str(error.value).endswith(".")


def test_giant_frames_are_refused_undecoded(five_scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("utilities.videos.MOST_PIXELS", 3_000)
    with pytest.raises(UnreadableVideo, match="has frames of 64 by 48 pixels, more than 3,000"):
        Video(five_scenes)


def test_a_frame_of_a_video_that_was_replaced(five_scenes: Path) -> None:
    framed = Image.new("RGB", (64, 96))
    framed.paste(plain(COLOURS[2]), (0, 24))
    write_video(five_scenes, [framed] * 12)
    assert open_image(Still(five_scenes, 0.0)).height < 52
    write_video(five_scenes, [plain(COLOURS[1], (64, 96))] * 12)
    still = open_image(Still(five_scenes, 0.0))
    assert (still.size, colour(still)) == ((64, 96), COLOURS[1])
    five_scenes.unlink()
    with pytest.raises(UnreadableVideo, match="No such file"):
        open_image(Still(five_scenes, 0.0))


def test_a_video_without_a_frame(tmp_path: Path) -> None:
    file = tmp_path / "nothing.mkv"
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=12)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
        container.mux(stream.encode(None))
    with pytest.raises(UnreadableVideo, match="is not a video that can be opened"):
        Video(file)


def test_what_decodes_of_a_file_that_is_cut_off_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "cut.mkv"
    noise = np.random.default_rng(0).integers(0, 255, (120, 48, 64, 3), np.uint8)
    write_video(file, map(Image.fromarray, noise))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert times(file, Sampling()) == pytest.approx([0, 1, 2, 3, 4], abs=0.01)
    assert re.search(r"shows nothing after [45]\.\d of 10\.0 s", damage(file))


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.webm", "libvpx-vp9"), ("a.avi", "mpeg4")])
def test_damage_in_the_midst_is_passed_over_and_counted(tmp_path: Path, name: str, codec: str) -> None:
    file = tmp_path / name
    noise = np.random.default_rng(0).integers(0, 255, (120, 48, 64, 3), np.uint8)
    write_video(file, map(Image.fromarray, noise), codec=codec)
    content = bytearray(file.read_bytes())
    # In an early part, since whatever holds the index of the rest may be what is damaged.
    middle, length = 2 * len(content) // 5, len(content) // 15
    content[middle : middle + length] = np.random.default_rng(1).bytes(length)
    file.write_bytes(content)
    found = times(file, Sampling())
    assert found[:3] == pytest.approx([0, 1, 2], abs=0.01)
    assert found[-1] >= 8.9
    assert damage(file).startswith("is damaged")


def test_a_day_of_a_camera(tmp_path: Path) -> None:
    file = tmp_path / "camera.mkv"
    hours = 8
    write_at(file, ((plain(COLOURS[number // 120 % 5]), 30.0 * number) for number in range(hours * 120)))
    found = [(frame.time, colour(frame.image)) for frame in Video(file).frames(Sampling(3_600), PLENTY)]
    assert [time for time, _ in found] == [3_600.0 * hour for hour in range(hours)]
    assert [each for _, each in found] == [COLOURS[hour % 5] for hour in range(hours)]
    assert colour(Video(file).at(7 * 3_600, PLENTY)) == COLOURS[2]


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    short, long = tmp_path / "short.mp4", tmp_path / "long.mp4"
    noise = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
    picture = Image.fromarray(noise).resize((640, 480))

    def turning(frames: int) -> Iterator[Image.Image]:
        return (picture.transpose(Image.Transpose(number // 12 % 7)).resize((640, 480)) for number in range(frames))

    # Both long enough for FFmpeg to have what it keeps for later.
    write_video(short, turning(1_200))
    write_video(long, turning(4_800))
    program = (
        "import re, sys; from pathlib import Path; from utilities.videos import *;"
        "print(sum(1 for _ in Video(Path(sys.argv[1])).frames(Sampling(0.1), 10**7)),"
        # Not `getrusage`, whose peak Linux counts from the process that began this one.
        "int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) // 1024)"
    )

    def taken_and_mebibytes(file: Path) -> tuple[int, int]:
        output = subprocess.run([sys.executable, "-c", program, file], check=True, capture_output=True, text=True)
        taken, mebibytes = map(int, output.stdout.split())
        return taken, mebibytes

    (few, before), (many, after) = taken_and_mebibytes(short), taken_and_mebibytes(long)
    assert many > 3 * few
    # A second of these frames, uncompressed, has 10 MiB.
    assert after - before < 30


def test_names_of_videos() -> None:
    assert is_video("a/Clip.MP4")
    assert is_video(Path("x.webm"))
    assert not is_video("a.jpg")
    assert not is_video(b".mp4")


def test_without_pyav_it_is_said_what_to_install(five_scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingPackage, match=r"pip install -e '\.\[videos\]'"):
        Video(five_scenes)
