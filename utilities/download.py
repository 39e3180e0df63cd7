"""Fetch an image from a URL, within limits of size and time."""

from __future__ import annotations

import queue
import threading

from utilities.errors import DownloadFailed, ImageTooLarge
from utilities.settings import Settings


def is_url(text: str) -> bool:
    """Whether a text is an address to fetch rather than a path."""
    return text.lower().startswith(("http://", "https://"))


def download(url: str, settings: Settings) -> bytes:
    """The body at a URL; redirects are followed, up to five.

    Raises:
        DownloadFailed: no answer within `settings.download_timeout_seconds`, or an answer other than success.
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

    body = bytearray()
    try:
        with (
            httpx.Client(
                timeout=settings.download_timeout_seconds,
                follow_redirects=True,
                max_redirects=5,
                headers={"User-Agent": "lookalike"},
            ) as client,
            client.stream("GET", url) as response,
        ):
            response.raise_for_status()
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > settings.download_max_bytes:
                    raise ImageTooLarge(
                        f"{url} is larger than the limit of {settings.download_max_bytes:,} bytes; "
                        "set LOOKALIKE_DOWNLOAD_MAX_BYTES to allow more."
                    )
    except httpx.TimeoutException as error:
        raise _too_slow(url, settings) from error
    except httpx.HTTPStatusError as error:
        raise DownloadFailed(f"{url} answered {error.response.status_code} {error.response.reason_phrase}.") from error
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        raise DownloadFailed(f"{url} could not be fetched: {str(error).rstrip('.')}.") from error
    return bytes(body)


def _too_slow(url: str, settings: Settings) -> DownloadFailed:
    return DownloadFailed(
        f"{url} did not deliver within {settings.download_timeout_seconds:g} seconds; "
        "set LOOKALIKE_DOWNLOAD_TIMEOUT to wait longer."
    )
