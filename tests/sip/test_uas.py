"""The UAS core: RFC 3261 §8.2, §9.2, §12.1.1, §12.2.2, §13.3, §14.2, §15.1.2."""

from __future__ import annotations

import pytest

from proxy.errors import LocalProtocolError
from proxy.sip.config import EndpointConfig
from proxy.sip.events import Cancelled, DialogEnded, RequestFailed, RequestReceived, ResponseReceived
from proxy.sip.flow import Flow
from tests.sip.harness import LISTEN_POINTS, PEER, TCP, UDP, Harness, answer, request, spec, state


def in_dialog(harness: Harness, method: str, tag: str, cseq: int, **kwargs: str) -> None:
    harness.receive(request(method, to_tag=tag, cseq=str(cseq), branch=f"z9hG4bK-{method}{cseq}", **kwargs))


class Test_8_2_2_2_merged_requests_and_loops:  # noqa: N801 - named as the RFC section
    def test_the_second_way_to_here_gets_482(self) -> None:
        harness = Harness()
        harness.invited()
        harness.receive(request("INVITE", branch="z9hG4bK-other"))
        assert harness.take_sent() == ["482"]
        assert harness.events == []

    def test_another_cseq_is_another_request(self) -> None:
        harness = Harness()
        harness.invited()
        harness.receive(request("INVITE", branch="z9hG4bK-other", cseq="2"))
        harness.take(RequestReceived)

    def test_once_the_first_is_over_the_same_request_is_new(self) -> None:
        harness = Harness()
        harness.receive(request("OPTIONS"))
        harness.respond(harness.take(RequestReceived).transaction, 200)
        harness.settle()
        harness.receive(request("OPTIONS", branch="z9hG4bK-other"))
        harness.take(RequestReceived)

    @pytest.mark.parametrize(
        ("uri", "looped"), [("sip:15551230001@192.0.2.2", True), ("sip:204@192.0.2.1", False)]
    )
    def test_our_own_invite_that_comes_back_unchanged_gets_482_a_spiral_is_taken(
        self, uri: str, looped: bool
    ) -> None:
        harness = Harness()
        harness.endpoint.invite(spec(), None, harness.now)
        invite = harness.last().request
        harness.receive(
            request("INVITE", uri=uri,
                    via=f"SIP/2.0/UDP 192.0.2.2;branch=z9hG4bK-p, {invite.headers.get('Via')}",
                    from_tag=invite.from_.tag or "", call_id=invite.call_id),
        )  # fmt: skip
        if looped:
            assert harness.last().response.status == 482
            assert harness.events == []
        else:
            harness.take(RequestReceived)

    def test_other_peoples_vias_are_no_loop(self) -> None:
        harness = Harness()
        harness.endpoint.invite(spec(), None, harness.now)
        harness.receive(
            request("INVITE", via="SIP/2.0/UDP 192.0.2.2;branch=z9hG4bK-1,SIP/2.0/UDP x;branch=z9hG4bK-2")
        )
        harness.take(RequestReceived)


