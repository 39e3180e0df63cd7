"""Requests that come together are answered together."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

Request = TypeVar("Request")
Answer = TypeVar("Answer")


class Batches(Generic[Request, Answer]):
    """Threads that answer requests, each as many at a time as wait.

    Nobody is kept waiting for others: the first request that waits is taken with whatever else waits by then, so that
    batches are small where few requests come, and full where many do.
    """

    def __init__(
        self, answer: Callable[[Sequence[Request]], Sequence[Answer | Exception]], most: int, threads: int
    ) -> None:
        """Start the threads.

        Args:
            answer: answers several requests, in their order, each with its answer or with what is to be raised. What it
                raises itself is the answer to all of them.
            most: requests of a batch.
            threads: how many batches may be under way at once.
        """
        self._answer, self._most = answer, most
        self._waiting: queue.SimpleQueue[tuple[Request, Future[Answer]] | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._run, name="batches", daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def submit(self, request: Request) -> Future[Answer]:
        """Have a request answered; one whose future is cancelled before its turn is passed over."""
        future: Future[Answer] = Future()
        self._waiting.put((request, future))
        return future

    def close(self) -> None:
        """Answer what was submitted, and end the threads."""
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while batch := self._next_batch():
            wanted = [(request, future) for request, future in batch if future.set_running_or_notify_cancel()]
            if not wanted:
                continue
            try:
                answers = self._answer([request for request, _ in wanted])
            except Exception as error:
                answers = [error] * len(wanted)
            for (_, future), answer in zip(wanted, answers, strict=True):
                if isinstance(answer, Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)

    def _next_batch(self) -> list[tuple[Request, Future[Answer]]]:
        """What waits, at least one request; nothing when the end has come."""
        first = self._waiting.get()
        if first is None:
            return []
        batch = [first]
        while len(batch) < self._most:
            try:
                another = self._waiting.get_nowait()
            except queue.Empty:
                break
            if another is None:
                self._waiting.put(None)  # The end is for later: this batch comes first.
                break
            batch.append(another)
        return batch
