"""RFC 8866: from bytes to a description and back, limits included."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import RemoteProtocolError
from proxy.sdp import Origin, parse_sdp, read_audio
from proxy.sdp.parser import MAX_LINES, MAX_MEDIA, MAX_SIZE

HEAD = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"

RFC8866_5_EXAMPLE = (
    "v=0\r\n"
    "o=- 3724394400 3724394405 IN IP4 198.51.100.1\r\n"
    "s=Call to 204\r\n"
    "i=SDP Offer #1\r\n"
    "u=http://www.example.com/home.html\r\n"
    "e=204 <204@example.com>\r\n"
    "p=+1 617 555-6011\r\n"
    "c=IN IP4 198.51.100.1\r\n"
    "b=X-YZ:128\r\n"
    "t=0 0\r\n"
    "z=2882844526 -1h 2898848070 0\r\n"
    "k=clear:x\r\n"
    "q=an unknown type letter\r\n"
    "a=X-session:kept\r\n"
    "m=audio 49170 RTP/AVP 0\r\n"
    "m=audio 49180 RTP/AVP 0\r\n"
    "i=title\r\n"
    "m=video 51372/2 RTP/AVP 99\r\n"
    "c=IN IP6 2001:db8::2\r\n"
    "b=AS:512\r\n"
    "a=rtpmap:99 h263-1998/90000\r\n"
    "a=X-anything\r\n"
)


def refused(text: str | bytes) -> int:
    data = text.encode() if isinstance(text, str) else text
    with pytest.raises(RemoteProtocolError) as caught:
        parse_sdp(data)
    return caught.value.status_hint


def test_rfc8866_5_every_line_is_carried_in_order() -> None:
    data = RFC8866_5_EXAMPLE.encode()
    assert parse_sdp(data).to_bytes() == data


def test_rfc8866_5_2_origin() -> None:
    origin = parse_sdp(RFC8866_5_EXAMPLE.encode()).origin
    assert origin == Origin("-", "3724394400", "3724394405", "IN", "IP4", "198.51.100.1")


def test_rfc8866_5_14_media_line() -> None:
    first, second, video = parse_sdp(RFC8866_5_EXAMPLE.encode()).media
    assert (first.kind, first.port, first.port_count, first.protocol) == ("audio", 49170, 1, "RTP/AVP")
    assert second.lines == ("i=title",)
    assert (video.kind, video.port, video.port_count, video.formats) == ("video", 51372, 2, ("99",))


def test_rfc8866_5_13_attributes_by_name() -> None:
    sdp = parse_sdp(RFC8866_5_EXAMPLE.encode())
    assert sdp.attributes("X-session") == ["kept"]
    assert sdp.media[2].attributes("rtpmap") == ["99 h263-1998/90000"]
    assert sdp.media[2].attributes("X-anything") == [""]
    assert sdp.media[2].attributes("X-any") == []


def test_rfc8866_5_lf_alone_ends_a_line_and_is_printed_as_crlf() -> None:
    data = (HEAD + "m=audio 4000 RTP/AVP 0\r\n").encode()
    assert parse_sdp(data.replace(b"\r\n", b"\n")).to_bytes() == data
    assert parse_sdp(data.removesuffix(b"\r\n")).to_bytes() == data
    assert parse_sdp(data + b"\r\n\r\n").to_bytes() == data


@pytest.mark.parametrize("name", ["Café".encode(), "Café".encode("latin-1"), b"\xff\xfe"])
def test_rfc8866_9_text_in_any_character_set_is_carried(name: bytes) -> None:
    data = HEAD.encode().replace(b"s=-", b"s=" + name) + b"m=audio 4000 RTP/AVP 0\r\n"
    assert parse_sdp(data).to_bytes() == data


def test_a_session_without_media_is_a_description() -> None:
    assert parse_sdp(HEAD.encode()).media == ()


def test_missing_session_name_and_time_are_tolerated() -> None:
    sdp = parse_sdp(b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\nm=audio 4 RTP/AVP 0\r\nc=IN IP4 192.0.2.1\r\n")
    assert sdp.media[0].port == 4


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\r\n",
        "hello",
        "v=1\r\n",
        " v=0\r\n",
        "o=- 1 1 IN IP4 192.0.2.1\r\nv=0\r\n",
        "v=0\r\ns=-\r\nm=audio 4000 RTP/AVP 0\r\n",
        "v=0\r\no=- 1 1 IN IP4\r\ns=-\r\n",
        "v=0\r\no= 1 1 IN IP4 192.0.2.1\r\ns=-\r\n",
        "v=0\r\nm=audio 4000 RTP/AVP 0\r\no=- 1 1 IN IP4 192.0.2.1\r\n",
        HEAD + "a\r\n",
        HEAD + "\r\nm=audio 4000 RTP/AVP 0\r\n",
        HEAD + "a =x\r\n",
        HEAD + "1=x\r\n",
        HEAD + "==x\r\n",
        HEAD + " a=folded\r\n",
        HEAD + "a=bare\rcr\r\n",
        HEAD + "a=nul\0\r\n",
        HEAD + "m=audio\r\n",
        HEAD + "m=audio 4000 RTP/AVP\r\n",
        HEAD + "m=audio x RTP/AVP 0\r\n",
        HEAD + "m=audio -1 RTP/AVP 0\r\n",
        HEAD + "m=audio 65536 RTP/AVP 0\r\n",
        HEAD + "m=audio 4000/ RTP/AVP 0\r\n",
        HEAD + "m=audio 4000/x RTP/AVP 0\r\n",
        HEAD + "m=audio ٣ RTP/AVP 0\r\n",
        HEAD + "m=audio " + "9" * 5000 + " RTP/AVP 0\r\n",
    ],
)
def test_rfc8866_malformed_descriptions_get_400(text: str) -> None:
    assert refused(text) == 400


def test_size_is_limited() -> None:
    padding = HEAD + "a=x:"
    whole = (padding + "y" * (MAX_SIZE - len(padding))).encode()
    assert len(parse_sdp(whole).lines) == 6
    assert refused(whole + b"y") == 488


def test_lines_are_limited() -> None:
    most = HEAD + "a=x\r\n" * (MAX_LINES - 5)
    assert len(parse_sdp(most.encode()).lines) == MAX_LINES
    assert refused(most + "a=x\r\n") == 488


def test_media_sections_are_limited() -> None:
    most = HEAD + "m=audio 4000 RTP/AVP 0\r\n" * MAX_MEDIA
    assert len(parse_sdp(most.encode()).media) == MAX_MEDIA
    assert refused(most + "m=audio 4000 RTP/AVP 0\r\n") == 488


LINE_VALUE = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=30)
SESSION_LINE = st.tuples(st.sampled_from("scbtaizkqe"), LINE_VALUE).map("=".join)
MEDIA_LINE = st.builds(
    "m={} {} {} {}".format,
    st.sampled_from(["audio", "video", "image", "x-other"]),
    st.integers(0, 65_535),
    st.sampled_from(["RTP/AVP", "RTP/SAVP", "udptl"]),
    st.lists(st.integers(0, 127).map(str), min_size=1, max_size=5).map(" ".join),
)


@given(
    st.lists(SESSION_LINE, max_size=8), st.lists(st.tuples(MEDIA_LINE, st.lists(SESSION_LINE, max_size=5)))
)
def test_rfc8866_what_is_parsed_prints_the_same(
    session: list[str], media: list[tuple[str, list[str]]]
) -> None:
    lines = ["v=0", "o=- 1 1 IN IP4 192.0.2.1", *session]
    for media_line, rest in media:
        lines += [media_line, *rest]
    data = "".join(f"{line}\r\n" for line in lines).encode()
    assert parse_sdp(data).to_bytes() == data


# Mutations of real lines go deeper than noise does.
PIECES = st.sampled_from(
    [
        "v=0",
        "o=- 1 1 IN IP4 h",
        "s=-",
        "t=0 0",
        "c=IN IP4 192.0.2.1",
        "c=IN IP6 ::",
        "c=IN IP4 224.2.1.1/127",
        "c=",
        "a=",
        "m=audio 9 RTP/AVP 0 8 96 x",
        "m=audio 9/2 rtp/avp 96",
        "m=audio 65535 RTP/AVP 101 96",
        "m=video 0 RTP/AVP 31",
        "a=rtpmap:96 opus/48000/2",
        "a=rtpmap:96",
        "a=rtpmap:",
        "a=rtpmap:96 telephone-event/8000",
        "a=fmtp:96 0-15",
        "a=fmtp",
        "a=ptime:20.5",
        "a=maxptime:x",
        "a=rtcp:99999",
        "a=rtcp:9 IN IP4 192.0.2.1",
        "a=rtcp-mux",
        "a=sendonly",
        "a=inactive",
        "a=X",
        "\xe9=\xe9",
    ]
)


@given(st.binary(max_size=300) | st.lists(PIECES, max_size=20).map(lambda p: "\r\n".join(p).encode()))
def test_any_bytes_are_read_or_refused_with_400_or_488(data: bytes) -> None:
    status = 200
    try:
        sdp = parse_sdp(data)
        assert parse_sdp(sdp.to_bytes()) == sdp
        assert sdp.origin.session_id
        read_audio(sdp)
    except RemoteProtocolError as error:
        status = error.status_hint
    assert status in {200, 400, 488}


@given(st.lists(PIECES, max_size=20))
def test_any_media_lines_below_a_good_head_are_read_or_refused(pieces: list[str]) -> None:
    status = 200
    try:
        audio = read_audio(parse_sdp((HEAD + "\r\n".join(pieces)).encode()))
        assert 1 <= audio.rtp_port <= 65_535
        assert 1 <= audio.rtcp_port <= 65_535
        assert len({codec.payload_type for codec in audio.codecs + audio.events}) <= 128
    except RemoteProtocolError as error:
        status = error.status_hint
    assert status in {200, 400, 488}
