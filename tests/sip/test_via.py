"""The Via header (RFC 3261 §20.42, §18.2.1; RFC 3581)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import RemoteProtocolError
from proxy.sip.via import Via

VIAS = st.builds(
    Via,
    transport=st.sampled_from(["UDP", "TCP", "TLS", "X-NEW"]),
    host=st.sampled_from(["example.com", "192.0.2.1", "2001:db8::9:1"]),
    port=st.none() | st.integers(1, 65535),
    params=st.dictionaries(
        st.sampled_from(["branch", "rport", "received", "maddr", "x"]),
        st.none() | st.sampled_from(["z9hG4bK1", "5060", '"q;q"']),
    ),
)


@given(VIAS)
def test_rfc3261_20_42_what_is_printed_is_parsed_again(via: Via) -> None:
    assert Via.parse(str(via)) == via


@given(VIAS, st.sampled_from(["192.0.2.1", "2001:db8::9:1", "198.51.100.7"]), st.integers(1, 65535))
def test_rfc3261_18_2_1_the_stamped_via_is_the_one_that_is_printed(via: Via, host: str, port: int) -> None:
    stamped = via.with_source(host, port)
    assert Via.parse(str(stamped)) == stamped
    assert stamped.branch == via.branch
    assert stamped.received in {host, None}
    assert (stamped.rport == port) is ("rport" in via.params)
    assert host in {stamped.received, stamped.host}


@given(st.text(max_size=60) | st.text(alphabet='SIP/2.0 UDP;=,[]:"', max_size=60))
def test_any_text_parses_or_raises_the_documented_error(text: str) -> None:
    for candidate in (text, "SIP/2.0/UDP " + text):
        try:
            via = Via.parse(candidate)
        except RemoteProtocolError:
            continue
        assert str(via) == candidate


@pytest.mark.parametrize(
    "text",
    [
        "SIP/2.0/udp h:5060;branch=z9hG4bK1",
        "SIP / 2.0 / UDP h : 5060 ; branch = z9hG4bK1",
        "sip/2.0/UDP\th:5060;branch=z9hG4bK1",
        "SIP/2.0/UDP  h:5060;branch=z9hG4bK1",
    ],
)
def test_rfc3261_20_42_forms(text: str) -> None:
    via = Via.parse(text)
    assert via == Via("UDP", "h", 5060, {"branch": "z9hG4bK1"})
    assert str(via) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SIP/2.0/UDP",
        "SIP/2.0/UDP ",
        "SIP/2.0/ h",
        "SIP/2.0/U@P h",
        "SIP/2.0",
        "SIP / 2.0 / UDP",
        "SIP/3.0/UDP h",
        "HTTP/2.0/UDP h",
        "SIP/2.0/UDP h;;",
        "SIP/2.0/UDP h i",
        "SIP/2.0/UDP h:70000",
        "SIP/2.0/UDP 2001:db8::1",
    ],
)
def test_rfc3261_20_42_malformed(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        Via.parse(text)


@pytest.mark.parametrize(
    ("params", "unique"),
    [
        (";branch=z9hG4bK1", True),
        (";branch=z9hG4bK", False),
        (";branch=390skdjuw", False),
        (";branch", False),
        ("", False),
    ],
)
def test_rfc3261_17_2_3_unique_branch(params: str, unique: bool) -> None:
    assert Via.parse("SIP/2.0/UDP h" + params).has_unique_branch is unique


@pytest.mark.parametrize(
    ("params", "rport"),
    [("", None), (";rport", None), (";rport=7", 7), (";rport=x", None), (";rport=123456", None)],
)
def test_rfc3581_4_rport(params: str, rport: int | None) -> None:
    via = Via.parse("SIP/2.0/UDP h" + params)
    assert via.rport == rport
    assert via.wants_rport is (params != "")


def test_rfc5118_4_5_received_in_brackets() -> None:
    assert Via.parse("SIP/2.0/UDP h;received=[2001:db8::1]").received == "2001:db8::1"
    assert Via.parse("SIP/2.0/UDP h").received is None


@pytest.mark.parametrize(
    ("text", "stamped"),
    [
        ("SIP/2.0/UDP 192.0.2.9:5060;branch=b", "SIP/2.0/UDP 192.0.2.9:5060;branch=b"),
        ("SIP/2.0/UDP 192.0.2.1;branch=b", "SIP/2.0/UDP 192.0.2.1;branch=b;received=192.0.2.9"),
        (
            "SIP/2.0/UDP 192.0.2.9;rport;branch=b",
            "SIP/2.0/UDP 192.0.2.9;rport=5070;branch=b;received=192.0.2.9",
        ),
        (
            "SIP/2.0/UDP 192.0.2.1;rport=1;received=198.51.100.1;x=y",
            "SIP/2.0/UDP 192.0.2.1;rport=5070;x=y;received=192.0.2.9",
        ),
        ("SIP/2.0/UDP 192.0.2.9;received=198.51.100.1", "SIP/2.0/UDP 192.0.2.9"),
        ('SIP/2.0/UDP h;x="a;rport"', 'SIP/2.0/UDP h;x="a;rport";received=192.0.2.9'),
        ("SIP / 2.0/UDP h ; Branch = b", "SIP / 2.0/UDP h ; Branch = b;received=192.0.2.9"),
    ],
)
def test_rfc3581_4_and_rfc3261_18_2_1_stamping(text: str, stamped: str) -> None:
    assert str(Via.parse(text).with_source("192.0.2.9", 5070)) == stamped


def test_long_vias_are_parsed_without_the_memo() -> None:
    name = "h" * 300
    assert Via.parse(f"SIP/2.0/UDP {name};branch=1").host == name
    assert Via.parse(f"SIP/2.0/UDP h;branch={name}").branch == name
