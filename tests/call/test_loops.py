"""Calls that come back to the gate that sent them (RFC 3261 §8.2.2.2, §16.3 step 4)."""

from __future__ import annotations

import pytest

from proxy.call.config import DidRoute, Trunk
from proxy.call.loops import LOOP_HEADER, LoopGuard
from proxy.cdr.record import Disposition
from proxy.sip.flow import Flow
from proxy.sip.headers import Headers
from tests.call.phones import PhoneBench
from tests.support.gate import CARRIER, CARRIER_2, E164, GateBench, default_config
from tests.support.ua import Step, UaCall

TOLL_FREE = "918005550123"


def mark_of(call: UaCall) -> str:
    assert call.invite is not None
    value = call.invite.headers.get(LOOP_HEADER)
    assert value is not None
    return value


def headers(*values: str) -> Headers:
    return Headers([(LOOP_HEADER, value) for value in values])


class TestToken:
    """What the header says, and to whom."""

    guard = LoopGuard(b"this process")

    def test_each_pass_is_counted(self) -> None:
        found = Headers()
        for passes in range(5):
            assert self.guard.passes(found) == min(passes, 3)
            assert self.guard.is_loop(found) is (passes >= 3)
            found = Headers([self.guard.mark(found, f"record-{passes}")])

    def test_it_says_nothing_to_others(self) -> None:
        first = self.guard.mark(Headers(), "record-1")
        second = self.guard.mark(Headers([first]), "record-1")
        for _, value in (first, second):
            assert len(value) == 32
            assert set(value) <= set("0123456789abcdef")
            assert "record" not in value
        assert first != second
        assert LoopGuard(b"another process").passes(Headers([second])) == 0

    def test_other_gates_on_the_way_keep_theirs(self) -> None:
        other = LoopGuard(b"another process")
        found = Headers([other.mark(Headers(), "there")])
        found = Headers([self.guard.mark(found, "here")])
        found = Headers([other.mark(found, "there again")])
        assert (self.guard.passes(found), other.passes(found)) == (1, 2)
        assert len((found.get(LOOP_HEADER) or "").split(", ")) == 2

    @pytest.mark.parametrize(
        "value",
        ["", ",", "x", "0" * 31, "0" * 32, "0" * 33, "g" * 32, "é" * 32, "0" * 32 + ";3", "F" * 32, '"' * 32],
    )
    def test_nobody_can_make_one(self, value: str) -> None:
        assert self.guard.passes(headers(value)) == 0
        assert not self.guard.is_loop(headers(value))

    def test_a_flood_of_tokens_is_not_passed_on(self) -> None:
        many = [f"{number:032x}" for number in range(200)]
        _, value = self.guard.mark(headers(", ".join(many), *many), "here")
        assert len(value.split(", ")) == 9
        # One's own counts wherever it stands among the first of a line.
        own = self.guard.mark(Headers(), "here")[1]
        assert self.guard.passes(headers(", ".join([*many[:20], own]))) == 1


class TestCalls:
    """The gate in the middle of it."""

    def test_the_third_return_gets_482(self) -> None:
        with GateBench() as bench:
            mark = ""
            for _ in range(3):
                headers = ((LOOP_HEADER, mark),) if mark else ()
                call = bench.pbx.call(TOLL_FREE, headers=headers)
                bench.run(0.5)
                assert call.status == 200
                mark = mark_of(bench.carrier.calls[-1])
                call.bye()
                bench.run(0.5)
            call = bench.pbx.call(TOLL_FREE, headers=((LOOP_HEADER, mark),))
            bench.run(0.5)
            assert call.status == 482
            assert len(bench.carrier.calls) == 3
        record = bench.journal.final[-1]
        assert (record.disposition, record.sip_code) == (Disposition.REJECTED, 482)

    def test_it_is_the_same_from_the_trunk(self) -> None:
        with GateBench() as bench:
            bench.pbx.script = bench.carrier.script
            mark = ""
            for _ in range(3):
                _, mark = bench.core.loops.mark(headers(mark), "record")
            call = bench.carrier.call(E164, headers=((LOOP_HEADER, mark),))
            bench.run(0.5)
            assert call.status == 482
        assert bench.record.sip_code == 482

    def test_a_call_out_and_in_again_to_a_phone_rings(self) -> None:
        """A spiral: the carrier sends the call back to a number of this gate."""
        with PhoneBench(did_routes=(DidRoute("+1800", user="205"),)) as bench:
            phone = bench.phone("192.0.2.25")
            bench.register(phone, "205")
            call = bench.desk.call(TOLL_FREE)
            bench.run(0.1)
            back = bench.carrier.call(
                "+18005550123", headers=((LOOP_HEADER, mark_of(bench.carrier.calls[0])),)
            )
            bench.run(1.5)
            assert (call.status, back.status) == (200, 200)
            assert bench.core.loops.passes(headers(mark_of(phone.calls[0]))) == 2
            back.bye()
            call.bye()
            bench.run(0.5)

    @pytest.mark.parametrize("status", [482, 483])
    def test_an_emergency_call_that_loops_on_one_trunk_takes_the_next(self, status: int) -> None:
        trunks = (
            Trunk("first", (Flow("UDP", *CARRIER),), "one.example.com"),
            Trunk("second", (Flow("UDP", *CARRIER_2),), "two.example.com"),
        )
        with GateBench(config=default_config(trunks=trunks), script=(Step(0.0, status),)) as bench:
            call = bench.pbx.call("911")
            bench.run(0.5)
            assert call.status == 200
            assert bench.carrier_2.calls[0].connected
            call.bye()
            bench.run(0.5)

    def test_rfc3261_16_3_without_the_header_max_forwards_ends_it(self) -> None:
        with GateBench() as bench:
            call = bench.pbx.call(TOLL_FREE, max_forwards=0)
            bench.run(0.5)
            assert call.status == 483

    def test_a_stranger_learns_nothing_by_it(self) -> None:
        with PhoneBench() as bench:
            mark = ""
            for _ in range(3):
                _, mark = bench.core.loops.mark(headers(mark), "record")
            call = bench.stranger.call(TOLL_FREE, caller="999", headers=((LOOP_HEADER, mark),))
            bench.run(0.5)
            assert call.status == 401
