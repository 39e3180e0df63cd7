"""What a collection says of itself, kept in its Milvus properties, and which other collections it refuses to be."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from utilities.attributes import Columns
from utilities.backbones import DEFAULT_BACKBONE, backbone_named, sees_faces
from utilities.errors import EmbedderMismatch, InvalidArgument
from utilities.exif import EXIF_ATTRIBUTES
from utilities.faces import FACE_ATTRIBUTES
from utilities.fingerprint import Fingerprint
from utilities.items import ITEM_FIELDS, Value, is_utf8, printable
from utilities.spans import SPAN_ATTRIBUTES
from utilities.videos import Sampling

METRICS = ("COSINE", "L2", "IP")
_ROOT, _METRIC, _INDEX = "lookalike.root", "lookalike.metric", "lookalike.index"
_INDEXED_ITEMS, _SAMPLING = "lookalike.indexed_items", "lookalike.sampling"
_AUGMENTED, _AUGMENTED_OF = "lookalike.augmented", "lookalike.augmented_of"
#: Names of the vector fields in their order, where there are several.
_VECTOR_FIELDS = "lookalike.vector_fields"
_ATTRIBUTES = "lookalike.attributes"
#: Followed by the name of the vector field that this embedder fills.
_EMBEDDER = "lookalike.embedder."


@dataclass(frozen=True)
class CollectionInfo:
    """A collection's name and what must stay the same as long as it lives; only root, index and columns may change."""

    name: str
    #: Absolute directory, free of links, that its paths are relative to; None until the first items are inserted.
    root: Path | None
    #: One of `METRICS`.
    metric: str
    #: What its vectors were made by.
    fingerprint: Fingerprint
    #: The index that was asked for, one of `utilities.milvus_index.INDEXES`.
    index: str = "auto"
    #: How many items it held at the end of the last load or insert.
    indexed_items: int = 0
    #: Which frames of videos its items are, or show the faces of; None if its files are images.
    sampling: Sampling | None = None
    #: Of an ensemble: what made the vectors of its further fields, one field for each network.
    others: tuple[Fingerprint, ...] = ()
    #: Neighbours that each item's vectors were moved towards, 0 for none; and the collection that those are of.
    augmented: int = 0
    augmented_of: str = ""
    #: Names and types of the attributes that a CSV has given to its files; more may come.
    columns: Columns = ()

    @classmethod
    def checked(
        cls,
        name: str,
        *,
        dimension: int,
        metric: str,
        fingerprint: Fingerprint | None,
        root: str | os.PathLike[str] | None,
        index: str,
        sampling: Sampling | None = None,
        others: tuple[Fingerprint, ...] = (),
        columns: Columns = (),
    ) -> CollectionInfo:
        """A collection to be, from arguments as `milvus_utilities.create_collection` takes them.

        Raises:
            InvalidArgument: a name, a metric or a root that Milvus does not take, or a dimension that is not the
                embedder's.
        """
        check_name(name)
        check_metric(metric)
        fingerprint = fingerprint or unstated_fingerprint(DEFAULT_BACKBONE)
        if dimension != sum(each.dimension for each in (fingerprint, *others)):
            raise InvalidArgument(
                f"Vectors of {dimension} dimensions do not come from {fingerprint}; pass "
                "fingerprint=embedder.fingerprint."
            )
        resolved = Path(root).resolve() if root is not None else None
        if resolved is not None and not is_utf8(str(resolved)):
            raise InvalidArgument(f"The name {printable(str(resolved))} is not UTF-8; rename the folder.")
        return cls(
            name, resolved, metric.upper(), fingerprint, index, sampling=sampling, others=others, columns=columns
        )

    @classmethod
    def from_properties(cls, name: str, properties: Mapping[str, str]) -> CollectionInfo | None:
        """The inverse of `properties`; None for a collection that Lookalike did not make."""
        embedders = [key for key in properties if key.startswith(_EMBEDDER)]
        if not embedders:
            return None
        if _VECTOR_FIELDS in properties:  # Milvus does not keep the order of properties.
            embedders = [_EMBEDDER + field for field in properties[_VECTOR_FIELDS].split(",")]
        first, *others = [Fingerprint.from_json(properties[key]) for key in embedders]
        root = Path(properties[_ROOT]) if _ROOT in properties else None
        return cls(
            name,
            root,
            properties[_METRIC],
            first,
            properties.get(_INDEX, "auto"),
            int(properties.get(_INDEXED_ITEMS, 0)),
            Sampling.from_text(properties[_SAMPLING]) if _SAMPLING in properties else None,
            tuple(others),
            int(properties.get(_AUGMENTED, 0)),
            properties.get(_AUGMENTED_OF, ""),
            tuple(json.loads(properties.get(_ATTRIBUTES, "{}")).items()),
        )

    def properties(self) -> dict[str, str]:
        """What Milvus is to remember."""
        properties = {
            _METRIC: self.metric,
            _INDEX: self.index,
            _INDEXED_ITEMS: str(self.indexed_items),
            **{_EMBEDDER + vector_field(each): each.to_json() for each in self.fingerprints},
        }
        if self.augmented:
            properties |= {_AUGMENTED: str(self.augmented), _AUGMENTED_OF: self.augmented_of}
        if self.others:
            properties[_VECTOR_FIELDS] = ",".join(self.vector_fields)
        if self.sampling:
            properties[_SAMPLING] = self.sampling.to_text()
        if self.columns:
            properties[_ATTRIBUTES] = json.dumps(dict(self.columns))
        return properties if self.root is None else {**properties, _ROOT: self.root.as_posix()}

    @property
    def of_faces(self) -> bool:
        """Whether its items are faces in images or frames, not whole ones."""
        return sees_faces(self.fingerprint.backbone)

    @property
    def what(self) -> Literal["images", "faces", "videos"]:
        """What was loaded into it, as `load --what` has it."""
        if self.sampling:
            return "videos"
        return "faces" if self.of_faces else "images"

    @property
    def item_is(self) -> Literal["image", "face", "frame"]:
        """What one of its items is."""
        if self.of_faces:
            return "face"
        return "frame" if self.sampling else "image"

    @property
    def attributes(self) -> tuple[str, ...]:
        """Names of what its items have beside `ITEM_FIELDS`."""
        spans, faces = SPAN_ATTRIBUTES if self.sampling else (), FACE_ATTRIBUTES if self.of_faces else ()
        return (*spans, *faces, *self.file_attributes)

    @property
    def file_attributes(self) -> tuple[str, ...]:
        """Names of what is said of its files: by their EXIF data, and by a CSV."""
        return (*(() if self.sampling else EXIF_ATTRIBUTES), *(name for name, _ in self.columns))

    def attributes_of(self, row: Mapping[str, Any]) -> dict[str, Value]:
        """What is said of an item's file, as far as anything is, from fields that Milvus has returned."""
        return {name: row[name] for name in self.file_attributes if row.get(name) is not None}

    @property
    def filter_fields(self) -> tuple[str, ...]:
        """Names that a filter may use."""
        return (*ITEM_FIELDS, *self.attributes)

    @property
    def items_of_file(self) -> str | None:
        """The attribute that says, on one item of a file at least, how many it has; None if always one."""
        if self.sampling:
            return "items"
        return "faces" if self.of_faces else None

    @property
    def fingerprints(self) -> tuple[Fingerprint, ...]:
        """What made the vectors of each of its fields."""
        return (self.fingerprint, *self.others)

    @property
    def vector_fields(self) -> tuple[str, ...]:
        """Names of the Milvus fields that hold the vectors, one for each network."""
        return tuple(vector_field(each) for each in self.fingerprints)

    @property
    def dimension(self) -> int:
        """Numbers of an item's vectors, which stand side by side wherever they are one array."""
        return sum(each.dimension for each in self.fingerprints)

    def using(self, backbones: Sequence[str]) -> CollectionInfo:
        """The same collection as searched by some of its networks alone; not to be noted as what it is.

        Args:
            backbones: their names, in any case; empty for all.

        Raises:
            InvalidArgument: one that it does not have.
        """
        there = {each.backbone: each for each in self.fingerprints}
        wanted = list(dict.fromkeys(name.lower() for name in backbones)) or list(there)
        for name in wanted:
            if name not in there:
                raise InvalidArgument(
                    f"The collection {self.name!r} holds no vectors of {name!r}; it holds those of {', '.join(there)}."
                )
        first, *others = [there[name] for name in wanted]
        return replace(self, fingerprint=first, others=tuple(others))

    def refuse_new_items(self) -> None:
        """Refuse to be inserted into, where vectors as a network makes them would stand among others.

        Raises:
            InvalidArgument: the vectors of its items were moved towards their neighbours.
        """
        if self.augmented:
            raise InvalidArgument(
                f"The vectors of {self.name!r} were moved towards their neighbours; load into {self.augmented_of!r}, "
                f"and then `lookalike augment {self.augmented_of} --into {self.name}` again."
            )

    def refuse_unless_same(self, other: CollectionInfo) -> None:
        """Refuse to be used as `other` where that would mix what cannot be mixed.

        Raises:
            EmbedderMismatch: vectors of another embedder.
            InvalidArgument: another metric, another root, or other frames.
        """
        if not are_same(self.fingerprints, other.fingerprints):
            raise EmbedderMismatch(
                f"The collection {self.name!r} holds vectors of {in_words(self.fingerprints)}; vectors of "
                f"{in_words(other.fingerprints)} cannot be compared with them. Choose another collection, or "
                f"`lookalike drop {self.name}` first."
            )
        if (self.augmented, self.augmented_of) != (other.augmented, other.augmented_of):
            self.refuse_new_items()
            raise InvalidArgument(
                f"The collection {self.name!r} holds vectors as they were embedded, not such as were moved towards "
                "their neighbours; choose another name."
            )
        if self.metric != other.metric:
            raise InvalidArgument(
                f"The collection {self.name!r} compares by {self.metric}, not {other.metric}; choose another "
                "collection."
            )
        if self.sampling != other.sampling:
            there = f"frames of videos, taken {self.sampling}" if self.sampling else "images"
            raise InvalidArgument(
                f"The collection {self.name!r} holds {there}; load into another --collection, or leave out --every and "
                "--scenes."
            )
        if self.root and other.root and self.root != other.root:
            raise InvalidArgument(
                f"The collection {self.name!r} holds the tree {str(self.root)!r}, not {str(other.root)!r}; choose "
                "another collection, or, if the tree has moved there, say --moved."
            )


