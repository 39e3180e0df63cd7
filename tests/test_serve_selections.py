"""Which matches are wanted, over HTTP and on the page: similar enough, one of each group, by some of the networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, expect

from tests.conftest import draw_colours
from tests.serving import COLOURS, Site, loaded_home, run_lookalike, serving
from tests.test_page import PHONE, accessible, choose, found, opened
from tests.test_serve import paths, refused
from utilities.embedder import load_embedder
from utilities.image_to_vec import image_to_vec
from utilities.reranking import expanded, reciprocal_order
from utilities.settings import Settings

#: MobileNetV2, and VGG16, which is soonest exported.
BOTH = ("--collection", "both", "--backbone", "mobilenetv2", "--backbone", "vgg16", "--weights", "random")
DISTANCES = ("--collection", "distances", *COLOURS[2:], "--metric", "l2")
MOBILENETV2, VGG16 = slice(0, 1280), slice(1280, 1792)
RED = "red/red_1.png"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_colours(tmp_path_factory.mktemp("selections") / "colours")


@pytest.fixture(scope="module")
def home(tree: Path, networks: Path) -> Path:
    """A home with the tree as it is seen by one network, by two, and with distances."""
    home = loaded_home(tree.parent, networks, tree)
    for options in (BOTH, DISTANCES):
        result = run_lookalike(home, "load", tree, *options)
        assert result.returncode == 0, result.stderr
    return home


@pytest.fixture(scope="module")
def site(home: Path) -> Iterator[Site]:
    with serving(home) as site:
        yield site


@pytest.fixture(scope="module")
def vectors(home: Path, tree: Path) -> dict[str, NDArray[np.float32]]:
    """Of each path what both networks make of it, side by side."""
    made = []
    for backbone in ("mobilenetv2", "vgg16"):
        embedder = load_embedder(backbone, "random", Settings(home=home), runtime="openvino")
        embeddings, names = image_to_vec(tree, embedder=embedder, settings=Settings(home=home), progress=False)
        made.append(embeddings)
    paths = [Path(name).relative_to(tree).as_posix() for name in names]
    return dict(zip(paths, np.concatenate(made, axis=1), strict=True))


@pytest.mark.parametrize(("backbone", "part"), [("mobilenetv2", MOBILENETV2), ("VGG16", VGG16)])
def test_one_network_of_several_is_searched_by(
    site: Site, tree: Path, vectors: dict[str, NDArray[np.float32]], backbone: str, part: slice
) -> None:
    query = vectors[RED][part]
    similarities = {path: float(vector[part] @ query) for path, vector in vectors.items()}
    id = site.search(tree / RED, "both", top_k=1, using=backbone).json()["matches"][0]["id"]
    least = sorted(similarities.values())[-4] - 1e-3
    for answer in (
        site.search(tree / RED, "both", using=backbone, min_similarity=least),
        site.ask({"id": id, "using": [backbone], "min_similarity": least}, "both"),
        site.ask({"vector": query.tolist(), "using": [backbone, backbone.lower()], "min_similarity": least}, "both"),
    ):
        assert paths(answer)[0] == RED
        matches = answer.json()["matches"]
        assert len(matches) == sum(each >= least for each in similarities.values())
        assert all("fused" not in match for match in matches)
        for match in matches:
            assert match["similarity"] == pytest.approx(similarities[match["path"]], abs=1e-3)


def test_rankings_of_several_networks_are_fused(
    site: Site, tree: Path, vectors: dict[str, NDArray[np.float32]]
) -> None:
    (known,) = [each for each in site.client.get("/collections").json() if each["name"] == "both"]
    assert known["backbones"] == ["mobilenetv2", "vgg16"]
    answer = site.search(tree / RED, "both")
    first = answer.json()["matches"][0]
    assert (first["path"], first["fused"]) == (RED, pytest.approx(2 / 61))
    assert first.keys().isdisjoint({"similarity", "distance"})
    turned = np.concatenate([vectors[RED][VGG16], vectors[RED][MOBILENETV2]]).tolist()
    for other in (
        site.ask({"id": first["id"]}, "both"),
        site.ask({"vector": vectors[RED].tolist()}, "both"),
        site.ask({"vector": turned, "using": ["vgg16", "mobilenetv2"]}, "both"),
        site.search(tree / RED, "both", using="vgg16,mobilenetv2"),
    ):
        # What two rankings turn round may come in either order.
        ours, theirs = ({m["path"]: m["fused"] for m in each.json()["matches"]} for each in (answer, other))
        assert ours == pytest.approx(theirs)


def test_groups_and_their_pages(site: Site, tree: Path) -> None:
    whole = site.search(tree / RED, group_by="folder")
    folders = [path.split("/")[0] for path in paths(whole)]
    assert paths(whole)[0] == RED
    assert sorted(folders) == ["blue", "green", "grey", "red", "yellow"]
    pages = [site.search(tree / RED, group_by="folder", top_k=2, offset=offset) for offset in (0, 2, 4)]
    assert [path for page in pages for path in paths(page)] == paths(whole)
    assert [match["rank"] for match in pages[1].json()["matches"]] == [3, 4]


def _expanded(query: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.int64]:
    near = vectors[np.argsort(-(vectors @ query))[:3]]
    return np.argsort(-(vectors @ expanded(query, near)))


def _reranked(query: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.int64]:
    nearest = np.argsort(-(vectors @ query))
    return nearest[reciprocal_order(query, vectors[nearest])]


@pytest.mark.parametrize(
    ("options", "order"), [({"expand": 3}, _expanded), ({"rerank": "reciprocal"}, _reranked)], ids=["expand", "rerank"]
)
def test_queries_are_expanded_and_matches_reranked(
    site: Site,
    vectors: dict[str, NDArray[np.float32]],
    options: dict[str, Any],
    order: Callable[..., NDArray[np.int64]],
) -> None:
    names, there = list(vectors), np.stack([vector[MOBILENETV2] for vector in vectors.values()])
    query = np.random.default_rng(5).uniform(0, 1, 1280).astype(np.float32)
    query /= np.linalg.norm(query)
    expected = [names[row] for row in order(query, there)]
    assert paths(site.ask({"vector": query.tolist(), **options})) == expected
    assert expected != paths(site.ask({"vector": query.tolist()}))


@pytest.mark.parametrize(
    ("collection", "options", "sentence"),
    [
        ("both", {"min_similarity": 0.5}, "no similarity. Leave out the least similarity, or search by one of them."),
        (
            "distances",
            {"min_similarity": 0.5},
            "searched by distance (l2): matches have no similarity. Leave out",
        ),
        ("colours", {"group_by": "colour"}, "no field 'colour' to group by; choose one of folder, path, part, label"),
        ("colours", {"expand": 101}, "expand: Input should be less than or equal to 100"),
        ("colours", {"rerank": "best"}, "no re-ranking 'best'; choose one of reciprocal, diffusion, measures"),
        ("colours", {"using": ["vgg16"]}, "holds no vectors of 'vgg16'; it holds those of mobilenetv2"),
        ("colours", {"using": ["mobilenetv2"] * 17}, "using: List should have at most 16 items"),
        ("both", {}, "1,792 numbers, those of mobilenetv2 (1,280) and vgg16 (512) side by side; one of 1,280 cannot"),
        ("both", {"using": ["vgg16"]}, "holds vectors of 512 numbers; one of 1,280 cannot"),
    ],
)
def test_what_cannot_be_asked_is_a_problem(site: Site, collection: str, options: dict[str, Any], sentence: str) -> None:
    assert sentence in refused(site.ask({"vector": [1.0] * 1280, **options}, collection), 422)


def test_every_network_needs_a_direction(site: Site) -> None:
    body = {"vector": [1.0] * 1280 + [0.0] * 512}
    assert "one network's numbers are all 0" in refused(site.ask(body, "both"), 422)


def test_forms_are_refused_in_the_same_words(site: Site, tree: Path) -> None:
    assert "min_similarity: Input should be a finite number" in refused(
        site.search(tree / RED, min_similarity="nan"), 422
    )
    assert "no vectors of 'resnet50'" in refused(site.search(tree / RED, using="mobilenetv2,resnet50"), 422)


def test_similar_enough_and_one_per_folder_are_chosen_on_the_page(browser: Browser, site: Site, tree: Path) -> None:
    troubles: list[str] = []
    page = opened(browser, site, troubles, "15 images")
    page.get_by_label("Collection").select_option("colours")
    page.get_by_label("Matches", exact=True).select_option("10")
    choose(page, tree / RED)
    tiles, more = page.locator(".tile"), page.get_by_role("button", name="Show more")
    page.get_by_label("One per folder").focus()
    page.keyboard.press("Space")
    expect(tiles).to_have_count(5)
    expect(more).to_be_hidden()
    page.get_by_label("One per folder").uncheck()
    expect(tiles).to_have_count(10)
    scores = [float(each) for each in page.locator(".tile .score").all_text_contents()]
    last = int(np.argmax(-np.diff(scores)))  # the one with the widest gap behind it
    page.get_by_label("Similarity at least").fill(f"{(scores[last] + scores[last + 1]) / 2:.5f}")
    page.keyboard.press("Enter")
    expect(tiles).to_have_count(last + 1)
    expect(more).to_be_hidden()
    page.get_by_label("Similarity at least").fill("-1")
    page.keyboard.press("Enter")
    expect(tiles).to_have_count(10)
    more.click()
    expect(tiles).to_have_count(15)
    page.get_by_role("button", name="Clear filters").click()
    expect(page.get_by_label("Similarity at least")).to_have_value("")

    for collection, first in (("both", "0.0328"), ("distances", "0.0000")):
        page.get_by_label("Collection").select_option(collection)
        expect(page.get_by_label("Similarity at least")).to_be_hidden()
        expect(page.locator(".score").first).to_have_text(first)
    page.get_by_label("One per folder").check()
    expect(tiles).to_have_count(5)
    assert found(page)[0] == RED
    page.close()
    assert troubles == []


def test_everyone_can_choose_them(browser: Browser, site: Site) -> None:
    troubles: list[str] = []
    page = opened(browser, site, troubles, "15 images", viewport=PHONE)
    page.get_by_label("Collection").select_option("colours")
    expect(page.get_by_label("Similarity at least")).to_be_visible()
    accessible(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "wider than the screen"
    page.close()
    assert troubles == []