class Test_8_2_6_responses:  # noqa: N801
    def test_mandatory_headers_are_echoed(self) -> None:
        harness = Harness()
        transaction = harness.invited(
            extra="Record-Route: <sip:192.0.2.3;lr>\r\nRecord-Route: <sip:192.0.2.4;lr>\r\n"
        )
        harness.respond(transaction, 183, b"v=0\r\n")
        response = harness.last().response
        assert response.headers.get("From") == "<sip:204@example.com>;tag=peer"
        assert response.headers.get("To") == f"<sip:15551230001@example.com>;tag={transaction.lines.to_tag}"
        assert response.call_id == "c1"
        assert str(response.cseq) == "1 INVITE"
        assert response.headers.get_all("Record-Route") == ["<sip:192.0.2.3;lr>", "<sip:192.0.2.4;lr>"]
        assert response.headers.get("Contact") == "<sip:tollgate@192.0.2.1:5060>"
        assert response.headers.get("Content-Type") == "application/sdp"
        assert response.headers.get("Server") == "Tollgate"
        assert response.body == b"v=0\r\n"

    def test_the_to_tag_is_the_same_in_every_response(self) -> None:
        harness = Harness()
        transaction = harness.invited()
        for status in (180, 183, 486):
            harness.respond(transaction, status)
        assert len({sent.response.to.tag for sent in harness.sent}) == 1

    def test_a_refusal_has_no_contact(self) -> None:
        harness = Harness()
        harness.respond(harness.invited(), 486)
        assert harness.last().response.headers.get("Contact") is None

    def test_contact_names_the_transport_and_address_of_its_listen_point(self) -> None:
        harness = Harness()
        harness.respond(harness.invited(over="TCP"), 180)
        assert harness.last().response.headers.get("Contact") == "<sip:tollgate@192.0.2.1:5060;transport=tcp>"
        harness.receive(
            request("INVITE", call_id="c6", branch="z9hG4bK-6"), Flow("UDP", "2001:db8::2", 5060, 2)
        )
        harness.respond(harness.take(RequestReceived).transaction, 180)
        assert harness.last().response.headers.get("Contact") == "<sip:tollgate@[2001:db8::1]:5060>"

    def test_a_2xx_to_invite_says_what_we_take(self) -> None:
        harness = Harness()
        harness.respond(harness.invited(), 200)
        assert "INVITE" in (harness.last().response.headers.get("Allow") or "")

    def test_headers_of_the_tu_are_added_or_replace_ours(self) -> None:
        harness = Harness()
        transaction = harness.invited()
        harness.endpoint.respond(
            transaction, 180, reason="Wait",
                headers=[("Contact", "<sip:x@192.0.2.1>"), ("Alert-Info", "<x:y>")],
            now=harness.now,
        )  # fmt: skip
        response = harness.last().response
        assert response.reason == "Wait"
        assert response.headers.get_all("Contact") == ["<sip:x@192.0.2.1>"]
        assert response.headers.get("Alert-Info") == "<x:y>"
        assert response.headers.get("Server") == "Tollgate"
        harness.endpoint.respond(transaction, 486, headers=[("Reason", "Q.850;cause=17")], now=harness.now)
        assert harness.last().response.headers.get("Reason") == "Q.850;cause=17"

    @pytest.mark.parametrize("evil", ["x\r\nVia: y", "x\ny", "x\ry"])
    def test_a_line_end_can_be_smuggled_in_neither_by_a_header_nor_by_a_reason(self, evil: str) -> None:
        harness = Harness()
        transaction = harness.invited()
        with pytest.raises(LocalProtocolError):
            harness.endpoint.respond(transaction, 486, headers=[("Reason", evil)], now=harness.now)
        with pytest.raises(LocalProtocolError):
            harness.endpoint.respond(transaction, 486, reason=evil, now=harness.now)
        harness.assert_quiet()

    def test_a_second_final_response_is_our_own_mistake(self) -> None:
        harness = Harness()
        transaction = harness.invited()
        harness.respond(transaction, 486)
        with pytest.raises(LocalProtocolError):
            harness.respond(transaction, 200)


