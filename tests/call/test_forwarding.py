"""Phones that send their callers elsewhere (RFC 3261 §8.1.3.4, §21.3; RFC 5806)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from proxy.cdr.record import Direction, Disposition, HungUpBy
from proxy.policy import (
    AccountCode,
    CodeCollection,
    CodeOwner,
    CodeTable,
    OwnerKind,
    Snapshot,
    UserGroup,
)
from tests.call.phones import phone_policy
from tests.call.transfers import BUSY, FREE, OUTSIDE, PREMIUM, SLOW, TransferBench, refer, told
from tests.support.ua import Headers, Step


def moved(*contacts: str, status: int = 302, after: float = 0.0, headers: Headers = ()) -> tuple[Step, ...]:
    """Return what a phone does that sends its callers elsewhere."""
    found = [("Contact", contact if "<" in contact else f"<sip:{contact}@gate>") for contact in contacts]
    return (Step(after, status, headers=(*found, *headers)),)


def internal_codes(*codes: AccountCode, collection: CodeCollection = CodeCollection.REQUIRED) -> Snapshot:
    """Return a policy that asks for a code in internal calls too."""
    plain = phone_policy()
    staff = next(iter(plain.groups.values()))
    permissions = replace(staff.permissions, classes=frozenset())
    group = UserGroup("staff", permissions=permissions, collection=collection, unlock=staff.unlock)
    return Snapshot(plain.plan, [group], plain.users.values(), CodeTable.of(codes))


@pytest.mark.parametrize("status", [300, 301, 302])
def test_rfc3261_8_1_3_4_the_caller_goes_on_to_the_contact(status: int) -> None:
    with TransferBench() as bench:
        bench.second.script = moved("206", status=status)
        call = bench.desk.call("205")
        bench.run(2.0)
        assert call.status == 200
        assert bench.third.calls[0].connected
        invite = bench.third.calls[0].invite
        assert invite is not None
        assert (invite.headers.get("From") or "").startswith('"Desk 204" <sip:204@')
        call.bye()
        bench.run(0.5)
        assert bench.third.calls[0].has_ended()
    first, second = bench.journal.final
    assert (first.disposition, first.sip_code, first.hung_up_by) == (
        Disposition.CONTINUED,
        status,
        HungUpBy.B_LEG,
    )
    assert (second.first_record_id, second.continuation) == (first.record_id, "forward")
    assert (second.user, second.caller_number, second.destination_user) == ("205", "204", "206")


def test_a_call_from_the_carrier_goes_out_again() -> None:
    """The diversion is told to the carrier, the caller stays who it is."""
    with TransferBench() as bench:
        bench.desk.script = moved(FREE)
        call = bench.carrier.call("+12125550204", caller="+13125550100")
        bench.run(2.0)
        assert call.status == 200
        invite = bench.carrier.calls[-1].invite
        assert invite is not None
        assert invite.headers.get("Diversion") == (
            "<sip:204@carrier.example.com>;reason=unconditional;counter=1"
        )
        assert "+13125550100" in (invite.headers.get("From") or "")
        call.bye()
        bench.run(0.5)
    second = bench.journal.final[1]
    assert (second.direction, second.user, second.caller_number) == (
        Direction.OUTBOUND,
        "204",
        "+13125550100",
    )


@pytest.mark.parametrize(
    ("rings", "said", "reason", "cause"),
    [
        (False, "", "unconditional", 302),
        (True, "", "deflection", 487),
        (False, "<sip:204@192.0.2.24>;reason=no-answer", "no-answer", 408),
        (False, '<sip:204@192.0.2.24>;counter=1;reason="user-busy"', "user-busy", 486),
        (False, "<sip:204@192.0.2.24>;reason=whatever;x", "unknown", 302),
        (True, "<sip:204@192.0.2.24>", "deflection", 487),
        (False, "<sip:204@192.0.2.24>;reason=deflection", "deflection", 480),
        (True, "<sip:204@192.0.2.24>;reason=user-busy", "user-busy", 486),
    ],
)
def test_rfc5806_4_rfc4458_2_the_reason_of_a_diversion(
    rings: bool, said: str, reason: str, cause: int
) -> None:
    with TransferBench() as bench:
        headers = (("Diversion", said),) if said else ()
        bench.desk.script = (*((Step(0.0, 180),) if rings else ()), *moved(FREE, after=0.5, headers=headers))
        call = bench.carrier.call("+12125550204", caller="+13125550100")
        bench.run(2.0)
        invite = bench.carrier.calls[-1].invite
        assert invite is not None
        assert f";reason={reason};" in (invite.headers.get("Diversion") or "")
        assert f";cause={cause}>" in invite.headers.get_all("History-Info")[-1]
        call.bye()
        bench.run(0.5)


def test_the_other_phones_of_the_user_stop() -> None:
    with TransferBench() as bench:
        other = bench.phone("192.0.2.35", script=(Step(0.0, 180),))
        bench.register(other, "205")
        bench.second.script = moved("206", after=1.0)
        call = bench.desk.call("205")
        bench.run(3.0)
        assert call.status == 200
        assert other.calls[0].was_cancelled()
        assert other.calls[0].requests[0].headers.get("Reason") == 'SIP;cause=302;text="Call forwarded"'
        call.bye()
        bench.run(0.5)


@pytest.mark.parametrize(
    ("contacts", "reached"),
    [
        (("<sip:204@gate>;q=0.1", "<sip:206@gate>;q=0.9"), True),
        (("<sip:206@gate>;q=x", f"<sip:{PREMIUM}@gate>"), True),
        (("<sip:206@gate>;q=7", "<sip:299@gate>;q=-1"), True),
        ((f"<sip:{PREMIUM}@gate>;q=1, <sip:206@gate>;q=0.5",), True),
        (("<sip:206@gate;method=INVITE?Replaces=x>",), True),
        ((), False),
        (("<sip:206@gate",), False),
        (("<*>",), False),
        (("<sip:299@gate>", "<sip:206@gate"), False),
        (("<mailto:206@gate>",), False),
        (("<sip:gate>",), False),
        (("<sip:299@gate>",), False),
        ((*(f"<sip:29{digit}@gate>" for digit in range(1, 7)), "<sip:206@gate>"), False),
    ],
)
def test_rfc3261_20_10_contacts_by_preference(contacts: tuple[str, ...], reached: bool) -> None:
    with TransferBench() as bench:
        bench.second.script = moved(*contacts)
        call = bench.desk.call("205")
        bench.run(6.0)  # a response that can't be read counts as none
        assert call.status == (200 if reached else 480)
        assert bool(bench.third.calls) is reached
        if reached:
            call.bye()
        bench.run(0.5)


class TestFurtherContacts:
    """What follows when the contact that was called first is not to be had (§8.1.3.4)."""

    @pytest.mark.parametrize(
        ("first", "reached"),
        [
            ((Step(0.2, 486),), True),
            ((Step(0.0, 180), Step(0.5, 480)), True),
            ((Step(0.2, 500),), True),
            ((Step(0.0, 183, with_sdp=True), Step(0.5, 486)), True),
            ((Step(0.2, 603),), False),
            ((Step(0.2, 600),), False),
        ],
    )
    def test_rfc3261_8_1_3_4_the_next_one_is_called(self, first: tuple[Step, ...], reached: bool) -> None:
        with TransferBench() as bench:
            bench.second.script = moved(f"<sip:{FREE}@gate>;q=0.2", "<sip:206@gate>;q=0.8")
            bench.third.script = first
            call = bench.desk.call("205")
            bench.run(3.0)
            assert len(bench.third.calls) == 1
            assert (call.status == 200) is reached
            assert len(bench.carrier.calls) == reached
            assert bench.core.load.calls_of("carrier") == reached
            if reached:
                invite = bench.carrier.calls[0].invite
                assert invite is not None
                assert (invite.headers.get("Diversion") or "").startswith("<sip:205@")
                one, other = bench.media.legs.values()
                assert (one.bridged_with, other.bridged_with) == (other.id, one.id)
                call.bye()
            bench.run(0.5)
        assert len({record.first_record_id or record.record_id for record in bench.journal.final}) == 1
        assert len(bench.journal.final) == 2 + reached

    def test_contacts_of_a_contact_go_first(self) -> None:
        with TransferBench() as bench:
            fourth = bench.phone("192.0.2.35", script=(Step(0.1, 486),))
            bench.register(fourth, "204")
            bench.second.script = moved("206", FREE)
            bench.third.script = moved("204")
            bench.desk.script = (Step(0.1, 486),)
            call = bench.desk.call("205")
            bench.run(4.0)
            assert call.status == 200
            assert len(fourth.calls) == 1
            invite = bench.carrier.calls[0].invite
            assert invite is not None
            # Who is called now was named by the first phone, not by the second one.
            assert invite.headers.get_all("Diversion") == [
                "<sip:205@carrier.example.com>;reason=unconditional;counter=1"
            ]
            call.bye()
            bench.run(0.5)

    def test_all_of_them_count(self) -> None:
        """Phones that name each other again and again end as one that does so once (§16.3)."""
        with TransferBench() as bench:
            bench.second.script = moved("206", "206", "206", "206", "206")
            bench.third.script = moved("205", "205", "205", "205", "205")
            call = bench.desk.call("205")
            bench.run(5.0)
            assert call.status == 480
            assert len(bench.second.calls) + len(bench.third.calls) == 6

    def test_none_that_is_left_may_be_called(self) -> None:
        with TransferBench() as bench:
            bench.second.script = moved("206", PREMIUM, OUTSIDE)
            bench.third.script = (Step(0.2, 486),)
            call = bench.desk.call("205")
            bench.run(2.0)
            assert call.status == 486
            assert not bench.carrier.calls

    def test_in_a_transfer_the_transferor_hears_of_the_last_one(self) -> None:
        with TransferBench() as bench:
            call = bench.talk(bench.desk, "205")
            bench.third.script = moved("204", "299")
            bench.desk.script = (Step(0.2, 486),)
            refer(call, "206")
            bench.run(3.0)
            assert told(call)[-1] == "486 terminated"
            assert not bench.second.calls[0].has_ended()
            call.bye()
            bench.run(0.5)

    def test_who_has_answered_was_the_last_one(self) -> None:
        """Its record can't be kept, nor could that of the next one."""
        with TransferBench() as bench:
            call = bench.talk(bench.desk, "205")
            bench.third.script = moved("204", FREE)
            bench.journal.durable = False
            refer(call, "206")
            bench.run(3.0)
            assert told(call)[-1] == "500 terminated"
            assert not bench.carrier.calls
            call.bye()
            bench.run(0.5)

    def test_the_caller_gives_up_at_the_next_one(self) -> None:
        with TransferBench() as bench:
            bench.second.script = moved("206", FREE)
            bench.third.script = (Step(0.2, 486),)
            bench.carrier.script = (Step(0.0, 180),)
            call = bench.desk.call("205")
            bench.run(1.0)
            call.cancel()
            bench.run(1.0)
            assert call.status == 487
            assert bench.carrier.calls[0].was_cancelled()


