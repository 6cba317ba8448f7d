"""How a call begins: the caller's codec and ports, until it is asked for a code or somebody is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.call import asking
from proxy.call.a_leg import ALeg
from proxy.call.media_leg import MediaLeg
from proxy.call.outcome import not_acceptable
from proxy.cdr.record import HungUpBy
from proxy.errors import RemoteProtocolError
from proxy.sdp import gate_codecs

if TYPE_CHECKING:
    from proxy.call.call import Call

__all__ = ["OPEN_GUARD", "begin", "caller_ports_opened", "family_refused"]

OPEN_GUARD = 5.0
"""How long the media engine may take to give the caller's ports."""


def begin(call: Call, a: ALeg, now: float) -> None:
    """Choose the caller's codec and ask for ports; refuses the INVITE when none is in common."""
    route = call.route
    if not a.late_offer:
        try:
            call.record.codec = a.choose_for_route().codec.name
        except RemoteProtocolError as error:
            call.end(not_acceptable(error.status_hint), HungUpBy.GATE, now)
            return
    call.answers_first = route.gated and not (route.early and (a.takes_early_offer or not a.late_offer))
    a.open_media(ipv6=a.ipv6)
    if not route.gated:
        call.called.open()
    call.guard_at = now + OPEN_GUARD
    call.rearm()


def caller_ports_opened(call: Call, now: float) -> None:
    """Answer the caller if it is to be asked for a code at once; otherwise call somebody."""
    a, route = call.incoming, call.route
    if not a.late_offer:
        a.answer()
    if not route.gated:
        call.dial(now)
    elif not call.answers_first:
        call.early = True
        call.tell_caller(183, now, with_sdp=True)
        call.bound_at = now + call.config.early_gate_bound
        if not a.late_offer:
            asking.begin(call, now)
        call.rearm()
    elif a.late_offer:
        a.offer(gate_codecs(route.common_codecs))
        a.answer_due = True
        a.accept(now)
        call.write_setup(now)
    else:
        a.accept(now)
        call.write_setup(now)
        asking.begin(call, now)


def family_refused(call: Call, media: MediaLeg, now: float) -> None:
    """Do without a media address of the caller's IP version: the gate has none."""
    a = call.incoming
    if media.ipv6 is a.ipv6 and (a.late_offer or call.route.emergency):
        # The gate's own offer may name the other one. For an emergency it is the best there is: a caller
        # with both versions may take it for an answer too.
        a.open_media(ipv6=not media.ipv6)
    else:
        call.end(not_acceptable(), HungUpBy.GATE, now)
