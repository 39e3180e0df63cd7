"""Work that overlaps: what a pool does ahead of its reader, in order and within bounds."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future
from itertools import islice
from typing import TypeVar

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(
    pool: Executor, function: Callable[[Argument], Result], arguments: Iterable[Argument], ahead: int
) -> Generator[Result, None, None]:
    """`map` by a pool, as a stream: memory is bounded whatever the number of arguments.

    Args:
        pool: what calls the function.
        function: of one argument.
        arguments: asked for in the reader's thread, as calls are begun.
        ahead: calls that may be begun, or done, before the reader wants their results; at least 1.

    Yields:
        Results, in the order of the arguments.

    Raises:
        Exception: the first that a call raised, in its place. Calls that have not begun by then never will; nor will
            they once the generator is closed, which must happen before the pool is shut down.
    """
    rest = iter(arguments)
    begun: deque[Future[Result]] = deque()
    try:
        begun.extend(pool.submit(function, argument) for argument in islice(rest, ahead))
        while begun:
            result = begun.popleft().result()
            begun.extend(pool.submit(function, argument) for argument in islice(rest, 1))
            yield result
    finally:
        for future in begun:
            future.cancel()
