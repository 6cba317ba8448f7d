"""Choosing a codec and taking an answer (RFC 3264 §6, §7; RFC 4733 §2.4; RFC 7587)."""

from __future__ import annotations

import pytest

from proxy.errors import RemoteProtocolError
from proxy.sdp import (
    GATE_CODECS,
    AudioDescription,
    ChosenAudio,
    Codec,
    Direction,
    NegotiatedAudio,
    accept_answer,
    choose_codec,
    events_beside,
    gate_codecs,
    parse_sdp,
    read_audio,
    relayed_codecs,
    renumbered,
)
from proxy.sdp.values import EVENT_NAME
from tests.sdp.test_audio import describe, read

EVERYTHING = [
    "m=audio 4000 RTP/AVP 96 9 8 0 18 101 102",
    "a=rtpmap:96 opus/48000/2",
    "a=fmtp:96 useinbandfec=1",
    "a=rtpmap:101 telephone-event/8000",
    "a=rtpmap:102 telephone-event/48000",
]


def choose(
    *lines: str, trunk: tuple[str, ...] = GATE_CODECS, order: tuple[str, ...] = ()
) -> ChosenAudio | None:
    return choose_codec(read(*lines), GATE_CODECS, trunk, order)


def chosen_name(chosen: ChosenAudio | None) -> str:
    assert chosen is not None
    return chosen.codec.name


# Choosing


def test_rfc3264_6_1_the_offerers_preference_decides() -> None:
    assert chosen_name(choose(*EVERYTHING)) == "OPUS"


@pytest.mark.parametrize(
    ("trunk", "order", "name"),
    [
        (("PCMU", "PCMA"), (), "PCMA"),
        (("PCMU", "G722"), (), "G722"),
        (GATE_CODECS, ("PCMU", "PCMA"), "PCMU"),
        (GATE_CODECS, ("SPEEX", "G722", "PCMU"), "G722"),
        (("PCMA", "PCMU"), ("G722", "PCMU"), "PCMU"),
        (("PCMA", "G722"), ("PCMU",), "G722"),
    ],
)
def test_trunk_and_order_decide(trunk: tuple[str, ...], order: tuple[str, ...], name: str) -> None:
    assert chosen_name(choose(*EVERYTHING, trunk=trunk, order=order)) == name


@pytest.mark.parametrize("trunk", [(), ("G729",), ("SPEEX",)])
def test_rfc3261_21_4_26_nothing_in_common(trunk: tuple[str, ...]) -> None:
    assert choose(*EVERYTHING, trunk=trunk) is None


@pytest.mark.parametrize("mapping", ["PCMU/16000", "opus/48000", "G722/16000", "PCMA/8000/2"])
def test_a_known_name_at_another_clock_or_channel_count_is_another_format(mapping: str) -> None:
    assert choose("m=audio 4000 RTP/AVP 96", f"a=rtpmap:96 {mapping}") is None


def test_a_codec_the_gate_only_relays_may_be_chosen_when_it_is_supported() -> None:
    chosen = choose_codec(read("m=audio 4000 RTP/AVP 18"), ("G729",), ("G729",))
    assert chosen_name(chosen) == "G729"


@pytest.mark.parametrize(
    ("formats", "event"),
    [
        ("96 101 102", 102),
        ("96 101", 101),
        ("96", None),
        ("9 101 102", 101),
        ("9 102", None),
        ("0 102", None),
        ("0 101", 101),
        ("8", None),
    ],
)
def test_rfc4733_2_4_1_events_at_the_codecs_clock_rate(formats: str, event: int | None) -> None:
    chosen = choose(f"m=audio 4000 RTP/AVP {formats}", *EVERYTHING[1:])
    assert chosen is not None
    assert (chosen.event and chosen.event.payload_type) == event


@pytest.mark.parametrize(
    ("lines", "ptime_ms"),
    [
        ([], 20),
        (["a=ptime:30"], 30),
        (["a=ptime:10"], 10),
        (["a=ptime:60"], 60),
        (["a=ptime:5"], 10),
        (["a=ptime:25"], 20),
        (["a=ptime:200"], 20),
        (["a=ptime:40", "a=maxptime:30"], 30),
        (["a=maxptime:10"], 10),
        (["a=maxptime:60"], 20),
    ],
)
def test_rfc3264_6_1_packet_time(lines: list[str], ptime_ms: int) -> None:
    chosen = choose("m=audio 4000 RTP/AVP 0", *lines)
    assert chosen is not None
    assert chosen.ptime_ms == ptime_ms


