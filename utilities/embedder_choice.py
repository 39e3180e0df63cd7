"""Which embedder a load uses: the one the collection already has, or the one that is asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from utilities.backbones import (
    BACKBONES,
    DEFAULT_BACKBONE,
    DEFAULT_FACE_BACKBONE,
    backbone_and_weights,
    backbone_named,
    backbone_of,
    sees_faces,
)
from utilities.collection_info import CollectionInfo, unstated_fingerprint
from utilities.embedder import Embedder, embedder_of, load_embedder, reduce_embedder
from utilities.ensembles import as_one
from utilities.errors import EmbedderMismatch, InvalidArgument
from utilities.exported_networks import projection_of
from utilities.faces import check_detector
from utilities.fingerprint import Fingerprint
from utilities.item_streams import embed_sample, sample_pixels
from utilities.quantization import SAMPLE, import_nncf, quantize
from utilities.reduction import FIT_SAMPLE, PrincipalComponents, Projection
from utilities.sampling import draw_sample
from utilities.settings import Settings
from utilities.variants import PLAIN, Variant
from utilities.videos import Sampling

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """What was asked for; None and `"auto"` were not."""

    #: `"images"`, `"faces"` for the faces in them, or `"videos"`.
    what: str | None
    backbone: str | None
    weights: str | None
    runtime: str
    precision: str
    #: Dimensions that the vectors are projected to, and whether they are whitened then.
    pca: int | None = None
    whiten: bool = False
    #: Of videos, the faces in their frames.
    faces: bool = False
    pooling: str | None = None
    views: str | None = None
    #: Whether vectors are to keep their length; if not, nothing was said of it.
    keep_length: bool = False

    @property
    def sees(self) -> str | None:
        """What the network is to see: `"images"` or `"faces"`; None if nothing was said of it."""
        if self.what == "videos":
            return "faces" if self.faces else "images"
        return self.what

    def variant(self, known: Variant = PLAIN) -> Variant:
        """What was asked for, and where nothing was, what is known.

        Raises:
            InvalidArgument: what there is not.
        """
        return Variant(
            known.pooling if self.pooling is None else self.pooling,
            known.views if self.views is None else self.views,
            self.keep_length or known.keep_length,
        )


def networks_wanted(wanted: Wanted, backbones: Sequence[str]) -> list[Wanted]:
    """What was asked for of each network.

    Args:
        wanted: what was asked for of all of them; its `backbone` is passed over.
        backbones: each `NAME`, or `NAME=WEIGHTS` where the weights are that network's own; empty if nothing was said.

    Raises:
        InvalidArgument: no such network, one twice, several that are to see faces or videos, or weights of none.
    """
    networks = [backbone_and_weights(each) for each in backbones]
    names = [name for name, _ in networks]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise InvalidArgument(f"--backbone {twice} is given twice; each network has one field of vectors.")
    if len(names) > 1 and (wanted.what in ("faces", "videos") or any(map(sees_faces, names))):
        raise InvalidArgument("Several networks are for images; of faces and videos give one --backbone.")
    if not names:
        return [wanted]
    if wanted.weights and all(weights for _, weights in networks):
        raise InvalidArgument(f"Each --backbone names its own weights; --weights {wanted.weights} would be of none.")
    return [replace(wanted, backbone=name, weights=weights or wanted.weights) for name, weights in networks]


def refuse_other_networks(existing: CollectionInfo, wanted: Sequence[Wanted]) -> list[Wanted]:
    """Refuse, before a network is built, what the collection's vectors were not made by.

    Returns:
        What was asked for of each of the collection's networks, in their order.

    Raises:
        EmbedderMismatch: other networks, or as `refuse_another_embedder` does.
    """
    known = [each.backbone for each in existing.fingerprints]
    if len(wanted) == 1 and (wanted[0].backbone is None or len(known) == 1):
        by_name = dict.fromkeys(known, wanted[0])
    else:
        by_name = {each.backbone or "": each for each in wanted}
    if {*by_name} != {*known}:
        raise EmbedderMismatch(
            f"The collection {existing.name!r} holds vectors of {' and '.join(known)}, not of {' and '.join(by_name)}; "
            "load into another --collection, or leave out --backbone."
        )
    for name in known:
        refuse_another_embedder(existing.using([name]), by_name[name])
    return [by_name[name] for name in known]


def refuse_another_embedder(existing: CollectionInfo, wanted: Wanted) -> None:
    """Refuse, before a network is built, what the collection's vectors were not made by.

    Raises:
        EmbedderMismatch: another backbone, another variant, or int8 where the collection has none; or faces where it
            holds images.
    """
    known = existing.fingerprint
    if wanted.what not in (None, existing.what):
        raise EmbedderMismatch(
            f"The collection {existing.name!r} holds {existing.what}, not {wanted.what}; load into another "
            "--collection, or leave out --what."
        )
    if wanted.faces and not existing.of_faces:
        raise EmbedderMismatch(
            f"The collection {existing.name!r} holds frames of videos, not the faces in them; load into another "
            "--collection, or leave out --faces."
        )
    if wanted.backbone:  # which says nothing of weights and of what was done to them
        unstated = replace(unstated_fingerprint(wanted.backbone), **asdict(known.variant))
        asked = replace(unstated, pca_digest=known.pca_digest, quantization_digest=known.quantization_digest)
        if known.pca_digest:
            asked = replace(asked, dimension=known.dimension)
        existing.refuse_unless_same(replace(existing, fingerprint=asked))
    if wanted.variant(known.variant) != known.variant:
        raise EmbedderMismatch(
            f"The collection {existing.name!r} holds vectors of {known}, which a later load cannot change; load into "
            "another --collection, or leave out --pooling, --views and --keep-length."
        )
    if wanted.precision == "int8" and not known.quantization_digest:
        raise EmbedderMismatch(
            f"The collection {existing.name!r} holds vectors of {known}, not of a network in int8; load "
            "into another --collection, or leave out --precision."
        )
    if wanted.pca and not (known.pca_digest and known.dimension == wanted.pca):
        raise EmbedderMismatch(
            f"The collection {existing.name!r} holds vectors of {known}, not of {wanted.pca:,} dimensions by PCA; load "
            "into another --collection, or leave out --pca."
        )


def embedder_of_load(
    existing: CollectionInfo | None,
    wanted: Sequence[Wanted],
    directory: Path,
    paths: Sequence[str],
    settings: Settings,
    sampling: Sampling | None = None,
    *,
    progress: bool = True,
) -> Embedder:
    """What a load embeds by: of several networks an ensemble.

    Args:
        existing: the collection; None if there is none yet.
        wanted: of each network, as `refuse_other_networks` or `networks_wanted` returned it.
        directory: the tree, of which a sample is looked at where a network is fitted to it.
        paths: of its files.
        settings: limits and places.
        sampling: of videos, which of their frames are taken.
        progress: whether to draw progress bars on standard error.

    Raises:
        LookalikeError: as for `embedder_as_before` and `new_embedder`.
    """
    if existing:
        known = zip(existing.fingerprints, wanted, strict=True)
        members = [embedder_as_before(fingerprint, each, settings) for fingerprint, each in known]
    else:
        new = partial(new_embedder, directory, paths, settings=settings, sampling=sampling, progress=progress)
        members = [new(wanted=each) for each in wanted]
    return as_one(members)


def embedder_as_before(known: Fingerprint, wanted: Wanted, settings: Settings) -> Embedder:
    """A collection's own embedder, or the one of the weights that are asked for, which may be another.

    Raises:
        EmbedderMismatch: whitened vectors were asked for, and the collection's are not.
        WeightsUnavailable: the weights cannot be had.
    """
    if wanted.whiten and (projection := projection_of(known, settings)) and not projection.whitened:
        raise EmbedderMismatch(f"The vectors of {known} are not whitened; load into another --collection.")
    own = partial(embedder_of, known, settings, runtime=wanted.runtime, precision=wanted.precision)
    if wanted.weights is None:
        return own()
    load = partial(load_embedder, wanted.backbone or known.backbone, wanted.weights, settings, variant=known.variant)
    if not known.depends_on_images:
        return load(runtime=wanted.runtime, precision=wanted.precision)
    exact = load(runtime="openvino", precision="f32")
    made_of = replace(known, quantization_digest="", pca_digest="", dimension=exact.fingerprint.dimension)
    return own() if exact.fingerprint == made_of else exact


def new_embedder(
    directory: Path,
    paths: Sequence[str],
    wanted: Wanted,
    settings: Settings,
    sampling: Sampling | None = None,
    *,
    progress: bool = True,
) -> Embedder:
    """The embedder that is asked for; int8 is calibrated, and PCA fitted, on a sample of a tree: of its images, or,
    with `sampling`, of its videos.

    Raises:
        InvalidArgument: int8 by a runtime that has none, more dimensions than the sample has, a backbone that does not
            see what is wanted, or the length of vectors kept where unit vectors are needed.
        MissingPackage: int8, or faces, need one that is not installed.
        WeightsUnavailable: the weights cannot be had.
    """
    default = DEFAULT_FACE_BACKBONE if wanted.sees == "faces" else DEFAULT_BACKBONE
    backbone = wanted.backbone or backbone_of(wanted.weights, default)
    row = backbone_named(backbone)
    sees = "faces" if row.weights == "faces" else "images"
    if wanted.sees not in (None, sees):
        fit = [name for name in BACKBONES if sees_faces(name) == (wanted.sees == "faces")]
        raise InvalidArgument(
            f"--backbone {backbone} embeds {sees}, not {wanted.sees}; choose one of {', '.join(fit)}."
        )
    if wanted.keep_length and (wanted.pca or sampling):
        why = "--pca is fitted to unit vectors" if wanted.pca else "frames of videos are told apart by unit vectors"
        raise InvalidArgument(f"--keep-length: {why}; leave it out.")
    if sees == "faces":
        check_detector()
    weights, most = wanted.weights or row.weights, row.dimension
    if wanted.pca and not 1 <= wanted.pca <= most:
        raise InvalidArgument(f"--pca {wanted.pca:,} is no number from 1 to {most:,}, the dimensions of {backbone}.")
    if wanted.pca and not sampling and len(paths) <= wanted.pca:
        raise _too_few(wanted.pca, len(paths), "images")
    load = partial(load_embedder, backbone, weights, settings, variant=wanted.variant())
    if wanted.precision == "int8":
        embedder = _quantized(directory, paths, load, wanted.runtime, settings, sampling)
    else:
        embedder = load(runtime=wanted.runtime, precision=wanted.precision)
    if not wanted.pca:
        return embedder
    projection = _fitted(directory, paths, embedder, wanted, settings, sampling, progress)
    return reduce_embedder(embedder, projection, settings, runtime=wanted.runtime, precision=wanted.precision)


def _quantized(
    directory: Path,
    paths: Sequence[str],
    load: Callable[..., Embedder],
    runtime: str,
    settings: Settings,
    sampling: Sampling | None,
) -> Embedder:
    if runtime == "keras":
        raise InvalidArgument("The runtime keras does not compute in int8; leave out --runtime.")
    import_nncf()  # which may be missing: better now than after a minute
    exact = load(runtime="openvino", precision="f32")
    pixels = sample_pixels(directory, paths, 2 * SAMPLE, exact, settings, sampling)
    embedder, quality = quantize(exact, pixels, settings)
    logger.info("Quantised %s: %s.", exact.fingerprint.backbone, quality)
    return embedder


def _fitted(
    directory: Path,
    paths: Sequence[str],
    embedder: Embedder,
    wanted: Wanted,
    settings: Settings,
    sampling: Sampling | None,
    progress: bool,
) -> Projection:
    dimension = wanted.pca
    assert dimension is not None
    chosen = [paths[row] for row in draw_sample(len(paths), FIT_SAMPLE)]
    if sampling:
        sampling = sampling.throughout(-(-FIT_SAMPLE // len(chosen)))
    logger.info(
        "Embedding %s to fit PCA to them.",
        f"{len(chosen):,} {'video' if sampling else 'image'}{'' if len(chosen) == 1 else 's'}",
    )
    _, embeddings = embed_sample(directory, chosen, embedder, settings, sampling, name="sample", progress=progress)
    if len(embeddings) <= dimension:
        raise _too_few(dimension, len(embeddings), "different frames" if sampling else "images")
    components = PrincipalComponents.of(embeddings)
    projection = components.projection(dimension, whiten=wanted.whiten)
    kept = components.variances[:dimension].sum() / components.variances.sum()
    logger.info("%s of %s dimensions keep %.1f %% of the variance.", dimension, embeddings.shape[1], 100 * kept)
    return projection


def _too_few(dimension: int, there: int, what: str) -> InvalidArgument:
    return InvalidArgument(
        f"--pca {dimension:,} has to be fitted to more than {dimension:,} {what} that can be read, and here are "
        f"{there:,}."
    )
