"""Bodies of messages and the session description within them: RFC 3261 §7.4, RFC 2046 §5.1, RFC 5621.

Most bodies are one description. Some INVITEs carry it as one part of several (location beside SDP in an
emergency call, RFC 6442 §3.3; ISUP beside SDP from a carrier), and some carry no description at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from proxy.sip.message import Message

__all__ = ["session_description", "with_description"]

_DEPTH: Final = 3
_PARTS: Final = 16
"""How deep and how wide bodies are looked through; a call's body has two or three parts."""
_SDP: Final = "application/sdp"
_DESCRIBING: Final = ("Content-Type", "Content-Disposition", "Content-ID", "Content-Language")
"""Headers of a message that describe its body, and go with it when it becomes a part."""


class _Part(NamedTuple):
    """One part of a multipart body."""

    head: bytes
    """Its header lines as they came, without the empty line."""
    content_type: str
    disposition: str | None
    content: bytes

    @property
    def media_type(self) -> str:
        """Media type in lower case, without parameters."""
        return self.content_type.partition(";")[0].strip().lower()

    @property
    def is_required(self) -> bool:
        """Who does not understand it has to refuse the message (RFC 5621 §8.1)."""
        return "handling=optional" not in (self.disposition or "").lower().replace(" ", "")

    @property
    def is_description(self) -> bool:
        """It is the SDP of the session."""
        return self.media_type == _SDP and _is_session(self.disposition)


def session_description(message: Message) -> bytes:
    """Return the SDP of a message, or b"" when its body holds none (RFC 5621 §8.2).

    A body without Content-Type is taken for SDP: some peers leave it out of responses.
    """
    body = message.body
    if not body:
        return b""
    media_type = message.content_type
    if not media_type or media_type == _SDP:
        return body if _is_session(message.headers.get("Content-Disposition")) else b""
    return _description_of(_parts(body, message.headers.get("Content-Type") or ""), _DEPTH)


def with_description(
    message: Message, description: bytes, keep: Callable[[str, bool], bool]
) -> tuple[str, bytes]:
    """Return Content-Type and body of a message that says ``description`` where ``message`` has its own.

    The other parts of its body follow, each as it came, if ``keep`` wants them: it gets the media type in
    lower case and whether who does not understand the part has to refuse the message. With none of them the
    description is the whole body.
    """
    content_type = message.headers.get("Content-Type") or ""
    if not message.body or not content_type or message.content_type == _SDP:
        return _SDP, description
    others = [part for part in _top_parts(message, content_type) if keep(part.media_type, part.is_required)]
    if not others:
        return _SDP, description
    boundary = b"tollgate"
    while any(b"--" + boundary in part.content for part in others):
        boundary += b"-"
    pieces = [part.head + b"\r\n\r\n" + part.content for part in others]
    if description:
        pieces.insert(0, b"Content-Type: application/sdp\r\n\r\n" + description)
    delimiter = b"\r\n--" + boundary
    body = b"".join([delimiter + b"\r\n" + piece for piece in pieces]) + delimiter + b"--\r\n"
    return f"multipart/mixed;boundary={boundary.decode()}", body[2:]


def _top_parts(message: Message, content_type: str) -> list[_Part]:
    """Return the parts of a body without the one that holds the description; of another body, itself."""
    if message.content_type.startswith("multipart/"):
        return [part for part in _parts(message.body, content_type) if not _describes(part)]
    headers = message.headers
    head = "\r\n".join([f"{name}: {value}" for name in _DESCRIBING if (value := headers.get(name))])
    whole = _Part(
        head.encode("utf-8", "surrogateescape"),
        content_type,
        headers.get("Content-Disposition"),
        message.body,
    )
    return [] if "Content-Encoding" in headers else [whole]


def _describes(part: _Part) -> bool:
    return part.is_description or bool(_description_of(_parts(part.content, part.content_type), _DEPTH - 1))


def _is_session(disposition: str | None) -> bool:
    """Say whether a disposition means the session itself: not early-session (RFC 3959) or a preview."""
    return disposition is None or disposition.partition(";")[0].strip().lower() == "session"


def _description_of(parts: list[_Part], depth: int) -> bytes:
    for part in parts:
        if part.is_description:
            return part.content
        inner = _description_of(_parts(part.content, part.content_type), depth - 1) if depth > 1 else b""
        if inner:
            return inner
    return b""


def _parts(body: bytes, content_type: str) -> list[_Part]:
    """Return the parts of a multipart body (RFC 2046 §5.1.1); those without headers are text and left out."""
    media_type, _, params = content_type.partition(";")
    if not media_type.strip().lower().startswith("multipart/"):
        return []
    boundary = _boundary(params)
    if not boundary:
        return []
    # Every delimiter begins a line, the first one of the body included.
    delimiter = b"\r\n--" + boundary.encode("utf-8", "surrogateescape")
    parts: list[_Part] = []
    for piece in (b"\r\n" + body).split(delimiter, _PARTS + 1)[1 : _PARTS + 1]:
        if piece.startswith(b"--"):
            break  # what follows the last delimiter is no part
        _, _, part = piece.partition(b"\r\n")  # the delimiter line may end with blanks
        if part.startswith(b"\r\n"):
            continue
        head, _, content = part.partition(b"\r\n\r\n")
        fields = _fields(head)
        parts.append(_Part(head, fields.get("content-type", ""), fields.get("content-disposition"), content))
    return parts


def _boundary(params: str) -> str:
    for param in params.split(";"):
        name, _, value = param.partition("=")
        if name.strip().lower() == "boundary":
            return value.strip().strip('"')
    return ""


def _fields(head: bytes) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in head.decode("utf-8", "surrogateescape").split("\r\n"):
        name, _, value = line.partition(":")
        fields[name.strip().lower()] = value.strip()
    return fields
