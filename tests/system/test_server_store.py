"""A gate whose store lies on a PostgreSQL server: calls, commands, and a server that is away for a while."""

from __future__ import annotations

import time
from pathlib import Path

from proxy.cdr.record import CallRecord, Disposition
from proxy.store import UsageFilter
from tests.support.postgresql import PostgresServer
from tests.system.gate import CARRIER_ADDRESSES, EARLY_PBX_ADDRESS, Gate
from tests.system.media import PATIENCE
from tests.system.test_situations import CODE, CODE_DIGITS, lane, play
from tests.system.wire import Wire

RIGHT_CODE = Path(__file__).parent / "situations" / "right_code"
NUMBER = "2025550123"


def _talk(pbx: Wire, carrier: Wire) -> None:
    """Place a call, type the code, and hang up when the far end has answered."""
    call = pbx.call(NUMBER)
    call.response(183)
    call.type(f"{CODE_DIGITS}#")
    callee = carrier.called()
    callee.answer()
    call.response(200)
    call.hang_up()
    callee.hung_up()


def _wait_for_status(gate: Gate, line: str) -> None:
    until = time.monotonic() + PATIENCE
    while line not in (status := gate.tollgate("status").splitlines()):
        assert time.monotonic() < until, status
        time.sleep(0.1)


def test_calls_go_on_while_the_server_is_away_and_are_recorded_once_when_it_is_back(
    tmp_path: Path, postgresql: PostgresServer
) -> None:
    with postgresql.database() as url, lane(tmp_path / "gate", store_url=url) as gate:
        play(RIGHT_CODE, gate, tmp_path)
        (first,) = gate.records()
        assert NUMBER in gate.tollgate("usage", "list", "--user", "201")
        assert CODE in gate.tollgate("codes", "list")
        assert "210" in gate.tollgate("users", "list")
        gate.tollgate("codes", "add", "99-88", "--description", "Added by a command")
        gate.wait_for_policy()
        with (
            Wire(EARLY_PBX_ADDRESS, gate.port) as pbx,
            Wire(CARRIER_ADDRESSES[0], gate.port, port=gate.carrier_ports[0]) as carrier,
        ):
            postgresql.stop()
            try:
                gate.wait_for_log("the policy can't be read, the last good one stays")
                _talk(pbx, carrier)
                _talk(pbx, carrier)
                _wait_for_status(gate, "records delayed: yes")
            finally:
                postgresql.start()
            gate.wait_for_log("the policy can be read again")
            late = gate.wait_for_records(2, known={first.record_id})
            _talk(pbx, carrier)
            gate.wait_for_records(3, known={first.record_id})
        assert all(_is_whole(record) for record in late)
        assert gate.store.usage.count(UsageFilter(code_key=CODE_DIGITS)) == 4
        code = gate.store.codes.get(CODE)
        assert code is not None
        assert code.uses == 4


def _is_whole(record: CallRecord) -> bool:
    return record.final and record.disposition is Disposition.ANSWERED and record.code is not None
