"""What a UAS looks at in a new request before it acts on it: RFC 3261 §8.2.1-§8.2.3.

Pure: returns the refusal the RFC prescribes, or None. The order is the RFC's: method, header, content.
"""

from __future__ import annotations

from typing import NamedTuple

from proxy.sip.config import KNOWN_METHODS, EndpointConfig
from proxy.sip.message import Request
from proxy.sip.session_timer import refused_interval

__all__ = ["Refusal", "inspect"]


class Refusal(NamedTuple):
    """A final response that is due before the TU hears of the request."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()


_CHECKED_CONTENT = frozenset({"INVITE", "UPDATE"})
"""Methods whose bodies the endpoint knows; others are the TU's to judge."""


def inspect(request: Request, config: EndpointConfig) -> Refusal | None:
    """Check a sound request; returns the refusal, or None when the TU may have it."""
    method = request.method
    if method not in config.allow:
        # §8.2.1: known but not taken is 405; RFC 3261 §21.5.2: not even recognised is 501.
        status = 405 if method in KNOWN_METHODS else 501
        return Refusal(status, (("Allow", ", ".join(config.allow)),))
    scheme = request.request_uri.scheme
    if scheme not in config.uri_schemes:
        return Refusal(416)
    if request.max_forwards == 0 and method == "INVITE" and request.to.tag is None:
        # Only what is forwarded has hops to count (§16.3): a BYE that got here has arrived.
        return Refusal(483)
    headers = request.headers
    if "Require" in headers:
        supported = config.supported
        if method == "REGISTER":
            supported += config.registrar_extensions
        unsupported = [tag for tag in headers.values("Require") if tag.lower() not in supported]
        if unsupported:
            return Refusal(420, (("Unsupported", ", ".join(unsupported)),))
    if "Session-Expires" in headers and refused_interval(request, config.min_se):
        return Refusal(422, (("Min-SE", str(config.min_se)),))
    return _inspect_content(request, config) if request.body else None


def _inspect_content(request: Request, config: EndpointConfig) -> Refusal | None:
    """Check that the body can be understood (§8.2.3), unless the sender says that it need not be (§20.11)."""
    headers = request.headers
    encoding = headers.get("Content-Encoding")
    if request.method not in _CHECKED_CONTENT:
        return None
    disposition = (headers.get("Content-Disposition") or "").lower().replace(" ", "")
    if "handling=optional" in disposition:
        return None
    if encoding is not None and encoding.lower() != "identity":
        return Refusal(415, (("Accept-Encoding", "identity"),))
    if request.content_type not in config.accept:
        return Refusal(415, (("Accept", ", ".join(config.accept)),))
    return None
