"""Fetch an image from a URL, within limits of size and time."""

from __future__ import annotations

import time

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
    import httpx

    deadline = time.monotonic() + settings.download_timeout_seconds
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
                if time.monotonic() > deadline:
                    raise httpx.ReadTimeout("the whole download took too long")
    except httpx.TimeoutException as error:
        raise DownloadFailed(
            f"{url} did not deliver within {settings.download_timeout_seconds:g} seconds; "
            "set LOOKALIKE_DOWNLOAD_TIMEOUT to wait longer."
        ) from error
    except httpx.HTTPStatusError as error:
        raise DownloadFailed(f"{url} answered {error.response.status_code} {error.response.reason_phrase}.") from error
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        raise DownloadFailed(f"{url} could not be fetched: {str(error).rstrip('.')}.") from error
    return bytes(body)
