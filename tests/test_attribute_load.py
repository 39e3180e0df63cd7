"""Attributes of files, by their EXIF data and by a CSV: into Milvus, past later loads, and out by filters."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from PIL.ExifTags import Base
from pymilvus import MilvusClient

from pipelines import load, manage
from tests.conftest import MeanColour
from utilities import attribute_join, milvus_reading
from utilities.errors import InvalidArgument
from utilities.id_map import IdMap
from utilities.items import Value
from utilities.milvus_utilities import (
    connect,
    count_items,
    create_collection,
    describe_collection,
    insert_embeddings,
    insert_items,
    read_items,
    stored_embeddings,
    stored_items,
)
from utilities.settings import Settings
from utilities.similar_images import Match, similar_images

Lookalike = Callable[..., "subprocess.CompletedProcess[str]"]
SHOP = """path,price,sale,sku
red/red_0.png,80.5,true,007
red/red_1.png,12,false,
blue/blue_0.png,100,,b-1
nowhere.png,1,true,x
"""


class NothingIsEmbedded(MeanColour):
    """As the one that it is, which must not be asked."""

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        raise AssertionError("something was embedded")


def run(tree: Path, settings: Settings, embedder: MeanColour | None = None, **arguments: Any) -> load.LoadSummary:
    return load.run(tree, embedder=embedder or MeanColour(), settings=settings, progress=False, **arguments)


def csv(tree: Path, text: str) -> Path:
    file = tree.parent / "shop.csv"
    file.write_text(text)
    return file


def photograph(file: Path, taken: str, camera: str = "", colour: str = "red") -> None:
    exif = Image.Exif()
    exif.update({Base.DateTime: taken, Base.Model: camera})
    Image.new("RGB", (12, 8), colour).save(file, exif=exif)


def found(tree: Path, settings: Settings, filter: str) -> dict[str, dict[str, Value]]:
    """The paths that satisfy a filter, and the attributes of their matches."""
    matches: list[Match] = similar_images(
        tree / "red/red_0.png", tree.name, filter=filter, embedder=MeanColour(), settings=settings
    )
    return {match.path: dict(match.attributes) for match in matches}


def all_of_it(client: MilvusClient, name: str) -> dict[str, dict[str, Any]]:
    """Every field of every item, by path and part, without the nulls that stand for nothing, and its vector."""
    info = describe_collection(client, name)
    return {
        f"{row['path']} {row['part']}": {
            **{field: value for field, value in row.items() if value is not None},
            "vector": vector.tolist(),
        }
        for page, vectors in stored_embeddings(client, info, ["*"])
        for row, vector in zip(page, vectors, strict=True)
    }


def test_when_and_by_what_an_image_was_taken(
    client: MilvusClient, colour_tree: Path, client_settings: Settings
) -> None:
    photograph(colour_tree / "red/old.jpg", "2019:06:01 10:00:00", "Canon EOS 5D")
    photograph(colour_tree / "red/new.jpg", "2023:05:17 10:31:00", "NIKON D850")
    photograph(colour_tree / "red/odd.jpg", "0000:00:00 00:00:00")
    run(colour_tree, client_settings)
    new = {"taken": "2023-05-17T10:31:00", "camera": "NIKON D850"}
    assert found(colour_tree, client_settings, 'taken >= "2023-01-01" and taken < "2024"') == {"red/new.jpg": new}
    assert list(found(colour_tree, client_settings, 'camera like "Canon%"')) == ["red/old.jpg"]
    assert len(found(colour_tree, client_settings, "exists camera")) == 2
    assert len(found(colour_tree, client_settings, "not exists taken")) == 16
    assert set(found(colour_tree, client_settings, 'path like "red/o%"')) == {"red/old.jpg", "red/odd.jpg"}


def test_what_an_image_says_no_more_is_forgotten(lite: MilvusClient, colour_tree: Path, settings: Settings) -> None:
    photograph(colour_tree / "red/new.jpg", "2023:05:17 10:31:00", "NIKON D850")
    run(colour_tree, settings)
    Image.new("RGB", (12, 9), "red").save(colour_tree / "red/new.jpg")
    run(colour_tree, settings)
    assert found(colour_tree, settings, 'path == "red/new.jpg"') == {"red/new.jpg": {}}
    assert found(colour_tree, settings, "exists taken") == {}


def test_columns_of_a_csv_are_attributes(client: MilvusClient, colour_tree: Path, client_settings: Settings) -> None:
    summary = run(colour_tree, client_settings, attributes=csv(colour_tree, SHOP))
    assert summary.inserted == 15
    assert summary.attributes == attribute_join.JoinSummary(3, rows_without_file=1, files_without_row=12)
    red = {"price": 80.5, "sale": True, "sku": "007"}
    assert found(colour_tree, client_settings, "sale == true") == {"red/red_0.png": red}
    dear = found(colour_tree, client_settings, "price > 80")
    assert dear == {"red/red_0.png": red, "blue/blue_0.png": {"price": 100.0, "sku": "b-1"}}
    assert set(found(colour_tree, client_settings, 'sku == "007" or price == 12')) == {"red/red_0.png", "red/red_1.png"}
    info = describe_collection(client, "colours")
    assert info.columns == (("price", "number"), ("sale", "boolean"), ("sku", "text"))
    assert info.attributes == ("taken", "camera", "price", "sale", "sku")
    assert "price" not in IdMap(client_settings.id_map_path("colours")).read()
    assert not manage.info("colours", client_settings).differences


def test_what_is_there_is_given_attributes_without_being_embedded(
    client: MilvusClient, colour_tree: Path, client_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attribute_join, "TOGETHER", 2)
    photograph(colour_tree / "red/red_0.png", "2023:05:17 10:31:00", "NIKON D850")
    run(colour_tree, client_settings)
    before, written = all_of_it(client, "colours"), client_settings.id_map_path("colours").read_bytes()
    summary = run(colour_tree, client_settings, NothingIsEmbedded(), attributes=csv(colour_tree, SHOP))
    assert (summary.unchanged, summary.attributes and summary.attributes.items) == (15, 3)
    after = all_of_it(client, "colours")
    assert after.pop("red/red_0.png ") == {**before.pop("red/red_0.png "), "price": 80.5, "sale": True, "sku": "007"}
    assert after["blue/blue_0.png "] == {**before["blue/blue_0.png "], "price": 100.0, "sku": "b-1"}
    assert after["grey/grey_0.png "] == before["grey/grey_0.png "]
    assert client_settings.id_map_path("colours").read_bytes() == written
    again = run(colour_tree, client_settings, NothingIsEmbedded(), attributes=csv(colour_tree, SHOP))
    assert again.attributes == attribute_join.JoinSummary(0, 1, 12)
    # Another price, one that goes, and a CSV without the other columns, which stay.
    changed = csv(colour_tree, "path,price\nred/red_0.png,\nred/red_1.png,13\n")
    summary = run(colour_tree, client_settings, NothingIsEmbedded(), attributes=changed)
    assert summary.attributes == attribute_join.JoinSummary(2, 0, 13)
    about = found(colour_tree, client_settings, 'path like "red/%" or label == "blue"')
    assert about["red/red_0.png"] == {
        "taken": "2023-05-17T10:31:00",
        "camera": "NIKON D850",
        "sale": True,
        "sku": "007",
    }
    assert about["red/red_1.png"] == {"price": 13.0, "sale": False}
    assert about["blue/blue_0.png"] == {"price": 100.0, "sku": "b-1"}
    assert found(colour_tree, client_settings, "price > 50") == {"blue/blue_0.png": about["blue/blue_0.png"]}


def test_an_image_that_has_changed_keeps_what_the_csv_said(
    lite: MilvusClient, colour_tree: Path, settings: Settings
) -> None:
    run(colour_tree, settings, attributes=csv(colour_tree, SHOP))
    photograph(colour_tree / "red/red_0.png", "2023:05:17 10:31:00")
    summary = run(colour_tree, settings)
    assert (summary.inserted, summary.attributes) == (1, None)
    kept = {"taken": "2023-05-17T10:31:00", "price": 80.5, "sale": True, "sku": "007"}
    assert found(colour_tree, settings, "price == 80.5") == {"red/red_0.png": kept}
    # In Python, too.
    insert_embeddings(lite, "colours", np.ones((1, 3)), [str(colour_tree / "red/red_0.png")], settings=settings)
    assert found(colour_tree, settings, "price == 80.5") == {"red/red_0.png": kept}
    # Embedded again and described anew at once, with a column more.
    os.utime(colour_tree / "red/red_0.png", ns=(1, 1))
    more = csv(colour_tree, "path,size,sku\nred/red_0.png,4,8\n")
    assert run(colour_tree, settings, attributes=more).attributes == attribute_join.JoinSummary(1, 0, 14)
    assert found(colour_tree, settings, "size == 4") == {"red/red_0.png": {**kept, "size": 4, "sku": "8"}}


def test_only_what_is_embedded_again_is_read(
    lite: MilvusClient, colour_tree: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(colour_tree, settings, attributes=csv(colour_tree, SHOP))
    asked: list[str] = []
    read = milvus_reading.stored_items

    def noted(*arguments: Any, **named: Any) -> Iterator[list[dict[str, Any]]]:
        for page in read(*arguments, **named):
            asked.extend(row["path"] for row in page if "price" in row)
            yield page

    monkeypatch.setattr(milvus_reading, "stored_items", noted)
    run(colour_tree, settings)
    assert not asked
    os.utime(colour_tree / "red/red_1.png", ns=(1, 1))
    run(colour_tree, settings)
    assert asked == ["red/red_1.png"]
    insert_embeddings(lite, "colours", np.ones((1, 3)), [str(colour_tree / "blue/blue_0.png")], settings=settings)
    assert asked == ["red/red_1.png", "blue/blue_0.png"]
    assert found(colour_tree, settings, "price in [12, 100]") == {
        "red/red_1.png": {"price": 12.0, "sale": False},
        "blue/blue_0.png": {"price": 100.0, "sku": "b-1"},
    }


def test_a_load_that_died_in_the_middle_is_mended_by_the_next(
    colour_tree: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(colour_tree, settings)
    write = insert_items
    calls = []

    def dies(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        write(*arguments)

    monkeypatch.setattr(attribute_join, "TOGETHER", 1)
    monkeypatch.setattr(attribute_join, "insert_items", dies)
    with pytest.raises(KeyboardInterrupt):
        run(colour_tree, settings, attributes=csv(colour_tree, SHOP))
    monkeypatch.undo()
    assert len(found(colour_tree, settings, "price > 0")) == 1
    summary = run(colour_tree, settings, NothingIsEmbedded(), attributes=csv(colour_tree, SHOP))
    assert summary.attributes == attribute_join.JoinSummary(2, 1, 12)
    assert len(found(colour_tree, settings, "price > 0")) == 3


def test_a_stop_says_how_many_still_lack_their_attributes(
    colour_tree: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(colour_tree, settings)
    write = insert_items

    def stopped(*arguments: Any) -> None:
        write(*arguments)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(attribute_join, "TOGETHER", 1)
    monkeypatch.setattr(attribute_join, "insert_items", stopped)
    with pytest.raises(load.LoadStopped) as caught:
        run(colour_tree, settings, attributes=csv(colour_tree, SHOP))
    assert str(caught.value) == (
        "Stopped with 0 images left, and 2 images without their new attributes; the same command goes on from there."
    )
    assert caught.value.summary.attributes == attribute_join.JoinSummary(1, 1, 12, left=2)


def test_another_type_is_refused_before_anything_is_done(colour_tree: Path, settings: Settings) -> None:
    run(colour_tree, settings, attributes=csv(colour_tree, "path,stock\nred/red_0.png,3\n"))
    with pytest.raises(
        InvalidArgument, match=r"line 2, gives 'stock' as 'many', and the collection holds it as integer"
    ):
        run(colour_tree, settings, attributes=csv(colour_tree, "path,stock,x\nred/red_0.png,many,1\n"))
    assert describe_collection(connect(settings=settings), "colours").columns == (("stock", "integer"),)


def test_integers_become_numbers_and_a_wrong_path_settles_nothing(
    client: MilvusClient, colour_tree: Path, client_settings: Settings
) -> None:
    first = csv(colour_tree, "path,rank,code\nred/red_0.png,99,\nred/red_1.png,98,\nred/wrong.png,3,1\n")
    run(colour_tree, client_settings, attributes=first)
    assert describe_collection(client, "colours").columns == (("rank", "integer"),)
    second = csv(colour_tree, "path,rank,code\nred/red_1.png,98.5,\nred/red_2.png,1.5,A1\n")
    run(colour_tree, client_settings, NothingIsEmbedded(), attributes=second)
    assert describe_collection(client, "colours").columns == (("rank", "number"), ("code", "text"))
    assert found(colour_tree, client_settings, "rank > 1.2") == {
        "red/red_0.png": {"rank": 99},
        "red/red_1.png": {"rank": 98.5},
        "red/red_2.png": {"rank": 1.5, "code": "A1"},
    }
    assert set(found(colour_tree, client_settings, "rank > 98.7")) == {"red/red_0.png"}
    # What a file that is gone has had is told of it still.
    (colour_tree / "red/red_2.png").unlink()
    third = csv(colour_tree, "path,size\nred/red_2.png,4\n")
    assert run(colour_tree, client_settings, attributes=third).attributes == attribute_join.JoinSummary(1, 0, 14)
    assert found(colour_tree, client_settings, "size == 4")["red/red_2.png"]["code"] == "A1"


def test_more_of_a_file_than_milvus_takes_is_refused_before_anything_is_written(
    lite: MilvusClient, colour_tree: Path, settings: Settings
) -> None:
    long = "x" * 40_000
    run(colour_tree, settings, attributes=csv(colour_tree, f"path,a\nred/red_0.png,{long}\n"))
    before = all_of_it(lite, "colours")
    (colour_tree / "blue/blue_0.png").unlink()
    more = csv(colour_tree, f"path,b\ngrey/grey_0.png,1\nred/red_0.png,{long}\n")
    with pytest.raises(InvalidArgument, match=r"'red/red_0\.png' would hold 80,0.. bytes; Milvus takes at most 60,000"):
        run(colour_tree, settings, attributes=more, prune=True)
    assert all_of_it(lite, "colours") == before
    instead = csv(colour_tree, f"path,a,b\nred/red_0.png,,{long}\n")
    assert run(colour_tree, settings, NothingIsEmbedded(), attributes=instead).unchanged == 14


def test_a_filter_of_a_field_that_there_is_not(lite: MilvusClient, colour_tree: Path, settings: Settings) -> None:
    run(colour_tree, settings, attributes=csv(colour_tree, SHOP))
    fields = (
        "id, path, part, label, width, height, file_size, file_mtime_ns, file_digest, taken, camera, price, sale, sku"
    )
    with pytest.raises(InvalidArgument) as caught:
        found(colour_tree, settings, "prize > 80")
    assert str(caught.value) == (
        f"The filter 'prize > 80' cannot be applied to 'colours': there is no field 'prize'; there are {fields}."
    )
    with pytest.raises(InvalidArgument, match="no field 'lable'"):
        manage.delete("colours", filter='lable == "red"', settings=settings)
    with pytest.raises(InvalidArgument, match="no field 'time'"):
        next(stored_items(lite, "colours", "time > 3"))
    assert count_items(lite, "colours") == 15


def test_a_collection_from_before_has_none_and_says_so(lite: MilvusClient, settings: Settings, tmp_path: Path) -> None:
    create_collection(lite, "old", dimension=3, fingerprint=MeanColour.fingerprint, root=tmp_path)
    insert_embeddings(
        lite, "old", np.eye(3), [str(tmp_path / f"{number}.png") for number in range(3)], settings=settings
    )
    assert list(stored_items(lite, "old", 'taken >= "2020" or camera like "%x%"')) == []
    assert len(next(stored_items(lite, "old", "camera is null"))) == 3


def test_the_command_says_what_became_of_the_csv(lookalike: Lookalike, colour_tree: Path) -> None:
    network = ("--backbone", "mobilenetv2", "--weights", "random")
    file = csv(colour_tree, SHOP)
    loaded = lookalike("load", colour_tree, *network, "--attributes", file)
    assert loaded.stdout.splitlines()[-1] == (
        "attributes: new for 3 images; 1 row without an image, 12 images without a row"
    )
    again = json.loads(lookalike("load", colour_tree, "--attributes", file, "--json").stdout)
    assert again["attributes"] == {"items": 0, "rows_without_file": 1, "files_without_row": 12, "left": 0}
    image = colour_tree / "red/red_1.png"
    first = json.loads(lookalike("query", image, "--top-k", "1", "--json").stdout)["matches"][0]
    assert first["attributes"] == {"price": 12.0, "sale": False}
    bare = json.loads(lookalike("query", image, "--filter", 'label == "grey"', "--json").stdout)["matches"][0]
    assert "attributes" not in bare
    refused = lookalike("query", image, "--filter", "prize > 3")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "there is no field 'prize'; there are id, path," in refused.stderr
    refused = lookalike("load", colour_tree, "--attributes", colour_tree.parent / "nothing.csv")
    assert (refused.returncode, refused.stderr.count("There is no file of attributes")) == (2, 1)


def test_the_frame_of_items_reads_what_some_lack(colour_tree: Path, settings: Settings) -> None:
    run(colour_tree, settings, attributes=csv(colour_tree, SHOP))
    client = connect(settings=settings)
    items = read_items(client, "colours", describe_collection(client, "colours").attributes)
    assert items["price"].notna().sum() == 3
    assert items["taken"].isna().all()
