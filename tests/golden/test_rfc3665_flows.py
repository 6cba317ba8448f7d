"""The 193 messages of the RFC 3665 call flows parse, and leave as they came."""

from __future__ import annotations

import re

import pytest
import sipmessage

from proxy.sip.message import Request, Response
from proxy.sip.parser import parse_message, validate_request
from tests.support.corpora import corpus_files, read_corpus, require_corpora

FLOWS = corpus_files("rfc3665_flows", ".sip")

WITHOUT_CONTENT_LENGTH = {
    "rfc3665_flows/3.08_unsuccessful-no-answer__F19.sip",
    "rfc3665_flows/3.11_unsuccessful-temporarily-unavailable__F01.sip",
    "rfc3665_flows/3.11_unsuccessful-temporarily-unavailable__F08.sip",
}
"""They gain the header, which a stream can't do without (RFC 3261 §20.14)."""


def test_all_are_there() -> None:
    require_corpora()
    assert len(FLOWS) == 193


@pytest.mark.parametrize("name", FLOWS)
def test_round_trip_is_byte_exact(name: str) -> None:
    data = read_corpus(name)
    message = parse_message(data)
    if isinstance(message, Request):
        validate_request(message)
    printed = message.serialize()
    if name in WITHOUT_CONTENT_LENGTH:
        assert b"Content-Length" not in data
        printed = re.sub(rb"Content-Length: \d+\r\n", b"", printed)
    assert printed == data


@pytest.mark.parametrize("name", FLOWS)
def test_typed_values_agree_with_a_second_opinion(name: str) -> None:
    data = read_corpus(name)
    message = parse_message(data)
    # The second opinion knows no folding.
    other = sipmessage.Message.parse(re.sub(rb"\r\n[ \t]+", b" ", data))
    assert message.call_id == other.call_id
    assert str(message.cseq) == str(other.cseq)
    assert (message.from_.tag, message.to.tag) == (
        other.from_address.parameters.get("tag"),
        other.to_address.parameters.get("tag"),
    )
    assert (message.top_via.host, message.top_via.port) == (other.via[0].host, other.via[0].port)
    assert message.top_via.branch == other.via[0].parameters.get("branch")
    if not message.has_star_contact and all(contact.uri.is_sip for contact in message.contacts):
        # The second opinion knows no other scheme.
        assert [contact.uri.host for contact in message.contacts] == [
            contact.uri.host for contact in other.contact
        ]
    assert message.body == other.body
    if isinstance(message, Response):
        assert isinstance(other, sipmessage.Response)
        assert (message.status, message.reason) == (other.code, other.phrase)
