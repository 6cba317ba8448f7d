"""SDP tells a peer beside the gate the gate's own address, and one beyond a NAT what is advertised.

RFC 4566 §5.7. What Via and Contact say is `tests/sip/test_inside.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import ip_network

from proxy.sip.inside import Inside
from tests.call.phones import PhoneBench
from tests.support.gate import GateBench
from tests.support.ua import Ua, UaCall, sdp

ADVERTISED, OWN = "192.0.2.1", "192.0.2.20"
TOLL_FREE = "918005550123"


def part(bench: GateBench, *inside: str, source: Callable[[str], str] = str) -> None:
    """Let a NAT be between the gate and all but these networks."""
    bench.media.own = OWN
    networks = tuple(map(ip_network, inside))
    object.__setattr__(bench.gate.endpoint.config, "inside", Inside(networks, source))


def told(body: bytes) -> str:
    """The address in a description, which is that of its origin too."""
    origin, connection = re.findall(r"(?m)^[oc]=.*IN IP4 (\S+)", body.decode())
    assert origin == connection
    return str(connection)


def offered(ua: Ua) -> str:
    invite = ua.calls[-1].invite
    assert invite is not None
    return told(invite.body)


def answered(call: UaCall) -> str:
    return told(call.responses[-1].body)


def test_a_pbx_beside_the_gate_and_a_carrier_beyond_a_nat() -> None:
    with GateBench() as bench:
        part(bench, "192.0.2.10")
        call = bench.pbx.call(TOLL_FREE)
        bench.run(0.5)
        assert call.status == 200
        assert (answered(call), offered(bench.carrier)) == (OWN, ADVERTISED)
        call.bye()


def test_a_carrier_in_the_same_network_and_a_pbx_elsewhere() -> None:
    with GateBench() as bench:
        part(bench, "192.0.2.90/31")
        call = bench.pbx.call(TOLL_FREE)
        bench.run(0.5)
        assert (answered(call), offered(bench.carrier)) == (ADVERTISED, OWN)
        call.bye()


def test_a_dialog_keeps_what_it_was_told() -> None:
    with GateBench() as bench:
        routes = {bench.pbx.host: OWN}
        part(bench, "192.0.2.10", source=routes.__getitem__)
        bench.media.own = "0.0.0.0"
        call = bench.pbx.call(TOLL_FREE)
        bench.run(0.5)
        assert answered(call) == OWN
        routes[bench.pbx.host] = "192.0.2.21"  # the machine has got another address
        call.request("INVITE", body=sdp(version=2, direction="sendonly"))
        bench.run(0.5)
        assert call.replies[-1].status == 200
        assert told(call.replies[-1].body) == OWN
        call.bye()


def test_of_the_phones_of_a_user_each_is_told_where_it_reaches_the_gate() -> None:
    with PhoneBench() as bench:
        part(bench, "192.0.2.24/31")
        beside, beyond = bench.phone("192.0.2.25"), bench.phone("198.51.100.25")
        for phone in (beside, beyond):
            bench.register(phone, "205")
        call = bench.desk.call("205")
        bench.run(0.5)
        assert (offered(beside), offered(beyond)) == (OWN, ADVERTISED)
        bench.run(1.0)
        assert answered(call) == OWN
        call.bye()
