"""Refreshes that a peer, or a proxy before it, refuses: which refusals end a call (RFC 4028, RFC 5057).

No session interval is shorter than 90 s (RFC 4028 §5), and half of it passes before a refresh: so all calls
are placed at once. The trunk is a Kamailio where the gate registers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.cdr.record import CallRecord, Disposition, HungUpBy
from tests.system import sipp
from tests.system.gate import CARRIER_ADDRESSES, GATE_ADDRESS, Gate, free_port, running_gate
from tests.system.kamailio import REALM, carrier_routes, needs_kamailio, running_kamailio
from tests.system.trunk_traffic import caller, carrier, contacts, playing

BEHIND = "127.0.0.12"
"""Carriers behind Kamailio."""
PASSWORD = "a-trunk-password"
SECONDS = 70
"""No call takes longer."""
PROXY_WAITS = 'modparam("tm", "fr_timer", 5000)  # milliseconds, then it says 408 in the place of a carrier\n'

pytestmark = needs_kamailio


@dataclass(frozen=True, slots=True)
class Call:
    """Who plays a call: the carrier, if not one that refreshes its session by itself."""

    number: str
    caller: str
    carrier: str = ""
    transport: str = "udp"
    """To the carrier, from Kamailio."""


CALLER_WANTS_LONGER = Call("8005550141", "caller_wants_longer")
CALLEE_WANTS_LONGER = Call("8005550142", "caller_is_refreshed", "callee_wants_longer")
CALLER_HAS_NO_SUCH_CALL = Call("8005550143", "caller_has_no_such_call")
CALLER_IS_UNREACHABLE = Call("8005550144", "caller_is_unreachable")
CALLER_REFUSES = Call("8005550145", "caller_refuses")
CALLEE_VANISHES = Call("8005550146", "caller_is_refreshed", "callee_vanishes")
CALLEE_VANISHES_ON_TCP = Call("8005550147", "caller_is_refreshed", "callee_vanishes", "tcp")
CALLS = (
    CALLER_WANTS_LONGER,
    CALLEE_WANTS_LONGER,
    CALLER_HAS_NO_SUCH_CALL,
    CALLER_IS_UNREACHABLE,
    CALLER_REFUSES,
    CALLEE_VANISHES,
    CALLEE_VANISHES_ON_TCP,
)


@dataclass(frozen=True, slots=True)
class Network:
    """A gate, and who plays each call through it."""

    gate: Gate
    callers: dict[Call, sipp.Sipp]
    carriers: dict[Call, sipp.Sipp]

    def record(self, call: Call) -> CallRecord:
        """Wait until a call has ended as it is written; returns its record."""
        self.callers[call].wait()
        if call in self.carriers:
            self.carriers[call].wait()
        return self.gate.wait_for_record_of(self.callers[call].call_id)

    def has_heard(self, status: int, record: CallRecord) -> bool:
        """Say whether the gate has got this response from the trunk."""
        return f"Response({status}, call_id='{record.b_call_id}')" in self.gate.log.read_text()


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    folder = tmp_path_factory.mktemp("network")
    address, port, refreshing_port = CARRIER_ADDRESSES[0], free_port(CARRIER_ADDRESSES[0]), free_port(BEHIND)
    ports = {call: free_port(BEHIND) for call in CALLS if call.carrier}
    routes = PROXY_WAITS + carrier_routes(
        gate_address=GATE_ADDRESS,
        user="gate",
        password=PASSWORD,
        carriers=(f"{BEHIND}:{refreshing_port}",),
        numbers={
            f"+1{call.number}": f"{BEHIND}:{at};transport={call.transport}" for call, at in ports.items()
        },
    )
    account = f'account = {{ username = "gate@{REALM}", password = "{PASSWORD}", realm = "{REALM}" }}'
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TOLLGATE_TIMERS__SESSION_EXPIRES", "90")
        environment.setenv("TOLLGATE_MEDIA__INACTIVITY_TIMEOUT", "600")  # nobody says anything
        with (
            running_kamailio(folder / "kamailio", address=address, port=port, routes=routes),
            running_gate(folder, first_trunk_port=port, first_trunk=f"{account}\nregister = true") as gate,
        ):
            gate.wait_for_log("trunk first is registered")
            yield from playing_all(gate, folder, ports, refreshing_port)


def playing_all(gate: Gate, folder: Path, ports: dict[Call, int], refreshing_port: int) -> Iterator[Network]:
    """Place all calls."""
    refreshing = carrier(
        "callee_refreshes",
        folder,
        address=BEHIND,
        port=refreshing_port,
        calls=len(CALLS) - len(ports),
        seconds=SECONDS,
    )
    carriers = {
        call: carrier(
            call.carrier, folder, address=BEHIND, port=port, transport=call.transport, seconds=SECONDS
        )
        for call, port in ports.items()
    }
    callers = {
        call: caller(
            gate,
            folder,
            name=f"caller_{call.number}",
            scenario=call.caller,
            dial=call.number,
            seconds=SECONDS,
        )
        for call in CALLS
    }
    with playing(*callers.values(), *carriers.values(), refreshing):
        yield Network(gate, callers, carriers)


def assert_talk_was_ended_by(side: HungUpBy, record: CallRecord) -> None:
    assert (record.disposition, record.hung_up_by) == (Disposition.ANSWERED, side)


def assert_session_expired(record: CallRecord) -> None:
    ending = (record.disposition, record.hung_up_by, record.sip_code, record.q850_cause)
    assert ending == (Disposition.FAILED, HungUpBy.GATE, 408, 102)


def test_rfc4028_7_3_a_caller_that_says_422_gets_a_longer_update(network: Network) -> None:
    assert_talk_was_ended_by(HungUpBy.A_LEG, network.record(CALLER_WANTS_LONGER))


def test_rfc4028_7_3_a_callee_that_says_422_gets_a_longer_reinvite(network: Network) -> None:
    assert_talk_was_ended_by(HungUpBy.B_LEG, network.record(CALLEE_WANTS_LONGER))


def test_rfc3261_12_2_1_1_a_refresh_keeps_the_contact_that_the_trunk_registered(network: Network) -> None:
    network.record(CALLEE_WANTS_LONGER)
    registered = f"<sip:gate@{GATE_ADDRESS}:{network.gate.port}>"
    assert contacts(network.carriers[CALLEE_WANTS_LONGER]) == {registered}


def test_rfc5057_5_1_a_481_ends_the_call(network: Network) -> None:
    assert_session_expired(network.record(CALLER_HAS_NO_SUCH_CALL))


def test_rfc5057_5_1_a_proxys_408_for_a_callee_that_is_gone_ends_the_call(network: Network) -> None:
    record = network.record(CALLEE_VANISHES)
    assert network.has_heard(408, record)
    assert_session_expired(record)


def test_rfc4028_7_2_a_caller_without_timers_lives_whatever_it_answers(network: Network) -> None:
    assert_talk_was_ended_by(HungUpBy.A_LEG, network.record(CALLER_REFUSES))


def test_but_a_503_may_be_a_proxys_word_for_one_that_is_gone(network: Network) -> None:
    assert_session_expired(network.record(CALLER_IS_UNREACHABLE))


def test_and_so_is_the_477_of_kamailio(network: Network) -> None:
    record = network.record(CALLEE_VANISHES_ON_TCP)
    assert network.has_heard(477, record)
    assert_session_expired(record)
