"""The gate in early media (DESIGN 1.6): 183 with SDP, the final answer follows the B leg."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.call.config import CodeMode
from proxy.cdr.record import Disposition
from proxy.policy import CodeCollection
from tests.support.gate import NUMBER, GateBench, default_config, default_policy
from tests.support.ua import RING_AND_ANSWER, Step, UaCall

EARLY = default_config(code_mode=CodeMode.EARLY)


def test_sdp_of_the_183_is_the_sdp_of_its_200() -> None:
    with GateBench(config=EARLY, script=RING_AND_ANSWER) as bench:
        call = bench.pbx.call(NUMBER)
        bench.run(0.1)
        assert call.statuses == [183]
        assert bench.heard == ["enter_code"]
        bench.press("1234#")
        assert call.statuses == [183, 180]
        assert bench.heard == ["enter_code", "ringback"]
        bench.run(2.0)
        assert call.statuses == [183, 180, 200]
        assert {response.body for response in call.responses if response.status != 100} == {call.last.body}
        assert bench.a_leg().bridged_with is not None
        call.bye()
    assert bench.record.disposition is Disposition.ANSWERED


def test_wrong_code_required_is_a_final_403_with_reason() -> None:
    with GateBench(config=EARLY) as bench:
        call = bench.pbx.call(NUMBER)
        for _ in range(3):
            bench.press("9#")
        bench.run(0.1)
        assert call.status == 403
        assert call.last.headers.get("Reason") == "Q.850;cause=21"
    assert bench.record.disposition is Disposition.CODE_REFUSED


def test_real_final_response_of_the_b_leg_follows() -> None:
    script = (Step(0.0, 486, headers=[("Reason", "Q.850;cause=17"), ("Told", "yes"), ("Server", "carrier")]),)
    with GateBench(config=EARLY, script=script) as bench:
        call = bench.pbx.call(NUMBER)
        bench.press("1234#")
        bench.run(0.1)
        assert call.status == 486
        assert call.last.headers.get("Reason") == "Q.850;cause=17"
        assert call.last.headers.get("Told") == "yes"
        assert call.last.headers.get("Server") != "carrier"
    assert bench.record.disposition is Disposition.BUSY


def test_183_is_repeated_each_60_s_and_the_gate_bounded_to_120_s() -> None:
    with GateBench(config=EARLY) as bench:
        call = bench.pbx.call(NUMBER)
        for _ in range(22):  # a caller who keeps clearing the entry never finishes it
            bench.run(4.0)
            bench.press("1*")
        assert call.statuses == [183, 183]
        bench.run(26.0)
        assert call.status == 403
    assert bench.record.ended_after == pytest.approx(96.0, abs=25.0)


def test_bound_is_exact_with_patient_rules() -> None:
    from proxy.policy import CallClass, UserGroup
    from proxy.policy.groups import ClassOfService

    group = UserGroup(
        "staff",
        collection=CodeCollection.OPTIONAL,
        unlock=ClassOfService(frozenset(CallClass)),
        first_digit=500.0,
        whole_entry=600.0,
    )
    with GateBench(config=EARLY, policy=default_policy(groups=(group,))) as bench:
        call = bench.pbx.call(NUMBER)
        bench.run(119.999)
        assert call.statuses == [183, 183]
        bench.run(0.002)
        # an optional code that did not come in time is no code
        assert call.status == 200
        call.bye()
    assert bench.record.code is None


def late_in_the_gate(bench: GateBench) -> UaCall:
    """A caller who keeps clearing the entry until 116 s, into the second try."""
    call = bench.pbx.call(NUMBER)
    while bench.network.clock.elapsed < 112.0:
        bench.press("*")
        bench.run(6.0)
    bench.run(116.0 - bench.network.clock.elapsed)
    return call


@pytest.mark.parametrize(
    ("digits", "wrong_tries", "disposition"),
    [
        ("911", 1, Disposition.ANSWERED),
        ("1234", 1, Disposition.ANSWERED),
        ("99", 2, Disposition.CODE_REFUSED),
        ("1*", 1, Disposition.CODE_REFUSED),
    ],
)
def test_what_was_typed_when_the_time_is_over_counts(
    digits: str, wrong_tries: int, disposition: Disposition
) -> None:
    with GateBench(config=EARLY) as bench:
        call = late_in_the_gate(bench)
        bench.press(digits, every=0.1)
        assert call.statuses == [183, 183]
        bench.run(121.0 - bench.network.clock.elapsed)
        if disposition is Disposition.ANSWERED:
            assert call.status == 200
            invite = bench.carrier.calls[0].invite
            assert invite is not None
            assert invite.uri.startswith("sip:911@") == (digits == "911")
            call.bye()
        else:
            assert call.status == 403
    assert bench.record.wrong_tries == wrong_tries
    assert bench.record.disposition is disposition


def test_rfc3261_15_1_2_bye_within_the_early_dialog_ends_the_invite_with_487() -> None:
    with GateBench(config=EARLY) as bench:
        call = bench.pbx.call(NUMBER)
        bench.run(1.0)
        call.bye()
        bench.run(0.1)
        assert call.statuses == [183, 487]
    assert bench.record.disposition is Disposition.ABANDONED_AT_PROMPT


def test_rfc3326_the_reason_of_a_cancel_reaches_the_callee() -> None:
    with GateBench(config=EARLY, script=(Step(0.0, 180),)) as bench:
        call = bench.pbx.call("918005550123")
        bench.run(0.5)
        assert call.client is not None
        reasons = [("Reason", 'SIP;cause=200;text="Call completed elsewhere"'), ("Reason", "Q.850;cause=26")]
        bench.pbx.endpoint.cancel(call.client, headers=reasons, now=bench.now)
        bench.run(0.5)
        assert call.status == 487
        carried = bench.carrier.calls[0].requests[-1]
        assert carried.method == "CANCEL"
        assert carried.headers.get_all("Reason") == [value for _, value in reasons]
    assert bench.record.q850_cause == 26


def test_cancel_at_the_prompt() -> None:
    with GateBench(config=EARLY) as bench:
        call = bench.pbx.call(NUMBER)
        bench.run(1.0)
        call.cancel()
        bench.run(0.1)
        assert call.status == 487
    assert bench.record.disposition is Disposition.ABANDONED_AT_PROMPT


def test_cancel_while_ringing() -> None:
    with GateBench(config=EARLY, script=(Step(0.0, 180),)) as bench:
        call = bench.pbx.call(NUMBER)
        bench.press("1234#")
        bench.run(1.0)
        call.cancel()
        bench.run(0.1)
        assert call.status == 487
        assert bench.carrier.calls[0].cancelled
    assert bench.record.disposition is Disposition.ABANDONED_RINGING


def test_early_media_of_the_carrier_passes() -> None:
    with GateBench(
        config=EARLY, script=(Step(0.0, 183, with_sdp=True), Step(1.0, 200, with_sdp=True))
    ) as bench:
        call = bench.pbx.call(NUMBER)
        bench.press("1234#")
        assert bench.a_leg().bridged_with is not None
        assert "ringback" not in bench.heard
        bench.run(1.5)
        assert call.status == 200
        call.bye()


def test_late_offer_falls_back_to_answer_mode() -> None:
    # Without PRACK nobody can be offered anything in a 183 (DESIGN 1.6).
    with GateBench(config=EARLY) as bench:
        bench.pbx.ack_body = bench.pbx.description
        call = bench.pbx.call(NUMBER, body=b"")
        bench.run(0.1)
        assert call.statuses == [200]
        bench.press("1234#")
        bench.run(1.0)
        call.bye()
    assert bench.record.disposition is Disposition.ANSWERED


def test_ringing_is_repeated_each_60_s() -> None:
    # RFC 3261 §13.3.1.1: a proxy on the way gives up after three minutes without a provisional response.
    with GateBench(config=EARLY, script=(Step(0.0, 180),)) as bench:
        call = bench.pbx.call(NUMBER)
        bench.press("1234#")
        bench.run(130.0)
        assert call.statuses == [183, 180, 180, 180]
        assert len({response.body for response in call.responses if response.status != 100}) == 1
        call.cancel()


ASKS_FOR_AUTHORISATION = (("P-Early-Media", "supported"),)


def said(call: UaCall) -> list[str | None]:
    """What each provisional response says of early media."""
    provisional = [response for response in call.responses if 100 < response.status < 200]
    return [response.headers.get("P-Early-Media") for response in provisional]


class TestRfc5009:
    """P-Early-Media: networks that let early media through only where that is authorised."""

    def test_8_the_prompt_is_to_be_heard_by_who_asks(self) -> None:
        with GateBench(config=EARLY, script=RING_AND_ANSWER) as bench:
            call = bench.pbx.call(NUMBER, headers=ASKS_FOR_AUTHORISATION)
            bench.press("1234#")
            bench.run(2.0)
            assert said(call) == ["sendrecv", "sendrecv"]
            call.bye()

    def test_who_does_not_ask_is_told_nothing(self) -> None:
        with GateBench(config=EARLY, script=RING_AND_ANSWER) as bench:
            call = bench.pbx.call(NUMBER)
            bench.press("1234#")
            bench.run(2.0)
            assert said(call) == [None, None]
            call.bye()

    def test_neither_is_an_untrusted_caller(self) -> None:
        config = replace(EARLY, peers=(replace(EARLY.peers[0], trusted=False), *EARLY.peers[1:]))
        with GateBench(config=config, script=RING_AND_ANSWER) as bench:
            call = bench.pbx.call(NUMBER, headers=ASKS_FOR_AUTHORISATION)
            bench.press("1234#")
            bench.run(2.0)
            assert said(call) == [None, None]
            call.bye()

    @pytest.mark.parametrize(("body", "expected"), [(True, "sendonly"), (False, "sendrecv")])
    def test_what_the_carrier_says_of_its_media_crosses_with_that_media(
        self, body: bool, expected: str
    ) -> None:
        script = (Step(0.0, 183, with_sdp=body, headers=[("P-Early-Media", "sendonly")]), Step(1.0, 486))
        with GateBench(config=EARLY, script=script) as bench:
            call = bench.pbx.call(NUMBER, headers=ASKS_FOR_AUTHORISATION)
            bench.press("1234#")
            bench.run(2.0)
            assert said(call) == ["sendrecv", expected]
            invite = bench.carrier.calls[0].invite
            assert invite is not None
            assert invite.headers.get("P-Early-Media") == "supported"

    def test_without_media_of_the_gate_it_crosses_as_it_is(self) -> None:
        script = (Step(0.0, 180, headers=[("P-Early-Media", "inactive")]), Step(1.0, 486))
        with GateBench(script=script) as bench:
            call = bench.pbx.call("918005550123", headers=ASKS_FOR_AUTHORISATION)
            bench.run(2.0)
            assert said(call) == ["inactive"]
