"""The UAC core: RFC 3261 §8.1, §9.1, §13.2.2.4."""

from __future__ import annotations

import pytest

from proxy.errors import LocalProtocolError
from proxy.sip.dialog import DialogState
from proxy.sip.events import (
    DialogEnded,
    RequestFailed,
    RequestReceived,
    RequestTimedOut,
    ResponseReceived,
)
from proxy.sip.flow import Flow
from proxy.sip.spec import InviteSpec
from tests.sip.harness import UDP, Harness, answer, calling, request, spec, state, talking


class Test_8_1_1_requests:  # noqa: N801 - named as the RFC section
    def test_an_invite_has_all_it_must_have(self) -> None:
        harness, transaction, invite = calling()
        assert invite.method == "INVITE"
        assert invite.uri == "sip:15551230001@192.0.2.2"
        via = invite.top_via
        assert (via.transport, via.host, via.port, via.branch) == (
            "UDP",
            "192.0.2.1",
            5060,
            transaction.branch,
        )
        assert via.wants_rport
        assert invite.max_forwards == 70
        assert invite.from_.tag
        assert invite.to.tag is None
        assert str(invite.cseq) == "1 INVITE"
        assert invite.headers.get("Contact") == "<sip:tollgate@192.0.2.1:5060>"
        assert "BYE" in (invite.headers.get("Allow") or "")
        assert invite.headers.get("User-Agent") == "Tollgate"
        assert invite.content_type == "application/sdp"
        assert invite.body == b"v=0\r\n"
        assert harness.last().flow == UDP
        assert transaction.owner == "leg"

    def test_the_spec_decides_what_it_names(self) -> None:
        harness = Harness()
        harness.endpoint.invite(
            InviteSpec(
                uri="tel:+15551230001", from_='"204" <sip:204@example.com>', to="<tel:+15551230001>",
                flow=UDP,
                headers=(("P-Asserted-Identity", "<sip:204@example.com>"), ("User-Agent", "Other")),
                route=("<sip:192.0.2.2;lr>", "<sip:192.0.2.3;lr>"), max_forwards=12, contact_user="204",
                call_id="kept", local_tag="kept-tag", cseq=7,
            ),
            None, harness.now,
        )  # fmt: skip
        invite = harness.last().request
        assert invite.uri == "tel:+15551230001"
        assert invite.headers.get("From") == '"204" <sip:204@example.com>;tag=kept-tag'
        assert invite.headers.get_all("Route") == ["<sip:192.0.2.2;lr>", "<sip:192.0.2.3;lr>"]
        assert invite.headers.get_all("User-Agent") == ["Other"]
        assert invite.headers.get("P-Asserted-Identity") == "<sip:204@example.com>"
        assert invite.headers.get("Contact") == "<sip:204@192.0.2.1:5060>"
        assert (invite.max_forwards, invite.call_id, invite.cseq.number) == (12, "kept", 7)
        assert invite.headers.get("Content-Length") == "0"
        assert invite.headers.get("Content-Type") is None

    def test_rfc3261_12_2_1_1_the_dialog_keeps_the_contact_of_its_invite(self) -> None:
        harness = Harness()
        harness.endpoint.invite(spec(contact_user="acct42"), "leg", harness.now)
        contact = harness.last().request.headers.get("Contact")
        assert contact == "<sip:acct42@192.0.2.1:5060>"
        dialog = harness.talking(harness.last().request)
        for method in ("UPDATE", "INVITE"):
            harness.endpoint.request(dialog, method, body=b"v=0\r\n", now=harness.now)
            asked = harness.last().request
            assert asked.headers.get("Contact") == contact
            harness.receive(answer(asked, 200))
        harness.endpoint.ack(dialog, now=harness.now)
        harness.take_all()
        harness.receive(request("UPDATE", call_id=dialog.call_id, to_tag=dialog.local_tag))
        transaction = harness.take(RequestReceived).transaction
        harness.respond(transaction, 200)
        assert harness.last().response.headers.get("Contact") == contact

    def test_a_request_outside_a_dialog(self) -> None:
        harness = Harness()
        transaction = harness.endpoint.send_request(
            "OPTIONS", "sip:192.0.2.2", flow=UDP, owner="probe", now=harness.now
        )
        options = harness.last().request
        assert options.headers.get("To") == "<sip:192.0.2.2>"
        assert options.from_.uri_text == "sip:tollgate@192.0.2.1:5060"
        assert (transaction.call_id, transaction.local_tag, transaction.cseq) == (
            options.call_id, options.from_.tag, 1,
        )  # fmt: skip
        harness.receive(answer(options, 200))
        received = harness.take(ResponseReceived)
        assert (received.transaction, received.dialog) == (transaction, None)
        assert transaction.owner == "probe"

    def test_a_request_outside_a_dialog_with_everything(self) -> None:
        harness = Harness()
        harness.endpoint.send_request(
            "MESSAGE", "sip:204@192.0.2.2", from_="<sip:1@example.com>", to="<sip:2@example.com>",
            headers=[("Subject", "x")], body=b"hello", content_type="text/plain", flow=UDP, now=harness.now,
        )  # fmt: skip
        message = harness.last().request
        assert message.from_.uri_text == "sip:1@example.com"
        assert message.headers.get("To") == "<sip:2@example.com>"
        assert message.content_type == "text/plain"
        assert message.body == b"hello"

    @pytest.mark.parametrize("method", ["INVITE", "ACK", "CANCEL"])
    def test_what_has_a_call_of_its_own_is_refused(self, method: str) -> None:
        harness = Harness()
        with pytest.raises(LocalProtocolError):
            harness.endpoint.send_request(method, "sip:192.0.2.2", flow=UDP, now=harness.now)


