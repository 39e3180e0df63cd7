"""Loading: everything found is inserted, unchanged or failed; what is known is passed over; nothing doubles."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from pymilvus import MilvusClient

from pipelines import load
from tests.conftest import MeanColour
from utilities.errors import EmbedderMismatch, InvalidArgument, NoImagesFound
from utilities.fingerprint import Fingerprint
from utilities.items import item_id
from utilities.milvus_utilities import count_items, delete_items, drop_collection, stored_items
from utilities.settings import Settings


def run(tree: Path, settings: Settings, **arguments: object) -> load.LoadSummary:
    return load.run(tree, embedder=MeanColour(), settings=settings, progress=False, **arguments)  # type: ignore[arg-type]


def counts(summary: load.LoadSummary) -> tuple[int, int, int, int, int]:
    assert summary.found == summary.inserted + summary.unchanged + summary.failed
    return summary.found, summary.inserted, summary.unchanged, summary.failed, summary.items


def test_a_tree_goes_in_once(client: MilvusClient, colour_tree: Path, client_settings: Settings) -> None:
    first = run(colour_tree, client_settings)
    assert counts(first) == (15, 15, 0, 0, 15)
    assert first.collection == "colours"
    rows = pd.read_csv(first.id_map)
    assert list(rows["path"]) == sorted(p.relative_to(colour_tree).as_posix() for p in colour_tree.rglob("*.png"))
    assert list(rows["id"]) == [item_id(path) for path in rows["path"]]
    assert list(rows["label"]) == [path.split("/")[0] for path in rows["path"]]
    stored = {row["id"]: row for page in stored_items(client, "colours") for row in page}
    assert sorted(stored) == sorted(rows["id"])
    assert all(stored[id_]["path"] == path for id_, path in zip(rows["id"], rows["path"], strict=True))
    written = first.id_map.read_bytes()
    assert counts(run(colour_tree, client_settings)) == (15, 0, 15, 0, 15)
    assert first.id_map.read_bytes() == written


def test_only_what_is_new_or_changed_is_embedded(
    client: MilvusClient, colour_tree: Path, client_settings: Settings
) -> None:
    run(colour_tree, client_settings)
    Image.new("RGB", (9, 9), "white").save(colour_tree / "red/white.png")
    Image.new("RGB", (9, 9), "cyan").save(colour_tree / "red/red_0.png")
    os.utime(colour_tree / "red/red_1.png", ns=(1, 1))
    summary = run(colour_tree, client_settings)
    assert counts(summary) == (16, 3, 13, 0, 16)
    rows = pd.read_csv(summary.id_map)
    assert len(rows) == 16
    assert rows[rows["path"] == "red/red_0.png"]["width"].item() == 9


def test_a_load_goes_on_past_bad_files_and_lists_them(
    client: MilvusClient, colour_tree: Path, client_settings: Settings
) -> None:
    (colour_tree / "bad,name.jpg").write_bytes(b"no image")
    (colour_tree / "red/empty.png").write_bytes(b"")
    summary = run(colour_tree, client_settings)
    assert counts(summary) == (17, 15, 0, 2, 15)
    assert summary.failures is not None
    with summary.failures.open(newline="") as file:
        header, *failures = csv.reader(file)
    assert header == ["path", "reason"]
    assert [path for path, _ in failures] == ["bad,name.jpg", "red/empty.png"]
    assert "is not an image that can be opened (it is empty)" in failures[1][1]
    # Mended, they go in, and the list is gone.
    Image.new("RGB", (4, 4)).save(colour_tree / "red/empty.png")
    (colour_tree / "bad,name.jpg").unlink()
    summary = run(colour_tree, client_settings)
    assert counts(summary) == (16, 1, 15, 0, 16)
    assert summary.failures is None
    assert not client_settings.failures_path("colours").exists()


def test_what_milvus_or_the_id_map_lost_is_loaded_again(
    client: MilvusClient, colour_tree: Path, client_settings: Settings
) -> None:
    whole = run(colour_tree, client_settings).id_map.read_bytes()
    delete_items(client, "colours", [item_id("red/red_0.png"), item_id("red/red_1.png")])
    assert counts(run(colour_tree, client_settings)) == (15, 2, 13, 0, 15)
    lines = whole.splitlines(keepends=True)
    client_settings.id_map_path("colours").write_bytes(b"".join(lines[:-4]))
    assert counts(run(colour_tree, client_settings)) == (15, 4, 11, 0, 15)
    assert client_settings.id_map_path("colours").read_bytes() == whole
    drop_collection(client, "colours")
    assert counts(run(colour_tree, client_settings)) == (15, 15, 0, 0, 15)
    assert client_settings.id_map_path("colours").read_bytes() == whole


def test_a_load_that_dies_between_milvus_and_the_id_map_heals(
    client: MilvusClient, colour_tree: Path, client_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("utilities.id_map.IdMap.append", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(colour_tree, client_settings)
    assert count_items(client, "colours") == 15
    summary = run(colour_tree, client_settings)
    assert counts(summary) == (15, 15, 0, 0, 15)
    assert len(pd.read_csv(summary.id_map)) == 15


def test_another_embedder_another_tree_another_metric_are_refused(
    client: MilvusClient, colour_tree: Path, client_settings: Settings
) -> None:
    run(colour_tree, client_settings)
    other = MeanColour()
    other.fingerprint = Fingerprint("mean_colour", "1" * 32, other.fingerprint.preprocessing, 3)
    with pytest.raises(EmbedderMismatch, match="`lookalike drop colours` first"):
        load.run(colour_tree, embedder=other, settings=client_settings, progress=False)
    with pytest.raises(InvalidArgument, match="holds the tree"):
        run(colour_tree / "red", client_settings, collection="colours")
    with pytest.raises(InvalidArgument, match="compares by COSINE, not IP"):
        run(colour_tree, client_settings, metric="ip")
    assert count_items(client, "colours") == 15


def test_bad_directories(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(InvalidArgument, match="no directory"):
        run(tmp_path / "nothing", settings)
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoImagesFound, match="No image lies in"):
        run(tmp_path / "empty", settings)


@pytest.mark.parametrize(
    ("directory", "name"),
    [
        ("photos", "photos"),
        ("my photos-2024", "my_photos_2024"),
        ("2024", "_2024"),
        ("été", "_t_"),
        ("x" * 300, "x" * 200),
    ],
)
def test_collection_name_from_a_directory(directory: str, name: str) -> None:
    assert load.collection_name(Path("/somewhere") / directory) == name
