"""Evaluation: what a collection of colours, whose neighbours a person can name, is worth."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pymilvus import MilvusClient

from pipelines import evaluate, load
from tests.conftest import MeanColour
from utilities.errors import InvalidArgument
from utilities.evaluation import Rankings, choose_queries, confusions, leave_one_out, score, worst_labels
from utilities.labels import Labels
from utilities.milvus_utilities import describe_collection, read_embeddings, read_items
from utilities.retrieval_metrics import exact_neighbours_of_each
from utilities.settings import Settings

#: Items 0 to 2 are cups, 3 and 4 pans, 5 a pot; 6 has no label.
LABELS = Labels.of(["cup", "cup", "cup", "pan", "pan", "pot", None])


def test_queries_are_those_that_have_something_to_find() -> None:
    assert choose_queries(LABELS).tolist() == [0, 1, 2, 3, 4]
    assert choose_queries(LABELS, 9).tolist() == [0, 1, 2, 3, 4]
    some = choose_queries(LABELS, 3)
    assert len(set(some.tolist())) == 3
    assert set(some.tolist()) <= {0, 1, 2, 3, 4}
    np.testing.assert_array_equal(some, choose_queries(LABELS, 3))


def test_one_label_for_all_says_nothing() -> None:
    assert choose_queries(Labels.of(["cup", "cup", None])).tolist() == []


def test_score_counts_what_has_the_querys_label() -> None:
    places = 20
    neighbours = np.full((2, places), -1)
    neighbours[0, :5] = [3, 1, 6, 2, 5]  # A cup finds a pan, a cup, no label, a cup, a pot.
    neighbours[1, :2] = [4, 0]  # A pan finds a pan and a cup.
    values = score(Rankings(np.array([0, 3]), neighbours), LABELS)
    expected: dict[str, list[float]] = {
        "precision@1": [0, 1],
        "precision@5": [2 / 5, 1 / 5],
        "precision@20": [2 / 20, 1 / 20],
        "recall@1": [0, 1],
        "recall@5": [1, 1],
        "map@20": [(1 / 2 + 2 / 4) / 2, 1],
        "accuracy@1": [0, 1],
        "accuracy@5": [1, 1],  # Of a pan and a cup the pan is nearer.
    }
    for name, each in expected.items():
        np.testing.assert_allclose(values[name], each, err_msg=name)
    assert len(values) == 13


def test_what_went_worst_is_said() -> None:
    rankings = Rankings(np.array([0, 1, 3]), np.array([[3, 4], [3, 2], [4, 5]]))
    worst = worst_labels(np.array([0, 0.5, 0.5]), rankings.queries, LABELS)
    assert worst.to_dict("records") == [
        {"label": "cup", "queries": 2, "mean": 0.25},
        {"label": "pan", "queries": 1, "mean": 0.5},
    ]
    assert confusions(rankings, LABELS).to_dict("records") == [
        {"label": "cup", "found": "pan", "share": 0.75},
        {"label": "pan", "found": "pot", "share": 0.5},
    ]


def test_milvus_is_searched_with_the_items_own_vectors(
    client: MilvusClient,
    client_settings: Settings,
    embedder: MeanColour,
    colour_tree: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("utilities.milvus_reading.MESSAGE_BYTES", 4 * 3 * 4)  # Pages of four rows.
    load.run(colour_tree, collection="colours", embedder=embedder, settings=client_settings, progress=False)
    info = describe_collection(client, "colours")
    items = read_items(client, "colours").sort_values("path", ignore_index=True)
    ids = items["id"].to_numpy()
    everything, labelled = np.arange(15), np.ones(15, bool)
    rankings = leave_one_out(client, info, ids, everything, labelled, k=4, progress=False)
    embeddings = read_embeddings(client, info, ids)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(embeddings[items["path"] == "red/red_0.png"], [[1, 0, 0]], atol=1e-6)
    exact = exact_neighbours_of_each(embeddings, k=4)
    # Shades of one colour have one direction; which of them comes first is no matter.
    similarity = embeddings @ embeddings.T
    for query, found in enumerate(rankings.neighbours):
        assert query not in found
        np.testing.assert_allclose(similarity[query, found], similarity[query, exact[query]], atol=1e-6)
    some = np.array([2, 9])
    fewer = leave_one_out(client, info, ids, some, labelled, k=4, progress=False)
    np.testing.assert_array_equal(fewer.neighbours, rankings.neighbours[some])
    # What has no label is passed over, and it is looked further for others.
    unknown = rankings.neighbours[some[0], :2]
    labelled[unknown] = False
    without = leave_one_out(client, info, ids, some, labelled, k=9, progress=False).neighbours
    assert not np.isin(without, unknown).any()
    assert (without >= 0).all()


@pytest.fixture
def loaded_tree(colour_tree: Path, settings: Settings, embedder: MeanColour) -> Path:
    Image.new("RGB", (8, 8), "cyan").save(colour_tree / "alone.png")
    load.run(colour_tree, collection="colours", embedder=embedder, settings=settings, progress=False)
    return colour_tree


@pytest.mark.usefixtures("loaded_tree")
def test_a_collection_is_evaluated(settings: Settings, tmp_path: Path) -> None:
    found = evaluate.run("colours", exact=True, out=tmp_path / "out", settings=settings, progress=False)
    assert (found.items, found.labels, found.queries, found.not_searched_with) == (16, 6, 15, 1)
    assert found.figures["precision@1"].mean == 1
    assert found.figures["recall@5"].mean == 1
    assert found.figures["precision@20"].mean == pytest.approx(2 / 20)
    assert found.figures["map"].mean == found.figures["map@20"].mean == 1
    # Of the 15 others of each query 3 are of each of the other four colours.
    assert found.confusions["share"].max() == pytest.approx(3 / 15)
    with Image.open(found.picture) as picture:
        assert picture.width > 1_000
    few = evaluate.run("colours", queries=4, out=tmp_path / "out", settings=settings, progress=False)
    assert few.queries == 4
    assert "map" not in few.figures


def test_labels_of_a_csv_take_the_folders_place(loaded_tree: Path, settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    warm = [f"{path.parent.name}/{path.name},warm" for path in loaded_tree.glob("*/*") if path.parent.name == "red"]
    file.write_text("\n".join(["path,label", *warm, "blue/blue_0.png,cold"]))
    found = evaluate.run("colours", labels=file, out=tmp_path, settings=settings, progress=False)
    assert (found.labels, found.queries, found.not_searched_with) == (2, 3, 13)


@pytest.mark.usefixtures("loaded_tree")
def test_labels_of_which_none_is_there_twice_are_refused(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("path,label\nred/red_0.png,a\nred/red_1.png,b\n")
    with pytest.raises(InvalidArgument, match=r"The labels of the 16 items of 'colours' tell nothing.*--labels"):
        evaluate.run("colours", labels=file, out=tmp_path, settings=settings, progress=False)


def test_the_command_prints_a_table_or_flat_json(
    lookalike: Callable[..., subprocess.CompletedProcess[str]], colour_tree: Path, tmp_path: Path
) -> None:
    lookalike("load", colour_tree, "--backbone", "mobilenetv2", "--weights", "random")
    out = tmp_path / "report"
    printed = lookalike("evaluate", "colours", "--out", out).stdout
    assert "colours: 15 items of 5 labels, 15 searched with\n" in printed
    assert "precision@20  0." in printed
    assert f"the worst queries: {out / 'worst_queries.png'}\n" in printed
    numbers = json.loads(lookalike("evaluate", "colours", "--out", out, "--json", "--exact").stdout)
    assert {"precision@1", "precision@20", "recall@20", "map@20", "map", "map_low", "accuracy@5_high"} <= set(numbers)
    assert all(isinstance(each, (int, float)) for each in numbers.values())
    assert numbers["queries"] == 15
