"""Videos are ranked by Chamfer similarity, and told where they match; the same as by comparing everything."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from pymilvus import MilvusClient

from utilities.collection_info import CollectionInfo
from utilities.errors import InvalidArgument
from utilities.fingerprint import Fingerprint
from utilities.items import Item, item_id
from utilities.milvus_utilities import create_collection, flush_and_index, insert_items
from utilities.selections import Selection
from utilities.video_search import nearest_videos
from utilities.videos import Sampling

DIMENSION = 16
FINGERPRINT = Fingerprint("mean_colour", "0" * 32, "none", DIMENSION)


def unit(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32)


def frame(path: str, time: float, until: float) -> Item:
    part = f"{time:.3f}"
    attributes = {"time": time, "until": until, "items": 0}
    return Item(item_id(path, part), path, part, "folder", 64, 48, 1, 1, "", attributes)


def inserted(
    client: MilvusClient, videos: dict[str, NDArray[np.float32]], metric: str = "COSINE", every: float = 1.0
) -> CollectionInfo:
    """A collection of videos, whose frames follow each other by `every` seconds."""
    info = create_collection(
        client,
        "videos",
        dimension=DIMENSION,
        fingerprint=FINGERPRINT,
        root="/films",
        metric=metric,
        sampling=Sampling(every),
    )
    for path, vectors in videos.items():
        items = [frame(path, every * number, every * (number + 1)) for number in range(len(vectors))]
        insert_items(client, info, items, vectors)
    flush_and_index(client, info, sum(map(len, videos.values())))
    return info


def chamfer(query: NDArray[np.float32], video: NDArray[np.float32], metric: str) -> float:
    if metric == "L2":
        return float(np.linalg.norm(query[:, None] - video[None], axis=2).min(axis=1).mean())
    return float((query @ video.T).max(axis=1).mean())


@pytest.mark.parametrize("metric", ["COSINE", "IP", "L2"])
def test_the_ranking_is_that_of_comparing_everything(client: MilvusClient, metric: str) -> None:
    random = np.random.default_rng(0)
    # Videos of very different lengths; the long ones would crowd out others from among the nearest frames.
    videos = {f"{n:02}.mp4": unit(random.normal(size=(random.integers(1, 60), DIMENSION))) for n in range(40)}
    videos["crowd.mp4"] = unit(random.normal(size=(800, DIMENSION)))
    info = inserted(client, videos, metric)
    query = unit(random.normal(size=(5, DIMENSION)))
    truth = sorted(videos, key=lambda path: chamfer(query, videos[path], metric) * (1 if metric == "L2" else -1))
    for top_k, offset in ((1, 0), (7, 0), (7, 5), (50, 0)):
        found = nearest_videos(client, info, query, Selection(top_k, offset=offset))
        assert [match.path for match in found] == truth[offset : offset + top_k]
        assert [match.rank for match in found] == list(range(offset + 1, offset + len(found) + 1))
        for match in found:
            assert match.score == pytest.approx(chamfer(query, videos[match.path], metric), abs=1e-4)
            assert (match.distance is None) == (metric != "L2")
            assert match.frames
            for each in match.frames:
                assert any(span.start <= each.time <= span.end for span in match.spans)


def test_a_video_that_is_nobodys_nearest_may_be_the_most_similar(client: MilvusClient) -> None:
    axes = np.eye(DIMENSION, dtype=np.float32)
    query = axes[:12]
    # Of each frame of the query many copies, in videos that show nothing else of it; one video nearly shows all of it.
    videos = {f"{number:03}.mp4": axes[number % len(query)][None] for number in range(20 * len(query))}
    videos["all.mp4"] = unit(query + 0.05)
    info = inserted(client, videos)
    assert nearest_videos(client, info, query, Selection(1))[0].path == "all.mp4"
    pages = [nearest_videos(client, info, query, Selection(1, offset=offset))[0].path for offset in range(3)]
    assert len({*pages}) == 3


def test_a_stretch_is_found_where_it_is(client: MilvusClient) -> None:
    random = np.random.default_rng(1)
    videos = {f"{n}.mp4": unit(random.normal(size=(30, DIMENSION))) for n in range(5)}
    info = inserted(client, videos)
    query = unit(videos["3.mp4"][12:16] + 0.05 * random.normal(size=(4, DIMENSION)))
    (match,) = nearest_videos(client, info, query, Selection(1))
    assert match.path == "3.mp4"
    assert [(span.start, span.end) for span in match.spans] == [(12, 16)]
    assert str(match.spans[0]) == "12.0–16.0 s"
    assert {each.time for each in match.frames} <= {12, 13, 14, 15}
    assert [each.time for each in match.frames] == sorted(each.time for each in match.frames)
    assert match.time in {each.time for each in match.frames}
    assert match.id == item_id("3.mp4", f"{match.time:.3f}")


def test_stretches_apart_are_told_apart_those_first_that_show_more(lite: MilvusClient) -> None:
    random = np.random.default_rng(2)
    video = unit(random.normal(size=(40, DIMENSION)))
    info = inserted(lite, {"a.mp4": video, "b.mp4": unit(random.normal(size=(40, DIMENSION)))}, every=0.5)
    query = np.concatenate([video[4:6], video[30:34]])
    (match, _) = nearest_videos(lite, info, query, Selection(2), step=0.5)
    assert match.path == "a.mp4"
    assert match.similarity == pytest.approx(1, abs=1e-5)
    assert [(span.start, span.end) for span in match.spans] == [(15, 17), (2, 3)]


def test_one_frame_that_is_nowhere_is_no_stretch(lite: MilvusClient) -> None:
    random = np.random.default_rng(3)
    video = unit(random.normal(size=(40, DIMENSION)))
    info = inserted(lite, {"a.mp4": video})
    query = np.concatenate([video[20:25], unit(random.normal(size=(1, DIMENSION)))])
    (match,) = nearest_videos(lite, info, query)
    assert [(span.start, span.end) for span in match.spans] == [(20, 25)]


def test_one_frame_that_happens_to_be_elsewhere_is_no_stretch(lite: MilvusClient) -> None:
    random = np.random.default_rng(6)
    video = unit(random.normal(size=(40, DIMENSION)))
    info = inserted(lite, {"a.mp4": video})
    (match,) = nearest_videos(lite, info, np.concatenate([video[20:26], video[3:4]]))
    assert [(span.start, span.end) for span in match.spans] == [(20, 26)]


def test_one_picture_finds_each_stretch_that_shows_it(lite: MilvusClient) -> None:
    random = np.random.default_rng(4)
    video = unit(random.normal(size=(40, DIMENSION)))
    shown = unit(random.normal(size=DIMENSION))
    for row in (5, 6, 7, 30):
        video[row] = unit(shown + 0.02 * random.normal(size=DIMENSION))
    info = inserted(lite, {"a.mp4": video})
    (match,) = nearest_videos(lite, info, shown[None])
    assert {(span.start, span.end) for span in match.spans} == {(5, 8), (30, 31)}


def test_a_filter_holds_for_videos(client: MilvusClient) -> None:
    random = np.random.default_rng(5)
    # A name that an expression could stumble over.
    names = ['it\'s "so".mp4', "back\\slash.mp4", "plain.mp4", "Zürich.mp4"]
    videos = {name: unit(random.normal(size=(5, DIMENSION))) for name in names}
    info = inserted(client, videos)
    for name in names:
        assert nearest_videos(client, info, videos[name][:2], Selection(1))[0].path == name
    found = nearest_videos(
        client, info, videos["plain.mp4"][:1], Selection(filter='path != "plain.mp4" and width == 64')
    )
    assert {match.path for match in found} == {*names} - {"plain.mp4"}
    (match,) = nearest_videos(
        client, info, videos["plain.mp4"][4:], Selection(filter='path == "plain.mp4" and time < 2')
    )
    assert {each.time for each in match.frames} <= {0, 1}
    assert match.score < 0.99
    assert nearest_videos(client, info, videos["plain.mp4"], Selection(filter="width == 65")) == []
    with pytest.raises(InvalidArgument, match="filter"):
        nearest_videos(client, info, videos["plain.mp4"], Selection(filter="width = = 65"))
    with pytest.raises(InvalidArgument, match="top-k of 0"):
        nearest_videos(client, info, videos["plain.mp4"], Selection(0))


def test_an_empty_collection_holds_no_videos(lite: MilvusClient) -> None:
    info = inserted(lite, {})
    assert nearest_videos(lite, info, unit(np.ones((3, DIMENSION)))) == []
