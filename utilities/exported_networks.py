"""Networks on the disk: built by Keras once, exported for OpenVINO, and kept by their fingerprints.

One directory a network under `LOOKALIKE_HOME/networks`: `network.xml` and `network.bin`, which OpenVINO reads, and
`about.json`, which says what it is, by which weights it may be found, and what was measured on it. Where vectors are
projected to fewer dimensions there is `projection.npz`, too, for runtimes that build the network themselves.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from utilities.backbones import (
    NAMED_WEIGHTS,
    backbone_named,
    build_network,
    check_weights,
    import_keras,
    weights_origin,
)
from utilities.errors import ExportFailed
from utilities.fingerprint import Fingerprint
from utilities.quiet import warnings_and_worse
from utilities.reduction import SHORTEST, Projection
from utilities.settings import Settings
from utilities.variants import PLAIN, Variant

logger = logging.getLogger(__name__)

_PROJECTION = "projection.npz"


@dataclass(frozen=True)
class ExportedNetwork:
    """One of them."""

    directory: Path

    @property
    def file(self) -> Path:
        """What OpenVINO reads."""
        return self.directory / "network.xml"

    def projection(self) -> Projection | None:
        """The projection that was folded into it; None if there is none."""
        file = self.directory / _PROJECTION
        return Projection.load(file) if file.exists() else None

    def about(self) -> dict[str, Any]:
        """`fingerprint`, `sources`, and what else was noted; empty if this is no network, or a damaged one."""
        try:
            about: dict[str, Any] = json.loads((self.directory / "about.json").read_text())
        except (OSError, ValueError):
            return {}
        return about

    def note(self, **facts: Any) -> None:
        """Add to what is known of the network; a reader sees the old or the new, never a part."""
        unfinished = self.directory / f".about-{os.getpid()}.json"
        unfinished.write_text(json.dumps({**self.about(), **facts}, indent=2) + "\n")
        unfinished.replace(self.directory / "about.json")

    def remove(self) -> None:
        """Remove it, to be exported again."""
        shutil.rmtree(self.directory)


def import_openvino() -> Any:
    """OpenVINO without its telemetry, which reports to its makers when it is imported and when it converts."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def find_by_fingerprint(fingerprint: Fingerprint, settings: Settings) -> ExportedNetwork | None:
    """The network of a fingerprint; None if it was not exported here."""
    network = ExportedNetwork(settings.networks / fingerprint.name)
    return network if network.directory.is_dir() else None


def projection_of(fingerprint: Fingerprint, settings: Settings) -> Projection | None:
    """What was folded into the network of a fingerprint; None if nothing was, or it is not here."""
    network = find_by_fingerprint(fingerprint, settings)
    return network.projection() if network else None


def find_by_weights(
    backbone: str, weights: str | os.PathLike[str], settings: Settings, variant: Variant = PLAIN
) -> tuple[ExportedNetwork, Fingerprint] | None:
    """The network of a backbone, the origin of its weights and a variant; None if it was not exported here.

    Raises:
        InvalidArgument: as `backbones.check_weights` does.
    """
    source = _source(backbone, weights, variant)
    for directory in sorted(settings.networks.glob("[!.]*")):
        about = ExportedNetwork(directory).about()
        if source in about.get("sources", []):
            fingerprint = Fingerprint(**{**about["fingerprint"], "weights": weights_origin(weights)})
            return ExportedNetwork(directory), fingerprint
    return None


def export(
    backbone: str, weights: str | os.PathLike[str], settings: Settings, variant: Variant = PLAIN
) -> tuple[ExportedNetwork, Fingerprint]:
    """Build a network by Keras, whichever backend it has, and write it.

    Raises:
        InvalidArgument, WeightsUnavailable, EmbedderMismatch: as `backbones.build_network` does.
        ExportFailed: it could not be written, or not exported by TensorFlow where Keras has another backend.
    """
    logger.info("Building %s and exporting it to %s; this happens once.", backbone, settings.networks)
    row = backbone_named(backbone)
    model, digest = build_network(backbone, weights, variant=variant)
    fingerprint = Fingerprint(
        backbone, digest, row.preprocessing, row.dimension, **asdict(variant), weights=weights_origin(weights)
    )
    return write(_convert(model), fingerprint, settings, sources=[_source(backbone, weights, variant)]), fingerprint


