"""SIP messages as text for the trace, without what must never be written down.

Digits are in the bodies of INFO requests and of whatever else carries key presses, credentials in
Authorization and Proxy-Authorization, and keys in SDP ``a=crypto`` lines: each is replaced by a mark. Bytes
that are no text are escaped.
"""

from __future__ import annotations

import logging
import re

from proxy.sip.flow import Flow

__all__ = ["log_message", "masked"]

logger = logging.getLogger(__name__)

HIDDEN = "(hidden)"
_FLAGS = re.IGNORECASE | re.MULTILINE
_CREDENTIALS = re.compile(r"^((?:proxy-)?authorization\s*:)[^\r\n]*(?:\r?\n[ \t][^\r\n]*)*", _FLAGS)
_CRYPTO = re.compile(r"^(a=crypto:)[^\r\n]*", _FLAGS)
_INFO = re.compile(rb"\s*INFO[ \t]|SIP/2\.0.*\r?\ncseq\s*:\s*\d+\s+INFO", re.IGNORECASE | re.DOTALL)
_KEYS = re.compile(r"^(?:content-type|c)\s*:[^\r\n]*(?:dtmf|kpml|telephone-event)", _FLAGS)
_BODY = re.compile(rb"\r\n\r\n|\n\n|\r\r")


def masked(data: bytes) -> str:
    """Return a message as text, its secrets and the body of an INFO hidden."""
    parts = _BODY.split(data, maxsplit=1)
    head = _CREDENTIALS.sub(rf"\1 {HIDDEN}", parts[0].decode("utf-8", "backslashreplace"))
    body = parts[1] if len(parts) > 1 else b""
    if not body:
        return head
    if _INFO.match(data) or _KEYS.search(head):
        return f"{head}\n\n{HIDDEN}"
    text = _CRYPTO.sub(rf"\1 {HIDDEN}", body.decode("utf-8", "backslashreplace"))
    return f"{head}\n\n{text}"


def log_message(incoming: bool, flow: Flow, data: bytes) -> None:
    """Write one message to the log at DEBUG; the endpoint's trace hook while tracing is on."""
    way = "from" if incoming else "to"
    logger.debug(
        "%s %s %s:%d\n%s",
        way,
        flow.transport,
        flow.remote_host,
        flow.remote_port,
        masked(data),
        extra={"trace": True},
    )
