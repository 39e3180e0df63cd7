"""Several networks as one embedder."""

from __future__ import annotations

from collections.abc import Sequence

from utilities.embedder import Embedder, embedder_of
from utilities.fingerprint import Fingerprint
from utilities.settings import Settings


def embedder_of_all(fingerprints: Sequence[Fingerprint], settings: Settings) -> Embedder:
    """The embedder that a collection was loaded with: a network, or an ensemble of several."""
    (fingerprint,) = fingerprints
    return embedder_of(fingerprint, settings)


def fingerprints_of(embedder: Embedder) -> tuple[Fingerprint, ...]:
    """Of each network of an embedder."""
    return (embedder.fingerprint,)
