"""What a description says about audio: RFC 3264, 3551, 3605, 4733, 5761, 7587, 8866."""

from __future__ import annotations

import pytest

from proxy.errors import RemoteProtocolError
from proxy.sdp import (
    AudioDescription,
    Codec,
    Direction,
    carried_attributes,
    is_ip_address,
    parse_sdp,
    read_audio,
)
from proxy.sdp.values import EVENT_NAME


def describe(*lines: str, connection: str = "c=IN IP4 192.0.2.1") -> bytes:
    head = ["v=0", "o=- 1 1 IN IP4 192.0.2.1", "s=-", connection, "t=0 0"]
    return "".join(f"{line}\r\n" for line in [*head, *lines] if line).encode()


def read(*lines: str, connection: str = "c=IN IP4 192.0.2.1") -> AudioDescription:
    return read_audio(parse_sdp(describe(*lines, connection=connection)))


def refused(*lines: str, connection: str = "c=IN IP4 192.0.2.1") -> int:
    with pytest.raises(RemoteProtocolError) as caught:
        read(*lines, connection=connection)
    return caught.value.status_hint


PLAIN = "m=audio 4000 RTP/AVP 0"


def test_a_typical_offer() -> None:
    audio = read(
        "m=audio 49170 RTP/AVP 9 0 8 96 101 102",
        "a=rtpmap:9 G722/8000",
        "a=rtpmap:96 opus/48000/2",
        "a=fmtp:96 useinbandfec=1;stereo=0",
        "a=rtpmap:101 telephone-event/8000",
        "a=fmtp:101 0-16",
        "a=rtpmap:102 telephone-event/48000",
        "a=ptime:20",
        "a=maxptime:60",
        "a=sendrecv",
    )
    assert audio == AudioDescription(
        index=0,
        protocol="RTP/AVP",
        address="192.0.2.1",
        address_type="IP4",
        rtp_port=49170,
        rtcp_port=49171,
        rtcp_mux=False,
        codecs=(
            Codec("G722", 9, 8000),
            Codec("PCMU", 0, 8000),
            Codec("PCMA", 8, 8000),
            Codec("OPUS", 96, 48000, 2, "useinbandfec=1;stereo=0"),
        ),
        events=(Codec(EVENT_NAME, 101, 8000, 1, "0-16"), Codec(EVENT_NAME, 102, 48000)),
        ptime_ms=20,
        maxptime_ms=60,
        direction=Direction.SENDRECV,
        media_count=1,
    )


# Which stream


def test_the_first_audio_stream_over_plain_rtp_is_the_one() -> None:
    audio = read(
        "m=video 5000 RTP/AVP 31",
        "m=audio 0 RTP/AVP 0",
        "m=audio 5002 RTP/SAVP 0",
        "m=audio 5004 rtp/avpf 8",
        "m=audio 5006 RTP/AVP 0",
    )
    assert (audio.index, audio.rtp_port, audio.protocol, audio.media_count) == (3, 5004, "rtp/avpf", 5)


@pytest.mark.parametrize(
    "line",
    ["", "m=video 5000 RTP/AVP 31", "m=audio 0 RTP/AVP 0", "m=audio 5000 RTP/SAVP 0", "m=audio 5000 UDP 0"],
)
def test_rfc3261_21_4_26_no_audio_over_plain_rtp_gets_488(line: str) -> None:
    assert refused(line) == 488


# Addresses


@pytest.mark.parametrize(
    ("line", "address_type", "address"),
    [
        ("c=IN IP4 203.0.113.7", "IP4", "203.0.113.7"),
        ("c=IN IP6 2001:db8::7", "IP6", "2001:db8::7"),
        ("c=IN IP4 media.example.com", "IP4", "media.example.com"),
        ("c=IN IP6 media.example.com.", "IP6", "media.example.com."),
    ],
)
def test_rfc8866_5_7_addresses(line: str, address_type: str, address: str) -> None:
    audio = read(PLAIN, connection=line)
    assert (audio.address_type, audio.address) == (address_type, address)
    assert read(PLAIN, line) == audio  # the section's own line wins over the session's
    assert read(PLAIN, line, "c=IN IP4 192.0.2.99") == audio


@pytest.mark.parametrize(
    "line",
    [
        "",
        "c=",
        "c=IN IP4",
        "c=IN IP4 192.0.2.1 x",
        "c=TN IP4 192.0.2.1",
        "c=IN IP5 192.0.2.1",
        "c=IN IP4 192.0.2.256",
        "c=IN IP4 192.0.2",
        "c=IN IP4 2001:db8::1",
        "c=IN IP6 192.0.2.1",
        "c=IN IP6 fe80::1%eth0",
        "c=IN IP4 -",
        "c=IN IP4 a..b",
        "c=IN IP4 a_b",
        "c=IN IP4 " + "a" * 64,
        "c=IN IP4 " + "a." * 130 + "a",
        "c=IN IP4 " + "a." * 30_000 + "a",
        "c=IN IP4 exämple.com",
    ],
)
def test_rfc8866_5_7_impossible_addresses_get_400(line: str) -> None:
    assert refused(PLAIN, connection=line) == 400


