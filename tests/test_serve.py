"""Search over HTTP: real uvicorn, real Milvus, embedded and a server."""

from __future__ import annotations

import http.server
import io
import itertools
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from pipelines import serve
from tests.conftest import draw_colours
from tests.milvus_server import Server
from tests.serving import Site, id_of, loaded_home, run_lookalike, serving
from utilities.errors import LookalikeError
from utilities.milvus_utilities import connect, count_items
from utilities.settings import ENVIRONMENT_VARIABLES, Settings
from utilities.web.models import LARGEST_ID
from utilities.web.searches import MOST_IN_HAND


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_colours(tmp_path_factory.mktemp("tree") / "colours")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, networks: Path, tree: Path) -> Path:
    return loaded_home(tmp_path_factory.mktemp("lite"), networks, tree)


@pytest.fixture(scope="module")
def lite_site(home: Path) -> Iterator[Site]:
    with serving(home) as site:
        yield site


@pytest.fixture(scope="module")
def server_site(
    tmp_path_factory: pytest.TempPathFactory, networks: Path, tree: Path, milvus_server: str
) -> Iterator[Site]:
    server = {"MILVUS_URI": milvus_server}
    home = loaded_home(tmp_path_factory.mktemp("server"), networks, tree, **server)
    with serving(home, "--workers", "2", **server) as site:
        yield site
    connect(milvus_server).drop_collection("colours")


@pytest.fixture(params=["lite_site", "server_site"])
def site(request: pytest.FixtureRequest) -> Site:
    """A server over Milvus Lite, and one of two processes over a Milvus server."""
    found: Site = request.getfixturevalue(request.param)
    return found


