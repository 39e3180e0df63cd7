"""Near-identical images are grouped, nothing else is, and what is moved is lost to nobody."""

from __future__ import annotations

import io
import json
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont
from pymilvus import MilvusClient

from benchmarks.altered_images import write_copies
from benchmarks.duplicates import measure
from pipelines import duplicates, load, manage
from tests.conftest import MeanColour
from tests.test_ensemble_collections import MeanSquare
from utilities.augmented_collections import copy_augmented
from utilities.collection_info import unstated_fingerprint
from utilities.ensembles import Ensemble
from utilities.errors import DatabaseError, IdMapError, InvalidArgument, Stopped
from utilities.image_files import open_image
from utilities.milvus_utilities import create_collection, describe_collection, insert_embeddings, read_items
from utilities.near_identical import DETAIL, THUMBNAIL, WORTH_A_LOOK, Detail, Likeness, Picture, compare, find_in
from utilities.set_aside import set_aside
from utilities.settings import Settings
from utilities.thumbnails import SIDE, SheetGroup, _fitted, _font, group_sheet
from utilities.videos import Sampling
from utilities.views import squashed


def photograph(seed: int, size: tuple[int, int] = (240, 180)) -> Image.Image:
    """Noise, coarse and fine as in a photograph, whose colours vary less than its brightness."""
    random = np.random.default_rng(seed)
    pixels = np.zeros((size[1], size[0], 3))
    for cells, weight in ((3, 60), (8, 40), (24, 30), (60, 15)):
        noise = (random.normal(0, 1, (cells, cells, 1)) + random.normal(0, 0.4, (cells, cells, 3))).clip(-2, 2)
        planes = [Image.fromarray(noise[..., k].astype(np.float32)) for k in range(3)]
        grown = [np.asarray(plane.resize(size, Image.Resampling.BICUBIC)) for plane in planes]
        pixels += weight * np.stack(grown, axis=-1)
    return Image.fromarray((pixels + 128).clip(0, 255).astype(np.uint8))


def load_tree(client: MilvusClient, root: Path, settings: Settings, metric: str = "COSINE") -> None:
    """A tree as the collection `pictures`, embedded by mean colours; what cannot be read gets a vector, too."""
    embedder = MeanColour()
    files = sorted(file for file in root.rglob("*.*") if file.is_file())

    def pixels(file: Path) -> NDArray[np.uint8]:
        try:
            return embedder.see(open_image(file))
        except Exception:
            return np.zeros(embedder.input_shape, np.uint8)

    embeddings = embedder.embed(np.stack([pixels(file) for file in files]))
    create_collection(client, "pictures", dimension=3, metric=metric, fingerprint=embedder.fingerprint, root=root)
    insert_embeddings(client, "pictures", embeddings, [str(file) for file in files], settings=settings)


def find(settings: Settings, out: Path) -> duplicates.Duplicates:
    return duplicates.run("pictures", out=out, settings=settings, progress=False)


def paths(found: duplicates.Duplicates) -> list[list[str]]:
    return [[each.path for each in group] for group in found.groups]


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    """Six photographs, and six altered copies of each, which have the number of their original as name."""
    (tmp_path / "originals").mkdir()
    names = [f"{number}.png" for number in range(6)]
    for number, name in enumerate(names):
        photograph(number).save(tmp_path / "originals" / name)
    write_copies(tmp_path / "originals", names, tmp_path / "copies")
    return tmp_path / "copies"


def assert_grouped_by_original(found: duplicates.Duplicates) -> None:
    assert sorted(sorted(Path(path).stem for path in group) for group in paths(found)) == [
        [f"{number:05}"] * 7 for number in range(6)
    ]


