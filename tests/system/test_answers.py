"""What the gate answers to what it can't take, and to requests that overlap, by the bytes on the wire.

The same is asked of the cores on the virtual clock (`tests/sip`, `tests/call`); here it has gone through the
sockets, and whoever asked is a UDP socket that knows nothing of SIP.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from proxy.cdr.record import CallRecord, Disposition, HungUpBy
from tests.system.gate import CARRIER_ADDRESSES, PBX_ADDRESS, STRANGER_ADDRESS, Gate, running_gate
from tests.system.wire import Dialog, Wire, uri_of

TOLL_FREE = "8005550123"
"""Needs no code."""
OPUS_ALONE = "96 101\r\na=rtpmap:96 opus/48000/2\r\na=rtpmap:101 telephone-event/48000"
VIAS = (
    'SIP/2.0/UDP {here};branch={branch};Odd="a,b;c"',
    'SIP / 2.0 / TCP  far.example.com:5070 ; branch=z9hG4bKfar ; x="q\\"q", SIP/2.0/UDP [2001:db8::9]',
)
"""No rport, so that nothing has to be added."""


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """A gate whose trunks take G.711 alone."""
    with pytest.MonkeyPatch.context() as patch:
        for number in (0, 1):
            patch.setenv(f"TOLLGATE_TRUNKS__{number}__CODECS", '["PCMU", "PCMA"]')
        with running_gate(tmp_path_factory.mktemp("gate")) as running:
            yield running
            assert "faults: 0" in running.wait_until_idle()


@pytest.fixture
def pbx(gate: Gate) -> Iterator[Wire]:
    """The PBX, trusted by its address."""
    with Wire(PBX_ADDRESS, gate.port) as wire:
        yield wire


@pytest.fixture
def carrier(gate: Gate) -> Iterator[Wire]:
    """The first trunk's other end."""
    with Wire(CARRIER_ADDRESSES[0], gate.port, port=gate.carrier_ports[0]) as wire:
        yield wire


def record_of(gate: Gate, call: Dialog) -> CallRecord:
    """Wait for the record of a call."""
    known = {record.record_id for record in gate.records() if record.a_call_id != call.call_id}
    return gate.wait_for_record(known)


def talking(pbx: Wire, carrier: Wire) -> tuple[Dialog, Dialog]:
    """Return both sides of a call that is up."""
    call = pbx.call(TOLL_FREE)
    callee = carrier.called()
    callee.answer()
    call.response(200)
    return call, callee


@pytest.mark.parametrize(
    ("status", "changes", "body", "said"),
    [
        pytest.param(483, ("Max-Forwards: 0",), None, "", id="16_3_no_hop_is_left"),
        pytest.param(
            420, ("Require: 100rel, far-out",), None, "Unsupported: far-out", id="8_2_2_3_extension"
        ),
        pytest.param(415, ("Content-Type: text/plain",), "Hello", "Accept: application/sdp", id="8_2_3_type"),
        pytest.param(
            415, ("Content-Encoding: gzip",), None, "Accept-Encoding: identity", id="8_2_3_encoding"
        ),
        pytest.param(488, (), OPUS_ALONE, "", id="13_3_1_3_no_codec_that_a_trunk_takes"),
    ],
)
def test_rfc3261_an_invite_that_can_not_be_taken_has_its_answer_and_its_record(  # noqa: PLR0917
    gate: Gate, pbx: Wire, status: int, changes: tuple[str, ...], body: str | None, said: str
) -> None:
    call = pbx.dialog(TOLL_FREE)
    if body is None or body == OPUS_ALONE:
        body = call.description(media=body or "")
    call.request("INVITE", *changes, body=body)
    assert said in call.response(status).text
    record = record_of(gate, call)
    assert record.sip_code == status
    wanted = Disposition.NOT_ACCEPTABLE if status in {415, 488} else Disposition.REJECTED
    assert (record.disposition, record.hung_up_by) == (wanted, HungUpBy.GATE)
    assert not record.trunks