def paths(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [match["path"] for match in response.json()["matches"]]


def refused(response: httpx.Response, status: int) -> str:
    """The sentence of an error, which is a whole problem (RFC 9457)."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    problem = response.json()
    assert (response.status_code, problem["status"]) == (status, status), response.text
    assert set(problem) == {"type", "title", "status", "detail"}
    assert problem["detail"].endswith(".")
    return str(problem["detail"])


def png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def test_a_picture_finds_itself_and_whatever_looks_like_it(site: Site, tree: Path) -> None:
    found = site.search(tree / "red/red_1.png")
    result = found.json()
    assert result["query"] == "red_1.png"
    assert len(result["matches"]) == 15
    first = result["matches"][0]
    assert (first["rank"], first["path"], first["label"]) == (1, "red/red_1.png", "red")
    assert first["similarity"] == pytest.approx(1, abs=1e-3)
    assert (first["width"], first["height"]) == (21, 16)
    scores = [match["similarity"] for match in result["matches"]]
    assert scores == sorted(scores, reverse=True)


def test_the_command_line_finds_the_same(home: Path, tree: Path, networks: Path, tmp_path: Path) -> None:
    own = loaded_home(tmp_path, networks, tree)
    printed = run_lookalike(own, "query", tree / "blue/blue_0.png", "--json").stdout
    with serving(own) as site:
        over_http = site.search(tree / "blue/blue_0.png").json()["matches"]
    for ours, theirs in zip(json.loads(printed)["matches"], over_http, strict=True):
        assert (ours["rank"], str(ours["id"]), ours["path"]) == (theirs["rank"], theirs["id"], theirs["path"])
        assert ours["similarity"] == pytest.approx(theirs["similarity"], abs=1e-5)


def test_an_item_and_its_vector_find_what_its_picture_finds(site: Site, tree: Path, home: Path) -> None:
    by_picture = site.search(tree / "green/green_0.png", top_k=5)
    id = id_of(home, "green/green_0.png")
    for given in (id, int(id)):
        found = site.ask({"id": given, "top_k": 5})
        assert paths(found) == paths(by_picture)
        assert found.json()["query"] == id
    assert "has no item 12345" in refused(site.ask({"id": 12345}), 404)
    assert "has no item 9999999999999999999" in refused(site.ask({"id": "9999999999999999999"}), 404)
    assert int("9999999999999999999") > LARGEST_ID
    assert "id: String should match" in refused(site.ask({"id": -1}), 422)


def test_pages_join_to_the_whole(site: Site, tree: Path) -> None:
    whole = site.search(tree / "red/red_0.png", top_k=15).json()["matches"]
    pages = [site.search(tree / "red/red_0.png", top_k=6, offset=offset).json()["matches"] for offset in (0, 6, 12)]
    assert [len(page) for page in pages] == [6, 6, 3]
    assert [match["rank"] for page in pages for match in page] == list(range(1, 16))
    assert [match["path"] for page in pages for match in page] == [match["path"] for match in whole]


def test_a_filter_holds_and_a_wrong_one_is_no_failure(site: Site, tree: Path) -> None:
    found = site.search(tree / "red/red_0.png", filter='label == "blue" and width > 20')
    assert sorted(paths(found)) == ["blue/blue_1.png", "blue/blue_2.png"]
    folder = site.ask({"id": json.loads(found.text)["matches"][0]["id"], "filter": 'path >= "red/" and path < "red0"'})
    assert sorted(paths(folder)) == [f"red/red_{number}.png" for number in range(3)]
    assert "cannot be applied" in refused(site.search(tree / "red/red_0.png", filter="label ==== 3"), 422)


def test_a_crop_is_searched_with_like_a_picture_of_it(lite_site: Site, tmp_path: Path, home: Path) -> None:
    picture = Image.new("RGB", (400, 200), "red")
    picture.paste("blue", (100, 50, 200, 150))
    part = picture.crop((100, 50, 200, 150))
    cropped = lite_site.search(png(picture), crop="0.25,0.25,0.25,0.5").json()["matches"]
    alone = lite_site.search(png(part)).json()["matches"]
    whole = lite_site.search(png(picture)).json()["matches"]
    assert [match["id"] for match in cropped] == [match["id"] for match in alone]
    assert cropped[0]["similarity"] == pytest.approx(alone[0]["similarity"], abs=1e-5)
    assert cropped[0]["similarity"] != pytest.approx(whole[0]["similarity"], abs=1e-3)
    id = id_of(home, "red/red_0.png")
    assert paths(lite_site.ask({"id": id, "crop": [0, 0, 0.5, 0.5], "top_k": 1})) == ["red/red_0.png"]


def vector(length: int, **values: float) -> list[float]:
    made = [0.0] * length
    for place, value in values.items():
        made[int(place[1:])] = value
    return made


BAD_QUESTIONS: list[tuple[dict[str, Any], int, str]] = [
    ({}, 422, "give exactly one of url, id and vector"),
    ({"id": 1, "url": "https://example.com"}, 422, "give exactly one of"),
    ({"vector": [1, 2]}, 422, "holds vectors of 1,280 numbers; one of 2 cannot"),
    ({"vector": vector(1280)}, 422, "has no direction"),
    ({"vector": vector(1280, _0=1e300)}, 422, "has no direction"),
    ({"vector": vector(1280, _0=1), "crop": [0, 0, 1, 1]}, 422, "a vector cannot be cropped"),
    ({"vector": vector(1280, _0=1), "top_k": 0}, 422, "top_k: Input should be greater than or equal to 1"),
    ({"vector": vector(1280, _0=1), "top_k": 20_000}, 422, "top_k: Input should be less than or equal to 1000"),
    ({"vector": vector(1280, _0=1), "top_k": 1_000, "offset": 15_385}, 422, "looks no further than the first 16,384"),
    ({"vector": vector(1280, _0=1), "topk": 3}, 422, "topk: Extra inputs are not permitted"),
    ({"url": "/etc/passwd"}, 422, "begins with http:// or https://"),
    ({"url": "file:///etc/passwd"}, 422, "no http:// or https:// address"),
    ({"url": "http://127.0.0.1/"}, 422, "which is no public address"),
    ({"url": "http://[::ffff:10.0.0.1]/"}, 422, "which is no public address"),
    ({"id": 1, "crop": [0, 0, 2, 1]}, 422, "is no part of an image"),
    ({"id": True}, 422, "id: Input should be a valid string"),
]


@pytest.mark.parametrize(("body", "status", "sentence"), BAD_QUESTIONS)
def test_a_bad_question_gets_a_sentence(lite_site: Site, body: dict[str, Any], status: int, sentence: str) -> None:
    assert sentence in refused(lite_site.ask(body), status)


def test_other_bad_requests_get_a_sentence(lite_site: Site, tree: Path) -> None:
    client, where = lite_site.client, "/collections/colours/search"
    picture = (tree / "red/red_0.png").read_bytes()
    assert "no collection 'cats'; there are: colours" in refused(lite_site.search(picture, "cats"), 404)
    assert "There is nothing at this address" in refused(client.get("/nothing"), 404)
    assert "does not take this method" in refused(client.get(where), 405)
    assert "Send multipart/form-data with a file, or" in refused(client.post(where, content=b"x"), 415)
    assert "nothing after a question mark" in refused(client.post(f"{where}?top_k=3", json={"id": 1}), 422)
    assert "file: give a file" in refused(client.post(where, files={"other": b"x"}), 422)
    assert "bytes is not an image that can be opened" in refused(lite_site.search(b"no picture"), 422)
    assert "it is empty" in refused(lite_site.search(b""), 422)
    assert "bytes is damaged" in refused(lite_site.search(picture[:50]), 422)
    assert "crop" in refused(lite_site.search(picture, crop="1,2"), 422)
    assert "top_k: give it once" in refused(lite_site.search(picture, top_k=["1", "2"]), 422)
    two = [("file", ("a.png", picture)), ("file", ("b.png", picture))]
    assert "Too many files" in refused(client.post(where, files=two), 400)
    for content in (b"{", b"[" * 100_000, b'{"url": "\\ud800"}', b"\xff"):
        refused(client.post(where, content=content, headers={"content-type": "application/json"}), 422)
    broken = {"content-type": "multipart/form-data; boundary=x"}
    refused(client.post(where, content=b"no form", headers=broken), 400)
    assert "?collection=NAME" not in client.get("/items/1/image").text  # There is only one.


def test_collections_and_what_they_can_be_filtered_by(site: Site) -> None:
    (known,) = site.client.get("/collections").json()
    assert known == site.client.get("/collections/colours").json()
    assert known == {
        "name": "colours",
        "what": "images",
        "item_is": "image",
        "sampling": None,
        "items": 15,
        "metric": "COSINE",
        "backbone": "mobilenetv2",
        "backbones": ["mobilenetv2"],
        "dimension": 1280,
        "untrained": True,
    }
    facets = site.client.get("/collections/colours/facets").json()
    assert facets["labels"] == [{"value": name, "items": 3} for name in ("blue", "green", "grey", "red", "yellow")]
    assert facets["folders"] == facets["labels"]
    assert (facets["cameras"], facets["taken"]) == ([], None)
    assert "no collection 'cats'" in refused(site.client.get("/collections/cats"), 404)
    assert site.client.get("/health").json() == {"status": "ok"}


def test_figures_for_prometheus(site: Site, tree: Path) -> None:
    for _ in range(4):
        site.search(tree / "red/red_0.png")
    seen = [site.client.get("/metrics").text for _ in range(4)]
    for text in seen:  # Two processes add up, whichever answers.
        counted = next(
            line
            for line in text.splitlines()
            if line.startswith("http_requests_total") and "search" in line and "2xx" in line
        )
        assert float(counted.split()[-1]) >= 4
    assert "http_requests_inprogress" in seen[0]
    assert "http_request_duration_seconds_bucket" in seen[0]


def test_pictures_that_come_together_are_answered_right(site: Site, tree: Path) -> None:
    files = sorted(tree.rglob("*.png")) * 8
    with ThreadPoolExecutor(32) as pool:
        found = list(pool.map(lambda file: site.search(file, top_k=1), files))
    assert [paths(each)[0] for each in found] == [file.relative_to(tree).as_posix() for file in files]


class SlowPictures(http.server.BaseHTTPRequestHandler):
    """Sends a picture, but not before it may."""

    asked = threading.Semaphore(0)
    may_answer = threading.Event()

    def do_GET(self) -> None:
        self.asked.release()
        assert self.may_answer.wait(60)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(png(Image.new("RGB", (20, 16), "red")))

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def slow_url() -> Iterator[str]:
    SlowPictures.asked, SlowPictures.may_answer = threading.Semaphore(0), threading.Event()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), SlowPictures) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/red.png"
        SlowPictures.may_answer.set()
        server.shutdown()


def test_a_flood_is_turned_away_politely_and_the_server_goes_on(
    networks: Path, tree: Path, tmp_path: Path, slow_url: str
) -> None:
    flood = MOST_IN_HAND + 22
    limits = httpx.Limits(max_connections=flood)
    with (
        serving(loaded_home(tmp_path, networks, tree), "--allow-private-urls") as site,
        httpx.Client(base_url=site.url, timeout=60, limits=limits, trust_env=False) as client,
        ThreadPoolExecutor(flood) as pool,
    ):

        def ask(number: int) -> httpx.Response:
            return client.post("/collections/colours/search", json={"url": f"{slow_url}?{number}", "top_k": 1})

        asked = [pool.submit(ask, number) for number in range(flood)]
        turned_away = [each.result() for each in itertools.islice(as_completed(asked), 22)]
        for answer in [*turned_away, site.search(tree / "red/red_0.png", top_k=1)]:
            assert int(answer.headers["retry-after"]) >= 1
            assert "try again in a moment" in refused(answer, 503)
        assert site.client.get("/health").status_code == 200
        SlowPictures.may_answer.set()
        answered = [each.result() for each in asked if each.result() not in turned_away]
        assert [paths(each) for each in answered] == [["red/red_0.png"]] * MOST_IN_HAND
        assert paths(site.search(tree / "blue/blue_0.png", top_k=1)) == ["blue/blue_0.png"]


def test_slow_addresses_keep_nobody_else_waiting_and_a_stop_answers_them(
    networks: Path, tree: Path, tmp_path: Path, slow_url: str
) -> None:
    own = loaded_home(tmp_path, networks, tree)
    with serving(own, "--allow-private-urls") as site, ThreadPoolExecutor(30) as pool:
        slow = [pool.submit(site.ask, {"url": f"{slow_url}?{number}", "top_k": 1}) for number in range(30)]
        for _ in range(16):  # as many as are fetched at once
            assert SlowPictures.asked.acquire(timeout=30)
        assert not SlowPictures.asked.acquire(blocking=False)
        assert paths(site.search(tree / "blue/blue_0.png", top_k=1)) == ["blue/blue_0.png"]
        assert paths(site.ask({"id": id_of(own, "red/red_0.png"), "top_k": 1})) == ["red/red_0.png"]
        assert site.client.get("/health").status_code == 200
        assert not any(each.done() for each in slow)
        site.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        SlowPictures.may_answer.set()
        assert [paths(each.result()) for each in slow] == [["red/red_0.png"]] * 30
        assert site.process.wait(30) == 0
        assert "Traceback" not in site.log.read_text()
    assert run_lookalike(own, "info", "colours").returncode == 0  # The database is free again.


def test_ctrl_c_is_a_good_end(home: Path, networks: Path, tree: Path, tmp_path: Path) -> None:
    with serving(loaded_home(tmp_path, networks, tree)) as site:
        assert site.stop(signal.SIGINT) == 0
        assert "Traceback" not in site.log.read_text()


def test_what_cannot_be_served_is_said(lite_site: Site, home: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    missing = run_lookalike(empty, "serve")
    assert (missing.returncode, "`lookalike load DIR` makes the first" in missing.stderr) == (2, True)
    locked = run_lookalike(home, "serve")
    assert (locked.returncode, "is open in another process" in locked.stderr) == (1, True)
    several = run_lookalike(empty, "serve", "--workers", "2")
    assert (several.returncode, "leave out --workers, or set MILVUS_URI" in several.stderr) == (2, True)


def test_a_port_that_is_taken_is_said(home: Path, networks: Path, tree: Path, tmp_path: Path) -> None:
    own = loaded_home(tmp_path, networks, tree)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = run_lookalike(own, "serve", "--port", port)
    assert result.returncode == 1
    assert f"Port {port} of 127.0.0.1 cannot be listened at: Address already in use; say another" in result.stderr
    unknown = run_lookalike(own, "serve", "--collection", "cats")
    assert (unknown.returncode, "no collection 'cats'; there are: colours" in unknown.stderr) == (2, True)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--token", " "], "--token is empty"),
        (["--cors-origin", "*"], "'*' is no origin"),
        (["--cors-origin", "shop.example"], "'shop.example' is no origin"),
        (["--cors-origin", "https://shop.example/page"], "is no origin"),
    ],
)
def test_options_that_would_leave_a_door_open_are_refused(tmp_path: Path, options: list[str], sentence: str) -> None:
    result = run_lookalike(tmp_path / "none", "serve", *options)
    assert (result.returncode, sentence in result.stderr) == (2, True), result.stderr


@pytest.mark.parametrize("workers", [1, 2])
def test_a_start_that_fails_is_no_good_end(workers: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(serve, "_check", lambda *_: None)  # As if Milvus had gone just after it.
    settings = Settings(home=tmp_path, milvus_uri="http://127.0.0.1:1")
    with pytest.raises(LookalikeError, match="The server did not start"):
        serve.run(port=0, workers=workers, settings=settings)


def test_settings_reach_the_servers_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(
        home=Path("/some/where"),
        allow_private_urls=True,
        api_token="secret",
        upload_max_bytes=5,
        cors_origins="https://a",
    )
    assert Settings.load(settings.environment()) == settings
    assert Settings.load(Settings().environment()) == Settings()
    assert set(settings.environment()) == set(ENVIRONMENT_VARIABLES.values())


def test_vectors_of_any_length_find_by_their_direction(lite_site: Site) -> None:
    direction = np.random.default_rng(0).standard_normal(1280)
    short, long = (lite_site.ask({"vector": (factor * direction).tolist()}) for factor in (0.01, 100))
    assert paths(short) == paths(long)


def test_two_processes_add_and_remove(milvus_server: str, networks: Path, tmp_path: Path, server_site: Site) -> None:
    del server_site  # which holds a collection of this name until here
    server = {"MILVUS_URI": milvus_server, "LOOKALIKE_API_TOKEN": "secret"}
    tree = draw_colours(tmp_path / "more")
    home = tmp_path / "home"
    options = ["--collection", "more", "--backbone", "mobilenetv2", "--weights", "random"]
    (home).mkdir()
    (home / "networks").symlink_to(networks)
    assert run_lookalike(home, "load", tree, *options, **server).returncode == 0
    with serving(home, "--workers", "2", **server) as site:
        site.client.headers["Authorization"] = "Bearer secret"

        def persistently(method: str, where: str, **request: Any) -> httpx.Response:
            for _ in range(100):
                with httpx.Client(base_url=site.url, headers=site.client.headers, trust_env=False) as client:
                    answer = client.request(method, where, timeout=60, **request)
                if answer.status_code != 503:
                    return answer
                time.sleep(0.1)
            raise TimeoutError(answer.text)

        def add(number: int) -> str:
            picture = png(Image.effect_noise((40 + number, 30), 50 + 20 * number).convert("RGB"))
            made = persistently(
                "POST", "/collections/more/items", files={"file": picture}, data={"path": f"new/{number}.png"}
            )
            assert made.status_code == 201, made.text
            return str(made.json()["items"][0]["id"])

        with ThreadPoolExecutor(6) as pool:
            ids = list(pool.map(add, range(6)))
        for id in ids:
            for _ in range(8):  # by either process
                assert persistently("GET", f"/items/{id}/thumbnail?collection=more").status_code == 200
        assert persistently("DELETE", f"/collections/more/items/{ids[0]}").status_code == 204
        assert site.stop(signal.SIGINT) == 0
    client = connect(milvus_server)
    assert count_items(client, "more") == 20
    assert len((home / "more.csv").read_text().splitlines()) == 21
    client.drop_collection("more")


def test_milvus_goes_and_comes_back(milvus_server_process: Server, tree: Path, server_site: Site) -> None:
    assert paths(server_site.search(tree / "red/red_0.png", top_k=1)) == ["red/red_0.png"]
    milvus_server_process.kill()
    assert "Milvus does not answer" in refused(server_site.client.get("/health"), 503)
    assert "Milvus does not answer" in refused(server_site.search(tree / "red/red_0.png"), 503)
    milvus_server_process.start()
    for _ in range(120):
        answer = server_site.search(tree / "red/red_0.png", top_k=1)
        if answer.status_code == 200:
            break
        refused(answer, 503)
        time.sleep(1)
    assert paths(answer) == ["red/red_0.png"]
    assert server_site.client.get("/health").status_code == 200
