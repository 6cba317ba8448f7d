"""A phone that sends its caller elsewhere: a 3xx is a new call under the policy of the phone's user.

RFC 3261 §8.1.3.4, §21.3; RFC 5806 (Diversion), RFC 7044 (History-Info). The first word of a phone counts:
whatever else rings for its user stops. The contacts are called one after the other, by q, until one answers
or says 6xx (§16.7 step 5); where one of them forwards in its turn, its contacts go first. A trunk's 3xx is a
refusal like any other (DESIGN 1.7), and so are 305 and 380: the gate takes no proxy and no other service from
a phone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from proxy.call import segments
from proxy.call.b_leg import BLeg
from proxy.call.call import Call
from proxy.call.config import Side
from proxy.call.onward import send_on
from proxy.call.origin import Diversion
from proxy.call.outcome import NORMAL_CLEARING, Ending
from proxy.cdr.record import Continuation, Disposition, HungUpBy
from proxy.sip.address import NameAddr, parse_addresses
from proxy.sip.message import Response

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.call.routing import Caller

__all__ = ["FurtherContact", "follow", "follow_further"]

_FOLLOWED = frozenset({300, 301, 302})
_TRIED = 5
"""So many contacts of one 3xx are looked at; each that is refused has its record."""


class FurtherContact(NamedTuple):
    """A contact of a 3xx that has not been called yet."""

    target: str
    sender: Caller
    """Whose phone has sent the call there."""
    diversions: tuple[Diversion, ...]


def follow(call: Call, leg: BLeg, response: Response, *, rang: bool, now: float) -> bool:
    """Let a call go on where a phone sends it; False: that is nowhere, or nowhere its user may call."""
    if response.status not in _FOLLOWED or leg.party.peer.side is not Side.PHONES:
        return False
    diversion = Diversion(call.route.callee, _reason(response, rang=rang), rang)
    diversions = (diversion, *call.origin.diversions)
    contacts = [FurtherContact(target, leg.party, diversions) for target in _targets(response)]
    status = response.status
    ending = Ending(Disposition.CONTINUED, status, NORMAL_CLEARING, _FORWARDED, status)
    return _go_on(call, (*contacts, *call.further), ending, HungUpBy.B_LEG, now)


def follow_further(call: Call, ending: Ending, now: float) -> bool:
    """Let a forwarded call that has failed go on to the next contact; False: there is none, a 6xx came, or
    somebody has answered and could not be put through."""
    if call.record.answered or (ending.b_status or ending.status) >= 600:
        return False
    return _go_on(call, call.further, ending, HungUpBy.GATE, now)


def _go_on(
    call: Call, contacts: tuple[FurtherContact, ...], ending: Ending, who: HungUpBy, now: float
) -> bool:
    """Call the first contact that may be called. Each such call counts, however they are nested."""
    how, caller, forwards = Continuation.FORWARD, call.route.caller, call.origin.forwards + 1
    for tried, (target, sender, diversions) in enumerate(contacts, 1):
        origin = replace(call.origin, diversions=diversions, forwards=forwards)
        segment = send_on(call, target, how, sender=sender, caller=caller, origin=origin, now=now)
        if isinstance(segment, Call):
            segment.further = contacts[tried:]
            segments.take_caller(segment, call, now)
            call.end(ending, who, now)
            segments.resume(segment, now)
            return True
    return False


_FORWARDED = (("Reason", 'SIP;cause=302;text="Call forwarded"'),)


def _targets(response: Response) -> Iterator[str]:
    """Yield the contacts of a 3xx by preference (§20.10)."""
    contacts = parse_addresses(response.headers.get_all("Contact"))  # the endpoint lets no malformed one pass
    contacts.sort(key=_q, reverse=True)
    for contact in contacts[:_TRIED]:
        yield contact.uri_text.partition("?")[0]


def _q(contact: NameAddr) -> float:
    try:
        return min(max(float(contact.params.get("q") or 1.0), 0.0), 1.0)
    except ValueError:
        return 0.0


def _reason(response: Response, *, rang: bool) -> str:
    """Return why a phone forwards: as it says, or as it looks (RFC 5806 §4)."""
    said = response.headers.get("Diversion") or ""
    for parameter in said.partition(">")[2].split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "reason":
            return value.strip().strip('"').lower()
    return "deflection" if rang else "unconditional"
