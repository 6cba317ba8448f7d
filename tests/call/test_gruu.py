"""Calls to a GRUU reach one phone of a user (RFC 5627 §5.4), and a phone may name itself by its own."""

from __future__ import annotations

import re

import pytest

from proxy.cdr.record import Direction, Disposition
from proxy.sip.message import Response
from tests.call.phones import PhoneBench
from tests.call.transfers import TransferBench, refer, told
from tests.support.gate import GATE
from tests.support.ua import Step, Ua

ONE = "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"
TWO = "urn:uuid:00000000-0000-1000-8000-000a95a0e128"


def registered(bench: PhoneBench, host: str, instance: str) -> tuple[Ua, list[str]]:
    """Register a phone of 205; returns it with its public and temporary GRUU."""
    phone = bench.phone(host)
    contact = f'<sip:205@{host}:5060>;+sip.instance="<{instance}>"'
    told = bench.register(phone, "205", contact=contact, headers=("Supported: gruu",))
    return phone, own(told, instance)


def own(told: Response, instance: str) -> list[str]:
    (line,) = [
        value for value in told.headers.get_all("Contact") if instance in value.partition("pub-gruu")[0]
    ]
    return re.findall(r'gruu="([^"]*)"', line)


@pytest.mark.parametrize("kind", [0, 1], ids=["public", "temporary"])
@pytest.mark.parametrize("direction", [Direction.INTERNAL, Direction.INBOUND])
def test_rfc5627_5_4_one_phone_of_several_rings(direction: Direction, kind: int) -> None:
    with PhoneBench() as bench:
        first, _ = registered(bench, "192.0.2.25", ONE)
        second, gruus = registered(bench, "192.0.2.26", TWO)
        caller = bench.desk if direction is Direction.INTERNAL else bench.carrier
        call = caller.call("", uri=gruus[kind])
        bench.run(2.0)
        assert call.status == 200
        assert not first.calls
        invite = second.calls[0].invite
        assert invite is not None
        assert invite.uri == "sip:205@192.0.2.26:5060"
        call.bye()
    assert bench.record.dialled_number == "205"
    assert bench.record.destination_user == "205"
    assert bench.record.direction is direction


@pytest.mark.parametrize(
    ("uri", "status"),
    [
        (f"sip:205@gate.example.com;gr={ONE}", 480),
        (f"sip:299@gate.example.com;gr={TWO}", 404),
        ("sip:tgruu.aaaaaaaa@gate.example.com;gr", 404),
    ],
)
def test_a_trunk_reaches_nobody_by_one_that_leads_nowhere(uri: str, status: int) -> None:
    with PhoneBench() as bench:
        phone, _ = registered(bench, "192.0.2.26", TWO)
        call = bench.carrier.call("", uri=uri)
        bench.run(1.0)
        assert call.statuses == [status]
        assert not phone.calls


def test_rfc5627_4_1_a_gruu_of_the_pbx_is_a_number_of_the_pbx() -> None:
    with PhoneBench(pbx=True) as bench:
        registered(bench, "192.0.2.26", TWO)
        call = bench.carrier.call("", uri=f"sip:+12125550204@gate.example.com;gr={ONE}")
        bench.run(2.0)
        received = bench.pbx.calls[0].invite
        assert received is not None
        assert received.uri.startswith("sip:+12125550204@")
        call.cancel()


def test_without_a_registered_phone_the_user_of_a_gruu_is_away() -> None:
    with PhoneBench() as bench:
        call = bench.carrier.call("", uri=f"sip:205@gate.example.com;gr={ONE}")
        bench.run(1.0)
        assert call.statuses == [480]


@pytest.mark.parametrize(
    ("uri", "status"),
    [
        (f"sip:205@gate.example.com;gr={ONE}", 480),
        (f"sip:299@gate.example.com;gr={TWO}", 404),
        ("sip:205@gate.example.com;gr", 404),
        ("sip:tgruu.aaaaaaaa@gate.example.com;gr", 404),
        (f"sip:gate.example.com;gr={TWO}", 404),
    ],
)
def test_a_gruu_that_leads_nowhere_is_no_other_number(uri: str, status: int) -> None:
    with PhoneBench() as bench:
        phone, _ = registered(bench, "192.0.2.26", TWO)
        call = bench.desk.call("", uri=uri)
        bench.run(1.0)
        assert call.statuses == [status]
        assert not phone.calls
        assert not bench.carrier.calls


