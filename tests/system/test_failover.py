"""A caller gets through when the first trunk is dead, on real sockets: after 4 s (UDP), at once (refused), an
emergency call after 1 s. How long exactly, tests on the virtual clock say (tests/call/test_trunks.py).
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxy.cdr.record import CallRecord
from tests.system import sipp
from tests.system.gate import CARRIER_ADDRESSES, PBX_ADDRESS, free_port, running_gate

PLAIN_CALL = Path(__file__).parent / "situations" / "emergency"
TOLL_FREE = "8005550123"
TIMER_B = 30.0
"""About as long as it would take without the trunk's own limit (RFC 3261 §17.1.1.2)."""


@contextmanager
def silent(address: str, port: int) -> Iterator[None]:
    """Somebody who takes datagrams and says nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taking:
        taking.bind((address, port))
        yield


def placed(folder: Path, dial: str, *, first_trunk: str, taken: bool) -> CallRecord:
    """Place a call that the second trunk answers at once; returns its record."""
    port = free_port(CARRIER_ADDRESSES[0])
    with running_gate(folder, trunk_transport=first_trunk, first_trunk_port=port) as gate:
        second = sipp.start(
            PLAIN_CALL / "carrier.xml",
            folder,
            name="second_carrier",
            address=CARRIER_ADDRESSES[1],
            port=gate.carrier_ports[1],
            media_port=free_port(CARRIER_ADDRESSES[1]),
            keys={"rtp_address": CARRIER_ADDRESSES[1], "rtp_port": "9", "user": ""},
        )
        try:
            with silent(CARRIER_ADDRESSES[0], port if taken else 0):
                sipp.start(
                    PLAIN_CALL / "caller.xml",
                    folder,
                    name="caller",
                    address=PBX_ADDRESS,
                    port=free_port(PBX_ADDRESS),
                    media_port=free_port(PBX_ADDRESS),
                    remote=f"127.0.0.1:{gate.port}",
                    service=dial,
                    keys={"user": "203"},
                ).wait()
            second.wait()
        finally:
            second.stop()
        return gate.wait_for_record(set())


@pytest.mark.parametrize(
    ("dial", "first_trunk", "taken", "seconds"),
    [
        pytest.param(TOLL_FREE, "udp", True, (3.9, TIMER_B), id="silent-udp"),
        pytest.param(TOLL_FREE, "udp", False, (0.0, 3.9), id="refused-udp"),
        pytest.param(TOLL_FREE, "tcp", False, (0.0, 3.9), id="refused-tcp"),
        pytest.param("911", "udp", True, (0.9, 3.9), id="emergency-silent-udp"),
        pytest.param("911", "tcp", False, (0.0, 3.9), id="emergency-refused-tcp"),
    ],
)
def test_the_second_trunk_answers_in_time(  # noqa: PLR0917
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dial: str,
    first_trunk: str,
    taken: bool,
    seconds: tuple[float, float],
) -> None:
    monkeypatch.setenv("TOLLGATE_TRUNKS__0__RESPONSE_TIMEOUT", "4")
    monkeypatch.setenv("TOLLGATE_TIMERS__RING_TIMEOUT", "30")
    record = placed(tmp_path, dial, first_trunk=first_trunk, taken=taken)
    assert [trunk.trunk for trunk in record.trunks] == ["first", "second"]
    assert record.answered_after is not None
    least, most = seconds
    assert least <= record.answered_after <= most