class Test_9_1_cancel:  # noqa: N801
    def test_after_a_provisional_response_it_goes_at_once(self) -> None:
        harness, transaction, invite = calling(route="<sip:192.0.2.2;lr>")
        harness.receive(answer(invite, 100, to_tag=""))
        harness.take(ResponseReceived)
        harness.sent.clear()
        harness.endpoint.cancel(transaction, headers=[("Reason", "SIP;cause=200")], now=harness.now)
        cancel = harness.last().request
        assert cancel.method == "CANCEL"
        assert cancel.uri == invite.uri
        for name in ("Via", "From", "To", "Call-ID", "Route"):
            assert cancel.headers.get_all(name) == invite.headers.get_all(name)
        assert str(cancel.cseq) == "1 CANCEL"
        assert cancel.headers.get("Reason") == "SIP;cause=200"
        harness.receive(answer(cancel, 200))
        assert harness.events == []
        harness.receive(answer(invite, 487))
        assert harness.take(ResponseReceived).response.status == 487
        harness.assert_nothing_left()

    def test_before_it_is_held_back_until_one_comes(self) -> None:
        harness, transaction, invite = calling()
        harness.endpoint.cancel(transaction, headers=[("Reason", "SIP;cause=200")], now=harness.now)
        harness.run_until(1.0)
        assert harness.take_sent() == ["INVITE", "INVITE"]
        harness.receive(answer(invite, 180))
        assert harness.take_sent() == ["CANCEL"]
        assert harness.take(ResponseReceived).response.status == 180

    def test_it_is_sent_once_however_often_it_is_asked_for(self) -> None:
        harness, transaction, invite = calling()
        harness.receive(answer(invite, 180))
        for _ in range(3):
            harness.endpoint.cancel(transaction, now=harness.now)
        harness.receive(answer(invite, 183))
        assert harness.take_sent() == ["INVITE", "CANCEL"]

    def test_a_held_back_cancel_is_never_sent_when_the_invite_is_answered(self) -> None:
        harness, transaction, invite = calling()
        harness.endpoint.cancel(transaction, now=harness.now)
        harness.receive(answer(invite, 486))
        assert harness.take_sent() == ["INVITE", "ACK"]
        harness.assert_nothing_left()

    @pytest.mark.parametrize("status", [200, 486])
    def test_after_the_final_response_nothing_is_sent(self, status: int) -> None:
        harness, transaction, invite = calling()
        harness.receive(answer(invite, status))
        harness.sent.clear()
        harness.events.clear()
        harness.endpoint.cancel(transaction, now=harness.now)
        harness.assert_quiet()

    @pytest.mark.parametrize("provisional", [True, False])
    def test_a_late_2xx_is_reported_so_that_the_tu_can_ack_and_bye(self, provisional: bool) -> None:
        harness, transaction, invite = calling()
        if provisional:
            harness.receive(answer(invite, 180))
            harness.take(ResponseReceived)
        harness.endpoint.cancel(transaction, now=harness.now)
        harness.receive(answer(invite, 200))
        dialog = harness.take(ResponseReceived).dialog
        assert dialog is not None
        assert state(dialog) == "Confirmed"
        harness.endpoint.ack(dialog, now=harness.now)
        harness.endpoint.request(dialog, "BYE", now=harness.now)
        harness.receive(answer(harness.last().request, 200))
        harness.take_all()
        harness.assert_nothing_left()

    def test_without_a_final_response_the_invite_ends_64_t1_after_it(self) -> None:
        harness, transaction, invite = calling()
        harness.run_until(0.25)
        harness.receive(answer(invite, 180))
        harness.take(ResponseReceived)
        harness.run_until(10.0)
        harness.endpoint.cancel(transaction, now=harness.now)
        harness.receive(answer(invite, 183))
        harness.take(ResponseReceived)
        harness.run_until(41.999)
        assert harness.events == []
        harness.run_until(42.0)
        assert [type(event) for event in harness.take_all()] == [RequestTimedOut, DialogEnded]
        assert harness.times("CANCEL")[0] == 10.0
        assert harness.endpoint.idle

    def test_held_back_for_ever_it_ends_with_timer_b(self) -> None:
        harness, transaction, _ = calling()
        harness.endpoint.cancel(transaction, now=harness.now)
        assert harness.settle() == 32.0
        assert harness.take(RequestTimedOut).transaction is transaction
        assert harness.times("CANCEL") == []

    def test_a_cancel_that_fails_or_is_refused_is_not_the_tus_business(self) -> None:
        harness, transaction, invite = calling()
        harness.receive(answer(invite, 180))
        harness.take(ResponseReceived)
        harness.endpoint.cancel(transaction, now=harness.now)
        cancel = harness.last().request
        harness.receive(answer(cancel, 100))
        harness.receive(answer(cancel, 481))
        assert harness.events == []
        harness.endpoint.transport_failed(UDP, harness.now)
        assert [type(event) for event in harness.take_all()] == [RequestFailed, DialogEnded]

    def test_a_cancel_lost_to_the_transport_is_not_reported_by_itself(self) -> None:
        harness, transaction, invite = calling()
        harness.receive(answer(invite, 100, to_tag=""))
        harness.take(ResponseReceived)
        harness.endpoint.cancel(transaction, now=harness.now)
        harness.endpoint.transport_failed(UDP, harness.now)
        assert harness.take_all() == [RequestFailed(transaction)]


