"""Fetching images from URLs, against a real HTTP server on this machine."""

from __future__ import annotations

import http.server
import io
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from PIL import Image

from utilities.download import _is_public, download, is_url
from utilities.errors import DownloadFailed, ImageTooLarge, UnreadableImage
from utilities.image_files import open_image
from utilities.settings import Settings


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (5, 3), "red").save(file, "PNG")
    return file.getvalue()


class Handler(http.server.BaseHTTPRequestHandler):
    server: http.server.HTTPServer

    def do_GET(self) -> None:
        route = self.path.removeprefix("/")
        if route == "moved":
            self.send_response(302)
            self.send_header("Location", "/image.png")
            self.end_headers()
        elif route == "elsewhere":
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.2:{self.server.server_port}/image.png")
            self.end_headers()
        elif route == "file":
            self.send_response(302)
            self.send_header("Location", "file:///etc/passwd")
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


#: Where the tests' own server lies.
HERE = Settings(allow_private_urls=True)


def test_is_url() -> None:
    assert is_url("http://a/b.jpg")
    assert is_url("HTTPS://a/b.jpg")
    assert is_url("ftp://a/b.jpg")
    assert not is_url("a/b://c.jpg")
    assert not is_url("httpx.jpg")


@pytest.mark.parametrize("route", ["image.png", "moved"])
def test_an_image_is_fetched_through_redirects(site: str, route: str) -> None:
    assert open_image(f"{site}/{route}", HERE).size == (5, 3)


@pytest.mark.parametrize("url", ["ftp://a/b.jpg", "file:///etc/passwd"])
def test_only_the_web_is_fetched_from(url: str) -> None:
    with pytest.raises(DownloadFailed, match="which is no http:// or https:// address"):
        open_image(url, HERE)


@pytest.mark.parametrize(
    ("route", "sentence"),
    [("nothing", "answered 404 Not Found"), ("loop", "redirects more than 5 times"), ("file", "is no http")],
)
def test_an_answer_that_is_no_success(site: str, route: str, sentence: str) -> None:
    with pytest.raises(DownloadFailed, match=sentence):
        download(f"{site}/{route}", HERE)


def test_a_page_that_is_no_image(site: str) -> None:
    with pytest.raises(UnreadableImage, match=r"text\.png is not an image"):
        open_image(f"{site}/text.png", HERE)


def test_too_large(site: str) -> None:
    with pytest.raises(ImageTooLarge, match="larger than the limit of 100,000 bytes"):
        download(f"{site}/large.png", replace(HERE, download_max_bytes=100_000))


@pytest.mark.parametrize("route", ["hang", "drip"])
def test_too_slow(site: str, route: str) -> None:
    with pytest.raises(DownloadFailed, match=r"within 0\.5 seconds"):
        download(f"{site}/{route}", replace(HERE, download_timeout_seconds=0.5))


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x.jpg", "http://no.such.host.invalid/x.jpg", "http://[::1/x.jpg"])
def test_no_server_there(url: str) -> None:
    with pytest.raises(DownloadFailed, match="could not be fetched"):
        download(url, HERE)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "2130706433",  # 127.0.0.1, as one number
        "0x7f.1",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",  # of a carrier's own network
        "169.254.169.254",  # where clouds keep a machine's credentials
        "224.0.0.1",
        "[::1]",
        "[::]",
        "[fe80::1]",
        "[fc00::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fec0::1]",
        "[::7f00:1]",
        "[::ffff:0:7f00:1]",
        "[64:ff9b:1::7f00:1]",
    ],
)
def test_what_only_this_machine_can_reach_is_refused_unasked(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("httpx.Client.send", lambda *_, **__: pytest.fail("asked"))
    with pytest.raises(DownloadFailed, match=r"is no public address; allow that with --allow-private-urls"):
        download(f"http://{host}:9/x.jpg", Settings())


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"])
def test_public_addresses(address: str) -> None:
    assert _is_public(address)


def test_every_redirect_is_checked(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("utilities.download._is_public", lambda address: address == "127.0.0.1")
    assert download(f"{site}/moved", Settings()) == png()
    with pytest.raises(DownloadFailed, match=r"127\.0\.0\.2.* is no public address"):
        download(f"{site}/elsewhere", Settings())


def test_the_address_that_was_checked_is_the_one_that_is_asked(
    site: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By name, over TLS: the name is resolved once, and the certificate is still that of the name."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    monkeypatch.setattr("utilities.download._is_public", lambda address: True)
    resolved: list[str] = []
    resolve = socket.getaddrinfo

    def to_this_machine(host: str, *arguments: Any, **options: Any) -> Any:
        resolved.append(host)
        return resolve("127.0.0.1", *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", to_this_machine)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("pictures.example").configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        assert download(f"https://pictures.example:{port}/moved", Settings()) == png()
        # The second of each pair is the connection's own look at the number, which is nobody's name.
        assert set(resolved) == {"pictures.example", "127.0.0.1"}
        with pytest.raises(DownloadFailed, match="certificate"):
            download(f"https://another.example:{port}/image.png", Settings())
        server.shutdown()
