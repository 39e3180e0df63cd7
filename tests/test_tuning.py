"""Which techniques pay: tried on some labels, reported on others, and the same as what Milvus answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pymilvus import MilvusClient

from pipelines import load, tune
from pipelines.printing_measures import print_tuning
from tests.clusters import CLUSTERS, OF_EACH, clustered, insert_clusters
from tests.conftest import MeanColour
from tests.test_ensemble_collections import MeanSquare
from utilities.augmented_collections import copy_augmented
from utilities.ensembles import Ensemble
from utilities.errors import InvalidArgument
from utilities.labels import Labels
from utilities.milvus_utilities import delete_items, describe_collection
from utilities.selections import Selection
from utilities.settings import Settings
from utilities.similar_images import nearest_matches
from utilities.tuning import PLAIN, Technique, Tuning, choose, draw_trial, drawn_together
from utilities.variants import Variant

VECTORS, CODES = clustered()
LABELS = Labels.of([str(code) for code in CODES])


def test_queries_are_not_searched_and_the_labels_that_choose_do_not_report() -> None:
    trial = draw_trial(LABELS)
    assert trial is not None
    assert len(trial.queries) == CLUSTERS * OF_EACH // 3
    assert not {*trial.queries} & {*trial.searched}
    assert len(trial.queries) + len(trial.searched) == len(VECTORS)
    choosing, reporting = ({*CODES[trial.queries[which]]} for which in (trial.choosing, ~trial.choosing))
    assert len(choosing) == len(reporting) == CLUSTERS // 2
    assert not choosing & reporting
    partly = Labels(np.where(CODES == 0, -1, LABELS.codes), LABELS.names)
    found = draw_trial(partly)
    assert found is not None
    assert 0 not in CODES[[*found.queries, *found.searched]]
    assert draw_trial(Labels.of(["a", "a", "a", "b"])) is None


@pytest.mark.parametrize(
    "technique", [PLAIN, Technique(expand=10), Technique(augment=10, expand=10, rerank="reciprocal")]
)
def test_what_is_tried_in_memory_is_what_milvus_answers(
    lite: MilvusClient, settings: Settings, technique: Technique
) -> None:
    trial = draw_trial(LABELS)
    assert trial is not None
    info, vectors, items = insert_clusters(lite)
    delete_items(lite, info.name, [items[row].id for row in trial.queries])
    if technique.augment:
        copy_augmented(lite, info, "moved", technique.augment, settings, progress=False)
        info = describe_collection(lite, "moved")
    selection = Selection(20, expand=technique.expand, rerank=technique.rerank)
    found = nearest_matches(lite, info, vectors[trial.queries], selection)
    expected = [
        np.mean([match.label == str(CODES[query]) for match in matches])
        for query, matches in zip(trial.queries, found, strict=True)
    ]
    values = Tuning({"": vectors}, LABELS, trial).try_out(technique)
    np.testing.assert_allclose(values["precision@20"], expected, atol=0.051)  # One of 20 may be as near as another.
    assert values["precision@20"].mean() == pytest.approx(np.mean(expected), abs=0.003)
    assert values["map"].shape == (len(trial.queries),)


def test_every_combination_is_tried_once_and_some_are_better_than_plain() -> None:
    trial = draw_trial(LABELS)
    assert trial is not None
    tuning = Tuning({"": VECTORS}, LABELS, trial)
    assert len({*tuning.techniques()}) == 2 * 2 * 3  # Of 32 dimensions none of those tried is fewer.
    plain, better = (tuning.try_out(each)["map"].mean() for each in (PLAIN, Technique(augment=10, expand=10)))
    assert better > plain + 0.05
    assert str(Technique("views crop", 64, 10, 5, "diffusion")) == (
        "views crop, PCA to 64, augmented by 10, expanded by 5, re-ranked by diffusion"
    )


def test_vectors_that_vary_along_few_axes_are_projected_to_fewer_only() -> None:
    trial = draw_trial(LABELS)
    assert trial is not None
    flat = np.tile(VECTORS, 8)  # (n, 256), which vary along 32 axes
    assert {each.pca for each in Tuning({"": flat}, LABELS, trial).techniques()} == {0}


def test_of_those_within_one_standard_error_of_the_best_the_one_that_does_least_is_chosen() -> None:
    random = np.random.default_rng(0)
    base = random.random(200)
    values = {
        PLAIN: base,
        Technique(expand=10): base + 0.2 + random.normal(0, 0.1, 200),
        Technique(pca=64): base + 0.199 + random.normal(0, 0.1, 200),
        Technique(pca=64, expand=10): base + 0.203 + random.normal(0, 0.1, 200),
    }
    groups = np.arange(200)
    chosen = choose(values, groups)
    assert chosen.parts == 1
    assert values[chosen].mean() == max(values[each].mean() for each in values if each.parts == 1)
    assert choose({PLAIN: base, Technique(expand=10): base}, groups) == PLAIN


def test_a_combination_within_two_standard_errors_of_the_best_is_not_as_good() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 400)
    noise -= noise.mean()
    error = noise.std() / np.sqrt(399)
    one, both = Technique(expand=10), Technique(pca=64, expand=10)
    values = {PLAIN: np.zeros(400), one: np.full(400, 0.5), both: 0.5 + noise + 1.1 * error}
    assert choose(values, np.arange(400)) == both
    assert choose(values | {both: 0.5 + noise + 0.9 * error}, np.arange(400)) == one


def test_what_takes_too_long_is_tried_alone_but_not_chosen() -> None:
    trial = draw_trial(LABELS)
    assert trial is not None
    flat = np.ones_like(VECTORS) / np.sqrt(VECTORS.shape[1])
    tuning = Tuning({"": flat, "views crop": VECTORS, "views pad": flat}, LABELS, trial)
    techniques = [*tuning.techniques(reducible=False)]
    assert len({*techniques}) == 3 * 2 * 2 * 3
    times = {each: 4.0 if each.rerank == "reciprocal" else 1.0 for each in techniques}
    tried = tuning.try_all(times, 3, progress=False)
    assert tried.best.variant == "views crop"
    assert tried.best.rerank != "reciprocal"
    assert {Technique("views pad"), Technique(rerank="reciprocal")} <= {*tried.worth}
    assert Technique("views crop", expand=10) in tried.worth
    assert Technique("views pad", expand=10) not in tried.worth
    assert Technique(augment=10, rerank="reciprocal") not in tried.worth
    slow = {each: 4.0 if each.variant else 1.0 for each in techniques}
    assert tuning.try_all(slow, 3, progress=False).best == PLAIN


def test_of_few_labels_each_query_is_drawn_by_itself() -> None:
    few, many = np.repeat(np.arange(2), 50), np.repeat(np.arange(20), 5)
    assert len({*drawn_together(few)}) == 100
    assert len({*drawn_together(many)}) == 20
    noise = np.random.default_rng(0).normal(0, 1, 100)
    values = {PLAIN: np.zeros(100), Technique(expand=10): noise - noise.mean() + 0.01}
    assert choose(values, few) == PLAIN


@pytest.fixture
def colours(colour_tree: Path, settings: Settings, networks: Path) -> Path:
    """The colour tree, loaded with an untrained network."""
    settings.home.mkdir()
    settings.networks.symlink_to(networks)
    load.run(colour_tree, backbone="mobilenetv2", weights="random", settings=settings, progress=False)
    return colour_tree


def test_the_verb_tells_what_pays_what_it_costs_and_how_to_have_it(
    colours: Path,
    settings: Settings,
    lite: MilvusClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("pipelines.tune.VARIANTS", (Variant(views="squash,mirror"),))
    (colours / "red" / "red_0.png").unlink()  # What cannot be embedded anew is left out everywhere.
    tuning = tune.run("colours", embed=True, out=tmp_path, settings=settings, progress=False)
    assert (tuning.searched, tuning.choosing, tuning.reporting) == (4 * 2 + 2, 2, 2)
    assert (tuning.choosing_labels, tuning.reporting_labels) == (2, 2)
    names = [str(row.technique) for row in tuning.rows]
    assert names[0] == "plain"
    assert {"views squash,mirror", "augmented by 10", "expanded by 10", "re-ranked by diffusion"} <= {*names}
    assert tuning.tried >= 13
    print_tuning(tuning)
    said = capsys.readouterr().out
    assert "colours: 10 items searched; " in said
    assert "few labels choose, or report" in said
    assert ("to have it:" in said) == (tuning.pays and bool(tuning.commands))
    plain = tuning.rows[0]
    assert (plain.precision_gain.mean, plain.times_as_long, plain.pays) == (0, 1, False)
    assert all(row.embedding > 0 and row.search > 0 for row in tuning.rows)
    assert tuning.chart.stat().st_size > 10_000


def test_what_to_say_to_have_a_technique(colours: Path, settings: Settings, lite: MilvusClient) -> None:
    info = describe_collection(lite, "colours")
    technique = Technique("views crop", 64, 10, 5, "reciprocal")
    assert tune._commands(info, technique) == [
        f"lookalike load {colours} --collection colours_tuned --backbone mobilenetv2 --weights random "
        "--views crop --pooling average --metric cosine",
        "lookalike reduce colours_tuned --into colours_tuned_64 --pca 64",
        "lookalike augment colours_tuned_64 --into colours_tuned_64_augmented --neighbours 10",
        "lookalike query IMAGE --collection colours_tuned_64_augmented --expand 5 --rerank reciprocal",
    ]
    assert tune._commands(info, replace(technique, variant="", pca=0, augment=0, rerank="")) == [
        "lookalike query IMAGE --collection colours --expand 5"
    ]
    assert tune._commands(info, PLAIN) == []


def test_what_takes_too_long_is_not_recommended(
    colours: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(_: object, __: object, ___: object, techniques: Sequence[Technique]) -> dict[Technique, float]:
        return {each: 1.0 if each in (PLAIN, Technique(expand=10)) else 1e9 for each in techniques}

    monkeypatch.setattr("pipelines.tune.search_milliseconds", slow)
    monkeypatch.setattr("utilities.tuning.choose", lambda values, _: max(values, key=lambda each: each.parts))
    tuning = tune.run("colours", slower=2, out=tmp_path, settings=settings, progress=False)
    assert tuning.best == Technique(expand=10)
    assert tuning.commands == ["lookalike query IMAGE --collection colours --expand 10"]


def test_what_cannot_be_tuned_is_refused(
    colour_tree: Path, settings: Settings, lite: MilvusClient, tmp_path: Path
) -> None:
    load.run(colour_tree, embedder=MeanColour(), settings=settings, progress=False)
    copy_augmented(lite, describe_collection(lite, "colours"), "moved", 2, settings, progress=False)
    with pytest.raises(InvalidArgument, match="moved towards their neighbours, which know their labels"):
        tune.run("moved", out=tmp_path, settings=settings)
    ensemble = Ensemble([MeanColour(), MeanSquare()])
    load.run(colour_tree, collection="both", embedder=ensemble, settings=settings, progress=False)
    with pytest.raises(InvalidArgument, match="unit vectors of one network"):
        tune.run("both", out=tmp_path, settings=settings)
