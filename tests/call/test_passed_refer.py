"""REFER passed on to a PBX that takes it, and its NOTIFYs carried back (RFC 3515, RFC 5589, RFC 3891 §3)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.call.passed_refer import PassedReferral
from proxy.sip.events import RequestReceived
from proxy.sip.message import Request
from tests.call.transfers import OUTSIDE, TransferBench, faulty, listening, refer, replies, told
from tests.support.gate import PBX
from tests.support.ua import RING_AND_ANSWER, Headers, UaCall

PBX_HOST = f"{PBX[0]}:{PBX[1]}"
NOBODY_HERE, AT_PBX, ALSO_AT_PBX = "299", "240", "241"


class PassBench(TransferBench):
    """Phones and a PBX that transfers its own parties. Numbers 24X are at the PBX."""

    def __init__(self, *, passes: bool = True) -> None:
        super().__init__(pbx=True)
        peers = tuple(replace(peer, pass_refer=passes) for peer in self.core.config.peers)
        self.core.reconfigure(replace(self.core.config, peers=peers))
        self.pbx.script = RING_AND_ANSWER
        self.pbx.within = self._within
        self.says: tuple[int, Headers] = (202, ())
        """What the PBX answers to a REFER and to a SUBSCRIBE."""
        self.silent = False

    def _within(self, call: UaCall, event: RequestReceived) -> bool:
        if event.request.method not in {"REFER", "SUBSCRIBE"}:
            return False
        status, headers = self.says
        if not self.silent:
            call.ua.endpoint.respond(event.transaction, status, headers=headers, now=self.now)
        return True

    def passed(self) -> tuple[UaCall, UaCall]:
        """Let 204 talk with 240 and refer it to 241: both ends of the call."""
        call = self.talk(self.desk, AT_PBX)
        refer(call, ALSO_AT_PBX)
        self.run(0.1)
        return call, self.pbx.calls[0]


def asked(call: UaCall, method: str = "REFER") -> list[Request]:
    return [request for request in call.requests if request.method == method]


def notify(
    call: UaCall, status: int, state: str = "active;expires=60", *, event: str = "refer", body: str = ""
) -> None:
    text = body or f"SIP/2.0 {status} As The PBX Says\r\nVia: SIP/2.0/UDP 10.9.8.7\r\n"
    headers = [("Event", event), ("Subscription-State", state)]
    call.request(
        "NOTIFY", text.encode(), "message/sipfrag;version=2.0", [line for line in headers if line[1]]
    )


def end(bench: PassBench, *calls: UaCall) -> None:
    """Hang up, and let the PBX forget what it was asked."""
    for call in calls:
        if not call.has_ended():
            call.bye()
            bench.run(0.5)
    bench.run(100.0)


class TestPassed:
    """What goes to the other party, and what comes back."""

    def test_rfc5589_6_1_a_blind_transfer(self) -> None:
        with PassBench() as bench:
            call, far = bench.passed()
            assert replies(call) == [202]
            request = asked(far)[0]
            assert request.headers.get("Refer-To") == f"<sip:{ALSO_AT_PBX}@{PBX_HOST}>"
            assert request.headers.get("Referred-By") == f"<sip:204@{PBX_HOST}>"
            assert request.headers.get("Refer-Sub") is None
            for status, state in (
                (100, "pending"),
                (180, "active;expires=60"),
                (200, "terminated;reason=noresource"),
            ):
                notify(far, status, state)
                bench.run(0.1)
            notifies = asked(call, "NOTIFY")
            assert [notify.body for notify in notifies] == [
                b"SIP/2.0 100 Trying\r\n",
                b"SIP/2.0 180 Ringing\r\n",
                b"SIP/2.0 200 OK\r\n",
            ]
            assert [notify.headers.get("Subscription-State") for notify in notifies] == [
                "pending;expires=180",
                "active;expires=60",
                "terminated;reason=noresource",
            ]
            assert {notify.headers.get("Event") for notify in notifies} == {"refer"}
            assert replies(far) == [200, 200, 200]
            assert bench.core.referrals.idle
            assert not call.has_ended(), "the transferor hangs up"
            call.bye()
            bench.run(0.5)
            assert far.has_ended()
        assert len(bench.journal.final) == 1

    def test_rfc3892_2_1_a_pbx_that_is_not_trusted_does_not_hear_who_refers(self) -> None:
        with PassBench() as bench:
            peers = tuple(replace(peer, trusted=False) for peer in bench.core.config.peers)
            bench.core.reconfigure(replace(bench.core.config, peers=peers))
            call, far = bench.passed()
            assert asked(far)[0].headers.get("Referred-By") is None
            end(bench, call)

    def test_the_callers_side_is_the_pbx(self) -> None:
        with PassBench() as bench:
            far = bench.pbx.call("204", caller=AT_PBX)
            bench.run(1.5)
            refer(bench.desk.calls[0], ALSO_AT_PBX)
            bench.run(0.1)
            assert asked(far)[0].headers.get("Refer-To") == f"<sip:{ALSO_AT_PBX}@{PBX_HOST}>"
            notify(far, 200, "terminated")
            bench.run(0.1)
            assert told(bench.desk.calls[0]) == ["200 terminated"]
            end(bench, far)

    @pytest.mark.parametrize("turned", [False, True])
    def test_rfc5589_7_replaces_is_the_consultation_as_the_pbx_knows_it(self, turned: bool) -> None:
        with PassBench() as bench:
            first = bench.talk(bench.desk, AT_PBX)
            if turned:
                bench.pbx.call("204", caller=ALSO_AT_PBX)
                bench.run(1.5)
                consultation = bench.desk.calls[-1]
            else:
                consultation = bench.talk(bench.desk, ALSO_AT_PBX)
            assert consultation.dialog is not None
            refer(first, "x", replaces=consultation.dialog)
            bench.run(0.1)
            third = bench.pbx.calls[-1].dialog
            assert third is not None
            replaces = f"{third.call_id}%3Bto-tag%3D{third.local_tag}%3Bfrom-tag%3D{third.remote_tag}"
            refer_to = asked(bench.pbx.calls[0])[0].headers.get("Refer-To") or ""
            assert refer_to == f"<sip:{ALSO_AT_PBX}@{PBX_HOST}?Replaces={replaces}>"
            end(bench, first, consultation)

    @pytest.mark.parametrize("asserted", ["sip:24%zz@pbx.example.com", "tel:241@x"])
    def test_rfc3325_9_1_who_is_asserted_as_no_number_is_transferred_by_the_gate(self, asserted: str) -> None:
        with PassBench() as bench:
            first = bench.talk(bench.desk, AT_PBX)
            third = bench.pbx.call(
                "204", caller=ALSO_AT_PBX, headers=[("P-Asserted-Identity", f"<{asserted}>")]
            )
            bench.run(1.5)
            consultation = bench.desk.calls[-1]
            assert consultation.dialog is not None
            refer(first, "x", replaces=consultation.dialog)
            bench.run(1.0)
            assert replies(first) == [202]
            assert told(first)[-1] == "200 terminated"
            assert not asked(bench.pbx.calls[0])
            assert not third.has_ended()
            end(bench, third)

    @pytest.mark.parametrize("first", ["transferor", "pbx"])
    def test_rfc5057_4_1_it_outlives_the_bye_of_either(self, first: str) -> None:
        with PassBench() as bench:
            call, far = bench.passed()
            with listening(call), listening(far):
                (call if first == "transferor" else far).bye()
                bench.run(0.5)
                assert call.has_ended()
                assert far.has_ended()
                notify(far, 180)
                bench.run(0.1)
                notify(far, 200, "terminated;reason=noresource")
                bench.run(0.1)
                assert told(call) == ["180 active", "200 terminated"]
                assert replies(far)[-2:] == [200, 200]

    def test_rfc3261_12_2_2_no_notify_overtakes_the_bye(self) -> None:
        with PassBench() as bench:
            call, far = bench.passed()
            with listening(call), listening(far):
                bench.network.drop = lambda _sender, receiver, data: (
                    receiver == bench.desk.address and data.startswith(b"BYE")
                )
                far.bye()
                bench.run(0.1)
                notify(far, 200, "terminated;reason=noresource")
                bench.run(0.1)
                assert told(call) == []
                bench.network.drop = None
                bench.run(3.0)
                assert told(call) == ["200 terminated"]
                assert call.has_ended()

    def test_rfc4488_4_refer_sub_false_crosses_both_ways(self) -> None:
        with PassBench() as bench:
            bench.says = (202, (("Refer-Sub", "false"),))
            call = bench.talk(bench.desk, AT_PBX)
            refer(call, ALSO_AT_PBX, headers=(("Refer-Sub", "false"),))
            bench.run(0.1)
            far = bench.pbx.calls[0]
            assert asked(far)[0].headers.get("Refer-Sub") == "false"
            assert call.replies[0].headers.get("Refer-Sub") == "false"
            assert bench.core.referrals.idle
            notify(far, 200, "terminated")
            bench.run(0.1)
            assert replies(far) == [481]
            end(bench, call)

    def test_rfc3515_2_4_6_the_second_one_has_an_id(self) -> None:
        with PassBench() as bench:
            call, far = bench.passed()
            notify(far, 486, "terminated;reason=noresource")
            bench.run(0.1)
            refer(call, "242")
            bench.run(0.1)
            number = asked(far)[1].cseq.number
            notify(far, 180, event=f"refer;id={number}")
            bench.run(0.1)
            event = asked(call, "NOTIFY")[-1].headers.get("Event")
            assert event == f"refer;id={call.replies[-1].cseq.number}"
            call.request("SUBSCRIBE", headers=[("Event", event or ""), ("Expires", "60")])
            bench.run(0.1)
            assert asked(far, "SUBSCRIBE")[0].headers.get("Event") == f"refer;id={number}"
            end(bench, call)


class TestSubscribe:
    """The transferor refreshes or ends what the PBX tells."""

    @pytest.mark.parametrize(
        ("wanted", "given", "heard"), [("300", "120", "120"), ("0", "", "0"), ("90", "x", "90")]
    )
    def test_rfc6665_4_1_2_2_a_refresh_is_the_pbxs_to_answer(
        self, wanted: str, given: str, heard: str
    ) -> None:
        with PassBench() as bench:
            call, far = bench.passed()
            bench.says = (200, (("Expires", given),) if given else ())
            call.request("SUBSCRIBE", headers=[("Event", "refer"), ("Expires", wanted)])
            bench.run(0.1)
            assert asked(far, "SUBSCRIBE")[0].headers.get("Expires") == wanted
            assert (replies(call)[-1], call.replies[-1].headers.get("Expires")) == (200, heard)
            end(bench, call)

    @pytest.mark.parametrize(
        ("status", "heard", "goes_on"), [(481, 481, False), (603, 603, True), (401, 500, True)]
    )
    def test_a_refused_one(self, status: int, heard: int, goes_on: bool) -> None:
        with PassBench() as bench:
            call, far = bench.passed()
            bench.says = (status, ())
            call.request("SUBSCRIBE", headers=[("Event", "refer"), ("Expires", "60")])
            bench.run(0.1)
            assert replies(call)[-1] == heard
            notify(far, 180)
            bench.run(0.1)
            assert replies(far) == [200 if goes_on else 481]
            end(bench, call)

    @pytest.mark.parametrize(("expires", "status"), [("x", 400), ("5", 423)])
    def test_one_that_makes_no_sense_goes_nowhere(self, expires: str, status: int) -> None:
        with PassBench() as bench:
            call, far = bench.passed()
            call.request("SUBSCRIBE", headers=[("Event", "refer"), ("Expires", expires)])
            bench.run(0.1)
            assert replies(call)[-1] == status
            assert not asked(far, "SUBSCRIBE")
            end(bench, call)

    def test_one_that_meets_the_bye_has_to_wait(self) -> None:
        with PassBench() as bench:
            call, _ = bench.passed()
            with listening(call):
                bench.network.drop = lambda _sender, receiver, data: (
                    receiver == bench.pbx.address and data.startswith(b"BYE")
                )
                call.bye()
                bench.run(0.1)
                call.request("SUBSCRIBE", headers=[("Event", "refer"), ("Expires", "60")])
                bench.run(0.1)
                assert replies(call)[-1] == 491
                bench.network.drop = None
                bench.run(100.0)


class TestEnds:
    """However it ends, nothing is left."""

    @pytest.mark.parametrize(
        ("status", "heard"),
        [(403, 403), (603, 603), (481, 500), (405, 500), (302, 500), (407, 500), (486, 486)],
    )
    def test_the_refusal_is_passed_on(self, status: int, heard: int) -> None:
        with PassBench() as bench:
            bench.says = (status, ())
            call, far = bench.passed()
            assert replies(call) == [heard]
            assert bench.core.referrals.idle
            notify(far, 180)
            bench.run(0.1)
            assert replies(far) == [481]
            assert not call.has_ended()
            call.bye()
            bench.run(0.5)

    def test_a_pbx_that_says_nothing(self) -> None:
        with PassBench() as bench:
            bench.silent = True
            call, far = bench.passed()
            bench.vanished.add(bench.pbx)
            bench.run(31.0)
            assert replies(call) == []
            bench.run(2.0)
            assert bench.core.referrals.idle
            call.bye()
            bench.run(0.5)
            assert far.has_ended()
            bench.run(40.0)

    def test_rfc6665_4_1_2_4_a_pbx_that_never_notifies(self) -> None:
        with PassBench() as bench:
            call, _ = bench.passed()
            bench.run(63.0)
            assert told(call) == []
            bench.run(2.0)
            assert told(call) == ["100 terminated"]
            assert asked(call, "NOTIFY")[0].headers.get("Subscription-State") == "terminated;reason=timeout"
            assert bench.core.referrals.idle
            call.bye()
            bench.run(0.5)

    def test_a_pbx_that_leaves_it_unfinished(self) -> None:
        with PassBench() as bench:
            call, far = bench.passed()
            notify(far, 180, "active;expires=10")
            bench.run(9.8)
            assert told(call) == ["180 active"]
            bench.run(0.5)
            assert told(call) == ["180 active", "180 terminated"]
            call.bye()
            bench.run(0.5)

    def test_a_pbx_that_only_ever_refreshes_is_given_up_after_the_longest_ringing(self) -> None:
        with PassBench() as bench:
            call, far = bench.passed()
            for _ in range(6):
                notify(far, 180, "active;expires=600")
                bench.run(29.0)
            states = [request.headers.get("Subscription-State") for request in asked(call, "NOTIFY")]
            assert states == [f"active;expires={180 - 29 * sent}" for sent in range(6)]
            refer(call, "242")
            bench.run(0.1)
            assert replies(call)[-1] == 491
            bench.run(8.0)
            assert told(call)[-1] == "180 terminated"
            assert bench.core.referrals.idle
            notify(far, 180, "active;expires=600")
            bench.run(0.1)
            assert replies(far)[-1] == 481
            refer(call, "242")
            bench.run(0.1)
            assert replies(call)[-1] == 202
            end(bench, call)

    def test_rfc6665_4_1_2_4_a_transferor_that_wants_no_more_is_told_no_more(self) -> None:
        with PassBench() as bench:
            call, far = bench.passed()
            call.bye()
            bench.run(0.5)
            with listening(far):
                notify(far, 180)
                notify(far, 200, "terminated")
                bench.run(0.5)
                assert replies(far) == [481, 481]

    def test_a_transferor_that_has_vanished(self) -> None:
        with PassBench() as bench:
            _, far = bench.passed()
            bench.network.drop = lambda _sender, receiver, _data: receiver == bench.desk.address
            bench.vanished.add(bench.desk)
            with listening(far):
                notify(far, 180, "active;expires=600")
                bench.run(33.0)
                assert bench.core.referrals.idle
                far.bye()
                bench.run(40.0)

    def test_the_last_word_of_a_pbx_is_the_last(self) -> None:
        with PassBench() as bench:
            call, far = bench.passed()
            notify(far, 180, "active;expires=10")
            bench.run(9.7)
            bench.network.delay = (0.1, 0.2)
            notify(far, 200, "terminated")
            bench.run(2.0)
            assert told(call) == ["180 active", "200 terminated"]
            bench.network.delay = (0.0, 0.0)
            end(bench, call)

    def test_its_time_is_over_while_a_notify_is_refused(self) -> None:
        with PassBench() as bench:
            call, far = bench.passed()
            bench.network.delay = (0.1, 0.1)
            bench.desk.within = _refuses
            notify(far, 180, "active;expires=0")
            bench.run(1.0)
            assert told(call) == ["180 active", "180 terminated"]
            assert replies(far) == [481]
            assert bench.core.referrals.idle
            bench.network.delay = (0.0, 0.0)
            end(bench, call)

    def test_what_is_under_way_when_it_ends(self) -> None:
        """Of two NOTIFYs the first is refused: the second and a SUBSCRIBE are answered all the same."""
        with PassBench() as bench:
            call, far = bench.passed()
            bench.network.delay = (0.2, 0.2)
            bench.desk.within = _refuses
            notify(far, 180)
            notify(far, 183)
            bench.run(0.3)
            bench.silent = True
            call.request("SUBSCRIBE", headers=[("Event", "refer"), ("Expires", "60")])
            bench.run(2.0)
            assert replies(far) == [481, 481]
            assert replies(call)[-1] == 481
            bench.network.delay = (0.0, 0.0)
            bench.silent = False
            assert bench.core.referrals.idle
            call.bye()
            bench.vanished.add(bench.pbx)
            bench.run(40.0)

    @pytest.mark.parametrize(
        ("state", "event", "status"),
        [
            ("", "refer", 400),
            ("a b", "refer", 400),
            ("active", "", 489),
            ("active", "dialog", 481),
            ("active", "refer;id=7", 481),
        ],
    )
    def test_a_malformed_notify_goes_nowhere(self, state: str, event: str, status: int) -> None:
        with PassBench() as bench:
            call, far = bench.passed()
            notify(far, 180, state, event=event)
            bench.run(0.1)
            assert replies(far) == [status]
            assert told(call) == []
            end(bench, call)

    @pytest.mark.parametrize("body", ["200 OK", "SIP/2.0 1000 Much", "SIP/2.0 7xx", "\x00"])
    def test_a_body_that_says_nothing_leaves_the_status_as_it_was(self, body: str) -> None:
        with PassBench() as bench:
            call, far = bench.passed()
            notify(far, 180)
            bench.run(0.1)
            notify(far, 0, 'terminated;reason="a b;c"', body=body)
            bench.run(0.1)
            assert told(call) == ["180 active", "180 terminated"]
            assert asked(call, "NOTIFY")[-1].headers.get("Subscription-State") == "terminated"
            end(bench, call)

    def test_an_error_in_it_costs_one_call(self) -> None:
        with PassBench() as bench:
            other = bench.talk(bench.second, "206", user="205")
            with faulty(bench, PassedReferral, "responded") as failed:
                call, far = bench.passed()
            assert len(failed) == 1
            bench.run(0.5)
            assert call.has_ended()
            assert far.has_ended()
            assert not other.has_ended()
            other.bye()
            bench.run(100.0)


class TestNotPassed:
    """What the gate acts on itself, or refuses."""

    @pytest.mark.parametrize(
        "target",
        ["206", OUTSIDE, "919005550123", "911", "nonsense", f"sip:{ALSO_AT_PBX}@gate.example.com;gr=x"],
    )
    def test_what_is_not_an_internal_number_of_that_pbx(self, target: str) -> None:
        with PassBench() as bench:
            call = bench.talk(bench.desk, AT_PBX)
            refer(call, target)
            bench.run(3.0)
            assert not asked(bench.pbx.calls[0])
            assert replies(call) == [202]
            if not bench.pbx.calls[0].has_ended():
                bench.pbx.calls[0].bye()
            bench.run(0.5)

    @pytest.mark.parametrize("why", ["setting", "allow", "address"])
    def test_a_pbx_that_does_not_take_it(self, why: str) -> None:
        with PassBench(passes=why != "setting") as bench:
            if why == "allow":
                config = replace(
                    bench.pbx.endpoint.config, allow=("INVITE", "ACK", "BYE", "CANCEL", "NOTIFY")
                )
                object.__setattr__(bench.pbx.endpoint, "config", config)
                bench.pbx.script = tuple(
                    replace(step, headers=(("Allow", "INVITE, ACK, BYE"),)) for step in RING_AND_ANSWER
                )
            call = bench.talk(bench.desk, AT_PBX)
            if why == "address":
                side = next(iter(bench.core.calls.values())).b
                assert side is not None
                side.party = replace(side.party, peer=replace(side.party.peer, flow=None))
            refer(call, ALSO_AT_PBX)
            bench.run(3.0)
            assert not asked(bench.pbx.calls[0])
            assert told(call)[-1] == "200 terminated"
            assert bench.pbx.calls[1].connected
            bench.pbx.calls[1].bye()
            bench.run(0.5)

    @pytest.mark.parametrize(
        "kind", ["phone", "ringing", "early-only", "nobody", "itself", "stranger", "outside"]
    )
    def test_a_consultation_that_is_not_at_that_pbx(self, kind: str) -> None:
        with PassBench() as bench:
            call = bench.talk(bench.desk, AT_PBX)
            other = call
            if kind == "phone":
                other = bench.talk(bench.desk, "206")
            elif kind == "outside":
                other = bench.talk(bench.desk, "918005550123")
            elif kind == "ringing":
                bench.pbx.script = RING_AND_ANSWER[:1]
                other = bench.desk.call(ALSO_AT_PBX)
                bench.run(0.5)
            elif kind == "early-only":
                other = bench.talk(bench.desk, ALSO_AT_PBX)
            elif kind == "stranger":
                other = bench.talk(bench.second, ALSO_AT_PBX, user="205")
            dialog = other.dialog
            assert dialog is not None
            value = f"{dialog.call_id}%3Bto-tag%3D{dialog.remote_tag}%3Bfrom-tag%3D{dialog.local_tag}"
            value = {"early-only": f"{value}%3Bearly-only", "nobody": f"x{value}"}.get(kind, value)
            call.request("REFER", headers=[("Refer-To", f"<sip:x@gate?Replaces={value}>")])
            bench.run(0.5)
            assert not asked(bench.pbx.calls[0])
            words = {"phone": "200 terminated", "outside": "200 terminated", "early-only": "486 terminated"}
            words["ringing"] = "100 active"
            assert told(call)[-1] == words.get(kind, "481 terminated")
            for core_call in list(bench.core.calls):
                bench.core.hang_up(core_call, bench.now)
            bench.run(1.0)

    def test_one_at_a_time_from_either_side(self) -> None:
        with PassBench() as bench:
            call, far = bench.passed()
            refer(call, "206")
            refer(far, "206")
            bench.run(0.1)
            assert replies(call) == [202, 491]
            assert replies(far) == [491]
            notify(far, 486, "terminated;reason=noresource")
            bench.run(0.1)
            refer(call, "206")
            bench.run(2.0)
            assert bench.third.calls[0].connected
            bench.third.calls[0].bye()
            bench.run(0.5)


def _refuses(call: UaCall, event: RequestReceived) -> bool:
    if event.request.method != "NOTIFY":
        return False
    call.ua.endpoint.respond(event.transaction, 481, now=call.ua.now())
    return True
