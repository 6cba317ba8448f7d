"""What is fuzzed in Python: each target takes a stranger's octets, and no error but `RemoteProtocolError` may
come of them. What is promised besides is asserted: round trips, bounds, agreement of two readers.

The packet parsers of the media core have targets of their own, in Rust: fuzz/native.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from proxy.dtmf.digits import DIGITS
from proxy.dtmf.info import DTMF, DTMF_RELAY, parse_info
from proxy.errors import RemoteProtocolError
from proxy.sdp import (
    AudioDescription,
    LocalEnd,
    SessionDescription,
    SrtpPolicy,
    build_answer,
    choose_codec,
    parse_sdp,
    read_audio,
    read_fax,
)
from proxy.sip.address import NameAddr
from proxy.sip.body import session_description, with_description
from proxy.sip.config import EndpointConfig
from proxy.sip.digest import Credentials, answer_challenge, choose_challenge, find_credentials
from proxy.sip.digest_server import DigestServer, RecentNonceCounts, Verdict
from proxy.sip.endpoint import Endpoint
from proxy.sip.flow import Flow, ListenPoint
from proxy.sip.framing import StreamFramer
from proxy.sip.headers import Headers
from proxy.sip.ids import KeyedIds
from proxy.sip.message import Request, Response
from proxy.sip.parser import is_answerable, parse_datagram, parse_message, validate_request, validate_response
from proxy.sip.uri import Uri
from proxy.sip.via import Via

__all__ = ["REGRESSIONS", "TARGETS", "Target", "seeds"]

REGRESSIONS = Path(__file__).parent / "regressions"
"""A folder per target; each file is an input that once broke something, or was feared to."""

UDP = Flow("UDP", "192.0.2.2", 5060)
TCP = Flow("TCP", "192.0.2.2", 40000, 1, 17)
POINTS = (ListenPoint("UDP", "192.0.2.1", 5060), ListenPoint("TCP", "192.0.2.1", 5060))


class Target(NamedTuple):
    """``run`` raises for an input that breaks a promise."""

    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]


def message(data: bytes) -> None:
    """Parse a datagram, judge it, answer it; what is printed parses to the same."""
    try:
        found = parse_datagram(data)
    except RemoteProtocolError:
        return
    if found is None:
        return
    if isinstance(found, Response):
        with suppress(RemoteProtocolError):
            validate_response(found)
            _read_typed(found)
        return
    try:
        validate_request(found)
    except RemoteProtocolError as error:
        assert 400 <= error.status_hint <= 699
        sound = False
    else:
        _read_typed(found)
        assert found.request_uri is not None
        sound = True
    if is_answerable(found):
        answer = parse_message(Response.to_request(found, 400, to_tag="gate").serialize())
        assert isinstance(answer, Response)
        assert answer.headers.get_all("Via") == found.headers.get_all("Via")
    if sound:
        again = parse_message(found.serialize())
        assert isinstance(again, Request)
        assert (again.method, again.uri, again.body) == (found.method, found.uri, found.body)
        names = [entry[:2] for entry in found.headers.entries() if entry[0] != "Content-Length"]
        assert [entry[:2] for entry in again.headers.entries() if entry[0] != "Content-Length"] == names


def _read_typed(found: Request | Response) -> None:
    """Read what may not raise any more after the checks (`proxy.sip.parser`)."""
    assert found.cseq.number >= 0
    assert found.top_via.host
    for address in (found.from_, found.to, *found.contacts, *found.routes, *found.record_routes):
        assert str(Uri.parse(str(address.uri))) == str(address.uri)


def stream(data: bytes) -> None:
    """Cut a stream into messages; where the reads were cut makes no difference."""
    whole, pieces = StreamFramer(), StreamFramer()
    frames = whole.feed(data)
    cut: list[bytes] = []
    step = 1 + (data[0] if data else 0) % 97
    for start in range(0, len(data), step):
        cut += pieces.feed(data[start : start + step])
    assert cut == frames
    assert (whole.failure is None) == (pieces.failure is None)
    assert whole.take_pongs() == pieces.take_pongs()
    for frame in frames:
        with suppress(RemoteProtocolError):
            parsed = parse_message(frame)
            if not isinstance(parsed, Request) or parsed.defect is None:
                # The two readers of Content-Length agree: nothing can hide between them.
                assert frame.endswith(parsed.body)
                assert len(frame) == frame.index(b"\r\n\r\n") + 4 + len(parsed.body)


def endpoint(data: bytes) -> None:
    """Let a whole endpoint take it, over UDP and TCP; after an hour nothing is left."""
    for flow in (UDP, TCP):
        gate = Endpoint(EndpointConfig(POINTS), KeyedIds(bytes(32)))
        gate.receive(data, flow, 0.0)
        sent = gate.transmits()
        assert len(sent) <= 1
        assert all(len(out) <= 3 * len(data) + 500 for out, _ in sent)
        for event in gate.events():
            transaction = getattr(event, "transaction", None)
            if transaction is not None:
                dialog = gate.respond(transaction, 486 if transaction.method == "INVITE" else 200, now=0.1)
                if dialog is not None:
                    gate.terminate(dialog)
        now = 0.1
        while (at := gate.next_timer()) is not None and at < 3600.0:
            now = max(now, at)
            gate.handle_timer(now)
            gate.transmits()
            gate.events()
        assert gate.idle


def sdp(data: bytes) -> None:
    """Parse a description, print it, read its audio and fax, answer it."""
    try:
        found = parse_sdp(data)
    except RemoteProtocolError as error:
        assert error.status_hint in {400, 488}
        return
    assert parse_sdp(found.to_bytes()) == found
    with suppress(RemoteProtocolError):
        read_fax(found)
    for policy in SrtpPolicy:
        try:
            audio = read_audio(found, policy)
        except RemoteProtocolError as error:
            assert error.status_hint in {400, 488}
            continue
        _answer(found, audio)


def _answer(offer: SessionDescription, audio: AudioDescription) -> None:
    known = {"PCMU", "PCMA", "G722", "OPUS"}
    chosen = choose_codec(audio, known, known)
    if chosen is None:
        return
    answer = build_answer(offer, audio, chosen, LocalEnd("192.0.2.1", 20_000, 20_001), 1)
    answered = parse_sdp(answer.data)
    assert len(answered.media) == len(offer.media)
    assert sum(bool(media.port) for media in answered.media) == 1
    assert answered.media[audio.index].port


def uri(data: bytes) -> None:
    """Parse a URI, an address and a Via; what is printed means the same."""
    text = data.decode("utf-8", "surrogateescape")
    with suppress(RemoteProtocolError):
        found = Uri.parse(text)
        again = Uri.parse(str(found))
        assert str(again) == str(found)
        assert found.telephone[0] == again.telephone[0]
        if found.is_sip:
            assert found.equivalent_to(again)
    with suppress(RemoteProtocolError):
        address = NameAddr.parse(text)
        assert str(NameAddr.parse(str(address)).uri) == str(address.uri)
    with suppress(RemoteProtocolError):
        via = Via.parse(text)
        assert str(Via.parse(str(via))) == str(via)
        _ = via.branch, via.received, via.rport, via.with_source("192.0.2.7", 5060)


def digest(data: bytes) -> None:
    """Read credentials and challenges; made up ones never prove anything."""
    text = data.decode("utf-8", "surrogateescape")
    server = DigestServer("tollgate", bytes(32), RecentNonceCounts())
    found = find_credentials([text], "tollgate")
    if found is not None:
        verdict = server.verify(
            found, method="INVITE", uri="sip:1@192.0.2.1", ha1s=(), source="192.0.2.2", now=0
        )
        assert verdict is not Verdict.ACCEPTED
        assert Credentials.parse(str(found)) is not None
    challenge = choose_challenge([text])
    if challenge is not None:
        answer = answer_challenge(
            challenge, method="INVITE", uri="sip:a@h", username="a", password="p", cnonce="c"
        )
        assert Credentials.parse(str(answer)) is not None


def info(data: bytes) -> None:
    """Read the body of an INFO; no error quotes what may be a digit of a code."""
    for content_type in (DTMF, DTMF_RELAY, data[:40].decode("latin-1")):
        try:
            found = parse_info(content_type, data)
        except RemoteProtocolError as error:
            assert error.status_hint in {400, 415}
            assert error.__cause__ is None
        else:
            assert found is None or (found.digit in DIGITS and 0 < found.duration_ms <= 10_000)


def body(data: bytes) -> None:
    """Find the description in a body of several parts, and put another in its place."""
    kind, _, content = data.partition(b"\n")
    headers = Headers()
    headers.add("Content-Type", kind.decode("utf-8", "surrogateescape").replace("\r", " "))
    request = Request("INVITE", "sip:1@192.0.2.1", headers, content)
    found = session_description(request)
    assert found in content
    new_kind, new_body = with_description(request, b"v=0\r\n", lambda _kind, _required: True)
    changed = Headers()
    changed.add("Content-Type", new_kind)
    assert session_description(Request("INVITE", request.uri, changed, new_body)) == b"v=0\r\n"


_HEAD = (
    "Via: SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bK1;rport\r\nMax-Forwards: 70\r\n"
    'From: "A" <sip:a@192.0.2.2>;tag=1\r\nTo: <sip:1@192.0.2.1>\r\nCall-ID: c@192.0.2.2\r\nCSeq: 1 {0}\r\n'
)
_SDP = (
    "v=0\r\no=- 1 1 IN IP4 192.0.2.2\r\ns=-\r\nc=IN IP4 192.0.2.2\r\nt=0 0\r\n"
    "m=audio 40000 RTP/AVP 0 8 101\r\n"
    "a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=sendrecv\r\n"
)
_KEYS = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^20|1:4\r\n"
_NONCE = 'Digest realm="tollgate", nonce="12c.s.00112233445566778899aabbccddeeff", algorithm=SHA-256, '
_PROOF = (
    _NONCE
    + f'username="204", uri="sip:1@192.0.2.1", response="{"0" * 64}", cnonce="c", qop=auth, nc=00000001'
)


def _request(method: str, extra: str = "", content: str = "") -> bytes:
    length = f"Content-Length: {len(content)}\r\n\r\n"
    return (f"{method} sip:1@192.0.2.1 SIP/2.0\r\n{_HEAD.format(method)}{extra}{length}{content}").encode()


_MESSAGES = (
    _request("OPTIONS"),
    _request("INVITE", "Contact: <sip:a@192.0.2.2>\r\nContent-Type: application/sdp\r\n", _SDP),
    _request("INVITE", "Require: 100rel\r\nRecord-Route: <sip:p;lr>, <sip:q;lr>\r\nSession-Expires: 90\r\n"),
    _request("REGISTER", f"Contact: *\r\nExpires: 0\r\nAuthorization: {_PROOF}\r\n"),
    _request("INFO", "Content-Type: application/dtmf-relay\r\n", "Signal=5\r\nDuration=160\r\n"),
    _request("SUBSCRIBE", "Event: dialog\r\nAccept: application/dialog-info+xml\r\n"),
    _request("ACK"),
    _request("CANCEL"),
    b"SIP/2.0 200 OK\r\n" + _HEAD.format("INVITE").encode() + b"l: 0\r\n\r\n",
)

TARGETS = {
    "message": Target(message, _MESSAGES),
    "stream": Target(stream, (*(one + _MESSAGES[0] for one in _MESSAGES), b"\r\n\r\n" + _MESSAGES[1])),
    "endpoint": Target(endpoint, _MESSAGES),
    "sdp": Target(
        sdp,
        (
            _SDP.encode(),
            _SDP.replace("RTP/AVP", "RTP/SAVP").encode() + _KEYS.encode(),
            (
                _SDP
                + "m=video 0 RTP/AVP 31\r\nm=audio 40002/2 RTP/AVP 9 111\r\na=rtpmap:111 opus/48000/2\r\n"
            ).encode(),
            b"v=0\no=- 1 1 IN IP6 ::1\nc=IN IP6 ::1\nm=image 4000 udptl t38\na=T38FaxVersion:0\n",
        ),
    ),
    "uri": Target(
        uri,
        (
            b"sip:a:b@[2001:db8::1]:5060;transport=tcp;lr?Subject=x%20y&To=%3Csip:z%3E",
            b"tel:+1-415-555-0123;phone-context=+1;isub=1",
            b'"A \\" B" <sips:+14155550123;ext=1@example.com;user=phone>;tag=1;expires=60',
            b"SIP / 2.0 / TLS [::1]:5061;branch=z9hG4bKx;received=192.0.2.9;rport=5062",
            b"urn:service:sos.police",
        ),
    ),
    "digest": Target(
        digest, (_PROOF.encode(), _NONCE.encode() + b'qop="auth,auth-int", stale=TRUE, opaque="o"')
    ),
    "info": Target(info, (b"Signal=5\r\nDuration=160\r\n", b"Signal: *\nDuration : 99", b"#", b"16")),
    "body": Target(
        body,
        (
            b"application/sdp\n" + _SDP.encode(),
            b'multipart/mixed;boundary="b"\n--b\r\nContent-Type: application/sdp\r\n\r\n'
            + _SDP.encode()
            + b"\r\n--b\r\nc: application/pidf+xml\r\nContent-ID: <x>\r\n\r\n<p/>\r\n--b--\r\n",
            (
                b"multipart/mixed;boundary=a\n--a\r\nContent-Type: multipart/alternative;boundary=b\r\n\r\n"
                b"--b\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--b--\r\n--a--\r\n"
            ),
        ),
    ),
}
"""The targets by name, which is their folder's in `REGRESSIONS`."""


def seeds(name: str) -> list[bytes]:
    """Return what fuzzing of a target begins with: its own seeds and the inputs that are kept."""
    folder = REGRESSIONS / name
    kept = [path.read_bytes() for path in sorted(folder.iterdir())] if folder.is_dir() else []
    return [*TARGETS[name].seeds, *kept]
