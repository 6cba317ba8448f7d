"""SIP status, Q.850 cause and what a call came to: the closed tables that map them.

RFC 3398 §7.2.4.1 and §8.2.6.1 (ISUP), RFC 4497 §8.4.4 (QSIG), RFC 3326 (Reason header). Which status of the B
leg reaches the caller is DESIGN 1.7: 503 would make a PBX stop sending, and 3xx, 401, 407, 422 and whatever
speaks only of the hop between gate and trunk never cross.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

from proxy.cdr.record import CallRecord, Disposition
from proxy.sip.message import Request

__all__ = [
    "CALL_REJECTED",
    "ELSEWHERE",
    "INTERWORKING",
    "NETWORK_OUT_OF_ORDER",
    "NORMAL_CLEARING",
    "NO_ANSWER",
    "NO_CIRCUIT",
    "RECOVERY_ON_TIMER",
    "SESSION_EXPIRED",
    "SUBSCRIBER_ABSENT",
    "TEMPORARY_FAILURE",
    "USER_BUSY",
    "Ending",
    "announcement",
    "cause_of_reason",
    "cause_of_status",
    "disposition_of_status",
    "ending_in_words",
    "ending_of_refusal",
    "hung_up",
    "may_fail_over",
    "not_acceptable",
    "reason_header",
    "status_for_asker",
    "status_for_caller",
]

NORMAL_CLEARING = 16
USER_BUSY = 17
NO_ANSWER = 19
SUBSCRIBER_ABSENT = 20
CALL_REJECTED = 21
NO_CIRCUIT = 34
NETWORK_OUT_OF_ORDER = 38
TEMPORARY_FAILURE = 41
RECOVERY_ON_TIMER = 102
INTERWORKING = 127

_CAUSES = {
    400: 41,
    401: 21,
    402: 21,
    403: 21,
    404: 1,
    405: 63,
    406: 79,
    407: 21,
    408: 102,
    410: 22,
    413: 127,
    414: 127,
    415: 79,
    416: 127,
    480: 18,
    481: 41,
    482: 25,
    483: 25,
    484: 28,
    485: 1,
    486: 17,
    487: 16,
    488: 65,
    500: 41,
    501: 79,
    502: 38,
    503: 41,
    504: 102,
    600: 17,
    603: 21,
    604: 1,
    606: 65,
}

_STATUS_FOR_CALLER = {
    # Redirection and challenges are between gate and trunk; the caller could not act on them.
    401: 500,
    407: 500,
    # The caller's own 408 and 482 would speak of its INVITE to the gate. A loop is no reason to try another
    # way, as a 5xx would be.
    408: 504,
    415: 488,
    481: 500,
    482: 483,
    487: 480,
    503: 500,
    606: 488,
}

# What B says about the INVITE as the gate built it: our fault towards B, not the caller's.
_ABOUT_THE_HOP = frozenset(
    {400, 405, 406, 413, 414, 416, 417, 420, 421, 422, 423, 424, 425, 428, 429, 430, 436}
)
_ABOUT_THE_HOP_TOO = frozenset({437, 438, 439, 440, 469, 470, 489, 491, 493, 494})

_BUSY = ("busy", "busy_tone", "busy_tone", "busy_tone")
_ANNOUNCEMENTS = {
    403: ("not_allowed",),
    480: ("no_answer",),
    486: _BUSY,
    600: _BUSY,
}
_FAILED = ("call_failed", "reorder_tone", "reorder_tone", "reorder_tone")


@dataclass(frozen=True, slots=True)
class Ending:
    """What a call came to, and what both sides are told about it."""

    disposition: Disposition
    status: int
    """Final response for a caller that has none yet."""
    cause: int
    """Q.850."""
    headers: Sequence[tuple[str, str]] = ()
    """What goes with the final response, CANCEL or BYE instead of the Reason made from `cause`."""
    b_status: int = 0
    """What B said, when it refused: that is what the record shows."""


ELSEWHERE = (("Reason", 'SIP;cause=200;text="Call completed elsewhere"'),)
"""A phone that rang for a call which somebody else has taken (RFC 3326 §2)."""

SESSION_EXPIRED = Ending(
    Disposition.FAILED,
    408,
    RECOVERY_ON_TIMER,
    (("Reason", 'SIP;cause=408;text="Session expired"'), ("Reason", f"Q.850;cause={RECOVERY_ON_TIMER}")),
)
"""A side whose session was not refreshed in time (RFC 4028 §10)."""


def not_acceptable(status: int = 488) -> Ending:
    """Return the ending of a call whose sides have no media in common."""
    return Ending(Disposition.NOT_ACCEPTABLE, status, cause_of_status(status))


def ending_of_refusal(status: int, headers: Sequence[tuple[str, str]]) -> Ending:
    """Return the ending of a call that the B leg refused; ``headers`` of the refusal cross to the caller."""
    cause = cause_of_reason([value for name, value in headers if name.lower() == "reason"])
    if cause is None:
        cause = cause_of_status(status)
        headers = (*headers, reason_header(cause))
    return Ending(disposition_of_status(status), status_for_caller(status), cause, headers, status)


def hung_up(
    disposition: Disposition, status: int, request: Request | None, dropped: Container[str] = ()
) -> Ending:
    """Return the ending of a call that a BYE or CANCEL ended.

    Its Reason (RFC 3326 §2) and User-to-User (RFC 7433 §4.1) reach the other side, unless ``dropped``.
    """
    said = {
        name: [] if request is None or name in dropped else request.headers.get_all(name)
        for name in ("Reason", "User-to-User")
    }
    cause = cause_of_reason(said["Reason"]) or NORMAL_CLEARING
    if said["User-to-User"] and not said["Reason"]:
        said["Reason"] = [reason_header(cause)[1]]
    return Ending(disposition, status, cause, [(name, value) for name in said for value in said[name]])


def may_fail_over(status: int, *, emergency: bool = False) -> bool:
    """Tell whether the next trunk may be tried after this final response (DESIGN 1.7, issue: 408 and 5xx).

    That one trunk does not know, take or understand a call for help, or declines it, says nothing about the
    others; that the one who helps is busy does.
    """
    if emergency:
        return status >= 300 and status not in {486, 600}
    return status == 408 or 500 <= status < 600


def status_for_caller(status: int) -> int:
    """Return the final status that the A leg gets for a final failure status of the B leg."""
    if status < 400:
        return 480
    if status in _ABOUT_THE_HOP or status in _ABOUT_THE_HOP_TOO:
        return 500
    return _STATUS_FOR_CALLER.get(status, status)


def status_for_asker(status: int) -> int:
    """Return what the one hears who asked for a change of the session that the other side did not take.

    ``status`` 0: it has said nothing. What would end the asker's dialog (RFC 3261 §12.2.1.2) never crosses.
    """
    if not status:
        return 504
    if status < 400 or status == 408:
        return 500
    return 491 if status == 491 else status_for_caller(status)


def cause_of_status(status: int) -> int:
    """Return the Q.850 cause of a SIP failure status (RFC 3398 §8.2.6.1, RFC 4497 §8.4.4)."""
    cause = _CAUSES.get(status)
    if cause is not None:
        return cause
    if status < 400:
        return NO_ANSWER if status >= 300 else NORMAL_CLEARING
    return TEMPORARY_FAILURE if 500 <= status < 600 else INTERWORKING


def cause_of_reason(reasons: list[str]) -> int | None:
    """Return the cause of the first ``Q.850;cause=`` among the values of Reason headers, or None (RFC
    3326)."""
    for reason in reasons:
        protocol, *params = reason.split(";")
        if protocol.strip().upper() != "Q.850":
            continue
        for param in params:
            name, _, value = param.partition("=")
            value = value.strip()
            if name.strip().lower() == "cause" and value.isascii() and value.isdigit() and len(value) <= 3:
                number = int(value)
                return number if 1 <= number <= 127 else None
    return None


def reason_header(cause: int) -> tuple[str, str]:
    """Return the Reason header (name, value) that tells a Q.850 cause (RFC 3326 §2)."""
    return ("Reason", f"Q.850;cause={cause}")


def announcement(status: int) -> tuple[str, ...]:
    """Return the prompts and tones that tell an answered caller why the B leg failed."""
    return _ANNOUNCEMENTS.get(status, _FAILED)


def disposition_of_status(status: int) -> Disposition:
    """Return what a call came to whose B leg ended with this final failure status."""
    if status in {408, 480, 487} or status < 400:
        return Disposition.NO_ANSWER
    if status in {486, 600}:
        return Disposition.BUSY
    if status in {415, 488, 606}:
        return Disposition.NOT_ACCEPTABLE
    if 500 <= status < 600 or status in {401, 407}:
        return Disposition.TRUNK_FAILED
    return Disposition.REJECTED


def ending_in_words(record: CallRecord) -> str:
    """Say for the log how a call ended; no digit of a code is in it."""
    tries = ", ".join(f"{one.trunk} {one.sip_code or 'no response'}" for one in record.trunks)
    said = record.disposition.value
    if record.sip_code:
        said += f" with {record.sip_code}"
    if record.hung_up_by is not None:
        said += f" by {record.hung_up_by.value}"
    if record.answered_after is not None:
        said += f", {record.talk_time:.1f} s of talk"
    said += f", trunks: {tries}" if tries else ", no trunk tried"
    return f"{said}; {record.reason}" if record.reason else said