@pytest.mark.parametrize(
    "line",
    [
        "c=IN IP4 224.2.36.42/127",
        "c=IN IP4 224.2.36.42",
        "c=IN IP4 192.0.2.1/127",
        "c=IN IP4 255.255.255.255",
        "c=IN IP6 ff15::101",
    ],
)
def test_rfc3264_5_2_multicast_gets_488(line: str) -> None:
    assert refused(PLAIN, connection=line) == 488


@pytest.mark.parametrize(
    ("text", "verdict"),
    [("192.0.2.1", True), ("2001:db8::1", True), ("fe80::1%1", False), ("a.example", False), ("", False)],
)
def test_addresses_are_told_from_names(text: str, verdict: bool) -> None:
    assert is_ip_address(text) is verdict


def test_rfc5118_4_9_an_ipv4_mapped_address_is_an_ipv4_address() -> None:
    audio = read(PLAIN, connection="c=IN IP6 ::ffff:192.0.2.2")
    assert (audio.address_type, audio.address) == ("IP4", "192.0.2.2")
    assert read(PLAIN, connection="c=IN IP6 ::ffff:0.0.0.0").direction is Direction.SENDONLY
    assert refused(PLAIN, connection="c=IN IP6 ::ffff:224.2.1.1") == 488


# Directions


@pytest.mark.parametrize("direction", list(Direction))
def test_rfc8866_6_7_direction(direction: Direction) -> None:
    assert read(PLAIN, f"a={direction.value}").direction is direction
    assert read(PLAIN, f"a={direction.value}  ").direction is direction


def test_rfc8866_6_7_sendrecv_is_the_default() -> None:
    assert read(PLAIN).direction is Direction.SENDRECV


def test_rfc8866_6_7_the_section_overrides_the_session() -> None:
    session = "c=IN IP4 192.0.2.1\r\na=inactive"
    assert read(PLAIN, connection=session).direction is Direction.INACTIVE
    assert read(PLAIN, "a=recvonly", connection=session).direction is Direction.RECVONLY


@pytest.mark.parametrize("line", ["c=IN IP4 0.0.0.0", "c=IN IP6 ::", "c=IN IP6 0:0:0:0:0:0:0:0"])
@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("sendrecv", Direction.SENDONLY),
        ("sendonly", Direction.SENDONLY),
        ("recvonly", Direction.INACTIVE),
        ("inactive", Direction.INACTIVE),
    ],
)
def test_rfc3264_8_4_the_null_address_is_a_hold(line: str, said: str, meant: Direction) -> None:
    assert read(PLAIN, f"a={said}", connection=line).direction is meant


@pytest.mark.parametrize(
    ("direction", "sends", "receives"),
    [
        (Direction.SENDRECV, True, True),
        (Direction.SENDONLY, True, False),
        (Direction.RECVONLY, False, True),
        (Direction.INACTIVE, False, False),
    ],
)
def test_rfc8866_6_7_halves_of_a_direction(direction: Direction, sends: bool, receives: bool) -> None:
    assert (direction.sends, direction.receives) == (sends, receives)
    assert Direction.of(sends=sends, receives=receives) is direction


@pytest.mark.parametrize(
    ("offered", "wanted", "answered"),
    [
        ("sendrecv", "sendrecv", "sendrecv"),
        ("sendrecv", "sendonly", "sendonly"),
        ("sendrecv", "recvonly", "recvonly"),
        ("sendrecv", "inactive", "inactive"),
        ("sendonly", "sendrecv", "recvonly"),
        ("sendonly", "sendonly", "inactive"),
        ("sendonly", "recvonly", "recvonly"),
        ("recvonly", "sendrecv", "sendonly"),
        ("recvonly", "recvonly", "inactive"),
        ("inactive", "sendrecv", "inactive"),
    ],
)
def test_rfc3264_6_1_direction_of_an_answer(offered: str, wanted: str, answered: str) -> None:
    assert Direction(offered).answered_by(Direction(wanted)) is Direction(answered)


# RTCP


@pytest.mark.parametrize(
    ("lines", "port", "mux"),
    [
        ([], 4001, False),
        (["a=rtcp:53020"], 53020, False),
        (["a=rtcp:53020 IN IP4 192.0.2.9"], 53020, False),
        (["a=rtcp:0"], 4001, False),
        (["a=rtcp:65536"], 4001, False),
        (["a=rtcp:x"], 4001, False),
        (["a=rtcp-mux"], 4000, True),
        (["a=rtcp:53020", "a=rtcp-mux"], 4000, True),
    ],
)
def test_rfc3605_rfc5761_rtcp_port(lines: list[str], port: int, mux: bool) -> None:
    audio = read(PLAIN, *lines)
    assert (audio.rtcp_port, audio.rtcp_mux) == (port, mux)


def test_the_highest_rtp_port_leaves_no_impossible_rtcp_port() -> None:
    assert read("m=audio 65535 RTP/AVP 0").rtcp_port == 65535


# Codecs


