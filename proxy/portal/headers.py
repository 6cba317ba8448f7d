"""What stands around every answer: headers that browsers obey, and the bound of what may be sent."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["MAX_FORM", "MAX_UPLOAD", "BodyBounds", "SecurityHeaders"]

MAX_UPLOAD = 20 * 1024 * 1024
MAX_FORM = 256 * 1024
_ROOM_AROUND_FILE = 16 * 1024
_DRAINED = 256 * 1024 * 1024
"""So much of what is too large is read and dropped: a browser shows no answer before it could send all."""

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",  # the style sheet's arrows and ticks are data: images
        "media-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)


class SecurityHeaders:
    """Adds the headers to every answer, errors included."""

    def __init__(self, app: ASGIApp, *, https: bool) -> None:
        self._app = app
        self._headers = {
            "content-security-policy": _POLICY,
            "x-content-type-options": "nosniff",
            "x-frame-options": "DENY",
            "referrer-policy": "same-origin",
            "cross-origin-opener-policy": "same-origin",
            "cross-origin-resource-policy": "same-origin",
            "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
        }
        if https:
            self._headers["strict-transport-security"] = "max-age=31536000"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        await self._app(scope, receive, send_with_headers)


class BodyBounds:
    """Refuses what is too large before anything looks at it: marks the request, whose body is then empty."""

    def __init__(self, app: ASGIApp, *, upload_paths: frozenset[str]) -> None:
        self._app = app
        self._upload_paths = upload_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        if b"transfer-encoding" in headers or not length.isdigit():
            await PlainTextResponse("Length Required", 411)(scope, receive, send)
            return
        most = MAX_UPLOAD + _ROOM_AROUND_FILE if scope["path"] in self._upload_paths else MAX_FORM
        if int(length) <= most:
            await self._app(scope, receive, send)
            return
        await _drop_body(receive)
        scope.setdefault("state", {})["too_large"] = True
        await self._app(
            {**scope, "method": "GET", "path": "/too-large", "raw_path": b"/too-large"}, receive, send
        )


async def _drop_body(receive: Receive) -> None:
    dropped, more = 0, True
    while more and dropped <= _DRAINED:
        message = await receive()
        dropped += len(message.get("body", b""))
        more = message["type"] == "http.request" and message.get("more_body", False)