def test_opus_packets_stay_at_20_ms() -> None:
    chosen = choose(*EVERYTHING, "a=ptime:60")
    assert chosen is not None
    assert (chosen.codec.name, chosen.ptime_ms) == ("OPUS", 20)


# Offering


def test_codecs_of_an_offer_of_the_gates_own() -> None:
    assert gate_codecs(("PCMA", "SPEEX", "PCMU", "PCMA")) == (
        Codec("PCMA", 8, 8000),
        Codec("PCMU", 0, 8000),
        Codec(EVENT_NAME, 101, 8000, 1, "0-15"),
    )


@pytest.mark.parametrize("names", [("OPUS",), ("OPUS", "PCMU")])
def test_rfc4733_2_4_1_beside_opus_both_clock_rates_are_offered(names: tuple[str, ...]) -> None:
    events = [codec for codec in gate_codecs(names) if codec.is_event]
    assert [(event.clock_rate, event.payload_type) for event in events] == [(48000, 102), (8000, 101)]


def test_payload_types_of_an_offer_are_distinct() -> None:
    codecs = gate_codecs(GATE_CODECS)
    assert len({codec.payload_type for codec in codecs}) == len(codecs) == 6


@pytest.mark.parametrize(
    ("codec", "offered"),
    [
        (Codec("PCMU", 0, 8000), Codec("PCMU", 0, 8000)),
        (Codec("PCMU", 99, 8000), Codec("PCMU", 0, 8000)),
        (Codec("OPUS", 101, 48000, 2, "stereo=1"), Codec("OPUS", 96, 48000, 2, "stereo=1")),
        (Codec("G729", 18, 8000, 1, "annexb=no"), Codec("G729", 18, 8000, 1, "annexb=no")),
        (Codec("ILBC", 101, 8000, 1, "mode=30"), Codec("ILBC", 96, 8000, 1, "mode=30")),
    ],
)
def test_the_b_leg_is_offered_the_a_legs_codec_alone(codec: Codec, offered: Codec) -> None:
    chosen = ChosenAudio(codec, None, 20)
    assert relayed_codecs(chosen, events=False) == (offered,)
    assert relayed_codecs(chosen, events=True)[0] == offered
    assert all(event.is_event for event in relayed_codecs(chosen, events=True)[1:])


def test_a_clock_rate_without_events_of_the_gates_gets_none() -> None:
    chosen = ChosenAudio(Codec("SPEEX", 97, 16000), None, 20)
    assert relayed_codecs(chosen, events=True) == (Codec("SPEEX", 96, 16000),)


# Taking an answer


def accept(offered: tuple[Codec, ...], *lines: str, audio_index: int = 0) -> NegotiatedAudio:
    return accept_answer(offered, parse_sdp(describe(*lines)), audio_index=audio_index)


def rejected(offered: tuple[Codec, ...], *lines: str, audio_index: int = 0) -> int:
    with pytest.raises(RemoteProtocolError) as caught:
        accept(offered, *lines, audio_index=audio_index)
    return caught.value.status_hint


def test_rfc3264_7_an_answer_is_taken() -> None:
    answer = ["m=audio 6000 RTP/AVP 0 101", "a=rtpmap:101 telephone-event/8000", "a=ptime:30", "a=recvonly"]
    negotiated = accept(gate_codecs(("PCMU",)), *answer)
    assert negotiated.remote == read(*answer)
    assert negotiated.remote.direction is Direction.RECVONLY
    codec, event = Codec("PCMU", 0, 8000), Codec(EVENT_NAME, 101, 8000)
    own = (codec, Codec(EVENT_NAME, 101, 8000, 1, "0-15"))
    assert negotiated.chosen == ChosenAudio(codec, event, 30, own)


def test_rfc3264_6_1_the_first_offered_codec_of_several_is_spoken() -> None:
    negotiated = accept(gate_codecs(("PCMU", "PCMA", "G722")), "m=audio 6000 RTP/AVP 18 8 0")
    assert negotiated.chosen.codec == Codec("PCMA", 8, 8000)