def test_rfc3551_6_static_payload_types_need_no_rtpmap() -> None:
    audio = read("m=audio 4000 RTP/AVP 18 9 8 0 3 13 96 34")
    assert [codec.name for codec in audio.codecs] == ["G729", "G722", "PCMA", "PCMU", "GSM"]
    assert read("m=audio 4000 RTP/AVP 18", "a=fmtp:18 annexb=no").codecs == (
        Codec("G729", 18, 8000, 1, "annexb=no"),
    )


def test_rfc8866_6_6_an_rtpmap_overrides_the_static_type() -> None:
    assert read(PLAIN, "a=rtpmap:0 PCMA/8000").codecs == (Codec("PCMA", 0, 8000),)


@pytest.mark.parametrize(
    "mapping", ["", "opus", "/8000", "x/0", "x/8000/0", "x/8000/1/1", "x/y", "x/1234567", "x/٣"]
)
def test_rfc8866_6_6_formats_without_a_valid_rtpmap_are_passed_over(mapping: str) -> None:
    audio = read("m=audio 4000 RTP/AVP 96 0", f"a=rtpmap:96 {mapping}", "a=rtpmap:97 x/8000")
    assert audio.codecs == (Codec("PCMU", 0, 8000),)


def test_rfc3551_6_impossible_payload_types_are_passed_over() -> None:
    audio = read("m=audio 4000 RTP/AVP x 128 1000 ٣ 8 8", "a=rtpmap:128 PCMU/8000")
    assert audio.codecs == (Codec("PCMA", 8, 8000),)


def test_a_format_of_endless_parameters_is_passed_over() -> None:
    fits = "x" * (1024 - len("96" + "opus/48000/2"))
    lines = ["m=audio 4000 RTP/AVP 96 0", "a=rtpmap:96 opus/48000/2"]
    assert read(*lines, f"a=fmtp:96 {fits}").codecs[0].fmtp == fits
    assert read(*lines, f"a=fmtp:96 {fits}x").codecs == (Codec("PCMU", 0, 8000),)
    assert read(f"m=audio 4000 RTP/AVP {'9' * 60_000} 0").codecs == (Codec("PCMU", 0, 8000),)


def test_repeated_attributes_of_a_format_count_once() -> None:
    audio = read(
        "m=audio 4000 RTP/AVP 96",
        "a=rtpmap: 96  speex/16000",
        "a=rtpmap:96 opus/48000/2",
        "a=fmtp:96 vbr=on",
        "a=fmtp:96 vbr=off",
    )
    assert audio.codecs == (Codec("SPEEX", 96, 16000, 1, "vbr=on"),)


def test_rfc4733_2_4_one_event_entry_per_clock_rate() -> None:
    audio = read(
        "m=audio 4000 RTP/AVP 0 101 102 103",
        "a=rtpmap:101 Telephone-Event/8000",
        "a=rtpmap:102 telephone-event/8000",
        "a=rtpmap:103 telephone-event/16000",
    )
    assert [event.payload_type for event in audio.events] == [101, 103]
    assert audio.event(8000) == Codec(EVENT_NAME, 101, 8000)
    assert audio.event(48000) is None
    assert all(event.is_event for event in audio.events)
    assert not audio.codecs[0].is_event


@pytest.mark.parametrize(("text", "milliseconds"), [("20", 20), (" 30 ", 30), ("20.0", 20), ("1000", 1000)])
def test_rfc8866_6_4_packet_times(text: str, milliseconds: int) -> None:
    audio = read(PLAIN, f"a=ptime:{text}", f"a=maxptime:{text}")
    assert (audio.ptime_ms, audio.maxptime_ms) == (milliseconds, milliseconds)


@pytest.mark.parametrize("text", ["0", "1001", "99999", "", "x", "-20", "٣"])
def test_rfc8866_6_4_senseless_packet_times_say_nothing(text: str) -> None:
    audio = read(PLAIN, f"a=ptime:{text}", f"a=maxptime:{text}")
    assert (audio.ptime_ms, audio.maxptime_ms) == (None, None)


# Attributes for the other leg


def test_what_belongs_to_one_leg_is_not_carried() -> None:
    own = ["rtpmap:0 PCMU/8000", "fmtp:0 x", "ptime:20", "maxptime:60", "sendrecv", "rtcp:9", "rtcp-mux"]
    own += ["candidate:1", "crypto:1", "ice-ufrag:x", "fingerprint:sha-256 AA", "setup:active", "mid:0"]
    own += ["ssrc:1 cname:x", "extmap:1 urn:x", "rtcp-fb:* nack"]
    lines = [f"a={attribute}" for attribute in own]
    sdp = parse_sdp(describe(PLAIN, "i=title", *lines, "a=lang:es", "a=X-vendor", "b=AS:80"))
    assert carried_attributes(sdp, read_audio(sdp)) == ("a=lang:es", "a=X-vendor")


def test_carried_attributes_are_limited() -> None:
    long = "a=X-" + "y" * 252
    sdp = parse_sdp(describe(PLAIN, long, long + "y", *[f"a=X-{number}" for number in range(100)]))
    carried = carried_attributes(sdp, read_audio(sdp))
    assert carried == (long, *[f"a=X-{number}" for number in range(31)])
