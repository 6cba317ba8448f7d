"""Dialogs of the UAC, what goes within them, and their end: RFC 3261 §12.1.2, §12.2.1, §13.3.1.4, §15."""

from __future__ import annotations

import pytest

from proxy.errors import LocalProtocolError
from proxy.sip.events import (
    AckReceived,
    AckTimedOut,
    DialogEnded,
    RequestFailed,
    RequestReceived,
    RequestTimedOut,
    ResponseReceived,
)
from proxy.sip.flow import Flow
from tests.sip.harness import UDP, Harness, answer, calling, request, state, talking


class Test_12_1_2_dialogs_of_the_uac:  # noqa: N801
    def test_each_to_tag_makes_its_early_dialog(self) -> None:
        harness, _, invite = calling()
        dialogs = []
        for tag in ("one", "two", "one"):
            harness.receive(answer(invite, 180, to_tag=tag))
            dialogs.append(harness.take(ResponseReceived).dialog)
        assert dialogs[0] is dialogs[2]
        assert dialogs[0] is not dialogs[1]
        first = dialogs[0]
        assert first is not None
        assert state(first) == "Early"
        assert first.uac
        assert first.owner == "leg"
        assert (first.remote_tag, first.local_cseq, first.remote_cseq) == ("one", 1, None)
        assert first.remote_target == "sip:15551230001@192.0.2.2:5060"

    def test_a_response_without_tag_or_with_100_makes_none(self) -> None:
        harness, _, invite = calling()
        for status, tag in ((180, ""), (100, "x")):
            harness.receive(answer(invite, status, to_tag=tag))
            assert harness.take(ResponseReceived).dialog is None

    def test_without_a_contact_the_request_uri_is_the_target(self) -> None:
        harness, _, invite = calling()
        harness.receive(answer(invite, 180, contact=""))
        dialog = harness.take(ResponseReceived).dialog
        assert dialog is not None
        assert dialog.remote_target == invite.uri
        harness.receive(answer(invite, 200, contact=""))
        assert harness.take(ResponseReceived).dialog is dialog
        assert dialog.remote_target == invite.uri

    def test_13_2_2_4_a_2xx_computes_the_route_set_and_target_again(self) -> None:
        harness, _, invite = calling()
        harness.receive(answer(invite, 180, extra="Record-Route: <sip:192.0.2.3;lr>\r\n"))
        early = harness.take(ResponseReceived).dialog
        harness.receive(
            answer(invite, 200, contact="<sip:15551230001@192.0.2.8>",
                   extra="Record-Route: <sip:192.0.2.5;lr>, <sip:192.0.2.4;lr>\r\n"
                         "Record-Route: <sip:192.0.2.3;lr>\r\n")
        )  # fmt: skip
        confirmed = harness.take(ResponseReceived).dialog
        assert confirmed is early
        assert confirmed is not None
        assert state(confirmed) == "Confirmed"
        assert confirmed.route_set == ("<sip:192.0.2.3;lr>", "<sip:192.0.2.4;lr>", "<sip:192.0.2.5;lr>")
        assert confirmed.remote_target == "sip:15551230001@192.0.2.8"

    def test_a_response_whose_record_route_cannot_be_read_is_dropped(self) -> None:
        harness, _, invite = calling()
        harness.receive(answer(invite, 180, extra='Record-Route: "<sip:x>, <sip:y>\r\n'))
        assert harness.events == []

    @pytest.mark.parametrize("status", [302, 401, 486, 503, 603])
    def test_12_3_a_refusal_ends_every_early_dialog(self, status: int) -> None:
        harness, _, invite = calling()
        for tag in ("one", "two"):
            harness.receive(answer(invite, 180, to_tag=tag))
        harness.events.clear()
        harness.receive(answer(invite, status, to_tag="one"))
        assert [type(event) for event in harness.take_all()] == [ResponseReceived, DialogEnded, DialogEnded]
        harness.assert_nothing_left()

    def test_13_2_2_4_forks_without_an_answer_end_with_timer_m(self) -> None:
        harness, _, invite = calling()
        harness.receive(answer(invite, 180, to_tag="one"))
        other = harness.take(ResponseReceived).dialog
        harness.receive(answer(invite, 200, to_tag="two"))
        dialog = harness.take(ResponseReceived).dialog
        assert dialog is not None
        harness.endpoint.ack(dialog, now=harness.now)
        harness.run_until(31.999)
        assert harness.events == []
        harness.run_until(32.0)
        assert harness.take(DialogEnded).dialog is other
        assert state(dialog) == "Confirmed"

    def test_a_provisional_response_of_a_dialog_that_was_given_up_names_none(self) -> None:
        harness, _, invite = calling()
        harness.receive(answer(invite, 180))
        early = harness.take(ResponseReceived).dialog
        assert early is not None
        harness.endpoint.terminate(early)
        harness.receive(answer(invite, 180))
        assert harness.take(ResponseReceived).dialog is None
        harness.receive(answer(invite, 200))
        again = harness.take(ResponseReceived).dialog
        assert again is not None
        assert state(again) == "Confirmed"


