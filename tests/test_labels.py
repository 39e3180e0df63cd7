"""Labels: by folder, by CSV, and what is wrong with a CSV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from utilities.errors import InvalidArgument
from utilities.labels import Labels, labels_of, read_labels

ITEMS = pd.DataFrame({"path": ["a/1.png", "a/2.png", "b/3.png", "4.png"], "label": ["a", "a", "b", "tree"]})


def test_a_folder_is_a_label() -> None:
    labels = labels_of(ITEMS)
    assert labels.names == ["a", "b", "tree"]
    assert labels.codes.tolist() == [0, 0, 1, 2]
    assert labels.others().tolist() == [1, 1, 0, 0]


def test_a_csv_gives_labels_by_path_and_leaves_others_without(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("\ufefflabel,path,note\nNA,a/1.png,x\ncup,a/2.png,\nNA,b/3.png,\n,4.png,\ncup,elsewhere.png,\n")
    labels = labels_of(ITEMS, file)
    assert labels.names == ["NA", "cup"]
    assert labels.codes.tolist() == [0, 1, 0, -1]
    assert labels.others().tolist() == [1, 0, 1, 0]


def test_an_empty_collection_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="The collection holds no items; load a tree into it first"):
        labels_of(ITEMS.iloc[:0])


def test_nothing_has_no_labels() -> None:
    labels = Labels.of([None, None])
    assert labels.names == []
    np.testing.assert_array_equal(labels.others(), [0, 0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"path,kind\na/1.png,cup\n", "has no column label; its first line must be a header"),
        (b"1,2\n", "has no column path and no column label"),
        (b"", "cannot be read as a CSV: No columns"),
        (b"path,label\n\xff,a\n", "labels.csv. is not in UTF-8; save it as UTF-8"),
        ("path,label\nü,a\n".encode("cp1252"), "labels.csv. is not in UTF-8; save it as UTF-8"),
        ("path,label\na,b\n".encode("utf-16"), "labels.csv. is not in UTF-8; save it as UTF-8"),
        ("path,label\na,b\n".encode("utf-16-le"), "labels.csv. is not in UTF-8; save it as UTF-8"),
        (b"path;label\na/1.png;cup\n", "separates its columns by semicolons; save it with commas"),
        (b'"path";"label"\n"a/1.png";"cup"\n', "separates its columns by semicolons; save it with commas"),
        (b"path;kind, as said;label\na/1.png;x;cup\n", "separates its columns by semicolons; save it with commas"),
        (b"path\tlabel\na/1.png\tcup\n", "separates its columns by tabs; save it with commas"),
        (b'path,label\n"a,b\n', "cannot be read as a CSV"),
        (b"path,label\na/1.png,cup\na/1.png,pan\n", "gives 'a/1.png' more than one label"),
        (b"path,label\nc/1.png,cup,\n", "names none of the 4 items by its path, such as 'a/1.png'"),
    ],
)
def test_a_csv_that_cannot_be_used_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "labels.csv"
    file.write_bytes(content)
    with pytest.raises(InvalidArgument, match=message):
        labels_of(ITEMS, file)


def test_a_csv_that_says_the_same_twice_is_none_the_worse(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("path,label\na,x\na,x\n,\n")
    assert read_labels(file) == {("a", ""): "x"}


def test_blanks_after_commas_do_not_part_quotes(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text('path, label\na, "x, y"\n')
    assert read_labels(file) == {("a", ""): "x, y"}


def test_a_csv_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="There is no file of labels"):
        read_labels(tmp_path / "nothing.csv")
