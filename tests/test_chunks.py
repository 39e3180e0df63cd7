"""Stretches are adjacent, never empty, and together everything."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utilities.chunks import chunks_by_bytes


@pytest.mark.parametrize(
    ("sizes", "limit", "expected"),
    [
        ([], 10, []),
        ([4], 10, [(0, 1)]),
        ([5, 5], 10, [(0, 2)]),
        ([5, 6], 10, [(0, 1), (1, 2)]),
        ([99, 1, 99], 10, [(0, 1), (1, 2), (2, 3)]),
        ([3, 3, 3, 3], 9, [(0, 3), (3, 4)]),
    ],
)
def test_chunks_by_bytes(sizes: Sequence[int], limit: int, expected: list[tuple[int, int]]) -> None:
    assert list(chunks_by_bytes(sizes, limit)) == expected


@given(st.lists(st.integers(1, 50)), st.integers(1, 60))
def test_chunks_are_everything_in_order_and_within_the_limit(sizes: list[int], limit: int) -> None:
    chunks = list(chunks_by_bytes(sizes, limit))
    assert [size for start, end in chunks for size in sizes[start:end]] == sizes
    for start, end in chunks:
        assert end - start == 1 or sum(sizes[start:end]) <= limit
    for start, end in chunks[:-1]:
        assert sum(sizes[start : end + 1]) > limit, "one more would not have fitted"