class TestHistory:
    """History-Info beside Diversion (RFC 7044 §10, RFC 4458 §2)."""

    @pytest.mark.parametrize(
        ("reason", "cause"),
        [("", 302), ("user-busy", 486), ("no-answer", 408), ("unavailable", 503), ("whatever", 302)],
    )
    @pytest.mark.parametrize(
        ("crosses", "base"),
        [
            ("", ""),
            ("<sip:1@x>;index=1, <sip:2@x>;index=1.1;mp=1", "1.1."),
            ("<sip:1@x>;foo", ""),
            ("<sip:1@x>; INDEX = 3", "3."),
            ("<sip:1@x>;index=999999", ""),
        ],
    )
    def test_rfc7044_10_who_has_forwarded_and_where_to(
        self, reason: str, cause: int, crosses: str, base: str
    ) -> None:
        with TransferBench() as bench:
            said = (("Diversion", f"<sip:204@192.0.2.24>;reason={reason}"),) if reason else ()
            bench.desk.script = moved(FREE, headers=said)
            headers = (("History-Info", crosses),) if crosses else ()
            call = bench.carrier.call("+12125550204", caller="+13125550100", headers=headers)
            bench.run(2.0)
            invite = bench.carrier.calls[-1].invite
            assert invite is not None
            assert invite.headers.get_all("History-Info") == [
                *((crosses,) if crosses else ()),
                f"<sip:204@carrier.example.com>;index={base}1",
                f"<{invite.uri};cause={cause}>;index={base}1.1;mp={base}1",
            ]
            call.bye()
            bench.run(0.5)

    @pytest.mark.parametrize("change", [{"trusted": False}, {"drop_headers": frozenset({"History-Info"})}])
    def test_a_trunk_that_wants_none_gets_none(self, change: dict[str, Any]) -> None:
        with TransferBench() as bench:
            trunks = tuple(replace(trunk, **change) for trunk in bench.core.config.trunks)
            bench.core.reconfigure(replace(bench.core.config, trunks=trunks))
            bench.desk.script = moved(FREE)
            call = bench.carrier.call("+12125550204", headers=(("History-Info", "<sip:1@x>;index=1"),))
            bench.run(2.0)
            invite = bench.carrier.calls[-1].invite
            assert invite is not None
            assert "History-Info" not in invite.headers
            assert ("Diversion" in invite.headers) is change.get("trusted", True)
            call.bye()
            bench.run(0.5)


