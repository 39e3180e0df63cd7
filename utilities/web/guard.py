"""Who may ask, and what a browser may do with the answer."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import re
from collections.abc import Collection
from http import HTTPStatus
from urllib.parse import urlsplit

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from utilities.errors import InvalidArgument
from utilities.web.problems import BUSY, problem_response

#: What the page may load: only what this server sends, and pictures that it has in memory.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; media-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
#: Swagger UI writes style attributes.
DOCS_POLICY = PAGE_POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
#: A picture that someone put into the tree is shown as one, and never run.
FILE_POLICY = "default-src 'none'; sandbox; frame-ancestors 'none'"
#: A video that is opened by itself is played by a page that the browser makes of it, and that fetches it from here once
#: more, which a page of no origin may not do. That page runs no script either.
VIDEO_POLICY = "default-src 'none'; media-src 'self'; sandbox allow-same-origin; frame-ancestors 'none'"

#: Answers without a token, so that whoever supervises the process need not have it.
OPEN = "/health"
#: Requests that are answered at once; of whoever comes then nothing is read.
MOST_REQUESTS = 256
#: How many times too large a request may be and still be told so, and the seconds that it may take.
MOST_READ_ON, SECONDS_TO_READ_ON = 8, 30


class Guard:
    """ASGI middleware that turns away whoever may not ask, and adds the headers that keep browsers careful."""

    def __init__(self, app: ASGIApp, token: str | None, origins: Collection[str], largest: int, *, host: str) -> None:
        """Guard an application.

        Args:
            app: what is guarded.
            token: what every request must carry; None to let everyone ask.
            origins: of pages elsewhere that may use the API.
            largest: bytes of a request. One that does not say how many it has is counted by FastAPI.
            host: where the server listens. If that is this machine alone, it answers to this machine's names only, so
                that no page can reach it under a name of its own that it lets resolve to 127.0.0.1 (DNS rebinding).
        """
        self.app, self.token, self.origins, self.largest = app, token, origins, largest
        self.hosts = {"127.0.0.1", "::1", "localhost", host.lower()} if is_loopback(host) else None
        self.in_hand = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_carefully(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers().items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope, Headers(scope=scope))
        if refusal is None:
            self.in_hand += 1
            try:
                await self.app(scope, receive, send_carefully)
            finally:
                self.in_hand -= 1
        else:
            status, detail = refusal
            if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                await _read_on(receive, most=MOST_READ_ON * self.largest)
            # A browser asks its user for the password, and sends it with every picture from then on.
            challenge = {"WWW-Authenticate": 'Basic realm="Lookalike: the token as password", charset="UTF-8"'}
            response = problem_response(status, detail, challenge if status == HTTPStatus.UNAUTHORIZED else None)
            await response(scope, receive, send_carefully)

    def _headers(self) -> dict[str, str]:
        return {
            "Content-Security-Policy": PAGE_POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            # A page elsewhere that may use the API shows its pictures by `<img crossorigin>`, which asks as CORS does.
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-store",
        }

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[HTTPStatus, str] | None:
        host = headers.get("host", "")
        if self.hosts is not None and _host_name(host) not in self.hosts:
            return HTTPStatus.MISDIRECTED_REQUEST, (
                "This server answers to localhost only; a proxy before it is to send `Host: localhost`, and another "
                "`--host` than this machine's has it answer to every name."
            )
        origin = headers.get("origin", "")
        own = bool(host) and origin.partition("://")[2].lower() == host.lower()
        if origin and not own and origin.lower() not in self.origins and scope["method"] not in ("GET", "HEAD"):
            return HTTPStatus.FORBIDDEN, (
                "Pages of other origins may not use this server; `lookalike serve --cors-origin` names who may."
            )
        if self.token and scope["path"] != OPEN and not _carries(headers.get("authorization", ""), self.token):
            return HTTPStatus.UNAUTHORIZED, (
                "This server asks for its token; send `Authorization: Bearer TOKEN`, or give it as the password."
            )
        if self.in_hand >= MOST_REQUESTS and scope["path"] != OPEN:
            return HTTPStatus.SERVICE_UNAVAILABLE, BUSY
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self.largest:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, (
                f"The upload has {int(length):,} bytes, and this server takes up to {self.largest:,}; "
                "LOOKALIKE_UPLOAD_MAX_BYTES allows more."
            )
        return None


async def _read_on(receive: Receive, most: int) -> None:
    """Take in what is still sent: a client that cannot send on sees a broken connection, and no answer."""
    seen = 0
    with anyio.move_on_after(SECONDS_TO_READ_ON):
        while seen < most:
            message = await receive()
            seen += len(message.get("body", b""))
            if not message.get("more_body"):
                return


def is_loopback(host: str) -> bool:
    """Whether an address to listen at is one that this machine alone can reach."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def parse_origins(text: str) -> list[str]:
    """Origins as browsers write them, from a list separated by commas.

    Raises:
        InvalidArgument: one of them is none.
    """
    origins = [origin.strip().rstrip("/").lower() for origin in text.split(",") if origin.strip()]
    for origin in origins:
        if not re.fullmatch(r"https?://[^/?#@\s*]+", origin):
            raise InvalidArgument(
                f"{origin!r} is no origin whose pages may use the API; give scheme and host, and the port if it has "
                "one, such as https://shop.example."
            )
    return origins


def _host_name(host: str) -> str | None:
    """The name in a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _carries(authorization: str, token: str) -> bool:
    """Whether a header holds the token, as a bearer token (RFC 6750) or as a password (RFC 7617)."""
    scheme, _, credentials = authorization.partition(" ")
    given = credentials.strip().encode("latin-1")
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(given, validate=True).partition(b":")[2]
        except binascii.Error:
            return False
    elif scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(given, token.encode())
