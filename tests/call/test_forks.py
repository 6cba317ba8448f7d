"""A B leg whose INVITE a proxy beyond has forked: RFC 3261 §12.1.2, §13.2.2.4; RFC 3960 §3.1; RFC 6228."""

from __future__ import annotations

from proxy.call.config import CodeMode
from proxy.call.ports import LegId
from proxy.cdr.record import Disposition
from tests.call.forking import ONE, THREE, TWO, ForkingCarrier, forked, with_account
from tests.call.phones import PhoneBench
from tests.sip.harness import answer
from tests.support.gate import NUMBER, GateBench, default_config
from tests.support.ua import Step, sdp


class TestChallenges:
    """RFC 3261 §22.2: a trunk may want to know who sends a PRACK, too."""

    def test_prack_is_repeated_with_credentials_and_the_same_rack(self) -> None:
        with forked(with_account()) as (_bench, carrier, _call):
            carrier.challenges["PRACK"] = 1
            carrier.says(183, "one", ONE, rseq=8)
            carrier.says(180, "one", rseq=9)
            pracks = [request for request in carrier.requests if request.method == "PRACK"]
            assert [request.headers.get("RAck") for request in pracks] == [
                "8 1 INVITE",
                "8 1 INVITE",
                "9 1 INVITE",
            ]
            assert [request.cseq.number for request in pracks] == [2, 3, 4]
            assert "gate-user" in (pracks[1].headers.get("Proxy-Authorization") or "")
            carrier.says(200, "one")

    def test_prack_is_not_repeated_for_ever_and_the_call_goes_on(self) -> None:
        with forked(with_account()) as (_bench, carrier, call):
            carrier.challenges["PRACK"] = 99
            carrier.says(183, "one", ONE, rseq=8)
            assert len(carrier.sent_to("one")) <= 3
            carrier.says(200, "one")
            assert call.status == 200

    def test_rfc3261_13_2_2_4_the_bye_of_every_lost_branch_is_repeated_with_credentials(self) -> None:
        with forked(with_account()) as (bench, carrier, call):
            carrier.says(200, "two", TWO)
            for tag, body in (("one", ONE), ("three", THREE)):
                carrier.challenges["BYE"] = 1
                carrier.says(200, tag, body)
                assert carrier.sent_to(tag) == ["ACK", "BYE", "BYE"]
            call.bye()
            bench.run(0.1)
            last = {request.to.tag: request for request in carrier.requests if request.method == "BYE"}
            assert set(last) == {"one", "two", "three"}
            assert all("Proxy-Authorization" in bye.headers for bye in last.values())

    def test_rfc3261_9_1_so_is_that_of_an_answer_which_crosses_the_cancel(self) -> None:
        with forked(with_account()) as (bench, carrier, call):
            carrier.challenges["BYE"] = 99
            carrier.says(180, "one")
            call.cancel()
            bench.run(0.1)
            carrier.says(200, "one", ONE)
            bench.run(1.0)
            # Twice with credentials, and no more.
            assert carrier.sent_to("one") == ["ACK", "BYE", "BYE", "BYE"]
            shown = [request.headers.get("Proxy-Authorization") for request in carrier.requests[-2:]]
            assert all(shown)

    def test_a_challenge_after_the_end_of_the_invite_is_not_answered(self) -> None:
        with forked(with_account()) as (bench, carrier, call):
            carrier.challenges["PRACK"] = 1
            carrier.mute = True
            carrier.says(183, "one", ONE, rseq=8)
            carrier.says(486, "one")
            carrier.mute = False
            bench.run(1.0)
            assert carrier.sent_to("one").count("PRACK") >= 2
            assert "Proxy-Authorization" not in carrier.requests[-1].headers
            assert call.status == 486


def speaks(bench: GateBench) -> str:
    """Whose media the called side's ports take."""
    return bench.media.all[LegId(2)].configured[-1].remote.address