def test_rfc3264_6_1_the_answers_payload_types_are_used() -> None:
    negotiated = accept(
        gate_codecs(("OPUS",)),
        "m=audio 6000 RTP/AVP 111 110",
        "a=rtpmap:111 OPUS/48000/2",
        "a=rtpmap:110 telephone-event/48000",
    )
    assert negotiated.chosen.codec.payload_type == 111
    assert negotiated.chosen.event == Codec(EVENT_NAME, 110, 48000)
    # The peer for its part sends under the numbers of the offer.
    assert negotiated.chosen.heard_codec.payload_type == 96
    assert negotiated.chosen.heard_event == Codec(EVENT_NAME, 102, 48000, 1, "0-15")


def test_rfc3264_6_1_an_offerers_payload_types_hold_both_ways() -> None:
    lines = ["m=audio 6000 RTP/AVP 0 97", "a=rtpmap:97 telephone-event/8000"]
    chosen = choose_codec(read(*lines), GATE_CODECS, GATE_CODECS)
    assert chosen is not None
    assert (chosen.heard_codec, chosen.heard_event) == (chosen.codec, chosen.event)
    assert chosen.heard_event == Codec(EVENT_NAME, 97, 8000)


def test_an_event_that_was_not_offered_is_not_spoken() -> None:
    negotiated = accept(
        gate_codecs(("PCMU",))[:1], "m=audio 6000 RTP/AVP 0 101", "a=rtpmap:101 telephone-event/8000"
    )
    assert negotiated.chosen.event is None


def test_rfc3264_6_sections_that_were_not_offered_are_ignored() -> None:
    lines = ["m=audio 6000 RTP/AVP 0", "m=video 0 RTP/AVP 31"]
    assert accept(gate_codecs(("PCMU",)), *lines).remote.media_count == 2


@pytest.mark.parametrize(
    ("lines", "audio_index"),
    [
        (["m=audio 0 RTP/AVP 0"], 0),
        (["m=audio 6000 RTP/AVP 8"], 0),
        (["m=audio 6000 RTP/AVP 101", "a=rtpmap:101 telephone-event/8000"], 0),
        (["m=audio 6000 RTP/SAVP 0"], 0),
        (["m=video 6000 RTP/AVP 0"], 0),
        (["m=video 0 RTP/AVP 31", "m=audio 6000 RTP/AVP 0"], 0),
        (["m=audio 6000 RTP/AVP 0"], 1),
        ([], 0),
    ],
)
def test_rfc3264_6_answers_without_what_was_offered_get_488(lines: list[str], audio_index: int) -> None:
    assert rejected(gate_codecs(("PCMU",)), *lines, audio_index=audio_index) == 488


def test_the_peer_as_described_and_as_negotiated_are_one() -> None:
    lines = ["m=audio 6000 RTP/AVP 0"]
    audio: AudioDescription = read_audio(parse_sdp(describe(*lines)))
    assert accept(gate_codecs(GATE_CODECS), *lines).remote == audio


PCMU, PCMA, G722 = Codec("PCMU", 0, 8000), Codec("PCMA", 8, 8000), Codec("G722", 9, 8000)


def test_rfc3264_8_3_2_a_later_offer_keeps_the_numbers_of_the_session() -> None:
    known = (Codec("OPUS", 111, 48000, 2), PCMU, Codec(EVENT_NAME, 97, 8000, 1, "0-15"))
    offered = renumbered((Codec("OPUS", 96, 48000, 2), PCMU, *events_beside((PCMU,))), known)
    assert [codec.payload_type for codec in offered] == [111, 0, 97]


def test_rfc3264_8_3_2_a_new_format_never_takes_a_number_that_means_something_else() -> None:
    known = (Codec("SPEEX", 96, 16000), Codec("ILBC", 127, 8000))
    offered = renumbered((PCMA, Codec("OPUS", 96, 48000, 2)), known)
    assert [(codec.name, codec.payload_type) for codec in offered] == [("PCMA", 8), ("OPUS", 126)]


def test_two_entries_that_are_one_format_in_the_session_are_offered_once() -> None:
    assert renumbered((G722, Codec("G722", 100, 8000)), (G722,)) == (G722,)


def test_a_session_without_a_free_number_is_offered_what_has_one() -> None:
    known = tuple(Codec(f"X{number}", number, 8000) for number in range(96, 128))
    assert renumbered((PCMU, Codec("OPUS", 96, 48000, 2)), known) == (PCMU,)
