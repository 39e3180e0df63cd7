"""What a training was worth, by hand: six images, three of them held out."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from utilities.evaluation import exact_score
from utilities.labels import Labels
from utilities.reduction import unit_length
from utilities.training_gain import Comparison, compare_held_out, training_helped

LABELS = Labels.of(["cup", "cup", "pan", "cup", "cup", "pan"])
HELD_OUT = np.array([False, False, False, True, True, True])


def directions(*degrees: float) -> NDArray[np.float32]:
    radians = np.deg2rad(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


#: Cups lie among pans, and apart.
BEFORE, AFTER = directions(0, 60, 20, 30, 90, 50), directions(0, 5, 90, 10, 15, 80)


def means(comparison: Comparison, metric: str) -> tuple[float, float, float]:
    change = next(each for each in comparison.changes if each.metric == metric)
    return change.before.mean, change.after.mean, change.difference.mean


def test_held_out_images_are_searched_for_in_two_collections() -> None:
    among_held_out, among_others = compare_held_out(BEFORE, AFTER, LABELS, HELD_OUT)
    # The pan that is held out is alone there. Before, either cup finds the pan first, after that the other cup.
    assert (among_held_out.among, among_held_out.queries) == ("held-out images", 2)
    assert means(among_held_out, "map") == pytest.approx((0.5, 1, 0.5))
    assert among_held_out.highest == pytest.approx(1 / 20)
    assert (among_others.among, among_others.queries) == ("images that the training saw", 3)
    # From 30 degrees 20 (pan), 0 and 60 are as far; from 90: 60, 20 (pan), 0; from 50: 60, 20 (pan), 0.
    cups = [(1 / 2 + 2 / 3) / 2, (1 + 2 / 3) / 2]
    assert means(among_others, "map")[0] == pytest.approx((sum(cups) + 1 / 2) / 3)
    assert means(among_others, "map")[1] == pytest.approx(1)
    assert means(among_others, "precision@5")[1] == pytest.approx((2 + 2 + 1) / 5 / 3)
    assert among_others.highest == pytest.approx((2 + 2 + 1) / 20 / 3)


def test_whether_it_helped_is_told_where_the_interval_tells() -> None:
    random = np.random.default_rng(0)
    labels = Labels.of([["cup", "pan"][row % 2] for row in range(80)])
    held_out = np.arange(80) < 40
    clear = unit_length(np.eye(2, 8)[labels.codes] + random.normal(0, 0.05, (80, 8)))
    noise = unit_length(random.normal(size=(80, 8)))
    assert training_helped(compare_held_out(noise, clear, labels, held_out)) is True
    assert training_helped(compare_held_out(clear, noise, labels, held_out)) is False
    assert training_helped(compare_held_out(noise, noise, labels, held_out)) is None
    assert training_helped([]) is None


def test_without_two_held_out_images_of_a_label_one_collection_is_left() -> None:
    one_each = np.array([False, False, False, True, False, True])
    found = compare_held_out(BEFORE, AFTER, LABELS, one_each)
    assert [each.among for each in found] == ["images that the training saw"]


def test_recall_counts_what_is_searched_alone() -> None:
    values = exact_score(AFTER, LABELS, np.array([3, 4, 5]), ~HELD_OUT, progress=False)
    assert values["recall@5"].tolist() == [1, 1, 1]
    values = exact_score(AFTER, LABELS, np.array([3, 4]), HELD_OUT, progress=False)
    assert values["recall@1"].tolist() == [1, 1]
