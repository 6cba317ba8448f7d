"""What an offer of one leg means to the other: re-INVITE and UPDATE in talk, and what the gate itself wants.

RFC 3261 §14, RFC 3311 §5, RFC 6141 §3, RFC 3264 §8, RFC 4028 §7.4 and §10. The legs share media, not
descriptions: what crosses is a direction (hold, RFC 3264 §8.4) and a choice of formats. An offer goes one of
two ways::

    refresh, new address, order of formats   answered at once; the other side has no part in it
    direction, format, no offer (late)       X asks --offer--> Y
                                             Y: 2xx with an answer --answer--> X
                                             Y: refusal --status--> X, and nothing has changed (§14.1)
                                             Y: silence --504--> X, and nothing has changed

One exchange at a time: whatever is asked of the other side meanwhile is refused as the RFC has it (491, 500
with Retry-After), and the askers' own timers sort them out. Outside talk (a prompt, no answer of B yet) the
gate answers from its own media.

The gate has two wishes of its own: that the caller speaks the callee's format, so that nothing is transcoded,
and that a side which has followed an offer that was withdrawn meanwhile goes back. They wait after a 491 as
§14.1 says. A caller that does not come to what can't be transcoded is parted from whom it would not hear, but
in an emergency: who is called sees who calls.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from proxy.call import fax
from proxy.call.fax import FaxOffer
from proxy.call.leg import Leg, Offer
from proxy.call.media_leg import can_transcode
from proxy.call.outcome import not_acceptable, status_for_asker
from proxy.call.state import CallState
from proxy.cdr.record import HungUpBy
from proxy.errors import RemoteProtocolError
from proxy.sdp import (
    AudioDescription,
    ChosenAudio,
    Codec,
    Direction,
    carried_attributes,
    choose_codec,
    events_beside,
)
from proxy.sip.body import session_description
from proxy.sip.dialog import DialogState
from proxy.sip.events import RequestReceived, ServerTransaction
from proxy.sip.message import Request, Response
from proxy.sip.seconds import retry_after
from proxy.sip.timers import NEVER

if TYPE_CHECKING:
    from proxy.call.call import Call

__all__ = ["Renegotiation"]

_log = logging.getLogger(__name__)

_UPDATE_PATIENCE = 40
"""In units of T1: the peer's Timer F gives its UPDATE 64, and no answer would end its dialog (RFC 4320)."""
_ACK_PATIENCE = 40
"""In units of T1: the other side waits 64 for the ACK of its offer, and hangs up without it (§13.3.1.4)."""
_TRIES = 6
"""So often a wish of the gate's own is put forward in one talk."""
_LONGEST_WAIT = 10
"""Seconds of a Retry-After that the gate waits for."""
_SAYS_NOTHING = frozenset({404, 410, 416, 430, 477, 478, 480, 482, 483, 484, 485, 502, 503, 504, 604})
"""Answers to a refresh that a proxy may give whose peer is gone, or that end a dialog (RFC 5057 §5.1). 430 is
said of a failed flow (RFC 5626 §11.5), 477 and 478 by a Kamailio that can't send or resolve."""


@dataclass(slots=True)
class _Exchange:
    """One offer on its way to ``other``; ``asker`` None: the gate's own wish."""

    other: Leg
    asker: Leg | None = None
    transaction: ServerTransaction | None = None
    request: Request | None = None
    offer: Offer | None = None
    """The asker's; None: it asked for an offer, or for fax."""
    fax: FaxOffer | None = None
    theirs: Offer | None = None
    """What the other side offered, whose answer is due with the ACK."""
    bound: float = NEVER
    withdrawn: bool = False
    """The asker waits no longer."""


