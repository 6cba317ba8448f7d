"""Attended transfer and INVITE with Replaces: somebody takes a party's place (RFC 3891, RFC 5589 §7)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest

from proxy.cdr.record import Direction, Disposition
from proxy.policy import AccountCode, CodeTable, Snapshot
from proxy.sdp import Direction as Wish
from proxy.sip.dialog import Dialog
from proxy.sip.events import RequestReceived
from tests.call.offers import direction_of
from tests.call.phones import phone_policy
from tests.call.transfers import (
    EMERGENCY,
    FREE,
    OUTSIDE,
    RING,
    SLOW,
    TransferBench,
    desk_talks,
    refer,
    replies,
    told,
)
from tests.support.gate import E164, GateBench
from tests.support.ua import Headers, Step, Ua, UaCall, sdp


def dialog_of(call: UaCall) -> Dialog:
    assert call.dialog is not None
    return call.dialog


def replacing(call: UaCall, *, options: str = "") -> Headers:
    """Return the Replaces header for a dialog, as the gate knows it."""
    dialog = dialog_of(call)
    value = f"{dialog.call_id};to-tag={dialog.remote_tag};from-tag={dialog.local_tag}{options}"
    return (("Replaces", value), ("Require", "replaces"))


def within_wish(ua: Ua, wish: str) -> Callable[[UaCall, RequestReceived], bool]:
    """Answer offers as a phone does that would like ``wish``, each with a version of its own."""
    versions = count(10)

    def within(call: UaCall, event: RequestReceived) -> bool:
        if event.request.method != "INVITE" or not event.request.body:
            return False
        answer = Wish(direction_of(event.request.body)).answered_by(Wish(wish))
        body = sdp(ua.host, direction=answer.value, version=next(versions))
        ua.endpoint.respond(event.transaction, 200, body=body, now=ua.now())
        return True

    return within


class TestAttendedTransfer:
    """The transferor has called the target before."""

    def test_rfc5589_7_1_both_other_parties_talk(self) -> None:
        with desk_talks() as (bench, first):
            first.request("INVITE", sdp("192.0.2.24", version=2, direction="sendonly"))
            bench.run(0.5)
            consultation = bench.talk(bench.desk, "206")
            refer(first, "206", replaces=dialog_of(consultation))
            bench.run(1.0)
            assert replies(first)[-1] == 202
            assert told(first) == ["100 active", "200 terminated"]
            assert first.has_ended()
            assert consultation.has_ended()
            assert len(bench.third.calls) == 1
            one, other = bench.media.legs.values()
            assert (one.bridged_with, other.bridged_with) == (other.id, one.id)
            # Nobody is on hold any more.
            assert one.configured[-1].remote.peer_sends
            assert one.configured[-1].remote.peer_receives
            bench.third.calls[0].bye()
            bench.run(0.5)
            assert bench.second.calls[0].has_ended()
        records = {record.record_id: record for record in bench.journal.final}
        joined = next(record for record in records.values() if record.continuation)
        assert records[joined.first_record_id].destination_user == "205"
        assert (joined.user, joined.caller_number, joined.destination_user) == ("204", "205", "206")
        assert [record.disposition for record in records.values()] == [Disposition.ANSWERED] * 3

    @pytest.mark.parametrize("held", [(), (0,), (1,), (0, 1)])
    @pytest.mark.parametrize("wishes", [("sendrecv", "sendrecv"), ("sendonly", "sendrecv")])
    def test_rfc3264_8_4_whom_the_transferor_has_held_talk(
        self, held: tuple[int, ...], wishes: tuple[str, str]
    ) -> None:
        """Nobody is left to take them back; a party that holds the other one itself goes on to."""
        with TransferBench() as bench:
            bench.desk.within = within_wish(bench.desk, "sendrecv")
            bench.second.within = within_wish(bench.second, wishes[0])
            bench.third.within = within_wish(bench.third, wishes[1])
            talks = [bench.talk(bench.desk, "205"), bench.talk(bench.desk, "206")]
            parties = [bench.second.calls[0], bench.third.calls[0]]
            for phone, party, wish in zip((bench.second, bench.third), parties, wishes, strict=True):
                if wish != "sendrecv":
                    party.request("INVITE", sdp(phone.host, version=2, direction=wish))
                    bench.run(0.5)
            for index in held:
                talks[index].request("INVITE", sdp("192.0.2.24", version=2, direction="sendonly"))
                bench.run(0.5)
            refer(talks[0], "206", replaces=dialog_of(talks[1]))
            bench.run(2.0)
            one, other = (leg.configured[-1].remote for leg in bench.media.legs.values())
            talk = wishes[0] == "sendrecv"
            assert (one.peer_sends, one.peer_receives) == (True, talk)
            assert (other.peer_sends, other.peer_receives) == (talk, True)
            parties[0].bye()
            bench.run(0.5)

    def test_rfc5589_7_the_target_still_rings(self) -> None:
        """A gated consultation is answered by the gate long before."""
        with desk_talks() as (bench, first):
            bench.carrier.script = (Step(0.5, 180), Step(5.0, 200, with_sdp=True))
            consultation = bench.talk_with_code(live=1)
            refer(first, OUTSIDE, replaces=dialog_of(consultation))
            bench.run(1.0)
            assert consultation.has_ended()
            assert not first.has_ended()
            assert "ringback" in bench.media.all[list(bench.media.all)[1]].heard
            bench.run(4.0)
            assert told(first)[-1] == "200 terminated"
            assert first.has_ended()
            assert bench.core.load.calls_of("carrier") == 1
            bench.second.calls[0].bye()
            bench.run(0.5)
            assert bench.carrier.calls[0].has_ended()
        joined = bench.journal.final[-1]
        assert joined.code is not None
        assert (joined.code_means, joined.normalised_number) == ("reused", E164)
        assert Disposition.CONTINUED in [record.disposition for record in bench.journal.final]

    def test_the_target_that_still_rings_does_not_answer(self) -> None:
        with desk_talks((Step(0.0, 180), Step(2.0, 603))) as (bench, first):
            consultation = bench.desk.call("206")
            bench.run(0.5)
            refer(first, "206", replaces=dialog_of(consultation))
            bench.run(0.5)
            assert consultation.status == 487
            bench.run(3.0)
            assert told(first)[-1] == "603 terminated"
            one, other = bench.media.legs.values()
            assert (one.bridged_with, other.bridged_with) == (other.id, one.id)

    def test_a_receptionist_joins_two_callers(self) -> None:
        """The transferor was called in both calls."""
        with TransferBench() as bench:
            one, two = bench.inbound(), bench.inbound()
            refer(bench.desk.calls[0], "x", replaces=dialog_of(bench.desk.calls[1]))
            bench.run(1.0)
            assert bench.desk.calls[0].has_ended()
            assert bench.desk.calls[1].has_ended()
            assert not one.has_ended()
            two.bye()
            bench.run(0.5)
            assert one.has_ended()

    @pytest.mark.parametrize("kind", ["inbound", "colleague"])
    @pytest.mark.parametrize("turned", [False, True])
    def test_the_call_that_has_gone_out_is_what_is_recorded(self, kind: str, turned: bool) -> None:
        """Whichever names the other: a call that is paid for does not go on as one that came in, or that a
        colleague has placed."""
        with TransferBench() as bench:
            out = bench.talk(bench.desk, FREE)
            if kind == "inbound":
                bench.inbound()
            else:
                bench.talk(bench.second, "204", user="205")
            came = bench.desk.calls[-1]
            one, other = (came, out) if turned else (out, came)
            refer(one, "x", replaces=dialog_of(other))
            bench.run(1.0)
            assert told(one)[-1] == "200 terminated"
            bench.carrier.calls[0].bye()
            bench.run(0.5)
        joined = next(record for record in bench.journal.final if record.continuation)
        assert (joined.direction, joined.user, joined.group) == (Direction.OUTBOUND, "204", "staff")
        assert (joined.dialled_number, joined.call_class) == (FREE, "toll_free")
        assert joined.caller_number in {"+13125550100", "205", "+12125550205"}

    @pytest.mark.parametrize("turned", [False, True])
    def test_an_emergency_call_that_is_joined_stays_one(self, turned: bool) -> None:
        """A disk that fails at that moment does not end it."""
        with TransferBench() as bench:
            help_, colleague = bench.talk(bench.desk, EMERGENCY), bench.talk(bench.desk, "205")
            bench.journal.durable = False
            one, other = (colleague, help_) if turned else (help_, colleague)
            refer(one, "x", replaces=dialog_of(other))
            bench.run(1.0)
            assert told(one)[-1] == "200 terminated"
            assert bench.carrier.calls[0].connected
            assert not bench.carrier.calls[0].has_ended()
            bench.carrier.calls[0].bye()
            bench.run(0.5)
            assert bench.second.calls[0].has_ended()
        joined = next(record for record in bench.journal.final if record.continuation)
        assert (joined.emergency, joined.normalised_number) == (True, "911")

    @pytest.mark.parametrize("change", ["call-id", "to-tag", "from-tag", "own", "early-only", "swapped"])
    def test_rfc3891_3_a_dialog_that_is_not_there(self, change: str) -> None:
        with desk_talks() as (bench, first):
            consultation = bench.talk(bench.desk, "206")
            named = dialog_of(first if change == "own" else consultation)
            names = {"call-id": named.call_id, "to-tag": named.remote_tag, "from-tag": named.local_tag}
            if change in names:
                names[change] += "x"
            if change == "swapped":
                names["to-tag"], names["from-tag"] = names["from-tag"], names["to-tag"]
            early = "%3Bearly-only" if change == "early-only" else ""
            options = (
                f"?Replaces={names['call-id']}%3Bto-tag%3D{names['to-tag']}%3Bfrom-tag%3D{names['from-tag']}"
            )
            refer(first, "206", options=options + early)
            bench.run(1.0)
            assert told(first)[-1] == f"{486 if early else 481} terminated"
            assert not first.has_ended()
            assert not consultation.has_ended()

    def test_the_call_of_another_user_can_not_be_named(self) -> None:
        with desk_talks() as (bench, first):
            other = bench.third.call(FREE, caller="206")
            bench.run(1.0)
            refer(first, "x", replaces=dialog_of(other))
            bench.run(1.0)
            assert told(first)[-1] == "481 terminated"
            assert not other.has_ended()

    def test_a_consultation_at_the_prompt_is_no_target(self) -> None:
        with desk_talks() as (bench, first):
            consultation = bench.desk.call(OUTSIDE)
            bench.run(0.5)
            refer(first, "x", replaces=dialog_of(consultation))
            bench.run(0.5)
            assert told(first)[-1] == "481 terminated"

    def test_a_call_that_rings_at_the_transferor_is_no_target(self) -> None:
        with desk_talks() as (bench, first):
            bench.desk.script = RING
            waiting = bench.carrier.call("+12125550204")
            bench.run(0.5)
            refer(first, "x", replaces=dialog_of(bench.desk.calls[-1]))
            bench.run(0.5)
            assert told(first)[-1] == "481 terminated"
            waiting.cancel()


class TestTakeover:
    """INVITE with Replaces."""

    def test_rfc3891_3_another_phone_of_the_user_goes_on(self) -> None:
        with desk_talks() as (bench, call):
            mobile = bench.phone("192.0.2.34")
            taken = mobile.call("205", caller="204", headers=replacing(call))
            bench.run(1.0)
            assert taken.status == 200
            assert call.has_ended()
            assert not bench.second.calls[0].has_ended()
            one, other = bench.media.legs.values()
            assert one.bridged_with == other.id
            bench.second.calls[0].bye()
            bench.run(0.5)
            assert taken.has_ended()
        first, second = bench.journal.final
        assert (second.continuation, second.first_record_id) == ("takeover", first.record_id)
        assert (second.user, second.caller_number, second.destination_user) == ("204", "204", "205")

    def test_the_callee_goes_on_at_another_phone(self) -> None:
        with desk_talks() as (bench, call):
            mobile = bench.phone("192.0.2.35")
            taken = mobile.call("204", caller="205", headers=replacing(bench.second.calls[0]))
            bench.run(1.0)
            assert taken.status == 200
            assert bench.second.calls[0].has_ended()
            assert not call.has_ended()
            taken.bye()
            bench.run(0.5)
            assert call.has_ended()

    @pytest.mark.parametrize("late", [True, False])
    def test_a_late_offer(self, late: bool) -> None:
        with desk_talks() as (bench, call):
            mobile = bench.phone("192.0.2.34")
            mobile.ack_body = mobile.description if late else b""
            body = b"" if late else None
            taken = mobile.call("205", caller="204", headers=replacing(call), body=body)
            bench.run(1.0)
            assert taken.status == 200
            one, other = bench.media.legs.values()
            assert one.bridged_with == other.id

    def test_rfc3891_3_a_ringing_call_is_picked_up(self) -> None:
        with TransferBench() as bench:
            bench.second.script = RING
            call = bench.desk.call("205")
            bench.run(0.5)
            mobile = bench.phone("192.0.2.35")
            taken = mobile.call(
                "204", caller="205", headers=replacing(bench.second.calls[0], options=";early-only")
            )
            bench.run(0.5)
            assert (taken.status, call.status) == (200, 200)
            assert bench.second.calls[0].was_cancelled()
            assert "completed elsewhere" in (bench.second.calls[0].requests[0].headers.get("Reason") or "")
            one, other = bench.media.legs.values()
            assert one.bridged_with == other.id
            call.bye()
            bench.run(0.5)
            assert taken.has_ended()
        first, second = bench.journal.final
        assert first.disposition is Disposition.CONTINUED
        assert (second.disposition, second.destination_user) == (Disposition.ANSWERED, "205")
        assert second.caller_number == "204"  # who picks up was called

    def test_who_picks_up_has_to_offer(self) -> None:
        with TransferBench() as bench:
            bench.second.script = SLOW
            call = bench.desk.call("205")
            bench.run(1.0)
            mobile = bench.phone("192.0.2.35")
            headers = replacing(bench.second.calls[0])
            for body, status in ((b"", 488), (b"nonsense", 400), (sdp(codecs="97"), 488)):
                taken = mobile.call("204", caller="205", headers=headers, body=body)
                bench.run(0.1)
                assert taken.status == status
            bench.run(2.0)
            assert call.status == 200
            call.bye()
            bench.run(0.5)

    def test_rfc3891_3_a_strangers_replaces_gets_a_challenge(self) -> None:
        with desk_talks() as (bench, call):
            taken = bench.stranger.call("205", caller="999", headers=replacing(call))
            bench.run(0.5)
            assert taken.status == 401
            assert not call.has_ended()

    @pytest.mark.parametrize("who", ["other user", "trunk", "callee"])
    def test_rfc3891_5_others_learn_nothing(self, who: str) -> None:
        with desk_talks() as (bench, call):
            thief: Ua = bench.carrier if who == "trunk" else bench.third
            caller = {"other user": "206", "trunk": "+12125550204", "callee": "205"}[who]
            for value in (replacing(call), (("Replaces", "unknown;to-tag=1;from-tag=2"),)):
                taken = thief.call("205", caller=caller, headers=value)
                bench.run(0.5)
                assert taken.status == 481
            assert not call.has_ended()
        assert [record.sip_code for record in bench.journal.final[:2]] == [481, 481]

    def test_rfc3891_3_early_only_and_answered_is_busy(self) -> None:
        with desk_talks() as (bench, call):
            taken = bench.desk.call("205", headers=replacing(call, options=";early-only"))
            bench.run(0.5)
            assert taken.status == 486

    def test_rfc3891_3_a_call_of_ones_own_that_rings_elsewhere(self) -> None:
        """An early dialog that the gate did not begin."""
        with TransferBench() as bench:
            bench.second.script = SLOW
            call = bench.desk.call("205")
            bench.run(1.0)
            taken = bench.desk.call("205", headers=replacing(call))
            bench.run(0.5)
            assert taken.status == 481
            bench.run(2.0)
            call.bye()
            bench.run(0.5)

    @pytest.mark.parametrize(
        "values",
        [
            ["a"],
            ["a;to-tag=1"],
            ["a;to-tag=1;to-tag=1;from-tag=2"],
            ["a;to-tag=1;from-tag="],
            ["a b;to-tag=1;from-tag=2"],
            [";to-tag=1;from-tag=2"],
            ["a;to-tag=1;from-tag=2", "b;to-tag=1;from-tag=2"],
        ],
    )
    def test_rfc3891_6_1_malformed_replaces(self, values: list[str]) -> None:
        with TransferBench() as bench:
            call = bench.desk.call("205", headers=[("Replaces", value) for value in values])
            bench.run(0.5)
            assert call.status == 400

    def test_rfc3911_4_replaces_beside_join(self) -> None:
        with TransferBench() as bench:
            headers = (("Replaces", "a;to-tag=1;from-tag=2"), ("Join", "a;to-tag=1;from-tag=2"))
            call = bench.desk.call("205", headers=headers)
            bench.run(0.5)
            assert call.status == 400

    def test_who_calls_for_help_is_connected_whatever_it_wants_to_replace(self) -> None:
        with TransferBench() as bench:
            call = bench.desk.call("911", headers=(("Replaces", "a;to-tag=1;from-tag=2"),))
            bench.run(0.5)
            assert call.status == 200
            call.bye()
            bench.run(0.5)

    def test_the_call_ends_while_the_newcomer_waits_for_ports(self) -> None:
        for silent in (False, True):
            with desk_talks() as (bench, call):
                bench.media.latency = lambda: 0.5
                bench.media.silent = silent
                taken = bench.desk.call("205", headers=replacing(call))
                bench.run(0.1)
                call.bye()
                bench.run(12.0)
                assert taken.status == (503 if silent else 481)
                bench.media.silent = False
                bench.media.legs.clear()

    @pytest.mark.parametrize("target", ["206", FREE])
    def test_the_party_is_transferred_while_the_newcomer_waits_for_ports(self, target: str) -> None:
        with desk_talks() as (bench, call):
            bench.media.latency = lambda: 0.5
            taken = bench.desk.call("205", headers=replacing(call))
            bench.run(0.1)
            bench.third.script = SLOW
            refer(bench.second.calls[0], target)
            bench.run(5.0)
            assert taken.status == 481
            assert told(bench.second.calls[0])[-1] == "200 terminated"
            assert not call.has_ended()

    def test_no_ports_for_the_newcomer(self) -> None:
        with desk_talks() as (bench, call):
            bench.media.refuses = lambda: True
            taken = bench.desk.call("205", headers=replacing(call))
            bench.run(0.5)
            assert taken.status == 503
            assert not call.has_ended()

    def test_an_unfit_invite_is_refused_first(self) -> None:
        with desk_talks() as (bench, call):
            taken = bench.desk.call("205", headers=(*replacing(call), ("Require", "telepathy")))
            bench.run(0.5)
            assert taken.status == 420

    def test_the_record_can_not_be_written(self) -> None:
        with desk_talks() as (bench, call):
            bench.journal.durable = False
            taken = bench.desk.call("205", headers=replacing(call))
            bench.run(0.5)
            assert taken.status == 500
            assert bench.second.calls[0].has_ended()


def test_a_pbx_replaces_what_is_its_own() -> None:
    with GateBench() as bench:
        call = bench.pbx.call(FREE)
        bench.run(0.5)
        other = bench.pbx.call("918005550199", headers=replacing(call))
        bench.run(0.5)
        assert other.status == 200
        assert call.has_ended()
        assert len(bench.carrier.calls) == 1
        assert bench.core.load.calls_of("carrier") == 1
        other.bye()
        bench.run(0.5)


def test_a_pbx_transfers_its_caller_with_a_consultation() -> None:
    with GateBench() as bench:
        call = bench.pbx.call(FREE)
        bench.run(0.5)
        consultation = bench.pbx.call("918005550199")
        bench.run(0.5)
        refer(call, "918005550199", replaces=dialog_of(consultation))
        bench.run(0.5)
        assert (call.has_ended(), consultation.has_ended()) == (True, True)
        assert bench.core.load.calls_of("carrier") == 2
        bench.carrier.calls[0].bye()
        bench.run(0.5)
        assert bench.carrier.calls[1].has_ended()


def test_the_use_of_a_limited_code_goes_along() -> None:
    plain = phone_policy()
    codes = CodeTable.of([AccountCode("1234", max_uses=1)])
    policy = Snapshot(plain.plan, plain.groups.values(), plain.users.values(), codes)
    with TransferBench(policy=policy) as bench:
        first = bench.talk(bench.desk, "205")
        bench.carrier.script = (Step(0.5, 180), Step(5.0, 200, with_sdp=True))
        consultation = bench.talk_with_code(live=1)
        refer(first, OUTSIDE, replaces=dialog_of(consultation))
        bench.run(1.0)
        assert bench.core.uses.held == 1
        assert bench.core.uses.reserved("1234") == 1
        bench.run(5.0)
        assert bench.core.uses.held == 0
        bench.carrier.calls[0].bye()
        bench.run(0.5)


def test_several_phones_of_the_target_still_ring() -> None:
    with desk_talks() as (bench, first):
        other = bench.phone("192.0.2.36", script=SLOW)
        bench.register(other, "206")
        bench.third.script = RING
        consultation = bench.desk.call("206")
        bench.run(1.0)
        refer(first, "206", replaces=dialog_of(consultation))
        bench.run(3.0)
        assert told(first)[-1] == "200 terminated"
        assert other.calls[0].connected
        assert bench.third.calls[0].was_cancelled()


def test_the_ports_for_the_target_are_not_there_yet() -> None:
    with desk_talks() as (bench, first):
        bench.media.latency = lambda: 3.0 if bench.media.opened > 3 else 0.0
        consultation = bench.desk.call(OUTSIDE)
        bench.run(0.5)
        bench.press("1234#", call=1)
        refer(first, OUTSIDE, replaces=dialog_of(consultation))
        bench.run(0.5)
        assert consultation.has_ended()
        assert not bench.carrier.calls
        bench.run(4.0)
        assert told(first)[-1] == "200 terminated"
        bench.carrier.calls[0].bye()
        bench.run(4.0)


def test_a_call_that_is_being_transferred_is_picked_up() -> None:
    with desk_talks(RING) as (bench, call):
        refer(call, "206")
        bench.run(1.0)
        mobile = bench.phone("192.0.2.36")
        taken = mobile.call("x", caller="206", headers=replacing(bench.third.calls[0]))
        bench.run(1.0)
        assert taken.status == 200
        assert told(call)[-1] == "200 terminated"
        assert call.has_ended()
        taken.bye()
        bench.run(0.5)
        assert bench.second.calls[0].has_ended()
