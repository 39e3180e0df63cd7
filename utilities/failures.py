"""The list of what a load could not read: a CSV of paths and reasons, kept row by row while the load goes on."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Failure:
    """One file or folder that was left out."""

    #: POSIX path relative to the root.
    path: str
    #: A sentence.
    reason: str


class FailureList:
    """The failures of one load. There is no file as long as nothing has failed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        path.unlink(missing_ok=True)  # the last load's

    def append(self, failures: Iterable[Failure]) -> None:
        """Add rows.

        Raises:
            OSError: the file cannot be written.
        """
        for failure in failures:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
                if not self.count:
                    writer.writerow(["path", "reason"])
                writer.writerow(astuple(failure))
            self.count += 1
