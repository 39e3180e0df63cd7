"""Stretches of a video: what is joined, what is told of it, and how many there are."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from utilities.items import Item, item_id
from utilities.spans import ALIKE, Spans

Ended = list[tuple[Item, NDArray[np.float32]]]


def item(part: str) -> Item:
    return Item(item_id("a.mp4", part), "a.mp4", part, "", 4, 3, 1, 1)


def at(degrees: float) -> NDArray[np.float32]:
    """A vector of length 1; by 10 degrees apart, the cosine is 0.985, by 12 it is 0.978."""
    return np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], np.float32)


def told(ended: Ended) -> list[tuple[str, float, float, int]]:
    """Part, beginning, end, and the number of items, if it is told."""
    numbers = ((each.part, {name: float(value) for name, value in each.attributes.items()}) for each, _ in ended)
    return [(part, number["time"], number["until"], int(number["items"])) for part, number in numbers]


def test_frames_that_look_alike_are_one() -> None:
    spans, ended = Spans(), []
    for time, degrees in enumerate([0, 10, 10, 12, 90, 90]):
        ended += spans.add(time, [item(f"{time}")], at(degrees)[None])
    ended += spans.end(6.5)
    # The fourth is like the third, but not like the first, which stands for them.
    assert told(ended) == [("0", 0, 3, 0), ("3", 3, 4, 0), ("4", 4, 6.5, 3)]
    np.testing.assert_array_equal(ended[2][1], at(90))


def test_faces_of_one_frame_are_joined_with_their_own() -> None:
    spans = Spans()
    frames = [(0, {"a": 0, "b": 90}), (1, {"b": 91, "a": 1}), (2, {"b": 92}), (3, {}), (4, {"b": 92, "c": 93})]
    ended: Ended = []
    for time, faces in frames:
        vectors = np.array([at(degrees) for degrees in faces.values()], np.float32).reshape(-1, 2)
        ended += spans.add(time, [item(f"{time}{name}") for name in faces], vectors)
    ended += spans.end(5)
    # Of one frame two faces are two, however alike they are.
    assert sorted(told(ended)) == [("0a", 0, 2, 0), ("0b", 0, 3, 0), ("4b", 4, 5, 0), ("4c", 4, 5, 4)]


def test_a_video_without_items_has_none() -> None:
    spans = Spans()
    assert spans.add(0, [], np.empty((0, 2), np.float32)) == []
    assert spans.end(1) == []


@given(st.lists(st.floats(0, 360), min_size=1, max_size=30))
def test_spans_cover_a_video_and_the_last_says_how_many_they_are(degrees: list[float]) -> None:
    spans, ended = Spans(), []
    for time, each in enumerate(degrees):
        ended += spans.add(time, [item(f"{time}")], at(each)[None])
    ended += spans.end(len(degrees))
    rows = told(ended)
    assert [row[3] for row in rows] == [0] * (len(rows) - 1) + [len(rows)]
    assert rows[0][1] == 0
    assert rows[-1][2] == len(degrees)
    assert all(before[2] == after[1] for before, after in pairwise(rows))
    for (_, start, end, _), (_, vector) in zip(rows, ended, strict=True):
        assert all(float(vector @ at(degrees[time])) >= ALIKE for time in range(int(start), int(end)))
