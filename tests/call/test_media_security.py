"""SRTP per leg, keyed in SDP (RFC 4568): policy of each side, keys in force, re-offers, emergency calls."""

from __future__ import annotations

import base64
from dataclasses import replace
from itertools import count

import pytest

from proxy.call.media_security import MediaSecurity, no_keys
from proxy.call.ports import LegId, SrtpKeys
from proxy.cdr.record import Disposition
from proxy.errors import LocalProtocolError
from proxy.sdp import DEFAULT_SUITES, CryptoAttribute, SrtpPolicy, parse_sdp
from proxy.sdp.crypto import read_crypto
from tests.support.gate import GateBench, default_config
from tests.support.ua import ANSWER, Step, UaCall, sdp

TOLL_FREE = "918005550123"
SUITE = "AES_CM_128_HMAC_SHA1_80"
OFF, OPTIONAL, REQUIRED = SrtpPolicy.OFF, SrtpPolicy.OPTIONAL, SrtpPolicy.REQUIRED


def crypto(fill: int = 200, suite: str = SUITE, tag: int = 1) -> CryptoAttribute:
    return CryptoAttribute(tag, suite, bytes([fill]) * 30)


def secure(
    fill: int = 200, *, profile: str = "RTP/SAVP", version: int = 1, host: str = "192.0.2.10"
) -> bytes:
    """A phone's description with a key."""
    plain = sdp(host, version=version, extra=crypto(fill).line + "\r\n")
    return plain.replace(b"RTP/AVP", profile.encode())


def lines(body: bytes) -> tuple[CryptoAttribute, ...]:
    return read_crypto(parse_sdp(body).media[0].attributes("crypto"))


def answering(*, tag: int = 1, fill: int = 100) -> object:
    """A carrier that takes one of the offered lines."""

    def script(call: UaCall) -> list[Step]:
        assert call.invite is not None
        offered = next(line for line in lines(call.invite.body) if line.tag == tag)
        body = sdp("192.0.2.90", extra=crypto(fill, offered.suite, tag).line + "\r\n")
        if b"RTP/SAVP" in call.invite.body:
            body = body.replace(b"RTP/AVP", b"RTP/SAVP")
        return [Step(0.0, 200, body=body)]

    return script


class Bench(GateBench):
    """A gate with a key source that counts, and a policy for each side."""

    def __init__(self, pbx: SrtpPolicy = OFF, trunk: SrtpPolicy = OFF, *, script: object = ANSWER) -> None:
        config = default_config()
        config = replace(
            config,
            peers=tuple(replace(peer, srtp=pbx) for peer in config.peers),
            trunks=tuple(replace(each, srtp=trunk) for each in config.trunks),
        )
        super().__init__(config=config)
        self.carrier.script = script  # type: ignore[assignment]  # a script of either kind
        fills = count(1)
        self.core.srtp_keys = lambda length: bytes([next(fills)]) * length

    def keys(self, leg: int) -> SrtpKeys | None:
        return self.media.all[LegId(leg)].configured[-1].remote.srtp

    def placed(self, body: bytes | None = None) -> UaCall:
        call = self.pbx.call(TOLL_FREE, body=body)
        self.run(1.0)
        return call


def key(fill: int) -> bytes:
    return bytes([fill]) * 30


# The caller's side ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [OPTIONAL, REQUIRED])
@pytest.mark.parametrize("profile", ["RTP/SAVP", "RTP/AVP"])
def test_rfc4568_5_1_2_a_caller_with_keys_gets_srtp_and_the_trunk_stays_plain(
    policy: SrtpPolicy, profile: str
) -> None:
    with Bench(policy) as bench:
        call = bench.placed(secure(profile=profile))
        assert call.status == 200
        assert f" {profile} 0".encode() in call.last.body
        assert lines(call.last.body) == (CryptoAttribute(1, SUITE, key(1)),)
        assert bench.keys(1) == SrtpKeys(SUITE, key(1), key(200))
        assert bench.keys(2) is None
        invite = bench.carrier.calls[0].invite
        assert invite is not None
        assert b"crypto" not in invite.body
        assert b"RTP/AVP" in invite.body
        call.bye()


def test_a_caller_without_keys_is_plain_where_srtp_is_optional() -> None:
    with Bench(OPTIONAL) as bench:
        call = bench.placed()
        assert call.status == 200
        assert b"crypto" not in call.last.body
        assert bench.keys(1) is None
        call.bye()


@pytest.mark.parametrize(("policy", "body"), [(REQUIRED, None), (OFF, secure())])
def test_an_offer_against_the_policy_gets_488(policy: SrtpPolicy, body: bytes | None) -> None:
    with Bench(policy) as bench:
        assert bench.placed(body).status == 488
        assert bench.record.disposition is Disposition.NOT_ACCEPTABLE


