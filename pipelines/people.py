"""People: the faces of a collection, put together by whose they are."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from utilities.collection_info import CollectionInfo
from utilities.errors import InvalidArgument
from utilities.faces import boxes_of
from utilities.labels import Labels, labels_of, read_labels
from utilities.maps import Clusters, hdbscan, pairwise_precision_recall
from utilities.matches import pictures_of
from utilities.milvus_utilities import connect, describe_collection, read_embeddings, read_items
from utilities.settings import Settings
from utilities.thumbnails import contact_sheet, read_thumbnails

logger = logging.getLogger(__name__)

#: Faces of a contact sheet at most, the most typical first.
SHEET = 64
#: Faces from which on grouping takes minutes.
MANY = 10_000


@dataclass(frozen=True)
class Person:
    """A group of faces."""

    #: From 1, who has most faces.
    number: int
    #: The commonest label of its faces; `person 1` and so on where none has one.
    name: str
    faces: int
    #: The part of its labelled faces that have this name; None where none has a label.
    share: float | None
    #: A picture of its faces.
    sheet: Path


@dataclass(frozen=True)
class People:
    """Everybody in a collection."""

    collection: str
    faces: int
    people: list[Person]
    #: Faces that are like too few others to be anybody's.
    alone: int
    #: How right pairs of faces are, by their labels; None without, or where there are no such pairs.
    precision: float | None
    recall: float | None
    #: A row for each face, with the columns of `--labels`: what was said of it, or its person's name if that has one.
    csv: Path


def run(
    collection: str,
    *,
    labels: Path | None = None,
    least: int = 3,
    out: Path,
    settings: Settings | None = None,
    progress: bool = True,
) -> People:
    """Group the faces of a collection into people, and draw a contact sheet of each.

    Args:
        collection: its name.
        labels: a CSV with the columns `path` and `label`, and perhaps `part`, the face's number: who some of the faces
            are. People are named by it, and judged; without one, named by the CSV of an earlier run in `out`.
        least: the fewest faces of a person.
        out: directory for the CSV and the sheets; sheets of an earlier run are removed.
        settings: limits and places; from the environment by default.
        progress: whether to draw a progress bar on standard error.

    Raises:
        CollectionNotFound: no such collection.
        InvalidArgument: a collection of images, or without items, or a CSV that cannot be used.
        DatabaseError: Milvus failed.
    """
    settings = settings or Settings.load()
    client = connect(settings=settings, must_exist=True)
    info = describe_collection(client, collection)
    if not info.of_faces:
        raise InvalidArgument(
            f"The collection {collection!r} holds {info.what}; `lookalike load DIR --what faces` makes one of faces, "
            "`--what videos --faces` one of faces in videos."
        )
    items = read_items(client, collection, info.attributes).sort_values(["path", "part"], ignore_index=True)
    csv = out / "people.csv"
    truth = _known(items, labels, csv)
    if len(items) > MANY:
        logger.info("Grouping %s faces; this takes minutes.", f"{len(items):,}")
    groups = hdbscan(read_embeddings(client, info, items["id"].to_numpy(np.int64)), least)
    out.mkdir(parents=True, exist_ok=True)
    for sheet in out.glob("person_*.png") if csv.exists() else ():
        if re.fullmatch(r"person_[0-9]+\.png", sheet.name):  # of an earlier run
            sheet.unlink()
    people = _draw(info, items, groups, truth, out, settings, progress)
    _table(items, groups, people, truth).to_csv(csv, index=False)
    precision, recall = pairwise_precision_recall(groups, truth) if labels else (None, None)
    alone = int((groups.codes < 0).sum())
    return People(collection, len(items), people, alone, precision, recall, csv)


def _known(items: pd.DataFrame, labels: Path | None, earlier: Path) -> Labels:
    """Who faces are: as is said now, or else as was written into the CSV of an earlier run, which is not to be lost."""
    if labels is None and earlier.exists() and any(read_labels(earlier).values()):
        labels = earlier
    known = labels_of(items, labels)
    return known if labels else Labels.of([None] * len(items))  # A folder of photographs is nobody's name.


def _draw(
    info: CollectionInfo,
    items: pd.DataFrame,
    groups: Clusters,
    labels: Labels,
    out: Path,
    settings: Settings,
    progress: bool,
) -> list[Person]:
    shown = [groups.most_typical(person, SHEET) for person in range(groups.count)]
    rows = np.concatenate([*shown, np.empty(0, np.int64)])
    chosen = items.iloc[rows]
    pictures = pictures_of(info, chosen)
    faces = iter(read_thumbnails(pictures, boxes_of(chosen), settings, progress=progress and bool(pictures)))
    digits = len(str(groups.count))
    people = []
    for number, members in enumerate(shown, start=1):
        name, share = _name(labels.take(np.flatnonzero(groups.codes == number - 1)), number)
        count = int((groups.codes == number - 1).sum())
        sheet = out / f"person_{number:0{digits}}.png"
        heading = f"{name}: {count:,} faces" + (f", the {SHEET} most typical" if count > SHEET else "")
        contact_sheet(heading, [next(faces) for _ in members]).save(sheet)
        people.append(Person(number, name, count, share, sheet))
    return people


def _name(labels: Labels, number: int) -> tuple[str, float | None]:
    known = labels.codes[labels.codes >= 0]
    if not len(known):
        return f"person {number}", None
    counts = np.bincount(known)
    return labels.names[counts.argmax()], float(counts.max() / len(known))


def _table(items: pd.DataFrame, groups: Clusters, people: list[Person], known: Labels) -> pd.DataFrame:
    """A row for each face: whose it is said to be, or else, where its person has a name, that; the person's number."""
    own = [known.names[code] if code >= 0 else "" for code in known.codes]
    persons = [people[code] if code >= 0 else None for code in groups.codes]
    return pd.DataFrame(
        {
            "path": items["path"],
            "part": items["part"],
            "label": [
                said or (person.name if person and person.share is not None else "")
                for said, person in zip(own, persons, strict=True)
            ],
            "person": [str(person.number) if person else "" for person in persons],
            "typicality": [f"{typicality:.4f}" for typicality in groups.typicality],
        }
    )
