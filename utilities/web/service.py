"""What every request needs: the settings, Milvus, and the warm search."""

from __future__ import annotations

import math
import time
from collections import Counter
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, cast

import anyio
from fastapi import Depends, Request

from utilities.collection_info import CollectionInfo
from utilities.errors import CollectionNotFound, InvalidArgument
from utilities.exif import EXIF_ATTRIBUTES
from utilities.milvus_utilities import describe_collection, list_collections, stored_items
from utilities.settings import Settings
from utilities.streams import processors
from utilities.warm_search import WarmSearch
from utilities.web.models import Facet, Facets, Period

if TYPE_CHECKING:
    from pymilvus import MilvusClient

#: Seconds for which what a collection says of itself is believed without asking again.
BELIEVED = 1.0
#: Seconds for which labels, folders and the like are; to count them a collection is read.
COUNTED = 60.0
#: Addresses that are fetched from at once.
MOST_FETCHED = 16
#: Clips that are decoded at once, each by as many threads as FFmpeg takes.
MOST_CLIPS = 1
#: Labels, folders, and cameras, that are told of.
MOST_FACETS = 2_000


class Service:
    """One for each process that serves."""

    def __init__(self, settings: Settings, client: MilvusClient, only: str | None) -> None:
        """Start the warm search, and set up what requests share.

        Args:
            settings: limits and places.
            client: from `connect`.
            only: the collection that is served; None for all.
        """
        self.settings, self.client, self.only = settings, client, only
        self.search = WarmSearch(self.client, self.settings)
        #: Threads that decode, which bounds memory, too: an image may have hundreds of megabytes.
        self.decoding = anyio.CapacityLimiter(2 * processors())
        #: Addresses that are fetched from at once: those of others are slow, and hold what they have sent in memory.
        self.fetching = anyio.CapacityLimiter(MOST_FETCHED)
        #: Clips that are decoded at once: fewer than there are threads that decode.
        self.clips = anyio.CapacityLimiter(MOST_CLIPS)
        self.unlimited = anyio.CapacityLimiter(math.inf)  # by any other means than the one above
        #: Items are added and removed one after another, collections are counted one after another.
        self.writing, self.counting, self.supervising = (anyio.CapacityLimiter(1) for _ in range(3))
        #: Searches and previews that came and are not answered.
        self.in_hand = 0
        self._described: dict[str, tuple[float, CollectionInfo]] = {}
        self._facets: dict[str, tuple[float, Facets]] = {}

    def names(self) -> list[str]:
        """The collections that are served, sorted."""
        return [name for name in list_collections(self.client) if self.only in (None, name)]

    def collection(self, name: str) -> CollectionInfo:
        """What a collection says of itself.

        Raises:
            CollectionNotFound: none of that name is served.
            DatabaseError: Milvus failed.
        """
        if self.only not in (None, name):
            raise CollectionNotFound(f"There is no collection {name!r}; there are: {self.only}.")
        when, info = self._described.get(name, (0.0, None))
        if info is None or time.monotonic() - when > BELIEVED:
            info = describe_collection(self.client, name)
            self._described[name] = (time.monotonic(), info)
        return info

    def collection_or_only(self, name: str | None) -> CollectionInfo:
        """As `collection`; without a name the only one there is.

        Raises:
            InvalidArgument: there are several.
        """
        names = [name] if name else self.names()
        if len(names) != 1:
            there = ", ".join(names) or "none"
            raise InvalidArgument(f"Say which collection with ?collection=NAME; there are: {there}.")
        return self.collection(names[0])

    def facets(self, name: str) -> Facets:
        """What a collection can be filtered by, counted."""
        when, facets = self._facets.get(name, (0.0, None))
        if facets is None or time.monotonic() - when > COUNTED:
            facets = self._counted(name)
            self._facets[name] = (time.monotonic(), facets)
        return facets

    def has_changed(self, name: str) -> None:
        """Forget what was counted."""
        self._facets.pop(name, None)

    def _counted(self, name: str) -> Facets:
        labels: Counter[str] = Counter()
        folders: Counter[str] = Counter()
        cameras: Counter[str] = Counter()
        taken: set[str] = set()
        for page in stored_items(self.client, name, fields=["path", "label", *EXIF_ATTRIBUTES]):
            labels.update(row["label"] for row in page)
            folders.update(str(PurePosixPath(row["path"]).parent) for row in page)
            cameras.update(row["camera"] for row in page if row.get("camera"))
            times = [*taken, *(row["taken"] for row in page if row.get("taken"))]
            taken = {min(times), max(times)} if times else set()
        whole: Counter[str] = Counter()
        for folder, items in folders.items():
            for each in (PurePosixPath(folder), *PurePosixPath(folder).parents):
                whole[str(each)] += items
        del whole["."]
        period = Period(first=min(taken), last=max(taken)) if taken else None
        return Facets(labels=_most(labels), folders=_most(whole), cameras=_most(cameras), taken=period)


def _most(counts: Counter[str]) -> list[Facet]:
    return [Facet(value=value, items=items) for value, items in sorted(counts.most_common(MOST_FACETS))]


async def service_of(request: Request) -> Service:
    """The one of this process. Not async for waiting, but since what is not runs in a thread."""
    return cast(Service, request.app.state.service)


Serving = Annotated[Service, Depends(service_of)]