def test_an_emergency_call_is_never_refused_for_want_of_keys() -> None:
    with Bench(REQUIRED, REQUIRED) as bench:
        call = bench.pbx.call("911")
        bench.run(1.0)
        assert call.status == 200
        invite = bench.carrier.calls[0].invite
        assert invite is not None
        assert b"RTP/AVP" in invite.body
        assert (bench.keys(1), bench.keys(2)) == (None, None)
        call.bye()


def test_an_offer_in_the_200_has_keys_and_the_ack_brings_the_callers() -> None:
    with Bench(REQUIRED) as bench:
        bench.pbx.ack_body = secure()
        call = bench.pbx.call(TOLL_FREE, body=b"")
        bench.run(1.0)
        assert call.status == 200
        assert b"RTP/SAVP" in call.last.body
        assert [line.suite for line in lines(call.last.body)] == list(DEFAULT_SUITES)
        keys = bench.keys(1)
        assert keys is not None
        assert (keys.suite, keys.remote_key) == (SUITE, key(200))
        call.bye()


# The trunk's side -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "profile"), [(OPTIONAL, b"RTP/AVP"), (REQUIRED, b"RTP/SAVP")])
@pytest.mark.parametrize("tag", [1, 2])
def test_rfc4568_5_1_1_the_trunk_is_offered_keys(policy: SrtpPolicy, profile: bytes, tag: int) -> None:
    script = answering(tag=tag)
    if tag == 2:
        # A GCM key is two octets shorter.
        def script(call: UaCall) -> list[Step]:
            assert call.invite is not None
            gcm = CryptoAttribute(2, DEFAULT_SUITES[1], bytes([100]) * 28)
            body = sdp("192.0.2.90", extra=gcm.line + "\r\n").replace(b"RTP/AVP", profile)
            return [Step(0.0, 200, body=body)]

    with Bench(OFF, policy, script=script) as bench:
        call = bench.placed()
        assert call.status == 200
        invite = bench.carrier.calls[0].invite
        assert invite is not None
        assert profile in invite.body
        offered = lines(invite.body)
        assert [line.suite for line in offered] == list(DEFAULT_SUITES)
        assert len({line.key[:1] for line in offered}) == len(DEFAULT_SUITES)
        keys = bench.keys(2)
        assert keys is not None
        assert (keys.suite, keys.local_key) == (offered[tag - 1].suite, offered[tag - 1].key)
        assert keys.remote_key[:2] == bytes([100, 100])
        assert bench.keys(1) is None
        call.bye()


def test_a_trunk_without_srtp_is_plain_where_it_is_optional() -> None:
    with Bench(OFF, OPTIONAL) as bench:
        call = bench.placed()
        assert call.status == 200
        assert bench.keys(2) is None
        call.bye()


def test_a_trunk_without_srtp_is_not_spoken_with_where_it_is_required() -> None:
    with Bench(OFF, REQUIRED) as bench:
        call = bench.placed()
        assert call.status >= 400
        assert bench.carrier.calls[0].ended


# Later offers -----------------------------------------------------------------------------------------------


def test_rfc4568_7_1_4_a_refresh_keeps_the_keys_and_a_new_key_begins_anew() -> None:
    with Bench(OPTIONAL) as bench:
        call = bench.placed(secure())
        first = call.last.body
        call.request("INVITE", secure())
        bench.run(0.5)
        assert call.replies[-1].body == first
        assert bench.keys(1) == SrtpKeys(SUITE, key(1), key(200))
        call.request("INVITE", secure(201, version=2))
        bench.run(0.5)
        assert bench.keys(1) == SrtpKeys(SUITE, key(2), key(201))
        call.request("INVITE", sdp(version=3))
        bench.run(0.5)
        assert call.replies[-1].status == 200
        assert b"crypto" not in call.replies[-1].body
        assert bench.keys(1) is None
        call.bye()


def test_a_re_invite_without_keys_is_refused_where_srtp_is_required() -> None:
    with Bench(REQUIRED) as bench:
        call = bench.placed(secure())
        call.request("INVITE", sdp(version=2))
        bench.run(0.5)
        assert call.replies[-1].status == 488
        assert bench.keys(1) == SrtpKeys(SUITE, key(1), key(200))
        call.bye()


@pytest.mark.parametrize("profile", ["RTP/SAVP", "RTP/AVP"])
def test_the_gates_offer_in_a_dialog_repeats_its_line(profile: str) -> None:
    with Bench(OPTIONAL) as bench:
        call = bench.placed(secure(profile=profile))
        bench.pbx.ack_body = secure(profile=profile, version=2)
        call.request("INVITE")
        bench.run(0.5)
        body = call.replies[-1].body
        assert lines(body) == (CryptoAttribute(1, SUITE, key(1)),)
        assert f" {profile} ".encode() in body
        assert bench.keys(1) == SrtpKeys(SUITE, key(1), key(200))
        call.bye()


