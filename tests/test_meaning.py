"""Real images and real weights: neighbours share the query's label as often as the reference figures say.

Needs the environment variable LOOKALIKE_TEST_DATA; see `test_data` in conftest.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from pipelines import evaluate, load, people
from utilities.milvus_utilities import connect, count_items, describe_collection, nearest_neighbours, stored_items
from utilities.settings import Settings

WEIGHTS = "weights/mobilenetv2_imagenet_notop.weights.h5"


def load_caltech(test_data: Path, settings: Settings) -> load.LoadSummary:
    return load.run(
        test_data / "data/caltech101",
        backbone="mobilenetv2",
        weights=str(test_data / WEIGHTS),
        settings=settings,
        progress=False,
    )


@pytest.fixture(scope="module")
def caltech(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a home with Caltech 101 loaded by MobileNetV2 with its ImageNet weights."""
    settings = Settings(home=tmp_path_factory.mktemp("caltech"))
    summary = load_caltech(test_data, settings)
    assert (summary.found, summary.inserted, summary.failed, summary.items) == (3969, 3969, 0, 3969)
    return settings


def vectors(settings: Settings) -> tuple[NDArray[np.int64], NDArray[np.str_], NDArray[np.float32]]:
    client = connect(settings=settings)
    field = describe_collection(client, "caltech101").vector_fields[0]
    rows = [row for page in stored_items(client, "caltech101", fields=["id", "label", field]) for row in page]
    return (
        np.array([row["id"] for row in rows]),
        np.array([row["label"] for row in rows]),
        np.array([row[field] for row in rows], np.float32),
    )


def test_leave_one_out_precision_at_20(caltech: Settings) -> None:
    ids, labels, embeddings = vectors(caltech)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    client = connect(settings=caltech)
    precisions = []
    for start in range(0, len(ids), 500):
        found = nearest_neighbours(client, "caltech101", embeddings[start : start + 500], top_k=21)
        for own, label, rows in zip(ids[start:], labels[start:], found, strict=False):
            others = [row["label"] for row in rows if row["id"] != own][:20]
            precisions.append(np.mean([other == label for other in others]))
    assert len(precisions) == 3969
    # The reference, exact search over embeddings of the same weights, is 0.7195.
    assert np.mean(precisions) == pytest.approx(0.7195, abs=0.0045)


def test_the_id_map_and_milvus_agree(caltech: Settings, test_data: Path) -> None:
    with caltech.id_map_path("caltech101").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == count_items(connect(settings=caltech), "caltech101") == 3969
    assert {int(row["id"]) for row in rows} == set(vectors(caltech)[0])
    assert all((test_data / "data/caltech101" / row["path"]).is_file() for row in rows)


def test_a_server_gives_the_same_top_20(caltech: Settings, test_data: Path, milvus_server: str) -> None:
    on_server = replace(caltech, milvus_uri=milvus_server)
    summary = load_caltech(test_data, on_server)
    assert summary.items == 3969
    _, _, embeddings = vectors(caltech)
    queries = embeddings[np.random.default_rng(0).choice(len(embeddings), 100, replace=False)]
    ids = [
        [{row["id"] for row in rows} for rows in nearest_neighbours(connect(settings=each), "caltech101", queries)]
        for each in (caltech, on_server)
    ]
    shared = [len(lite & server) for lite, server in zip(*ids, strict=True)]
    assert np.mean(shared) >= 19
    client = connect(settings=on_server)
    client.drop_collection("caltech101")
    client.close()


@pytest.fixture(scope="module")
def everybody(lfw: Path, face_networks: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a home with the faces of LFW, found and embedded by dlib's networks."""
    settings = Settings(home=tmp_path_factory.mktemp("lfw"))
    settings.networks.symlink_to(face_networks)
    summary = load.run(lfw, what="faces", settings=settings, progress=False)
    assert summary.found == summary.inserted + summary.without_faces == 1240
    assert summary.without_faces <= 10
    return settings


def test_a_person_is_found_by_another_picture(everybody: Settings, tmp_path: Path) -> None:
    """Measured beforehand with dlib alone: precision@19 0.967, nearest neighbour 0.998, mAP 0.988."""
    evaluation = evaluate.run("lfw", top_k=19, exact=True, out=tmp_path, settings=everybody, progress=False)
    assert evaluation.figures["precision@19"].mean >= 0.96
    assert evaluation.figures["precision@1"].mean >= 0.995
    assert evaluation.figures["map"].mean >= 0.985
    assert evaluation.verification is not None
    assert evaluation.verification.equal_error_rate < 0.015
    assert evaluation.verification.true_match_rate > 0.9


def test_people_are_put_together_right(everybody: Settings, lfw: Path, tmp_path: Path) -> None:
    folders = [(path.relative_to(lfw).as_posix(), path.parent.name) for path in sorted(lfw.glob("*/*.jpg"))]
    who = tmp_path / "who.csv"
    pd.DataFrame(folders, columns=["path", "label"]).to_csv(who, index=False)
    found = people.run("lfw", labels=who, out=tmp_path / "people", settings=everybody, progress=False)
    assert found.precision is not None
    assert found.precision >= 0.99
    assert found.recall is not None
    assert found.recall >= 0.95
    assert 60 <= len(found.people) <= 75
