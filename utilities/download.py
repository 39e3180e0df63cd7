"""Fetch an image from a URL, within limits of size and time, and not from where only this machine can reach."""

from __future__ import annotations

import ipaddress
import queue
import re
import socket
import threading
import time
from typing import TYPE_CHECKING

from utilities.errors import DownloadFailed, ImageTooLarge
from utilities.settings import Settings

if TYPE_CHECKING:
    import httpx

MAX_REDIRECTS = 5


def is_url(text: str) -> bool:
    """Whether a text is an address rather than a path; one that is not of the web is refused where it is fetched."""
    return re.match(r"[a-z][a-z0-9+.-]*://", text, re.IGNORECASE) is not None


def download(url: str, settings: Settings) -> bytes:
    """The body at a URL; redirects are followed, up to `MAX_REDIRECTS`.

    Unless `settings.allow_private_urls`, the names of the URL and of every redirect are resolved here, refused where
    they lead to this machine, its private network or another address that is not public, and connected to at the very
    address that was checked; proxies of the environment, which would resolve them anew, are not asked.

    Raises:
        DownloadFailed: an address that is not public, no answer within `settings.download_timeout_seconds`, or an
            answer other than success.
        ImageTooLarge: a body of more than `settings.download_max_bytes`.
    """
    result: queue.Queue[bytes | Exception] = queue.Queue()

    def fetch() -> None:
        try:
            result.put(_fetch(url, settings))
        except Exception as error:
            result.put(error)

    # httpx limits each step of a request but not the whole, so the whole is waited for from outside.
    threading.Thread(target=fetch, daemon=True).start()
    try:
        outcome = result.get(timeout=settings.download_timeout_seconds)
    except queue.Empty:
        raise _too_slow(url, settings) from None
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _fetch(url: str, settings: Settings) -> bytes:
    import httpx

    deadline = time.monotonic() + settings.download_timeout_seconds

    try:
        with httpx.Client(
            timeout=settings.download_timeout_seconds,
            headers={"User-Agent": "lookalike"},
            trust_env=settings.allow_private_urls,
            verify=httpx.create_ssl_context(),  # which trusts whom the environment says, in either case
        ) as client:
            address = httpx.URL(url)
            for _ in range(1 + MAX_REDIRECTS):
                if address.scheme not in ("http", "https"):
                    raise DownloadFailed(f"{url} leads to {address}, which is no http:// or https:// address.")
                response = _send(client, address, settings)
                try:
                    if not response.has_redirect_location:
                        response.raise_for_status()
                        return _body(response, url, settings, deadline)
                finally:
                    response.close()
                address = address.join(response.headers["Location"])
    except httpx.TimeoutException as error:
        raise _too_slow(url, settings) from error
    except httpx.HTTPStatusError as error:
        raise DownloadFailed(f"{url} answered {error.response.status_code} {error.response.reason_phrase}.") from error
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        raise DownloadFailed(f"{url} could not be fetched: {str(error).rstrip('.')}.") from error
    raise DownloadFailed(f"{url} redirects more than {MAX_REDIRECTS} times.")


def _send(client: httpx.Client, url: httpx.URL, settings: Settings) -> httpx.Response:
    """Ask one address; of a public one by the number that was found fit, while header and certificate keep the name."""
    import httpx

    request = client.build_request("GET", url)
    if settings.allow_private_urls:
        return client.send(request, stream=True)
    host = url.raw_host.decode("ascii")
    *others, last = _public_addresses(url, host)
    request.extensions["sni_hostname"] = host
    for address in others:
        request.url = url.copy_with(host=address)
        try:
            return client.send(request, stream=True)
        except httpx.ConnectError:
            continue
    request.url = url.copy_with(host=last)
    return client.send(request, stream=True)


def _public_addresses(url: httpx.URL, host: str) -> list[str]:
    try:
        found = socket.getaddrinfo(host.strip("[]"), url.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise DownloadFailed(f"{url} could not be fetched: there is no host {host!r}.") from error
    addresses = [str(each[4][0]) for each in found]
    for address in addresses:
        if not _is_public(address):
            raise DownloadFailed(
                f"{url} leads to {address}, which is no public address; allow that with --allow-private-urls or "
                "LOOKALIKE_ALLOW_PRIVATE_URLS=yes."
            )
    return addresses


def _is_public(address: str) -> bool:
    """Whether an IP address is one of the internet's, also where it wraps one of version 4 (RFC 4291, 6052, 3056)."""
    found = ipaddress.ip_address(address.split("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        wrapped = found.ipv4_mapped or found.sixtofour
        if found in ipaddress.ip_network("64:ff9b::/96"):
            wrapped = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if wrapped:
            return _is_public(str(wrapped))
        if found not in ipaddress.ip_network("2000::/3"):  # All that is assigned to the internet so far (RFC 4291).
            return False
    return found.is_global and not found.is_multicast


def _body(response: httpx.Response, url: str, settings: Settings, deadline: float) -> bytes:
    body = bytearray()
    for chunk in response.iter_bytes():
        if time.monotonic() > deadline:  # Nobody waits for the rest any more.
            raise _too_slow(url, settings)
        body += chunk
        if len(body) > settings.download_max_bytes:
            raise ImageTooLarge(
                f"{url} is larger than the limit of {settings.download_max_bytes:,} bytes; "
                "set LOOKALIKE_DOWNLOAD_MAX_BYTES to allow more."
            )
    return bytes(body)


def _too_slow(url: str, settings: Settings) -> DownloadFailed:
    return DownloadFailed(
        f"{url} did not deliver within {settings.download_timeout_seconds:g} seconds; "
        "set LOOKALIKE_DOWNLOAD_TIMEOUT to wait longer."
    )
