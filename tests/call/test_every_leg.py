"""No leg without a record, however a call is sent on: forwards, transfers, takeovers, loops."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from proxy.cdr.record import Disposition
from tests.call.test_forwarding import moved
from tests.call.transfers import BUSY, FREE, OUTSIDE, PREMIUM, SLOW, TransferBench, refer


def blind(bench: TransferBench) -> None:
    call = bench.talk(bench.desk, FREE)
    refer(call, "205")
    bench.run(3.0)
    bench.second.calls[-1].bye()


def blind_to_a_busy_phone(bench: TransferBench) -> None:
    bench.second.script = BUSY
    call = bench.talk(bench.desk, FREE)
    refer(call, "205")
    bench.run(3.0)
    call.bye()


def blind_to_what_is_blocked(bench: TransferBench) -> None:
    call = bench.talk(bench.desk, FREE)
    refer(call, PREMIUM)
    bench.run(3.0)
    call.bye()


def attended(bench: TransferBench) -> None:
    call = bench.inbound()
    at_desk = bench.desk.calls[-1]
    consultation = bench.talk(bench.desk, "205")
    assert consultation.dialog is not None
    refer(at_desk, "205", replaces=consultation.dialog)
    bench.run(3.0)
    call.bye()


def forwarded_outside(bench: TransferBench) -> None:
    bench.desk.script = moved(FREE)
    call = bench.second.call("204", caller="205")
    bench.run(3.0)
    call.bye()


def forwarded_to_a_phone_that_does_not_answer(bench: TransferBench) -> None:
    bench.desk.script = moved("205")
    bench.second.script = SLOW[:1]
    call = bench.third.call("204", caller="206")
    bench.run(3.0)
    call.cancel()


def forwarded_to_what_needs_a_code(bench: TransferBench) -> None:
    bench.desk.script = moved(OUTSIDE)
    bench.second.call("204", caller="205")


def forwarded_in_a_circle(bench: TransferBench) -> None:
    bench.desk.script, bench.second.script = moved("205"), moved("204")
    call = bench.third.call("204", caller="206")
    bench.run(10.0)
    assert call.status >= 400


@pytest.mark.parametrize(
    "story",
    [
        blind,
        blind_to_a_busy_phone,
        blind_to_what_is_blocked,
        attended,
        forwarded_outside,
        forwarded_to_a_phone_that_does_not_answer,
        forwarded_to_what_needs_a_code,
        forwarded_in_a_circle,
    ],
)
def test_every_leg_is_in_a_record(story: Callable[[TransferBench], None]) -> None:
    with TransferBench() as bench:
        story(bench)
        bench.run(5.0)
        uas = (bench.carrier, bench.desk, bench.second, bench.third)
        called = {call.invite.call_id for ua in uas for call in ua.calls if call.invite is not None}
        calling = {call.last.call_id for ua in uas for call in ua.calls if call.invite is None}
    final = bench.journal.final
    assert called
    assert called <= {record.b_call_id for record in final}
    assert calling <= {record.a_call_id for record in final}
    assert len({record.record_id for record in final}) == len(final)
    first = final[0].first_record_id or final[0].record_id
    linked = [record for record in final if record.first_record_id or record.record_id == first]
    assert len(linked) >= 2, "what was sent on is tied to what it came from"
    assert all(record.disposition in Disposition for record in final)
