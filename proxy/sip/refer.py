"""REFER: what a peer asks the gate to do, and how the gate tells what came of it.

RFC 3515 §2.1 (Refer-To), §2.4.5 (NOTIFY with message/sipfrag, RFC 3420); RFC 3891 §3 with RFC 5589 §7
(Replaces within Refer-To); RFC 4488 (Refer-Sub); RFC 3892 (Referred-By).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from proxy.errors import RemoteProtocolError
from proxy.sip.address import NameAddr
from proxy.sip.message import Request, reason_phrase
from proxy.sip.replaces import Replaces
from proxy.sip.uri import Uri

__all__ = ["SIPFRAG", "Referral", "parse_referral", "refer_to", "sipfrag", "sipfrag_status"]

SIPFRAG = "message/sipfrag;version=2.0"

_STATUS_LINE = re.compile(rb"SIP/2\.0[ \t]+([1-6][0-9]{2})(?![0-9])")

_SCHEMES = frozenset({"sip", "sips", "tel", "urn"})
"""Those of whom can be called: a ``urn:`` is a service, such as ``urn:service:sos`` (RFC 5031)."""


@dataclass(frozen=True, slots=True)
class Referral:
    """What a REFER asks for."""

    target: str
    """Whom to call: a URI without method and headers."""
    replaces: Replaces | None = None
    """The dialog of the target that the new call takes the place of (an attended transfer)."""
    subscribes: bool = True
    """NOTIFYs are wanted."""


def parse_referral(request: Request) -> Referral:
    """Read a REFER; raises `RemoteProtocolError`: 400 malformed, 416 no URI of a call, 603 another method.

    Of the headers that the URI wants in the INVITE only Replaces is heard (RFC 3261 §19.1.5: the others could
    make the gate say anything); Require with it repeats only that.
    """
    values = request.headers.values("Refer-To")
    if len(values) != 1:
        # RFC 3515 §2.4.2: exactly one.
        raise RemoteProtocolError("a REFER has one Refer-To")
    uri = NameAddr.parse(values[0]).uri
    if uri.scheme not in _SCHEMES:
        raise RemoteProtocolError("Refer-To is no address of a call", status_hint=416)
    method = uri.params.get("method", "INVITE")
    if method is None or method.upper() != "INVITE":
        raise RemoteProtocolError("Refer-To asks for another method than INVITE", status_hint=603)
    replaces = [value for name, value in uri.headers if name.lower() == "replaces"]
    if len(replaces) > 1:
        raise RemoteProtocolError("Refer-To names more than one dialog to replace")
    return Referral(
        _bare(uri), Replaces.parse(replaces[0]) if replaces else None, subscribes=_wants_notify(request)
    )


def _bare(uri: Uri) -> str:
    if not uri.headers and "method" not in uri.params:
        return str(uri)
    params = {name: value for name, value in uri.params.items() if name != "method"}
    return str(Uri(uri.scheme, uri.user, uri.host, uri.port, params, (), uri.password))


def _wants_notify(request: Request) -> bool:
    """Tell whether the implicit subscription is wanted (RFC 4488 §4)."""
    value = request.headers.get("Refer-Sub")
    return value is None or value.partition(";")[0].strip().lower() != "false"


def sipfrag(status: int) -> bytes:
    """Return the body that tells how far the call has come: a status line (RFC 3515 §2.4.5)."""
    return f"SIP/2.0 {status} {reason_phrase(status)}\r\n".encode()


def sipfrag_status(body: bytes) -> int:
    """Return the status that a sipfrag begins with, or 0 (RFC 3420 §2, RFC 3515 §2.4.5)."""
    found = _STATUS_LINE.match(body)
    return 0 if found is None else int(found[1])


def refer_to(target: str, replaces: Replaces | None) -> str:
    """Return the value of a Refer-To: a URI without headers, and the dialog that is to be replaced."""
    if replaces is None:
        return f"<{target}>"
    uri = Uri.parse(target)
    headers = (("Replaces", str(replaces)),)
    return f"<{Uri(uri.scheme, uri.user, uri.host, uri.port, uri.params, headers)}>"
