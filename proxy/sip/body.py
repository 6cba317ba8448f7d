"""Bodies of messages and the session description within them: RFC 3261 §7.4, RFC 2046 §5.1, RFC 5621.

Most bodies are one description. Some INVITEs carry it as one part of several (location beside SDP in an
emergency call, RFC 6442 §3.3; ISUP beside SDP from a carrier), and some carry no description at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from proxy.errors import RemoteProtocolError
from proxy.sip.grammar import parse_params, unquote
from proxy.sip.message import Message

__all__ = ["session_description", "with_description"]

_DEPTH: Final = 3
_PARTS: Final = 16
"""How deep and how wide bodies are looked through; a call's body has two or three parts."""
_SDP: Final = "application/sdp"
_DESCRIBING: Final = ("Content-Type", "Content-Disposition", "Content-ID", "Content-Language")
"""Headers of a message that describe its body, and go with it when it becomes a part."""
_NAME: Final = r"[0-9a-z!#$%&'*+.^_`|~-]+"
_MEDIA_TYPE: Final = re.compile(rf"{_NAME}/{_NAME}")
_NO_MEANING: Final = re.compile(r"\([^()]*\)|\s")
"""Comments and blanks in a media type (RFC 2045 §5.1)."""


class _Part(NamedTuple):
    """One part of a multipart body."""

    head: bytes
    """Its header lines as they came, without the empty line."""
    content_type: str
    disposition: str | None
    content: bytes

    @property
    def media_type(self) -> str:
        """Media type in lower case, without parameters; "" for one that nobody can read."""
        media_type = _NO_MEANING.sub("", self.content_type.partition(";")[0]).lower()
        return media_type if _MEDIA_TYPE.fullmatch(media_type) else ""

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
    lower case and whether who does not understand the part has to refuse the message. Of a multipart among
    them that is not wanted as it is, each part is asked for. With no part kept the description is the whole
    body.
    """
    content_type = message.headers.get("Content-Type") or ""
    if not message.body or not content_type or message.content_type == _SDP:
        return _SDP, description
    others = list(_kept(_top_parts(message, content_type), keep, _DEPTH - 1))
    if not others:
        return _SDP, description
    boundary = b"tollgate"
    while any(b"--" + boundary in text for part in others for text in (part.head, part.content)):
        boundary += b"-"
    pieces = [part.head + b"\r\n\r\n" + part.content for part in others]
    if description:
        pieces.insert(0, b"Content-Type: application/sdp\r\n\r\n" + description)
    delimiter = b"\r\n--" + boundary
    body = b"".join([delimiter + b"\r\n" + piece for piece in pieces]) + delimiter + b"--\r\n"
    return f"multipart/mixed;boundary={boundary.decode()}", body[2:]


def _top_parts(message: Message, content_type: str) -> list[_Part]:
    """Return the parts of a body; of one that has none, the body itself."""
    if message.content_type.startswith("multipart/"):
        return _parts(message.body, content_type)
    headers = message.headers
    head = "\r\n".join([f"{name}: {value}" for name in _DESCRIBING if (value := headers.get(name))])
    whole = _Part(
        head.encode("utf-8", "surrogateescape"),
        content_type,
        headers.get("Content-Disposition"),
        message.body,
    )
    return [] if "Content-Encoding" in headers else [whole]


def _kept(parts: list[_Part], keep: Callable[[str, bool], bool], depth: int) -> Iterator[_Part]:
    """Return what is to be kept of these parts, without the description.

    What could be read in two ways, or not at all, stays behind: the receiver might read it in the other one.
    """
    for part in parts:
        media_type = part.media_type
        if not media_type or part.is_description:
            continue
        if not media_type.startswith("multipart/"):
            if keep(media_type, part.is_required):
                yield part
            continue
        inner = _parts(part.content, part.content_type)
        describes = bool(_description_of(inner, depth))
        if not describes and keep(media_type, part.is_required):
            yield part
        elif depth and not (describes and media_type == "multipart/alternative"):
            # The alternatives of a description go with it.
            yield from _kept(inner, keep, depth - 1)


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
        if fields is not None:
            kind = fields.get("content-type", "text/plain")
            parts.append(_Part(head, kind, fields.get("content-disposition"), content))
    return parts


def _boundary(params: str) -> str:
    try:
        return unquote(parse_params(params.rstrip("; \t")).get("boundary") or "")
    except RemoteProtocolError:
        return ""


def _fields(head: bytes) -> dict[str, str] | None:
    """Read the header lines of a part; None where they can be read in two ways."""
    text = head.decode("utf-8", "surrogateescape")
    fields: dict[str, str] = {}
    for line in re.sub(r"\r\n[ \t]+", " ", text).split("\r\n"):
        name, _, value = line.partition(":")
        name = name.strip().lower()
        name = "content-type" if name == "c" else name  # as SIP abbreviates it (RFC 3261 §7.3.3)
        if name in fields or "\r" in line or "\n" in line:
            return None
        fields[name] = value.strip()
    return fields
