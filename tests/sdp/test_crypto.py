"""SRTP keys in SDP: lines, choices, offer/answer (RFC 4568, RFC 6188 §7, RFC 7714 §14)."""

from __future__ import annotations

import base64
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import RemoteProtocolError
from proxy.sdp import (
    DEFAULT_SUITES,
    GATE_CODECS,
    CryptoAttribute,
    LocalEnd,
    NegotiatedAudio,
    SrtpPolicy,
    accept_answer,
    answer_crypto,
    build_answer,
    build_offer,
    choose_codec,
    gate_codecs,
    offer_crypto,
    parse_sdp,
    read_audio,
)
from proxy.sdp.crypto import parse_crypto, read_crypto
from tests.sdp.test_audio import describe

AES_CM_80 = "AES_CM_128_HMAC_SHA1_80"
AES_CM_32 = "AES_CM_128_HMAC_SHA1_32"
GCM = "AEAD_AES_128_GCM"
KEY = bytes(range(30))
INLINE = base64.b64encode(KEY).decode()
OTHER = base64.b64encode(bytes(30)).decode()
LOCAL = LocalEnd("198.51.100.1", 10000, 10001)
CODECS = gate_codecs(["PCMU"])


class Keys:
    """A key source whose keys can be told apart."""

    def __init__(self) -> None:
        self._next = count(1)

    def __call__(self, length: int) -> bytes:
        return bytes([next(self._next)]) * length


# One line ---------------------------------------------------------------------------------------------------


def test_rfc4568_6_1_a_line_in_full() -> None:
    value = f"1 {AES_CM_80} inline:{INLINE}|2^20|1:4"
    assert parse_crypto(value) == CryptoAttribute(1, AES_CM_80, KEY, b"\0\0\0\1")


def test_rfc4568_4_the_line_of_the_rfc() -> None:
    value = "1 AES_CM_128_HMAC_SHA1_80 inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR|2^20|1:32"
    # An identifier of 32 octets is within the grammar and beyond what is taken.
    assert parse_crypto(value) is None
    shorter = parse_crypto(value.replace("1:32", "1:4"))
    assert shorter is not None
    assert shorter.key[:8] == b"=-n@%^x!"


@pytest.mark.parametrize(
    ("extras", "mki"),
    [
        ("", b""),
        ("|2^48", b""),
        ("|1048576", b""),
        ("|7:1", b"\7"),
        ("|2^31|65535:2", b"\xff\xff"),
        ("|1:16", bytes(15) + b"\1"),
    ],
)
def test_rfc4568_6_1_lifetime_and_identifier_are_optional(extras: str, mki: bytes) -> None:
    crypto = parse_crypto(f"9 {AES_CM_32} inline:{INLINE}{extras}")
    assert crypto == CryptoAttribute(9, AES_CM_32, KEY, mki)


@pytest.mark.parametrize("parameters", ["WSH=64", "WSH=9999 -FUTURE=1", "-KDR=3"])
def test_rfc4568_6_3_harmless_session_parameters(parameters: str) -> None:
    assert parse_crypto(f"1 {AES_CM_80} inline:{INLINE} {parameters}") is not None


@pytest.mark.parametrize(
    "parameters",
    [
        "KDR=1",
        "UNENCRYPTED_SRTP",
        "UNENCRYPTED_SRTCP",
        "UNAUTHENTICATED_SRTP",
        "FEC_ORDER=FEC_SRTP",
        "FEC_KEY=inline:AAAA",
        "FUTURE=1",
        "WSH=63",
        "WSH=",
        "WSH=12345",
        "WSH=64 KDR=1",
    ],
)
def test_rfc4568_6_3_session_parameters_that_are_not_taken(parameters: str) -> None:
    assert parse_crypto(f"1 {AES_CM_80} inline:{INLINE} {parameters}") is None


