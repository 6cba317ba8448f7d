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
    """Who plays a call."""

    number: str
    caller: str
    carrier: str = "callee_refreshes"
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
class Ends:
    """The two ends of a call that is being played."""

    caller: sipp.Sipp
    carrier: sipp.Sipp

    def wait(self) -> None:
        """Wait until both have ended as they are written."""
        with playing(self.caller, self.carrier):
            pass


class Network:
    """A gate, and the calls that are played through it."""

    def __init__(self, gate: Gate, folder: Path, ports: dict[Call, int]) -> None:
        self.gate = gate
        self._folder = folder
        self._ports = ports
        self._played: dict[Call, Ends] = {}

    def start(self, call: Call) -> None:
        """Place a call."""
        called = carrier(
            call.carrier,
            self._folder,
            address=BEHIND,
            port=self._ports[call],
            transport=call.transport,
            seconds=SECONDS,
        )
        calling = caller(
            self.gate,
            self._folder,
            name=f"caller_{call.number}",
            scenario=call.caller,
            dial=call.number,
            seconds=SECONDS,
        )
        self._played[call] = Ends(calling, called)

    def ends(self, call: Call) -> Ends:
        """Return the ends of a call that is over; after it went wrong, it is played again."""
        if call not in self._played:
            self.start(call)
        ends = self._played.pop(call)
        ends.wait()
        self._played[call] = ends
        return ends

    def record(self, call: Call) -> CallRecord:
        """Return the record of a call that is over."""
        return self.gate.wait_for_record_of(self.ends(call).caller.call_id)

    def has_heard(self, status: int, record: CallRecord) -> bool:
        """Say whether the gate has got this response from the trunk."""
        return f"Response({status}, call_id='{record.b_call_id}')" in self.gate.log.read_text()

    def stop(self) -> None:
        """End what is still being played."""
        for ends in self._played.values():
            ends.caller.stop()
            ends.carrier.stop()


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    folder = tmp_path_factory.mktemp("network")
    address, port = CARRIER_ADDRESSES[0], free_port(CARRIER_ADDRESSES[0])
    ports = {call: free_port(BEHIND) for call in CALLS}
    places = {f"+1{call.number}": f"{BEHIND}:{at};transport={call.transport}" for call, at in ports.items()}
    routes = PROXY_WAITS + carrier_routes(
        gate_address=GATE_ADDRESS,
        user="gate",
        password=PASSWORD,
        carriers=tuple(places.values()),
        numbers=places,
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
            made = Network(gate, folder, ports)
            try:
                for call in CALLS:
                    made.start(call)
                yield made
            finally:
                made.stop()


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
    registered = f"<sip:gate@{GATE_ADDRESS}:{network.gate.port}>"
    assert contacts(network.ends(CALLEE_WANTS_LONGER).carrier) == {registered}


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
