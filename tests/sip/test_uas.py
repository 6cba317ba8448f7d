"""The UAS core: RFC 3261 §8.2, §9.2."""

from __future__ import annotations

import pytest

from proxy.errors import LocalProtocolError
from proxy.sip.config import EndpointConfig
from proxy.sip.events import Cancelled, DialogEnded, RequestReceived
from proxy.sip.flow import Flow
from tests.sip.harness import LISTEN_POINTS, PEER, TCP, UDP, Harness, request, spec, state


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

    @pytest.mark.parametrize(
        ("strongest", "next_one", "kept"), [(5, 5, 2), (60, 100, 1), (500, 5, 0), (500, 500, 0)]
    )
    def test_rfc8760_2_4_of_a_refusal_that_would_be_amplified_as_much_is_sent_as_may_be(
        self, strongest: int, next_one: int, kept: int
    ) -> None:
        """The strongest challenge alone, else none: the shortest legal request is answered, too."""
        small = (
            "INVITE sip:1@g SIP/2.0\r\nv:SIP/2.0/UDP h;branch=z9hG4bK1\r\nf:<sip:a@h>;tag=1\r\n"
            "t:<sip:1@g>\r\ni:1\r\nCSeq:1 INVITE\r\nl:0\r\n\r\n"
        )
        challenges = (f'Digest a="{"x" * strongest}"', f'Digest b="{"x" * next_one}"')
        harness = Harness(EndpointConfig(LISTEN_POINTS, invites_to_tu=True))
        harness.receive(small)
        headers = tuple(("WWW-Authenticate", one) for one in challenges)
        harness.endpoint.reject_stateless(harness.take(RequestReceived).transaction, 401, headers=headers)
        harness.drain()
        (sent,) = harness.sent
        assert sent.response.status == 401
        assert tuple(sent.response.headers.get_all("WWW-Authenticate")) == challenges[:kept]
        assert len(sent.data) <= 3 * len(small)

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
        challenge = [("WWW-Authenticate", "x" * 3 * size)]
        for flow, told in ((UDP, False), (TCP, True)):
            harness.receive(request("INVITE"), flow)
            transaction = harness.take(RequestReceived).transaction
            harness.endpoint.reject_stateless(transaction, 401, headers=challenge)
            harness.drain()
            sent = harness.sent.pop()
            assert ("WWW-Authenticate" in sent.response.headers) is told
            assert (len(sent.data) > 3 * size) is told

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
