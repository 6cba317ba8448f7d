"""The session description within a message's body: RFC 3261 §7.4, RFC 2046 §5.1, RFC 5621.

Most bodies are one description. Some INVITEs carry it as one part of several (location beside SDP in an
emergency call, RFC 6442 §3.3; ISUP beside SDP from a carrier), and some carry no description at all.
"""

from __future__ import annotations

from proxy.sip.message import Message

__all__ = ["session_description"]

_DEPTH = 3
_PARTS = 16
"""How deep and how wide bodies are looked through; a call's body has two or three parts."""


def session_description(message: Message) -> bytes:
    """Return the SDP of a message, or b"" when its body holds none (RFC 5621 §8.2).

    A body without Content-Type is taken for SDP: some peers leave it out of responses.
    """
    body = message.body
    if not body:
        return b""
    media_type = message.content_type
    if not media_type or media_type == "application/sdp":
        return body if _is_session(message.headers.get("Content-Disposition")) else b""
    return _of_multipart(body, message.headers.get("Content-Type") or "", _DEPTH)


def _is_session(disposition: str | None) -> bool:
    """Say whether a disposition means the session itself: not early-session (RFC 3959) or a preview."""
    return disposition is None or disposition.partition(";")[0].strip().lower() == "session"


def _of_multipart(body: bytes, content_type: str, depth: int) -> bytes:
    media_type, _, params = content_type.partition(";")
    if not depth or not media_type.strip().lower().startswith("multipart/"):
        return b""
    boundary = _boundary(params)
    if not boundary:
        return b""
    # Every delimiter begins a line, the first one of the body included (RFC 2046 §5.1.1).
    parts = (b"\r\n" + body).split(b"\r\n--" + boundary.encode("utf-8", "surrogateescape"), _PARTS)[1:]
    for part in parts:
        if part.startswith(b"--"):
            break  # what follows the last delimiter is no part
        _, _, part = part.partition(b"\r\n")  # noqa: PLW2901  (the delimiter line may end with blanks)
        if part.startswith(b"\r\n"):
            continue  # a part without headers is text
        head, _, content = part.partition(b"\r\n\r\n")
        fields = _fields(head)
        part_type = fields.get("content-type", "")
        if part_type.partition(";")[0].strip().lower() == "application/sdp":
            if _is_session(fields.get("content-disposition")):
                return content
            continue
        inner = _of_multipart(content, part_type, depth - 1)
        if inner:
            return inner
    return b""


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
