"""Session timers in calls (RFC 4028): each leg has its own, and a side that is gone ends the call."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from proxy.call.config import Trunk
from proxy.call.ports import LegId, MediaTimedOut
from proxy.cdr.record import Disposition, HungUpBy
from proxy.sip.digest_client import DigestAccount
from proxy.sip.events import RequestReceived
from proxy.sip.flow import Flow
from proxy.sip.message import Request
from tests.call.offers import (
    ALLOW_NO_UPDATE,
    ALLOW_UPDATE,
    CALLEE,
    answers,
    asked,
    callee,
    follows,
    kept_by,
    talk,
    talking,
    told,
    version_of,
)
from tests.support.gate import CARRIER, NUMBER, PBX, GateBench, default_config
from tests.support.ua import ANSWER, Step, UaCall, sdp

TOLL_FREE = "918005550123"
TIMER = ("Supported", "timer")
GRANTED = (
    Step(0.0, 200, with_sdp=True, headers=[("Session-Expires", "1800;refresher=uac"), ("Require", "timer")]),
)
"""The callee agrees to the interval that it is asked for, and leaves the refreshes to the gate."""
NO_UPDATE = (Step(0.0, 200, with_sdp=True, headers=ALLOW_NO_UPDATE),)
CHALLENGE = ("Proxy-Authenticate", 'Digest realm="carrier", nonce="n1", qop="auth"')


def refreshed_by_peer(bench: GateBench, seconds: int = 600) -> UaCall:
    """A talk whose caller has taken it on itself to refresh."""
    call = bench.pbx.call(TOLL_FREE, headers=[TIMER, ("Session-Expires", f"{seconds};refresher=uac")])
    bench.run(1.0)
    return call


def expires(message: Request) -> str | None:
    return message.headers.get("Session-Expires")


class TestWhatIsSaid:
    def test_rfc4028_7_1_the_invite_to_the_trunk_asks_for_a_timer(self) -> None:
        with talk() as (bench, _call):
            invite = callee(bench).invite
            assert invite is not None
            assert expires(invite) == "1800"
            assert "timer" in (invite.headers.get("Supported") or "")

    def test_the_header_never_crosses(self) -> None:
        with GateBench() as bench:
            call = refreshed_by_peer(bench)
            invite = callee(bench).invite
            assert invite is not None
            assert expires(invite) == "1800"
            assert call.last.headers.get("Session-Expires") == "600;refresher=uac"
            call.bye()

    def test_rfc4028_9_a_caller_may_require_it(self) -> None:
        with GateBench() as bench:
            call = bench.pbx.call(TOLL_FREE, headers=[("Require", "timer"), ("Session-Expires", "600")])
            bench.run(1.0)
            assert call.status == 200
            assert call.last.headers.get("Require") == "timer"
            call.bye()

    def test_rfc4028_9_too_short_an_interval_is_422(self) -> None:
        with GateBench() as bench:
            call = bench.pbx.call(TOLL_FREE, headers=[TIMER, ("Session-Expires", "60")])
            bench.run(1.0)
            assert call.status == 422
            assert call.last.headers.get("Min-SE") == "90"
            assert not bench.carrier.calls

    def test_an_emergency_call_is_placed_all_the_same(self) -> None:
        with GateBench() as bench:
            call = bench.pbx.call("911", headers=[TIMER, ("Session-Expires", "60")])
            bench.run(1.0)
            assert call.status == 200
            call.bye()

    def test_rfc4028_7_3_the_invite_is_repeated_with_the_trunks_min_se(self) -> None:
        def script(call: UaCall) -> Sequence[Step]:
            assert call.invite is not None
            if expires(call.invite) == "1800":
                return (Step(0.0, 422, headers=[("Min-SE", "3600")]),)
            return (Step(0.0, 200, with_sdp=True),)

        with GateBench() as bench:
            bench.carrier.script = script
            call = talking(bench)
            first, second = (one.invite for one in bench.carrier.calls)
            assert first is not None
            assert second is not None
            assert (expires(second), second.headers.get("Min-SE")) == ("3600", "3600")
            assert second.call_id == first.call_id
            assert second.cseq.number == first.cseq.number + 1
            call.bye()

    def test_a_trunk_that_goes_on_with_422_has_refused(self) -> None:
        refusing = (Step(0.0, 422, headers=[("Min-SE", "3600")]),)
        with GateBench(script=refusing) as bench:
            call = bench.pbx.call(TOLL_FREE)
            bench.run(1.0)
            assert call.status == 500
            assert len(bench.carrier.calls) == 2


class TestRefresh:
    """§7.4, §10."""

    def test_a_peer_without_update_gets_a_reinvite_with_what_is_in_force(self) -> None:
        with GateBench(script=NO_UPDATE) as bench:
            call = bench.pbx.call(TOLL_FREE, headers=ALLOW_NO_UPDATE)
            bench.run(899.0)
            assert not asked(call)
            bench.run(2.0)
            (refresh,) = asked(call)
            assert (refresh.method, refresh.body) == ("INVITE", call.last.body)
            assert expires(refresh) == "1800;refresher=uac"
            (refresh,) = asked(callee(bench))
            first = callee(bench).invite
            assert first is not None
            assert refresh.body == first.body
            before = bench.now
            bench.run(900.0)
            assert len(asked(call)) == 2
            assert bench.now > before
            assert not call.has_ended()
            call.bye()

    def test_a_peer_with_update_gets_one_without_sdp(self) -> None:
        script = (Step(0.0, 200, with_sdp=True, headers=ALLOW_UPDATE),)
        with talk(GateBench(script=script)) as (bench, _call):
            bench.run(901.0)
            (refresh,) = asked(callee(bench))
            assert (refresh.method, refresh.body) == ("UPDATE", b"")
            assert "timer" in refresh.headers.values("Supported"), "RFC 4028 §7.1"
            assert "100rel" not in refresh.headers.values("Supported")
            bench.run(1800.0)
            assert len(asked(callee(bench))) == 3

    def test_rfc4028_8_2_a_callee_that_takes_the_refresh_on_itself_is_not_refreshed(self) -> None:
        headers = [("Require", "timer"), ("Session-Expires", "600;refresher=uas")]
        with talk(GateBench(script=(Step(0.0, 200, with_sdp=True, headers=headers),))) as (bench, call):
            bench.run(500.0)
            callee(bench).request("UPDATE", headers=[TIMER, ("Session-Expires", "600;refresher=uac")])
            bench.run(500.0)
            assert not call.has_ended()
            assert not asked(callee(bench))
            assert callee(bench).replies[-1].headers.get("Session-Expires") == "600;refresher=uac"

    def test_at_the_prompt_too(self) -> None:
        with GateBench(script=()) as bench:
            headers = [TIMER, ("Session-Expires", "90;refresher=uas"), *ALLOW_NO_UPDATE]
            call = bench.pbx.call(NUMBER, headers=headers)
            bench.run(0.5)
            bench.press("1234#")
            bench.run(45.0)
            assert [request.method for request in asked(call)] == ["INVITE"]
            call.bye()

    def test_after_an_offer_that_was_refused_it_has_a_version_of_its_own(self) -> None:
        with talk(GateBench(script=NO_UPDATE)) as (bench, call):
            bench.carrier.within = answers(bench.carrier, 488)
            call.request("INVITE", sdp(direction="sendonly", version=2))
            bench.run(0.5)
            refused = asked(callee(bench))[-1].body
            bench.run(900.0)
            refresh = asked(callee(bench))[-1].body
            assert version_of(refresh) == version_of(refused) + 1
            assert b"a=sendrecv" in refresh

    @pytest.mark.parametrize(("status", "after"), [(491, 3.0), (500, 10.0)])
    def test_refused_for_the_moment_it_is_sent_again(self, status: int, after: float) -> None:
        with talk(GateBench(script=GRANTED)) as (bench, _call):
            bench.carrier.within = answers(bench.carrier, status)
            bench.run(899.5)
            assert len(asked(callee(bench))) == 1
            bench.run(after - 0.6)
            assert len(asked(callee(bench))) == 1
            bench.run(0.7)
            assert len(asked(callee(bench))) == 2

    @pytest.mark.parametrize("status", [405, 501])
    @pytest.mark.parametrize(("granted", "after"), [(True, 10.0), (False, 900.0)])
    def test_a_peer_that_takes_no_update_after_all_gets_a_reinvite(
        self, status: int, granted: bool, after: float
    ) -> None:
        with talk(GateBench(script=GRANTED if granted else ANSWER)) as (bench, _call):
            bench.carrier.within = answers(bench.carrier, status)
            bench.run(901.0 + after)
            assert [request.method for request in asked(callee(bench))] == ["UPDATE", "INVITE"]

    def test_rfc3261_8_1_3_1_a_transport_that_fails_is_tried_again(self) -> None:
        with talk() as (bench, call):
            bench.network.drop = lambda sender, receiver, data: receiver == CARRIER and b"UPDATE" in data[:6]
            bench.run(899.5)
            bench.gate.endpoint.transport_failed(Flow("UDP", *CARRIER), bench.now)
            bench.network.drop = None
            bench.run(10.5)
            assert [request.method for request in asked(callee(bench))] == ["UPDATE"]
            assert not call.has_ended()

    def test_rfc4028_7_3_a_422_to_it_lengthens_the_interval(self) -> None:
        with talk() as (bench, _call):
            bench.carrier.within = answers(bench.carrier, 422, headers=[("Min-SE", "3600")])
            bench.run(900.0)
            assert [expires(request) for request in asked(callee(bench))] == [
                "1800;refresher=uac",
                "3600;refresher=uac",
            ]

    def test_it_waits_for_what_is_under_way(self) -> None:
        with talk() as (bench, call):
            bench.run(898.5)
            kept = kept_by(bench.carrier)
            call.request("INVITE", sdp(direction="sendonly", version=2))
            bench.run(2.0)
            assert len(asked(callee(bench))) == 1
            bench.carrier.within = follows(bench.carrier)
            taken = sdp(CALLEE, direction="recvonly", version=2)
            bench.carrier.endpoint.respond(kept[0].transaction, 200, body=taken, now=bench.now)
            bench.run(905.0)
            assert (
                len(asked(callee(bench))) == 2
            )  # the offer was a refresh: the next is due half an interval on

    def test_a_new_answer_to_it_is_taken(self) -> None:
        with talk(GateBench(script=NO_UPDATE)) as (bench, _call):
            bench.carrier.description = sdp(CALLEE, 5050, version=2)
            bench.run(901.0)
            assert told(bench, 2).remote.rtp_port == 5050


class TestDeadPeer:
    """§10: the call ends, and the record says why."""

    @pytest.mark.parametrize("gone", [CARRIER, PBX])
    def test_a_side_that_answers_no_refresh(self, gone: tuple[str, int]) -> None:
        with talk() as (bench, call):
            bench.network.drop = lambda sender, receiver, data: gone in {sender, receiver}
            bench.run(935.0)
            assert not bench.core.calls
            there = callee(bench) if gone == PBX else call
            assert there.has_ended()
            bye = there.requests[-1]
            assert bye.headers.get_all("Reason") == [
                'SIP;cause=408;text="Session expired"',
                "Q.850;cause=102",
            ]
            bench.vanished.add(bench.pbx if gone == PBX else bench.carrier)
            bench.run(40.0)
        record = bench.record
        assert (record.disposition, record.sip_code, record.q850_cause) == (Disposition.FAILED, 408, 102)
        assert record.hung_up_by is HungUpBy.GATE
        assert record.talk_time > 900.0

    @pytest.mark.parametrize("status", [408, 481])
    def test_a_side_that_knows_no_such_dialog(self, status: int) -> None:
        with talk() as (bench, call):
            bench.carrier.within = answers(bench.carrier, status)
            bench.run(901.0)
            assert call.has_ended()
        assert bench.record.disposition is Disposition.FAILED

    def test_a_side_that_was_to_refresh_and_did_not(self) -> None:
        with GateBench() as bench:
            call = refreshed_by_peer(bench)
            bench.run(566.9)
            assert not call.has_ended()
            bench.run(0.2)
            assert call.has_ended()
            assert callee(bench).ended
        assert bench.record.q850_cause == 102

    def test_a_side_that_has_granted_an_interval_and_refuses_every_refresh(self) -> None:
        with talk(GateBench(script=GRANTED)) as (bench, call):
            bench.carrier.within = answers(bench.carrier, *[488] * 200)
            bench.run(1766.0)
            assert not call.has_ended()
            bench.run(2.0)
            assert call.has_ended()

    @pytest.mark.parametrize("status", [401, 403, 407, 488, 491, 500, 501, 603])
    def test_rfc4028_7_2_a_callee_without_timers_lives_whatever_it_answers(self, status: int) -> None:
        with talk() as (bench, call):
            bench.carrier.within = answers(bench.carrier, *[status] * 20)
            bench.run(7300.0)
            assert not call.has_ended()
            assert len(asked(callee(bench))) == 8, "every half interval, and no flood"

    @pytest.mark.parametrize("status", [404, 410, 430, 477, 478, 480, 502, 503])
    def test_rfc5057_5_1_unless_that_may_be_a_proxys_word_for_one_that_is_gone(self, status: int) -> None:
        with talk() as (bench, call):
            bench.carrier.within = answers(bench.carrier, *[status] * 200)
            bench.run(1766.0)
            assert not call.has_ended()
            bench.run(2.0)
            assert call.has_ended()

    def test_rfc4028_9_and_so_does_such_a_caller(self) -> None:
        with talk() as (bench, call):
            bench.pbx.within = answers(bench.pbx, *[403] * 20)
            bench.run(7300.0)
            assert not call.has_ended()
            assert len(asked(call)) == 8

    def test_rfc4028_10_one_that_refuses_and_then_is_silent_is_gone(self) -> None:
        with talk() as (bench, call):
            bench.carrier.within = answers(bench.carrier, 403)
            bench.run(950.0)
            bench.network.drop = lambda sender, receiver, data: CARRIER in {sender, receiver}
            bench.run(900.0)
            assert call.has_ended()
            bench.vanished.add(bench.carrier)
            bench.run(40.0)
        assert bench.record.sip_code == 408

    def test_the_call_ends_while_a_refresh_is_under_way(self) -> None:
        with talk(GateBench(delay=(0.1, 0.1))) as (bench, call):
            bench.run(899.5)
            callee(bench).bye()
            bench.run(1.0)
            assert call.has_ended()


class TestEmergency:
    """Departs from §10: who is heard calling for help is not cut off for what became of the signalling."""

    @staticmethod
    def lost(bench: GateBench, gone: tuple[str, int]) -> UaCall:
        """An emergency call one side of which has not answered the refresh."""
        call = bench.pbx.call("911")
        bench.run(1.0)
        bench.network.drop = lambda sender, receiver, data: gone in {sender, receiver}
        bench.run(3600.0)
        return call

    @pytest.mark.parametrize("gone", [CARRIER, PBX])
    def test_it_goes_on_while_the_lost_side_is_heard(self, gone: tuple[str, int]) -> None:
        with GateBench() as bench:
            call = self.lost(bench, gone)
            assert bench.core.calls
            assert not (callee(bench) if gone == PBX else call).has_ended()
            bench.answer(MediaTimedOut(LegId(2 if gone == PBX else 1)))
            assert bench.core.calls  # the other side is silent, and answers
            bench.answer(MediaTimedOut(LegId(1 if gone == PBX else 2)))
            bench.run(1.0)
            assert not bench.core.calls
            assert (callee(bench) if gone == PBX else call).has_ended()
            bench.vanished.add(bench.pbx if gone == PBX else bench.carrier)
            bench.run(40.0)
        assert bench.record.disposition is Disposition.ANSWERED
        assert bench.record.talk_time > 3600.0

    def test_a_side_that_was_silent_already_ends_it(self) -> None:
        with GateBench() as bench:
            call = bench.pbx.call("911")
            bench.run(70.0)
            bench.answer(MediaTimedOut(LegId(2)))
            bench.network.drop = lambda sender, receiver, data: CARRIER in {sender, receiver}
            bench.run(940.0)
            assert call.has_ended()
            bench.vanished.add(bench.carrier)
            bench.run(40.0)
        assert bench.record.q850_cause == 102

    @pytest.mark.parametrize("status", [408, 481])
    def test_a_side_that_knows_no_such_dialog_is_heard_on(self, status: int) -> None:
        with GateBench() as bench:
            call = bench.pbx.call("911")
            bench.run(1.0)
            bench.carrier.within = answers(bench.carrier, status)
            bench.run(3600.0)
            assert not call.has_ended()
            call.bye()

    @pytest.mark.parametrize("status", [408, 481])
    def test_a_hold_that_the_other_side_knows_nothing_of(self, status: int) -> None:
        with GateBench() as bench:
            call = bench.pbx.call("911")
            bench.run(1.0)
            bench.carrier.within = answers(bench.carrier, status)
            call.request("INVITE", sdp(version=2, direction="sendonly"))
            bench.run(1.0)
            assert not call.has_ended()
            call.bye()

    def test_who_asks_for_something_is_lost_no_longer(self) -> None:
        with GateBench() as bench:
            call = bench.pbx.call("911")
            bench.run(1.0)
            bench.carrier.within = answers(bench.carrier, 481)
            bench.run(1000.0)
            callee(bench).request("INFO")
            bench.run(1.0)
            bench.answer(MediaTimedOut(LegId(2)))
            bench.run(1.0)
            assert not call.has_ended()
            call.bye()

    def test_rfc3261_13_3_1_4_an_ack_that_is_lost_does_not_end_it(self) -> None:
        with GateBench() as bench:
            bench.network.drop = lambda sender, receiver, data: data.startswith(b"ACK") and sender == PBX
            call = bench.pbx.call("911")
            bench.run(120.0)
            assert not call.has_ended()
            call.bye()


class TestChallenged:
    """RFC 3261 §22.2: requests within the dialog are repeated with the trunk's account."""

    ACCOUNT = DigestAccount("gate-user", "gate-password", ("carrier",))

    def bench(self) -> GateBench:
        flow = Flow("UDP", *CARRIER)
        trunk = Trunk("carrier", (flow,), "carrier.example.com", account=self.ACCOUNT)
        return GateBench(config=default_config(trunks=(trunk,)))

    def test_a_reinvite(self) -> None:
        with talk(self.bench()) as (bench, call):
            bench.carrier.within = answers(bench.carrier, 407, headers=[CHALLENGE])
            call.request("INVITE", sdp(direction="sendonly", version=2))
            bench.run(0.5)
            first, second = asked(callee(bench))
            assert "Proxy-Authorization" not in first.headers
            assert 'nonce="n1"' in (second.headers.get("Proxy-Authorization") or "")
            assert first.body == second.body
            assert call.replies[-1].status == 200

    def test_one_that_is_challenged_for_ever_is_refused(self) -> None:
        with talk(self.bench()) as (bench, call):
            bench.carrier.within = answers(bench.carrier, 407, 407, 407, 407, headers=[CHALLENGE])
            call.request("INVITE", sdp(direction="sendonly", version=2))
            bench.run(0.5)
            assert len(asked(callee(bench))) == 2
            assert call.replies[-1].status == 500

    def test_a_bye_is_repeated_after_the_end_of_its_dialog(self) -> None:
        def challenges(call: UaCall, event: RequestReceived) -> bool:
            if event.request.method != "BYE" or "Proxy-Authorization" in event.request.headers:
                return False
            bench.carrier.endpoint.respond(event.transaction, 407, headers=[CHALLENGE], now=bench.now)
            return True

        with talk(self.bench()) as (bench, call):
            byes: list[str | None] = []
            bench.network.trace = lambda at, sender, receiver, data: (
                byes.append("yes" if b"Proxy-Authorization" in data else "no")
                if receiver == CARRIER and data.startswith(b"BYE")
                else None
            )
            bench.carrier.within = challenges
            call.bye()
            bench.run(1.0)
            assert byes == ["no", "yes"]

    def test_without_an_account_a_challenge_is_a_refusal(self) -> None:
        with talk() as (bench, call):
            bench.carrier.within = answers(bench.carrier, 407, headers=[CHALLENGE])
            call.request("INVITE", sdp(direction="sendonly", version=2))
            bench.run(0.5)
            assert call.replies[-1].status == 500