class Test_12_2_1_requests_within_a_dialog:  # noqa: N801
    def test_they_count_up_and_repeat_the_dialogs_sides(self) -> None:
        harness, dialog = talking()
        for number, method in ((2, "INFO"), (3, "UPDATE")):
            transaction = harness.endpoint.request(
                dialog,
                method,
                headers=[("X", "y")],
                body=b"5",
                content_type="application/dtmf",
                now=harness.now,
            )
            sent = harness.last().request
            assert (sent.method, sent.cseq.number) == (method, number)
            assert (sent.from_.tag, sent.to.tag, sent.call_id) == (dialog.local_tag, "peer", dialog.call_id)
            assert sent.uri == "sip:15551230001@192.0.2.2:5060"
            assert (sent.headers.get("Contact") is not None) == (method == "UPDATE")
            assert sent.headers.get("X") == "y"
            assert transaction.dialog is dialog
            assert transaction.owner == "leg"
            harness.receive(answer(sent, 200))
            assert harness.take(ResponseReceived).dialog is dialog

    def test_14_1_a_reinvite_is_acked_and_refreshes_the_target(self) -> None:
        harness, dialog = talking()
        transaction = harness.endpoint.request(dialog, "INVITE", body=b"v=0\r\n", now=harness.now)
        reinvite = harness.last().request
        assert reinvite.to.tag == "peer"
        assert reinvite.cseq.number == 2
        with pytest.raises(LocalProtocolError):
            harness.endpoint.request(dialog, "INVITE", now=harness.now)
        harness.receive(answer(reinvite, 183))
        assert harness.take(ResponseReceived).dialog is dialog
        harness.receive(answer(reinvite, 200, contact="<sip:new@192.0.2.8>"))
        received = harness.take(ResponseReceived)
        assert (received.dialog, received.transaction) == (dialog, transaction)
        assert not dialog.invite_pending
        assert dialog.remote_target == "sip:new@192.0.2.8"
        harness.endpoint.ack(dialog, now=harness.now)
        assert harness.last().request.cseq.number == 2
        harness.sent.clear()
        harness.receive(answer(reinvite, 200))
        assert harness.take_sent() == ["ACK"]
        harness.settle()
        assert state(dialog) == "Confirmed"
        assert harness.events == []

    def test_14_1_a_reinvite_2xx_without_contact_keeps_the_target(self) -> None:
        harness, dialog = talking()
        harness.endpoint.request(dialog, "INVITE", now=harness.now)
        harness.receive(answer(harness.last().request, 200, contact=""))
        harness.take(ResponseReceived)
        assert dialog.remote_target == "sip:15551230001@192.0.2.2:5060"

    @pytest.mark.parametrize("ending", ["491", "timeout", "transport"])
    def test_14_1_a_failed_reinvite_leaves_the_dialog_as_it_was(self, ending: str) -> None:
        harness, dialog = talking()
        harness.endpoint.request(dialog, "INVITE", now=harness.now)
        if ending == "491":
            harness.receive(answer(harness.last().request, 491))
            assert harness.take(ResponseReceived).dialog is dialog
        elif ending == "timeout":
            harness.settle()
            harness.take(RequestTimedOut)
        else:
            harness.endpoint.transport_failed(UDP, harness.now)
            harness.take(RequestFailed)
        assert not dialog.invite_pending
        assert state(dialog) == "Confirmed"
        harness.endpoint.request(dialog, "INVITE", now=harness.now)

    @pytest.mark.parametrize(
        ("status", "target"), [(200, "sip:new@192.0.2.8"), (491, "sip:15551230001@192.0.2.2:5060")]
    )
    def test_rfc3311_an_update_refreshes_the_target_when_accepted(self, status: int, target: str) -> None:
        harness, dialog = talking()
        harness.endpoint.request(dialog, "UPDATE", now=harness.now)
        update = harness.last().request
        harness.receive(answer(update, 100))
        harness.take(ResponseReceived)
        harness.receive(answer(update, status, contact="<sip:new@192.0.2.8>"))
        harness.take(ResponseReceived)
        assert dialog.remote_target == target

    def test_rfc3311_a_2xx_to_update_without_contact_keeps_the_target(self) -> None:
        harness, dialog = talking()
        harness.endpoint.request(dialog, "UPDATE", now=harness.now)
        harness.receive(answer(harness.last().request, 200, contact=""))
        assert dialog.remote_target == "sip:15551230001@192.0.2.2:5060"

    def test_a_request_that_times_out_or_fails_leaves_the_dialog_to_the_tu(self) -> None:
        harness, dialog = talking()
        harness.endpoint.request(dialog, "INFO", now=harness.now)
        harness.settle()
        harness.take(RequestTimedOut)
        harness.endpoint.request(dialog, "INFO", now=harness.now)
        harness.endpoint.transport_failed(UDP, harness.now)
        harness.take(RequestFailed)
        assert state(dialog) == "Confirmed"
        assert not harness.endpoint.idle

    @pytest.mark.parametrize("method", ["ACK", "CANCEL"])
    def test_what_has_a_call_of_its_own_is_refused(self, method: str) -> None:
        harness, dialog = talking()
        with pytest.raises(LocalProtocolError):
            harness.endpoint.request(dialog, method, now=harness.now)


