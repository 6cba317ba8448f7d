"""SRTP suites on the wire, against libsrtp: each side of a call has its own, or none (RFC 4568, RFC 7714)."""

from __future__ import annotations

import base64
import re
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pylibsrtp import Error, Policy, Session

from tests.support.rtp import RtpPeer, is_rtcp
from tests.system.gate import CARRIER_ADDRESSES, PBX_ADDRESS, Gate, free_port, running_gate
from tests.system.media import PATIENCE
from tests.system.trunk_traffic import caller, carrier, playing, said_by_gate, tell_to_go_on

PLAIN = ""
PROFILES = {
    "AES_CM_128_HMAC_SHA1_80": (Policy.SRTP_PROFILE_AES128_CM_SHA1_80, 30),
    "AES_CM_128_HMAC_SHA1_32": (Policy.SRTP_PROFILE_AES128_CM_SHA1_32, 30),
    "AEAD_AES_128_GCM": (Policy.SRTP_PROFILE_AEAD_AES_128_GCM, 28),
}
TAGS = {"AES_CM_128_HMAC_SHA1_80": 1, "AEAD_AES_128_GCM": 2, "AES_CM_128_HMAC_SHA1_32": 4}
"""Of the lines that the gate offers."""


class Party(RtpPeer):
    """One end of the media: what its SDP says, and its packets, protected by libsrtp where it has a suite."""

    def __init__(self, address: str, suite: str) -> None:
        super().__init__(address)
        self.suite = suite
        self.payload = secrets.token_bytes(160)
        """Of all its packets."""
        self._key = secrets.token_bytes(PROFILES[suite][1]) if suite else b""
        self._protect: Callable[[bytes], bytes] = bytes
        self._unprotect: Callable[[bytes], bytes] = bytes

    def words(self, *, answers: bool = False) -> dict[str, str]:
        """Return what a scenario says of its media."""
        tag = TAGS[self.suite] if answers and self.suite else 1
        crypto = f"crypto:{tag} {self.suite} inline:{base64.b64encode(self._key).decode()}"
        return {
            "rtp_address": self.host,
            "rtp_port": str(self.port),
            "profile": "SAVP" if self.suite and not answers else "AVP",
            "crypto": crypto if self.suite else "sendrecv",
        }

    def connect(self, description: str) -> None:
        """Take what the gate's SDP says."""
        port = re.search(r"^m=audio (\d+) ", description, re.MULTILINE)
        assert port is not None, description
        self.target = ("127.0.0.1", int(port[1]))
        if self.suite:
            line = re.search(rf"^a=crypto:\d+ {self.suite} inline:(\S+)", description, re.MULTILINE)
            assert line is not None, description
            self._protect = self._session(self._key, Policy.SSRC_ANY_OUTBOUND).protect
            self._unprotect = self._session(base64.b64decode(line[1]), Policy.SSRC_ANY_INBOUND).unprotect

    def _session(self, key: bytes, direction: int) -> Session:
        return Session(Policy(key=key, ssrc_type=direction, srtp_profile=PROFILES[self.suite][0]))

    def send_raw(self, data: bytes) -> None:
        super().send_raw(self._protect(data))

    def hears(self, payload: bytes) -> bool:
        """Say whether such a packet has come, protected as it should be."""
        for data in self.pending():
            if not is_rtcp(data):
                try:
                    if self._unprotect(data).endswith(payload):
                        return True
                except Error:
                    continue
        return False


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TOLLGATE_PEERS__0__SRTP", "optional")
        folder = tmp_path_factory.mktemp("gate")
        with running_gate(folder, trunk_srtp="optional") as running:
            yield running


@pytest.mark.parametrize(
    ("calling", "called"),
    [
        (PLAIN, "AEAD_AES_128_GCM"),
        ("AEAD_AES_128_GCM", "AES_CM_128_HMAC_SHA1_32"),
        ("AES_CM_128_HMAC_SHA1_80", PLAIN),
    ],
    ids=lambda suite: suite or "plain",
)
def test_rfc4568_each_side_has_its_suite(gate: Gate, tmp_path: Path, calling: str, called: str) -> None:
    known = {record.record_id for record in gate.records()}
    a, b = Party(PBX_ADDRESS, calling), Party(CARRIER_ADDRESSES[0], called)
    port = free_port(PBX_ADDRESS)
    with a, b:
        taking = carrier(
            "takes_with_media",
            tmp_path,
            address=CARRIER_ADDRESSES[0],
            port=gate.carrier_ports[0],
            keys=b.words(answers=True),
        )
        placing = caller(gate, tmp_path, scenario="caller_with_media", port=port, keys=a.words())
        with playing(placing, taking):
            b.connect(said_by_gate(taking, "INVITE"))
            a.connect(said_by_gate(placing, "SIP/2.0 200"))
            heard_by_a = heard_by_b = False
            until = time.monotonic() + PATIENCE
            while not (heard_by_a and heard_by_b):
                assert time.monotonic() < until, f"heard: {heard_by_a=} {heard_by_b=}"
                a.send(a.payload)
                b.send(b.payload)
                time.sleep(0.02)
                heard_by_a = heard_by_a or a.hears(b.payload)
                heard_by_b = heard_by_b or b.hears(a.payload)
            tell_to_go_on(placing, port)
    record = gate.wait_for_record(known)
    assert record.hung_up_by is not None
    for media in (record.a_media, record.b_media):
        assert media is not None
        assert media.packets_received > 0
    assert "inline:" not in gate.log.read_text(), "a key in the log"