def test_all_copies_of_one_picture_are_one_group(
    client: MilvusClient, client_settings: Settings, copies: Path, tmp_path: Path
) -> None:
    load_tree(client, copies, client_settings)
    found = find(client_settings, tmp_path / "out")
    assert_grouped_by_original(found)
    assert (found.items, found.gone, found.unreadable) == (42, 0, [])
    rows = pd.read_csv(found.csv, keep_default_na=False)
    assert list(rows.columns) == ["group", "rank", "path", "width", "height", "file_size", "differences"]
    for _, group in rows.groupby("group"):
        assert list(group["rank"]) == [1, 2, 3, 4, 5, 6, 7]
        pixels = group["width"] * group["height"]
        assert pixels.is_monotonic_decreasing
        assert group["differences"].iloc[0] == ""
    # Where the original is the best, what was done to it is told.
    best = rows[(rows["rank"] == 1) & rows["path"].str.startswith("original/")]
    rows = rows[rows["group"].isin(best["group"])]
    told = {kind: set(each["differences"]) for kind, each in rows.groupby(rows["path"].str.split("/").str[0])}
    assert (told["half"], told["crop"], told["mirror"]) == ({"resized"}, {"cropped"}, {"mirrored"})
    assert told["quality30"] == {"re-encoded"}
    assert "recoloured" in told["recolour"]
    with Image.open(found.sheets[0]) as sheet:
        assert sheet.height > 6 * SIDE


@pytest.mark.parametrize("metric", ["L2", "IP"])
def test_any_metric_will_do(lite: MilvusClient, settings: Settings, copies: Path, tmp_path: Path, metric: str) -> None:
    load_tree(lite, copies, settings, metric)
    assert_grouped_by_original(find(settings, tmp_path / "out"))


