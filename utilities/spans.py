"""Stretches of a video: what looks alike in sampled frames that follow each other is one item, with a span."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from utilities.items import Item

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Cosine from which on what the next sampled frame shows is one with what the last one showed.
ALIKE = 0.98
#: Names of the attributes that an item of a video has: seconds at which its span begins and ends; and how many items
#: its video has, which stands on one of them alone, the last that was inserted, and is 0 on others: by it a load that
#: came to the end of a video is told from one that died.
SPAN_ATTRIBUTES = ("time", "until", "items")


@dataclass
class _Open:
    item: Item
    embedding: NDArray[np.float32]


class Spans:
    """Joins what the sampled frames of one video show, as they come."""

    def __init__(self) -> None:
        self._open: list[_Open] = []
        self._held: _Open | None = None
        self._count = 0

    def add(
        self, time: float, items: Sequence[Item], embeddings: NDArray[np.float32]
    ) -> list[tuple[Item, NDArray[np.float32]]]:
        """A further frame.

        Args:
            time: its seconds.
            items: what it shows.
            embeddings: (n, dimension) of that, of length 1.

        Returns:
            Items that are complete now, and their embeddings.
        """
        before, self._open = self._open, []
        for item, embedding in zip(items, embeddings, strict=True):
            likeness = [float(each.embedding @ embedding) for each in before]
            if likeness and max(likeness) >= ALIKE:
                self._open.append(before.pop(int(np.argmax(likeness))))
            else:
                begun = item.having({"time": time, "until": time, "items": 0})
                self._open.append(_Open(begun, embedding.copy()))
        return self._closed(before, time)

    def end(self, time: float) -> list[tuple[Item, NDArray[np.float32]]]:
        """The end of the video, at a time in seconds; returns what is left."""
        closed = self._closed(self._open, time)
        if self._held is None:
            return closed
        self._count += 1
        return [*closed, (self._held.item.having({"items": self._count}), self._held.embedding)]

    def _closed(self, spans: Iterable[_Open], time: float) -> list[tuple[Item, NDArray[np.float32]]]:
        """All of them but the last, which may be the video's last: that one must say so."""
        ready = []
        for span in spans:
            if self._held:
                ready.append((self._held.item, self._held.embedding))
                self._count += 1
            self._held = _Open(span.item.having({"until": time}), span.embedding)
        return ready