class Test_8_2_7_stateless_refusals:  # noqa: N801
    def test_nothing_is_kept_and_the_to_tag_is_always_the_same(self) -> None:
        harness = Harness()
        for _ in range(2):
            transaction = harness.invited(extra="Subject: enough octets to be answered in full, surely\r\n")
            harness.endpoint.reject_stateless(
                transaction, 401, headers=[("WWW-Authenticate", 'Digest realm="x"')]
            )
            assert harness.endpoint.idle
        harness.drain()
        assert [sent.response.status for sent in harness.sent] == [401, 401]
        assert harness.sent[0].data == harness.sent[1].data
        tag = harness.sent[0].response.to.tag or ""
        harness.sent.clear()
        harness.receive(request("ACK", to_tag=tag))
        harness.assert_quiet()
        assert harness.endpoint.idle

    @pytest.mark.parametrize(
        ("refused", "status"),
        [
            (request("INVITE", extra="Require: nothing\r\n"), 420),
            (request("OPTIONS", extra="Require: nothing\r\n"), 420),
            (request("INVITE", uri="mailto:a@example.com"), 416),
            (request("INVITE", body="hello"), 415),
            (request("INVITE", extra="Max-Forwards: 0\r\n"), 483),
            (request("PUBLISH"), 405),
            (request("CANCEL"), 481),
            (request("BYE"), 481),
            (request("INFO"), 481),
            (request("UPDATE"), 481),
            (request("INVITE", to_tag="nobody"), 481),
            (request("BYE", to_tag="nobody"), 481),
        ],
    )
    def test_what_the_endpoint_refuses_outside_dialogs_is_not_kept_or_repeated(
        self, refused: str, status: int
    ) -> None:
        harness = Harness()
        harness.receive(refused)
        assert harness.take_sent() == [str(status)]
        assert harness.endpoint.idle
        harness.run_until(40.0)
        assert harness.take_sent() == []
        harness.receive(refused)
        assert harness.take_sent() == [str(status)]

    def test_what_the_endpoint_refuses_is_not_amplified(self) -> None:
        harness = Harness(EndpointConfig(LISTEN_POINTS, amplification_limit=0))
        harness.receive(request("PUBLISH"))
        harness.receive(request("BYE", to_tag="nobody"))
        assert harness.take_sent() == []

    def test_the_refusal_of_a_reinvite_is_repeated_until_its_ack_and_the_tu_hears_nothing(self) -> None:
        harness = Harness()
        tag = harness.accepted().lines.to_tag
        harness.take_sent()
        harness.receive(
            request("INVITE", to_tag=tag, cseq="2", branch="z9hG4bK-2", extra="Require: nothing\r\n")
        )
        harness.run_until(40.0)
        assert harness.take_sent() == ["420"] * 11
        assert harness.events == []

    def test_invites_come_to_a_tu_that_wants_to_judge_them_itself(self) -> None:
        harness = Harness(EndpointConfig(LISTEN_POINTS, invites_to_tu=True))
        harness.receive(request("INVITE", extra="Require: nothing\r\n"))
        event = harness.take(RequestReceived)
        assert event.refusal == (420, (("Unsupported", "nothing"),))
        harness.endpoint.reject_stateless(event.transaction, 401)
        harness.receive(request("OPTIONS", call_id="c2", extra="Require: nothing\r\n"))
        harness.receive(request("INVITE", call_id="c3", to_tag="nobody", extra="Require: nothing\r\n"))
        assert harness.take_sent() == ["401", "420", "481"]
        assert harness.endpoint.idle

    def test_another_request_gets_another_tag(self) -> None:
        harness = Harness()
        tags = set()
        for call_id in ("c1", "c2"):
            harness.endpoint.reject_stateless(harness.invited(call_id=call_id), 403)
            tags.add(harness.last().response.to.tag)
        assert len(tags) == 2

    def test_the_response_is_at_most_three_times_the_request(self) -> None:
        harness = Harness()
        size = len(request("INVITE"))
        harness.endpoint.reject_stateless(
            harness.invited(), 401, headers=[("WWW-Authenticate", "x" * 3 * size)]
        )
        harness.assert_quiet()
        harness.receive(request("INVITE"), TCP)
        transaction = harness.take(RequestReceived).transaction
        harness.endpoint.reject_stateless(transaction, 401, headers=[("WWW-Authenticate", "x" * 3 * size)])
        assert harness.take_sent() == ["401"]

    def test_after_a_response_or_within_a_dialog_it_is_too_late(self) -> None:
        harness = Harness()
        transaction = harness.invited()
        harness.respond(transaction, 180)
        with pytest.raises(LocalProtocolError):
            harness.endpoint.reject_stateless(transaction, 401)
        harness.respond(transaction, 486)
        with pytest.raises(LocalProtocolError):
            harness.endpoint.reject_stateless(transaction, 401)

    def test_a_provisional_response_to_another_method_ends_nothing(self) -> None:
        harness = Harness()
        harness.receive(request("OPTIONS"))
        transaction = harness.take(RequestReceived).transaction
        harness.respond(transaction, 182)
        assert not transaction.answered
        harness.respond(transaction, 200)
        assert harness.take_sent() == ["182", "200"]

    def test_other_methods_too(self) -> None:
        harness = Harness()
        harness.receive(request("OPTIONS"))
        harness.endpoint.reject_stateless(harness.take(RequestReceived).transaction, 403)
        assert harness.take_sent() == ["403"]
        assert harness.endpoint.idle