def test_groups_do_not_chain(lite: MilvusClient, settings: Settings, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    first = photograph(1, (320, 320))
    second, third = first.copy(), first.copy()
    for image, corners in ((second, [(0, 0)]), (third, [(0, 0), (190, 190)])):
        for left, top in corners:  # In a seventh each there is nothing fine to be seen any more.
            patch = (left, top, left + 120, top + 120)
            image.paste(first.crop(patch).filter(ImageFilter.GaussianBlur(30)), patch)
    first.save(tree / "first.png")
    second.resize((300, 300)).save(tree / "second.png")
    third.resize((280, 280)).save(tree / "third.png")
    load_tree(lite, tree, settings)
    # The third is like the second, which is not the best.
    assert paths(find(settings, tmp_path / "out")) == [["first.png", "second.png"]]
    (tree / "first.png").unlink()
    again = find(settings, tmp_path / "out")
    assert paths(again) == [["second.png", "third.png"]]
    assert again.gone == 1


def test_identical_files_are_grouped_unopened_however_many(
    lite: MilvusClient, settings: Settings, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    picture = photograph(1)
    picture.save(tree / "00.png")
    for number in range(1, 30):  # more than are looked at as neighbours
        shutil.copyfile(tree / "00.png", tree / f"{number:02}.png")
    picture.resize((120, 90)).save(tree / "small.png")
    photograph(2).save(tree / "other.png")
    for name in ("broken.jpg", "broken_too.jpg"):
        (tree / name).write_bytes(b"\xff\xd8 no picture")
    load_tree(lite, tree, settings)
    found = find(settings, tmp_path / "out")
    assert paths(found) == [
        [*(f"{number:02}.png" for number in range(30)), "small.png"],
        ["broken.jpg", "broken_too.jpg"],
    ]
    assert [each.differences for each in found.groups[0]] == [(), *[("identical",)] * 29, ("resized",)]
    assert [each.path for each in found.unreadable] == ["broken.jpg"]


def test_what_shows_something_else_is_not_grouped(lite: MilvusClient, settings: Settings, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(4):
        _page(number).save(tree / f"page_{number}.png")
        Image.new("RGB", (200, 150), (40 * number, 90, 120)).save(tree / f"plain_{number}.png")
        _sign(["red", "green", "blue", "orange"][number]).save(tree / f"sign_{number}.png")
        photograph(number).save(tree / f"photograph_{number}.png")
    load_tree(lite, tree, settings)
    assert paths(find(settings, tmp_path / "out")) == []


def _page(seed: int) -> Image.Image:
    """A page of text, alike in its lines and margins."""
    random = np.random.default_rng(seed)
    page = Image.new("RGB", (1_000, 1_400), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(20)
    words = [
        "of",
        "the party",
        "shall",
        "pay",
        "within",
        "days",
        "under this",
        "agreement",
        "amount",
        "due",
        "to",
        "net",
    ]
    for top in range(100, 1_300, 30):
        line = ""
        while draw.textlength(line, font) < 780:
            line += f"{random.choice(words)} "
        draw.text((90, top), line, "black", font)
    return page


def _slide(bullets: int) -> Image.Image:
    """A title, and so many of the lines of a list, the rest of which is to come."""
    slide = Image.new("RGB", (960, 540), "white")
    draw = ImageDraw.Draw(slide)
    draw.rectangle((0, 0, 960, 90), "#204080")
    draw.text((40, 24), "What was found in the third year", "white", ImageFont.load_default(40))
    for number in range(bullets):
        text = f"{number + 1}. The {number + 3} plots by the river bear fruit again"
        draw.text((60, 130 + 95 * number), text, "black", ImageFont.load_default(36))
    return slide


def _note(lines: int) -> Image.Image:
    """A photograph, and below it so many lines of text."""
    note = Image.new("RGB", (480, 640), "white")
    note.paste(photograph(7, (480, 320)))
    for number in range(lines):
        text = "Seen by the river, late in the day, from the bridge"
        ImageDraw.Draw(note).text((16, 345 + 48 * number), text, "black", ImageFont.load_default(20))
    return note


def _sign(colour: str) -> Image.Image:
    sign = Image.new("RGB", (200, 200), "white")
    ImageDraw.Draw(sign).ellipse((30, 30, 170, 170), colour)
    ImageDraw.Draw(sign).rectangle((60, 90, 140, 110), "white")
    return sign


def test_each_lies_in_the_other(tmp_path: Path) -> None:
    outer = photograph(1, (400, 300))
    inner = outer.crop((40, 30, 360, 280)).transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((160, 125))
    likeness = _likeness(outer, inner)
    assert likeness is not None
    assert likeness.placement.mirrored
    assert (likeness.is_part, likeness.is_resized, likeness.altered) == (True, True, False)
    part = likeness.placement.part
    np.testing.assert_allclose([part.left, part.top, part.width, part.height], [0.1, 0.1, 0.8, 0.833], atol=0.01)
    assert _likeness(outer, photograph(2, (400, 300))) is None


def test_what_is_blank_in_one_and_written_in_the_other_is_not_the_same() -> None:
    assert _likeness(_note(6), _note(0)) is None
    assert [_likeness(_slide(more), _slide(fewer)) for more, fewer in ((2, 1), (4, 2), (4, 1))] == [None] * 3


def _likeness(outer: Image.Image, inner: Image.Image) -> Likeness | None:
    def seen(image: Image.Image, side: int) -> Picture:
        return Picture(squashed(image, side), image.size)

    (placement,) = find_in(seen(outer, THUMBNAIL), [seen(inner, THUMBNAIL)])
    if placement.correlation < WORTH_A_LOOK:
        return None
    return compare(Detail.of(seen(outer, DETAIL)), Detail.of(seen(inner, DETAIL)), placement)


def test_all_but_the_best_are_moved(
    client: MilvusClient, client_settings: Settings, copies: Path, tmp_path: Path
) -> None:
    load_tree(client, copies, client_settings)
    found = find(client_settings, tmp_path / "out")
    before = {each.path: (copies / each.path).read_bytes() for group in found.groups for each in group}
    changed, taken, *others = found.superfluous
    (copies / changed.path).write_bytes(before[changed.path] + b"\0")
    aside = tmp_path / "aside"
    (aside / taken.path).parent.mkdir(parents=True)
    (aside / taken.path).write_text("mine")
    moved = duplicates.move(found, aside, client_settings)
    assert moved.moved == len(others) > 20
    assert {each.path for each in moved.left} == {changed.path, taken.path}
    assert "has changed since it was loaded" in moved.left[0].reason
    assert (aside / taken.path).read_text() == "mine"
    for each in others:
        assert not (copies / each.path).exists()
        assert (aside / each.path).read_bytes() == before[each.path]
    kept = {each.path for each in found.kept}
    assert {path.split("/")[0] for path in kept} <= {"write_on", "recolour"}
    left = {group[0].path for group in found.groups} | kept | {changed.path, taken.path}
    assert set(read_items(client, "pictures")["path"]) == left
    assert {path.relative_to(copies).as_posix() for path in copies.rglob("*.*")} == left
    assert str(manage.info("pictures", client_settings).differences) == "none"


def test_what_is_altered_is_listed_and_not_moved(lite: MilvusClient, settings: Settings, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    card = photograph(1, (320, 320))
    card.save(tree / "a.png")
    card.resize((160, 160)).save(tree / "b.png")
    card.paste(photograph(2, (100, 100)), (20, 20))  # another portrait
    card.resize((300, 300)).save(tree / "c.png")
    load_tree(lite, tree, settings)
    found = find(settings, tmp_path / "out")
    assert [(each.path, each.differences) for each in found.groups[0]] == [
        ("a.png", ()),
        ("c.png", ("resized", "altered")),
        ("b.png", ("resized",)),
    ]
    assert ([each.path for each in found.superfluous], [each.path for each in found.kept]) == (["b.png"], ["c.png"])
    moved = duplicates.move(found, tmp_path / "aside", settings)
    assert (moved.moved, moved.kept, moved.left, moved.others) == (1, 1, [], [])
    assert sorted(path.name for path in tree.iterdir()) == ["a.png", "c.png"]
    assert set(read_items(lite, "pictures")["path"]) == {"a.png", "c.png"}


def test_what_is_written_small_is_altered_and_saving_again_is_not() -> None:
    first, second = (_invoice(total) for total in ("1,200.00", "1,800.00"))
    likeness = _likeness(first, second)
    assert likeness is not None
    assert likeness.altered
    for copy in (_saved(first, 30), first.resize((620, 877)), _saved(first.resize((868, 1228)), 60)):
        likeness = _likeness(first, copy)
        assert likeness is not None
        assert not likeness.altered


def test_a_word_in_a_colour_alone_is_altered_and_a_little_colour_that_is_lost_is_recoloured() -> None:
    grey = photograph(3, (300, 240)).convert("L").convert("RGB")
    marked = grey.copy()
    ImageDraw.Draw(marked).text((40, 60), "SALE", "red", ImageFont.load_default(14))
    likeness = _likeness(grey, _saved(marked, 90))
    assert likeness is not None
    assert (likeness.altered, likeness.recoloured) == (True, False)
    page = Image.new("RGB", (300, 240), "white")
    page.paste(photograph(3, (150, 120)), (75, 60))
    likeness = _likeness(page, ImageEnhance.Color(page).enhance(0))
    assert likeness is not None
    assert likeness.recoloured


def _invoice(total: str) -> Image.Image:
    page = Image.new("RGB", (1240, 1754), "white")
    draw = ImageDraw.Draw(page)
    draw.rectangle((80, 80, 400, 200), "#204080")
    for number in range(20):
        text = f"{number + 1}  paper, ink and {17 * number % 23} large boxes, delivered"
        draw.text((80, 420 + 45 * number), text, "black", ImageFont.load_default(26))
    draw.text((80, 1400), f"Total {total}", "black", ImageFont.load_default(48))
    return page


def _saved(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def test_what_shows_more_than_the_best_is_not_moved(lite: MilvusClient, settings: Settings, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    whole = photograph(1, (300, 240))
    whole.save(tree / "whole.png")
    whole.crop((30, 20, 270, 212)).resize((480, 384)).save(tree / "enlarged.png")
    load_tree(lite, tree, settings)
    found = find(settings, tmp_path / "out")
    assert [(each.path, each.differences) for each in found.groups[0]] == [
        ("enlarged.png", ()),
        ("whole.png", ("extended", "resized")),
    ]
    assert (found.superfluous, [each.path for each in found.kept]) == ([], ["whole.png"])


def test_other_collections_of_the_tree_are_named(
    lite: MilvusClient, settings: Settings, copies: Path, tmp_path: Path
) -> None:
    load_tree(lite, copies, settings)
    copy_augmented(lite, describe_collection(lite, "pictures"), "better", 3, settings, progress=False)
    moved = duplicates.move(find(settings, tmp_path / "out"), tmp_path / "aside", settings)
    assert (moved.moved > 0, moved.others) == (True, ["better"])


def test_an_id_map_that_cannot_be_read_is_told_before_anything_is_moved(
    lite: MilvusClient, settings: Settings, copies: Path, tmp_path: Path
) -> None:
    load_tree(lite, copies, settings)
    found = find(settings, tmp_path / "out")
    id_map = settings.id_map_path("pictures")
    id_map.write_bytes(id_map.read_bytes().replace(b"\n", b"\r\n"))
    with pytest.raises(IdMapError):
        duplicates.move(found, tmp_path / "aside", settings)
    assert not (tmp_path / "aside").exists()


@pytest.mark.parametrize("signals", [1, 2])
def test_when_it_is_stopped_what_was_moved_has_no_items(
    lite: MilvusClient,
    settings: Settings,
    copies: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    signals: int,
) -> None:
    load_tree(lite, copies, settings)
    found = find(settings, tmp_path / "out")
    before = {path.relative_to(copies).as_posix() for path in copies.rglob("*.*")}
    aside = tmp_path / "aside"

    def stopped(file: Path, target: Path) -> None:
        set_aside(file, target)
        if len(list(aside.rglob("*.*"))) == 3:
            for _ in range(signals):
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(duplicates, "set_aside", stopped)
    with pytest.raises((Stopped, KeyboardInterrupt)):
        duplicates.move(found, aside, settings)
    moved = {path.relative_to(aside).as_posix() for path in aside.rglob("*.*")}
    there = {path.relative_to(copies).as_posix() for path in copies.rglob("*.*")}
    assert len(moved) == 3
    assert (moved | there, moved & there) == (before, set())
    # The second does not wait, perhaps not even for the last move to be noted.
    assert len(set(read_items(lite, "pictures")["path"]) - there) <= signals - 1


def test_a_database_that_fails_after_the_move(
    lite: MilvusClient, settings: Settings, copies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_tree(lite, copies, settings)
    found = find(settings, tmp_path / "out")

    def fails(*_: object) -> None:
        raise DatabaseError("Milvus is gone.")

    monkeypatch.setattr(duplicates, "delete_items", fails)
    said = (
        rf"^{len(found.superfluous)} files were moved, but their items not removed \(Milvus is gone.\); `lookalike load"
    )
    with pytest.raises(DatabaseError, match=said):
        duplicates.move(found, tmp_path / "aside", settings)


def test_an_ensemble_will_do(lite: MilvusClient, settings: Settings, copies: Path, tmp_path: Path) -> None:
    ensemble = Ensemble([MeanColour(), MeanSquare()])
    load.run(copies, collection="pictures", embedder=ensemble, settings=settings, progress=False)
    assert_grouped_by_original(find(settings, tmp_path / "out"))


def test_of_many_groups_and_large_ones(lite: MilvusClient, settings: Settings, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(duplicates.GROUPS + 1):
        photograph(number, (60, 45)).save(tree / f"{number}_0.png")
        for copy in range(1, duplicates.SHOWN + 2 if number == 0 else 2):
            shutil.copyfile(tree / f"{number}_0.png", tree / f"{number}_{copy:02}.png")
    load_tree(lite, tree, settings)
    found = find(settings, tmp_path / "out")
    assert sorted(map(len, found.groups)) == [2] * duplicates.GROUPS + [duplicates.SHOWN + 2]
    assert [sheet.name for sheet in found.sheets] == ["duplicates_1.png", "duplicates_2.png"]
    sizes = [Image.open(sheet).size for sheet in found.sheets]
    assert sizes[0][1] > sizes[1][1]


def test_a_tree_that_is_gone(lite: MilvusClient, settings: Settings, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    photograph(1).save(tree / "a.png")
    load_tree(lite, tree, settings)
    (tree / "a.png").unlink()
    found = find(settings, tmp_path / "out")
    assert (found.items, found.gone, found.groups) == (1, 1, [])
    tree.rmdir()
    with pytest.raises(InvalidArgument, match="the tree of 'pictures', is not there"):
        find(settings, tmp_path / "out")


def test_files_of_others_in_out_stay(lite: MilvusClient, settings: Settings, copies: Path, tmp_path: Path) -> None:
    load_tree(lite, copies, settings)
    out = tmp_path / "out"
    out.mkdir()
    (out / "duplicates.csv").write_text("group,rank,path\n1,1,my own\n")
    (out / "duplicates_7.png").write_bytes(b"mine")
    with pytest.raises(InvalidArgument, match="was not written by this command"):
        find(settings, out)
    assert (out / "duplicates.csv").read_text() == "group,rank,path\n1,1,my own\n"
    (out / "duplicates.csv").unlink()
    with pytest.raises(InvalidArgument, match="was not written by this command"):
        find(settings, out)
    (out / "duplicates_7.png").rename(out / "duplicates_of_mine.png")
    for _ in range(2):  # over those of an earlier run
        assert find(settings, out).sheets == [out / "duplicates_1.png"]
    assert (out / "duplicates_of_mine.png").read_bytes() == b"mine"
    with pytest.raises(InvalidArgument, match="next load would take the contact sheets for images"):
        find(settings, copies / "out")


def test_a_group_whose_best_is_gone_stays(lite: MilvusClient, settings: Settings, copies: Path, tmp_path: Path) -> None:
    load_tree(lite, copies, settings)
    found = find(settings, tmp_path / "out")
    (copies / found.groups[0][0].path).unlink()
    moved = duplicates.move(found, tmp_path / "aside", settings)
    assert {each.path for each in moved.left} == {each.path for each in found.groups[0][1:] if not each.shows_more}
    assert "its best" in moved.left[0].reason


def test_what_the_best_leads_to_stays(lite: MilvusClient, settings: Settings, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "real").mkdir(parents=True)
    photograph(1).save(tree / "real" / "a.png")
    (tree / "a.png").symlink_to("real/a.png")
    photograph(2).save(tree / "real" / "b.png")
    shutil.copyfile(tree / "real" / "b.png", tree / "b.png")
    load_tree(lite, tree, settings)
    found = find(settings, tmp_path / "out")
    assert paths(found) == [["a.png", "real/a.png"], ["b.png", "real/b.png"]]
    moved = duplicates.move(found, tmp_path / "aside", settings)
    assert [(each.path, each.reason) for each in moved.left] == [("real/a.png", "its best, a.png, is a link to it")]
    assert (tree / "a.png").is_file()
    assert moved.moved == 1


def test_a_folder_in_the_tree_is_refused(lite: MilvusClient, settings: Settings, copies: Path, tmp_path: Path) -> None:
    load_tree(lite, copies, settings)
    for place in (copies, copies / "aside", tmp_path):
        with pytest.raises(InvalidArgument, match="one lies in the other"):
            duplicates.check_destination("pictures", place, settings)


def test_faces_and_videos_are_refused(lite: MilvusClient, settings: Settings, tmp_path: Path) -> None:
    create_collection(lite, "people", dimension=128, fingerprint=unstated_fingerprint("dlib"), root=tmp_path)
    create_collection(lite, "films", dimension=2048, root=tmp_path, sampling=Sampling())
    for name, what in (("people", "faces"), ("films", "videos")):
        with pytest.raises(InvalidArgument, match=f"'{name}' holds {what}; duplicates are found in"):
            duplicates.run(name, out=tmp_path / "out", settings=settings)


def test_the_command_asks_before_it_moves(
    lookalike: Callable[..., subprocess.CompletedProcess[str]], copies: Path, tmp_path: Path
) -> None:
    lookalike("load", copies, "--backbone", "mobilenetv2", "--weights", "random")
    out, aside = ("--out", tmp_path / "out"), ("--move-to", tmp_path / "aside")
    shown = lookalike("duplicates", "copies", *out)
    assert shown.returncode == 0, shown.stderr
    said = re.search(r"^copies: 42 images, (\d+) of them superfluous in 6 groups .*\n.*moved: (\d+) more", shown.stdout)
    assert said, shown.stdout
    superfluous, kept = map(int, said.groups())
    assert superfluous > 25
    assert kept > 0
    assert f"all groups: {tmp_path / 'out' / 'duplicates.csv'}\n" in shown.stdout
    asked = lookalike("duplicates", "copies", *out, *aside)
    assert (asked.returncode, (tmp_path / "aside").exists()) == (2, False)
    assert "Nothing was moved; say --yes to move without being asked." in asked.stderr
    inside = lookalike("duplicates", "copies", "--move-to", copies / "aside")
    assert inside.returncode == 2
    for wrong, says in (
        ((*aside, "--json"), "and so asks nothing; give --yes, too."),
        (("--yes",), "--yes says something of --move-to"),
        (("--move-to", "", "--yes"), "It is empty; give a path."),
    ):
        refused = lookalike("duplicates", "copies", *out, *wrong)
        assert (refused.returncode, says in " ".join(refused.stderr.split())) == (2, True), refused.stderr
    moved = lookalike("duplicates", "copies", *out, *aside, "--yes", "--json")
    assert moved.returncode == 0, moved.stderr
    numbers = json.loads(moved.stdout)
    assert (len(numbers["groups"]), numbers["moved"]["moved"], numbers["moved"]["kept"]) == (6, superfluous, kept)
    again = lookalike("duplicates", "copies", *out)
    assert f"copies: {42 - superfluous} images, " in again.stdout


def test_a_sheet_puts_groups_side_by_side() -> None:
    def group(colour: str, count: int) -> SheetGroup:
        return SheetGroup(colour, [Image.new("RGB", (SIDE, SIDE), colour)] * count, [["a name"]] * count)

    one = group_sheet([group("red", 2), group("blue", 2)], columns=4)
    two = group_sheet([group("red", 3), group("blue", 2)], columns=4)
    assert one.height < two.height
    colours = {colour: count for count, colour in two.getcolors(100_000) or []}
    assert (colours[(255, 0, 0)], colours[(0, 0, 255)]) == (3 * SIDE**2, 2 * SIDE**2)


def test_what_differs_is_told_in_full_on_a_sheet() -> None:
    caption = ["a/" + 40 * "long" + ".jpg", "1,024 × 768, 77 KiB", "mirrored, cropped, resized, recoloured, altered"]
    name, *others = _fitted(caption, 150, _font(11))
    assert "…" in name
    assert len(others) > 2
    assert " ".join(others) == " ".join(caption[1:])
    assert all(_font(11).getlength(line) <= 150 for line in (name, *others))


def test_photographs_of_one_person_are_not_copies_of_each_other(lfw: Path, tmp_path: Path) -> None:
    for person in sorted(lfw.iterdir())[:2]:
        shutil.copytree(person, tmp_path / "people" / person.name)
    result = measure(tmp_path / "people", 40, tmp_path / "scratch")
    assert result.originals == 40
    assert result.precision > 0.99
    assert result.recall > 0.95