class TestEarlyDialogs:
    def test_rfc3960_3_1_the_last_that_sent_a_description_is_heard(self) -> None:
        with forked() as (bench, carrier, call):
            carrier.says(180, "one")
            carrier.says(183, "two", TWO)
            assert speaks(bench) == "192.0.2.102"
            carrier.says(183, "three", THREE)
            assert speaks(bench) == "192.0.2.103"
            carrier.says(180, "two")
            assert speaks(bench) == "192.0.2.103"
            # However many ring, the caller has one early dialog.
            assert len({response.to.tag for response in call.responses if response.status > 100}) == 1
            carrier.says(200, "two", TWO)
            assert speaks(bench) == "192.0.2.102"
            assert call.status == 200
            call.bye()
            bench.run(0.1)
            assert carrier.sent_to("two") == ["ACK", "BYE"]
        assert bench.record.disposition is Disposition.ANSWERED

    def test_the_first_200_wins_and_every_other_is_acked_and_ended(self) -> None:
        with forked() as (bench, carrier, call):
            carrier.says(180, "one")
            carrier.says(180, "two")
            carrier.says(200, "two", TWO)
            carrier.says(200, "one", ONE)
            carrier.says(200, "never-rang", THREE)
            assert carrier.sent_to("two") == ["ACK"]
            assert carrier.sent_to("one") == ["ACK", "BYE"]
            assert carrier.sent_to("never-rang") == ["ACK", "BYE"]
            assert speaks(bench) == "192.0.2.102"
            assert call.statuses[-1] == 200
        assert bench.record.disposition is Disposition.ANSWERED

    def test_each_answer_is_one_to_the_gates_one_offer(self) -> None:
        # The winner answered reliably and says nothing in its 200; another was heard last.
        with forked() as (bench, carrier, call):
            carrier.says(183, "one", ONE, rseq=11)
            carrier.says(183, "two", TWO, rseq=70)
            assert speaks(bench) == "192.0.2.102"
            carrier.says(200, "one")
            assert speaks(bench) == "192.0.2.101"
            assert call.status == 200

    def test_a_200_without_description_of_a_branch_that_never_sent_one_is_no_answer(self) -> None:
        with forked() as (_bench, carrier, call):
            carrier.says(183, "one", ONE)
            carrier.says(200, "two")
            assert call.status == 488
            assert carrier.sent_to("two") == ["ACK", "BYE"]

    def test_rfc3262_4_every_branch_has_its_own_order(self) -> None:
        with forked() as (bench, carrier, call):
            carrier.says(180, "one", rseq=5)
            carrier.says(180, "two", rseq=900)
            carrier.says(180, "two", rseq=900)
            carrier.says(180, "one", rseq=7)
            carrier.says(180, "one", rseq=6)
            carrier.says(180, "one", rseq=7)
            racks = [(request.to.tag, request.headers.get("RAck")) for request in carrier.requests]
            assert racks == [
                ("one", "5 1 INVITE"),
                ("two", "900 1 INVITE"),
                ("one", "6 1 INVITE"),
                ("one", "7 1 INVITE"),
            ]
            call.cancel()
            bench.run(0.1)
            carrier.says(487, "one")

    def test_pracks_are_answered_in_any_order_and_provisionally(self) -> None:
        with forked() as (_bench, carrier, call):
            carrier.mute = True
            carrier.says(180, "one", rseq=5)
            carrier.says(180, "two", rseq=9)
            first, second = carrier.unanswered[:2]
            carrier.mute = False
            for text in (answer(second, 100), answer(second, 200), answer(first, 481)):
                carrier._send(text)
            carrier.says(200, "one", ONE)
            assert call.status == 200

    def test_a_response_without_tag_is_of_whoever_answers(self) -> None:
        # RFC 2543 knew no tag in provisional responses.
        with forked() as (bench, carrier, call):
            carrier.says(183, "", ONE)
            assert speaks(bench) == "192.0.2.101"
            carrier.says(200, "one")
            assert call.status == 200

    def test_keys_and_media_of_a_branch_that_lost_don_t_count(self) -> None:
        with forked() as (bench, carrier, call):
            carrier.says(183, "one", ONE)
            carrier.says(183, "two", TWO)
            carrier.says(200, "two", TWO)
            assert carrier.asks("UPDATE", "one", ONE) == 481
            assert carrier.asks("BYE", "one") == 481
            assert speaks(bench) == "192.0.2.102"
            assert not call.has_ended()

    def test_hostile_many_branches_keep_their_number(self) -> None:
        with forked() as (bench, carrier, call):
            for number in range(200):
                carrier.says(180, f"tag-{number}")
            assert len(bench.gate.endpoint._dialogs) < 60
            carrier.says(200, "tag-199", ONE)
            assert call.status == 200


class TestUpdate:
    """RFC 3311 §5.2."""

    def test_an_update_is_answered_in_its_own_early_dialog(self) -> None:
        with forked() as (bench, carrier, _call):
            carrier.says(183, "one", ONE, rseq=1)
            carrier.says(183, "two", TWO, rseq=1)
            assert carrier.asks("UPDATE", "one", sdp("192.0.2.111", 6000, version=2)) == 200
            assert speaks(bench) == "192.0.2.111"
            carrier.says(200, "one")
            assert speaks(bench) == "192.0.2.111"

    def test_a_branch_that_has_answered_nothing_may_offer_nothing(self) -> None:
        with forked() as (bench, carrier, call):
            carrier.says(183, "one", ONE, rseq=1)
            carrier.says(180, "two", rseq=1)
            assert carrier.asks("UPDATE", "two", TWO) == 491
            assert speaks(bench) == "192.0.2.101"
            call.cancel()
            bench.run(0.1)
            carrier.says(487, "one")


