"""What goes in and out over HTTP."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from utilities.collection_info import CollectionInfo
from utilities.crops import Crop
from utilities.faces import Face
from utilities.items import Item, Value
from utilities.matches import FoundFrame
from utilities.milvus_search import MAX_TOP_K
from utilities.selections import MOST_EXPANDED, RERANKERS, Selection
from utilities.similar_images import Match

#: An id has up to 63 bits, of which a number of JavaScript, and so of many a JSON parser, holds 53 (RFC 8259, section
#: 6); as text it arrives whole.
Id = Annotated[str, Field(pattern=r"^[0-9]{1,19}$", examples=["1729382256910270464"])]
#: Matches of one answer; there are more by `offset`.
MOST_MATCHES = 1_000
LARGEST_ID = 2**63 - 1
#: Networks that one search names.
MOST_NETWORKS = 16
_PART = (
    "The number of the face, the largest of its image being 1; empty for a whole image. Of a video the time of the "
    "frame, and of a face in it the number after a slash."
)
_BOX = "Where in the image, or the frame, the face is; null for a whole one."
_ATTRIBUTES = (
    "What is known besides: `taken`, the local time at which the image was taken, and `camera`, by its EXIF data; and "
    "the columns of the CSV that the tree was loaded with. What is not known is absent."
)
_SIMILARITY = "Cosine or inner product: larger is nearer. Absent for L2, and where several networks are in use."
_DISTANCE = "Euclidean: smaller is nearer. For L2 alone."
_FUSED = "What the rankings of several networks came to together: larger is better. Only where several are in use."


class SearchOptions(BaseModel):
    """Which matches are wanted."""

    model_config = ConfigDict(extra="forbid")

    top_k: int = Field(20, ge=1, le=MOST_MATCHES, description="How many matches.")
    filter: str = Field(
        "",
        max_length=10_000,
        description="Only these: a Milvus expression over path, label, width, height, file_size, and the attributes "
        "that the items have.",
        examples=['label == "cup" and taken >= "2023-05-01"'],
    )
    offset: int = Field(
        0,
        ge=0,
        lt=MAX_TOP_K,
        description="How many of the nearest to pass over. Pages of a large collection may overlap a little, since an "
        "approximate index looks further for later ones.",
    )
    min_similarity: float | None = Field(
        None,
        allow_inf_nan=False,
        description="Only what is at least so similar, with `expand` to the moved query. Not for L2, and not where "
        "several networks are in use.",
        examples=[0.8],
    )
    group_by: str = Field(
        "",
        max_length=1_000,
        description="Only the first match of each `folder`, or value of a field that `filter` knows. Not for videos.",
        examples=["folder"],
    )
    expand: int = Field(
        0,
        ge=0,
        le=MOST_EXPANDED,
        description="Search once more with the query moved towards so many of its nearest, such as 10. Not for videos.",
    )
    rerank: str = Field(
        "",
        description="Put the first 100 into another order: by the neighbours shared with the query (`reciprocal`), "
        "through the graph of neighbours (`diffusion`), or by a vote of cosine, L2 and inner product (`measures`). Not "
        "for videos.",
        json_schema_extra={"enum": ["", *RERANKERS]},
    )
    using: list[str] = Field(
        [],
        max_length=MOST_NETWORKS,
        description="In a collection of several networks: search by these of its `backbones` alone; in a form, "
        "separated by commas. The numbers of a `vector` are theirs, in this order.",
        examples=[["resnet50"]],
    )
    crop: tuple[float, float, float, float] | None = Field(
        None,
        description="Search with a part of the picture: left, top, width and height as fractions of the upright whole; "
        "in a form, separated by commas. A clip is searched with as a whole.",
        examples=[[0.25, 0.25, 0.5, 0.5]],
    )
    face: int | None = Field(
        None,
        ge=1,
        description="In a collection of faces: which of the picture's faces to search with, from the largest; by "
        "default 1. Of a clip the largest face of each frame is searched with.",
    )

    @field_validator("crop", "using", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return [part for each in value.split(",") if (part := each.strip())] if isinstance(value, str) else value

    @field_validator("crop")
    @classmethod
    def _part(cls, value: tuple[float, float, float, float] | None) -> tuple[float, float, float, float] | None:
        if value is not None:
            Crop(*value)
        return value

    @property
    def part(self) -> Crop | None:
        """The crop."""
        return Crop(*self.crop) if self.crop else None

    @property
    def selection(self) -> Selection:
        """The rest."""
        return Selection(
            top_k=self.top_k,
            filter=self.filter,
            offset=self.offset,
            min_similarity=self.min_similarity,
            group_by=self.group_by,
            expand=self.expand,
            rerank=self.rerank,
            using=tuple(self.using),
        )


class Query(SearchOptions):
    """A search without an upload: exactly one of url, id and vector."""

    url: str | None = Field(None, max_length=8_192, description="Where a picture can be fetched from.")
    id: Id | None = Field(
        None, description="An item of the collection, such as a frame of a video; a number is taken, too."
    )
    vector: list[float] | None = Field(
        None,
        max_length=32_768,
        description="As many numbers as the collection's have, those of several networks side by side.",
    )

    @field_validator("id", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _exactly_one(self) -> Query:
        if [self.url, self.id, self.vector].count(None) != 2:
            raise ValueError("give exactly one of url, id and vector")
        if self.crop is not None and self.vector is not None:
            raise ValueError("a vector cannot be cropped")
        if self.face is not None and self.vector is not None:
            raise ValueError("a vector shows no faces; leave out face")
        if self.face is not None and self.id is not None and self.crop is None:
            raise ValueError("an item is one face already; leave out face, or give a crop, whose faces are numbered")
        return self


class PictureForm(BaseModel):
    """A picture, or a clip, that is uploaded."""

    model_config = ConfigDict(extra="forbid")

    file: bytes = Field(
        description="An image file; to search with, or to preview, also a video, told by the extension of its name.",
        json_schema_extra={"format": "binary"},
    )


class SearchForm(SearchOptions, PictureForm):
    """A search with a picture that is uploaded, or, in a collection of videos, with a clip."""


class PictureAddress(BaseModel):
    """A picture that is fetched."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(max_length=8_192, description="Where it can be fetched from.")