class Renegotiation:
    """The offers and answers of one call after the first ones."""

    __slots__ = ("_call", "_exchange", "_restore", "_retry_at", "_tries")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._exchange: _Exchange | None = None
        self._restore: dict[Leg, None] = {}
        """They were told, in this order, what the other side does no longer: a withdrawn offer, a hold."""
        self._retry_at = NEVER
        self._tries = 0

    # A peer asks --------------------------------------------------------------------------------------------

    def requested(self, leg: Leg, event: RequestReceived, now: float) -> None:
        """Take a re-INVITE or UPDATE of a peer."""
        status = self._take(leg, event, now)
        if status:
            # RFC 3261 §14.2, RFC 3311 §5.2: ten seconds at most, by chance.
            wait = (("Retry-After", str(leg.endpoint.ids.retry_after())),) if status == 500 else ()
            leg.endpoint.respond(event.transaction, status, headers=wait, now=now)
        self._call.rearm()

    def _take(self, leg: Leg, event: RequestReceived, now: float) -> int:
        """Answer a request or pass it on; returns the status that refuses it, or 0."""
        request = event.request
        description = session_description(request)
        if not description and request.method == "UPDATE":  # the target or the session is refreshed, no more
            leg.accept_within(event.transaction, request, b"", now)
            return 0
        if leg.answer_due or (leg.modification is not None and leg.modification.offers):
            return 491
        if leg.chosen is None or leg.media is None or leg.media.end is None or self._asks(leg):
            # An offer of the peer's has no answer yet: its first one, or one that is on its way across.
            return 500
        try:
            to_fax = fax.read_offer(leg, description) if description else None
            if to_fax is not None:
                return self._take_fax(leg, event, to_fax, now)
            offer = leg.read_offer(description) if description else None
            other = self._follower(leg)
            if other is None or not (
                offer is None or leg.fax is not None or self._concerns_other(leg, offer.audio)
            ):
                self._answer_alone(leg, other, event, offer, now)
                return 0
            return self._pass_on(leg, other, event, offer, now)
        except RemoteProtocolError as error:
            return error.status_hint  # the call stays as it was (§14.2)

    def _asks(self, leg: Leg) -> bool:
        exchange = self._exchange
        return exchange is not None and exchange.asker is leg and not exchange.withdrawn

    def _follower(self, leg: Leg) -> Leg | None:
        """Return the other side if it is there to be asked."""
        call = self._call
        other = call.partner(leg)
        if call.state is not CallState.TALKING or other is None or other.over or not other.established:
            return None
        return None if other.chosen is None else other

    @staticmethod
    def _concerns_other(leg: Leg, audio: AudioDescription) -> bool:
        """Say whether an offer asks for what the other side has a part in.

        A format that is spoken and still named goes on: phones name all that they know with every hold.
        """
        assert leg.remote is not None and leg.chosen is not None  # noqa: S101, PT018
        spoken = leg.chosen.codec
        return audio.direction is not leg.remote.direction or not any(
            codec.same_format(spoken) for codec in audio.codecs
        )

    def _answer_alone(
        self, leg: Leg, other: Leg | None, event: RequestReceived, offer: Offer | None, now: float
    ) -> None:
        direction = _direction_of(other)
        if offer is None:
            body = leg.offer_again(leg.spoken, direction)
            leg.answer_due = True
        else:
            chosen = _choose(leg, offer.audio, other)
            if chosen is None:
                raise RemoteProtocolError("no common codec", status_hint=488)
            body = leg.answer_offer(offer, chosen, direction)
        leg.accept_within(event.transaction, event.request, body, now)

    def _pass_on(self, leg: Leg, other: Leg, event: RequestReceived, offer: Offer | None, now: float) -> int:
        """Ask the other side; returns 491 when it can't be asked now."""
        transaction, request = event.transaction, event.request
        updates = request.method == "UPDATE" and "UPDATE" in other.allows
        method = "UPDATE" if updates else "INVITE"
        if self._exchange is not None or not _may_ask(other, method):
            return 491
        body = b""
        if offer is not None:
            formats = _formats(leg, offer.audio, other)
            attributes = carried_attributes(offer.sdp, offer.audio)
            body = other.offer_again(formats, offer.audio.direction, attributes)
        exchange = self._exchange = _Exchange(other, leg, transaction, request, offer)
        if request.method == "UPDATE":
            exchange.bound = now + _UPDATE_PATIENCE * leg.endpoint.config.t1
        other.modify(method, body, self._answered, now)
        return 0

    def _take_fax(self, leg: Leg, event: RequestReceived, offer: FaxOffer, now: float) -> int:
        """Pass a change to fax on (RFC 3362), or answer a refresh of it; returns the refusal, or 0."""
        if self._call.state is CallState.CONFIRMING:
            return 491  # asked again, it finds the answer on the disk, and somebody to ask
        other = self._follower(leg)
        if other is None or not (fax.takes_fax(leg) and fax.takes_fax(other)):
            return 488
        if leg.fax is not None and other.fax is not None and leg.fax.attributes == offer.fax.attributes:
            body = fax.accept(leg, offer, other.fax.attributes)
            leg.accept_within(event.transaction, event.request, body, now)
            return 0
        if self._exchange is not None or not _may_ask(other, "INVITE"):
            return 491
        exchange = self._exchange = _Exchange(other, leg, event.transaction, event.request, fax=offer)
        if event.request.method == "UPDATE":
            exchange.bound = now + _UPDATE_PATIENCE * leg.endpoint.config.t1
        other.modify("INVITE", fax.offer_to(other, offer.fax.attributes), self._answered, now)
        return 0

    def cancelled(self, transaction: ServerTransaction, now: float) -> None:
        """A peer takes its re-INVITE back (§9.2)."""
        exchange = self._exchange
        if exchange is not None and exchange.transaction is transaction and exchange.asker is not None:
            self._withdraw(exchange, exchange.asker, 487, now)
            self._call.rearm()

    def _withdraw(self, exchange: _Exchange, asker: Leg, status: int, now: float) -> None:
        """Give the asker a final answer; what the other side still says is undone."""
        modification = exchange.other.modification
        assert exchange.transaction is not None and modification is not None  # noqa: S101, PT018
        exchange.bound = NEVER
        exchange.withdrawn = True
        asker.endpoint.respond(exchange.transaction, status, now=now)
        modification.cancel(now)

    # The other side says ------------------------------------------------------------------------------------

    def _answered(self, status: int, response: Response | None, now: float) -> None:
        """Take what became of the gate's re-INVITE or UPDATE."""
        exchange = self._exchange
        assert exchange is not None  # noqa: S101  (the end of a call takes its modifications away)
        accepted = response if 200 <= status < 300 else None
        late = exchange.offer is None and exchange.fax is None
        if accepted is not None and late and exchange.asker is not None:
            self._offered(exchange, exchange.asker, accepted, now)
        else:
            self._exchange = None
            refusal = status
            if accepted is not None:
                taken = _take_answer(exchange.other, accepted, of_fax=exchange.fax is not None)
                refusal = 0 if taken else 488
            if exchange.asker is None:
                self._own_settled(exchange.other, refusal, response, now)
            elif exchange.withdrawn:
                if not refusal:
                    self._put_back(exchange.other)
            elif accepted is None or refusal:
                if accepted is not None and exchange.fax is not None:
                    self._put_back(exchange.other)  # it has given up audio and taken nothing for it
                self._refuse_asker(exchange, refusal, response, now)
            else:
                self._answer_asker(exchange, exchange.asker, now)
        if status in {408, 481}:
            # RFC 3261 §12.2.1.2: the peer knows of no such dialog any more.
            self._call.leg_lost(exchange.other, now)
        elif self._exchange is None:
            self.reconcile(now)
        self._call.rearm()

    def _answer_asker(self, exchange: _Exchange, asker: Leg, now: float) -> None:
        offer, transaction, request = exchange.offer, exchange.transaction, exchange.request
        other = exchange.other
        assert transaction is not None and request is not None  # noqa: S101, PT018
        if exchange.fax is not None and other.fax is not None:
            body = fax.accept(asker, exchange.fax, other.fax.attributes)
            asker.accept_within(transaction, request, body, now)
            return
        assert offer is not None  # noqa: S101
        chosen = _choose(asker, offer.audio, other)
        if chosen is None:
            asker.endpoint.respond(transaction, 488, now=now)
            self._put_back(other)
            return
        body = asker.answer_offer(offer, chosen, _direction_of(other))
        asker.accept_within(transaction, request, body, now)

    @staticmethod
    def _refuse_asker(exchange: _Exchange, status: int, response: Response | None, now: float) -> None:
        """Pass a refusal on (§14.1: both sides stay as they were)."""
        asker, transaction = exchange.asker, exchange.transaction
        assert asker is not None and transaction is not None  # noqa: S101, PT018
        wait = None if response is None or status != 500 else response.headers.get("Retry-After")
        headers = () if wait is None else (("Retry-After", wait),)
        asker.endpoint.respond(transaction, status_for_asker(status), headers=headers, now=now)

    # Late offers --------------------------------------------------------------------------------------------

    def _offered(self, exchange: _Exchange, asker: Leg, response: Response, now: float) -> None:
        """The other side, asked for an offer, has made one: it becomes the gate's offer to the asker."""
        other, transaction, request = exchange.other, exchange.transaction, exchange.request
        assert transaction is not None and request is not None  # noqa: S101, PT018
        try:
            exchange.theirs = other.read_offer(session_description(response))
            if exchange.withdrawn:
                self._acknowledge(exchange, now)
                return
            formats = _formats(other, exchange.theirs.audio, asker)
            attributes = carried_attributes(exchange.theirs.sdp, exchange.theirs.audio)
            body = asker.offer_again(formats, exchange.theirs.audio.direction, attributes)
        except RemoteProtocolError as error:
            self._acknowledge(exchange, now)
            if not exchange.withdrawn:
                asker.endpoint.respond(transaction, error.status_hint, now=now)
            return
        asker.answer_due = True
        exchange.bound = now + _ACK_PATIENCE * asker.endpoint.config.t1
        asker.accept_within(transaction, request, body, now)

    def _acknowledge(self, exchange: _Exchange, now: float) -> None:
        """Send the ACK that the other side's 2xx waits for, with the answer to what it offered."""
        self._exchange = None
        other, theirs = exchange.other, exchange.theirs
        assert other.modification is not None  # noqa: S101
        chosen = None if theirs is None else _choose(other, theirs.audio, exchange.asker)
        body = b""
        if theirs is not None and chosen is not None and not other.over:
            body = other.answer_offer(theirs, chosen, _direction_of(exchange.asker))
        other.modification.acknowledge(body, now)

    def acked(self, leg: Leg, ack: Request, now: float) -> None:
        """Take the ACK of a 2xx of the gate within the dialog, with the answer if the 2xx held the offer."""
        if leg.answer_due:
            try:
                leg.take_answer(session_description(ack))
            except RemoteProtocolError:
                # The peer broke its own re-offer: media goes on as it was.
                leg.answer_due = False
                _log.info("unusable answer in ACK", extra={"call_id": self._call.id, "leg": leg.name})
        exchange = self._exchange
        if exchange is not None and exchange.asker is leg and exchange.theirs is not None:
            self._acknowledge(exchange, now)
        self.reconcile(now)
        self._call.rearm()

    # The gate's own wishes ----------------------------------------------------------------------------------

    def begin(self, now: float) -> None:
        """The talk begins, or goes on between others: one side may have gone on hold unknown to the other, or
        both may have been held by who has left."""
        self._restore, self._retry_at, self._tries = {}, NEVER, 0
        a, b = self._call.a, self._call.b
        if b is not None and a.remote is not None and b.remote is not None:
            if (a.fax is None) is not (b.fax is None):
                # It was a fax with somebody else: there is audio to begin with.
                self._put_back(b if a.fax is None else a)
            for leg, other in ((b, a), (a, b)):
                if _does(leg) is not other.wish.answered_by(leg.wish):
                    self._put_back(leg)
        self.reconcile(now)

    def _put_back(self, leg: Leg) -> None:
        """Let a side be offered what the other one does."""
        self._restore[leg] = None

    def reconcile(self, now: float) -> None:
        """Ask a side for what the two don't agree on, if there is anything and it can be asked."""
        if now < self._retry_at < NEVER:
            return
        self._retry_at = NEVER
        if self._exchange is not None:
            return
        restored = next(iter(self._restore), None)
        leg = restored or self._call.a
        if leg.fax is not None and restored is None:
            return  # fax knows no formats
        other = self._follower(leg)
        if other is None or self._follower(other) is None:
            return
        if self._tries >= _TRIES:
            if not self._call.route.emergency and not leg.hears(other):
                self._call.end(not_acceptable(), HungUpBy.GATE, now)
            return
        formats = _format_of(leg, other) if restored is None else leg.spoken
        if not formats or not _may_ask(leg, "INVITE"):  # what stands against it comes here when it is over
            return
        self._tries += 1
        direction = _direction_of(other) if restored is None else other.wish
        body = leg.offer_again(formats, direction)
        self._exchange = _Exchange(leg)
        leg.modify("INVITE", body, self._answered, now)

    def _own_settled(self, leg: Leg, status: int, response: Response | None, now: float) -> None:
        """Take what became of a wish of the gate's own; ``status`` 0 with a response: it is fulfilled."""
        if response is not None and status == 491:
            self._retry_at = now + self._glare_wait(leg)
            return
        wait = retry_after(response) if response is not None and status == 500 else None
        if wait is not None and wait < 100:
            self._retry_at = now + min(wait, _LONGEST_WAIT)
            return
        self._restore.pop(leg, None)
        if not self._restore and (response is None or status):
            self._tries = _TRIES  # the peer has said what it thinks of it

    @staticmethod
    def _glare_wait(leg: Leg) -> float:
        """Return how long to wait after a 491 (§14.1)."""
        assert leg.dialog is not None  # noqa: S101
        return leg.endpoint.ids.glare_wait(owns_call_id=leg.dialog.uac)

    # Session timers -----------------------------------------------------------------------------------------

    def _keep_alive(self, leg: Leg, now: float) -> None:
        """Refresh a session, or end a call whose session nobody has refreshed (RFC 4028 §10)."""
        session = leg.session
        if now >= session.expires_at:
            self._call.session_expired(leg, now)
            return
        method = "UPDATE" if "UPDATE" in leg.allows else "INVITE"
        if not _may_ask(leg, method) or leg.agreed is None:
            session.refresh_later(now + self._glare_wait(leg))
            return
        body = b""
        if method == "INVITE":
            # §7.4: the same description, so that nothing changes; after one that was refused it has to be
            # said again under a version of its own.
            body = leg.agreed.data
            if leg.agreed is not leg.local or leg.security.keys is not None:  # keys are offered by name
                body = self._said_again(leg)
        session.refresh_later(NEVER)
        leg.modify(method, body, lambda status, response, at: self._refreshed(leg, status, response, at), now)

    def _said_again(self, leg: Leg) -> bytes:
        other = self._call.partner(leg)
        if leg.fax is not None and other is not None and other.fax is not None:
            return fax.offer_to(leg, other.fax.attributes)
        return leg.offer_again(leg.spoken, _direction_of(other))

    def _refreshed(self, leg: Leg, status: int, response: Response | None, now: float) -> None:
        if status in {0, 408, 481}:
            self._call.session_expired(leg, now)
        elif response is not None and status < 300:
            description = session_description(response)
            if description:
                _take_answer(leg, response, of_fax=leg.fax is not None)
            self.reconcile(now)
        else:
            if status in {405, 501}:
                leg.allows -= {"UPDATE"}
            if response is None or status in _SAYS_NOTHING or not leg.session.refused(now):
                # It is still expected before the session expires: after a 491 soon, after others a bit later.
                wait = self._glare_wait(leg) if status == 491 else float(_LONGEST_WAIT)
                leg.session.refresh_later(now + wait)
        self._call.rearm()

    # Time, and the end --------------------------------------------------------------------------------------

    def _legs(self) -> list[Leg]:
        """Return the legs that are this call's, not those that have gone on in another."""
        call, sides = self._call, self._call.sides
        return [leg for leg in (sides.caller.leg, sides.called.leg) if leg is not None and leg.call is call]

    @property
    def deadline(self) -> float:
        """When `handle_timer` has something to do."""
        at = self._retry_at
        if self._exchange is not None:
            at = min(at, self._exchange.bound)
        for leg in self._legs():
            at = min(at, leg.deadline)
        return at

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        exchange = self._exchange
        if exchange is not None and exchange.asker is not None and now >= exchange.bound:
            if exchange.theirs is not None:
                self._acknowledge(exchange, now)
            else:
                self._withdraw(exchange, exchange.asker, 504, now)
        if now >= self._retry_at:
            self.reconcile(now)
        for leg in self._legs():
            if now < leg.deadline:
                continue
            if leg.modification is not None and now >= leg.modification.deadline:
                leg.modification.handle_timer(now)
            if not leg.over and now >= leg.session.deadline:
                self._keep_alive(leg, now)

    def end(self, now: float) -> None:
        """The call ends: nobody is left waiting for an answer."""
        exchange, self._exchange = self._exchange, None
        self._retry_at = NEVER
        if exchange is not None:
            self._end_exchange(exchange, now)
        for leg in self._legs():
            leg.modification = None

    def _end_exchange(self, exchange: _Exchange, now: float) -> None:
        transaction = exchange.transaction
        if exchange.asker is not None and transaction is not None and not transaction.answered:
            # §15.1.2: a request that the BYE of its dialog overtakes.
            exchange.asker.endpoint.respond(transaction, 487, now=now)
        if exchange.theirs is not None:
            self._acknowledge(exchange, now)

    def let_go(self) -> None:
        """The call is over: part from it (`Call` says why)."""
        del self._call