class Test_9_2_cancel:  # noqa: N801
    def test_a_pending_invite_is_cancelled(self) -> None:
        harness = Harness()
        transaction = harness.invited()
        harness.respond(transaction, 180)
        harness.receive(request("CANCEL", extra="Reason: SIP;cause=200\r\n"))
        cancelled = harness.take(Cancelled)
        assert cancelled.transaction is transaction
        assert cancelled.request.headers.get("Reason") == "SIP;cause=200"
        response = harness.last().response
        assert (response.status, str(response.cseq)) == (200, "1 CANCEL")
        assert response.to.tag == transaction.lines.to_tag
        harness.respond(transaction, 487)
        harness.receive(request("ACK", to_tag=transaction.lines.to_tag))
        assert [type(event) for event in harness.take_all()] == [DialogEnded]
        harness.assert_nothing_left()

    def test_before_any_response_it_gets_the_tag_that_the_487_will_have(self) -> None:
        harness = Harness()
        transaction = harness.invited()
        harness.receive(request("CANCEL"))
        tag = harness.last().response.to.tag
        harness.respond(transaction, 487)
        assert harness.last().response.to.tag == tag

    def test_a_repeated_cancel_gets_its_200_again(self) -> None:
        harness = Harness()
        harness.invited()
        harness.receive(request("CANCEL"))
        harness.take(Cancelled)
        harness.receive(request("CANCEL"))
        assert harness.take_sent() == ["200", "200"]
        assert harness.events == []

    @pytest.mark.parametrize("status", [200, 486])
    def test_after_the_final_response_it_changes_nothing(self, status: int) -> None:
        harness = Harness()
        transaction = harness.invited()
        harness.respond(transaction, status)
        harness.receive(request("CANCEL"))
        assert harness.take_sent() == [str(status), "200"]
        assert harness.events == []

    def test_without_its_invite_it_gets_481(self) -> None:
        harness = Harness()
        harness.receive(request("CANCEL"))
        assert harness.take_sent() == ["481"]
        harness.assert_nothing_left()

    def test_a_pending_reinvite_is_cancelled_and_its_dialog_stays(self) -> None:
        harness = Harness()
        tag = harness.accepted().lines.to_tag
        harness.receive(request("INVITE", to_tag=tag, cseq="2", branch="z9hG4bK-re"))
        transaction = harness.take(RequestReceived).transaction
        harness.receive(request("CANCEL", to_tag=tag, cseq="2", branch="z9hG4bK-re"))
        assert harness.take(Cancelled).transaction is transaction
        assert harness.last().response.to.tag == tag
        harness.respond(transaction, 487)
        assert transaction.dialog is not None
        assert state(transaction.dialog) == "Confirmed"
        assert not transaction.dialog.invite_pending


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
            in_dialog(harness, method, "nobody", 2)
        assert harness.take_sent() == ["481"] * 4
        assert harness.events == []
        harness.assert_nothing_left()

    def test_12_2_2_an_rfc2543_peer_without_a_from_tag_has_a_dialog_too(self) -> None:
        harness = Harness()
        tag = harness.accepted(from_tag="").lines.to_tag
        in_dialog(harness, "BYE", tag, 2, from_tag="")
        assert harness.take(RequestReceived).dialog is not None

    @pytest.mark.parametrize("cseq", [1, 3, 4])
    def test_12_2_2_a_cseq_that_is_not_higher_gets_500(self, cseq: int) -> None:
        harness = Harness()
        tag = harness.accepted().lines.to_tag
        in_dialog(harness, "INFO", tag, 4)
        harness.respond(harness.take(RequestReceived).transaction, 200)
        in_dialog(harness, "OPTIONS", tag, cseq)
        assert harness.take_sent() == ["200", "500"]
        in_dialog(harness, "OPTIONS", tag, 900)
        harness.take(RequestReceived)

    def test_12_2_2_a_reinvite_that_is_accepted_refreshes_the_target(self) -> None:
        harness = Harness()
        transaction = harness.accepted()
        dialog = transaction.dialog
        assert dialog is not None
        in_dialog(harness, "INVITE", dialog.local_tag, 2, contact="<sip:204@192.0.2.8:5070>")
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
        harness = Harness()
        dialog = harness.accepted().dialog
        assert dialog is not None
        in_dialog(harness, "INVITE", dialog.local_tag, 2, contact="<sip:204@192.0.2.8:5070>")
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
        harness = Harness()
        dialog = harness.accepted().dialog
        assert dialog is not None
        in_dialog(harness, "UPDATE", dialog.local_tag, 2, contact=contact)
        harness.respond(harness.take(RequestReceived).transaction, status)
        assert dialog.remote_target == target
        assert (harness.last().response.headers.get("Contact") is not None) == (status == 200)

    def test_a_reinvite_without_contact_keeps_the_target(self) -> None:
        harness = Harness()
        dialog = harness.accepted().dialog
        assert dialog is not None
        in_dialog(harness, "INVITE", dialog.local_tag, 2, contact="")
        harness.respond(harness.take(RequestReceived).transaction, 200)
        assert dialog.remote_target == "sip:204@192.0.2.2:5060"

    def test_requests_within_an_early_dialog_reach_the_tu(self) -> None:
        harness = Harness()
        early = harness.endpoint.respond(harness.invited(), 180, now=harness.now)
        assert early is not None
        in_dialog(harness, "UPDATE", early.local_tag, 2)
        assert harness.take(RequestReceived).dialog is early


