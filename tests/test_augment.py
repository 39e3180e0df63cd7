"""A copy of a collection whose vectors moved towards their neighbours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pymilvus import MilvusClient

from pipelines import augment, load
from tests.clusters import DIMENSION, FINGERPRINT, insert_clusters
from tests.conftest import MeanColour
from utilities.augmented_collections import copy_augmented
from utilities.errors import CollectionNotFound, InvalidArgument, Stopped
from utilities.id_map import IdMap
from utilities.milvus_utilities import (
    count_items,
    create_collection,
    delete_items,
    describe_collection,
    insert_embeddings,
    read_embeddings,
)
from utilities.reduced_collections import check_copy
from utilities.reranking import augmented
from utilities.retrieval_metrics import exact_neighbours_of_each
from utilities.settings import Settings
from utilities.videos import Sampling


@pytest.mark.parametrize("metric", ["COSINE", "L2", "IP"])
def test_every_vector_moves_towards_its_neighbours(
    client: MilvusClient, client_settings: Settings, metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("utilities.augmented_collections.NUMBERS_TOGETHER", 50 * 11 * DIMENSION)  # several blocks
    info, vectors, items = insert_clusters(client, metric=metric)
    assert copy_augmented(client, info, "moved", 10, client_settings, progress=False) == len(items)
    copy = describe_collection(client, "moved")
    assert (copy.augmented, copy.fingerprint, copy.metric, copy.root) == (10, FINGERPRINT, metric, info.root)
    found = read_embeddings(client, copy, np.array([item.id for item in items]))
    expected = augmented(vectors, vectors[exact_neighbours_of_each(vectors, 10)])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert len(IdMap(client_settings.id_map_path("moved")).read()) == len(items)


def test_a_copy_is_brought_up_to_date(lite: MilvusClient, settings: Settings) -> None:
    info, vectors, items = insert_clusters(lite)
    copy_augmented(lite, info, "moved", 5, settings, progress=False)
    delete_items(lite, info.name, [item.id for item in items[:100]])
    assert copy_augmented(lite, info, "moved", 5, settings, progress=False) == len(items) - 100
    copy = describe_collection(lite, "moved")
    found = read_embeddings(lite, copy, np.array([item.id for item in items[100:]]))
    left = vectors[100:]
    np.testing.assert_allclose(found, augmented(left, left[exact_neighbours_of_each(left, 5)]), atol=1e-5)


def test_a_copy_follows_its_tree(lite: MilvusClient, settings: Settings, colour_tree: Path, tmp_path: Path) -> None:
    load.run(colour_tree, embedder=MeanColour(), settings=settings, progress=False)
    augment.run("colours", into="moved", neighbours=2, settings=settings, progress=False)
    there = colour_tree.rename(tmp_path / "there")
    with pytest.raises(InvalidArgument, match="load into 'colours'"):
        load.run(there, collection="moved", moved=True, embedder=MeanColour(), settings=settings, progress=False)
    assert describe_collection(lite, "moved").root == colour_tree.resolve()
    load.run(there, collection="colours", moved=True, embedder=MeanColour(), settings=settings, progress=False)
    assert augment.run("colours", into="moved", neighbours=2, settings=settings, progress=False) == 15
    assert describe_collection(lite, "moved").root == there.resolve()


def test_a_copy_that_was_stopped_begins_again(
    lite: MilvusClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    info, _, items = insert_clusters(lite)

    def interrupted(*_: object) -> None:
        raise Stopped("Stopped.", 2)

    with monkeypatch.context() as patch:
        patch.setattr("utilities.copied_collections.insert_items", interrupted)
        with pytest.raises(Stopped, match=r"^Stopped with 0 of 240 .*; the same command begins again"):
            copy_augmented(lite, info, "moved", 5, settings, progress=False)
    assert copy_augmented(lite, info, "moved", 5, settings, progress=False) == len(items)


def test_fewer_items_than_neighbours(lite: MilvusClient, settings: Settings) -> None:
    info, vectors, items = insert_clusters(lite)
    delete_items(lite, info.name, [item.id for item in items[2:]])
    assert copy_augmented(lite, info, "moved", 10, settings, progress=False) == 2
    found = read_embeddings(lite, describe_collection(lite, "moved"), np.array([items[0].id]))
    expected = vectors[0] + vectors[1] * 10 / 11
    np.testing.assert_allclose(found[0], expected / np.linalg.norm(expected), atol=1e-5)


def test_nothing_is_inserted_among_vectors_that_moved(
    lite: MilvusClient, settings: Settings, colour_tree: Path
) -> None:
    load.run(colour_tree, embedder=MeanColour(), settings=settings, progress=False)
    assert augment.run("colours", into="moved", neighbours=2, settings=settings, progress=False) == 15
    with pytest.raises(InvalidArgument, match=r"moved towards their neighbours.*augment.*--into moved` again"):
        load.run(colour_tree, collection="moved", embedder=MeanColour(), settings=settings, progress=False)
    with pytest.raises(InvalidArgument, match="moved towards their neighbours"):
        insert_embeddings(lite, "moved", np.eye(3)[:1], [str(colour_tree / "x.png")], settings=settings)
    assert count_items(lite, "moved") == 15


def test_what_cannot_be_augmented_is_refused(lite: MilvusClient, settings: Settings) -> None:
    info, _, _ = insert_clusters(lite)
    copy_augmented(lite, info, "moved", 5, settings, progress=False)
    films = create_collection(
        lite, "films", dimension=DIMENSION, fingerprint=FINGERPRINT, root="/films", sampling=Sampling()
    )
    for source, name, neighbours, said in (
        (info, "2nd", 5, "no name for a collection"),
        (info, "other", 0, "1 to 100 neighbours, not 0"),
        (info, "clusters", 5, "as they were embedded; choose another name"),
        (info, "moved", 6, "moved towards 5 neighbours; choose another name"),
        (describe_collection(lite, "moved"), "twice", 5, "were moved already"),
        (films, "other", 5, "holds videos"),
    ):
        with pytest.raises(InvalidArgument, match=said):
            copy_augmented(lite, source, name, neighbours, settings, progress=False)
    long = replace(FINGERPRINT, keep_length=True)
    lengths = create_collection(lite, "lengths", dimension=DIMENSION, fingerprint=long, root="/photos")
    with pytest.raises(InvalidArgument, match="keep their length"):
        copy_augmented(lite, lengths, "other", 5, settings, progress=False)
    with pytest.raises(InvalidArgument, match="reduce 'clusters', and augment the copy"):
        check_copy(lite, describe_collection(lite, "moved"), "less", 8, settings, whiten=False)
    with pytest.raises(CollectionNotFound, match="no collection 'nothing'"):
        augment.run("nothing", into="other", settings=settings)


def test_moved_and_unmoved_vectors_never_meet(lite: MilvusClient, settings: Settings) -> None:
    info, _, _ = insert_clusters(lite)
    other, _, _ = insert_clusters(lite, "other")
    copy_augmented(lite, info, "moved", 5, settings, progress=False)
    with pytest.raises(InvalidArgument, match="of 'clusters' moved towards 5 neighbours; choose another name"):
        copy_augmented(lite, other, "moved", 5, settings, progress=False)
    moved = describe_collection(lite, "moved")
    for one, another in ((info, moved), (moved, info)):
        with pytest.raises(InvalidArgument, match="moved towards"):
            one.refuse_unless_same(replace(another, name=one.name))