@pytest.mark.parametrize(
    "value",
    [
        "",
        "1",
        f"1 {AES_CM_80}",
        f"x {AES_CM_80} inline:{INLINE}",
        f"1234567890 {AES_CM_80} inline:{INLINE}",
        f"¹ {AES_CM_80} inline:{INLINE}",
        f"1 F8_128_HMAC_SHA1_80 inline:{INLINE}",
        f"1 {AES_CM_80.lower()} inline:{INLINE}",
        f"1 {AES_CM_80} outline:{INLINE}",
        f"1 {AES_CM_80} {INLINE}",
        f"1 {AES_CM_80} inline:",
        f"1 {AES_CM_80} inline:{INLINE[:-4]}",
        f"1 {AES_CM_80} inline:{INLINE}AAAA",
        f"1 {AES_CM_80} inline:{INLINE[:-1]}*",
        f"1 {AES_CM_80} inline:{INLINE[:-1]}é",
        f"1 {AES_CM_80} inline:{INLINE[:-3]}",
        f"1 {AES_CM_80} inline:{INLINE};inline:{OTHER}",
        f"1 {AES_CM_80} inline:{INLINE}|",
        f"1 {AES_CM_80} inline:{INLINE}|0",
        f"1 {AES_CM_80} inline:{INLINE}|2^20|2^20",
        f"1 {AES_CM_80} inline:{INLINE}|1:4|2^20",
        f"1 {AES_CM_80} inline:{INLINE}|1:4|2:4",
        f"1 {AES_CM_80} inline:{INLINE}|x:4",
        f"1 {AES_CM_80} inline:{INLINE}|1:x",
        f"1 {AES_CM_80} inline:{INLINE}|1:0",
        f"1 {AES_CM_80} inline:{INLINE}|1:17",
        f"1 {AES_CM_80} inline:{INLINE}|256:1",
        f"1 {GCM} inline:{INLINE}",
        f"1 {AES_CM_80} inline:{INLINE} -{'x' * 500}",
    ],
)
def test_a_line_that_cannot_be_used_is_none(value: str) -> None:
    assert parse_crypto(value) is None


def test_padding_may_be_missing() -> None:
    key = bytes(range(28))
    text = base64.b64encode(key).decode()
    assert text.endswith("=")
    assert parse_crypto(f"1 {GCM} inline:{text.rstrip('=')}") == CryptoAttribute(1, GCM, key)


@given(
    st.integers(0, 999_999_999),
    st.sampled_from([(AES_CM_80, 30), ("AES_256_CM_HMAC_SHA1_80", 46), (GCM, 28), ("AEAD_AES_256_GCM", 44)]),
    st.data(),
)
def test_what_is_printed_is_read_again(tag: int, suite: tuple[str, int], data: st.DataObject) -> None:
    key = data.draw(st.binary(min_size=suite[1], max_size=suite[1]))
    crypto = CryptoAttribute(tag, suite[0], key)
    assert parse_crypto(crypto.line.removeprefix("a=crypto:")) == crypto


@given(st.text(), st.sampled_from(["", f"1 {AES_CM_80} inline:", f"1 {AES_CM_80} inline:{INLINE}|"]))
def test_nothing_is_raised_for_any_line(text: str, head: str) -> None:
    crypto = parse_crypto(head + text)
    assert crypto is None or len(crypto.mki) <= 16


def test_a_key_is_never_printed() -> None:
    crypto = CryptoAttribute(1, AES_CM_80, b"K" * 30, b"M")
    answer = build_offer(CODECS, LOCAL, 1, crypto=[crypto])
    assert "K" not in repr(crypto).replace("SHA", "")[len("CryptoAttribute") :]
    assert base64.b64encode(b"K" * 30).decode() in answer.data.decode()
    assert "S0tL" not in repr(answer)


def test_rfc4568_4_1_a_tag_counts_once_and_lines_are_bounded() -> None:
    lines = [f"{tag} {AES_CM_80} inline:{INLINE}" for tag in (3, 3, 1)]
    assert [crypto.tag for crypto in read_crypto([*lines, "nonsense"])] == [3, 1]
    many = [f"{tag} {AES_CM_80} inline:{INLINE}" for tag in range(100)]
    assert len(read_crypto(many)) == 16


