"""What is set aside is whole in one place, and never overwrites."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from utilities.errors import InvalidArgument
from utilities.set_aside import refuse_folder_of_tree, set_aside


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    file = tmp_path / "tree" / "a.jpg"
    file.write_bytes(b"a picture")
    return file


@pytest.fixture
def two_file_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tree is on another file system than all else."""
    replace = Path.replace

    def across(source: Path, target: Path) -> Path:
        if source.is_relative_to(tmp_path / "tree"):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return replace(source, target)

    monkeypatch.setattr(Path, "replace", across)


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_within_a_file_system(file: Path, tmp_path: Path) -> None:
    set_aside(file, tmp_path / "aside" / "some" / "a.jpg")
    assert files(tmp_path) == {"aside/some/a.jpg": b"a picture"}


@pytest.mark.usefixtures("two_file_systems")
def test_across_file_systems(file: Path, tmp_path: Path) -> None:
    time = file.stat().st_mtime_ns
    set_aside(file, tmp_path / "aside" / "a.jpg")
    assert files(tmp_path) == {"aside/a.jpg": b"a picture"}
    assert (tmp_path / "aside" / "a.jpg").stat().st_mtime_ns == time
    assert list((tmp_path / "aside").iterdir()) == [tmp_path / "aside" / "a.jpg"]


@pytest.mark.usefixtures("two_file_systems")
def test_of_a_copy_that_fails_nothing_is_left(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        Path(target).write_bytes(b"a pic")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copy2", full)
    with pytest.raises(OSError, match="No space"):
        set_aside(file, tmp_path / "aside" / "a.jpg")
    assert files(tmp_path) == {"tree/a.jpg": b"a picture"}
    assert list((tmp_path / "aside").iterdir()) == []


@pytest.mark.parametrize("across", [False, True])
def test_a_signal_loses_nothing(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, across: bool
) -> None:
    if across:
        request.getfixturevalue("two_file_systems")
    replace = Path.replace

    def stopped(source: Path, target: Path) -> None:
        replace(source, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        set_aside(file, tmp_path / "aside" / "a.jpg")
    assert files(tmp_path)["aside/a.jpg"] == b"a picture"


@pytest.mark.usefixtures("two_file_systems")
def test_of_a_file_that_goes_away_meanwhile_the_copy_stays(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy2 = shutil.copy2

    def then_gone(source: Path, copy: Path) -> None:
        copy2(source, copy)
        Path(source).unlink()

    monkeypatch.setattr(shutil, "copy2", then_gone)
    set_aside(file, tmp_path / "aside" / "a.jpg")
    assert files(tmp_path) == {"aside/a.jpg": b"a picture"}


@pytest.mark.usefixtures("two_file_systems")
def test_of_a_file_that_may_not_be_removed_no_copy_stays(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = Path.unlink

    def refused(path: Path, missing_ok: bool = False) -> None:
        if path == file:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(PermissionError):
        set_aside(file, tmp_path / "aside" / "a.jpg")
    assert files(tmp_path) == {"tree/a.jpg": b"a picture"}


@pytest.mark.usefixtures("two_file_systems")
def test_what_comes_to_be_there_during_a_copy_stays(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy2, target = shutil.copy2, tmp_path / "aside" / "a.jpg"

    def slow(source: Path, copy: Path) -> Path:
        target.write_bytes(b"another")
        return Path(copy2(source, copy))

    monkeypatch.setattr(shutil, "copy2", slow)
    with pytest.raises(FileExistsError, match=r"there is a .* already"):
        set_aside(file, target)
    assert files(tmp_path) == {"tree/a.jpg": b"a picture", "aside/a.jpg": b"another"}


def test_a_link_that_leads_nowhere_is_not_overwritten(file: Path, tmp_path: Path) -> None:
    (tmp_path / "link.jpg").symlink_to("nowhere")
    with pytest.raises(FileExistsError, match=r"there is a .* already"):
        set_aside(file, tmp_path / "link.jpg")
    assert file.exists()


def test_a_folder_of_a_tree_behind_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "moved").mkdir()
    (tmp_path / "tree").symlink_to("moved")
    for folder in (tmp_path / "moved" / "aside", tmp_path / "tree" / "aside", tmp_path):
        with pytest.raises(InvalidArgument, match="one lies in the other"):
            refuse_folder_of_tree(folder, tmp_path / "tree")
    refuse_folder_of_tree(tmp_path / "aside", tmp_path / "tree")
