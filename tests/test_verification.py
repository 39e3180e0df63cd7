"""One person or two: hand-worked pairs."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from utilities import verification
from utilities.charts import roc_chart
from utilities.labels import Labels
from utilities.verification import Verification, rows_to_verify, verify


def at(*degrees: float) -> NDArray[np.float32]:
    """Vectors of length 1 in a plane, whose cosines are those of the angles between them."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def verified(vectors: NDArray[np.float32], labels: Labels) -> Verification | None:
    rows = rows_to_verify(labels)
    return verify(vectors[rows], labels.take(rows))


def test_pairs_of_one_and_of_two() -> None:
    # One person at 0 and 10 degrees, another at 30 and 60. Mated pairs are 10 and 30 degrees apart; the others 30, 60,
    # 20 and 50.
    found = verify(at(0, 10, 30, 60), Labels.of(["a", "a", "b", "b"]))
    assert found is not None
    assert (found.mated, found.non_mated) == (2, 4)
    cosines = np.cos(np.radians([10, 20, 30]))
    np.testing.assert_allclose(found.false_match_rates, [0, 0, 1 / 4, 2 / 4, 1])
    np.testing.assert_allclose(found.true_match_rates, [0, 1 / 2, 1 / 2, 1, 1])
    # Between 20 degrees, where a quarter of the one matches and half of the other does not, and 30, where it is a half
    # and nothing, both are a third, a third of the way.
    assert found.equal_error_rate == pytest.approx(1 / 3)
    assert found.equal_error_threshold == pytest.approx(cosines[1] + (cosines[2] - cosines[1]) / 3, abs=1e-6)
    assert found.threshold == pytest.approx(cosines[0], abs=1e-6)
    assert found.true_match_rate == 0.5


def test_persons_that_nothing_confuses() -> None:
    found = verify(at(0, 1, 90, 91), Labels.of(["a", "a", "b", "b"]))
    assert found is not None
    assert found.equal_error_rate == 0
    assert found.true_match_rate == 1
    assert found.threshold == pytest.approx(np.cos(np.radians(1)), abs=1e-6)


def test_the_threshold_is_the_lowest_that_lets_one_in_a_thousand_pass() -> None:
    # Vectors of many persons, all of them far apart but for a few pairs whose cosines are known.
    random = np.random.default_rng(0)
    vectors = random.standard_normal((120, 60))
    vectors[60:] = vectors[:60] + 0.1 * random.standard_normal((60, 60))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = verify(vectors.astype(np.float32), Labels.of([str(number) for number in range(60)] * 2))
    assert found is not None
    of_two = np.array([vectors[i] @ vectors[j] for i in range(120) for j in range(i) if (i - j) % 60])
    assert found.non_mated == len(of_two) == 7080
    assert found.true_match_rate == 1
    assert found.false_match_rate == pytest.approx(7 / 7080)
    assert found.threshold == pytest.approx(np.sort(of_two)[-7], abs=1e-5)


def test_what_has_no_label_is_in_no_pair() -> None:
    labels = Labels.of(["a", None, "a", "b", None])
    assert rows_to_verify(labels).tolist() == [0, 2, 3]
    found = verified(at(0, 45, 10, 90, 45), labels)
    assert found is not None
    assert (found.mated, found.non_mated) == (1, 2)


@pytest.mark.parametrize("labels", [["a", "a", "a"], ["a", "b", "c"], [None, None, "a"]])
def test_without_both_kinds_of_pairs_nothing_is_told(labels: list[str | None]) -> None:
    assert verified(at(0, 10, 20), Labels.of(labels)) is None


def test_of_too_many_whole_persons_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "MOST", 12)
    labels = Labels.of([str(number // 4) for number in range(40)])
    found = verified(at(*np.linspace(0, 90, 40)), labels)
    assert found is not None
    assert (found.mated, found.mated + found.non_mated) == (3 * 6, 12 * 11 // 2)
    monkeypatch.setattr(verification, "MOST", 6)  # Two persons have more already.
    labels = Labels.of(["a"] * 20 + ["b"] * 20)
    found = verified(at(*np.linspace(0, 90, 40)), labels)
    assert found is not None
    assert found.mated + found.non_mated == 6 * 5 // 2


def test_the_chart_marks_both_thresholds() -> None:
    found = verify(at(0, 10, 30, 60), Labels.of(["a", "a", "b", "b"]))
    assert found is not None
    (axes,) = roc_chart("people", found).axes
    assert [text.get_text().split(",")[0] for text in axes.texts] == ["none", "equal error"]
    assert axes.get_xscale() == "log"
    low, high = axes.get_xlim()
    assert all(low <= float(np.asarray(line.get_xdata())[0]) <= high for line in axes.lines)
    statement = roc_chart("people", found).texts[1].get_text()
    assert "Where no pair of two persons matches, 50.0% of the pairs" in statement
