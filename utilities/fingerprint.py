"""What makes two embedders the same: their vectors may meet only if their fingerprints are equal."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields, replace

from utilities.variants import PLAIN, Variant


@dataclass(frozen=True)
class Fingerprint:
    """Identity of an embedder. Equal fingerprints mean comparable vectors."""

    #: Name in `utilities.backbones.BACKBONES`.
    backbone: str
    #: Hexadecimal BLAKE2b of the backbone's weight arrays, whatever file they came from; empty where not stated.
    weights_digest: str
    #: How a decoded image becomes the network's input, if `views` does not say otherwise.
    preprocessing: str
    #: Length of a vector.
    dimension: int
    #: Hexadecimal BLAKE2b of the projection; empty without one.
    pca_digest: str = ""
    #: Hexadecimal BLAKE2b of the network quantised to int8, which depends on the images that calibrated it; empty if it
    #: computes in floating point. Rounding to bfloat16 is no part of the identity: those vectors may meet.
    quantization_digest: str = ""
    #: As `Variant` has them.
    pooling: str = PLAIN.pooling
    views: str = PLAIN.views
    keep_length: bool = PLAIN.keep_length
    #: Where the weights came from, `imagenet`, `random` or a file, for whoever has to fetch them again. No part of the
    #: identity: the same weights may lie in two files.
    weights: str = field(default="imagenet", compare=False)

    @property
    def name(self) -> str:
        """A file name that is different for different fingerprints, such as `resnet50-2048-0a1b2c3d4e5f6071`."""
        # Fields at their defaults are left out, so that a field that is added one day does not rename every network.
        identity = {each.name: (getattr(self, each.name), each.default) for each in fields(self) if each.compare}
        stated = {name: value for name, (value, default) in identity.items() if value not in ("", default)}
        digest = hashlib.blake2b(json.dumps(stated, sort_keys=True).encode(), digest_size=8).hexdigest()
        return f"{self.backbone}-{self.dimension}-{digest}"

    @property
    def variant(self) -> Variant:
        """What was chosen of the network, beside its weights."""
        return Variant(self.pooling, self.views, self.keep_length)

    @property
    def depends_on_images(self) -> bool:
        """Whether images had a part in the network, so that its weights are not enough to make it again."""
        return bool(self.pca_digest or self.quantization_digest)

    def matches(self, other: Fingerprint) -> bool:
        """Whether vectors may meet. A collection that was created without its embedder knows no digest of weights."""
        if self.weights_digest and other.weights_digest:
            return self == other
        return replace(self, weights_digest="") == replace(other, weights_digest="")

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Fingerprint:
        return cls(**json.loads(text))

    def __str__(self) -> str:
        weights = f", weights {self.weights_digest[:8]}" if self.weights_digest else ""
        reduced = f", PCA {self.pca_digest[:8]}" if self.pca_digest else ""
        quantized = f", int8 {self.quantization_digest[:8]}" if self.quantization_digest else ""
        variant = f", {self.variant}" if self.variant != PLAIN else ""
        return f"{self.backbone}, {self.dimension} dimensions{weights}{variant}{reduced}{quantized}"
