"""The list of files in which no face was found, so that they are shown to whoever asks, and not looked at again."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Set
from pathlib import Path

import pandas as pd

from utilities.errors import IdMapError
from utilities.id_map import IdMap
from utilities.items import Item

logger = logging.getLogger(__name__)


class WithoutFaces:
    """One collection's list: a CSV in the form of an id map. There is no CSV as long as there is no such file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows = IdMap(path)

    def read(self) -> pd.DataFrame:
        """As `IdMap.read`. A file that was changed by another hand is removed: nothing but time is lost with it."""
        try:
            return self._rows.read()
        except IdMapError:
            logger.warning("%s is not as it was written; what it listed is looked at again.", self.path)
            self.delete()
            return self._rows.read()

    def append(self, items: Iterable[Item]) -> None:
        """Add items of whole files."""
        items = list(items)
        if items:
            self._rows.append(items)

    def remove(self, paths: Set[str]) -> None:
        """Take these from the list."""
        rows = self.read()
        # pandas would want UTF-8 of all of them, which names of files need not be.
        stays = pd.Series([path not in paths for path in rows["path"]], index=rows.index, dtype=bool)
        if stays.all():
            return
        if stays.any():
            self._rows.write(rows[stays])
        else:
            self.delete()

    def delete(self) -> None:
        """Remove the file."""
        self._rows.delete()
