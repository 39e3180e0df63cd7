"""Which embedder a load uses: the one the collection already has, or the one that is asked for."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from utilities.backbones import DEFAULT_BACKBONE
from utilities.collection_info import CollectionInfo, unstated_fingerprint
from utilities.embedder import Embedder, embedder_of, load_embedder
from utilities.errors import EmbedderMismatch, InvalidArgument
from utilities.fingerprint import Fingerprint
from utilities.image_to_vec import sample_pixels
from utilities.quantization import SAMPLE, import_nncf, quantize
from utilities.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """What was asked for; None and `"auto"` were not."""

    backbone: str | None
    weights: str | None
    runtime: str
    precision: str


def refuse_another_embedder(existing: CollectionInfo, wanted: Wanted) -> None:
    """Refuse, before a network is built, what the collection's vectors were not made by.

    Raises:
        EmbedderMismatch: another backbone, or int8 where the collection has none.
    """
    known = existing.fingerprint
    if wanted.backbone:  # which says nothing of weights and of what was done to them
        unstated = unstated_fingerprint(wanted.backbone)
        asked = replace(unstated, pca_digest=known.pca_digest, quantization_digest=known.quantization_digest)
        existing.refuse_unless_same(replace(existing, fingerprint=asked))
    if wanted.precision == "int8" and not known.quantization_digest:
        raise EmbedderMismatch(
            f"The collection {existing.name!r} holds vectors of {known}, not of a network in int8; load "
            "into another --collection, or leave out --precision."
        )


def embedder_as_before(known: Fingerprint, wanted: Wanted, settings: Settings) -> Embedder:
    """A collection's own embedder, or the one of the weights that are asked for, which may be another.

    Raises:
        WeightsUnavailable: the weights cannot be had.
    """
    own = partial(embedder_of, known, settings, runtime=wanted.runtime, precision=wanted.precision)
    if wanted.weights is None:
        return own()
    load = partial(load_embedder, wanted.backbone or known.backbone, wanted.weights, settings)
    if not known.quantization_digest:
        return load(runtime=wanted.runtime, precision=wanted.precision)
    exact = load(runtime="openvino", precision="f32")
    return own() if exact.fingerprint == replace(known, quantization_digest="") else exact


def new_embedder(directory: Path, paths: Sequence[str], wanted: Wanted, settings: Settings) -> Embedder:
    """The embedder that is asked for; int8 is calibrated on a sample of a tree.

    Raises:
        InvalidArgument: int8 by a runtime that has none.
        MissingPackage: int8 needs one that is not installed.
        WeightsUnavailable: the weights cannot be had.
    """
    backbone, weights = wanted.backbone or DEFAULT_BACKBONE, wanted.weights or "imagenet"
    if wanted.precision != "int8":
        return load_embedder(backbone, weights, settings, runtime=wanted.runtime, precision=wanted.precision)
    if wanted.runtime == "keras":
        raise InvalidArgument("The runtime keras does not compute in int8; leave out --runtime.")
    import_nncf()  # which may be missing: better now than after a minute
    exact = load_embedder(backbone, weights, settings, runtime="openvino", precision="f32")
    pixels = sample_pixels(directory, paths, 2 * SAMPLE, exact, settings)
    embedder, quality = quantize(exact, pixels, settings)
    logger.info("Quantised %s: %s.", backbone, quality)
    return embedder
