"""Are near-identical images found, and only they? Photographs, each with six altered copies, by pairs."""

from __future__ import annotations

import csv
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.altered_images import ALTERATIONS, write_copies
from benchmarks.data import photographs, test_data, trained_weights
from benchmarks.report import table, verdict
from pipelines import duplicates, load
from utilities.directory_trees import find_images
from utilities.labels import Labels
from utilities.maps import Clusters, pairwise_precision_recall
from utilities.settings import Settings

ORIGINALS = 2_000
#: Images of Caltech 101 that are one picture, seen by eye: among those that a run over the originals alone had grouped.
SAME = Path(__file__).parent / "caltech101_same.csv"


@dataclass(frozen=True)
class Result:
    """What was found among originals and their copies."""

    originals: int
    #: As generated, and where originals that are one picture count as one.
    precision: float
    recall: float
    precision_by_eye: float
    recall_by_eye: float
    #: The part of the copies of each kind that are in the group of their original.
    found: dict[str, float]
    load_seconds: float
    find_seconds: float


def run() -> str:
    """Measure on photographs of things, and on photographs of people, of whom there are many each."""
    with tempfile.TemporaryDirectory() as folder:
        tree, kind = photographs(Path(folder))
        results = {kind: measure(tree, ORIGINALS, Path(folder) / "one")}
        people = test_data()
        if people:
            results["Labeled Faces in the Wild"] = measure(people / "data" / "lfw", ORIGINALS, Path(folder) / "two")
    return report(results)


def report(results: dict[str, Result]) -> str:
    """What was measured on each set of photographs, as tables."""
    rows = [
        (
            name,
            f"{each.originals:,}",
            f"{each.precision:.4f}",
            f"{each.recall:.4f}",
            f"{each.precision_by_eye:.4f}",
            f"{each.recall_by_eye:.4f}",
            f"{each.load_seconds:,.0f}",
            f"{each.find_seconds:,.0f}",
        )
        for name, each in results.items()
    ]
    kinds = [(name, *(f"{each.found[name]:.4f}" for each in results.values())) for name in ALTERATIONS]
    header = [
        "photographs",
        "originals",
        "precision",
        "recall",
        "precision by eye",
        "recall by eye",
        "load s",
        "find s",
    ]
    reached = [
        (name, verdict(each.precision_by_eye, 0.99), verdict(each.recall_by_eye, 0.95))
        for name, each in results.items()
    ]
    return (
        "## Are near-identical images found, and only they?\n\nEach original has six copies: half as large, saved at "
        "quality 30, cropped by 10 to 20 % of each side, mirrored, recoloured, and written on or framed. Of all pairs "
        "of files, those are true that come of one original, 21 for each. Precision is the part of the pairs within "
        "groups that are true, recall the part of the true pairs that are within groups. Caltech 101 has originals "
        "that are one picture themselves; by eye those count as one that `benchmarks/caltech101_same.csv` names, which "
        "were looked for among what this command had grouped.\n\n"
        + table(header, rows)
        + "\n\n"
        + table(["by eye", "precision", "recall"], reached)
        + "\n\nCopies that are in the group of their original:\n\n"
        + table(["copy", *results], kinds)
    )


def measure(tree: Path, count: int, scratch: Path) -> Result:
    """Generate the set, load it, and find the duplicates in it.

    Args:
        tree: of photographs.
        count: of originals at most, drawn at random.
        scratch: where the set and the collection are kept, and taken from where they are there already.
    """
    paths = find_images(tree)
    if count < len(paths):
        paths = sorted(random.Random(0).sample(paths, count))
    write_copies(tree, paths, scratch / "set")
    settings = Settings(home=scratch / "home")
    backbone, weights = trained_weights()
    start = time.perf_counter()
    load.run(scratch / "set", collection="copies", backbone=backbone, weights=weights, settings=settings)
    loaded = time.perf_counter()
    found = duplicates.run("copies", out=scratch / "out", settings=settings)
    end = time.perf_counter()
    place = {path: row for row, path in enumerate(find_images(scratch / "set"))}
    numbers = np.array([int(Path(path).stem) for path in place])
    groups = np.full(len(place), -1, np.int64)
    for number, group in enumerate(found.groups):
        groups[[place[each.path] for each in group]] = number
    precision, recall = _judge(groups, numbers)
    by_eye, recall_by_eye = _judge(groups, _by_eye(paths)[numbers])
    kinds = np.array([path.split("/")[0] for path in place])
    own = dict(zip(numbers[kinds == "original"].tolist(), groups[kinds == "original"].tolist(), strict=True))
    shares = {}
    for kind in ALTERATIONS:
        of_kind = zip(numbers[kinds == kind].tolist(), groups[kinds == kind].tolist(), strict=True)
        shares[kind] = float(np.mean([group >= 0 and group == own[number] for number, group in of_kind]))
    return Result(len(paths), precision, recall, by_eye, recall_by_eye, shares, loaded - start, end - loaded)


def _by_eye(paths: list[str]) -> NDArray[np.int64]:
    """Of each original its number, or that of the first original that is the same picture."""
    with SAME.open(newline="") as file:
        group = {row["path"]: row["group"] for row in csv.DictReader(file)}
    first: dict[str, int] = {}
    return np.array([first.setdefault(group.get(path, path), number) for number, path in enumerate(paths)])


def _judge(groups: NDArray[np.int64], truth: NDArray[np.int64]) -> tuple[float, float]:
    precision, recall = pairwise_precision_recall(
        Clusters(groups, np.zeros(len(groups), np.float32)), Labels.of([str(each) for each in truth])
    )
    return precision or 0.0, recall or 0.0