class Test_14_2_overlapping_invites:  # noqa: N801
    def test_a_second_invite_before_the_first_is_answered_gets_500_with_retry_after(self) -> None:
        harness = Harness()
        dialog = harness.accepted().dialog
        assert dialog is not None
        in_dialog(harness, "INVITE", dialog.local_tag, 2)
        harness.take(RequestReceived)
        in_dialog(harness, "INVITE", dialog.local_tag, 3)
        response = harness.last().response
        assert (response.status, response.headers.get("Retry-After")) == (500, "3")
        assert harness.events == []

    def test_an_invite_that_crosses_ours_gets_491(self) -> None:
        harness = Harness()
        dialog = harness.accepted().dialog
        assert dialog is not None
        harness.endpoint.request(dialog, "INVITE", now=harness.now)
        in_dialog(harness, "INVITE", dialog.local_tag, 2)
        assert harness.last().response.status == 491
        assert harness.events == []

    def test_a_reinvite_that_overtakes_the_ack_reaches_the_tu(self) -> None:
        harness = Harness()
        transaction = harness.invited()
        dialog = harness.endpoint.respond(transaction, 200, now=harness.now)
        assert dialog is not None
        in_dialog(harness, "INVITE", dialog.local_tag, 2)
        harness.respond(harness.take(RequestReceived).transaction, 200)
        harness.sent.clear()
        harness.run_until(0.5)
        assert [sent.response.cseq.number for sent in harness.sent] == [2]


