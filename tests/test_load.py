"""Loading: everything found is inserted, unchanged or failed; what is known is passed over; nothing doubles."""

from __future__ import annotations

import csv
import logging
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image
from pymilvus import MilvusClient

from pipelines import load, manage
from tests.conftest import MeanColour
from utilities.backbones import build_network
from utilities.changes import vanished_items
from utilities.errors import DatabaseError, EmbedderMismatch, IdMapError, InvalidArgument, NoImagesFound
from utilities.fingerprint import Fingerprint
from utilities.items import item_id
from utilities.milvus_utilities import (
    connect,
    count_items,
    current_index,
    delete_items,
    describe_collection,
    drop_collection,
    stored_items,
)
from utilities.settings import Settings
from utilities.similar_images import similar_images


def run(tree: Path, settings: Settings, **arguments: object) -> load.LoadSummary:
    return load.run(tree, embedder=MeanColour(), settings=settings, progress=False, **arguments)  # type: ignore[arg-type]


def counts(summary: load.LoadSummary) -> tuple[int, int, int, int, int]:
    assert summary.found == summary.inserted + summary.unchanged + summary.failed + summary.left
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


def test_a_second_collection_of_a_tree_is_noted(
    lite: MilvusClient, colour_tree: Path, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    said = "This tree is in 'mine' already; a new collection is made."
    run(colour_tree, settings, collection="mine")
    assert said not in caplog.text
    run(colour_tree, settings)
    assert said in caplog.text
    caplog.clear()
    run(colour_tree, settings)
    assert said not in caplog.text


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


def test_unchanged_files_are_not_opened(colour_tree: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    run(colour_tree, settings)
    usual = Path.open

    def open_elsewhere(self: Path, *arguments: Any, **options: Any) -> Any:
        assert colour_tree not in self.parents
        return usual(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", open_elsewhere)
    assert counts(run(colour_tree, settings)) == (15, 0, 15, 0, 15)
    with pytest.raises(AssertionError):
        run(colour_tree, settings, verify=True)


def test_verify_finds_what_size_and_time_do_not_show(
    client: MilvusClient, colour_tree: Path, client_settings: Settings
) -> None:
    file = colour_tree / "red/same_size.bmp"
    Image.new("RGB", (20, 16), (255, 0, 0)).save(file)
    run(colour_tree, client_settings)
    status = file.stat()
    Image.new("RGB", (20, 16), (0, 255, 255)).save(file)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert counts(run(colour_tree, client_settings)) == (16, 0, 16, 0, 16)
    assert counts(run(colour_tree, client_settings, verify=True)) == (16, 1, 15, 0, 16)
    assert counts(run(colour_tree, client_settings, verify=True)) == (16, 0, 16, 0, 16)
    match = similar_images(file, "colours", 1, embedder=MeanColour(), settings=client_settings)[0]
    assert match.path == "red/same_size.bmp"
    assert match.score == pytest.approx(1)


def test_what_milvus_or_the_id_map_lost_comes_back(
    client: MilvusClient, colour_tree: Path, client_settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    id_map = run(colour_tree, client_settings).id_map
    whole = id_map.read_bytes()
    delete_items(client, "colours", [item_id("red/red_0.png"), item_id("red/red_1.png")])
    assert counts(run(colour_tree, client_settings)) == (15, 2, 13, 0, 15)
    # Milvus knows what the id map lost: nothing is embedded again.
    id_map.write_bytes(b"".join(whole.splitlines(keepends=True)[:-4]))
    assert counts(run(colour_tree, client_settings)) == (15, 0, 15, 0, 15)
    assert id_map.read_bytes() == whole
    assert "The id map and Milvus disagreed (4 not in the id map)" in caplog.text
    # Torn in the middle of a row, or not sorted: the bytes are those of a load that nothing disturbed.
    lines = whole.splitlines(keepends=True)
    for content in (whole[:-7], b"".join([*lines[:5], *lines[9:], *lines[5:9]])):
        id_map.write_bytes(content)
        assert counts(run(colour_tree, client_settings)) == (15, 0, 15, 0, 15)
        assert id_map.read_bytes() == whole
    id_map.unlink()
    assert counts(run(colour_tree, client_settings)) == (15, 0, 15, 0, 15)
    assert id_map.read_bytes() == whole
    drop_collection(client, "colours")
    assert counts(run(colour_tree, client_settings)) == (15, 15, 0, 0, 15)
    assert id_map.read_bytes() == whole


def test_a_load_that_dies_between_milvus_and_the_id_map_heals(
    client: MilvusClient, colour_tree: Path, client_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("utilities.id_map.IdMap.append", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(colour_tree, client_settings)
    assert count_items(client, "colours") == 15
    summary = run(colour_tree, client_settings)
    assert counts(summary) == (15, 0, 15, 0, 15)
    assert len(pd.read_csv(summary.id_map)) == 15


def test_an_id_map_that_a_hand_has_changed_is_refused(colour_tree: Path, settings: Settings) -> None:
    id_map = run(colour_tree, settings).id_map
    written = id_map.read_text()
    id_map.write_text(written.replace("green/green_1.png", "green/grün_1.png"))
    with pytest.raises(
        IdMapError, match=r"line 6: [0-9]+ is not the id of 'green/grün_1.png'.*`lookalike export colours`"
    ):
        run(colour_tree, settings)
    assert "grün" in id_map.read_text(), "what the hand wrote is not lost"
    manage.export("colours", settings=settings)
    assert id_map.read_text() == written


def test_rows_that_milvus_acknowledged_and_lost_are_embedded_again(
    client: MilvusClient, colour_tree: Path, client_settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """As a server may that is killed: the first three items of the first message go missing before the load ends."""
    lost = [item_id(f"blue/blue_{number}.png") for number in range(3)]
    deleted: list[list[int]] = []

    def flush_and_count(*arguments: object) -> int:
        if not deleted:
            deleted.append(lost)
            delete_items(client, "colours", lost)
        return count_items(client, "colours")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("utilities.loading.count_items", flush_and_count)
        summary = run(colour_tree, client_settings)
    assert counts(summary) == (15, 15, 0, 0, 15)
    assert "Milvus has lost 3 items that it had acknowledged" in caplog.text
    assert {row["id"] for page in stored_items(client, "colours") for row in page} >= set(lost)
    assert len(pd.read_csv(summary.id_map)) == 15


def test_a_milvus_that_loses_again_and_again_ends_the_load(
    colour_tree: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose_and_count(client: MilvusClient, name: str) -> int:
        delete_items(client, name, [item_id("red/red_0.png")])
        return count_items(client, name)

    monkeypatch.setattr("utilities.loading.count_items", lose_and_count)
    with pytest.raises(DatabaseError, match="has acknowledged items of 'colours' and lost them, 3 times over"):
        run(colour_tree, settings)


def test_the_summary_adds_up_when_what_was_lost_cannot_be_read_again(
    client: MilvusClient, colour_tree: Path, client_settings: Settings
) -> None:
    run(colour_tree, client_settings)
    Image.new("RGB", (9, 9), "white").save(colour_tree / "red/white.png")
    calls: list[str] = []

    def lose_once_and_count(client: MilvusClient, name: str) -> int:
        if not calls:
            delete_items(client, name, [item_id("red/red_0.png"), item_id("red/white.png")])
            (colour_tree / "red/red_0.png").write_bytes(b"broken meanwhile")
        calls.append(name)
        return count_items(client, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("utilities.loading.count_items", lose_once_and_count)
        summary = run(colour_tree, client_settings)
    assert counts(summary) == (16, 1, 14, 1, 15)


def test_one_home_with_two_databases(colour_tree: Path, settings: Settings) -> None:
    """The id map is shared, but what is unchanged is for each database to say."""
    one, two = (replace(settings, milvus_uri=str(settings.home / f"{name}.db")) for name in ("one", "two"))
    picture = colour_tree / "red/red_0.png"
    run(colour_tree, one)
    Image.new("RGB", (20, 16), "lime").save(picture)
    run(colour_tree, two)
    assert counts(run(colour_tree, one)) == (15, 1, 14, 0, 15)
    matches = similar_images(picture, "colours", 4, embedder=MeanColour(), settings=one)
    assert "red/red_0.png" in {match.path for match in matches}


def test_files_that_are_gone_are_counted_and_pruned_on_request(
    client: MilvusClient, colour_tree: Path, client_settings: Settings
) -> None:
    run(colour_tree, client_settings)
    (colour_tree / "red/red_0.png").rename(colour_tree / "red/renamed.png")
    (colour_tree / "blue/blue_0.png").unlink()
    summary = run(colour_tree, client_settings)
    assert counts(summary) == (14, 1, 13, 0, 16)
    assert (summary.vanished, summary.pruned) == (2, False)
    summary = run(colour_tree, client_settings, prune=True)
    assert counts(summary) == (14, 0, 14, 0, 14)
    assert (summary.vanished, summary.pruned) == (2, True)
    assert len(pd.read_csv(summary.id_map)) == 14
    # What an extension leaves out is not gone, nor is what lies in a folder that may not be entered.
    Image.new("RGB", (3, 3)).save(colour_tree / "one.jpg")
    assert run(colour_tree, client_settings, extension="jpg", prune=True).vanished == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "lstat", lambda self: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
        assert vanished_items(colour_tree, [], pd.read_csv(summary.id_map)) == []


def test_extension(colour_tree: Path, settings: Settings) -> None:
    Image.new("RGB", (3, 3)).save(colour_tree / "one.JPG")
    assert counts(run(colour_tree, settings, extension="jpg")) == (1, 1, 0, 0, 1)


def test_a_tree_that_has_moved(colour_tree: Path, settings: Settings) -> None:
    run(colour_tree, settings)
    moved = colour_tree.rename(colour_tree.parent / "elsewhere")
    with pytest.raises(InvalidArgument, match="if the tree has moved there, say --moved"):
        run(moved, settings, collection="colours")
    with pytest.raises(InvalidArgument, match=r"None of the 15 items of 'colours' lies in .*, such as '\w+/\w+\.png'"):
        run(moved / "red", settings, collection="colours", moved=True)
    assert counts(run(moved, settings, collection="colours", moved=True)) == (15, 0, 15, 0, 15)
    match = similar_images(moved / "red/red_0.png", "colours", 1, embedder=MeanColour(), settings=settings)[0]
    assert match.file.is_file()


def test_a_folder_that_may_not_be_listed_counts_as_failed(colour_tree: Path, settings: Settings) -> None:
    error = PermissionError(13, "Permission denied", str(colour_tree / "secret"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load, "find_images", lambda *_, on_error: [on_error(error), "red/red_0.png"][1:])
        summary = run(colour_tree, settings)
    assert counts(summary) == (2, 1, 0, 1, 1)
    assert summary.failures is not None
    assert "secret cannot be looked at: Permission denied" in summary.failures.read_text()


def test_failures_are_listed_while_the_load_goes_on(
    colour_tree: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    (colour_tree / "a.png").write_bytes(b"x")
    monkeypatch.setattr("utilities.loading.flush_and_index", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run(colour_tree, settings)
    assert "a.png" in settings.failures_path("colours").read_text()


def test_a_second_load_takes_the_collections_own_network_and_metric(
    colour_tree: Path, settings: Settings, networks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.home.mkdir()
    settings.networks.symlink_to(networks)
    first = load.run(
        colour_tree, backbone="mobilenetv2", weights="random", metric="l2", settings=settings, progress=False
    )
    assert counts(first) == (15, 15, 0, 0, 15)
    assert counts(load.run(colour_tree, settings=settings, progress=False)) == (15, 0, 15, 0, 15)
    # Another network is refused before it is built.
    monkeypatch.setattr("utilities.exported_networks.build_network", lambda *_: pytest.fail("built"))
    with pytest.raises(EmbedderMismatch, match="vectors of vgg16, 512 dimensions cannot be compared"):
        load.run(colour_tree, backbone="vgg16", settings=settings, progress=False)


def test_weights_from_a_relative_path_are_noted_whole(
    colour_tree: Path, settings: Settings, networks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    network, _ = build_network("mobilenetv2", "random")
    inner = next(layer for layer in network.layers if isinstance(layer, keras.Model))
    inner.save_weights(str(tmp_path / "mine.weights.h5"))
    settings.home.mkdir()
    shutil.copytree(networks, settings.networks)
    monkeypatch.chdir(tmp_path)
    summary = load.run(
        colour_tree, backbone="mobilenetv2", weights="mine.weights.h5", settings=settings, progress=False
    )
    noted = describe_collection(connect(settings=settings), summary.collection).fingerprint
    assert noted.weights == str(tmp_path / "mine.weights.h5")


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


def test_a_load_indexes_as_it_was_asked_to_and_a_later_one_keeps_to_it(colour_tree: Path, settings: Settings) -> None:
    def index() -> str | None:
        client = connect(settings=settings)
        return current_index(client, describe_collection(client, "colours"))

    run(colour_tree, settings, index="hnsw")
    assert index() == "hnsw"
    Image.new("RGB", (9, 9), "red").save(colour_tree / "another.png")
    assert counts(run(colour_tree, settings))[1] == 1
    assert index() == "hnsw"
    run(colour_tree, settings, index="auto")
    assert index() == "flat"
    with pytest.raises(InvalidArgument, match="There is no metric 'cos'"):
        run(colour_tree, settings, metric="cos")