@pytest.mark.parametrize("status", [305, 380, 399])
def test_rfc3261_21_3_proxies_and_services_of_a_phone_are_not_taken(status: int) -> None:
    with TransferBench() as bench:
        bench.second.script = moved("206", status=status)
        call = bench.desk.call("205")
        bench.run(1.0)
        assert call.status == 480
        assert not bench.third.calls
    assert bench.record.disposition is Disposition.NO_ANSWER


def test_a_trunks_302_never_crosses() -> None:
    with TransferBench() as bench:
        bench.carrier.script = moved("206")
        call = bench.desk.call(FREE)
        bench.run(1.0)
        assert call.status == 480
        assert not bench.third.calls


class TestPolicy:
    """The user of the phone that forwards reaches what he could dial."""

    @pytest.mark.parametrize("target", [PREMIUM, "911", "sip:112@gate", "tel:911"])
    def test_a_blocked_class_and_emergency_numbers_are_not_reached(self, target: str) -> None:
        with TransferBench() as bench:
            bench.desk.script = moved(f"<{target}>" if ":" in target else target)
            call = bench.carrier.call("+12125550204", caller="+13125550100")
            bench.run(2.0)
            assert call.status == 480
            assert len(bench.carrier.calls) == 1
        refused, first = bench.journal.final
        assert (refused.disposition, refused.continuation) == (Disposition.BLOCKED, "forward")
        assert (refused.first_record_id, refused.decision) == (first.record_id, "block")
        assert first.disposition is Disposition.NO_ANSWER

    def test_a_required_code_that_nobody_has_entered(self) -> None:
        with TransferBench() as bench:
            bench.desk.script = moved(OUTSIDE)
            call = bench.carrier.call("+12125550204", caller="+13125550100")
            bench.run(2.0)
            assert call.status == 480
        assert bench.journal.final[0].disposition is Disposition.CODE_REFUSED

    def test_an_optional_code_is_gone_without(self) -> None:
        plain = phone_policy()
        staff = replace(next(iter(plain.groups.values())), collection=CodeCollection.OPTIONAL)
        policy = Snapshot(plain.plan, [staff], plain.users.values(), CodeTable.of(plain.codes))
        with TransferBench(policy=policy) as bench:
            bench.desk.script = moved(OUTSIDE)
            call = bench.carrier.call("+12125550204", caller="+13125550100")
            bench.run(2.0)
            assert call.status == 200
            call.bye()
            bench.run(0.5)
        assert bench.journal.final[1].code is None

    def test_the_code_of_the_caller_is_used_again(self) -> None:
        """Also the last use of a code with a limit: it is one call."""
        with TransferBench(policy=internal_codes(AccountCode("1234", max_uses=1))) as bench:
            bench.second.script = moved(OUTSIDE, after=0.5)
            call = bench.desk.call("205")
            bench.run(0.5)
            bench.press("1234#")
            bench.run(3.0)
            assert bench.carrier.calls[0].connected
            assert bench.core.uses.reserved("1234") == 1
            call.bye()
            bench.run(0.5)
        first, second = bench.journal.final
        assert (first.disposition, second.code_means) == (Disposition.CONTINUED, "reused")

    @pytest.mark.parametrize("collection", [CodeCollection.REQUIRED, CodeCollection.OPTIONAL])
    def test_a_code_that_does_not_unlock_the_target(self, collection: CodeCollection) -> None:
        """It is the caller's own, and the phone that forwards is another user's."""
        own = AccountCode("1234", owner=CodeOwner(OwnerKind.USER, "204"))
        with TransferBench(policy=internal_codes(own, collection=collection)) as bench:
            bench.second.script = moved(OUTSIDE, after=0.5)
            call = bench.desk.call("205")
            bench.run(0.5)
            bench.press("1234#")
            bench.run(3.0)
            assert len(bench.carrier.calls) == (collection is CodeCollection.OPTIONAL)
            bench.run(12.0)
            if not call.has_ended():
                call.bye()
            bench.run(0.5)
        assert bench.core.uses.held == 0

    def test_phones_that_send_to_each_other(self) -> None:
        with TransferBench() as bench:
            bench.second.script = moved("206")
            bench.third.script = moved("205")
            call = bench.desk.call("205")
            bench.run(2.0)
            assert call.status == 480
            assert len(bench.second.calls) + len(bench.third.calls) == 6
        assert [record.sip_code for record in bench.journal.final].count(482) == 1