def fold(
    network: ExportedNetwork, fingerprint: Fingerprint, projection: Projection, settings: Settings
) -> tuple[ExportedNetwork, Fingerprint]:
    """Write a network whose vectors are projected to fewer dimensions; the one it is made from stays.

    Args:
        network: whose vectors are the projection's input.
        fingerprint: its own.
        projection: from `utilities.reduction`.
        settings: where networks lie.
    """
    openvino = import_openvino()
    ops = openvino.opset13
    model = openvino.Core().read_model(network.file)
    embedding = model.output(0).get_node().input_value(0)  # (n, dimension)
    centred = ops.subtract(embedding, ops.constant(projection.mean[None]))
    projected = ops.matmul(centred, ops.constant(projection.axes), transpose_a=False, transpose_b=True)  # (n, reduced)
    shorter = ops.normalize_l2(projected, ops.constant([1]), eps=SHORTEST**2, eps_mode="max")
    folded = openvino.Model([ops.result(shorter)], model.get_parameters(), model.get_friendly_name())
    fingerprint = projection.fingerprint(fingerprint)
    return write(folded, fingerprint, settings, sources=[], projection=projection), fingerprint


def write(
    model: Any,
    fingerprint: Fingerprint,
    settings: Settings,
    *,
    sources: list[str],
    projection: Projection | None = None,
    **facts: Any,
) -> ExportedNetwork:
    """Write an OpenVINO model; a process that dies on the way leaves nothing that could be taken for a network.

    Args:
        model: an `openvino.Model`.
        fingerprint: what it is.
        settings: where networks lie.
        sources: which weights it may be found by; none for a network that images had a part in.
        projection: what is folded into it.
        facts: what else is known of it.

    Raises:
        ExportFailed: it could not be written, as on a full disk.
    """
    settings.networks.mkdir(parents=True, exist_ok=True)
    finished = ExportedNetwork(settings.networks / fingerprint.name)
    with tempfile.TemporaryDirectory(dir=settings.networks, prefix=".unfinished-") as folder:
        unfinished = ExportedNetwork(Path(folder) / "network")
        unfinished.directory.mkdir()
        try:
            import_openvino().save_model(model, unfinished.file, compress_to_fp16=False)
        except RuntimeError as error:  # of C++, which does not say why
            free = shutil.disk_usage(settings.networks).free / 2**20
            raise ExportFailed(
                f"The network could not be written to {settings.networks}, where {free:,.0f} MiB are free: {error}."
            ) from error
        if projection:
            projection.save(unfinished.directory / _PROJECTION)
        unfinished.note(fingerprint=json.loads(fingerprint.to_json()), sources=sources, **facts)
        try:
            unfinished.directory.rename(finished.directory)
        except OSError:  # Another process, or another file with the same weights, came first.
            about = unfinished.about()
            known = {**about, **finished.about()}
            finished.note(**{**known, "sources": sorted({*sources, *known["sources"]})})
    return finished


#: Run by an interpreter of its own: TensorFlow is the backend that writes what OpenVINO reads.
_EXPORT_BY_TENSORFLOW = """
import sys
import keras
keras.saving.load_model(sys.argv[1], compile=False).export(sys.argv[2], format="tf_saved_model", verbose=False)
"""


def _convert(model: Any) -> Any:
    """A Keras model as an OpenVINO model."""
    with tempfile.TemporaryDirectory() as folder:
        saved_model = f"{folder}/saved_model"
        # Keras's own export to OpenVINO fails on Python 3.13; by way of a SavedModel it works on every version.
        if import_keras().backend.backend() == "tensorflow":
            with warnings_and_worse():  # TensorFlow says where it wrote, which is deleted in a moment.
                model.export(saved_model, format="tf_saved_model", verbose=False)
        else:
            model.save(f"{folder}/model.keras")
            result = subprocess.run(
                [sys.executable, "-c", _EXPORT_BY_TENSORFLOW, f"{folder}/model.keras", saved_model],
                env={**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"},
                check=False,
                capture_output=True,
                text=True,
            )
            if result.returncode:
                reason = (result.stderr.strip().splitlines() or [f"exit status {result.returncode}"])[-1]
                raise ExportFailed(f"TensorFlow could not export the network for OpenVINO: {reason}")
        return import_openvino().convert_model(saved_model)


def _source(backbone: str, weights: str | os.PathLike[str], variant: Variant) -> str:
    """Names backbone, preprocessing, variant and the origin of the weights, without building the network."""
    row = backbone_named(backbone)
    origin = os.fspath(weights)
    check_weights(backbone, origin)
    if origin not in NAMED_WEIGHTS:
        with Path(origin).open("rb") as file:
            digest = hashlib.blake2b(digest_size=16)
            while block := file.read(1 << 20):
                digest.update(block)
        origin = digest.hexdigest()
    return ", ".join(each for each in (backbone, row.preprocessing, str(variant), origin) if each)
