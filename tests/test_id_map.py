"""The id map: what was appended is read, the last row of an id holds, and a torn row is dropped."""

from __future__ import annotations

from pathlib import Path

import pytest

from utilities.errors import IdMapError
from utilities.id_map import IdMap
from utilities.items import Item


def item(path: str, *, size: int = 1, mtime: int = 1_700_000_000_123_456_789) -> Item:
    return Item.of_file(Path("/root"), path, width=3, height=2, file_size=size, file_mtime_ns=mtime)


@pytest.fixture
def id_map(tmp_path: Path) -> IdMap:
    return IdMap(tmp_path / "home" / "cats.csv")


def rows(id_map: IdMap) -> list[tuple[object, ...]]:
    return [tuple(row) for row in id_map.read().itertuples(index=False)]


def as_row(item: Item) -> tuple[object, ...]:
    return (item.id, item.path, item.part, item.label, item.width, item.height, item.file_size, item.file_mtime_ns)


def test_no_file_is_an_empty_map(id_map: IdMap) -> None:
    assert id_map.read().empty
    assert list(id_map.read().columns) == [
        "id",
        "path",
        "part",
        "label",
        "width",
        "height",
        "file_size",
        "file_mtime_ns",
    ]
    id_map.compact()
    id_map.remove([1])
    assert not id_map.path.exists()


def test_what_was_appended_is_read(id_map: IdMap) -> None:
    # Folders called NA or null, commas, quotes and line breaks are names like any other; 19 digits keep their last.
    items = [
        item(path) for path in ("NA/1.jpg", "null/2.jpg", 'a,"b"/é 3.jpg', "line\nbreak/4.jpg", "a\rb.jpg", "5.jpg")
    ]
    id_map.append(items[:2])
    id_map.append(items[2:])
    assert rows(id_map) == [as_row(each) for each in items]


def test_the_last_row_of_an_id_holds_and_compact_sorts(id_map: IdMap) -> None:
    id_map.append([item("b.jpg"), item("a.jpg")])
    id_map.append([item("b.jpg", size=9)])
    assert rows(id_map) == [as_row(item("a.jpg")), as_row(item("b.jpg", size=9))]
    id_map.compact()
    assert id_map.path.read_text().splitlines() == [
        '"id","path","part","label","width","height","file_size","file_mtime_ns"',
        f'{item("a.jpg").id},"a.jpg","","root",3,2,1,1700000000123456789',
        f'{item("b.jpg").id},"b.jpg","","root",3,2,9,1700000000123456789',
    ]


def test_the_bytes_depend_on_the_items_alone(tmp_path: Path) -> None:
    items = [item(f"{number}.jpg") for number in range(5)]
    one, two = IdMap(tmp_path / "one.csv"), IdMap(tmp_path / "two.csv")
    one.append(items)
    two.append(items[3:])
    two.append(items[:4])
    one.compact()
    two.compact()
    assert one.path.read_bytes() == two.path.read_bytes()


def test_remove(id_map: IdMap) -> None:
    id_map.append([item("a.jpg"), item("b.jpg")])
    id_map.remove([item("a.jpg").id, 12345])
    assert rows(id_map) == [as_row(item("b.jpg"))]


def test_holds(id_map: IdMap) -> None:
    id_map.append([item("a.jpg"), item("b.jpg")])
    rows = id_map.read()
    assert id_map.holds(rows.iloc[::-1])
    assert not id_map.holds(rows.iloc[:1])
    assert not id_map.holds(rows.assign(file_size=9))


def test_reading_changes_nothing_while_another_process_writes(id_map: IdMap) -> None:
    id_map.append([item("a.jpg")])
    with id_map.path.open("ab") as writer:
        writer.write(b'77,"half a ro')
        writer.flush()
        id_map.path.chmod(0o444)
        assert len(id_map.read()) == 1
        writer.write(b'w","","l",1,1,1,1\n')
    assert list(id_map.read()["path"]) == ["a.jpg", "half a row"]


@pytest.mark.parametrize("kept", [1, 5, 30, 50])
def test_a_torn_last_row_is_dropped_and_appending_goes_on(id_map: IdMap, kept: int) -> None:
    id_map.append([item("a.jpg")])
    whole = id_map.path.read_bytes()
    id_map.append([item("b.jpg")])
    torn = id_map.path.read_bytes()[: len(whole) + kept]
    id_map.path.write_bytes(torn)
    assert rows(id_map) == [as_row(item("a.jpg"))]
    id_map.path.write_bytes(torn)
    id_map.append([item("c.jpg")])
    assert rows(id_map) == [as_row(item("a.jpg")), as_row(item("c.jpg"))]


def test_a_torn_header_is_written_anew(id_map: IdMap) -> None:
    id_map.path.parent.mkdir()
    id_map.path.write_text("id,pa")
    id_map.append([item("a.jpg")])
    assert rows(id_map) == [as_row(item("a.jpg"))]


@pytest.mark.parametrize(
    "content",
    [
        "name,age\nAnna,3\n",
        "id,path,part,label,width,height,file_size,file_mtime_ns\nx,a.jpg,,l,1,1,1,1\n",
        "a\n1,2,3\n",
    ],
)
def test_another_file_is_refused(id_map: IdMap, content: str) -> None:
    id_map.path.parent.mkdir()
    id_map.path.write_text(content)
    with pytest.raises(IdMapError, match=r"cats\.csv is not an id map .*lookalike export cats"):
        id_map.read()