def _direction_of(other: Leg | None) -> Direction:
    """Return what the gate would like to do towards one side: what the other side does towards the gate."""
    return Direction.SENDRECV if other is None or other.remote is None else other.remote.direction


def _does(leg: Leg) -> Direction:
    """Return what one side does towards the gate, as was agreed."""
    assert leg.remote is not None  # noqa: S101
    return leg.told.answered_by(leg.remote.direction)


def _may_ask(leg: Leg, method: str) -> bool:
    """Say whether nothing stands against a request of the gate (§14.1, RFC 3311 §5.1)."""
    dialog = leg.dialog
    return (
        dialog is not None
        and dialog.state is DialogState.CONFIRMED
        and leg.modification is None
        and not leg.answer_due
        and not (method == "INVITE" and dialog.invite_pending)
    )


def _taken(leg: Leg) -> frozenset[str]:
    """Return the names of the formats that may be spoken with a side."""
    assert leg.chosen is not None  # noqa: S101
    return frozenset((*leg.codecs, leg.chosen.codec.name))


def _choose(leg: Leg, audio: AudioDescription, other: Leg | None) -> ChosenAudio | None:
    """Choose the answer to an offer: the other side's format, the one spoken here, one to transcode."""
    assert leg.chosen is not None  # noqa: S101
    here = leg.chosen.codec.name
    if other is None or other.chosen is None:
        return choose_codec(audio, (here,), (here,))
    there = other.chosen.codec.name
    names = [name for name in _taken(leg) if can_transcode(name, there)]
    chosen = choose_codec(audio, names, names, (there, here))
    if chosen is not None and leg.chosen.event is None and other.chosen.event is None:
        # A side that is promised events stops listening for the tones which are all that the other one sends.
        return replace(chosen, event=None)
    return chosen