class Box(BaseModel):
    """A part of an image, in fractions of its upright width and height."""

    left: float
    top: float
    width: float
    height: float


class FoundFace(Box):
    """A face in the picture searched with, and where it is in the whole of it."""

    score: float = Field(description="How certain it is; 1 and more is a clear face.")

    @classmethod
    def of(cls, face: Face, size: tuple[int, int], crop: Crop | None) -> FoundFace:
        """A face.

        Args:
            face: as it was found in an image.
            size: the image's width and height.
            crop: the part of the picture that the image is; None for the whole.
        """
        crop = crop or Crop(0, 0, 1, 1)
        across, down = crop.width / size[0], crop.height / size[1]
        return cls(
            left=crop.left + face.left * across,
            top=crop.top + face.top * down,
            width=face.width * across,
            height=face.height * down,
            score=face.score,
        )


class SpanModel(BaseModel):
    """A stretch of a video, in seconds from its beginning."""

    start: float
    end: float


class FrameModel(BaseModel):
    """A frame of a video that matches."""

    id: Id
    time: float = Field(description="Seconds from the beginning of the video.")
    box: Box | None = Field(description=_BOX)
    similarity: float | None = Field(None, description=_SIMILARITY)
    distance: float | None = Field(None, description=_DISTANCE)
    image: str = Field(description="Where the frame is, as a JPEG.")
    thumbnail: str = Field(description="Where a small picture of it is.")

    @classmethod
    def of(cls, frame: FoundFrame, match: Match, collection: str) -> dict[str, Any]:
        """The fields of a frame, as for `MatchModel.of`."""
        box = frame.face.part_of(match.width, match.height) if frame.face else None
        return {
            "id": str(frame.id),
            "time": frame.time,
            "box": vars(box) if box else None,
            "similarity" if match.distance is None else "distance": frame.score,
            **_pictures(frame.id, collection),
        }


class MatchModel(BaseModel):
    """One search result. Of a video, what is said of an item is said of the frame that matches best."""

    rank: int = Field(description="1 for the nearest.")
    id: Id
    path: str = Field(description="Relative to the collection's root.")
    label: str = Field(description="Name of the folder that holds the file.")
    width: int
    height: int
    part: str = Field(description=_PART)
    box: Box | None = Field(description=_BOX)
    attributes: dict[str, Value] = Field(
        description=_ATTRIBUTES, examples=[{"taken": "2023-05-17T10:31:00", "camera": "Canon EOS 5D", "price": 12.5}]
    )
    similarity: float | None = Field(None, description=_SIMILARITY)
    distance: float | None = Field(None, description=_DISTANCE)
    fused: float | None = Field(None, description=_FUSED)
    image: str = Field(description="Where the file is; of a video the frame, as a JPEG.")
    thumbnail: str = Field(description="Where a small picture of it is.")
    video: str | None = Field(description="Where the video's file is; null for an image.")
    time: float | None = Field(description="Of a video: seconds at which the frame is shown; null for an image.")
    spans: list[SpanModel] = Field(
        description="Of a video: where it shows what the query shows; of several stretches, those first that more of "
        "the query is in."
    )
    frames: list[FrameModel] = Field(
        description="Of a video: a few frames that match best, in the order of their times."
    )

    @classmethod
    def of(cls, match: Match, collection: str) -> dict[str, Any]:
        """The fields of a match. Not validated once more: there are many, and we made them."""
        scores = {"similarity": match.similarity, "distance": match.distance, "fused": match.fused}
        return {
            "rank": match.rank,
            "id": str(match.id),
            "path": match.path,
            "label": match.label,
            "width": match.width,
            "height": match.height,
            "part": match.part,
            "box": vars(match.box) if match.box else None,
            "attributes": match.attributes,
            **{name: score for name, score in scores.items() if score is not None},
            **_pictures(match.id, collection),
            "video": None if match.time is None else f"/items/{match.id}/video?collection={collection}",
            "time": match.time,
            "spans": [vars(span) for span in match.spans],
            "frames": [FrameModel.of(frame, match, collection) for frame in match.frames],
        }


