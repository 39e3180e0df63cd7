"""What a search finds: images, faces in them, or videos."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from utilities.collection_info import CollectionInfo
from utilities.crops import Crop
from utilities.faces import Face
from utilities.items import Value
from utilities.videos import Still

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Span:
    """A stretch of a video, in seconds from its beginning."""

    start: float
    end: float

    def __str__(self) -> str:
        return f"{self.start:.1f}–{self.end:.1f} s"


@dataclass(frozen=True)
class FoundFrame:
    """A frame of a video that matches."""

    id: int
    #: Seconds from the beginning of the video.
    time: float
    #: Of the frame of the query that it matches best: as `Match.score`.
    score: float
    #: Where in the frame it is, in a collection of faces.
    face: Face | None = None


@dataclass(frozen=True)
class Match:
    """One search result."""

    #: 1 for the nearest.
    rank: int
    #: Of a video, this and whatever else is said of an item are those of the frame that matches best.
    id: int
    #: POSIX path relative to the collection's root.
    path: str
    #: What tells it from other items of its file, such as a face's number; empty for a whole image.
    part: str
    #: The file itself.
    file: Path
    #: Name of the folder that holds the file.
    label: str
    #: Size of the upright image in pixels; 0 where it is not known.
    width: int
    height: int
    #: Cosine or inner product with the query: larger is nearer. None in a collection that compares by L2. Of a video
    #: the Chamfer similarity: that of each frame of the query and the frame most like it, averaged.
    similarity: float | None
    #: Euclidean distance from the query: smaller is nearer. None unless the collection compares by L2.
    distance: float | None
    #: What the rankings of several networks, or of several pictures, came to together: larger is better. None where one
    #: ranking answers.
    fused: float | None = None
    #: Where in the image it is, in a collection of faces.
    face: Face | None = None
    #: Of a video: seconds at which the frame that matches best is shown.
    time: float | None = None
    #: Of a video: where it shows what the query shows; of several stretches, those first that more of the query is in.
    spans: tuple[Span, ...] = ()
    #: Of a video: a few frames that match best, in the order of their times.
    frames: tuple[FoundFrame, ...] = ()
    #: What else is said of its file: when it was taken and by which camera, and what a CSV says.
    attributes: Mapping[str, Value] = field(default_factory=dict, hash=False)

    @property
    def box(self) -> Crop | None:
        """The part of the image that the face is."""
        return self.face.part_of(self.width, self.height) if self.face else None

    @property
    def measure(self) -> Literal["similarity", "distance", "fused"]:
        """Which of the three it has."""
        if self.fused is not None:
            return "fused"
        return "similarity" if self.distance is None else "distance"

    @property
    def score(self) -> float:
        """Its `measure`."""
        return float(getattr(self, self.measure) or 0.0)

    @property
    def picture(self) -> Path | Still:
        """What shows it: the image, or the frame of the video."""
        return self.file if self.time is None else Still(self.file, self.time)


def match_of(
    info: CollectionInfo,
    rank: int,
    row: Mapping[str, Any],
    score: float,
    spans: tuple[Span, ...] = (),
    frames: tuple[FoundFrame, ...] = (),
    *,
    fused: bool = False,
) -> Match:
    """A match made of fields that Milvus has returned, and a similarity, a distance, or what rankings were fused to."""
    return Match(
        rank=rank,
        id=row["id"],
        path=row["path"],
        part=row["part"],
        file=(info.root or Path()) / row["path"],
        label=row["label"],
        width=row["width"],
        height=row["height"],
        similarity=None if info.metric == "L2" or fused else score,
        distance=score if info.metric == "L2" and not fused else None,
        fused=score if fused else None,
        face=Face.of(row),
        time=row["time"] if info.sampling else None,
        spans=spans,
        frames=frames,
        attributes=info.attributes_of(row),
    )


def pictures_of(info: CollectionInfo, items: pd.DataFrame) -> list[Path | Still]:
    """What shows each of a collection's items.

    Args:
        info: the collection.
        items: n rows, with the columns `path` and `info.attributes`.
    """
    files = [(info.root or Path()) / path for path in items["path"]]
    if not info.sampling:
        return [*files]
    return [Still(file, time) for file, time in zip(files, items["time"], strict=True)]
