"""Stretches are adjacent, never empty, and together everything."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

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