# Choices ----------------------------------------------------------------------------------------------------


def line(tag: int, suite: str, fill: int = 1) -> CryptoAttribute:
    return CryptoAttribute(tag, suite, bytes([fill]) * (28 if suite == GCM else 30))


def test_rfc4568_5_1_2_the_offerers_first_that_is_taken_and_its_tag() -> None:
    offered = [line(4, "AES_256_CM_HMAC_SHA1_32"), line(7, GCM), line(2, AES_CM_80)]
    keys = Keys()
    ours, theirs = answer_crypto(offered, DEFAULT_SUITES, keys) or (None, None)
    assert ours == CryptoAttribute(7, GCM, b"\1" * 28)
    assert theirs is offered[1]
    assert answer_crypto(offered, [AES_CM_80], keys) == (
        CryptoAttribute(2, AES_CM_80, b"\2" * 30),
        offered[2],
    )
    assert answer_crypto(offered, [AES_CM_32], keys) is None
    assert answer_crypto([], DEFAULT_SUITES, keys) is None


def test_rfc4568_7_1_4_the_gate_keeps_its_key_while_the_peer_does() -> None:
    keys = Keys()
    first = answer_crypto([line(1, AES_CM_80)], DEFAULT_SUITES, keys)
    assert first is not None
    again = answer_crypto([line(5, AES_CM_80)], DEFAULT_SUITES, keys, current=first)
    assert again == (CryptoAttribute(5, AES_CM_80, first[0].key), line(5, AES_CM_80))
    for changed in (line(1, AES_CM_80, 9), line(1, GCM)):
        anew = answer_crypto([changed], DEFAULT_SUITES, keys, current=first)
        assert anew is not None
        assert anew[0].key != first[0].key


def test_rfc4568_5_1_1_an_offer_has_a_key_of_its_own_per_suite() -> None:
    lines = offer_crypto([AES_CM_80, GCM], Keys())
    assert lines == (line(1, AES_CM_80, 1), line(2, GCM, 2))
    assert offer_crypto([AES_CM_80, GCM], Keys(), current=lines[1]) == (lines[1],)


# Offer and answer -------------------------------------------------------------------------------------------

AVP = "m=audio 4000 RTP/AVP 0"
SAVP = "m=audio 4000 RTP/SAVP 0"
GOOD = f"a=crypto:1 {AES_CM_80} inline:{INLINE}"
BAD = f"a=crypto:1 F8_128_HMAC_SHA1_80 inline:{INLINE}"
OFF, OPTIONAL, REQUIRED = SrtpPolicy.OFF, SrtpPolicy.OPTIONAL, SrtpPolicy.REQUIRED


@pytest.mark.parametrize(
    ("policy", "lines", "index", "secure"),
    [
        (OFF, [AVP], 0, False),
        (OFF, [AVP, GOOD], 0, False),
        (OFF, [SAVP, GOOD, AVP], 1, False),
        (OPTIONAL, [AVP], 0, False),
        (OPTIONAL, [AVP, BAD], 0, False),
        (OPTIONAL, [AVP, GOOD], 0, True),
        (OPTIONAL, [SAVP, GOOD], 0, True),
        (OPTIONAL, ["m=audio 4000 RTP/SAVPF 0", GOOD], 0, True),
        (OPTIONAL, [AVP, AVP, SAVP, GOOD], 2, True),
        (OPTIONAL, [AVP, SAVP, BAD], 0, False),
        (OPTIONAL, ["m=audio 0 RTP/SAVP 0", GOOD, AVP], 1, False),
        (OPTIONAL, ["m=video 4000 RTP/SAVP 0", GOOD, AVP], 1, False),
        (OPTIONAL, ["m=audio 4000 UDP/TLS/RTP/SAVPF 0", GOOD, AVP], 1, False),
        (REQUIRED, [SAVP, GOOD], 0, True),
        (REQUIRED, [AVP, GOOD], 0, True),
        (REQUIRED, [AVP, SAVP, GOOD], 1, True),
    ],
)
def test_the_stream_that_the_policy_prefers(
    policy: SrtpPolicy, lines: list[str], index: int, secure: bool
) -> None:
    audio = read_audio(parse_sdp(describe(*lines)), policy)
    assert (audio.index, bool(audio.crypto)) == (index, secure)


