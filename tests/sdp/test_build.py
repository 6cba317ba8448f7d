"""The gate's own offers and answers, and their versions (RFC 3264 §5, §6, §8)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.sdp import (
    CONTENT_TYPE,
    GATE_CODECS,
    ChosenAudio,
    Codec,
    Direction,
    LocalDescription,
    LocalEnd,
    accept_answer,
    build_answer,
    build_offer,
    choose_codec,
    gate_codecs,
    parse_sdp,
    read_audio,
    relayed_codecs,
)
from tests.sdp.test_audio import describe

LOCAL = LocalEnd("198.51.100.1", 10000, 10001)
PHONE = [
    "m=audio 4000 RTP/AVP 9 0 8 101",
    "a=rtpmap:101 telephone-event/8000",
    "a=fmtp:101 0-16",
    "a=ptime:20",
]


def answer(
    *lines: str,
    local: LocalEnd = LOCAL,
    session_id: int = 77,
    direction: Direction = Direction.SENDRECV,
    previous: LocalDescription | None = None,
    head: bytes = b"",
) -> LocalDescription:
    offer = parse_sdp(head or describe(*lines))
    offered = read_audio(offer)
    chosen = choose_codec(offered, GATE_CODECS, ("PCMU", "OPUS"))
    assert chosen is not None
    return build_answer(offer, offered, chosen, local, session_id, direction=direction, previous=previous)


def test_rfc3264_6_an_answer_in_full() -> None:
    assert answer(*PHONE).data == (
        b"v=0\r\n"
        b"o=- 77 1 IN IP4 198.51.100.1\r\n"
        b"s=-\r\n"
        b"c=IN IP4 198.51.100.1\r\n"
        b"t=0 0\r\n"
        b"m=audio 10000 RTP/AVP 0 101\r\n"
        b"a=rtpmap:0 PCMU/8000\r\n"
        b"a=rtpmap:101 telephone-event/8000\r\n"
        b"a=fmtp:101 0-15\r\n"
        b"a=ptime:20\r\n"
        b"a=sendrecv\r\n"
    )
    assert CONTENT_TYPE == "application/sdp"


def test_rfc3264_6_every_section_is_answered_in_order() -> None:
    described = answer(
        "a=group:BUNDLE 0 1",
        "m=video 5000 RTP/AVP 31 32",
        "m=audio 0 RTP/AVP 0",
        *PHONE,
        "a=mid:1",
        "m=image 5002 udptl t38",
        "m=audio 5004 RTP/SAVP 0",
    )
    lines = described.data.decode().split("\r\n")
    assert [line for line in lines if line.startswith("m=")] == [
        "m=video 0 RTP/AVP 31 32",
        "m=audio 0 RTP/AVP 0",
        "m=audio 10000 RTP/AVP 0 101",
        "m=image 0 udptl t38",
        "m=audio 0 RTP/SAVP 0",
    ]
    assert described.audio_index == 2
    # RFC 5888 §9.1: an answerer that does not group leaves group and mid out
    assert not [line for line in lines if line.startswith(("a=group", "a=mid"))]


def test_rfc3264_6_the_time_line_is_the_offers() -> None:
    head = describe(*PHONE)
    assert (
        b"\r\nt=3034423619 3042462419\r\n" in answer(head=head.replace(b"0 0", b"3034423619 3042462419")).data
    )
    assert b"\r\nt=0 0\r\n" in answer(head=head.replace(b"t=0 0\r\n", b"")).data


def test_rfc3264_6_1_payload_types_and_profile_are_the_offerers() -> None:
    described = answer(
        "m=audio 4000 RTP/AVPF 111 110",
        "a=rtpmap:111 opus/48000/2",
        "a=fmtp:111 stereo=1",
        "a=rtpmap:110 telephone-event/48000",
    )
    media = parse_sdp(described.data).media[0]
    assert media.media_line == "m=audio 10000 RTP/AVPF 111 110"
    assert media.attributes("rtpmap") == ["111 opus/48000/2", "110 telephone-event/48000"]
    assert media.attributes("fmtp") == ["110 0-15"]  # RFC 7587 §7.1: stereo was the offerer's own wish


def test_parameters_other_than_opus_must_match() -> None:
    offer = parse_sdp(describe("m=audio 4000 RTP/AVP 18", "a=fmtp:18 annexb=no"))
    offered = read_audio(offer)
    chosen = choose_codec(offered, ("G729",), ("G729",))
    assert chosen is not None
    described = build_answer(offer, offered, chosen, LOCAL, 1)
    assert parse_sdp(described.data).media[0].attributes("fmtp") == ["18 annexb=no"]


@pytest.mark.parametrize(
    ("offered", "wanted", "answered"),
    [
        ("sendrecv", Direction.SENDRECV, "sendrecv"),
        ("sendonly", Direction.SENDRECV, "recvonly"),
        ("recvonly", Direction.SENDRECV, "sendonly"),
        ("inactive", Direction.SENDRECV, "inactive"),
        ("sendrecv", Direction.SENDONLY, "sendonly"),
    ],
)
def test_rfc3264_6_1_hold_and_resume(offered: str, wanted: Direction, answered: str) -> None:
    described = answer(*PHONE, f"a={offered}", direction=wanted)
    assert described.data.endswith(f"a={answered}\r\n".encode())


def test_rfc3264_6_1_the_packet_time_is_mirrored() -> None:
    assert b"\r\na=ptime:30\r\n" in answer("m=audio 4000 RTP/AVP 0", "a=ptime:30").data


def test_rfc5761_5_1_1_rtcp_mux_is_answered_only_when_offered() -> None:
    assert b"a=rtcp-mux\r\n" in answer(*PHONE, "a=rtcp-mux").data
    assert b"rtcp" not in answer(*PHONE).data


def test_rfc3605_2_1_an_rtcp_port_elsewhere_is_told() -> None:
    assert b"a=rtcp:20000\r\n" in answer(*PHONE, local=LocalEnd("198.51.100.1", 10000, 20000)).data


def test_rfc8866_5_7_ipv6() -> None:
    described = answer(*PHONE, local=LocalEnd("2001:db8::1", 10000, 10001))
    assert b"o=- 77 1 IN IP6 2001:db8::1\r\n" in described.data
    assert read_audio(parse_sdp(described.data)).address_type == "IP6"


# Versions


def test_rfc3264_8_an_unchanged_answer_is_the_same_value() -> None:
    first = answer(*PHONE)
    assert answer(*PHONE, previous=first, session_id=99) is first


def test_rfc3264_8_a_changed_answer_counts_up_by_one_and_keeps_its_session_id() -> None:
    first = answer(*PHONE)
    held = answer(*PHONE, "a=sendonly", previous=first, session_id=99)
    resumed = answer(*PHONE, previous=held)
    assert [(d.session_id, d.version) for d in (first, held, resumed)] == [(77, 1), (77, 2), (77, 3)]
    assert b"o=- 77 2 IN IP4 198.51.100.1\r\n" in held.data
    assert parse_sdp(first.data).media == parse_sdp(resumed.data).media


def test_rfc3264_8_a_later_offer_keeps_every_section() -> None:
    lines = ["m=video 5000 RTP/AVP 31", *PHONE]
    first = answer(*lines)
    offered = read_audio(parse_sdp(describe(*lines)))
    chosen = choose_codec(offered, GATE_CODECS, ("PCMU",))
    assert chosen is not None
    assert chosen.event is not None
    spoken = (chosen.codec, Codec(chosen.event.name, 101, 8000, 1, "0-15"))
    again = build_offer(spoken, LOCAL, 5, previous=first)
    assert again is first  # the same sections, formats and ports: the same bytes
    held = build_offer(spoken, LOCAL, 5, direction=Direction.SENDONLY, previous=first)
    assert (held.session_id, held.version, held.audio_index) == (77, 2, 1)
    assert [media.port for media in parse_sdp(held.data).media] == [0, 10000]


# Offers


def test_rfc3264_5_an_offer_of_several_codecs_in_full() -> None:
    described = build_offer(gate_codecs(("PCMU", "OPUS")), LOCAL, 5, ptime_ms=30, rtcp_mux=True)
    assert described.data == (
        b"v=0\r\n"
        b"o=- 5 1 IN IP4 198.51.100.1\r\n"
        b"s=-\r\n"
        b"c=IN IP4 198.51.100.1\r\n"
        b"t=0 0\r\n"
        b"m=audio 10000 RTP/AVP 0 96 101 102\r\n"
        b"a=rtpmap:0 PCMU/8000\r\n"
        b"a=rtpmap:96 opus/48000/2\r\n"
        b"a=rtpmap:101 telephone-event/8000\r\n"
        b"a=fmtp:101 0-15\r\n"
        b"a=rtpmap:102 telephone-event/48000\r\n"
        b"a=fmtp:102 0-15\r\n"
        b"a=ptime:30\r\n"
        b"a=sendrecv\r\n"
        b"a=rtcp-mux\r\n"
    )
    assert described.audio_index == 0


def test_an_offer_carries_what_describes_the_stream() -> None:
    chosen = ChosenAudio(Codec("PCMU", 0, 8000), None, 20)
    described = build_offer(
        relayed_codecs(chosen, events=False), LOCAL, 5, attributes=("a=lang:es", "a=X-vendor:1")
    )
    assert described.data.endswith(b"a=ptime:20\r\na=sendrecv\r\na=lang:es\r\na=X-vendor:1\r\n")


@given(
    st.lists(st.sampled_from(GATE_CODECS), min_size=1, max_size=4, unique=True),
    st.sets(st.sampled_from(GATE_CODECS), min_size=1),
    st.lists(st.sampled_from(GATE_CODECS), unique=True),
    st.sampled_from(list(Direction)),
    st.booleans(),
)
def test_rfc3264_two_gates_agree_on_one_codec_or_none(
    offered: list[str], taken: set[str], order: list[str], direction: Direction, mux: bool
) -> None:
    codecs = gate_codecs(offered)
    offer = build_offer(codecs, LOCAL, 1, direction=direction, rtcp_mux=mux)
    sdp = parse_sdp(offer.data)
    audio = read_audio(sdp)
    chosen = choose_codec(audio, GATE_CODECS, taken, order)
    assert (chosen is None) is taken.isdisjoint(offered)
    if chosen is None:
        return
    remote = LocalEnd("2001:db8::2", 20000, 20001)
    answered = build_answer(sdp, audio, chosen, remote, 2)
    negotiated = accept_answer(codecs, parse_sdp(answered.data), audio_index=offer.audio_index)
    assert negotiated.chosen.codec == Codec(
        chosen.codec.name, chosen.codec.payload_type, chosen.codec.clock_rate, chosen.codec.channels
    )
    assert negotiated.chosen.event == chosen.event
    assert (negotiated.remote.address, negotiated.remote.rtp_port) == ("2001:db8::2", 20000)
    assert negotiated.remote.rtcp_mux is mux
    assert negotiated.remote.direction.sends is direction.receives
    assert negotiated.remote.direction.receives is direction.sends
