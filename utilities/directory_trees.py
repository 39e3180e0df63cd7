"""Find the images, or the videos, of a directory tree."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Set
from pathlib import Path, PurePosixPath

from utilities.errors import InvalidArgument, NoImagesFound
from utilities.image_files import openable_extensions
from utilities.videos import VIDEO_EXTENSIONS

logger = logging.getLogger(__name__)


def find_images(
    root: str | os.PathLike[str],
    extension: str | None = None,
    on_error: Callable[[OSError], None] | None = None,
) -> list[str]:
    """Paths of the images in a directory tree, told by their file names' extensions.

    Passed over are hidden files and folders, whatever is not a regular file, and links, but for those that lead to
    something hidden in the tree (git-annex keeps files so): a link out of the tree leaves it, and where any other link
    leads is found without it.

    Args:
        root: a directory.
        extension: `"JPEG"` takes only `.jpeg` in any case; None takes every type that Pillow opens.
        on_error: called with the error, whose `filename` says where, for each file or folder below `root` that cannot
            be looked at; by default it is logged as a warning.

    Returns:
        POSIX paths relative to `root`, sorted, so that two runs agree.

    Raises:
        InvalidArgument: `root` is not a directory, or cannot be listed.
        NoImagesFound: no such file in the tree.
    """
    return _found(Path(root), extension, openable_extensions(), "image", on_error)


def find_videos(
    root: str | os.PathLike[str],
    extension: str | None = None,
    on_error: Callable[[OSError], None] | None = None,
) -> list[str]:
    """Paths of the videos in a directory tree; all else as for `find_images`, and `extension=None` takes every type of
    `videos.VIDEO_EXTENSIONS`.
    """
    return _found(Path(root), extension, VIDEO_EXTENSIONS, "video", on_error)


def check_directory(root: Path) -> None:
    """Refuse what cannot be a tree of files.

    Raises:
        InvalidArgument: not a directory, or one that cannot be listed.
    """
    if not root.exists():
        raise InvalidArgument(f"There is no directory {str(root)!r}; give the path of a folder.")
    if not root.is_dir():
        raise InvalidArgument(f"{str(root)!r} is a file; give the folder that holds the files.")
    try:
        next(root.iterdir(), None)
    except OSError as error:
        raise InvalidArgument(f"The directory {str(root)!r} cannot be listed: {error.strerror}.") from error


def _found(
    root: Path,
    extension: str | None,
    extensions: Set[str],
    kind: str,
    on_error: Callable[[OSError], None] | None,
) -> list[str]:
    check_directory(root)
    wanted = {f".{extension.lower().lstrip('.')}"} if extension else extensions
    unreadable: list[OSError] = []
    files = list(_walk(root, unreadable.append))
    paths = sorted(path for path in files if PurePosixPath(path).suffix.lower() in wanted)
    for each in unreadable:
        (on_error or _warn)(each)
    if not paths:
        nothing = f"file with the extension .{extension.lstrip('.')}" if extension else kind
        but = f", but {unreadable[0].filename} cannot be looked at: {unreadable[0].strerror}" if unreadable else ""
        videos = sum(PurePosixPath(path).suffix.lower() in VIDEO_EXTENSIONS for path in files)
        if videos and kind == "image" and not extension:
            but += f"; the {videos:,} {'video' if videos == 1 else 'videos'} there are loaded with --what videos"
        raise NoImagesFound(f"No {nothing} lies in {str(root)!r} or below it{but}.")
    return paths


def _warn(error: OSError) -> None:
    logger.warning("Left out: %s: %s.", error.filename, error.strerror)


def _walk(root: Path, on_error: Callable[[OSError], None]) -> Iterator[str]:
    real_root = root.resolve()
    followed: set[Path] = set()
    for directory, folders, files in os.walk(root, onerror=on_error, followlinks=True):
        here = Path(directory)
        folders[:] = [name for name in folders if _is_wanted(here / name, real_root, followed, on_error)]
        for name in files:
            if _is_wanted(here / name, real_root, set(), on_error) and _is_file(here / name, on_error):
                yield (here / name).relative_to(root).as_posix()


def _is_wanted(path: Path, real_root: Path, followed: set[Path], on_error: Callable[[OSError], None]) -> bool:
    """Whether a file or folder belongs to the tree and is found by no other path; links to follow are noted."""
    if path.name.startswith("."):
        return False
    try:
        if not path.is_symlink():
            return True
        real = path.resolve(strict=True)
    except FileNotFoundError:
        return False  # a link to nothing
    except OSError as error:
        on_error(error)
        return False
    except RuntimeError:  # what Python before 3.13 makes of a link to itself
        return False
    if not real.is_relative_to(real_root) or real in followed:
        return False
    hidden = any(part.startswith(".") for part in real.relative_to(real_root).parts)
    if hidden:
        followed.add(real)
    return hidden


def _is_file(path: Path, on_error: Callable[[OSError], None]) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        on_error(error)
        return False
