"""Reliable provisional responses, both sides: RFC 3262."""

from __future__ import annotations

import pytest

from proxy.errors import LocalProtocolError
from proxy.sip.config import SUPPORTED, EndpointConfig
from proxy.sip.dialog import Dialog
from proxy.sip.events import Cancelled, DialogEnded, PrackTimedOut, RequestReceived, ResponseReceived
from proxy.sip.ids import KeyedIds
from proxy.sip.invite_client import InviteClientTransaction
from proxy.sip.invite_server import InviteServerTransaction
from proxy.sip.message import Request, Response
from tests.sip.harness import LISTEN_POINTS, TCP, UDP, Harness, answer, calling, request, spec

BODY = b"v=0\r\n"
RELIABLE = "Require: 100rel\r\nRSeq: {}\r\n"


def ringing(status: int = 183, body: bytes = BODY, **kwargs: str) -> tuple[Harness, InviteServerTransaction]:
    """An INVITE of the peer that got one reliable provisional response."""
    harness = Harness(EndpointConfig(LISTEN_POINTS, supported=SUPPORTED))
    transaction = harness.invited(**kwargs)
    progress(harness, transaction, status, body)
    return harness, transaction


def progress(harness: Harness, transaction: InviteServerTransaction, status: int, body: bytes = b"") -> None:
    harness.endpoint.respond(transaction, status, body=body, reliable=True, now=harness.now)
    harness.drain()


def prack(
    transaction: InviteServerTransaction, rack: str = "7000 1 INVITE", *, cseq: str = "2", body: str = ""
) -> str:
    return request(
        "PRACK",
        to_tag=transaction.lines.to_tag,
        branch=f"z9hG4bK-prack-{cseq}",
        cseq=cseq,
        extra=f"RAck: {rack}\r\n" if rack else "",
        body=body,
    )


def refusal(harness: Harness, text: str) -> Response:
    """What the endpoint answers by itself."""
    harness.receive(text)
    assert harness.take_all() == []
    return harness.last().response


