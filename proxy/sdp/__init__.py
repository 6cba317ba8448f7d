"""SDP values, offer/answer and SRTP keys (RFC 8866, RFC 3264, RFC 4568).

Answering an offer::

    offer = parse_sdp(request.body)                      # RemoteProtocolError 400, 488
    offered = read_audio(offer)                          # RemoteProtocolError 400, 488
    chosen = choose_codec(offered, GATE_CODECS, trunk_codecs, order)      # None: answer 488
    answer = build_answer(offer, offered, chosen, LocalEnd("192.0.2.1", 10000, 10001), session_id)
    answer.data                                          # bytes: the 183 and its 200

Offering the B leg what the A leg speaks::

    codecs = relayed_codecs(chosen, events=True)         # or gate_codecs(names): an INVITE without SDP
    offer = build_offer(codecs, local, session_id, attributes=carried_attributes(sdp, offered))
    negotiated = accept_answer(codecs, parse_sdp(response.body), audio_index=offer.audio_index)
    negotiated.remote.address, negotiated.chosen.codec   # RemoteProtocolError 400, 488

What a peer says of its media is taken where the gate may send there::

    offered = own_sockets.judge(offered, "198.51.100.7", emergency=False)  # RemoteProtocolError 488

With SRTP (RFC 4568)::

    offered = read_audio(offer, SrtpPolicy.OPTIONAL)     # offered.crypto: keys that the gate can use
    ours, theirs = answer_crypto(offered.crypto, DEFAULT_SUITES, keys)  # then build_answer(..., crypto=ours)
    lines = offer_crypto(DEFAULT_SUITES, keys)           # then build_offer(..., crypto=lines)
    accept_answer(codecs, answer, crypto=lines, srtp=SrtpPolicy.OPTIONAL).crypto    # (ours, theirs) or None

Hold is the peer's `AudioDescription.direction`. Later descriptions of a dialog are built with ``previous=``,
later offers name their formats under the numbers that the session has for them (`renumbered`).
"""

from proxy.sdp.audio import AudioDescription, carried_attributes, is_ip_address, read_audio
from proxy.sdp.build import CONTENT_TYPE, LocalDescription, LocalEnd, build_answer, build_offer
from proxy.sdp.crypto import (
    DEFAULT_SUITES,
    CryptoAttribute,
    KeySource,
    SrtpPolicy,
    answer_crypto,
    offer_crypto,
)
from proxy.sdp.destination import OwnSockets
from proxy.sdp.fax import FaxDescription, answer_fax, offer_fax, read_fax
from proxy.sdp.negotiate import (
    GATE_CODECS,
    ChosenAudio,
    NegotiatedAudio,
    accept_answer,
    choose_codec,
    events_beside,
    gate_codecs,
    relayed_codecs,
    renumbered,
)
from proxy.sdp.parser import parse_sdp
from proxy.sdp.values import Codec, Direction, MediaDescription, Origin, SessionDescription

__all__ = [
    "CONTENT_TYPE",
    "DEFAULT_SUITES",
    "GATE_CODECS",
    "AudioDescription",
    "ChosenAudio",
    "Codec",
    "CryptoAttribute",
    "Direction",
    "FaxDescription",
    "KeySource",
    "LocalDescription",
    "LocalEnd",
    "MediaDescription",
    "NegotiatedAudio",
    "Origin",
    "OwnSockets",
    "SessionDescription",
    "SrtpPolicy",
    "accept_answer",
    "answer_crypto",
    "answer_fax",
    "build_answer",
    "build_offer",
    "carried_attributes",
    "choose_codec",
    "events_beside",
    "gate_codecs",
    "is_ip_address",
    "offer_crypto",
    "offer_fax",
    "parse_sdp",
    "read_audio",
    "read_fax",
    "relayed_codecs",
    "renumbered",
]
