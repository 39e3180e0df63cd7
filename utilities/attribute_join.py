"""Join a CSV of attributes to a collection's items by path, and write what is new without embedding anything again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from utilities.attributes import Attributes
from utilities.collection_info import CollectionInfo
from utilities.items import Item, Value
from utilities.milvus_utilities import columns_of, insert_items, stored_columns, stored_embeddings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pymilvus import MilvusClient

#: Items that are written together; Milvus finds them by a list of their ids.
TOGETHER = 1_024


@dataclass(frozen=True)
class JoinSummary:
    """What became of a CSV of attributes."""

    #: Items that have now what they had not before, whether they were embedded or there already.
    items: int
    #: Rows whose path is neither in the tree nor in the collection.
    rows_without_file: int
    #: Files of the tree that the CSV does not name.
    files_without_row: int
    #: Items, of files that were not to be embedded, that a stop left without what the CSV says of them.
    left: int = 0


class AttributeJoin:
    """The columns of CSVs, in one load: what the CSV does not say stays as Milvus holds it."""

    def __init__(
        self,
        client: MilvusClient,
        info: CollectionInfo,
        given: Attributes | None,
        attempt: Callable[[Callable[[], Any]], Any],
    ) -> None:
        """Read nothing yet.

        Args:
            client: from `connect`.
            info: the collection, which knows of the CSV's columns.
            given: the CSV, if there is one.
            attempt: what makes each call, as in `insert_items`.
        """
        self._client, self._info, self._given, self._attempt = client, info, given, attempt
        #: What Milvus holds, by id; and what every item of a file is to have, by path.
        self._held: dict[int, dict[str, Value]] = {}
        self._values: dict[str, dict[str, Value]] = {}
        #: Items that were given something new.
        self._new: set[int] = set()

    def read(self, embedded: Sequence[int]) -> None:
        """Read what Milvus holds: all of it for a CSV, and otherwise what it would lose.

        Args:
            embedded: ids of stored items whose files are embedded again.

        Raises:
            InvalidArgument: more of a file than Milvus takes of an item.
        """
        client, info, given = self._client, self._info, self._given
        read = partial(stored_columns, client, info) if given else partial(columns_of, client, info, embedded)
        for id_, path, values in self._attempt(lambda: list(read())):
            self._held[id_] = self._values[path] = values
        if given:
            self._values |= {path: given.joined(path, self._values.get(path, {})) for path in given.rows}

    def joined(self, items: Sequence[Item]) -> list[Item]:
        """Items with what their files are to have, whatever they had in the columns."""
        columns = dict(self._info.columns)
        return [
            replace(
                item,
                attributes={
                    **{name: value for name, value in item.attributes.items() if name not in columns},
                    **self._values.get(item.path, {}),
                },
            )
            for item in items
        ]

    def note(self, items: Sequence[Item]) -> None:
        """These were inserted."""
        self._new.update(item.id for item in items if self._is_new(item.id, item.path))

    def outdated(self, stored: pd.DataFrame, embedded: Set[str]) -> list[int]:
        """Ids of stored items that are to have something else, but of the files that are embedded again anyway.

        Args:
            stored: the collection's items, in the columns of `Item`.
            embedded: paths.
        """
        rows = zip(stored["id"], stored["path"], strict=True)
        return [id_ for id_, path in rows if path not in embedded and self._is_new(id_, path)]

    def write(self, ids: Sequence[int]) -> Iterator[int]:
        """Write stored items anew, with the vectors that they have; servers before 2.6 take no part of an item.

        Yields:
            How many were written, after each message.
        """
        for start in range(0, len(ids), TOGETHER):
            some = f"id in {list(ids[start : start + TOGETHER])}"
            for page, embeddings in self._attempt(partial(self._stored, some)):
                items = self.joined([Item.of_row(row) for row in page])
                insert_items(self._client, self._info, items, embeddings, self._attempt)
                self.note(items)
                yield len(items)

    def summary(self, paths: Sequence[str], stored: pd.DataFrame, left: int) -> JoinSummary | None:
        """What became of the CSV, if there is one.

        Args:
            paths: those of the tree.
            stored: the items that the collection held before, in the columns of `Item`.
            left: outdated ones that were not written.
        """
        if self._given is None:
            return None
        named = set(self._given.rows)
        return JoinSummary(
            len(self._new), len(named.difference(paths, stored["path"])), len(set(paths).difference(named)), left
        )

    def _stored(self, filter: str) -> list[tuple[list[dict[str, Any]], NDArray[np.float32]]]:
        return list(stored_embeddings(self._client, self._info, ["*"], filter))

    def _is_new(self, id: int, path: str) -> bool:
        return self._given is not None and path in self._given.rows and self._held.get(id, {}) != self._values[path]
