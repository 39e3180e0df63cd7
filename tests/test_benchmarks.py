"""What the benchmarks are made of; they themselves are run by `make bench`."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks import chart
from benchmarks.data import make_vectors
from benchmarks.report import RESULTS, describe_machine, table, verdict

BENCHMARKS = (
    "answers",
    "decode",
    "duplicates",
    "faces",
    "load",
    "precision",
    "query",
    "reload",
    "search",
    "serve",
    "videos",
)


@pytest.mark.parametrize("dimension", [16, 24, 40])
def test_made_vectors_are_near_real_ones_and_keep_their_angles(dimension: int) -> None:
    real = np.random.default_rng(0).standard_normal((50, 24)).astype(np.float32)
    real /= np.linalg.norm(real, axis=1, keepdims=True)
    made = make_vectors(real, 200, dimension, seed=1)
    assert made.shape == (200, dimension)
    assert made.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)
    again = make_vectors(real, 200, dimension, seed=1)
    np.testing.assert_array_equal(made, again)
    # Of two sets of one kind, each made-up vector has a near one in the other: both were made of the same real ones.
    nearest = (made @ make_vectors(real, 2_000, dimension, seed=2).T).max(axis=1)
    assert nearest.min() > 0.6


def test_a_table_is_read_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chart, "RESULTS", tmp_path)
    rows = [("one", "1"), ("two", "2")]
    (tmp_path / "x.md").write_text(f"text\n\n{table(['what', 'n'], rows)}\n\n{table(['what', 'm'], rows[:1])}\n")
    assert chart.read_table("x", "what") == [{"what": "one", "n": "1"}, {"what": "two", "n": "2"}]
    assert chart.read_table("x", "what", which=1) == [{"what": "one", "m": "1"}]


def test_a_verdict_says_what_was_not_reached() -> None:
    assert verdict(8.44, 8, unit=" ×") == "8.44 × (asked: ≥ 8 ×)"
    assert verdict(7.9, 8, unit=" ×") == "7.9 × (asked: ≥ 8 ×; not reached)"
    assert verdict(5.9, 6, at_most=True) == "5.9 (asked: ≤ 6)"
    assert verdict(6.1, 6, at_most=True) == "6.1 (asked: ≤ 6; not reached)"


def test_every_benchmark_has_its_result_and_says_on_which_machine() -> None:
    assert re.search(r"\d+ cores, \d+ GiB, Python 3", describe_machine())
    page = (RESULTS.parent / "README.md").read_text()
    for name in BENCHMARKS:
        report = (RESULTS / f"{name}.md").read_text()
        assert "Measured on " in report
        assert f"results/{name}.md" in page
    assert "results/chart.png" in page
    assert (RESULTS / "chart.png").stat().st_size < 500_000