@pytest.mark.parametrize(
    ("method", "status", "changes", "said"),
    [
        pytest.param("PUBLISH", 405, (), "Allow: INVITE, ", id="8_2_1_known_method"),
        pytest.param("FETCH", 501, (), "Allow: INVITE, ", id="21_5_2_unknown_method"),
        pytest.param("OPTIONS", 416, ("gopher:far.example.com",), "", id="8_2_2_1_scheme"),
        pytest.param("OPTIONS", 400, ("sip:x@127.0.0.1?Subject=x",), "", id="19_1_1_headers_in_the_uri"),
        pytest.param("OPTIONS", 420, ("Require: far-out",), "Unsupported: far-out", id="8_2_2_3_extension"),
        pytest.param("OPTIONS", 200, ("Max-Forwards: 0",), "Allow: INVITE, ", id="11_no_hop_is_needed"),
        *(
            pytest.param(method, 481, ("To: <sip:x@127.0.0.1>;tag=none",), "", id=f"12_2_2_{method}")
            for method in ("INVITE", "BYE", "UPDATE", "INFO", "PRACK")
        ),
        pytest.param("BYE", 481, (), "", id="15_1_2_bye_without_a_dialog"),
        pytest.param("CANCEL", 481, (), "", id="9_2_cancel_of_nothing"),
    ],
)
def test_rfc3261_8_2_6_2_an_answer_echoes_every_via_verbatim(
    pbx: Wire, method: str, status: int, changes: tuple[str, ...], said: str
) -> None:
    call = pbx.dialog(TOLL_FREE)
    here = f"{pbx.address}:{pbx.port}"
    vias = [via.format(here=here, branch=f"z9hG4bK{call.call_id}") for via in VIAS]
    call.request(method, *changes, "\r\n".join(f"Via: {via}" for via in vias))
    answer = pbx.receive(f"SIP/2.0 {status}", f"Call-ID: {call.call_id}")
    assert answer.all("Via") == vias
    assert (answer["From"], answer["CSeq"]) == (call.local, f"{call.cseq} {method}")
    assert ";tag=" in answer["To"]
    assert said in answer.text


def test_rfc3581_4_the_answer_comes_back_the_way_and_says_which(pbx: Wire) -> None:
    call = pbx.dialog(TOLL_FREE)
    call.request("OPTIONS", "Via: SIP/2.0/UDP 192.0.2.77:9;branch=z9hG4bKaway;rport;x=y")
    sent_by, *params = call.response(200, "OPTIONS")["Via"].split(";")
    assert sent_by == "SIP/2.0/UDP 192.0.2.77:9"
    wanted = {"branch=z9hG4bKaway", "x=y", f"rport={pbx.port}", f"received={pbx.address}"}
    assert set(params) == wanted
    assert len(params) == len(wanted)


def test_rfc3261_26_3_2_4_a_stranger_is_told_nothing_but_401(gate: Gate) -> None:
    with Wire(STRANGER_ADDRESS, gate.port) as stranger:
        for change in ("Max-Forwards: 70", "Require: far-out", "Content-Type: text/plain"):
            call = stranger.call(TOLL_FREE, change)
            answer = call.response(401)
            assert "Tollgate" not in answer.text.replace('realm="tollgate"', "")


def test_rfc3261_8_2_2_2_a_merged_request_gets_482_and_the_call_goes_on(
    gate: Gate, pbx: Wire, carrier: Wire
) -> None:
    call = pbx.dialog(TOLL_FREE)
    offer = call.description()
    call.request("INVITE", body=offer)
    callee = carrier.called()
    second = call.request("INVITE", body=offer, number=call.cseq)
    merged = pbx.receive("SIP/2.0 482", second)
    assert ";tag=" in merged["To"]
    # A CANCEL by the second way does not end what came by the first.
    call.request("CANCEL", f"Via: {merged['Via']}", number=call.cseq)
    pbx.receive("SIP/2.0 481", f"CSeq: {call.cseq} CANCEL")
    callee.answer()
    call.response(200)
    call.hang_up()
    callee.hung_up()
    assert record_of(gate, call).disposition is Disposition.ANSWERED


