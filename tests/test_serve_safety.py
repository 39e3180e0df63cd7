"""Who may ask, what is refused, and that the server goes on answering."""

from __future__ import annotations

import base64
import contextlib
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.conftest import draw_colours
from tests.serving import Site, loaded_home, serving
from tests.test_serve import paths, png, refused

LARGEST_UPLOAD = 100_000


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, networks: Path) -> Path:
    folder = tmp_path_factory.mktemp("safe")
    return loaded_home(folder, networks, draw_colours(folder / "colours"))


@pytest.fixture(scope="module")
def site(home: Path) -> Iterator[Site]:
    with serving(home, LOOKALIKE_UPLOAD_MAX_BYTES=str(LARGEST_UPLOAD)) as site:
        yield site


@pytest.fixture
def picture() -> bytes:
    return png(Image.new("RGB", (20, 16), "red"))


def test_what_every_answer_says_to_browsers(site: Site) -> None:
    for path in (
        "/",
        "/collections",
        "/nothing",
        "/static/main.js",
        "/static/bootstrap/css/bootstrap.min.css",
        "/docs",
    ):
        headers = site.client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert ("'unsafe-inline'" in policy) == (path == "/docs")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "localhost.evil.example", "[::2]", "[", ""])
def test_other_names_of_this_machine_are_not_answered(site: Site, host: str) -> None:
    answer = site.client.get("/collections", headers={"Host": host})
    assert "answers to localhost only" in refused(answer, 421)
    for name in ("localhost", "127.0.0.1:99", "[::1]:8000", "LOCALHOST"):
        assert site.client.get("/collections", headers={"Host": name}).status_code == 200


def test_pages_elsewhere_may_not_ask(site: Site, picture: bytes) -> None:
    preflight = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    assert "Pages of other origins" in refused(
        site.client.options("/collections/colours/search", headers=preflight), 403
    )
    for origin in ("https://evil.example", "null", "http://localhost:1", "http://[", "x"):
        answer = site.client.post("/collections/colours/search", files={"file": picture}, headers={"Origin": origin})
        assert "Pages of other origins may not use this server" in refused(answer, 403)
    own = site.client.post("/collections/colours/search", files={"file": picture}, headers={"Origin": site.url})
    assert own.status_code == 200


def test_without_a_token_nobody_changes_anything(site: Site, picture: bytes) -> None:
    where = "/collections/colours/items"
    for answer in (
        site.client.post(where, files={"file": picture}, data={"path": "x.png"}),
        site.client.post(where, json={"path": "red/red_0.png"}),
        site.client.delete(f"{where}/1"),
    ):
        assert "start the server with --token" in refused(answer, 403)


@pytest.fixture
def guarded(networks: Path, tmp_path: Path) -> Iterator[Site]:
    home = loaded_home(tmp_path, networks, draw_colours(tmp_path / "colours"))
    options = [
        "--token",
        "sécret",
        "--cors-origin",
        "https://shop.example",
        "--cors-origin",
        "http://other.example:81/",
    ]
    with serving(home, *options, "--allow-private-urls", "--host", "0.0.0.0") as site:
        yield site


def test_a_token_is_asked_of_everyone(guarded: Site, picture: bytes) -> None:
    client, token = guarded.client, "sécret".encode()
    assert client.get("/health").status_code == 200
    password = base64.b64encode(b"anyone:" + token).decode()
    wrong = base64.b64encode(b"anyone:wrong").decode()
    for path in ("/", "/collections", "/docs", "/openapi.json", "/metrics", "/static/main.js", "/items/1/image"):
        bare = client.get(path)
        assert "asks for its token" in refused(bare, 401)
        assert bare.headers["www-authenticate"].startswith("Basic realm=")
        for given in (b"Bearer wrong", b"Bearer", b"Basic !", f"Basic {wrong}".encode(), token, b"Digest " + token):
            refused(client.get(path, headers={b"Authorization": given}), 401)
    for given in (b"Bearer " + token, b"bearer  " + token, f"Basic {password}".encode()):
        assert client.get("/collections", headers={b"Authorization": given}).status_code == 200


def test_pages_that_were_named_may_ask(guarded: Site, picture: bytes) -> None:
    for origin in ("https://shop.example", "http://other.example:81"):
        preflight = {
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization",
        }
        allowed = guarded.client.options("/collections/colours/search", headers=preflight)
        assert allowed.headers["access-control-allow-origin"] == origin
        headers = {b"Origin": origin.encode(), b"Authorization": "Bearer sécret".encode()}
        found = guarded.client.post("/collections/colours/search", files={"file": picture}, headers=headers)
        assert found.status_code == 200
        assert found.headers["access-control-allow-origin"] == origin
        refusal = guarded.client.get("/collections", headers={"Origin": origin})
        assert refusal.headers["access-control-allow-origin"] == origin  # so that the page can read why
    assert guarded.client.get("/health", headers={"Host": "photos.lan:8000"}).status_code == 200


