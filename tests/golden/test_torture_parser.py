"""The torture messages of RFC 4475 and RFC 5118 at the parser: each file has a verdict and keeps it."""

from __future__ import annotations

import pytest

from proxy.errors import RemoteProtocolError
from proxy.sip.message import Request, Response
from proxy.sip.parser import is_answerable, parse_datagram, validate_request, validate_response
from proxy.sip.uri import Uri
from tests.golden.torture import TORTURE, Kind, Verdict
from tests.support.corpora import corpus_files, read_corpus, require_corpora


def judge(data: bytes) -> tuple[Kind, int | None]:
    try:
        message = parse_datagram(data)
    except RemoteProtocolError:
        return Kind.DROPPED, None
    if isinstance(message, Response):
        try:
            validate_response(message)
        except RemoteProtocolError:
            return Kind.DROPPED, None
        return Kind.RESPONSE, None
    assert message is not None
    try:
        validate_request(message)
    except RemoteProtocolError as error:
        return (Kind.REFUSED, error.status_hint) if is_answerable(message) else (Kind.DROPPED, None)
    return Kind.REQUEST, None


def sound_request(name: str) -> Request:
    message = parse_datagram(read_corpus(name))
    assert isinstance(message, Request)
    validate_request(message)
    return message


def test_every_file_is_listed() -> None:
    require_corpora()
    assert corpus_files("rfc4475", ".dat") + corpus_files("rfc5118", ".dat") == sorted(TORTURE)


@pytest.mark.parametrize(("name", "verdict"), TORTURE.items(), ids=list(TORTURE))
def test_verdict(name: str, verdict: Verdict) -> None:
    kind, status = judge(read_corpus(name))
    assert kind is verdict.kind
    if status is not None:
        assert (status,) == verdict.answers


@pytest.mark.parametrize("name", [name for name, verdict in TORTURE.items() if verdict.kind is Kind.REFUSED])
def test_a_refused_request_is_answered_with_what_it_brought(name: str) -> None:
    message = parse_datagram(read_corpus(name))
    assert isinstance(message, Request)
    answer = Response.to_request(message, 400, to_tag="314159")
    assert answer.headers.get_all("Via") == message.headers.get_all("Via")
    reparsed = parse_datagram(answer.serialize())
    assert isinstance(reparsed, Response)
    assert reparsed.status == 400


def test_rfc4475_3_1_1_1_white_space() -> None:
    request = sound_request("rfc4475/wsinv.dat")
    assert request.to.tag == "1918181833n"
    assert request.from_.display_name == 'J Rosenberg \\"'
    assert request.from_.tag == "98asjd8"
    assert request.max_forwards == 68
    assert (request.cseq.number, request.cseq.method) == (9, "INVITE")
    assert (request.top_via.transport, request.top_via.host) == ("UDP", "192.0.2.2")
    assert len(request.headers.values("Via")) == 3
    assert request.headers.get("NewFangledHeader") == "newfangled value continued newfangled value"
    assert request.headers.get("UnknownHeaderWithUnusualValue") == ";;,,;;,;"
    assert request.contact is not None
    assert request.contact.params == {"newparam": "newvalue", "secondparam": None, "q": "0.33"}
    assert request.routes[0].uri.params == {"lr": None, "unknownwith": "value", "unknown-no-value": None}


def test_rfc4475_3_1_1_2_unusual_tokens() -> None:
    request = sound_request("rfc4475/intmeth.dat")
    assert request.to.display_name == "BEL:\x07 NUL:\x00 DEL:\x7f"
    assert request.from_.display_name == "token1~` token2'+_ token3*%!.-"
    user, password = request.request_uri.user, request.request_uri.password
    assert user == "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"
    assert password == "&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"
    assert request.headers.get("extensionHeader-!.%*+_`'~") == "\ufeff大停電"


def test_rfc4475_3_1_1_3_escapes_are_undone_once() -> None:
    request = sound_request("rfc4475/esc01.dat")
    assert request.request_uri.user == "sips:user@example.com"
    assert request.to.uri.user == "user"
    assert request.contact is not None
    assert request.contact.uri.params == {"lr": None, "name": "value%41"}


def test_rfc4475_3_1_1_4_escaped_nul() -> None:
    request = sound_request("rfc4475/escnull.dat")
    assert [contact.uri.user for contact in request.contacts] == ["\x00", "\x00\x00"]
    assert request.to.uri.user == "null-\x00-null"


def test_rfc4475_3_1_1_5_escapes_outside_of_uris_mean_nothing() -> None:
    request = sound_request("rfc4475/esc02.dat")
    assert request.method == "RE%47IST%45R"
    assert request.to.display_name == "%Z%45"
    assert len(request.contacts) == 2


def test_rfc4475_3_1_1_8_one_message_per_datagram() -> None:
    request = sound_request("rfc4475/dblreq.dat")
    assert request.method == "REGISTER"
    assert request.body == b""


def test_rfc4475_3_1_1_9_semicolon_in_the_user_part() -> None:
    request = sound_request("rfc4475/semiuri.dat")
    assert request.request_uri == Uri("sip", "user;par=u@example.net", "example.com")
    assert request.request_uri.telephone == ("user", {"par": "u@example.net"})


def test_rfc4475_3_1_1_11_binary_body() -> None:
    request = sound_request("rfc4475/mpart01.dat")
    assert len(request.body) == int(request.headers.get("Content-Length") or 0)
    assert b"\x00" in request.body


def test_rfc4475_3_3_12_and_13_whose_parameter() -> None:
    of_contact = sound_request("rfc4475/cparam01.dat").contact
    of_uri = sound_request("rfc4475/cparam02.dat").contact
    assert of_contact is not None
    assert of_uri is not None
    assert (dict(of_contact.params), dict(of_contact.uri.params)) == ({"unknownparam": None}, {})
    assert (dict(of_uri.params), dict(of_uri.uri.params)) == ({}, {"unknownparam": None})


def test_rfc4475_3_3_14_a_route_stays_inside_its_contact() -> None:
    request = sound_request("rfc4475/regescrt.dat")
    assert request.routes == []
    assert request.contact is not None
    assert request.contact.uri.headers == (("Route", "<sip:sip.example.com>"),)


def test_rfc5118_4_3_and_4_4_port_of_an_ipv6_reference() -> None:
    ambiguous = sound_request("rfc5118/wire/port-ambiguous.dat").request_uri
    unambiguous = sound_request("rfc5118/wire/port-unambiguous.dat").request_uri
    assert (ambiguous.host, ambiguous.port) == ("2001:db8::10:5070", None)
    assert (unambiguous.host, unambiguous.port) == ("2001:db8::10", 5070)


@pytest.mark.parametrize("delimiters", ["no-delim", "with-delim"])
def test_rfc5118_4_5_received_with_and_without_brackets(delimiters: str) -> None:
    request = sound_request(f"rfc5118/wire/via-received-param-{delimiters}.dat")
    assert request.top_via.received == "2001:db8::9:255"