def test_rfc3261_9_2_a_cancel_that_comes_too_late_ends_nothing(gate: Gate, pbx: Wire, carrier: Wire) -> None:
    call = pbx.call(TOLL_FREE)
    invite = call.via
    callee = carrier.called()
    callee.answer()
    unanswered = call.remote
    call.response(200)
    call.request("CANCEL", invite, f"To: {unanswered}", number=call.cseq)
    call.response(200, "CANCEL")
    call.hang_up()
    callee.hung_up()
    record = record_of(gate, call)
    assert (record.disposition, record.hung_up_by) == (Disposition.ANSWERED, HungUpBy.A_LEG)


def test_rfc3261_14_2_a_second_invite_before_the_first_is_answered(
    gate: Gate, pbx: Wire, carrier: Wire
) -> None:
    call = pbx.call(TOLL_FREE)
    first = call.cseq
    callee = carrier.called()
    callee.ring()
    ringing = call.response(180)
    call.request("INVITE", f"To: {ringing['To']}", body=call.description())
    assert 0 <= int(call.response(500)["Retry-After"]) <= 10
    callee.answer()
    call.response(200, number=first)
    call.hang_up()
    callee.hung_up()
    assert record_of(gate, call).disposition is Disposition.ANSWERED


def test_rfc3261_14_2_overlapping_invites(gate: Gate, pbx: Wire, carrier: Wire) -> None:
    call, callee = talking(pbx, carrier)
    # §14.2: a second INVITE before the first is answered.
    call.request("INVITE", body=call.description("sendonly"))
    held = callee.asked("INVITE")
    assert "a=sendonly" in held.body
    call.request("INVITE", body=call.description())
    early = call.response(500)
    assert 0 <= int(early["Retry-After"]) <= 10
    callee.respond(held, 200, body=callee.description("recvonly"))
    callee.asked("ACK")
    assert "a=recvonly" in call.response(200, number=call.cseq - 1).body
    # §14.2: an INVITE while the gate's own is under way, in either direction.
    callee.request("INVITE", body=callee.description("sendonly"))
    wish = call.asked("INVITE")
    call.request("INVITE", body=call.description())
    call.response(491)
    call.respond(wish, 491)
    call.asked("ACK")
    callee.response(491)
    # §12.2.2: a CSeq that is not higher than the last one.
    call.request("INFO", number=2)
    call.response(500, "INFO", 2)
    # Nothing of this has changed the call.
    call.hang_up()
    callee.hung_up()
    record = record_of(gate, call)
    assert (record.disposition, record.hung_up_by) == (Disposition.ANSWERED, HungUpBy.A_LEG)
    # §15.1.2, §12.2.2: the dialog is no more.
    call.request("BYE")
    call.response(481, "BYE")


def test_rfc3261_16_3_1_what_can_not_be_read_does_no_harm(gate: Gate, pbx: Wire, carrier: Wire) -> None:
    call, callee = talking(pbx, carrier)
    here = f"{pbx.address}:{pbx.port}"
    bye = (
        f"BYE {call.target} SIP/2.0\r\nVia: SIP/2.0/UDP {here};branch=z9hG4bKhalf\r\nFrom: {call.local}\r\n"
        f"To: {call.remote}\r\nCall-ID: {call.call_id}\r\nCSeq: 99 BYE\r\n"
    )
    for junk in (
        b"",
        b"\r\n\r\n",
        bytes(range(256)) * 40,
        b"\xff" * 65_000,
        bye.encode(),  # breaks off within the head
        bye.replace("CSeq: 99 BYE", "CSeq: 99 INVITE").encode() + b"\r\n",
        bye.replace("BYE sip:", "BYE \x00sip:").encode() + b"\r\n",
        bye.encode() + b"Content-Length: -1\r\n\r\n",
        bye.encode() + b"Content-Length: 500\r\n\r\nshort",
    ):
        pbx.throw(junk)
        carrier.throw(junk)
    call.request("INVITE", body=call.description("sendonly"))
    held = callee.asked("INVITE")
    callee.respond(held, 200, body=callee.description("recvonly"))
    callee.asked("ACK")
    call.response(200)
    call.hang_up()
    callee.hung_up()
    assert record_of(gate, call).hung_up_by is HungUpBy.A_LEG


