"""Gathers what becomes of one call until its record is written. Owned by the call; no clock, no I/O.

Plain facts are attributes that the call sets; what has a rule (what is recorded of a code, when talk time
starts, that a call ends once) is a method. `now` is always the monotonic clock.
"""

from __future__ import annotations

from proxy.cdr.record import (
    CallRecord,
    Continuation,
    Direction,
    Disposition,
    HungUpBy,
    LegMedia,
    RecordPhase,
    TrunkTry,
    UsedCode,
)

__all__ = ["RecordBuilder"]


class RecordBuilder:
    """The record of one call in the making."""

    __slots__ = (
        "_answered_after",
        "_code",
        "_code_entered_after",
        "_code_means",
        "_disposition",
        "_ended_after",
        "_hung_up_by",
        "_q850_cause",
        "_sip_code",
        "_started",
        "_trunks",
        "_wrong_tries",
        "a_call_id",
        "a_media",
        "b_call_id",
        "b_media",
        "call_class",
        "caller_e164",
        "caller_name",
        "caller_number",
        "codec",
        "continuation",
        "decision",
        "destination_user",
        "dialled_number",
        "direction",
        "emergency",
        "first_record_id",
        "group",
        "location",
        "normalised_number",
        "peer",
        "reason",
        "record_id",
        "source_address",
        "start_time",
        "treatment",
        "user",
    )

    def __init__(self, record_id: str, *, start_time: float, now: float) -> None:
        """Begin when the INVITE comes: ``start_time`` in UTC seconds since the epoch, ``now`` monotonic."""
        self.record_id = record_id
        self.start_time = start_time
        self._started = now
        self.direction = Direction.OUTBOUND
        self.a_call_id = ""
        self.b_call_id = ""
        self.caller_number = ""
        self.caller_name = ""
        self.caller_e164 = ""
        self.user = ""
        self.group = ""
        self.peer = ""
        self.source_address = ""
        self.destination_user = ""
        self.location = ""
        self.dialled_number = ""
        self.normalised_number = ""
        self.call_class = ""
        self.treatment = ""
        self.decision = ""
        self.reason = ""
        self.emergency = False
        self.codec = ""
        self.first_record_id = ""
        self.continuation = ""
        self.a_media: LegMedia | None = None
        self.b_media: LegMedia | None = None
        self._code: UsedCode | None = None
        self._code_entered_after: float | None = None
        self._code_means = ""
        self._wrong_tries = 0
        self._trunks: tuple[TrunkTry, ...] = ()
        self._answered_after: float | None = None
        self._ended_after: float | None = None
        self._disposition = Disposition.FAILED
        self._sip_code = 0
        self._q850_cause = 0
        self._hung_up_by: HungUpBy | None = None

    @property
    def answered(self) -> bool:
        """B has answered."""
        return self._answered_after is not None

    @property
    def code(self) -> UsedCode | None:
        """The accepted code."""
        return self._code

    @property
    def over(self) -> bool:
        """`ended` has been called."""
        return self._ended_after is not None

    @property
    def wrong_tries(self) -> int:
        """How many wrong code entries there were."""
        return self._wrong_tries

    def code_accepted(self, code: UsedCode, means: str, *, now: float) -> None:
        """The caller entered a valid code; ``means`` is the value of a `DigitMeans`."""
        self._code = code
        self._code_means = means
        self._code_entered_after = now - self._started

    def code_kept(self, code: UsedCode, *, reused: bool) -> None:
        """The code of an earlier segment stays with the call: ``reused`` where it unlocks this one."""
        self._code = code
        self._code_means = "reused" if reused else "carried"

    def continues(self, first: RecordBuilder, how: Continuation) -> None:
        """This is a further segment of the call of ``first``."""
        self.first_record_id = first.first_record_id or first.record_id
        self.continuation = how.value

    def code_wrong(self) -> None:
        """One entry was wrong. Its digits are not asked for: they are recorded nowhere."""
        self._wrong_tries += 1

    def code_forgone(self, *, now: float) -> None:
        """The entry ended without a code: skipped with ``#``, or optional and out of tries."""
        self._code_entered_after = now - self._started

    def trunk_tried(self, trunk: str) -> None:
        """A B-leg INVITE goes out over this trunk."""
        self._trunks += (TrunkTry(trunk),)

    def trunk_ended(self, sip_code: int) -> None:
        """The last trunk tried ended with this final status (0: nothing was heard)."""
        if self._trunks:
            self._trunks = (*self._trunks[:-1], TrunkTry(self._trunks[-1].trunk, sip_code))

    def b_answered(self, *, now: float) -> None:
        """B's 200 is here: talk time starts. A repeated or forked 200 changes nothing."""
        if self._answered_after is not None:
            return
        self._answered_after = now - self._started
        self._sip_code = 200
        if self._trunks:
            self.trunk_ended(200)

    def ended(
        self,
        disposition: Disposition,
        *,
        now: float,
        sip_code: int = 0,
        q850_cause: int = 0,
        hung_up_by: HungUpBy | None = None,
    ) -> None:
        """The call is over. Only the first end counts: what follows it is tidying up.

        ``sip_code`` 0 keeps what is known (200 after B's answer).
        """
        if self._ended_after is not None:
            return
        self._ended_after = now - self._started
        self._disposition = disposition
        self._q850_cause = q850_cause
        self._hung_up_by = hung_up_by
        if sip_code:
            self._sip_code = sip_code

    def snapshot(self, phase: RecordPhase, *, now: float) -> CallRecord:
        """What is known now. A live call's snapshot lasts until ``now``, a final one until the end."""
        ended_after = self._ended_after
        return CallRecord(
            self.record_id,
            self.start_time,
            self.direction,
            phase,
            self.a_call_id,
            self.b_call_id,
            self._code_entered_after,
            self._answered_after,
            now - self._started if ended_after is None else ended_after,
            self.caller_number,
            self.caller_name,
            self.caller_e164,
            self.user,
            self.group,
            self.peer,
            self.source_address,
            self.destination_user,
            self.location,
            self.dialled_number,
            self.normalised_number,
            self.call_class,
            self.treatment,
            self.decision,
            self.reason,
            self.emergency,
            self._code,
            self._wrong_tries,
            self._code_means,
            self._trunks,
            self._disposition,
            self._sip_code,
            self._q850_cause,
            self._hung_up_by,
            self.codec,
            self.a_media,
            self.b_media,
            self.first_record_id,
            self.continuation,
        )

    def final(self, *, now: float) -> CallRecord:
        """The record for the usage log. A call that nobody ended counts as failed now."""
        return self.snapshot(RecordPhase.FINAL, now=now)
