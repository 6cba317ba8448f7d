"""SIP messages as text for the trace, without what must never be written down.

Digits are in the bodies of INFO requests, in whatever else carries key presses, as a part of a multipart body
too, and behind the pauses of a number; credentials in Authorization and Proxy-Authorization; keys in the SDP
lines ``a=crypto``, ``a=key-mgmt`` and ``k=``: each is replaced by a mark. Bytes that are no text are escaped;
lines end in one way, so that none is hidden from the search by its end.
"""

from __future__ import annotations

import logging
import re

from proxy.sip.flow import Flow

__all__ = ["log_message", "masked"]

logger = logging.getLogger(__name__)

HIDDEN = "(hidden)"
_FLAGS = re.IGNORECASE | re.MULTILINE
_FOLDED = r"[^\n]*(?:\n[ \t][^\n]*)*"
_KEY_PRESSES = re.compile(rf"^(?:content-type|c)\s*:{_FOLDED}(?:dtmf|kpml|telephone-event)", _FLAGS)
_INFO = re.compile(r"INFO[ \t]|SIP/2\.0.*\ncseq\s*:\s*\d+\s+INFO", re.IGNORECASE | re.DOTALL)
_SECRETS = (
    re.compile(rf"^((?:proxy-)?authorization\s*:){_FOLDED}", _FLAGS),
    re.compile(r"^([ \t]*(?:a[ \t]*=[ \t]*(?:crypto|key-mgmt)[ \t]*:|k[ \t]*=))[^\n]*", _FLAGS),
    # What phones dial behind a pause: RFC 3966 has none in a number any more, RFC 2806 had ``postd``.
    re.compile(r"((?:sips?|tel):[^@>;,\s]{0,64}?(?:,|%2c))[^@>;\s]+", _FLAGS),
    re.compile(r"((?:sips?|tel):[-+*#().\d]{0,64}[\d*#)][pw])[-*#().\dpw]{1,64}(?=[@>;\s]|\Z)", _FLAGS),
    re.compile(r"(;postd=)[^@>;\s]+", _FLAGS),
)
_LINE_END = re.compile(r"\r\n?")


def masked(data: bytes) -> str:
    """Return a message as text, its secrets and all digits that are pressed hidden."""
    text = _LINE_END.sub("\n", data.decode("utf-8", "backslashreplace")).lstrip()
    head, separator, body = text.partition("\n\n")
    if body and (_INFO.match(head) or _KEY_PRESSES.search(text)):
        return f"{_without_secrets(head)}{separator}{HIDDEN}"
    return _without_secrets(text)


def _without_secrets(text: str) -> str:
    for secret in _SECRETS:
        text = secret.sub(rf"\1 {HIDDEN}", text)
    return text


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
