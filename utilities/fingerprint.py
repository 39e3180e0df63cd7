"""What makes two embedders the same: their vectors may meet only if their fingerprints are equal."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Fingerprint:
    """Identity of an embedder. Equal fingerprints mean comparable vectors."""

    #: Name in `utilities.backbones.BACKBONES`.
    backbone: str
    #: Hexadecimal BLAKE2b of the backbone's weight arrays, whatever file they came from; empty where not stated.
    weights_digest: str
    #: How a decoded image becomes the network's input.
    preprocessing: str
    #: Length of a vector.
    dimension: int
    #: Hexadecimal BLAKE2b of the projection; empty without one.
    pca_digest: str = ""

    @property
    def name(self) -> str:
        """A file name that is different for different fingerprints, such as `resnet50-2048-0a1b2c3d4e5f6071`."""
        digest = hashlib.blake2b(self.to_json().encode(), digest_size=8).hexdigest()
        return f"{self.backbone}-{self.dimension}-{digest}"

    def matches(self, other: Fingerprint) -> bool:
        """Whether vectors may meet. A collection that was created without its embedder knows no digest of weights."""
        mine, theirs = asdict(self), asdict(other)
        if not (self.weights_digest and other.weights_digest):
            mine["weights_digest"] = theirs["weights_digest"] = ""
        return mine == theirs

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Fingerprint:
        return cls(**json.loads(text))

    def __str__(self) -> str:
        weights = f", weights {self.weights_digest[:8]}" if self.weights_digest else ""
        reduced = f", PCA {self.pca_digest[:8]}" if self.pca_digest else ""
        return f"{self.backbone}, {self.dimension} dimensions{weights}{reduced}"
