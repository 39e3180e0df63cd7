"""The command as a person types it: output, messages, exit status."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from utilities.milvus_utilities import connect
from utilities.settings import Settings

Lookalike = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def load(lookalike: Lookalike, colour_tree: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Load the colour tree with the untrained MobileNetV2."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        network = ("--backbone", "mobilenetv2", "--weights", "random")
        return lookalike("load", colour_tree, *network, *arguments, **environment)

    return run


def message(result: subprocess.CompletedProcess[str], exit_status: int) -> str:
    """The one sentence of a call that failed; nothing on standard output, and no traceback."""
    assert (result.returncode, result.stdout) == (exit_status, ""), result.stderr
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("lookalike: ") and "NOTE: " not in line]
    assert len(lines) == 1, result.stderr
    return lines[0].removeprefix("lookalike: ")


def test_load_then_query_then_the_rest(
    lookalike: Lookalike, load: Lookalike, colour_tree: Path, settings: Settings, tmp_path: Path
) -> None:
    loaded = load()
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.splitlines() == [
        "15 found: 15 inserted, 0 unchanged, 0 failed; colours holds 15 items",
        f"ids and paths: {settings.id_map_path('colours')}",
    ]
    assert "15/15" in loaded.stderr

    again = load("--json")
    summary = json.loads(again.stdout)
    assert (summary["found"], summary["inserted"], summary["unchanged"]) == (15, 0, 15)

    plot = tmp_path / "plots" / "top.png"
    query = lookalike("query", colour_tree / "red/red_0.png", "--top-k", "3", "--plot", plot)
    assert query.returncode == 0, query.stderr
    lines = query.stdout.splitlines()
    assert lines[2].split() == ["rank", "similarity", "path"]
    assert lines[3].split() == ["1", "1.0000", "red/red_0.png"]
    assert lines[-1] == f"plot: {plot}"
    assert len(lines) == 7
    with Image.open(plot) as image:
        assert image.format == "PNG"

    two = lookalike(
        *("query", colour_tree / "red/red_0.png", colour_tree / "blue/blue_0.png", "--json", "--plot", plot),
        *("--filter", 'label == "green"'),
    )
    first, second = (json.loads(line) for line in two.stdout.splitlines())
    assert first["query"] == str(colour_tree / "red/red_0.png")
    assert [match["rank"] for match in first["matches"]] == [1, 2, 3]
    assert {match["label"] for match in second["matches"]} == {"green"}
    assert set(first["matches"][0]) == {"rank", "id", "path", "file", "label", "width", "height", "similarity"}
    assert Path(first["matches"][0]["file"]).is_file()
    assert sorted(file.name for file in plot.parent.iterdir()) == ["top-1.png", "top-2.png", "top.png"]

    assert lookalike("collections").stdout.splitlines()[1].split() == [
        *("colours", "15", "images", "mobilenetv2", str(colour_tree)),
    ]
    info = json.loads(lookalike("info", "colours", "--json").stdout)
    assert (info["items"], info["dimension"]) == (15, 1280)
    assert (info["index"], info["quantization_digest"]) == ("flat", None)
    assert not any(info["differences"][name] for name in ("not_in_id_map", "not_in_milvus", "changed"))
    assert re.search("weights +random", lookalike("info", "colours").stdout)

    written = settings.id_map_path("colours").read_bytes()
    exported = lookalike("export", "colours", "--output", tmp_path / "ids.csv")
    assert exported.stdout == f"15 rows written to {tmp_path / 'ids.csv'}\n"
    assert (tmp_path / "ids.csv").read_bytes() == written

    deleted = lookalike("delete", "colours", "red/red_0.png", colour_tree / "red/red_1.png")
    assert deleted.stdout == "2 items deleted from colours\n"
    assert lookalike("delete", "colours", "--filter", 'label == "blue"').stdout == "3 items deleted from colours\n"
    with settings.id_map_path("colours").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 10
    assert json.loads(lookalike("collections", "--json").stdout)[0]["items"] == 10
    assert "no 'rde.png'; nothing was deleted" in message(lookalike("delete", "colours", "rde.png"), 2)
    latin = os.fsdecode(b"latin-\xe9.png")
    assert r"no 'latin-\\xe9.png'; nothing was deleted" in message(lookalike("delete", "colours", latin), 2)

    assert "Nothing was removed" in message(lookalike("drop", "colours"), 2)
    assert lookalike("drop", "colours", "--yes").stdout == "colours removed (10 items)\n"
    assert not settings.id_map_path("colours").exists()
    assert lookalike("collections", "--json").stdout == "[]\n"


def test_what_a_load_and_a_query_say_of_files_that_are_gone(
    lookalike: Lookalike, load: Lookalike, colour_tree: Path
) -> None:
    assert load().returncode == 0
    (colour_tree / "red/red_0.png").rename(colour_tree / "red/re\x1b[7m\nnamed.png")
    again = lookalike("load", colour_tree)  # with the collection's own network
    assert again.stdout.splitlines()[:2] == [
        "15 found: 1 inserted, 14 unchanged, 0 failed; colours holds 16 items",
        "gone since an earlier load: the files of 1 item, which still answer queries; load with --prune to remove them",
    ]
    query = lookalike("query", colour_tree / "red/red_1.png", "--top-k", "16")
    assert "red/red_0.png  (the file is gone)" in query.stdout
    # Nothing in a name may steer the terminal.
    assert r"red/re\x1b[7m\nnamed.png" in query.stdout
    assert "NOTE: mobilenetv2 is untrained" in query.stderr
    pruned = load("--prune")
    assert "holds 15 items" in pruned.stdout
    assert "the files of 1 item, which were removed" in pruned.stdout
    nothing = lookalike("query", colour_tree / "red/red_1.png", "--filter", 'label == "violet"')
    assert nothing.stdout.splitlines()[-1] == "no match"
    assert (nothing.returncode, lookalike("load", colour_tree, "--extension", "gif").returncode) == (0, 1)


def test_a_broken_id_map_stops_nothing_but_a_load(lookalike: Lookalike, load: Lookalike, settings: Settings) -> None:
    assert load().returncode == 0
    settings.id_map_path("colours").write_text("garbage\n1,2\n")
    assert "is not an id map as it was written" in message(load(), 1)
    assert "15" in lookalike("collections").stdout
    assert "not as it was written; `lookalike export colours` writes it anew" in lookalike("info", "colours").stdout
    assert lookalike("export", "colours").returncode == 0
    assert load().returncode == 0
    settings.id_map_path("colours").write_text("garbage\n1,2\n")
    assert lookalike("drop", "colours", "--yes").returncode == 0


def test_query_does_not_import_tensorflow(load: Lookalike, colour_tree: Path, settings: Settings) -> None:
    assert load().returncode == 0
    script = (
        "import sys; from pipelines import cli; sys.argv = ['lookalike', *sys.argv[1:]]\n"
        "try: cli.main()\n"
        "finally: print(sorted({'tensorflow', 'keras', 'matplotlib'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, "--home", settings.home, "query", colour_tree / "red/red_0.png"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "red/red_0.png" in result.stdout
    assert result.stdout.splitlines()[-1] == "[]"


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; from pipelines import cli; sys.argv = ['lookalike', '--help']\n"
        "try: cli.main()\n"
        "finally: print(sorted({'tensorflow', 'keras', 'pymilvus', 'pandas', 'numpy', 'openvino'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_a_load_with_bad_files_is_done_unless_strict(load: Lookalike, colour_tree: Path, settings: Settings) -> None:
    (colour_tree / "red/broken.jpg").write_bytes(b"no image")
    result = load()
    assert result.returncode == 0
    assert "16 found: 15 inserted, 0 unchanged, 1 failed" in result.stdout
    assert f"what failed and why: {settings.failures_path('colours')}" in result.stdout
    assert load("--strict").returncode == 1


def test_a_load_of_nothing_but_bad_files_failed(lookalike: Lookalike, tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/a.png").write_bytes(b"x")
    result = lookalike("load", tmp_path / "bad", "--backbone", "mobilenetv2", "--weights", "random")
    assert result.returncode == 1
    assert "1 found: 0 inserted, 0 unchanged, 1 failed" in result.stdout


def test_calls_that_are_wrong(lookalike: Lookalike, load: Lookalike, colour_tree: Path, tmp_path: Path) -> None:
    image = colour_tree / "red/red_0.png"
    assert "There is no directory" in message(lookalike("load", tmp_path / "nothing"), 2)
    assert "is a file; give the folder" in message(lookalike("load", image), 2)
    (tmp_path / "empty").mkdir()
    assert "No image lies in" in message(lookalike("load", tmp_path / "empty"), 1)
    assert "no backbone 'resnet51'" in message(lookalike("load", colour_tree, "--backbone", "resnet51"), 2)
    assert "no weights file 'w.h5'" in message(lookalike("load", colour_tree, "--weights", "w.h5"), 2)
    assert "is no name for a collection" in message(load("--collection", "a b"), 2)
    assert "no metric 'hamming'" in message(load("--metric", "hamming"), 2)
    elsewhere = tmp_path / "elsewhere"
    for verb in (["query", image], ["info", "colours"], ["drop", "colours"], ["export", "colours"]):
        sentence = message(lookalike("--home", elsewhere, *verb), 2)
        assert f"There is no collection in {elsewhere}/milvus.db yet" in sentence
        assert "LOOKALIKE_HOME or --home leads to those made elsewhere" in sentence
    assert (
        f"There is no collection in {elsewhere}/milvus.db yet" in lookalike("--home", elsewhere, "collections").stdout
    )
    assert not elsewhere.exists()
    assert load().returncode == 0
    assert "no collection 'shapes'; there are: colours" in message(
        lookalike("query", image, "--collection", "shapes"), 2
    )
    assert "top-k of 0" in message(lookalike("query", image, "--top-k", "0"), 2)
    assert "top-k of 16385" in message(lookalike("query", image, "--top-k", "16385"), 2)
    assert "filter 'label =' cannot be applied" in message(lookalike("query", image, "--filter", "label ="), 2)
    assert "has no known extension" in message(lookalike("query", image, "--plot", tmp_path / "a.xyz"), 2)
    assert "There is no file" in message(lookalike("query", tmp_path / "nothing.jpg"), 1)
    (tmp_path / "text.jpg").write_text("text")
    assert "is not an image" in message(lookalike("query", tmp_path / "text.jpg"), 1)
    nowhere = ("query", "http://127.0.0.1:1/a.jpg")
    assert "no public address; allow that with --allow-private-urls" in message(lookalike(*nowhere), 1)
    assert "could not be fetched" in message(lookalike(*nowhere, "--allow-private-urls"), 1)
    for flag, value in [("--runtime", "cuda"), ("--precision", "f16"), ("--index", "lsh")]:
        refused = message(load("--collection", "fresh", flag, value), 2)
        assert refused.startswith(f"There is no {flag[2:]} {value!r}; choose one of auto, "), refused
    assert "either paths or --filter" in message(lookalike("delete", "colours"), 2)
    assert "LOOKALIKE_MAX_IMAGE_PIXELS is 'x'" in message(lookalike("collections", LOOKALIKE_MAX_IMAGE_PIXELS="x"), 2)
    no_server = message(lookalike("collections", MILVUS_URI="http://127.0.0.1:1"), 1)
    assert "No Milvus server answers at http://127.0.0.1:1; start one with `docker compose up -d`" in no_server
    assert load("--collection", "more").returncode == 0
    assert "several collections; say --collection with one of colours, more" in message(lookalike("query", image), 2)
    assert lookalike("query").returncode == 2
    assert lookalike("fly").returncode == 2


def test_limits_are_settable(load: Lookalike, lookalike: Lookalike, colour_tree: Path, tmp_path: Path) -> None:
    assert load().returncode == 0
    Image.new("1", (2000, 1000)).save(tmp_path / "bomb.png")
    limited = lookalike("query", tmp_path / "bomb.png", LOOKALIKE_MAX_IMAGE_PIXELS="1000000")
    assert "2,000,000 pixels, more than the limit of 1,000,000" in message(limited, 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # The system connects, and nobody answers.
        slow = lookalike(
            *("query", f"http://127.0.0.1:{silent.getsockname()[1]}/a.jpg"),
            LOOKALIKE_DOWNLOAD_TIMEOUT="0.5",
            LOOKALIKE_ALLOW_PRIVATE_URLS="yes",
        )
    assert "did not deliver within 0.5 seconds" in message(slow, 1)


def test_a_database_that_another_process_holds(lookalike: Lookalike, settings: Settings) -> None:
    client = connect(settings=settings)
    try:
        assert "open in another process" in message(lookalike("collections"), 1)
    finally:
        client.close()


def test_a_home_that_cannot_be_written(lookalike: Lookalike, colour_tree: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = lookalike("load", colour_tree, LOOKALIKE_HOME=str(tmp_path / "file"))
    assert "cannot be written: " in message(result, 1)


def test_a_network_that_is_gone_is_built_again_from_the_noted_weights(
    load: Lookalike, lookalike: Lookalike, colour_tree: Path, settings: Settings, networks: Path
) -> None:
    assert load().returncode == 0
    settings.networks.unlink()
    query = lookalike("query", colour_tree / "red/red_0.png", "--top-k", "1")
    assert query.stdout.splitlines()[-1].split() == ["1", "1.0000", "red/red_0.png"]
    assert "Building mobilenetv2" in query.stderr
    shutil.rmtree(settings.networks)


def test_a_download_that_fails(lookalike: Lookalike, colour_tree: Path, tmp_path: Path) -> None:
    result = lookalike(
        *("load", colour_tree, "--backbone", "vgg16"),
        https_proxy="http://127.0.0.1:1",
        KERAS_HOME=str(tmp_path / "keras"),
    )
    assert result.returncode == 1
    assert result.stdout == ""
    assert "The ImageNet weights of vgg16 could not be downloaded" in result.stderr
    assert "--weights random" in result.stderr
    assert "Traceback" not in result.stderr
    assert list((tmp_path / "keras" / "models").iterdir()) == []


def test_another_embedded_database_by_its_variable(load: Lookalike, lookalike: Lookalike, tmp_path: Path) -> None:
    """The package pymilvus refuses such a variable as soon as it is imported."""
    other = str(tmp_path / "other.db")
    assert load(MILVUS_URI=other).returncode == 0
    assert "colours" in lookalike("collections", MILVUS_URI=other).stdout
    assert "give http://HOST:PORT or the path of a .db file" in message(lookalike("collections", MILVUS_URI="foo"), 2)


def test_a_backend_that_cannot_be_had(load: Lookalike, settings: Settings) -> None:
    settings.networks.unlink()
    result = load(KERAS_BACKEND="mxnet")
    assert result.returncode == 1
    assert "Keras cannot be used with KERAS_BACKEND=mxnet: " in result.stderr
    assert "Traceback" not in result.stderr


def test_messages_are_printed_once_though_keras_listens_too(load: Lookalike, settings: Settings) -> None:
    settings.networks.unlink()
    said = load().stderr
    assert said.count("Embedding 15 images") == 1
    assert "INFO:" not in said
