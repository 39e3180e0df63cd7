"""The searchable thing and its id: made from where it lies, so that loading twice changes nothing."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypeAlias

import xxhash

#: What an attribute may be.
Value: TypeAlias = "int | float | str | bool"


@dataclass(frozen=True)
class Item:
    """One searchable thing, as the id map and Milvus describe it."""

    #: `item_id(path, part)`.
    id: int
    #: POSIX path relative to the collection's root.
    path: str
    #: What tells apart the items of one file, such as a face's number; empty for a whole image.
    part: str
    #: Name of the folder that holds the file.
    label: str
    #: Size of the upright image in pixels; 0 where it is not known.
    width: int
    height: int
    #: Size in bytes and time of last change in nanoseconds of the file that was embedded; 0 where there was no file.
    file_size: int
    file_mtime_ns: int
    #: `file_digest` of that file; empty where there was no file.
    file_digest: str = ""
    #: What else is known of it, such as where in the image a face is: further fields of Milvus, which the id map lacks.
    attributes: Mapping[str, Value] = field(default_factory=dict, hash=False)

    @classmethod
    def of_file(
        cls,
        root: Path,
        path: str,
        *,
        width: int = 0,
        height: int = 0,
        file_size: int = 0,
        file_mtime_ns: int = 0,
        file_digest: str = "",
    ) -> Item:
        """The item of a whole file, `root / path`; id and label are derived."""
        label = label_of(root, path)
        return cls(item_id(path), path, "", label, width, height, file_size, file_mtime_ns, file_digest)

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Item:
        """The item of fields that Milvus has returned."""
        # The embedded database keeps a null in place of what was removed.
        attributes = {name: value for name, value in row.items() if name not in ITEM_FIELDS and value is not None}
        return cls(**{name: row[name] for name in ITEM_FIELDS}, attributes=attributes)

    def having(self, attributes: Mapping[str, Value]) -> Item:
        """The item with these attributes, too, or in place of what it had by their names."""
        return dataclasses.replace(self, attributes={**self.attributes, **attributes})

    def row(self) -> dict[str, int | str]:
        """The fields that every item has."""
        return {name: getattr(self, name) for name in ITEM_FIELDS}


#: Names of the fields that every item has, which are the id map's columns and Milvus's scalar fields.
ITEM_FIELDS = tuple(each.name for each in dataclasses.fields(Item) if each.name != "attributes")


def item_id(path: str, part: str = "") -> int:
    """The id of an item: the first 63 bits of BLAKE2b (RFC 7693) over path and part.

    Args:
        path: POSIX path relative to the collection's root.
        part: as `Item.part`.

    Returns:
        An integer from 0 to 2**63 - 1, the range of Milvus's INT64 keys without the negative half.
    """
    # A path cannot contain NUL, so no path and part can be mistaken for another pair.
    digest = hashlib.blake2b(f"{path}\0{part}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def file_digest(file: BinaryIO) -> str:
    """What tells a file's content from another's: XXH3 with 128 bits, in hex, over its bytes from here on.

    It is no defence against someone who wants two files to agree, and costs next to nothing beside decoding.

    Raises:
        OSError: the file cannot be read.
    """
    digest = xxhash.xxh3_128()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def printable(text: str) -> str:
    """A path as it may be shown: bytes that are no UTF-8, line breaks and the like are written as escapes."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in as_utf8(text))


def is_utf8(text: str) -> bool:
    """Whether Milvus, which takes UTF-8 only, can store a path."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def as_utf8(text: str) -> str:
    """A path as UTF-8 can hold it: bytes that are none are written as escapes."""
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace")


def label_of(root: Path, path: str) -> str:
    """Name of the folder that holds `root / path`: the class, in a tree that is sorted into folders."""
    return PurePosixPath(path).parent.name or root.resolve().name
