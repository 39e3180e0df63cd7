"""The id map: what was appended is read, the last row of an id holds, and a torn row is dropped."""

from __future__ import annotations

import tempfile
from pathlib import Path

import hypothesis
import pandas as pd
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from utilities.errors import IdMapError
from utilities.id_map import Differences, IdMap
from utilities.items import ITEM_FIELDS, Item, item_id


def item(path: str, *, size: int = 1, mtime: int = 1_700_000_000_123_456_789) -> Item:
    return Item.of_file(Path("/root"), path, width=3, height=2, file_size=size, file_mtime_ns=mtime, file_digest="0f")


@pytest.fixture
def id_map(tmp_path: Path) -> IdMap:
    return IdMap(tmp_path / "home" / "cats.csv")


def rows(id_map: IdMap) -> list[tuple[object, ...]]:
    return [tuple(row) for row in id_map.read().itertuples(index=False)]


def as_row(item: Item) -> tuple[object, ...]:
    return tuple(item.row().values())


def test_no_file_is_an_empty_map(id_map: IdMap) -> None:
    assert id_map.read().empty
    assert list(id_map.read().columns) == list(ITEM_FIELDS)
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
        '"id","path","part","label","width","height","file_size","file_mtime_ns","file_digest"',
        f'{item("a.jpg").id},"a.jpg","","root",3,2,1,1700000000123456789,"0f"',
        f'{item("b.jpg").id},"b.jpg","","root",3,2,9,1700000000123456789,"0f"',
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


def test_compare_counts_the_differences(id_map: IdMap) -> None:
    id_map.append([item("b.jpg"), item("a.jpg")])
    rows = id_map.read()
    assert id_map.compare(rows) == Differences(0, 0, 0, in_form=False)
    assert not id_map.compare(rows)
    id_map.compact()
    assert id_map.compare(rows.iloc[::-1]) == Differences(0, 0, 0, in_form=True)
    id_map.append([item("c.jpg")])
    assert id_map.compare(rows.assign(file_size=[1, 9])) == Differences(0, 1, 1, in_form=False)
    assert id_map.compare(id_map.read().iloc[1:]) == Differences(0, 1, 0, in_form=False)
    assert str(id_map.compare(rows.assign(file_size=[1, 9]))) == "1 not in Milvus, 1 described differently"
    id_map.delete()
    assert id_map.compare(rows) == Differences(2, 0, 0, in_form=False)


HEADER = ",".join(ITEM_FIELDS)
GOOD = f"{item_id('a.jpg')},a.jpg,,l,1,1,1,-1,"


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["path,id", "a.jpg,1"], "line 1 should name the columns id, path"),
        ([HEADER, GOOD, f"{item_id('a.jpg')},b.jpg,,l,1,1,1,1,"], "line 3: [0-9]+ is not the id of 'b.jpg'"),
        ([HEADER, GOOD, GOOD + ",more"], "line 3 has 10 fields instead of 9"),
        ([HEADER, GOOD.replace(",1,1,", ",1,wide,"), GOOD], "line 2: height is 'wide', which is no such number"),
        ([HEADER, GOOD, "", GOOD], "line 3 has 0 fields"),
        (
            [HEADER, GOOD.replace(",-1,", f",{2**63},")],
            "line 2: file_mtime_ns is '9223372036854775808', which is no such",
        ),
        ([HEADER, GOOD, GOOD + "\r"], "line 3 ends as on Windows, in CR LF"),
        ([HEADER + "\r", GOOD + "\r"], "line 1 ends as on Windows, in CR LF"),
        ([HEADER, '1,"line\nbreak",,l,1,1,1,1,', GOOD], "line 2: 1 is not the id of 'line"),
        ([HEADER, GOOD, f"{item_id('b.jpg')},b.jpg\udce9,,l,1,1,1,1,"], "line 3 is not UTF-8"),
    ],
)
def test_a_hand_that_edited_is_told_the_line(id_map: IdMap, lines: list[str], reason: str) -> None:
    id_map.path.parent.mkdir()
    id_map.path.write_text("\n".join([*lines, ""]), errors="surrogateescape")
    with pytest.raises(IdMapError, match=rf"{reason}.*lookalike export cats"):
        id_map.compare(id_map_rows("a.jpg"))