def test_the_caller_gives_up_after_a_forward() -> None:
    with TransferBench() as bench:
        bench.second.script = moved("206")
        bench.third.script = (Step(0.0, 180),)
        call = bench.desk.call("205")
        bench.run(1.0)
        assert call.status == 180
        call.cancel()
        bench.run(1.0)
        assert call.status == 487
        assert bench.third.calls[0].was_cancelled()


def test_an_answered_caller_hears_it_ring() -> None:
    """Asked for a code in answer mode, forwarded from there to a trunk that speaks another codec."""
    with TransferBench(policy=internal_codes(AccountCode("1234"))) as bench:
        bench.second.script = moved("206", after=0.2)
        bench.third.script = SLOW
        call = bench.desk.call("205")
        bench.run(0.5)
        bench.press("1234#")
        bench.run(1.0)
        assert "ringback" in bench.heard
        bench.run(2.0)
        assert bench.third.calls[0].connected
        call.bye()
        bench.run(0.5)


def test_a_caller_that_was_told_nothing_gets_the_codec_of_the_new_way() -> None:
    with TransferBench() as bench:
        bench.second.script = moved(FREE)
        body = bench.desk.description.replace(b"RTP/AVP 0 8 101", b"RTP/AVP 9 8 101")
        call = bench.desk.call("205", body=body + b"a=rtpmap:9 G722/8000\r\n")
        bench.run(2.0)
        assert call.status == 200
        assert b"PCMA" in call.last.body
        call.bye()
        bench.run(0.5)