class Test_15_1_1_bye:  # noqa: N801
    @pytest.mark.parametrize("ending", ["200", "481", "timeout", "transport"])
    def test_the_dialog_ends_whatever_becomes_of_it(self, ending: str) -> None:
        harness, dialog = talking()
        harness.endpoint.request(dialog, "BYE", now=harness.now)
        assert state(dialog) == "Terminated"
        if ending == "timeout":
            harness.settle()
            first: type = RequestTimedOut
        elif ending == "transport":
            harness.endpoint.transport_failed(UDP, harness.now)
            first = RequestFailed
        else:
            harness.receive(answer(harness.last().request, int(ending)))
            first = ResponseReceived
        assert [type(event) for event in harness.take_all()] == [first, DialogEnded]
        harness.assert_nothing_left()

    def test_a_provisional_response_to_it_ends_nothing(self) -> None:
        harness, dialog = talking()
        harness.endpoint.request(dialog, "BYE", now=harness.now)
        harness.receive(answer(harness.last().request, 100))
        harness.take(ResponseReceived)

    @pytest.mark.parametrize("method", ["BYE", "INFO", "INVITE"])
    def test_after_it_nothing_more_is_sent(self, method: str) -> None:
        harness, dialog = talking()
        harness.endpoint.request(dialog, "BYE", now=harness.now)
        with pytest.raises(LocalProtocolError):
            harness.endpoint.request(dialog, method, now=harness.now)

    def test_22_2_one_that_was_challenged_is_repeated_after_the_end_of_its_dialog(self) -> None:
        harness, dialog = talking()
        harness.endpoint.request(dialog, "BYE", now=harness.now)
        first = harness.last().request
        harness.receive(answer(first, 401))
        assert [type(event) for event in harness.take_all()] == [ResponseReceived, DialogEnded]
        credentials = (("Authorization", "Digest x"),)
        harness.endpoint.request(dialog, "BYE", headers=credentials, again=True, now=harness.now)
        second = harness.last().request
        assert second.headers.get("Authorization") == "Digest x"
        assert second.cseq.number == first.cseq.number + 1
        harness.receive(answer(second, 200))
        assert [type(event) for event in harness.take_all()] == [ResponseReceived]
        harness.assert_nothing_left()

    @pytest.mark.parametrize("method", ["INFO", "INVITE"])
    def test_nothing_but_a_bye_is_repeated_then(self, method: str) -> None:
        harness, dialog = talking()
        harness.endpoint.request(dialog, "BYE", now=harness.now)
        with pytest.raises(LocalProtocolError):
            harness.endpoint.request(dialog, method, again=True, now=harness.now)

    @pytest.mark.parametrize("whose", ["ours", "the peer's"])
    @pytest.mark.parametrize("trying", ["before", "after"])
    def test_15_1_2_a_reinvite_that_a_bye_leaves_without_an_answer_is_given_up(
        self, whose: str, trying: str
    ) -> None:
        harness, dialog = talking()
        harness.endpoint.request(dialog, "INVITE", body=b"", now=harness.now)
        reinvite = harness.last().request
        if trying == "before":
            harness.receive(answer(reinvite, 100))
        if whose == "ours":
            harness.endpoint.request(dialog, "BYE", now=harness.now)
            harness.receive(answer(harness.last().request, 200))
        else:
            tags = {"to_tag": dialog.local_tag, "from_tag": dialog.remote_tag}
            harness.receive(request("BYE", call_id=dialog.call_id, **tags))
            bye = next(event for event in harness.take_all() if isinstance(event, RequestReceived))
            harness.endpoint.respond(bye.transaction, 200, now=harness.now)
        if trying == "after":
            harness.receive(answer(reinvite, 100))
        harness.settle()
        assert RequestTimedOut in [type(event) for event in harness.take_all()]
        harness.assert_nothing_left()

    def test_the_caller_may_send_it_in_an_early_dialog(self) -> None:
        harness, _, invite = calling()
        harness.receive(answer(invite, 180))
        early = harness.take(ResponseReceived).dialog
        assert early is not None
        harness.endpoint.request(early, "BYE", now=harness.now)
        bye = harness.last().request
        harness.receive(answer(bye, 200))
        harness.take_all()
        harness.receive(answer(invite, 487))
        assert [type(event) for event in harness.take_all()] == [ResponseReceived]
        harness.assert_nothing_left()

    def test_the_callee_may_not(self) -> None:
        harness = Harness()
        early = harness.endpoint.respond(harness.invited(), 180, now=harness.now)
        assert early is not None
        with pytest.raises(LocalProtocolError):
            harness.endpoint.request(early, "BYE", now=harness.now)

    def test_15_the_callees_bye_waits_for_the_ack(self) -> None:
        harness = Harness()
        dialog = harness.endpoint.respond(harness.invited(), 200, now=harness.now)
        assert dialog is not None
        transaction = harness.endpoint.request(dialog, "BYE", now=harness.now)
        harness.run_until(0.5)
        assert harness.take_sent() == ["200", "200"]
        harness.receive(request("ACK", to_tag=dialog.local_tag, branch="z9hG4bK-2"))
        assert harness.events == []
        assert harness.take_sent() == ["BYE"]
        harness.settle()
        assert [type(event) for event in harness.take_all()] == [RequestTimedOut, DialogEnded]
        assert transaction.completed
        assert harness.endpoint.idle

    def test_15_without_an_ack_it_goes_after_64_t1(self) -> None:
        harness = Harness()
        dialog = harness.endpoint.respond(harness.invited(), 200, now=harness.now)
        assert dialog is not None
        harness.endpoint.request(dialog, "BYE", now=harness.now)
        harness.run_until(31.999)
        assert harness.times("BYE") == []
        harness.run_until(32.0)
        assert harness.times("BYE") == [32.0]
        assert harness.events == []
        harness.receive(answer(harness.last().request, 200))
        harness.take_all()
        harness.assert_nothing_left()

    def test_15_a_held_back_bye_is_dropped_when_the_peer_is_faster(self) -> None:
        harness = Harness()
        dialog = harness.endpoint.respond(harness.invited(), 200, now=harness.now)
        assert dialog is not None
        harness.endpoint.request(dialog, "BYE", now=harness.now)
        harness.receive(request("BYE", to_tag=dialog.local_tag, cseq="2", branch="z9hG4bK-2"))
        harness.settle()
        assert [sent.what for sent in harness.sent if sent.what == "BYE"] == []
        assert [type(event) for event in harness.take_all()] == [DialogEnded]
        assert harness.endpoint.idle