@pytest.mark.parametrize(
    ("policy", "lines"),
    [
        (OFF, [SAVP, GOOD]),
        (OPTIONAL, [SAVP]),
        (OPTIONAL, [SAVP, BAD]),
        (REQUIRED, [AVP]),
        (REQUIRED, [AVP, BAD]),
        (REQUIRED, [SAVP]),
        (REQUIRED, []),
    ],
)
def test_an_offer_that_the_policy_refuses(policy: SrtpPolicy, lines: list[str]) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        read_audio(parse_sdp(describe(*lines)), policy)
    assert caught.value.status_hint == 488


def test_only_suites_of_the_setting_count() -> None:
    sdp = parse_sdp(describe(AVP, GOOD))
    assert read_audio(sdp, OPTIONAL, [GCM]).crypto == ()


@pytest.mark.parametrize("media", [AVP, SAVP])
def test_rfc4568_5_1_2_an_answer_repeats_profile_tag_and_suite(media: str) -> None:
    offer = parse_sdp(describe(media, f"a=crypto:6 {AES_CM_32} inline:{INLINE}"))
    offered = read_audio(offer, OPTIONAL)
    chosen = choose_codec(offered, GATE_CODECS, GATE_CODECS)
    pair = answer_crypto(offered.crypto, DEFAULT_SUITES, Keys())
    assert chosen is not None
    assert pair is not None
    text = build_answer(offer, offered, chosen, LOCAL, 1, crypto=pair[0]).data.decode()
    assert media.replace("4000", "10000") in text
    assert f"a=crypto:6 {AES_CM_32} inline:{base64.b64encode(bytes([1]) * 30).decode()}\r\n" in text


LINES = offer_crypto([AES_CM_80, GCM], Keys())


def accepted(*lines: str, policy: SrtpPolicy = OPTIONAL) -> NegotiatedAudio:
    return accept_answer(CODECS, parse_sdp(describe(*lines)), crypto=LINES, srtp=policy)


@pytest.mark.parametrize(("secure", "profile"), [(True, "RTP/SAVP"), (False, "RTP/AVP")])
def test_an_offer_with_keys(secure: bool, profile: str) -> None:
    text = build_offer(CODECS, LOCAL, 1, crypto=LINES, secure=secure).data.decode()
    assert f"m=audio 10000 {profile} 0 101\r\n" in text
    assert text.index(LINES[0].line) < text.index(LINES[1].line)


@pytest.mark.parametrize("media", [AVP, SAVP])
@pytest.mark.parametrize("policy", [OPTIONAL, REQUIRED])
def test_rfc4568_5_1_3_the_answers_line_picks_the_offers(media: str, policy: SrtpPolicy) -> None:
    theirs = CryptoAttribute(2, GCM, bytes(28))
    assert accepted(media, theirs.line, policy=policy).crypto == (LINES[1], theirs)


def test_a_peer_without_srtp_speaks_plain_rtp_where_that_may_be() -> None:
    assert accepted(AVP).crypto is None
    with pytest.raises(RemoteProtocolError) as caught:
        accepted(AVP, policy=REQUIRED)
    assert caught.value.status_hint == 488


def test_keys_that_nobody_asked_for_mean_nothing() -> None:
    assert accept_answer(CODECS, parse_sdp(describe(AVP, GOOD))).crypto is None


@pytest.mark.parametrize(
    "lines",
    [
        [line(3, AES_CM_80).line],
        [line(1, GCM).line],
        [line(1, AES_CM_32).line],
        [line(1, AES_CM_80).line, line(2, GCM).line],
        [BAD],
        [line(1, AES_CM_80).line + " KDR=1"],
    ],
)
def test_rfc4568_5_1_3_an_answer_that_fits_no_offered_line(lines: list[str]) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        accepted(AVP, *lines)
    assert caught.value.status_hint == 488
