"""Dialogs of the UAS and what comes within them: RFC 3261 §12.1.1, §12.2.2, §14.2, §15.1.2."""

from __future__ import annotations

import pytest

from proxy.errors import LocalProtocolError
from proxy.sip.config import EndpointConfig
from proxy.sip.events import DialogEnded, RequestFailed, RequestReceived, ResponseReceived
from proxy.sip.flow import Flow
from tests.sip.harness import LISTEN_POINTS, TCP, Harness, answer, in_dialog, request, state


class Test_12_dialogs:  # noqa: N801
    def test_12_1_1_a_provisional_response_makes_an_early_dialog_a_2xx_confirms_it(self) -> None:
        harness = Harness()
        transaction = harness.invited()
        transaction.owner = "leg"
        early = harness.endpoint.respond(transaction, 180, now=harness.now)
        assert early is not None
        assert state(early) == "Early"
        assert early.owner == "leg"
        assert (early.call_id, early.remote_tag, early.remote_cseq) == ("c1", "peer", 1)
        assert early.remote_target == "sip:204@192.0.2.2:5060"
        assert not early.uac
        assert early.invite_pending
        assert harness.endpoint.respond(transaction, 200, now=harness.now) is early
        assert state(early) == "Confirmed"

    def test_12_1_1_100_makes_no_dialog(self) -> None:
        harness = Harness()
        assert harness.endpoint.respond(harness.invited(), 100, now=harness.now) is None

    def test_12_3_a_refusal_ends_the_early_dialog(self) -> None:
        harness = Harness()
        transaction = harness.invited()
        early = harness.endpoint.respond(transaction, 180, now=harness.now)
        harness.respond(transaction, 486)
        assert harness.take(DialogEnded).dialog is early

    def test_12_1_1_without_a_contact_the_from_is_the_target(self) -> None:
        harness = Harness()
        dialog = harness.endpoint.respond(harness.invited(contact=""), 200, now=harness.now)
        assert dialog is not None
        assert dialog.remote_target == "sip:204@example.com"

    def test_12_2_2_a_tag_without_a_dialog_gets_481(self) -> None:
        harness = Harness()
        for method in ("BYE", "INVITE", "INFO", "OPTIONS"):
            harness.receive_within(method, "nobody", 2)
        assert harness.take_sent() == ["481"] * 4
        assert harness.events == []
        harness.assert_nothing_left()

    def test_12_2_2_an_rfc2543_peer_without_a_from_tag_has_a_dialog_too(self) -> None:
        harness = Harness()
        tag = harness.accepted(from_tag="").lines.to_tag
        harness.receive_within("BYE", tag, 2, from_tag="")
        assert harness.take(RequestReceived).dialog is not None

    @pytest.mark.parametrize("cseq", [1, 3, 4])
    def test_12_2_2_a_cseq_that_is_not_higher_gets_500(self, cseq: int) -> None:
        harness = Harness()
        tag = harness.accepted().lines.to_tag
        harness.respond(harness.asked_within("INFO", tag, 4), 200)
        harness.receive_within("OPTIONS", tag, cseq)
        assert harness.take_sent() == ["200", "500"]
        harness.receive_within("OPTIONS", tag, 900)
        harness.take(RequestReceived)

    def test_12_2_2_a_reinvite_that_is_accepted_refreshes_the_target(self) -> None:
        harness = Harness()
        transaction = harness.accepted()
        dialog = transaction.dialog
        assert dialog is not None
        harness.receive_within("INVITE", dialog.local_tag, 2, contact="<sip:204@192.0.2.8:5070>")
        received = harness.take(RequestReceived)
        assert received.dialog is dialog
        assert dialog.invite_pending
        assert dialog.remote_target == "sip:204@192.0.2.2:5060"
        harness.respond(received.transaction, 200)
        assert dialog.remote_target == "sip:204@192.0.2.8:5070"
        harness.endpoint.request(dialog, "INFO", now=harness.now)
        assert harness.last().request.uri == "sip:204@192.0.2.8:5070"
        assert harness.last().flow == Flow("UDP", "192.0.2.8", 5070)

    def test_12_2_2_a_refused_reinvite_leaves_the_target(self) -> None:
        harness, dialog = in_dialog()
        harness.receive_within("INVITE", dialog.local_tag, 2, contact="<sip:204@192.0.2.8:5070>")
        harness.respond(harness.take(RequestReceived).transaction, 488)
        assert dialog.remote_target == "sip:204@192.0.2.2:5060"
        assert state(dialog) == "Confirmed"

    @pytest.mark.parametrize(("contact", "status", "target"), [
        ("<sip:204@192.0.2.8>", 200, "sip:204@192.0.2.8"),
        ("<sip:204@192.0.2.8>", 488, "sip:204@192.0.2.2:5060"),
        ("", 200, "sip:204@192.0.2.2:5060"),
    ])  # fmt: skip
    def test_rfc3311_5_2_an_accepted_update_refreshes_the_target(
        self, contact: str, status: int, target: str
    ) -> None:
        harness, dialog = in_dialog()
        harness.receive_within("UPDATE", dialog.local_tag, 2, contact=contact)
        harness.respond(harness.take(RequestReceived).transaction, status)
        assert dialog.remote_target == target
        assert (harness.last().response.headers.get("Contact") is not None) == (status == 200)

    @pytest.mark.parametrize(
        ("method", "status", "told"),
        [("INVITE", 200, True), ("UPDATE", 200, True), ("UPDATE", 488, False), ("INFO", 200, False)],
    )
    def test_20_37_who_changes_a_session_learns_what_is_supported(
        self, method: str, status: int, told: bool
    ) -> None:
        """RFC 4028 §9: without "timer" in the 2xx a peer would take it that the gate has no session timer."""
        harness = Harness(EndpointConfig(LISTEN_POINTS, supported=("timer",)))
        dialog = harness.accepted().dialog
        assert dialog is not None
        harness.respond(harness.asked_within(method, dialog.local_tag, 2), status)
        headers = harness.last().response.headers
        assert ("timer" in (headers.get("Supported") or "")) == told
        assert ("UPDATE" in (headers.get("Allow") or "")) == told

    def test_a_reinvite_without_contact_keeps_the_target(self) -> None:
        harness, dialog = in_dialog()
        harness.receive_within("INVITE", dialog.local_tag, 2, contact="")
        harness.respond(harness.take(RequestReceived).transaction, 200)
        assert dialog.remote_target == "sip:204@192.0.2.2:5060"

    def test_requests_within_an_early_dialog_reach_the_tu(self) -> None:
        harness = Harness()
        early = harness.endpoint.respond(harness.invited(), 180, now=harness.now)
        assert early is not None
        harness.receive_within("UPDATE", early.local_tag, 2)
        assert harness.take(RequestReceived).dialog is early