def _formats(leg: Leg, audio: AudioDescription, other: Leg) -> tuple[Codec, ...]:
    """Return what to offer the other side when ``leg`` offers ``audio``; raises 488 when there is nothing.

    What is spoken there goes first if it is named. It goes last where the gate can transcode it: so a change
    of format asks for the new one and can do without.
    """
    assert other.chosen is not None  # noqa: S101
    ours, theirs = _taken(leg), _taken(other)
    spoken = other.chosen.codec
    named = [codec for codec in audio.codecs if codec.name in ours]
    formats = [codec for codec in named if codec.name in theirs]
    formats.sort(key=lambda codec: not codec.same_format(spoken))
    if not any(codec.same_format(spoken) for codec in formats) and any(
        can_transcode(codec.name, spoken.name) for codec in named
    ):
        formats.append(spoken)
    if not formats:
        raise RemoteProtocolError("no common codec", status_hint=488)
    return (*formats, *events_beside(formats)) if audio.events else tuple(formats)


def _format_of(leg: Leg, other: Leg) -> tuple[Codec, ...]:
    """Return the other side's format as an offer to this one, if this one named it and speaks another."""
    assert leg.chosen is not None and leg.remote is not None and other.chosen is not None  # noqa: S101, PT018
    there = other.chosen.codec
    if leg.chosen.codec.same_format(there) or there.name not in leg.codecs:
        return ()
    for codec in leg.named:
        if codec.same_format(there):
            return (codec, *events_beside((codec,))) if leg.chosen.event is not None else (codec,)
    return ()


def _take_answer(leg: Leg, response: Response, *, of_fax: bool = False) -> bool:
    """Take the answer in a 2xx; returns whether it is of use."""
    description = session_description(response)
    try:
        if of_fax:
            fax.take_answer(leg, description)
        else:
            leg.take_answer(description)
    except RemoteProtocolError:
        _log.info("unusable answer to a re-offer", extra={"call_id": leg.call.id, "leg": leg.name})
        return False
    return True
