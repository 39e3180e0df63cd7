"""How much does a server answer? 32 clients at once on this machine, against the bare network, and its memory."""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

import httpx
import psutil

from benchmarks.data import photographs
from benchmarks.report import table, verdict
from tests.serving import run_lookalike, serving
from utilities.directory_trees import find_images
from utilities.drawn_images import draw_tree
from utilities.embedder import embed_in_batches, load_embedder
from utilities.item_streams import sample_pixels
from utilities.settings import Settings

BACKBONE, ITEMS, CLIENTS, ROUNDS, REQUESTS = "resnet50", 4_000, 32, 5, 800
#: Requests before and between which memory is looked at.
WARM, LONG = 1_000, 10_000


@dataclass
class Answers:
    """What clients saw."""

    seconds: list[float] = field(default_factory=list)
    failed: int = 0


def run() -> str:
    """Both ways in turn, several times over; then one server for long."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        home = scratch / "home"
        tree, kind = photographs(scratch)
        if len(find_images(tree)) < ITEMS - 100:
            tree, kind = scratch / "more", "drawn images"
            draw_tree(tree, per_category=286)
        paths = find_images(tree)
        embedder = load_embedder(BACKBONE, "random", Settings(home=home), runtime="openvino")
        pixels = sample_pixels(tree, paths, REQUESTS, embedder, Settings(home=home))
        options = ["--collection", "images", "--backbone", BACKBONE, "--weights", "random"]
        loaded = run_lookalike(home, "load", tree, *options)
        if loaded.returncode:
            raise RuntimeError(loaded.stderr)
        files = [tree / path for path in paths]
        bare, served, all_answers = [], [], Answers()
        cpu = {"bare": 0.0, "served": 0.0}
        this = psutil.Process(os.getpid())
        with serving(home) as site:
            server = psutil.Process(site.process.pid)
            for counted in [False, *[True] * ROUNDS]:
                before, start = _cpu(this), time.perf_counter()
                embed_in_batches(embedder, pixels)
                bare_rate, bare_cpu = len(pixels) / (time.perf_counter() - start), _cpu(this) - before
                before, start = _cpu(server), time.perf_counter()
                answers = asyncio.run(_ask(site.url, islice(cycle(files), REQUESTS)))
                rate, served_cpu = REQUESTS / (time.perf_counter() - start), _cpu(server) - before
                all_answers.failed += answers.failed
                if counted:
                    bare.append(bare_rate)
                    served.append(rate)
                    all_answers.seconds += answers.seconds
                    cpu["bare"] += bare_cpu / len(pixels) / ROUNDS
                    cpu["served"] += served_cpu / REQUESTS / ROUNDS
            memory = []
            for count in (WARM, LONG):
                all_answers.failed += asyncio.run(_ask(site.url, islice(cycle(files), count))).failed
                memory.append(server.memory_info().rss / 2**20)
    ratio = statistics.median(one / other for one, other in zip(served, bare, strict=True))
    percentiles = statistics.quantiles(all_answers.seconds, n=100)
    asked = (ROUNDS + 1) * REQUESTS + WARM + LONG
    return (
        f"## How much does a server answer?\n\n{BACKBONE} with random weights, {embedder.runtime}, Milvus Lite, "
        f"{len(paths):,} {kind}; {CLIENTS} clients that upload a file each and ask again at once, {REQUESTS} requests "
        f"a round, medians of {ROUNDS} rounds. The clients run on the same machine.\n\n"
        + table(
            ["way", "images a second", "milliseconds of a core for each"],
            [
                ("bare network, pixels in memory", f"{statistics.median(bare):.1f}", f"{1_000 * cpu['bare']:.1f}"),
                ("`lookalike serve`", f"{statistics.median(served):.1f}", f"{1_000 * cpu['served']:.1f}"),
            ],
        )
        + "\n\n"
        + table(
            ["figure", "reached"],
            [
                ("served against the bare network", verdict(ratio, 0.85)),
                ("half of the answers within", f"{1_000 * percentiles[49]:,.0f} ms"),
                ("95 % of the answers within", f"{1_000 * percentiles[94]:,.0f} ms"),
                (f"failed, of {asked:,}", verdict(all_answers.failed, 0, at_most=True)),
                (f"memory after {WARM:,} requests more", f"{memory[0]:,.0f} MiB"),
                (f"memory after {LONG:,} requests more than these", f"{memory[1]:,.0f} MiB"),
            ],
        )
    )


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def _ask(url: str, files: Iterable[Path]) -> Answers:
    """Have every file searched with; each client sends its next when the last is answered."""
    answers, queue = Answers(), iter(files)
    await asyncio.gather(*(_client(url, queue, answers) for _ in range(CLIENTS)))
    return answers


async def _client(url: str, files: Iterator[Path], answers: Answers) -> None:
    """One connection, spoken by hand: httpx would take as much of the processors as the server's own HTTP."""
    where = httpx.URL(url)
    reader, writer = await asyncio.open_connection(where.host, where.port)
    for file in files:
        start = time.perf_counter()
        writer.writelines(_request(file))
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.split(b":")[1]))
        answers.seconds.append(time.perf_counter() - start)
        answers.failed += not head.startswith(b"http/1.1 200")
    writer.close()
    await writer.wait_closed()


def _request(file: Path) -> Sequence[bytes]:
    content = file.read_bytes()
    opening = f'--x\r\nContent-Disposition: form-data; name="file"; filename="{file.name}"\r\n\r\n'.encode()
    closing = b"\r\n--x--\r\n"
    head = (
        "POST /collections/images/search HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {len(opening + content + closing)}\r\n\r\n"
    )
    return head.encode(), opening, content, closing