def test_the_gates_offer_in_a_plain_dialog_has_no_keys() -> None:
    with Bench(OPTIONAL) as bench:
        call = bench.placed()
        bench.pbx.ack_body = sdp(version=2)
        call.request("INVITE")
        bench.run(0.5)
        assert b"crypto" not in call.replies[-1].body
        assert bench.keys(1) is None
        call.bye()


def test_keys_stay_out_of_every_repr() -> None:
    with Bench(OPTIONAL) as bench:
        call = bench.placed(secure())
        shown = repr(bench.media.commands)
        assert base64.b64encode(key(1)).decode() not in shown
        assert repr(key(1)) not in shown
        call.bye()


def test_a_gate_without_a_key_source_says_so() -> None:
    security = MediaSecurity(REQUIRED, no_keys, emergency=False)
    with pytest.raises(LocalProtocolError, match="source of keys"):
        security.offer(again=False)


def test_a_caller_in_need_who_offers_srtp_alone_gets_it_where_it_is_off() -> None:
    with Bench() as bench:
        call = bench.pbx.call("911", body=secure())
        bench.run(1.0)
        assert call.status == 200
        assert b"RTP/SAVP" in call.last.body
        assert bench.keys(1) is not None
        assert bench.keys(2) is None
        call.bye()
    with Bench() as bench:
        call = bench.pbx.call(TOLL_FREE, body=secure())
        bench.run(1.0)
        assert call.statuses == [488]


def test_a_caller_in_need_without_any_audio_is_refused_all_the_same() -> None:
    with Bench() as bench:
        call = bench.pbx.call("911", body=sdp().replace(b"m=audio", b"m=video"))
        bench.run(1.0)
        assert call.statuses == [488]


def test_rfc4568_7_an_offer_that_crosses_keeps_the_keys_of_each_leg() -> None:
    with Bench(OPTIONAL) as bench:
        call = bench.placed(secure())
        bench.pbx.description = secure(version=2).replace(b"a=sendrecv", b"a=recvonly")
        bench.carrier.calls[0].request("INVITE", sdp("192.0.2.90", direction="sendonly", version=2))
        bench.run(0.5)
        asked = call.requests[-2]
        assert (asked.method, b" RTP/SAVP 0" in asked.body) == ("INVITE", True)
        assert lines(asked.body) == (CryptoAttribute(1, SUITE, key(1)),)
        assert bench.keys(1) == SrtpKeys(SUITE, key(1), key(200))
        assert bench.keys(2) is None
        call.request("INVITE", secure(version=3).replace(b"a=sendrecv", b"a=inactive"))
        bench.run(0.5)
        assert b"crypto" not in bench.carrier.calls[0].requests[-2].body
        assert lines(call.replies[-1].body) == (CryptoAttribute(1, SUITE, key(1)),)
        call.bye()


def test_rfc4568_7_1_4_a_new_key_in_an_answer_to_the_gate_is_taken() -> None:
    with Bench(OPTIONAL) as bench:
        call = bench.placed(secure())
        bench.pbx.description = secure(77, version=2).replace(b"a=sendrecv", b"a=recvonly")
        bench.carrier.calls[0].request("INVITE", sdp("192.0.2.90", direction="sendonly", version=2))
        bench.run(0.5)
        assert bench.keys(1) == SrtpKeys(SUITE, key(1), key(77))
        call.bye()


def test_rfc4568_5_1_3_an_answer_without_a_key_refuses_the_offer_where_srtp_is_required() -> None:
    with Bench(REQUIRED) as bench:
        call = bench.placed(secure())
        bench.pbx.description = sdp(version=2, direction="recvonly")
        bench.carrier.calls[0].request("INVITE", sdp("192.0.2.90", direction="sendonly", version=2))
        bench.run(0.5)
        assert bench.carrier.calls[0].replies[-1].status == 488
        assert bench.keys(1) == SrtpKeys(SUITE, key(1), key(200))
        call.bye()


def test_rfc4028_7_4_a_refresh_of_the_gate_offers_the_key_that_is_in_force() -> None:
    with Bench(OPTIONAL) as bench:
        call = bench.pbx.call(TOLL_FREE, body=secure(), headers=[("Allow", "INVITE, ACK, CANCEL, BYE")])
        bench.run(1.0)
        bench.pbx.description = secure(version=2)
        bench.run(900.0)
        asked = call.requests[-2]
        assert (asked.method, lines(asked.body)) == ("INVITE", (CryptoAttribute(1, SUITE, key(1)),))
        assert asked.body == call.last.body  # not a word of it has changed, the version neither
        assert bench.keys(1) == SrtpKeys(SUITE, key(1), key(200))
        call.bye()
