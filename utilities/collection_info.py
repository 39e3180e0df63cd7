"""What a collection says of itself, kept in its Milvus properties, and which other collections it refuses to be."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from utilities.backbones import DEFAULT_BACKBONE, backbone_named
from utilities.errors import EmbedderMismatch, InvalidArgument
from utilities.fingerprint import Fingerprint

METRICS = ("COSINE", "L2", "IP")
#: The Milvus property that holds the root; it may be settled after the collection was created.
ROOT = "lookalike.root"
_METRIC, _EMBEDDER, _WEIGHTS = "lookalike.metric", "lookalike.embedder", "lookalike.weights"


@dataclass(frozen=True)
class CollectionInfo:
    """A collection's name and what must stay the same as long as it lives."""

    name: str
    #: Absolute directory, free of links, that its paths are relative to; None until the first items are inserted.
    root: Path | None
    #: One of `METRICS`.
    metric: str
    #: What its vectors were made by.
    fingerprint: Fingerprint
    #: Where the weights came from: `imagenet`, `random`, or a file's path.
    weights: str

    @classmethod
    def checked(
        cls,
        name: str,
        *,
        dimension: int,
        metric: str,
        fingerprint: Fingerprint | None,
        weights: str,
        root: str | os.PathLike[str] | None,
    ) -> CollectionInfo:
        """A collection to be, from arguments as `milvus_utilities.create_collection` takes them.

        Raises:
            InvalidArgument: a name or a metric that Milvus does not take, or a dimension that is not the embedder's.
        """
        # Milvus Lite takes any name; a server takes these, and the name is a file's name too.
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,199}", name):
            raise InvalidArgument(
                f"{name!r} is no name for a collection; use letters, digits and underscores, not beginning with a "
                "digit, at most 200."
            )
        if metric.upper() not in METRICS:
            raise InvalidArgument(f"There is no metric {metric!r}; choose one of {', '.join(METRICS).lower()}.")
        row = backbone_named(DEFAULT_BACKBONE)
        fingerprint = fingerprint or Fingerprint(DEFAULT_BACKBONE, "", row.preprocessing, row.dimension)
        if dimension != fingerprint.dimension:
            raise InvalidArgument(
                f"Vectors of {dimension} dimensions do not come from {fingerprint}; pass "
                "fingerprint=embedder.fingerprint."
            )
        return cls(name, Path(root).resolve() if root is not None else None, metric.upper(), fingerprint, weights)

    @classmethod
    def from_properties(cls, name: str, properties: Mapping[str, str]) -> CollectionInfo | None:
        """The inverse of `properties`; None for a collection that Lookalike did not make."""
        if _EMBEDDER not in properties:
            return None
        return cls(
            name,
            Path(properties[ROOT]) if ROOT in properties else None,
            properties[_METRIC],
            Fingerprint.from_json(properties[_EMBEDDER]),
            properties[_WEIGHTS],
        )

    def properties(self) -> dict[str, str]:
        """What Milvus is to remember."""
        root = {ROOT: self.root.as_posix()} if self.root else {}
        return {_METRIC: self.metric, _EMBEDDER: self.fingerprint.to_json(), _WEIGHTS: self.weights, **root}

    @property
    def vector_field(self) -> str:
        """Name of the Milvus field that holds the vectors."""
        return f"embedding_{self.fingerprint.backbone}"

    def refuse_unless_same(self, other: CollectionInfo) -> None:
        """Refuse to be used as `other` where that would mix what cannot be mixed.

        Raises:
            EmbedderMismatch: vectors of another embedder.
            InvalidArgument: another metric, or another root.
        """
        if not self.fingerprint.matches(other.fingerprint):
            raise EmbedderMismatch(
                f"The collection {self.name!r} holds vectors of {self.fingerprint}; vectors of {other.fingerprint} "
                f"cannot be compared with them. Choose another collection, or `lookalike drop {self.name}` first."
            )
        if self.metric != other.metric:
            raise InvalidArgument(
                f"The collection {self.name!r} compares by {self.metric}, not {other.metric}; choose another "
                "collection."
            )
        if self.root and other.root and self.root != other.root:
            raise InvalidArgument(
                f"The collection {self.name!r} holds the tree {str(self.root)!r}, not {str(other.root)!r}; choose "
                "another collection, or load the folder that holds both."
            )