class Test_13_3_1_4_accepted:  # noqa: N801
    @pytest.mark.parametrize("over", ["UDP", "TCP"])
    def test_the_2xx_is_repeated_with_t1_doubling_to_t2_over_any_transport(self, over: str) -> None:
        harness = Harness()
        dialog = harness.endpoint.respond(harness.invited(over=over), 200, now=harness.now)
        harness.run_until(31.999)
        assert harness.times("200") == [0.0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
        assert len({sent.data for sent in harness.sent}) == 1
        assert harness.events == []
        harness.run_until(32.0)
        assert harness.take(AckTimedOut).dialog is dialog
        assert dialog is not None
        harness.endpoint.request(dialog, "BYE", now=harness.now)
        harness.receive(answer(harness.last().request, 200))
        harness.take_all()
        harness.assert_nothing_left()

    def test_the_ack_ends_it_and_is_reported_once(self) -> None:
        harness = Harness()
        dialog = harness.endpoint.respond(harness.invited(), 200, now=harness.now)
        assert dialog is not None
        ack = request("ACK", to_tag=dialog.local_tag, branch="z9hG4bK-2", body="v=0\r\n",
                      extra="Content-Type: application/sdp\r\n")  # fmt: skip
        harness.receive(ack)
        received = harness.take(AckReceived)
        assert (received.dialog, received.request.body) == (dialog, b"v=0\r\n")
        harness.receive(ack)
        harness.run_until(31.0)
        assert harness.events == []
        assert harness.times("200") == [0.0]

    @pytest.mark.parametrize("wrong", ["cseq", "tag", "call_id"])
    def test_an_ack_of_something_else_does_not(self, wrong: str) -> None:
        harness = Harness()
        dialog = harness.endpoint.respond(harness.invited(), 200, now=harness.now)
        assert dialog is not None
        harness.receive(
            request("ACK", branch="z9hG4bK-2", cseq="2" if wrong == "cseq" else "1",
                    to_tag="x" if wrong == "tag" else dialog.local_tag,
                    call_id="x" if wrong == "call_id" else "c1")
        )  # fmt: skip
        assert harness.events == []
        harness.run_until(0.5)
        assert harness.times("200") == [0.0, 0.5]

    def test_terminate_stops_it_without_a_word(self) -> None:
        harness = Harness()
        dialog = harness.endpoint.respond(harness.invited(), 200, now=harness.now)
        assert dialog is not None
        harness.endpoint.terminate(dialog)
        harness.settle()
        assert harness.times("200") == [0.0]
        assert harness.events == []
        assert harness.endpoint.idle

    def test_a_lost_connection_moves_the_repeats_to_a_new_one(self) -> None:
        harness = Harness()
        transaction = harness.invited(over="TCP")
        harness.respond(transaction, 200)
        harness.endpoint.transport_failed(harness.last().flow, harness.now)
        harness.run_until(0.5)
        assert harness.last().flow == Flow("TCP", "192.0.2.2", 5060, 1)
        harness.receive(request("INFO", to_tag=transaction.lines.to_tag, cseq="2", branch="z9hG4bK-2"))
        assert harness.take(RequestReceived).dialog is transaction.dialog