def _pictures(id: int, collection: str) -> dict[str, str]:
    return {what: f"/items/{id}/{what}?collection={collection}" for what in ("image", "thumbnail")}


class SearchResult(BaseModel):
    """A query and its matches, nearest first."""

    query: str = Field(description="The file's name, the URL, the id, or `vector`.")
    matches: list[MatchModel]
    faces: list[FoundFace] = Field(
        description="In a collection of faces: those of the picture, the largest first. None are told where an "
        "item, a vector, or a clip is searched with."
    )
    face: int | None = Field(description="The number, from 1, of the one that was searched with.")


class CollectionModel(BaseModel):
    """A collection and what it was made by."""

    name: str
    what: Literal["images", "faces", "videos"] = Field(
        description="What is found in it: images, images by the faces in them, or videos."
    )
    item_is: Literal["image", "face", "frame"] = Field(
        description="What one of its items is: a whole image, a face in an image or a frame, or a frame of a video."
    )
    sampling: str | None = Field(
        description="Which frames of its videos were taken; null for images.",
        examples=["every 1 s", "at each change of scene"],
    )
    items: int
    metric: str = Field(examples=["COSINE"])
    backbone: str = Field(examples=["resnet50"])
    backbones: list[str] = Field(description="Its networks, each by itself.", examples=[["resnet50", "vgg16"]])
    dimension: int
    untrained: bool = Field(description="Whether its network sees colour and texture only.")

    @classmethod
    def of(cls, info: CollectionInfo, items: int) -> CollectionModel:
        """What may be told: not where on the server it lies."""
        return cls(
            name=info.name,
            what=info.what,
            item_is=info.item_is,
            sampling=str(info.sampling) if info.sampling else None,
            items=items,
            metric=info.metric,
            backbone=" and ".join(each.backbone for each in info.fingerprints),
            backbones=[each.backbone for each in info.fingerprints],
            dimension=info.dimension,
            untrained=any(each.weights == "random" for each in info.fingerprints),
        )


class Facet(BaseModel):
    """A value and how many items have it."""

    value: str
    items: int


class Period(BaseModel):
    """From the earliest to the latest of some times, which are local ones, as in `2023-05-17T10:31:00`."""

    first: str
    last: str


class Facets(BaseModel):
    """What a collection can be filtered by; of very many values those that most items have."""

    labels: list[Facet]
    folders: list[Facet] = Field(description="With their subfolders; `path` begins with one of these and a slash.")
    cameras: list[Facet] = Field(description="What the images were taken with, as far as their EXIF data say so.")
    taken: Period | None = Field(description="When the images were taken; null if none says so.")


class NewItem(BaseModel):
    """A file that lies in the collection's tree already."""

    model_config = ConfigDict(extra="forbid")

    path: str = Field(min_length=1, max_length=4_096, description="Relative to the root.", examples=["cups/blue.jpg"])


class NewItemForm(NewItem, PictureForm):
    """A file that is uploaded, and put into the collection's tree."""


class ItemModel(BaseModel):
    """An item of a collection."""

    id: Id
    path: str
    label: str
    width: int
    height: int
    part: str = Field(description=_PART)
    box: Box | None = Field(description=_BOX)
    attributes: dict[str, Value] = Field(description=_ATTRIBUTES)

    @classmethod
    def of(cls, item: Item, info: CollectionInfo) -> ItemModel:
        """An item that was inserted."""
        face = Face.of(item.attributes)
        return cls(
            id=str(item.id),
            path=item.path,
            label=item.label,
            width=item.width,
            height=item.height,
            part=item.part,
            box=Box(**vars(face.part_of(item.width, item.height))) if face else None,
            attributes=info.attributes_of(item.attributes),
        )


class AddedItems(BaseModel):
    """What an image was added as: one item; in a collection of faces one for each face, the largest first."""

    items: list[ItemModel]


class Health(BaseModel):
    """That the server and its Milvus answer."""

    status: str = Field("ok", examples=["ok"])
