"""Work ahead of its reader: in order, within bounds, and no further than the first error."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from utilities.streams import in_order


@pytest.mark.parametrize("ahead", [1, 2, 7, 100])
def test_results_come_in_the_order_of_the_arguments(ahead: int) -> None:
    late = threading.Event()

    def double(number: int) -> int:
        if number == 0:
            late.wait(0.2)  # The first is done last.
        elif number == ahead - 1:
            late.set()
        return 2 * number

    with ThreadPoolExecutor(4) as pool:
        assert list(in_order(pool, double, range(20), ahead)) == [2 * number for number in range(20)]
        assert list(in_order(pool, double, [], ahead)) == []


def test_no_more_is_asked_for_than_is_ahead() -> None:
    asked: list[int] = []

    def arguments() -> Iterator[int]:
        for number in range(100):
            asked.append(number)
            yield number

    with ThreadPoolExecutor(2) as pool:
        results = in_order(pool, abs, arguments(), 3)
        for number in range(50):
            assert next(results) == number
            assert len(asked) == number + 4


def test_an_error_comes_in_its_place_and_ends_the_work() -> None:
    done: list[int] = []
    gate = threading.Event()

    def work(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        if number > 3:
            gate.wait(5)
        done.append(number)
        return number

    with ThreadPoolExecutor(1) as pool:
        results = in_order(pool, work, range(100), 10)
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="three"):
            next(results)
        gate.set()
    assert len(done) <= 5  # What had begun, and nothing of the rest.