@pytest.mark.parametrize("act", ["read", "compact", "append"])
def test_a_missing_quote_is_no_torn_row(id_map: IdMap, act: str) -> None:
    id_map.append([item(f"{number}.jpg") for number in range(100)])
    content = id_map.path.read_bytes().replace(b'"7.jpg"', b'"7.jpg')
    id_map.path.write_bytes(content)
    edited = IdMap(id_map.path)
    with pytest.raises(IdMapError, match="a quote is missing in line 9 or after it"):
        edited.append([item("a.jpg")]) if act == "append" else getattr(edited, act)()
    assert id_map.path.read_bytes() == content


def id_map_rows(*paths: str) -> pd.DataFrame:
    return pd.DataFrame([item(path).row() for path in paths], columns=list(ITEM_FIELDS))


@pytest.mark.parametrize("path", ["line\nbreak.jpg", '"quoted".jpg', 'a"\n"b.jpg'])
def test_a_row_torn_inside_quotes_is_dropped(id_map: IdMap, path: str) -> None:
    id_map.append([item("a.jpg"), item(path)])
    whole = id_map.path.read_bytes()
    first = len(whole) - len(whole.split(b"\n", 2)[2])
    for end in range(first, len(whole)):
        id_map.path.write_bytes(whole[:end])
        assert list(IdMap(id_map.path).read()["path"]) == ["a.jpg"]
        IdMap(id_map.path).append([item("c.jpg")])
        assert list(IdMap(id_map.path).read()["path"]) == ["a.jpg", "c.jpg"]


class LoadsThatDie(RuleBasedStateMachine):
    """Any order of upserts, appends, crashes and compactions."""

    names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=6)

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.id_map = IdMap(Path(self.folder.name) / "cats.csv")
        #: What Milvus has acknowledged, by id.
        self.milvus: dict[int, Item] = {}

    @rule(names=st.lists(names, max_size=4, unique=True), size=st.integers(0, 3))
    def insert(self, names: list[str], size: int) -> None:
        items = [item(name, size=size) for name in names]
        self.milvus.update({each.id: each for each in items})
        self.id_map.append(items)

    @rule(names=st.lists(names, min_size=1, max_size=4, unique=True), kept=st.floats(0, 1))
    def die_while_appending(self, names: list[str], kept: float) -> None:
        before = self.id_map.path.read_bytes() if self.id_map.path.exists() else b""
        self.insert(names, 1)
        after = self.id_map.path.read_bytes()
        self.id_map.path.write_bytes(after[: len(before) + int(kept * (len(after) - len(before)))])
        self.id_map = IdMap(self.id_map.path)

    @rule()
    def compact(self) -> None:
        self.id_map.compact()

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        if self.milvus:
            gone = data.draw(st.sampled_from(sorted(self.milvus)))
            self.id_map.remove([gone])
            del self.milvus[gone]

    @rule()
    def begin_a_load(self) -> None:
        stored = pd.DataFrame([each.row() for each in self.milvus.values()], columns=list(ITEM_FIELDS))
        self.id_map.compare(stored)
        self.id_map.write(stored)
        assert self.id_map.compare(stored) == Differences(0, 0, 0, in_form=True)

    @invariant()
    def is_a_function_from_ids_to_paths_that_milvus_holds(self) -> None:
        rows = self.id_map.read()
        assert rows["id"].is_unique
        for id_, path in zip(rows["id"], rows["path"], strict=True):
            assert self.milvus[id_].path == path

    def teardown(self) -> None:
        self.folder.cleanup()


TestLoadsThatDie = LoadsThatDie.TestCase
TestLoadsThatDie.settings = hypothesis.settings(max_examples=60, stateful_step_count=20, deadline=None)


def test_reading_changes_nothing_while_another_process_writes(id_map: IdMap) -> None:
    id_map.append([item("a.jpg")])
    with id_map.path.open("ab") as writer:
        writer.write(b'77,"half a ro')
        writer.flush()
        id_map.path.chmod(0o444)
        assert len(id_map.read()) == 1
        writer.write(b'w","","l",1,1,1,1,""\n')
    assert list(id_map.read()["path"]) == ["a.jpg", "half a row"]


@pytest.mark.parametrize("kept", [1, 5, 30, 50])
def test_a_torn_last_row_is_dropped_and_appending_goes_on(id_map: IdMap, kept: int) -> None:
    id_map.append([item("a.jpg")])
    whole = id_map.path.read_bytes()
    id_map.append([item("b.jpg")])
    torn = id_map.path.read_bytes()[: len(whole) + kept]
    id_map.path.write_bytes(torn)
    assert rows(id_map) == [as_row(item("a.jpg"))]
    IdMap(id_map.path).append([item("c.jpg")])
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
