"""Headers that assert something, and every spelling of who may not (RFC 3325, RFC 7044, RFC 8496)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.call.headers import _TRUST, Crossing
from proxy.sip.flow import Transmit
from proxy.sip.headers import canonical_name
from proxy.sip.message import Request
from proxy.sip.parser import parse_message
from tests.call.crossing import TOLL_FREE, crossed, sent_to_carrier, trunk
from tests.call.phones import PhoneBench
from tests.support.gate import GateBench, default_config

PRIVATE = """
    P-Asserted-Identity P-Asserted-Service P-Charging-Vector P-Charging-Function-Addresses P-Charge-Info
    P-Access-Network-Info P-Visited-Network-ID P-Served-User P-Profile-Key P-Called-Party-ID P-Associated-URI
    P-User-Database P-Early-Media P-Media-Authorization P-Private-Network-Indication P-DCS-Billing-Info
    P-DCS-LAES P-DCS-OSPS P-DCS-Redirect P-DCS-Trace-Party-ID P-Of-Tomorrow
"""
ALL_TRUST = sorted(_TRUST | set(map(canonical_name, PRIVATE.split())))

TRUST = [
    "P-Asserted-Identity",
    "Remote-Party-ID",
    "Diversion",
    "History-Info",
    "P-Charging-Vector",
    "P-Charge-Info",
    "Charge-Info",
    "Relayed-Charge",
    "P-Media-Authorization",
    "P-Of-Tomorrow",
    "Resource-Priority",
    "Identity",
]


@pytest.mark.parametrize("name", TRUST)
def test_trust_headers_reach_a_trusted_trunk_only(name: str) -> None:
    value = "<sip:+12125550204@pbx.example.com>;x=1"
    assert sent_to_carrier([(name, value)]).headers.get(name) == value
    assert sent_to_carrier([(name, value)], trunk=trunk(trusted=False)).headers.get(name) is None


def spellings(name: str, *more: str) -> list[str]:
    """Return header lines that all say ``name``, as RFC 3261 §7.3.1 and §25.1 let it be written, and some
    that only lax parsers take; ``more`` are other names of the same header."""
    value = "<sip:1@x>"
    mixed = "".join(char.upper() if place % 2 else char.lower() for place, char in enumerate(name))
    lines = [
        f"{written}{colon}{value}"
        for written in (name, name.lower(), name.upper(), mixed, *more)
        for colon in (":", ": ", " :", "\t:", " \t : \t", ":\r\n ", ":\r\n\t", " :\r\n  \r\n\t")
    ]
    lines += [
        f"{name}: {value}\r\n{name.lower()} : {value}",
        f"{name}: {value}, {value}",
        f"{name}:",
        f"{name}: {value};a=1;\r\n b=2",
        f"{name}: \xff\xfe",
        f'{name}: "a:b" {value}',
    ]
    return lines


def parsed(line: str) -> Request:
    message = parse_message(
        b"INVITE sip:1@x SIP/2.0\r\nVia: SIP/2.0/UDP x;branch=z9hG4bK1\r\nFrom: <sip:1@y>;tag=1\r\n"
        b"To: <sip:1@x>\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n"
        + line.encode("latin-1")
        + b"\r\nKept: 1\r\nContent-Length: 0\r\n\r\n"
    )
    assert isinstance(message, Request)
    return message


@pytest.mark.parametrize(
    ("name", "more"),
    [
        *((name, ()) for name in ALL_TRUST if not name.startswith("Identity")),
        ("Identity", ("y", "Y")),
        ("Identity-Info", ("n", "N")),
    ],
)
def test_every_spelling_of_a_trust_header_is_known(name: str, more: tuple[str, ...]) -> None:
    lines = spellings(name, *more)
    assert len(set(lines)) > 30
    for line in lines:
        headers = parsed(line).headers
        assert Crossing(trusted=False).headers(headers) == [("Kept", "1")], line
        assert len(Crossing(trusted=True).headers(headers)) > 1, line
        assert Crossing(trusted=True, dropped=frozenset({name})).headers(headers) == [("Kept", "1")], line


@settings(max_examples=300)
@given(
    name=st.sampled_from(ALL_TRUST),
    flips=st.lists(st.booleans(), min_size=30, max_size=30),
    before=st.text(" \t", max_size=3),
    folds=st.lists(st.sampled_from(["", " ", "\t", "\r\n ", "\r\n\t", "\r\n \r\n "]), max_size=4),
    times=st.integers(1, 3),
)
def test_no_spelling_of_a_trust_header_gets_through(
    name: str, flips: list[bool], before: str, folds: list[str], times: int
) -> None:
    written = "".join(char.swapcase() if flip else char for char, flip in zip(name, flips * 2, strict=False))
    line = f"{written}{before}:{''.join(folds)}<sip:1@x>"
    message = parsed("\r\n".join([line] * times))
    assert message.defect is None
    assert Crossing(trusted=False).headers(message.headers) == [("Kept", "1")]


@pytest.mark.parametrize(
    "name", ["P-Asserted-Identity ", "p-asserted-identity\t", "REMOTE-PARTY-ID", "y", "Y "]
)
def test_an_untrusted_pbx_asserts_nothing(name: str) -> None:
    pbx = default_config().peers[0]
    config = default_config(peers=(replace(pbx, trusted=False),))
    with GateBench(config=config) as bench:
        invite = crossed(bench, bench.pbx, [(name, "<sip:+12125550999@x>")])
    assert "12125550999" not in "".join(invite.headers.lines())


def test_no_spelling_of_an_untrusted_phone_is_seen_by_the_callee() -> None:
    """As octets on the wire, one call each."""
    written = list(dict.fromkeys(spellings("P-Asserted-Identity")))
    assert len(written) > 30
    with PhoneBench() as bench:
        plainly = bench.desk.transmits
        for line in written:
            spelled = line.replace("sip:1@x", "sip:+13105550000@x").encode("latin-1")

            def dressed(spelled: bytes = spelled) -> list[Transmit]:
                return [one._replace(data=one.data.replace(b"Spelled: 1", spelled)) for one in plainly()]

            bench.desk.transmits = dressed  # type: ignore[method-assign]
            call = bench.desk.call(TOLL_FREE, headers=[("Spelled", "1")])
            bench.run(0.5)
            invite = bench.carrier.calls[-1].invite
            assert invite is not None
            told = "".join(invite.headers.lines())
            assert "3105550000" not in told, line
            assert "Spelled" not in told
            call.bye()
            bench.run(0.5)
        assert len(bench.carrier.calls) == len(written)


@pytest.mark.parametrize(
    "line",
    [
        "P-Charge-Info: <sip:+13105550000@x>",
        "p-charge-info : <sip:+13105550000@x>;npi=ISDN",
        "Charge-Info: <sip:+13105550000@x>",
        "Relayed-Charge: 13105550000",
        "P-Media-Authorization: 13105550000",
        "P-Of-Tomorrow: 13105550000",
        "Resource-Priority: dsn.flash, 13105550000.0",
    ],
)
def test_rfc8496_a_phone_does_not_choose_who_is_billed_nor_whose_call_goes_first(line: str) -> None:
    name, _, value = line.partition(":")
    with PhoneBench() as bench:
        invite = crossed(bench, bench.desk, [(name, value.strip())])
    assert "3105550000" not in "".join(invite.headers.lines())


def test_rfc4412_who_calls_for_help_may_say_how_urgent_it_is() -> None:
    headers = [("Resource-Priority", "esnet.0"), ("P-Charge-Info", "<sip:+13105550000@x>")]
    with PhoneBench() as bench:
        call = bench.desk.call("911", headers=headers)
        bench.run(0.5)
        invite = bench.carrier.calls[0].invite
        assert invite is not None
        assert invite.headers.get("Resource-Priority") == "esnet.0"
        assert invite.headers.get("P-Charge-Info") is None
        call.bye()
