"""Files of weights that were fine-tuned here: a Keras archive of the whole network, and in it what it is."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

#: The member of the archive; Keras passes over what it does not know.
_MEMBER = "lookalike.json"


@dataclass(frozen=True)
class TunedWeights:
    """What such a file says of itself."""

    #: A key of `utilities.backbones.BACKBONES`.
    backbone: str
    #: As `Backbone.preprocessing` was when it was trained.
    preprocessing: str
    #: Length of a vector.
    dimension: int
    #: What it was trained to.
    objective: str

    @classmethod
    def of(cls, file: str | os.PathLike[str]) -> TunedWeights | None:
        """What a file says; None if it is none that was fine-tuned here."""
        try:
            with zipfile.ZipFile(file) as archive:
                return cls(**json.loads(archive.read(_MEMBER)))
        except (OSError, zipfile.BadZipFile, KeyError, TypeError, ValueError):
            return None

    def save(self, network: keras.Model, file: Path) -> None:
        """Write a network with what it is; whoever reads meanwhile sees the file as it was before, or all of it.

        Args:
            network: uint8 pixels in, unit vectors out.
            file: ends in `.keras`; its directory is made.

        Raises:
            OSError: it cannot be written.
        """
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_name(f".{os.getpid()}-{file.name}")
        try:
            network.save(unfinished)
            with zipfile.ZipFile(unfinished, "a") as archive:
                archive.writestr(_MEMBER, json.dumps(asdict(self), indent=2) + "\n")
            unfinished.replace(file)
        finally:
            unfinished.unlink(missing_ok=True)