class Test_3_uas:  # noqa: N801 - named as the RFC section
    def test_requires_100rel_and_counts_from_a_first_rseq(self) -> None:
        harness, transaction = ringing()
        first = harness.last().response
        assert first.status == 183
        assert first.headers.get("Require") == "100rel"
        assert first.headers.get("RSeq") == "7000"
        # RFC 3311 §5.1: whether an UPDATE may come now.
        assert "UPDATE" in first.headers.values("Allow")
        assert first.contact is not None
        harness.receive(prack(transaction))
        progress(harness, transaction, 180)
        assert harness.last().response.headers.get("RSeq") == "7001"

    def test_the_first_rseq_is_between_1_and_2_to_the_31(self) -> None:
        ids = KeyedIds(b"0" * 16)
        assert all(1 <= ids.rseq() < 2**31 for _ in range(1000))

    @pytest.mark.parametrize("over", ["UDP", "TCP"])
    def test_is_repeated_from_t1_doubling_until_64_t1_over_any_transport(self, over: str) -> None:
        harness, transaction = ringing(over=over)
        harness.run_until(31.999)
        assert harness.times("183") == [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
        harness.sent.clear()
        harness.settle()
        assert harness.take(PrackTimedOut).transaction is transaction
        assert harness.clock.elapsed == 32.0
        assert harness.take_sent() == []
        harness.respond(transaction, 504)
        assert harness.take_sent() == ["504"]
        harness.receive(request("ACK", to_tag=transaction.lines.to_tag), TCP if over == "TCP" else UDP)
        harness.take_all()
        harness.assert_nothing_left()

    def test_prack_stops_the_repeats_and_comes_to_the_tu(self) -> None:
        harness, transaction = ringing()
        harness.receive(prack(transaction))
        event = harness.take(RequestReceived)
        assert event.request.method == "PRACK"
        assert event.dialog is transaction.dialog
        harness.respond(event.transaction, 200)
        harness.sent.clear()
        harness.run_until(60.0)
        assert harness.take_sent() == []

    def test_a_repeated_prack_gets_its_200_again(self) -> None:
        harness, transaction = ringing()
        harness.receive(prack(transaction))
        harness.respond(harness.take(RequestReceived).transaction, 200)
        harness.sent.clear()
        harness.receive(prack(transaction))
        assert harness.take_sent() == ["200"]
        assert harness.take_all() == []

    @pytest.mark.parametrize(
        "rack", ["7001 1 INVITE", "6999 1 INVITE", "7000 2 INVITE", "7000 1 UPDATE", "7000 1 invite"]
    )
    def test_prack_for_nothing_that_is_out_gets_481(self, rack: str) -> None:
        harness, transaction = ringing()
        assert refusal(harness, prack(transaction, rack)).status == 481
        harness.sent.clear()
        harness.run_until(0.5)
        assert harness.take_sent() == ["183"]

    def test_a_second_prack_for_the_same_response_gets_481(self) -> None:
        harness, transaction = ringing()
        harness.receive(prack(transaction))
        harness.respond(harness.take(RequestReceived).transaction, 200)
        assert refusal(harness, prack(transaction, cseq="3")).status == 481

    def test_prack_where_nothing_was_reliable_gets_481(self) -> None:
        harness = Harness()
        transaction = harness.invited()
        harness.respond(transaction, 180)
        assert refusal(harness, prack(transaction)).status == 481

    @pytest.mark.parametrize(
        "rack",
        ["", "7000", "7000 1", "x 1 INVITE", "7000 -1 INVITE", "7000 1 INVITE x", "4294967296 1 INVITE",
         "99999999999 1 INVITE", "７０００ 1 INVITE"],
    )  # fmt: skip
    def test_prack_without_a_sound_rack_gets_400_each_time(self, rack: str) -> None:
        harness, transaction = ringing()
        assert refusal(harness, prack(transaction, rack)).status == 400
        assert refusal(harness, prack(transaction, rack)).status == 400
        harness.receive(prack(transaction))
        harness.take(RequestReceived)

    def test_the_next_waits_in_line_for_the_prack_of_the_first(self) -> None:
        harness, transaction = ringing()
        progress(harness, transaction, 180)
        progress(harness, transaction, 181)
        assert harness.take_sent() == ["183"]
        harness.receive(prack(transaction))
        harness.take(RequestReceived)
        assert harness.take_sent() == ["180"]
        harness.run_until(0.5)
        assert harness.take_sent() == ["180"]
        harness.receive(prack(transaction, "7001 1 INVITE", cseq="3"))
        harness.take(RequestReceived)
        assert harness.take_sent() == ["181"]

    def test_a_callee_that_rings_on_and_on_fills_no_memory(self) -> None:
        harness, transaction = ringing()
        for _ in range(100):
            progress(harness, transaction, 180)
        progress(harness, transaction, 183, BODY)
        rseqs = []
        for number in range(200):
            rseqs.append(harness.last().response.headers.get("RSeq"))
            harness.sent.clear()
            harness.receive(prack(transaction, f"{7000 + number} 1 INVITE", cseq=str(number + 2)))
            harness.take(RequestReceived)
            if not harness.sent:
                break
        assert rseqs == [str(7000 + number) for number in range(len(rseqs))]
        assert 10 < len(rseqs) < 30

    def test_a_repeated_invite_gets_the_latest_provisional_response(self) -> None:
        harness, transaction = ringing()
        harness.sent.clear()
        harness.receive(request("INVITE"))
        assert harness.last().response.headers.get("RSeq") == "7000"
        assert harness.take_sent() == ["183"]
        assert not transaction.answered

    def test_no_2xx_while_a_description_waits_for_its_prack(self) -> None:
        harness, transaction = ringing()
        dialog = transaction.dialog
        assert dialog is not None
        withheld = [dialog.withholds_success]
        with pytest.raises(LocalProtocolError):
            harness.respond(transaction, 200)
        harness.receive(prack(transaction))
        harness.take(RequestReceived)
        withheld.append(dialog.withholds_success)
        assert withheld == [True, False]
        harness.respond(transaction, 200)
        assert harness.take_sent()[-1] == "200"

    def test_no_2xx_while_a_description_waits_in_line(self) -> None:
        harness, transaction = ringing(180, b"")
        progress(harness, transaction, 183, BODY)
        assert transaction.dialog is not None
        assert transaction.dialog.withholds_success

    def test_2xx_overtakes_the_prack_of_a_response_without_description(self) -> None:
        harness, transaction = ringing(180, b"")
        progress(harness, transaction, 181)
        harness.respond(transaction, 200)
        harness.sent.clear()
        # MUST still take the PRACK of what was out; what waited in line is never sent.
        harness.receive(prack(transaction))
        harness.respond(harness.take(RequestReceived).transaction, 200)
        assert harness.take_sent() == ["200"]
        harness.run_until(0.4)
        assert harness.take_sent() == []

    @pytest.mark.parametrize("status", [486, 500])
    def test_a_refusal_overtakes_the_prack_and_ends_the_repeats(self, status: int) -> None:
        harness, transaction = ringing()
        harness.respond(transaction, status)
        harness.take(DialogEnded)
        harness.receive(request("ACK", to_tag=transaction.lines.to_tag))
        harness.sent.clear()
        harness.settle()
        assert harness.take_sent() == []
        harness.assert_nothing_left()

    def test_cancel_meanwhile(self) -> None:
        harness, transaction = ringing()
        harness.receive(request("CANCEL"))
        harness.take(Cancelled)
        harness.respond(transaction, 487)
        harness.take(DialogEnded)
        harness.receive(request("ACK", to_tag=transaction.lines.to_tag))
        harness.sent.clear()
        harness.assert_nothing_left()
        assert harness.sent == []

    def test_terminate_ends_the_repeats(self) -> None:
        harness, transaction = ringing()
        assert transaction.dialog is not None
        harness.endpoint.terminate(transaction.dialog)
        harness.sent.clear()
        harness.run_until(40.0)
        assert harness.take_sent() == []

    @pytest.mark.parametrize("status", [100, 200, 486])
    def test_only_101_to_199_can_be_reliable(self, status: int) -> None:
        harness = Harness()
        transaction = harness.invited()
        with pytest.raises(LocalProtocolError):
            progress(harness, transaction, status)

    def test_only_an_invite_has_them(self) -> None:
        harness = Harness()
        harness.receive(request("OPTIONS"))
        transaction = harness.take(RequestReceived).transaction
        with pytest.raises(LocalProtocolError):
            harness.endpoint.respond(transaction, 183, reliable=True, now=harness.now)

    def test_prack_outside_a_dialog_gets_481(self) -> None:
        assert refusal(Harness(), request("PRACK", extra="RAck: 1 1 INVITE\r\n")).status == 481


def supporting() -> tuple[Harness, InviteClientTransaction, Request]:
    return calling(config=EndpointConfig(LISTEN_POINTS, supported=SUPPORTED))


def rang(harness: Harness, invite: Request, rseq: str, status: int = 180, to_tag: str = "peer") -> str | None:
    """Receive a reliable response; returns the RAck that the TU is asked for, None when it heard nothing."""
    harness.receive(answer(invite, status, to_tag=to_tag, extra=RELIABLE.format(rseq)))
    events = harness.take_all()
    if not events:
        return None
    assert len(events) == 1
    assert isinstance(events[0], ResponseReceived)
    return events[0].rack


class Test_4_uac:  # noqa: N801 - named as the RFC section
    def test_the_tu_is_asked_for_a_prack_within_the_early_dialog(self) -> None:
        harness, _, invite = supporting()
        assert "100rel" in invite.headers.values("Supported")
        harness.receive(answer(invite, 180, extra=RELIABLE.format(42)))
        event = harness.take(ResponseReceived)
        assert event.rack == "42 1 INVITE"
        assert event.dialog is not None
        harness.endpoint.request(event.dialog, "PRACK", headers=[("RAck", event.rack)], now=harness.now)
        sent = harness.last().request
        assert sent.method == "PRACK"
        assert sent.headers.get("RAck") == "42 1 INVITE"
        assert sent.cseq.number == 2
        assert sent.to.tag == "peer"
        assert sent.uri == "sip:15551230001@192.0.2.2:5060"

    def test_repeated_and_out_of_order_responses_are_ignored(self) -> None:
        harness, _, invite = supporting()
        assert rang(harness, invite, "42") == "42 1 INVITE"
        assert rang(harness, invite, "42") is None
        assert rang(harness, invite, "44") is None
        assert rang(harness, invite, "41") is None
        assert rang(harness, invite, "43") == "43 1 INVITE"
        assert rang(harness, invite, "44") == "44 1 INVITE"

    def test_every_early_dialog_has_an_order_of_its_own(self) -> None:
        harness, _, invite = supporting()
        assert rang(harness, invite, "42", to_tag="one") == "42 1 INVITE"
        assert rang(harness, invite, "7", to_tag="two") == "7 1 INVITE"
        assert rang(harness, invite, "43", to_tag="one") == "43 1 INVITE"
        assert rang(harness, invite, "8", to_tag="two") == "8 1 INVITE"

    @pytest.mark.parametrize("rseq", ["", "0", "x", "-1", "4294967296", "1 2", "99999999999"])
    def test_one_that_cannot_be_acknowledged_is_like_any_other(self, rseq: str) -> None:
        harness, _, invite = supporting()
        assert rang(harness, invite, rseq) == ""

    @pytest.mark.parametrize("require", ["", "Require: timer\r\n", 'Require: "100rel\r\n', "Require: ,\r\n"])
    def test_rseq_without_require_is_not_reliable(self, require: str) -> None:
        harness, _, invite = supporting()
        harness.receive(answer(invite, 180, extra=f"{require}RSeq: 42\r\n"))
        assert harness.take(ResponseReceived).rack == ""

    def test_100rel_is_found_among_other_tags(self) -> None:
        harness, _, invite = supporting()
        harness.receive(answer(invite, 180, extra="Require: timer , 100REL\r\nRSeq: 42\r\n"))
        assert harness.take(ResponseReceived).rack == "42 1 INVITE"

    def test_without_a_to_tag_there_is_no_dialog_to_acknowledge_it_in(self) -> None:
        harness, _, invite = supporting()
        assert rang(harness, invite, "42", to_tag="") == ""

    def test_after_the_final_response_none_is_taken(self) -> None:
        harness, _, invite = supporting()
        harness.receive(answer(invite, 200))
        harness.take(ResponseReceived)
        assert rang(harness, invite, "42", to_tag="late") is None

    def test_a_reinvite_does_not_ask_for_them(self) -> None:
        harness, _, invite = supporting()
        harness.receive(answer(invite, 200))
        dialog = harness.take(ResponseReceived).dialog
        assert dialog is not None
        harness.endpoint.ack(dialog, now=harness.now)
        reinvite = within(harness, dialog)
        assert "100rel" not in reinvite.headers.values("Supported")
        harness.receive(answer(reinvite, 183, extra=RELIABLE.format(1)))
        assert harness.take(ResponseReceived).rack == ""

    def test_a_reinvite_still_says_what_else_is_supported(self) -> None:
        harness = Harness(EndpointConfig(LISTEN_POINTS, supported=SUPPORTED))
        harness.endpoint.invite(spec(), "leg", harness.now)
        harness.receive(answer(harness.last().request, 200))
        dialog = harness.take(ResponseReceived).dialog
        assert dialog is not None
        harness.endpoint.ack(dialog, now=harness.now)
        assert within(harness, dialog).headers.values("Supported") == [
            tag for tag in SUPPORTED if tag != "100rel"
        ]


def within(harness: Harness, dialog: Dialog) -> Request:
    harness.endpoint.request(dialog, "INVITE", body=BODY, now=harness.now)
    return harness.last().request