def vector_field(fingerprint: Fingerprint) -> str:
    """Name of the Milvus field that holds the vectors of a network."""
    return f"embedding_{fingerprint.backbone}"


def are_same(some: Sequence[Fingerprint], others: Sequence[Fingerprint]) -> bool:
    """Whether vectors of these networks may meet, each those of the same."""
    return len(some) == len(others) and all(each.matches(other) for each, other in zip(some, others, strict=True))


def in_words(fingerprints: Sequence[Fingerprint]) -> str:
    """Networks, as errors name them."""
    return " and ".join(map(str, fingerprints))


def check_name(name: str) -> None:
    """Refuse a name that a Milvus server would, although Milvus Lite takes any; the name is a file's name too.

    Raises:
        InvalidArgument: not letters, digits and underscores, a digit at the beginning, or more than 200.
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,199}", name):
        raise InvalidArgument(
            f"{name!r} is no name for a collection; use letters, digits and underscores, not beginning with a digit, "
            "at most 200."
        )


def check_metric(metric: str) -> None:
    """Refuse what is no metric.

    Raises:
        InvalidArgument: not one of `METRICS`, in any case.
    """
    if metric.upper() not in METRICS:
        raise InvalidArgument(f"There is no metric {metric!r}; choose one of {', '.join(METRICS).lower()}.")


def unstated_fingerprint(backbone: str) -> Fingerprint:
    """The fingerprint of a backbone whose weights are not known."""
    row = backbone_named(backbone)
    return Fingerprint(backbone, "", row.preprocessing, row.dimension)
