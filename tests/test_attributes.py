"""A CSV of attributes: what its columns hold, and what is wrong with it."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from utilities.attributes import read_attributes
from utilities.errors import InvalidArgument
from utilities.items import Value


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "shop.csv"


def test_columns_and_rows(file: Path) -> None:
    file.write_text(
        '\ufeffprice,path, sale ,sku,stock,note,\n12.5,a.png,TRUE,007,3,"a, b",\n'
        "80,b/c.png,false,12,-4, x ,\n\n,d.png,,,,\n"
    )
    found = read_attributes(file)
    assert dict(found.columns) == {
        "price": "number",
        "sale": "boolean",
        "sku": "text",
        "stock": "integer",
        "note": "text",
    }
    assert found.rows["a.png"] == {"price": 12.5, "sale": True, "sku": "007", "stock": 3, "note": "a, b"}
    assert found.rows["b/c.png"] == {"price": 80.0, "sale": False, "sku": "12", "stock": -4, "note": "x"}
    assert isinstance(found.rows["b/c.png"]["price"], float)
    assert set(found.rows["d.png"].values()) == {None}


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "-2", str(2**53)], "integer"),
        (["1", "1.5", ".5", "1e3"], "number"),
        (["true", "False"], "boolean"),
        (["true", "1"], "text"),
        (["007"], "text"),
        (["+49301234"], "text"),
        ([str(2**53 + 1)], "text"),  # which a floating-point number would not hold, nor JavaScript
        (["1.5", str(2**53 + 2)], "text"),
        (["1e999"], "text"),
        (["nan", "1"], "text"),
        (["9" * 5_000], "text"),
        (["12,5"], "text"),
        (["²", "1"], "text"),
    ],
)
def test_a_type_is_one_that_loses_nothing(file: Path, cells: list[str], kind: str) -> None:
    file.write_text("path,x\n" + "".join(f'{number},"{cell}"\n' for number, cell in enumerate(cells)))
    found = read_attributes(file)
    assert found.columns == (("x", kind),)
    if kind == "text":
        assert [row["x"] for row in found.rows.values()] == cells


def test_a_column_keeps_the_type_that_it_has(file: Path) -> None:
    file.write_text("path,x,new\na,12,1\n")
    known = (("old", "boolean"), ("x", "text"))
    found = read_attributes(file, known)
    assert found.columns == (*known, ("new", "integer"))
    assert found.rows["a"] == {"x": "12", "new": 1}
    whole: Value | None = read_attributes(file, (("x", "number"),)).rows["a"]["x"]
    assert (whole, type(whole)) == (12.0, float)


def test_integers_may_become_numbers(file: Path) -> None:
    file.write_text("path,rank\na,1.5\nb,2\n")
    found = read_attributes(file, (("rank", "integer"),))
    assert found.columns == (("rank", "number"),)
    assert found.rows["a"] == {"rank": 1.5}
    file.write_text("path,rank\na,1.5\n")
    with pytest.raises(InvalidArgument, match=r"line 2, gives 'rank' as '1\.5', and the collection holds it as"):
        read_attributes(file, (("rank", "boolean"),))


def test_what_no_file_is_given_settles_no_type(file: Path) -> None:
    file.write_text("path,code,rank,known\nwrong,1,1.5,2.5\nright,,98,\n")
    known = (("known", "integer"),)
    found = read_attributes(file, known).matched(file.parent, ["right"], known)
    assert found.columns == (*known, ("rank", "number"))


def test_a_path_is_found_however_it_is_written(
    file: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    tree = Path("tree")
    decomposed, composed = unicodedata.normalize("NFD", "é.png"), unicodedata.normalize("NFC", "è.png")
    files = ["i0.png", "i1.png", "i2.png", "i3.png", "sub/w.png", decomposed, composed, "odd\\name.png"]
    written = [
        "./i0.png",
        str(file.parent / "tree/i1.png"),
        '" i2.png "',
        "tree/i3.png",
        ".\\sub\\w.png",
        unicodedata.normalize("NFC", decomposed),
        unicodedata.normalize("NFD", composed),
        "odd\\name.png",
        *(f"nowhere{number}.png" for number in range(5)),
    ]
    file.write_text("path,x\n" + "".join(f"{path},{number}\n" for number, path in enumerate(written)))
    rows = read_attributes(file).matched(tree, files).rows
    assert {path: rows[path]["x"] for path in files} == {path: number for number, path in enumerate(files)}
    assert len(rows) == len(written)
    assert caplog.messages == [
        "5 paths of the CSV of attributes name no file below tree, such as 'nowhere0.png', 'nowhere1.png', "
        "'nowhere2.png'."
    ]


def test_one_file_by_two_names_has_one_row(file: Path) -> None:
    file.write_text("path,x\n./a.png,1\na.png,1\n")
    assert read_attributes(file).matched(file.parent, ["a.png"]).rows == {"a.png": {"x": 1}}
    file.write_text("path,x\n./a.png,1\na.png,2\n")
    with pytest.raises(InvalidArgument, match=r"two different rows to 'a\.png', the second as 'a\.png'; keep one"):
        read_attributes(file).matched(file.parent, ["a.png"])


def test_a_column_that_says_nothing_is_none_yet_unless_it_is_known(file: Path) -> None:
    file.write_text("path,x,y\na,1,\nb,2, \n")
    assert read_attributes(file).columns == (("x", "integer"),)
    assert read_attributes(file, (("y", "text"),)).rows["a"] == {"x": 1, "y": None}


def test_what_a_row_says_is_joined_with_what_was_known(file: Path) -> None:
    file.write_text("path,x,y\na,1,\nb,2,3\n")
    found = read_attributes(file, (("y", "integer"),))
    assert found.joined("a", {"y": 5, "z": "kept"}) == {"x": 1, "z": "kept"}
    assert found.joined("elsewhere", {"y": 5}) == {"y": 5}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name,x\na,1\n", "has no column path; its first line must be a header that names path"),
        ("", "cannot be read as a CSV: No columns"),
        ('path,x\n"a,1\n', "cannot be read as a CSV"),
        ("path\na\n", "has no column beside path"),
        ("path,x,x\na,1,2\n", "has two columns 'x'; rename one of them"),
        ("path,x\na,12,50\n", "line 2, has 3 values for 2 columns; put quotes around a value"),
        ("path,unit price\na,1\n", "column 'unit price', which a filter cannot name; use letters"),
        ("path,größe\na,1\n", "column 'größe', which a filter cannot name"),
        ("path,1st\na,1\n", "column '1st', which a filter cannot name"),
        ("path,In\na,1\n", "column 'In', which a filter cannot name"),
        ("path,,x\na,1,2\n", "column '', which a filter cannot name"),
        ("path,label\na,1\n", "column 'label', a name that is taken; rename the column"),
        ("path,camera\na,1\n", "column 'camera', a name that is taken"),
        ("path,face_left\na,1\n", "column 'face_left', a name that is taken"),
        ("path,time\na,1\n", "column 'time', a name that is taken"),
        ("path,score\na,1\n", "column 'score', a name that is taken"),
        ("path,folder\na,1\n", "column 'folder', a name that is taken"),
        ("path,embedding_resnet50\na,1\n", "'embedding_resnet50', a name that is taken"),
        ("path,known\na,1\nb,\nc,1x\n", "line 4, gives 'known' as '1x', and the collection holds it as integer"),
        ("path,x\na,1\nb,2\na,3\n", "line 4, gives 'a' another row; each path has one"),
        ("path,x\na," + "é" * 40_000 + "\n", "line 2, holds 80,0.. bytes; Milvus takes at most 60,000 of an item"),
    ],
)
def test_what_cannot_be_used_is_refused(file: Path, content: str, message: str) -> None:
    file.write_text(content)
    with pytest.raises(InvalidArgument, match=message) as caught:
        read_attributes(file, (("known", "integer"),))
    assert str(file) in str(caught.value)


def test_a_file_that_is_not_there_is_refused(file: Path) -> None:
    with pytest.raises(InvalidArgument, match="There is no file of attributes"):
        read_attributes(file)
