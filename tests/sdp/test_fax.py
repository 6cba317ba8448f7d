"""Fax streams in SDP: RFC 3362, ITU-T T.38 Annex D."""

from __future__ import annotations

import pytest

from proxy.errors import RemoteProtocolError
from proxy.sdp import (
    Direction,
    FaxDescription,
    LocalDescription,
    LocalEnd,
    answer_fax,
    build_offer,
    gate_codecs,
    offer_fax,
    parse_sdp,
    read_fax,
)

LOCAL = LocalEnd("192.0.2.1", 10000, 10001)
HEAD = "v=0\r\no=- 5 6 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n"
T38 = ("a=T38FaxVersion:0", "a=T38MaxBitRate:14400", "a=T38FaxRateManagement:transferredTCF")
IMAGE = "m=image 4000 udptl t38\r\n" + "".join(f"{line}\r\n" for line in T38)


def read(*sections: str, head: str = HEAD) -> FaxDescription | None:
    return read_fax(parse_sdp((head + "".join(sections)).encode()))


def audio() -> LocalDescription:
    return build_offer(gate_codecs(["PCMU"]), LOCAL, 17)


def test_t38_d_2_3_a_fax_stream() -> None:
    assert read(IMAGE) == FaxDescription(0, "udptl t38", "192.0.2.9", 4000, Direction.SENDRECV, T38)


def test_rfc3264_8_2_audio_that_is_given_up_stands_before_it() -> None:
    fax = read("m=audio 0 RTP/AVP 0\r\n", IMAGE)
    assert fax is not None
    assert fax.index == 1


def test_rfc8866_5_7_the_streams_own_address_and_direction() -> None:
    fax = read("m=image 4000 UDPTL T38\r\nc=IN IP4 192.0.2.77\r\na=sendonly\r\na=t38FaxVersion:1\r\n")
    assert fax == FaxDescription(
        0, "UDPTL T38", "192.0.2.77", 4000, Direction.SENDONLY, ("a=t38FaxVersion:1",)
    )
    held = read(IMAGE, head=HEAD.replace("c=IN IP4 192.0.2.9", "c=IN IP4 0.0.0.0"))
    assert held is not None
    assert held.direction is Direction.SENDONLY


@pytest.mark.parametrize(
    "sections",
    [
        ("m=audio 5000 RTP/AVP 0\r\n",),
        ("m=audio 5000 RTP/AVP 0\r\n", IMAGE),
        (IMAGE, "m=audio 5000 RTP/AVP 0\r\n"),
        ("m=image 0 udptl t38\r\n",),
        ("m=image 4000 tcp t38\r\n",),
        ("m=image 4000 udptl other\r\n",),
        ("m=video 4000 udptl t38\r\n",),
        ("m=image 4000 udptl t38 t39\r\n",),
        (),
    ],
)
def test_what_is_no_fax(sections: tuple[str, ...]) -> None:
    assert read(*sections) is None


@pytest.mark.parametrize(
    ("connection", "status"),
    [("", 400), ("c=IN IP4\r\n", 400), ("c=IN IP4 224.0.0.1\r\n", 488), ("c=IN IP4 1.2.3.4.5/\r\n", 400)],
)
def test_rfc8866_5_7_a_stream_without_a_usable_address(connection: str, status: int) -> None:
    with pytest.raises(RemoteProtocolError) as error:
        read(IMAGE, head=HEAD.replace("c=IN IP4 192.0.2.9\r\n", connection))
    assert error.value.status_hint == status


def test_attributes_are_carried_within_limits() -> None:
    lines = "".join(f"a=T38VendorInfo:{number} 0 0\r\n" for number in range(40))
    fax = read(f"m=image 4000 udptl t38\r\na=T38{'x' * 300}\r\na=ptime:20\r\n{lines}")
    assert fax is not None
    assert len(fax.attributes) == 32
    assert all(line.startswith("a=T38VendorInfo:") for line in fax.attributes)


def test_rfc3264_8_3_3_an_offer_takes_the_place_of_the_audio_stream() -> None:
    offer = offer_fax(T38, LOCAL, audio())
    assert (offer.session_id, offer.version, offer.audio_index) == (17, 2, 0)
    assert offer.data.decode() == (
        "v=0\r\no=- 17 2 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
        "m=image 10000 udptl t38\r\n" + "".join(f"{line}\r\n" for line in T38)
    )
    assert offer_fax(T38, LOCAL, offer) is offer, "nothing has changed (RFC 3264 §8)"


def test_rfc3264_6_every_section_of_an_offer_is_answered() -> None:
    sdp = parse_sdp(
        (HEAD + "m=audio 0 RTP/AVP 0\r\nm=image 4000 UDPTL t38\r\nm=video 9 RTP/AVP 1\r\n").encode()
    )
    fax = read_fax(sdp)
    assert fax is not None
    answer = answer_fax(sdp, fax, T38[:1], LOCAL, audio())
    assert answer.audio_index == 1
    assert answer.data.decode().partition("t=0 0\r\n")[2] == (
        "m=audio 0 RTP/AVP 0\r\nm=image 10000 UDPTL t38\r\na=T38FaxVersion:0\r\nm=video 0 RTP/AVP 1\r\n"
    )


def test_an_answer_without_a_time_line_in_the_offer() -> None:
    sdp = parse_sdp((HEAD.replace("t=0 0\r\n", "") + IMAGE).encode())
    fax = read_fax(sdp)
    assert fax is not None
    assert b"t=0 0\r\n" in answer_fax(sdp, fax, (), LOCAL, audio()).data
