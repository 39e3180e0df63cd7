"""Files that leave a tree for a folder outside it: moved, never overwriting, and only if they are what was loaded."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

from utilities.errors import InvalidArgument


def refuse_folder_of_tree(directory: Path, root: Path) -> None:
    """Refuse a folder from which a load of the tree would take the files again, or in which they would mingle with it.

    Raises:
        InvalidArgument: the folder lies in the tree, or the tree in the folder, or it is a file.
    """
    there, root = directory.resolve(), root.resolve()
    if there.is_relative_to(root) or root.is_relative_to(there):
        raise InvalidArgument(
            f"Of {str(directory)!r} and the tree {str(root)!r} one lies in the other: files moved there would be "
            "loaded again, or mingle with others; give --move-to a folder elsewhere."
        )
    if directory.exists() and not directory.is_dir():
        raise InvalidArgument(f"{str(directory)!r} is a file; give a directory.")


def is_as_loaded(file: Path, file_size: int, file_mtime_ns: int) -> bool:
    """Whether a file is there, with the size and the time of change that it had when it was loaded."""
    try:
        status = file.stat()
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == (file_size, file_mtime_ns)


def set_aside(file: Path, target: Path) -> None:
    """Move a file, across file systems if need be; folders are made.

    Raises:
        FileExistsError: there is something at the target.
        OSError: it could not be moved, and lies where it was; nothing of it is at the target.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        _rename(file, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".") as folder:
            copy = Path(folder, "copy")
            shutil.copy2(file, copy)
            with copy.open("rb") as copied:
                os.fsync(copied.fileno())  # Before the original goes.
            _rename(copy, target)
        try:
            file.unlink(missing_ok=True)
        except OSError:
            target.unlink()
            raise


def _rename(file: Path, target: Path) -> None:
    """Give a file a name that nothing has."""
    try:
        target.touch(exist_ok=False)  # Else what comes to have the name now would be overwritten.
    except FileExistsError:
        raise FileExistsError(f"there is a {str(target)!r} already") from None
    try:
        file.replace(target)
    except OSError:  # After anything else, such as a signal, it may be the file that lies there.
        target.unlink()
        raise