def test_rfc3261_17_what_comes_again_is_answered_again_and_what_nobody_answers_is_said_again(
    gate: Gate, pbx: Wire, carrier: Wire
) -> None:
    call = pbx.dialog(TOLL_FREE)
    call.cseq, here, offer = 1, f"{pbx.address}:{pbx.port}", call.description()
    # §7.5, §7.3.1: line ends before it, compact forms, folded lines; §8.1.1: no Max-Forwards (RFC 2543).
    invite = (
        f"\r\n\r\nINVITE {call.target} SIP/2.0\r\nv: SIP/2.0/UDP {here};branch=z9hG4bK{call.call_id}\r\n"
        f"f: {call.local}\r\nt: {call.remote}\r\ni: {call.call_id}\r\nCSeq: 1\r\n\tINVITE\r\n"
        f"m: <sip:{here}>\r\nc:\r\n application/sdp\r\nl : {len(offer)}\r\n\r\n{offer}"
    ).encode()
    pbx.throw(invite)
    callee = carrier.called()
    sent = callee.invite
    assert sent is not None
    # §8.1.1
    assert all(sent[name] for name in ("Via", "From", "To", "Call-ID", "CSeq", "Max-Forwards", "Contact"))
    # §17.1.1.2: Timer A
    assert callee.asked("INVITE") == sent
    callee.ring()
    call.response(180)
    # §17.2.1: the latest provisional response
    pbx.throw(invite)
    call.response(180)
    # §8.1.3.3
    to, callee.local = callee.local, f"{callee.local}-forged"
    callee.respond(sent, 200, "Via: SIP/2.0/UDP far.example.com;branch=z9hG4bKx", body=callee.description())
    callee.local = to
    # §13.2.2.4, RFC 6026 §7.2: a 2xx that comes again gets its ACK again.
    answer = callee.description()
    for _ in range(2):
        callee.respond(sent, 200, body=answer)
        assert callee.asked("ACK")["To"] == to
    # §13.3.1.4: until the ACK
    accepted = [pbx.receive("SIP/2.0 200", f"Call-ID: {call.call_id}") for _ in range(2)]
    assert accepted[0] == accepted[1]
    call.remote, call.target = accepted[0]["To"], uri_of(accepted[0]["Contact"])
    call.request("ACK", number=1)
    call.hang_up()
    # §17.1.2.2: Timer E
    byes = [callee.asked("BYE") for _ in range(2)]
    assert byes[0] == byes[1]
    callee.respond(byes[0], 200)
    record = record_of(gate, call)
    assert (record.disposition, record.hung_up_by) == (Disposition.ANSWERED, HungUpBy.A_LEG)


def test_rfc3261_17_2_2_a_repeated_bye_gets_the_same_answer(gate: Gate, pbx: Wire, carrier: Wire) -> None:
    call, callee = talking(pbx, carrier)
    branch = call.request("BYE")
    answer = call.response(200, "BYE")
    call.request("BYE", f"Via: SIP/2.0/UDP {pbx.address}:{pbx.port};branch={branch}", number=call.cseq)
    assert call.response(200, "BYE") == answer
    callee.hung_up()
    assert record_of(gate, call).hung_up_by is HungUpBy.A_LEG