def test_a_gruu_ends_with_its_registration() -> None:
    with PhoneBench() as bench:
        phone, gruus = registered(bench, "192.0.2.26", TWO)
        bench.registrations.retain(())
        for gruu in gruus:
            call = bench.desk.call("", uri=gruu)
            bench.run(1.0)
            assert call.statuses == [480]
        assert not phone.calls
    assert {record.disposition for record in bench.journal.final} == {Disposition.NO_ANSWER}


def test_rfc5627_4_4_a_contact_that_is_a_gruu_is_no_way_back_to_the_gate_itself() -> None:
    with PhoneBench(pbx=True) as bench:
        phone, _ = registered(bench, "192.0.2.26", TWO)
        contact = ("Contact", f"<sip:204@{GATE[0]}:5060;gr={ONE}>")
        call = bench.pbx.call("205", headers=[contact])
        bench.run(2.0)
        assert call.status == 200
        phone.calls[0].bye()
        bench.run(1.0)
        assert call.has_ended(), "the BYE has reached the one who called, not the gate"


@pytest.mark.parametrize("uri", ["sip:911@gate.example.com;gr", "sip:911@gate.example.com;gr=urn:uuid:1"])
def test_an_emergency_number_is_no_gruu(uri: str) -> None:
    with PhoneBench() as bench:
        bench.register(bench.desk, "204")
        call = bench.desk.call("", uri=uri)
        bench.run(2.0)
        assert call.status == 200
        assert len(bench.carrier.calls) == 1
        call.bye()


@pytest.mark.parametrize("kind", [0, 1])
def test_rfc5627_5_4_a_transfer_to_a_gruu_reaches_that_phone(kind: int) -> None:
    with TransferBench() as bench:
        first, _ = registered(bench, "192.0.2.35", ONE)
        second, gruus = registered(bench, "192.0.2.36", TWO)
        call = bench.talk(bench.desk, "206")
        refer(call, gruus[kind])
        bench.run(2.0)
        assert told(call)[-1] == "200 terminated"
        assert not first.calls
        assert not bench.second.calls, "nor another phone of 205"
        second.calls[0].bye()
        bench.run(1.0)
    assert bench.journal.final[-1].destination_user == "205"


@pytest.mark.parametrize("kind", [0, 1])
def test_rfc5627_5_4_a_forward_to_a_gruu_reaches_that_phone(kind: int) -> None:
    with TransferBench() as bench:
        first, _ = registered(bench, "192.0.2.35", ONE)
        second, gruus = registered(bench, "192.0.2.36", TWO)
        bench.third.script = (Step(0.0, 302, headers=(("Contact", f"<{gruus[kind]}>"),)),)
        call = bench.desk.call("206")
        bench.run(2.0)
        assert call.status == 200
        assert not first.calls
        assert len(second.calls) == 1
        call.bye()


@pytest.mark.parametrize(
    ("uri", "outcome"),
    [
        ("sip:tgruu.aaaaaaaa@gate.example.com;gr", "404"),
        (f"sip:299@gate.example.com;gr={TWO}", "404"),
        (f"sip:205@gate.example.com;gr={TWO}", "480"),
        (f"sip:918005550123@gate.example.com;gr={TWO}", "404"),
    ],
)
def test_a_transfer_to_a_gruu_that_leads_nowhere_is_one_to_no_other_number(uri: str, outcome: str) -> None:
    with TransferBench() as bench:
        call = bench.talk(bench.desk, "206")
        refer(call, uri)
        bench.run(2.0)
        assert told(call)[-1] == f"{outcome} terminated"
        assert not bench.second.calls
        assert not bench.carrier.calls
        call.bye()