def test_no_codec_in_common_with_the_new_way() -> None:
    with TransferBench() as bench:
        bench.second.script = moved(FREE)
        body = bench.desk.description.replace(b"RTP/AVP 0 8 101", b"RTP/AVP 9")
        call = bench.desk.call("205", body=body + b"a=rtpmap:9 G722/8000\r\n")
        bench.run(2.0)
        assert call.status == 488


def test_a_caller_without_an_offer_is_forwarded() -> None:
    with TransferBench() as bench:
        bench.second.script = moved("206")
        bench.desk.ack_body = bench.desk.description
        call = bench.desk.call("205", body=b"")
        bench.run(2.0)
        assert call.status == 200
        call.bye()
        bench.run(0.5)


@pytest.mark.parametrize("reached", [True, False])
def test_the_target_of_a_transfer_sends_the_call_on(reached: bool) -> None:
    """The transferor is told what the forward comes to, and has the other party back if that is nothing."""
    with TransferBench() as bench:
        call = bench.talk(bench.desk, "205")
        bench.third.script = moved(FREE)
        bench.carrier.script = SLOW if reached else BUSY
        refer(call, "206")
        bench.run(0.2)
        assert told(call) == ["100 active"]
        bench.run(4.0)
        assert told(call) == ["100 active", "180 active", f"{200 if reached else 486} terminated"]
        assert call.has_ended() is reached
        assert not bench.second.calls[0].has_ended()
        bench.second.calls[0].bye()
        bench.run(0.5)
        assert call.has_ended()
    assert [record.continuation for record in bench.journal.final].count("forward") == 1
