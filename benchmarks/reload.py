"""How long does a load take that finds everything as it was? With as many files as a large archive has."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from benchmarks.report import table

IMAGES, FOLDERS, ROUNDS = 100_000, 100, 3


def run() -> str:
    """Load a tree of tiny images once, and then again and again."""
    with tempfile.TemporaryDirectory() as folder:
        tree, home = Path(folder) / "tree", Path(folder) / "home"
        _draw(tree)
        program = str(Path(sys.executable).with_name("lookalike"))
        command = [program, "load", str(tree), "--backbone", "mobilenetv2", "--weights", "random"]
        seconds = []
        for _ in range(1 + ROUNDS):
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True, env={**os.environ, "LOOKALIKE_HOME": str(home)})
            seconds.append(time.perf_counter() - start)
        start = time.perf_counter()
        assert sum(1 for file in tree.rglob("*.png") if file.stat().st_size) == IMAGES
        walk = time.perf_counter() - start
    first, again = seconds[0], statistics.median(seconds[1:])
    return (
        f"## How long does a load take that finds everything as it was?\n\n{IMAGES:,} PNGs of 8 by 8 pixels in "
        f"{FOLDERS} folders, MobileNetV2 with random weights, Milvus Lite; whole processes, all but the first load as "
        f"medians of {ROUNDS}.\n\n"
        + table(
            ["what", "seconds"],
            [
                ("the first load", f"{first:.0f}"),
                ("a load that finds all of it unchanged", f"{again:.1f}"),
                ("finding the files and their sizes, by Python alone", f"{walk:.1f}"),
            ],
        )
    )


def _draw(tree: Path) -> None:
    for number in range(IMAGES):
        file = tree / f"{number % FOLDERS:03}" / f"{number:06}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number % 256, number // 256 % 256, number // 65_536)).save(file)
