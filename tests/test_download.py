"""Fetching images from URLs, against a real HTTP server on this machine."""

from __future__ import annotations

import http.server
import io
import threading
import time
from collections.abc import Iterator

import pytest
from PIL import Image

from utilities.download import download, is_url
from utilities.errors import DownloadFailed, ImageTooLarge, UnreadableImage
from utilities.image_files import open_image
from utilities.settings import Settings


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (5, 3), "red").save(file, "PNG")
    return file.getvalue()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        route = self.path.removeprefix("/")
        if route == "moved":
            self.send_response(302)
            self.send_header("Location", "/image.png")
            self.end_headers()
        elif route == "loop":
            self.send_response(302)
            self.send_header("Location", "/loop")
            self.end_headers()
        elif route in ("image.png", "text.png", "large.png"):
            body = {"image.png": png(), "text.png": b"<html>", "large.png": bytes(200_000)}[route]
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        elif route == "drip":  # a byte now and then: each read is in time, the whole is not
            self.send_response(200)
            self.end_headers()
            for _ in range(50):
                time.sleep(0.1)
                self.wfile.write(b"x")
        elif route == "hang":
            time.sleep(3)
        else:
            self.send_error(404)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_is_url() -> None:
    assert is_url("http://a/b.jpg")
    assert is_url("HTTPS://a/b.jpg")
    assert not is_url("ftp://a/b.jpg")
    assert not is_url("httpx.jpg")


@pytest.mark.parametrize("route", ["image.png", "moved"])
def test_an_image_is_fetched_through_redirects(site: str, route: str) -> None:
    assert open_image(f"{site}/{route}").size == (5, 3)


@pytest.mark.parametrize(
    ("route", "sentence"),
    [("nothing", "answered 404 Not Found"), ("loop", "could not be fetched: .*redirects")],
)
def test_an_answer_that_is_no_success(site: str, route: str, sentence: str) -> None:
    with pytest.raises(DownloadFailed, match=sentence):
        download(f"{site}/{route}", Settings())


def test_a_page_that_is_no_image(site: str) -> None:
    with pytest.raises(UnreadableImage, match=r"text\.png is not an image"):
        open_image(f"{site}/text.png")


def test_too_large(site: str) -> None:
    with pytest.raises(ImageTooLarge, match="larger than the limit of 100,000 bytes"):
        download(f"{site}/large.png", Settings(download_max_bytes=100_000))


@pytest.mark.parametrize("route", ["hang", "drip"])
def test_too_slow(site: str, route: str) -> None:
    with pytest.raises(DownloadFailed, match=r"within 0\.5 seconds"):
        download(f"{site}/{route}", Settings(download_timeout_seconds=0.5))


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x.jpg", "http://no.such.host.invalid/x.jpg", "http://[::1/x.jpg"])
def test_no_server_there(url: str) -> None:
    with pytest.raises(DownloadFailed, match="could not be fetched"):
        download(url, Settings())
