"""Requests that come together are answered together, each with its own answer."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from utilities.batches import Batches


def test_what_waits_is_taken_together_and_nobody_waits_for_others() -> None:
    began, go_on = threading.Event(), threading.Event()
    seen: list[list[int]] = []

    def double(numbers: Sequence[int]) -> list[int | Exception]:
        seen.append(list(numbers))
        began.set()
        assert go_on.wait(10)
        return [ValueError(f"{number} is odd") if number % 2 else 2 * number for number in numbers]

    batches = Batches(double, most=4, threads=1)
    first = batches.submit(0)
    assert began.wait(10)  # It did not wait for others.
    others = [batches.submit(number) for number in range(1, 7)]
    others[1].cancel()
    go_on.set()
    assert first.result(10) == 0
    with pytest.raises(ValueError, match="1 is odd"):
        others[0].result(10)
    assert [future.result(10) for future in (others[3], others[5])] == [8, 12]
    batches.close()
    assert seen == [[0], [1, 3, 4], [5, 6]]  # 2 was cancelled in a batch of four.


def test_a_failure_of_the_whole_is_the_answer_to_each() -> None:
    def fail(_: Sequence[int]) -> list[int | Exception]:
        raise RuntimeError("no")

    batches = Batches(fail, most=4, threads=2)
    for future in [batches.submit(number) for number in range(9)]:
        with pytest.raises(RuntimeError, match="no"):
            future.result(10)
    batches.close()


def test_the_end_comes_after_what_was_submitted() -> None:
    def same(numbers: Sequence[int]) -> list[int | Exception]:
        return list(numbers)

    batches = Batches(same, most=3, threads=2)
    futures = [batches.submit(number) for number in range(50)]
    batches.close()
    assert [future.result(0) for future in futures] == list(range(50))
