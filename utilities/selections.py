"""Which matches of a query are wanted, and in which order: what every search is told, wherever it comes from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from utilities.collection_info import CollectionInfo
from utilities.errors import InvalidArgument
from utilities.items import ITEM_FIELDS
from utilities.milvus_search import check_depth

#: How the first matches can be put into another order; `utilities.reranking` says what each is.
RERANKERS = ("reciprocal", "diffusion", "measures")
#: Most neighbours that a query is expanded by.
MOST_EXPANDED = 100


@dataclass(frozen=True)
class Selection:
    """Which matches of a query are wanted; what is left at its default is not asked for."""

    #: How many matches, from 1 to 16,384.
    top_k: int = 20
    #: A Milvus expression that the matches satisfy.
    filter: str = ""
    #: How many of the nearest to pass over.
    offset: int = 0
    #: Leave out what is less similar than that.
    min_similarity: float | None = None
    #: Of the items that share their `folder`, or the value of another field, only the first is a match.
    group_by: str = ""
    #: Neighbours that the query is expanded by; 0 for none.
    expand: int = 0
    #: One of `RERANKERS`; empty for the order of the similarities.
    rerank: str = ""
    #: In an ensemble, the backbones that are searched by; empty for all.
    using: tuple[str, ...] = ()
    #: In an ensemble, how much the networks count, each from 0 to 1; empty to fuse by rank.
    weights: tuple[float, ...] = ()

    def check(self, info: CollectionInfo) -> CollectionInfo:
        """Refuse what a collection cannot be asked.

        Returns:
            The collection, as searched by the networks in use.

        Raises:
            InvalidArgument: what that is, in words that fit the command line and HTTP alike.
        """
        used = info.using(self.using)
        check_depth(self.top_k, self.offset, fused=bool(used.others))
        if self.rerank and self.rerank not in RERANKERS:
            raise InvalidArgument(f"There is no re-ranking {self.rerank!r}; choose one of {', '.join(RERANKERS)}.")
        if self.rerank == "measures" and used.others:
            raise InvalidArgument(
                f"{info.name!r} is searched by several networks, whose vectors are made equally long to be compared: "
                "measures have nothing to vote on. Search by one of them, or choose another re-ranking."
            )
        if not 0 <= self.expand <= MOST_EXPANDED:
            raise InvalidArgument(f"A query is expanded by 1 to {MOST_EXPANDED} neighbours, not {self.expand:,}.")
        if info.sampling and (self.rerank or self.expand or self.group_by):
            raise InvalidArgument(
                f"{info.name!r} holds videos, each of which is one match already and found by many frames: a query is "
                "expanded, and matches are re-ranked or grouped, in collections of images and of faces."
            )
        if self.min_similarity is not None and not math.isfinite(self.min_similarity):
            raise InvalidArgument(f"The least similarity is {self.min_similarity}; give a number.")
        if self.min_similarity is not None and info.metric == "COSINE" and not -1 <= self.min_similarity <= 1:
            raise InvalidArgument(f"The least similarity is {self.min_similarity:g}; a cosine goes from -1 to 1.")
        if self.min_similarity is not None and (info.metric == "L2" or used.others):
            what, or_else = "distance (l2)", ""
            if info.metric != "L2":
                what, or_else = "several networks, whose rankings are fused", ", or search by one of them"
            raise InvalidArgument(
                f"{info.name!r} is searched by {what}: matches have no similarity. Leave out the least "
                f"similarity{or_else}."
            )
        known = ("folder", *(name for name in (*ITEM_FIELDS, *info.attributes) if name != "id"))
        if self.group_by and self.group_by not in known:
            raise InvalidArgument(f"There is no field {self.group_by!r} to group by; choose one of {', '.join(known)}.")
        if self.weights and not used.others:
            raise InvalidArgument("One network alone needs no weight; give several, or leave the weight out.")
        fit = len(self.weights) == len(used.fingerprints) and all(0 <= each <= 1 for each in self.weights)
        if self.weights and not (fit and any(self.weights)):
            raise InvalidArgument(
                f"Of {len(used.fingerprints)} networks in use each needs a weight from 0 to 1, not all of them 0; or "
                "none has one."
            )
        return used

    @property
    def group(self) -> Callable[[Mapping[str, Any]], object] | None:
        """What gives the group of an item's fields, if there are groups."""
        name = self.group_by
        if name == "folder":
            return lambda row: str(PurePosixPath(row["path"]).parent)
        # What has no value is in no group.
        return (lambda row: (row["id"],) if row.get(name) is None else row[name]) if name else None


#: What is wanted where nothing is said.
NEAREST = Selection()