class TestPhones:
    """The phones of a user share the called side's ports: nobody is heard before one answers."""

    def test_an_answer_that_came_reliably_counts_when_the_phone_takes_the_call(self) -> None:
        with PhoneBench() as bench:
            bench.register(bench.desk, "204")
            early = (Step(0.0, 183, with_sdp=True, reliable=True), Step(1.0, 200))
            bench.register(bench.phone("192.0.2.25", script=early), "205")
            bench.register(
                bench.phone("192.0.2.26", script=(Step(0.0, 180),)),
                "205",
                contact="<sip:205@192.0.2.26:5060>",
            )
            call = bench.desk.call("205")
            bench.run(0.5)
            assert not bench.media.all[LegId(2)].configured
            bench.run(1.0)
            assert call.status == 200
            assert speaks(bench) == "192.0.2.25"
            call.bye()

    def test_its_update_says_what_was_wrong_with_the_answer(self) -> None:
        with PhoneBench() as bench:
            bench.register(bench.desk, "204")
            useless = (Step(0.0, 183, body=sdp(codecs="3"), reliable=True),)
            phone = bench.phone("192.0.2.25", script=useless)
            bench.register(phone, "205")
            bench.register(
                bench.phone("192.0.2.26", script=(Step(0.0, 180),)),
                "205",
                contact="<sip:205@192.0.2.26:5060>",
            )
            call = bench.desk.call("205")
            bench.run(0.5)
            phone.calls[0].request("UPDATE", sdp(version=2))
            bench.run(0.5)
            assert phone.calls[0].replies[-1].status == 488
            call.cancel()


class Test199:
    """RFC 6228: a branch has failed, the others ring on."""

    def test_it_is_asked_for_and_never_reaches_the_caller(self) -> None:
        with forked() as (bench, carrier, call):
            assert "199" in carrier.invites[0].headers.values("Supported")
            carrier.says(183, "one", ONE)
            carrier.says(183, "two", TWO)
            carrier.says(199, "two", rseq=9)
            assert speaks(bench) == "192.0.2.101"
            assert 199 not in call.statuses
            assert carrier.sent_to("two") == ["PRACK"]
            # The branch is forgotten.
            assert carrier.asks("UPDATE", "two", TWO) == 481
            carrier.says(200, "one", ONE)

    def test_when_nobody_speaks_any_more_the_caller_hears_ringback_again(self) -> None:
        with GateBench() as bench:
            carrier = ForkingCarrier(bench)
            call = bench.dial_with_code()
            carrier.says(183, "one", ONE)
            assert bench.a_leg().bridged_with is not None
            carrier.says(199, "one")
            assert bench.a_leg().bridged_with is None
            assert bench.heard[-1] == "ringback"
            carrier.says(199, "")
            carrier.says(200, "two", TWO)
            assert bench.a_leg().bridged_with is not None
            call.bye()

    def test_a_branch_whose_description_was_no_use_was_never_heard(self) -> None:
        with GateBench() as bench:
            carrier = ForkingCarrier(bench)
            call = bench.dial_with_code()
            carrier.says(183, "one", b"v=0\r\nnonsense")
            carrier.says(199, "one")
            assert "ringback" not in bench.heard
            carrier.says(200, "two", TWO)
            assert call.status == 200
            call.bye()

    def test_an_ungated_caller_makes_its_own_ringback(self) -> None:
        with forked() as (bench, carrier, call):
            carrier.says(183, "one", ONE)
            carrier.says(199, "two")
            assert bench.a_leg().bridged_with is not None
            carrier.says(199, "one")
            assert bench.a_leg().bridged_with is None
            assert bench.heard == []
            call.cancel()
            bench.run(0.1)
            carrier.says(487, "two")


def test_early_mode_one_early_dialog_however_many_ring() -> None:
    with GateBench(config=default_config(code_mode=CodeMode.EARLY)) as bench:
        carrier = ForkingCarrier(bench)
        call = bench.pbx.call(NUMBER, headers=[("Supported", "100rel")])
        bench.press("1234#")
        carrier.says(183, "one", ONE)
        carrier.says(180, "two")
        carrier.says(200, "two", TWO)
        assert call.statuses[0] == 183
        assert call.status == 200
        assert len({response.to.tag for response in call.responses if response.status > 100}) == 1
        call.bye()
