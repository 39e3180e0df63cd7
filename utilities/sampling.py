"""Draw some of many, the same ones at every call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def draw_sample(count: int, most: int) -> NDArray[np.int64]:
    """Numbers from 0 to `count` - 1, at most so many of them, drawn at random, sorted, the same at every call."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, most, replace=False))