class Test_15_1_2_bye:  # noqa: N801
    def test_it_ends_the_dialog_when_the_tu_has_answered(self) -> None:
        harness = Harness()
        dialog = harness.accepted().dialog
        assert dialog is not None
        in_dialog(harness, "BYE", dialog.local_tag, 2)
        received = harness.take(RequestReceived)
        assert received.dialog is dialog
        assert state(dialog) == "Terminated"
        harness.respond(received.transaction, 200)
        assert harness.take(DialogEnded).dialog is dialog
        harness.assert_nothing_left()

    def test_a_provisional_response_to_it_ends_nothing(self) -> None:
        harness = Harness()
        dialog = harness.accepted().dialog
        assert dialog is not None
        in_dialog(harness, "BYE", dialog.local_tag, 2)
        transaction = harness.take(RequestReceived).transaction
        harness.respond(transaction, 100)
        assert harness.events == []

    def test_when_its_200_cannot_be_delivered_the_dialog_ends_all_the_same(self) -> None:
        harness = Harness()
        harness.receive(request("INVITE"), TCP)
        dialog = harness.endpoint.respond(harness.take(RequestReceived).transaction, 200, now=harness.now)
        assert dialog is not None
        harness.receive(request("BYE", to_tag=dialog.local_tag, cseq="2", branch="z9hG4bK-2"), TCP)
        bye = harness.take(RequestReceived).transaction
        harness.endpoint.transport_failed(TCP, harness.now)
        harness.endpoint.transport_failed(bye.flow, harness.now)
        assert harness.take_all() == [RequestFailed(bye), DialogEnded(dialog)]
        harness.assert_nothing_left()

    def test_after_the_tu_has_forgotten_the_dialog_it_ends_nothing(self) -> None:
        harness = Harness()
        dialog = harness.accepted().dialog
        assert dialog is not None
        in_dialog(harness, "BYE", dialog.local_tag, 2)
        transaction = harness.take(RequestReceived).transaction
        harness.endpoint.terminate(dialog)
        harness.respond(transaction, 200)
        assert harness.events == []
        harness.assert_nothing_left()

    def test_it_answers_a_pending_reinvite_with_487(self) -> None:
        harness = Harness()
        dialog = harness.accepted().dialog
        assert dialog is not None
        in_dialog(harness, "INVITE", dialog.local_tag, 2)
        reinvite = harness.take(RequestReceived).transaction
        in_dialog(harness, "BYE", dialog.local_tag, 3)
        harness.take(RequestReceived)
        assert harness.take_sent() == ["487"]
        assert reinvite.answered

    def test_before_the_ack_it_stops_the_2xx(self) -> None:
        harness = Harness()
        dialog = harness.endpoint.respond(harness.invited(), 200, now=harness.now)
        assert dialog is not None
        in_dialog(harness, "BYE", dialog.local_tag, 2)
        harness.respond(harness.take(RequestReceived).transaction, 200)
        harness.take(DialogEnded)
        harness.settle()
        assert [str(sent.response.cseq) for sent in harness.sent] == ["1 INVITE", "2 BYE"]
        assert harness.events == []

    def test_in_an_early_dialog_it_leaves_the_invite_to_the_tu(self) -> None:
        harness = Harness()
        invite = harness.invited()
        early = harness.endpoint.respond(invite, 180, now=harness.now)
        assert early is not None
        in_dialog(harness, "BYE", early.local_tag, 2)
        bye = harness.take(RequestReceived).transaction
        with pytest.raises(LocalProtocolError):
            harness.respond(invite, 200)
        harness.respond(bye, 200)
        assert harness.take(DialogEnded).dialog is early
        harness.respond(invite, 487)
        harness.receive(request("ACK", to_tag=early.local_tag))
        assert harness.events == []
        harness.assert_nothing_left()

    def test_after_our_bye_a_crossing_bye_gets_200_and_anything_else_481(self) -> None:
        harness = Harness()
        dialog = harness.accepted().dialog
        assert dialog is not None
        harness.endpoint.request(dialog, "BYE", now=harness.now)
        bye = harness.last().request
        harness.sent.clear()
        in_dialog(harness, "INFO", dialog.local_tag, 2)
        in_dialog(harness, "BYE", dialog.local_tag, 3)
        assert harness.take_sent() == ["481", "200"]
        assert harness.events == []
        harness.receive(answer(bye, 481))
        assert [type(event) for event in harness.take_all()] == [ResponseReceived, DialogEnded]
        harness.assert_nothing_left()