class Test_13_2_2_4_ack:  # noqa: N801
    def test_it_is_a_request_of_its_own_along_the_route_set(self) -> None:
        harness, _, invite = calling()
        harness.receive(answer(invite, 200, extra="Record-Route: <sip:192.0.2.3:5070;lr>\r\n"))
        dialog = harness.take(ResponseReceived).dialog
        assert dialog is not None
        harness.endpoint.ack(dialog, headers=[("Authorization", "x")], body=b"v=0\r\n", now=harness.now)
        ack = harness.last().request
        assert ack.uri == "sip:15551230001@192.0.2.2:5060"
        assert ack.headers.get("Route") == "<sip:192.0.2.3:5070;lr>"
        assert harness.last().flow == Flow("UDP", "192.0.2.3", 5070)
        assert ack.top_via.branch != invite.top_via.branch
        assert str(ack.cseq) == "1 ACK"
        assert ack.to.tag == "peer"
        assert ack.body == b"v=0\r\n"
        assert ack.headers.get("Authorization") == "x"

    def test_a_repeated_2xx_gets_the_same_ack_again(self) -> None:
        harness, _, invite = calling()
        harness.receive(answer(invite, 200))
        dialog = harness.take(ResponseReceived).dialog
        assert dialog is not None
        harness.receive(answer(invite, 200))
        assert harness.events == []
        assert harness.take_sent() == ["INVITE"]
        harness.endpoint.ack(dialog, now=harness.now)
        harness.receive(answer(invite, 200))
        assert len({sent.data for sent in harness.sent}) == 1
        assert harness.take_sent() == ["ACK", "ACK"]
        assert harness.events == []

    def test_also_after_the_dialog_is_over(self) -> None:
        harness, _, invite = calling()
        harness.receive(answer(invite, 200))
        dialog = harness.take(ResponseReceived).dialog
        assert dialog is not None
        harness.endpoint.ack(dialog, now=harness.now)
        harness.endpoint.request(dialog, "BYE", now=harness.now)
        harness.receive(answer(harness.last().request, 200))
        harness.take_all()
        harness.sent.clear()
        harness.receive(answer(invite, 200))
        assert harness.take_sent() == ["ACK"]
        assert harness.events == []

    def test_a_second_fork_that_answers_gets_its_own_ack_and_bye(self) -> None:
        harness, transaction, invite = calling()
        dialogs = []
        for tag in ("one", "two"):
            harness.receive(answer(invite, 200, to_tag=tag))
            dialog = harness.take(ResponseReceived).dialog
            assert dialog is not None
            dialogs.append(dialog)
        assert transaction.dialog is dialogs[0]
        for dialog in dialogs:
            harness.endpoint.ack(dialog, now=harness.now)
        harness.endpoint.request(dialogs[1], "BYE", now=harness.now)
        assert harness.last().request.to.tag == "two"
        harness.receive(answer(harness.last().request, 200))
        harness.take_all()
        assert dialogs[0].state is DialogState.CONFIRMED

    def test_with_nothing_to_ack_it_is_our_own_mistake(self) -> None:
        harness, dialog = talking()
        with pytest.raises(LocalProtocolError):
            harness.endpoint.ack(dialog, now=harness.now)