def test_private_addresses_are_asked_where_that_is_allowed(guarded: Site, tmp_path: Path) -> None:
    Image.new("RGB", (20, 16), "blue").save(tmp_path / "blue.png")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(tmp_path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        guarded.client.headers["Authorization"] = (
            base64.b64encode(b":" + "sécret".encode()).decode().join(["Basic ", ""])
        )
        url = f"http://127.0.0.1:{port}/blue.png"
        for _ in range(50):
            found = guarded.ask({"url": url, "top_k": 1})
            if found.status_code == 200:
                break
        assert (paths(found), found.json()["query"]) == (["blue/blue_0.png"], url)
        assert guarded.client.post("/preview", json={"url": url}).headers["content-type"] == "image/jpeg"
    finally:
        server.kill()
        server.wait()


def test_an_upload_over_the_limit_is_refused(site: Site) -> None:
    large = b"x" * 700_000
    assert "and this server takes up to 165,536; LOOKALIKE_UPLOAD_MAX_BYTES allows" in refused(site.search(large), 413)
    with contextlib.suppress(httpx.WriteError):  # It hangs up on one that does not say how much will come.
        stream = site.client.post(
            "/collections/colours/search",
            content=iter([b'--x\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n', *[large] * 2]),
            headers={"content-type": "multipart/form-data; boundary=x"},
        )
        assert "LOOKALIKE_UPLOAD_MAX_BYTES" in refused(stream, 413)
    giant = png(Image.new("1", (12_000, 12_000)))
    assert len(giant) < LARGEST_UPLOAD
    assert "has 144,000,000 pixels, more than the limit of 89,478,485" in refused(site.search(giant), 413)


def test_a_thousand_hostile_requests_are_refused_and_the_server_goes_on(site: Site, picture: bytes) -> None:
    chance = random.Random(0)
    assert paths(site.search(picture, top_k=1)) == ["red/red_0.png"]
    for _ in range(1_000):
        _send(site, _hostile(chance, picture))
    assert paths(site.search(picture, top_k=1)) == ["red/red_0.png"]
    assert "Traceback" not in site.log.read_text()


def _hostile(chance: random.Random, picture: bytes) -> bytes:
    """One request that nobody means well with, from its first byte to its last, or less."""
    paths = [
        b"/../../etc/passwd", b"/static/..%2f..%2f..%2fetc%2fpasswd", b"/items/../../etc/passwd/image", b"//etc/passwd",
        b"/items/%00/image", b"/items/" + b"9" * 5_000 + b"/image", b"/collections/%ff%fe/search", b"/static/%00",
        b"/collections/..%2f..%2f/search", b"/collections/" + b"a" * 9_000, b"/items/1/image?collection=%00",
        b"/" + b"%" * 50, b"/collections/colours/search", b"/preview", b"/collections/colours/items", b"http://169.254.169.254/latest",
    ]  # fmt: skip
    random_bytes = chance.randbytes(chance.randrange(2_000))
    damaged = bytearray(picture)
    for _ in range(8):
        damaged[chance.randrange(len(damaged))] = chance.randrange(256)
    field = b'--x\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    file = field % (
        b"file",
        b'; filename="../../../etc/cron.d/%s\x00.png"' % random_bytes[:9].hex().encode(),
        bytes(damaged),
    )
    bodies = [
        (b"application/json", b"[" * 50_000),
        (b"application/json", b'{"id": ' + b"9" * 5_000 + b"}"),
        (b"application/json", b'{"vector": [1e999, NaN]}'),
        (b"application/json", b'{"url": "gopher://127.0.0.1:6379/_FLUSHALL"}'),
        (b"application/json", b'{"url": "http://[::1]:' + str(chance.randrange(1, 65_536)).encode() + b'/"}'),
        (b"application/json", b'{"id": 1, "filter": "' + b"(" * 5_000 + b'"}'),
        (b"application/json", random_bytes),
        (b"multipart/form-data; boundary=x", file + b"--x--\r\n"),
        (b"multipart/form-data; boundary=x", file + field % (b"filter", b"", b"id in [1] or \xff\x00") + b"--x--\r\n"),
        (b"multipart/form-data; boundary=x", field % (b"file", b'; filename="x"', random_bytes) + b"--x--\r\n"),
        (b"multipart/form-data; boundary=x", (field % (b"a", b"", b"b")) * 500),
        (b"multipart/form-data", random_bytes),
        (b"multipart/form-data; boundary=" + random_bytes[:60].hex().encode(), b"--" + random_bytes),
        (b"image/png\r\nContent-Length: 5", picture),
    ]
    kind, body = chance.choice(bodies)
    method = chance.choice([b"GET", b"POST", b"DELETE", b"PUT", b"TRACE", b"\x00"])
    headers = b"Host: localhost\r\nConnection: close\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n" % (
        kind,
        len(body),
    )
    request = b"%s %s HTTP/1.1\r\n%s%s" % (method, chance.choice(paths), headers, body)
    return request[: chance.randrange(1, len(request))] if chance.random() < 0.2 else request


def _send(site: Site, request: bytes) -> None:
    """Send it, and hold that the answer, if one comes, is no success with a secret and no failure of the server."""
    url = httpx.URL(site.url)
    with socket.create_connection((url.host, url.port), timeout=30) as connection:
        answer = b""
        try:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            while block := connection.recv(65_536):
                answer += block
        except ConnectionError:
            pass
    status = answer[9:12]
    assert b"root:x:0" not in answer
    assert not status.startswith(b"5") or status == b"503", (request[:300], answer[:600])


def test_whatever_the_documentation_allows_is_no_failure(guarded: Site, tmp_path: Path) -> None:
    """Schemathesis asks what the OpenAPI document says may be asked, and what it says may not."""
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    password = base64.b64encode(":sécret".encode()).decode()
    result = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            *("run", f"{guarded.url}/openapi.json", "--header", f"Authorization: Basic {password}", "--checks", checks),
            *("--phases", "examples,coverage,fuzzing", "--max-examples", "40", "--seed", "1", "--no-color"),
        ],
        capture_output=True,
        cwd=tmp_path,
        text=True,
        timeout=500,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-8_000:]
    assert "Tested: 11" in result.stdout
    assert "Unresolvable references" not in result.stdout
    assert guarded.client.get("/health").status_code == 200