class TestFlows:
    def test_over_a_connection_a_dialog_stays_on_it_until_it_is_lost(self) -> None:
        harness = Harness()
        harness.receive(request("INVITE", contact="<sip:204@10.1.1.1;transport=tcp>"), TCP)
        dialog = harness.endpoint.respond(harness.take(RequestReceived).transaction, 200, now=harness.now)
        assert dialog is not None
        harness.receive(request("ACK", to_tag=dialog.local_tag, branch="z9hG4bK-2"), TCP)
        harness.endpoint.request(dialog, "INFO", now=harness.now)
        assert harness.last().flow == TCP
        harness.endpoint.transport_failed(TCP, harness.now)
        harness.endpoint.request(dialog, "INFO", now=harness.now)
        assert harness.last().flow == Flow("TCP", "10.1.1.1", 5060, 1)

    def test_a_dialog_follows_its_peer_to_another_connection(self) -> None:
        harness = Harness()
        harness.receive(request("INVITE"), TCP)
        dialog = harness.endpoint.respond(harness.take(RequestReceived).transaction, 200, now=harness.now)
        other = harness.invited(over="TCP", call_id="c9", branch="z9hG4bK-9")
        harness.respond(other, 200)
        assert dialog is not None
        moved = TCP._replace(connection=18, remote_port=40001)
        harness.receive(request("ACK", to_tag=dialog.local_tag, branch="z9hG4bK-2"), moved)
        assert dialog.flow == moved
        harness.endpoint.terminate(dialog)
        assert other.dialog is not None
        assert other.dialog.flow == TCP

    def test_a_symmetric_dialog_answers_where_the_peer_is_seen(self) -> None:
        harness = Harness()
        natted = Flow("UDP", "198.51.100.7", 33333)
        harness.receive(request("INVITE", contact="<sip:204@10.1.1.1>"), natted)
        dialog = harness.endpoint.respond(harness.take(RequestReceived).transaction, 200, now=harness.now)
        assert dialog is not None
        harness.endpoint.request(dialog, "INFO", now=harness.now)
        assert harness.last().flow == Flow("UDP", "10.1.1.1", 5060)
        dialog.symmetric = True
        harness.endpoint.request(dialog, "INFO", now=harness.now)
        assert harness.last().flow == natted


class TestBrokenRequests:
    @pytest.mark.parametrize(
        ("text", "status"),
        [
            (request("INVITE").replace("CSeq: 1 INVITE", "CSeq: 1 BYE"), 400),
            (request("INVITE").replace("Call-ID: c1\r\n", ""), 400),
            (request("INVITE").replace("From: <sip:204@example.com>", "From: <sip:204@example.com"), 400),
            (request("INVITE").replace(" SIP/2.0\r\n", " SIP/7.0\r\n", 1), 505),
            (request("INVITE", extra="Record-Route: \"<sip:x>, <sip:y>\r\n"), 400),
            (request("INVITE").replace("Via: SIP/2.0/UDP 192.0.2.2:5060", "Via: nonsense"), 400),
        ],
    )  # fmt: skip
    def test_rfc3261_8_2_and_21_4_1_they_are_answered_without_a_transaction(
        self, text: str, status: int
    ) -> None:
        harness = Harness()
        harness.receive(text)
        assert harness.take_sent() == [str(status)]
        assert harness.events == []
        assert harness.endpoint.idle

    def test_the_answer_notes_the_source(self) -> None:
        harness = Harness()
        harness.receive(
            request("INVITE", via="SIP/2.0/UDP x.example.com;rport;branch=z9hG4bK-1").replace(
                "1 INVITE", "0"
            ),
            Flow("UDP", PEER, 7000),
        )
        assert harness.last().flow == Flow("UDP", PEER, 7000)
        assert harness.last().response.top_via.rport == 7000

    @pytest.mark.parametrize(
        "text",
        [
            request("ACK", to_tag="x").replace("CSeq: 1 ACK", "CSeq: 1 BYE"),
            request("INVITE").replace("Via: SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bK-1\r\n", ""),
            "\r\n\r\n",
            "",
            "nonsense",
            b"\x00\x00\x00\x00",
            b"\xff\xfe\xfd",
            "SIP/2.0 200 OK\r\nVia: nonsense\r\n\r\n",
        ],
    )
    def test_what_cannot_be_answered_is_dropped(self, text: str | bytes) -> None:
        harness = Harness()
        harness.receive(text, UDP)
        harness.assert_quiet()
        assert harness.endpoint.idle
