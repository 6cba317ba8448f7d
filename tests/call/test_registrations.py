"""REGISTER at the gate, keep-alives, and what else a binding is good for (RFC 3261 §10, RFC 5626)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest

from proxy.call.registrations import KeepAlive, sip_date
from proxy.policy import CodeTable, Snapshot, User
from proxy.sip.bindings import StoredBinding
from proxy.sip.events import ConnectionLost
from proxy.sip.flow import Flow
from proxy.sip.message import Request
from proxy.sip.parser import parse_message
from tests.call.phones import PhoneBench, phone_policy
from tests.sip.registering import register_request
from tests.support.gate import GateBench
from tests.support.network import Address

NAT = ("203.0.113.7", 32000)


def contacts(bench: PhoneBench, user: str = "204") -> list[str]:
    return [binding.contact for binding in bench.registrations.registrar.bindings(user)]


def test_rfc3261_10_3_a_phone_registers() -> None:
    with PhoneBench() as bench:
        response = bench.register(bench.desk, "204", headers=["Expires: 600"])
        assert response.status == 200
        assert response.headers.get_all("Contact") == ["<sip:204@192.0.2.24:5060>;expires=600"]
        assert response.headers.get("Date") == "Mon, 02 Mar 2026 09:00:00 GMT"
        assert contacts(bench) == ["sip:204@192.0.2.24:5060"]
        bench.run(600.0)
        assert contacts(bench) == []


def test_rfc3261_10_2_2_an_administrator_ends_a_registration_and_the_phone_may_come_back() -> None:
    with PhoneBench() as bench:
        bench.register(bench.desk, "204")
        (contact,) = contacts(bench)
        assert bench.registrations.forget("204", "sip:other@192.0.2.24") == 0
        assert bench.registrations.forget("204", contact) == 1
        assert bench.registrations.targets("204") == ()
        assert bench.register(bench.desk, "204").status == 200
        assert bench.registrations.forget("204") == 1
        assert contacts(bench) == []


def test_rfc3261_22_1_a_stranger_gets_a_challenge_and_nothing_is_kept() -> None:
    with PhoneBench() as bench:
        response = bench.register(bench.stranger, "999")
        assert response.status == 401
        assert response.headers.get("WWW-Authenticate")
        assert response.headers.get("Date") is None
        assert bench.gate.endpoint.idle
        assert not len(bench.registrations.registrar)


def test_rfc3261_10_3_a_refusal_reaches_the_phone() -> None:
    with PhoneBench() as bench:
        response = bench.register(bench.desk, "204", headers=["Expires: 5"])
        assert (response.status, response.headers.get("Min-Expires")) == (423, "60")
        assert response.headers.get("Date") is None


def test_a_contact_at_the_carrier_is_refused() -> None:
    """The carrier knows the gate by its address: a call to this phone would be one to any number there."""
    with PhoneBench() as bench:
        response = bench.register(bench.desk, "204", contact="<sip:19005550123@192.0.2.90:5060>")
        assert response.status == 403
        assert contacts(bench) == []


def test_rfc3261_8_2_1_without_phones_register_gets_405() -> None:
    with GateBench() as bench:
        bench.pbx.send("REGISTER")
        bench.run(0.1)
        assert bench.pbx.other_responses[-1].status == 405


def test_an_emergency_call_from_the_address_of_a_binding_is_not_challenged() -> None:
    with PhoneBench() as bench:
        refused = bench.desk.call("911", caller="999")
        bench.run(0.1)
        assert refused.status == 401
        bench.register(bench.desk, "204")
        call = bench.desk.call("911", caller="999")
        outside = bench.desk.call("914155550123", caller="999")
        bench.run(1.0)
        assert (call.status, outside.status) == (200, 401)
        call.bye()


def test_bindings_of_a_user_that_is_disabled_end() -> None:
    with PhoneBench() as bench:
        bench.register(bench.desk, "204")
        old = bench.core.policy
        bench.core.policy = old.with_changes(version=2, codes=CodeTable.of([]))
        assert contacts(bench), "only codes have changed"
        bench.core.policy = Snapshot(
            old.plan, old.groups.values(), [User("204", "staff", enabled=False)], old.codes
        )
        assert contacts(bench) == []


def test_a_policy_changes_in_a_gate_without_phones() -> None:
    with GateBench() as bench:
        bench.core.policy = phone_policy()
        bench.core.handle_timer(bench.now)


# Keep-alives ------------------------------------------------------------------------------------------------


def watched(bench: PhoneBench) -> list[tuple[float, Address, bytes]]:
    """Everything the gate sends from now on, with its time."""
    sent: list[tuple[float, Address, bytes]] = []

    def note(at: float, sender: Address, receiver: Address, data: bytes) -> None:
        if sender == ("192.0.2.1", 5060):
            sent.append((at, receiver, data))

    bench.network.trace = note
    return sent


def test_rfc5626_4_4_a_phone_behind_nat_is_pinged() -> None:
    with PhoneBench() as bench:
        phone = bench.phone("10.0.0.5", seen_as=NAT)
        bench.register(phone, "205", headers=["Expires: 60"])
        bench.register(bench.phone("192.0.2.25"), "205")
        bench.register(bench.desk, "204")
        binding, other = bench.registrations.registrar.bindings("205")
        assert (binding.flow, binding.behind_nat) == (Flow("UDP", *NAT), True)
        assert not other.behind_nat
        sent = watched(bench)
        bench.register(phone, "205", headers=["Expires: 60"])
        sent.clear()
        bench.run(100.0)
        assert [(round(at), receiver) for at, receiver, _ in sent] == [(25, NAT), (50, NAT)]
        ping = parse_message(sent[0][2])
        assert isinstance(ping, Request)
        assert (ping.method, ping.uri) == ("OPTIONS", "sip:205@10.0.0.5:5060")
        assert bench.registrations.next_timer() == bench.registrations.registrar.next_expiry()


def test_rfc4787_4_3_or_an_empty_datagram_is_sent() -> None:
    with PhoneBench() as bench:
        bench.registrations.keep_alive = KeepAlive.CRLF
        bench.registrations.interval = 10.0
        bench.register(bench.phone("10.0.0.5", seen_as=NAT), "205", headers=["Expires: 60"])
        sent = watched(bench)
        bench.run(25.0)
        assert [data for _, _, data in sent] == [b"\r\n\r\n", b"\r\n\r\n"]


def test_or_nothing() -> None:
    with PhoneBench() as bench:
        bench.registrations.keep_alive = KeepAlive.OFF
        bench.register(bench.phone("10.0.0.5", seen_as=NAT), "205", headers=["Expires: 60"])
        sent = watched(bench)
        bench.run(59.0)
        assert sent == []
        stored = [StoredBinding.of(item, 0.0) for item in bench.registrations.registrar.all()]
        bench.registrations.retain(())
        assert bench.registrations.restore(stored, epoch=0.0, now=bench.now) == 1
        bench.run(0.5)
        assert sent == []


def test_a_connection_behind_nat_is_the_phones_to_keep() -> None:
    with PhoneBench() as bench:
        bench.register(bench.phone("10.0.0.5", seen_as=NAT), "205")
        (binding,) = bench.registrations.registrar.bindings("205")
        stored = StoredBinding.of(binding, 0.0)
        object.__setattr__(stored, "transport", "TCP")
        assert bench.registrations.restore([stored], epoch=0.0, now=bench.now) == 0
        sent = watched(bench)
        bench.registrations.retain(())
        bench.run(60.0)
        assert sent == [], "the binding that was pinged is gone"
        assert bench.registrations.next_timer() is None


def test_restored_phones_are_pinged_evenly_over_the_interval() -> None:
    with PhoneBench() as bench:
        stored = []
        for number, extension in enumerate(("204", "205", "206")):
            phone = bench.phone(f"10.0.0.{number + 5}", seen_as=(NAT[0], NAT[1] + number))
            bench.register(phone, extension)
        stored = [StoredBinding.of(item, 0.0) for item in bench.registrations.registrar.all()]
        bench.registrations.retain(())
        bench.run(30.0)
        assert bench.registrations.restore(stored, epoch=0.0, now=bench.now) == 3
        assert bench.registrations.restore(stored, epoch=0.0, now=bench.now) == 0
        sent = watched(bench)
        bench.run(26.0)
        times = [at for at, _, _ in sent]
        assert [round(later - at, 2) for at, later in pairwise(times)] == [8.33, 8.33]


def test_rfc5626_5_3_what_was_reached_over_a_lost_connection_is_given_up() -> None:
    with PhoneBench() as bench:
        connection = Flow("TCP", "192.0.2.24", 41000, 0, 5)
        register = register_request(
            "<sip:204@10.0.0.5;transport=tcp>",
            to="sip:204@gate.example.com",
            uri="sip:gate.example.com",
            via="SIP/2.0/TCP 10.0.0.5;branch=z9hG4bK-1",
        )
        bench.gate.endpoint.receive(register.serialize(), connection, bench.now)
        bench.run()
        assert contacts(bench) == ["sip:204@10.0.0.5;transport=tcp"]
        assert [bench.registrations.bound_over(number) for number in (5, 6)] == [True, False]
        bench.gate.endpoint.transport_failed(connection, bench.now)
        bench.run()
        assert contacts(bench) == []
        bench.core.abandon(ConnectionLost(connection), bench.now)
    with GateBench() as plain:
        plain.gate.endpoint.transport_failed(connection, plain.now)
        plain.run()


@pytest.mark.parametrize("hours", [0, 5, -8])
def test_rfc3261_20_17_dates_are_in_gmt(hours: int) -> None:
    moment = datetime(1998, 11, 15, 4, 5, 6, tzinfo=UTC).astimezone(timezone(timedelta(hours=hours)))
    assert sip_date(moment) == "Sun, 15 Nov 1998 04:05:06 GMT"
