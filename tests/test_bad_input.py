"""Whatever lies in a tree: every file is accounted for, and no file ends the load."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from pipelines import load
from tests import soak
from tests.bad_files import FORMATS, MUTATIONS, draw_bad_files
from tests.conftest import MeanColour
from utilities.directory_trees import find_images
from utilities.drawn_images import CATEGORIES, draw_tree
from utilities.errors import ImageTooLarge, UnreadableImage
from utilities.image_files import open_file, open_image
from utilities.items import item_id
from utilities.settings import Settings
from utilities.similar_images import similar_images


def run(tree: Path, settings: Settings) -> load.LoadSummary:
    return load.run(tree, embedder=MeanColour(), settings=settings, progress=False)


def test_hundreds_of_broken_files_are_each_inserted_or_listed(tmp_path: Path, networks: Path) -> None:
    count = 8 * len(FORMATS) * len(MUTATIONS)
    assert count >= 300
    status, inserted, failed = soak.load_bad_files(tmp_path, networks, count)
    assert status == 0
    assert inserted + failed == count
    # A wrong extension harms nothing, and an empty file is no image: some of each, or the corpus is not what it says.
    assert inserted > count / len(MUTATIONS)
    assert failed > count / len(MUTATIONS)


def test_the_corpus_is_the_same_every_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert draw_bad_files(tmp_path / name, 60) == 60
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


def test_names_with_anything_in_them(colour_tree: Path, settings: Settings) -> None:
    deep = colour_tree
    for _ in range(14):
        deep /= "d" * 250
    names = ["new\nline.png", "carriage\rreturn.png", "a,comma.png", '"quotes".png', "NA.png", "été ☃.png", "'.png"]
    for name in names:
        Image.new("RGB", (4, 4), "red").save(colour_tree / name)
    deep.mkdir(parents=True)
    Image.new("RGB", (4, 4), "red").save(deep / "deep.png")
    (colour_tree / os.fsdecode(b"latin-\xe9.png")).write_bytes((colour_tree / "NA.png").read_bytes())
    summary = run(colour_tree, settings)
    assert (summary.found, summary.inserted, summary.failed) == (15 + len(names) + 2, 15 + len(names) + 1, 1)
    rows = pd.read_csv(summary.id_map, keep_default_na=False, lineterminator="\n")
    longest = (deep / "deep.png").relative_to(colour_tree).as_posix()
    assert len(longest) > 3_500
    assert {*names, longest} <= set(rows["path"])
    assert list(rows["id"]) == [item_id(path) for path in rows["path"]]
    assert "is not UTF-8; rename the file" in settings.failures_path("colours").read_text()
    written = summary.id_map.read_bytes()
    assert run(colour_tree, settings).unchanged == 15 + len(names) + 1
    assert summary.id_map.read_bytes() == written
    match = similar_images(colour_tree / "new\nline.png", "colours", 30, embedder=MeanColour(), settings=settings)
    assert {each.path for each in match} > {*names, longest}


def test_a_file_that_is_written_to_while_it_is_read(tmp_path: Path, settings: Settings) -> None:
    file = tmp_path / "growing.png"
    Image.new("RGB", (4, 4)).save(file)

    def grow(*_: object) -> str:
        with file.open("ab") as opened:
            opened.write(b"more")
        return ""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("utilities.image_files.file_digest", grow)
        with pytest.raises(UnreadableImage, match="was written to while it was read; load again"):
            open_file(tmp_path, "growing.png", 8, settings)
    image, item = open_file(tmp_path, "growing.png", 8, settings)
    assert (image.size, item.file_size) == ((item.width, item.height), file.stat().st_size)


def test_a_file_that_vanishes_between_being_found_and_being_read(
    colour_tree: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = find_images(colour_tree)
    (colour_tree / "red/red_0.png").unlink()
    monkeypatch.setattr(load, "find_images", lambda *_, **__: found)
    summary = run(colour_tree, settings)
    assert (summary.found, summary.inserted, summary.failed) == (15, 14, 1)
    assert "There is no file" in settings.failures_path("colours").read_text()


def test_an_image_that_is_too_large_for_the_memory(tmp_path: Path) -> None:
    file = tmp_path / "large.png"
    Image.new("L", (20_000, 20_000)).save(file, compress_level=1)
    program = (
        "import resource, sys; from utilities.image_files import open_image; from utilities.settings import Settings\n"
        "resource.setrlimit(resource.RLIMIT_AS, (700 << 20, 700 << 20))\n"
        "open_image(sys.argv[1], Settings(max_image_pixels=10**9))"
    )
    result = subprocess.run([sys.executable, "-c", program, file], capture_output=True, text=True, check=False)
    assert f"{ImageTooLarge.__name__}: {file} is too large for this machine's memory" in result.stderr
    with pytest.raises(ImageTooLarge, match="LOOKALIKE_MAX_IMAGE_PIXELS"):
        open_image(file)


@pytest.mark.parametrize("blocks", [1, 300, 6_000])
def test_a_disk_that_takes_no_more_ends_the_load_with_a_sentence_and_the_next_goes_on(
    colour_tree: Path, settings: Settings, lookalike: Callable[..., subprocess.CompletedProcess[str]], blocks: int
) -> None:
    """By the limit of a file's size, which shells set in blocks of 1,024 bytes: 300 MiB are needed to fill a disk."""
    draw_tree(colour_tree, per_category=20)
    command = soak.load_command(colour_tree)
    limited = subprocess.run(
        ["bash", "-c", f'ulimit -f {blocks} && exec "$@"', "bash", *command],
        env=soak.environment(settings),
        capture_output=True,
        text=True,
        check=False,
    )
    assert limited.returncode in (0, 1), limited.stderr
    assert (os.strerror(errno.EFBIG) in limited.stderr) == (limited.returncode == 1), limited.stderr
    assert "Traceback" not in limited.stderr
    count = 15 + 20 * len(CATEGORIES)
    assert f"holds {count} items" in lookalike(*command[1:]).stdout
    assert len(pd.read_csv(settings.id_map_path("colours"))) == count


