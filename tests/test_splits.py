"""Who is trained on and who is held out, and how later evaluations know."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from utilities.errors import InvalidArgument
from utilities.labels import Labels
from utilities.splits import HELD_OUT, TRAINING, VALIDATION, stratified_split, trained_on, were_trained_on, write_split

NAMES = ["cup"] * 40 + ["pan"] * 10 + ["pot"] * 2
LABELS = Labels.of(NAMES)
DIGESTS = [f"{number:03}" for number in range(len(NAMES))]


def counts(split: np.ndarray, name: str) -> list[int]:
    own = np.array(NAMES) == name
    return [int((split[own] == part).sum()) for part in (TRAINING, VALIDATION, HELD_OUT)]


def test_the_split_is_stratified_and_the_same_for_the_same_seed() -> None:
    split = stratified_split(LABELS, DIGESTS, 30, seed=0)
    assert [counts(split, name) for name in ("cup", "pan", "pot")] == [[27, 3, 10], [8, 1, 1], [1, 0, 1]]
    np.testing.assert_array_equal(split, stratified_split(LABELS, DIGESTS, 30, seed=0))
    assert (split != stratified_split(LABELS, DIGESTS, 30, seed=1)).any()
    four_in_five = stratified_split(LABELS, DIGESTS, None, seed=0)
    assert [counts(four_in_five, name) for name in ("cup", "pan", "pot")] == [[28, 4, 8], [7, 1, 2], [1, 0, 1]]


def test_the_order_of_the_files_does_not_matter() -> None:
    split = stratified_split(LABELS, DIGESTS, None, seed=0)
    backwards = stratified_split(Labels.of(NAMES[::-1]), DIGESTS[::-1], None, seed=0)
    np.testing.assert_array_equal(backwards[::-1], split)


def test_what_was_trained_on_before_is_never_held_out(tmp_path: Path) -> None:
    seen = {digest for digest, name in zip(DIGESTS, NAMES, strict=True) if name == "pan"} - {DIGESTS[45]}
    split = stratified_split(LABELS, DIGESTS, 5, seed=0, seen=seen)
    assert np.flatnonzero((split == HELD_OUT) & (np.array(NAMES) == "pan")).tolist() == [45]
    assert counts(split, "cup") == [4, 1, 35]
    items = pd.DataFrame({"path": DIGESTS, "file_digest": DIGESTS})
    write_split(tmp_path / "tuned.split.csv", items, LABELS, split, seen | {"elsewhere"})
    assert trained_on(str(tmp_path / "tuned.keras")) == {*np.array(DIGESTS)[split != HELD_OUT], "elsewhere"}
    with pytest.raises(InvalidArgument, match="trained on all 10 images of 'pan' before"):
        stratified_split(LABELS, DIGESTS, None, seed=0, seen=seen | {DIGESTS[45]})


def test_images_without_labels_are_split_too() -> None:
    split = stratified_split(Labels.of([None] * 20), DIGESTS[:20], None, seed=0)
    assert [(split == part).sum() for part in (TRAINING, VALIDATION, HELD_OUT)] == [14, 2, 4]


def test_what_was_trained_on_is_told_by_content(tmp_path: Path) -> None:
    items = pd.DataFrame({"path": [f"{name}.jpg" for name in DIGESTS], "file_digest": DIGESTS})
    split = stratified_split(LABELS, DIGESTS, 30, seed=0)
    write_split(tmp_path / "tuned.split.csv", items, LABELS, split)
    weights = str(tmp_path / "tuned.keras")
    elsewhere = items.assign(path="elsewhere.jpg")
    np.testing.assert_array_equal(were_trained_on(elsewhere, weights, "imagenet"), split != HELD_OUT)
    assert not were_trained_on(items, "imagenet", str(tmp_path / "others.keras")).any()
    table = pd.read_csv(tmp_path / "tuned.split.csv")
    assert table.columns.tolist() == ["path", "label", "split", "file_digest"]
    assert table["label"].tolist() == NAMES


@pytest.mark.parametrize("content", ["", "path,label\na.jpg,cup\n", '"'])
def test_a_split_that_cannot_be_read_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "tuned.split.csv").write_text(content)
    items = pd.DataFrame({"path": ["a.jpg"], "file_digest": ["0"]})
    with pytest.raises(InvalidArgument, match=r"tuned.split.csv.*cannot be read"):
        were_trained_on(items, str(tmp_path / "tuned.keras"))