class Test_14_2_overlapping_invites:  # noqa: N801
    def test_a_second_invite_before_the_first_is_answered_gets_500_with_retry_after(self) -> None:
        harness, dialog = in_dialog()
        harness.asked_within("INVITE", dialog.local_tag, 2)
        harness.receive_within("INVITE", dialog.local_tag, 3)
        response = harness.last().response
        assert (response.status, response.headers.get("Retry-After")) == (500, "3")
        assert harness.events == []

    def test_an_invite_that_crosses_ours_gets_491(self) -> None:
        harness, dialog = in_dialog()
        harness.endpoint.request(dialog, "INVITE", now=harness.now)
        harness.receive_within("INVITE", dialog.local_tag, 2)
        assert harness.last().response.status == 491
        assert harness.events == []

    def test_a_reinvite_that_overtakes_the_ack_reaches_the_tu(self) -> None:
        harness = Harness()
        transaction = harness.invited()
        dialog = harness.endpoint.respond(transaction, 200, now=harness.now)
        assert dialog is not None
        harness.respond(harness.asked_within("INVITE", dialog.local_tag, 2), 200)
        harness.sent.clear()
        harness.run_until(0.5)
        assert [sent.response.cseq.number for sent in harness.sent] == [2]


class Test_15_1_2_bye:  # noqa: N801
    def test_it_ends_the_dialog_when_the_tu_has_answered(self) -> None:
        harness, dialog = in_dialog()
        harness.receive_within("BYE", dialog.local_tag, 2)
        received = harness.take(RequestReceived)
        assert received.dialog is dialog
        assert state(dialog) == "Terminated"
        harness.respond(received.transaction, 200)
        assert harness.take(DialogEnded).dialog is dialog
        harness.assert_nothing_left()

    def test_a_provisional_response_to_it_ends_nothing(self) -> None:
        harness, dialog = in_dialog()
        transaction = harness.asked_within("BYE", dialog.local_tag, 2)
        harness.respond(transaction, 100)
        assert harness.events == []

    def test_when_its_200_cannot_be_delivered_the_dialog_ends_all_the_same(self) -> None:
        harness = Harness()
        assert not harness.endpoint.uses(TCP.connection)
        harness.receive(request("INVITE"), TCP)
        assert harness.endpoint.uses(TCP.connection), "its caller waits"
        dialog = harness.endpoint.respond(harness.take(RequestReceived).transaction, 200, now=harness.now)
        assert dialog is not None
        assert harness.endpoint.uses(TCP.connection)
        assert (harness.endpoint.transactions, harness.endpoint.dialogs) == (1, 1)
        harness.receive(request("BYE", to_tag=dialog.local_tag, cseq="2", branch="z9hG4bK-2"), TCP)
        bye = harness.take(RequestReceived).transaction
        harness.endpoint.transport_failed(TCP, harness.now)
        harness.endpoint.transport_failed(bye.flow, harness.now)
        assert harness.take_all() == [RequestFailed(bye), DialogEnded(dialog)]
        harness.assert_nothing_left()

    def test_after_the_tu_has_forgotten_the_dialog_it_ends_nothing(self) -> None:
        harness, dialog = in_dialog()
        transaction = harness.asked_within("BYE", dialog.local_tag, 2)
        harness.endpoint.terminate(dialog)
        harness.respond(transaction, 200)
        assert harness.events == []
        harness.assert_nothing_left()

    def test_it_answers_a_pending_reinvite_with_487(self) -> None:
        harness, dialog = in_dialog()
        reinvite = harness.asked_within("INVITE", dialog.local_tag, 2)
        harness.asked_within("BYE", dialog.local_tag, 3)
        assert harness.take_sent() == ["487"]
        assert reinvite.answered

    def test_before_the_ack_it_stops_the_2xx(self) -> None:
        harness = Harness()
        dialog = harness.endpoint.respond(harness.invited(), 200, now=harness.now)
        assert dialog is not None
        harness.respond(harness.asked_within("BYE", dialog.local_tag, 2), 200)
        harness.take(DialogEnded)
        harness.settle()
        assert [str(sent.response.cseq) for sent in harness.sent] == ["1 INVITE", "2 BYE"]
        assert harness.events == []

    def test_in_an_early_dialog_it_leaves_the_invite_to_the_tu(self) -> None:
        harness = Harness()
        invite = harness.invited()
        early = harness.endpoint.respond(invite, 180, now=harness.now)
        assert early is not None
        bye = harness.asked_within("BYE", early.local_tag, 2)
        with pytest.raises(LocalProtocolError):
            harness.respond(invite, 200)
        harness.respond(bye, 200)
        assert harness.take(DialogEnded).dialog is early
        harness.respond(invite, 487)
        harness.receive(request("ACK", to_tag=early.local_tag))
        assert harness.events == []
        harness.assert_nothing_left()

    def test_after_our_bye_a_crossing_bye_gets_200_and_anything_else_481(self) -> None:
        harness, dialog = in_dialog()
        harness.endpoint.request(dialog, "BYE", now=harness.now)
        bye = harness.last().request
        harness.sent.clear()
        harness.receive_within("INFO", dialog.local_tag, 2)
        harness.receive_within("BYE", dialog.local_tag, 3)
        assert harness.take_sent() == ["481", "200"]
        assert harness.events == []
        harness.receive(answer(bye, 481))
        assert [type(event) for event in harness.take_all()] == [ResponseReceived, DialogEnded]
        harness.assert_nothing_left()