def test_a_home_that_cannot_be_written(colour_tree: Path, networks: Path) -> None:
    for home in ("/sys/lookalike", "/dev/null/lookalike"):
        result = subprocess.run(
            soak.load_command(colour_tree),
            env=soak.environment(Settings(home=Path(home))),
            capture_output=True,
            text=True,
        )
        assert result.returncode == 1
        assert result.stderr.startswith(f"lookalike: {home} cannot be written: "), result.stderr
        assert "Traceback" not in result.stderr


@pytest.mark.parametrize("whose", ["network", "weights"])
def test_a_disk_that_is_full_before_the_network_is_written(
    colour_tree: Path, settings: Settings, networks: Path, whose: str
) -> None:
    """The limit of a file's size, in blocks of 1,024 bytes, ends the writing as a full disk does."""
    blocks = {"network": 5, "weights": 2_000}[whose]
    network = next(networks.iterdir())
    program = (
        "import sys; from pathlib import Path; from utilities.exported_networks import *; import openvino\n"
        "from utilities.errors import ExportFailed\n"
        "model = openvino.Core().read_model(sys.argv[1])\n"
        "fingerprint = Fingerprint('mobilenetv2', '0' * 32, '', 1280)\n"
        "try: write(model, fingerprint, Settings(home=Path(sys.argv[2])), sources=[])\n"
        "except ExportFailed as error: print(error)"
    )
    arguments = [sys.executable, "-c", program, str(network / "network.xml"), str(settings.home)]
    result = subprocess.run(
        ["bash", "-c", f'ulimit -f {blocks} && exec "$@"', "bash", *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(soak.__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"The network could not be written to {settings.networks}, where " in result.stdout, result.stderr
    assert " MiB are free: " in result.stdout
    assert list(settings.networks.iterdir()) == []


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(UnreadableImage, match=r"pipe\.jpg is a pipe, not an image file"):
        open_image(tmp_path / "pipe.jpg")


def test_a_query_whose_name_is_not_utf8_is_printed_as_json(
    colour_tree: Path, lookalike: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    lookalike(*soak.load_command(colour_tree)[1:])
    query = colour_tree / os.fsdecode(b"latin-\xe9.png")
    query.write_bytes((colour_tree / "red/red_0.png").read_bytes())
    printed = lookalike("query", query, "--top-k", "1", "--json", PYTHONUTF8="1").stdout
    assert json.loads(printed.encode())["query"].endswith("latin-\\xe9.png")


def test_a_home_that_may_only_be_read(
    colour_tree: Path, settings: Settings, lookalike: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    assert lookalike(*soak.load_command(colour_tree)[1:]).returncode == 0
    database = settings.home / "milvus.db"
    for path in [database, *database.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    # The system's administrator may write everywhere, unless that right is given up.
    alike = ["setpriv", "--bounding-set", "-dac_override", "--"] if os.geteuid() == 0 else []
    for command in (["collections"], ["query", str(colour_tree / "red/red_0.png")]):
        result = subprocess.run(
            [*alike, soak.load_command(colour_tree)[0], *command],
            env=soak.environment(settings),
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 1, result.stderr
        assert "may not be written by this user, which it must be, even for a query" in result.stderr
        assert "Traceback" not in result.stderr


def test_a_home_that_is_a_file(tmp_path: Path, lookalike: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    file = tmp_path / "file"
    file.write_text("")
    result = lookalike("collections", LOOKALIKE_HOME=str(file))
    assert result.returncode == 1
    assert f"cannot be opened: {file} is a file, not a folder" in result.stderr
