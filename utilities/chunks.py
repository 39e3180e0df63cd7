"""Cut what is sent into messages that the receiver takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def chunks_by_bytes(sizes: Iterable[int], limit: int) -> Iterator[tuple[int, int]]:
    """Cut a sequence into stretches of at most `limit` bytes; one that is larger alone stands alone.

    Args:
        sizes: bytes of each element.
        limit: bytes of a stretch.

    Yields:
        (start, end) of each stretch: adjacent, never empty, together everything.
    """
    start = end = total = 0
    for end, size in enumerate(sizes):
        if total and total + size > limit:
            yield start, end
            start, total = end, 0
        total += size
    if total:
        yield start, end + 1
