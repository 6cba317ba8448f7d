"""What a phone writes about itself chooses no policy, and what it says about others reaches nobody."""

from __future__ import annotations

import pytest

from proxy.cdr.record import Disposition
from proxy.policy import CallClass, ClassOfService, CodeTable, DigestCredential, Snapshot, User, UserGroup
from proxy.sip.digest import Algorithm, Ha1, answer_challenge, choose_challenge
from proxy.sip.flow import Flow
from proxy.sip.message import Response
from proxy.sip.parser import parse_message
from tests.call.test_guessed_passwords import GATE, PHONE, THIEF, Bench
from tests.support.gate import NUMBER, PBX

METHODS = (
    *("INVITE", "ACK", "BYE", "CANCEL", "REGISTER", "OPTIONS", "PRACK"),
    *("SUBSCRIBE", "NOTIFY", "PUBLISH", "INFO", "REFER", "MESSAGE", "UPDATE"),
)
"""RFC 3261, 3262, 6665, 3903, 6086, 3515, 3428, 3311."""
CLAIMS = {
    "From": "From: <sip:201@gate.example.com>;tag=f",
    "From of the PBX": f"From: <sip:201@{PBX[0]}>;tag=f",
    "P-Asserted-Identity": "P-Asserted-Identity: <sip:201@gate.example.com>",
    "P-Preferred-Identity": "P-Preferred-Identity: <sip:201@gate.example.com>",
    "Remote-Party-ID": "Remote-Party-ID: <sip:201@gate.example.com>;party=calling;screen=yes",
    "Contact": "Contact: <sip:201@192.0.2.10:5060>",
    "Via": f"Via: SIP/2.0/UDP {PBX[0]}:5060;branch=z9hG4bKpbx;received={PBX[0]}",
    "Identity": "Identity: eyJhbGciOiJFUzI1NiJ9..x;info=<https://x.example/c>",
    "Referred-By": "Referred-By: <sip:201@gate.example.com>",
    "Proxy-Authorization": 'Proxy-Authorization: Digest username="201", realm="tollgate"',
}


class House(Bench):
    """Phone 204 may call inside; user 201, whose phone somebody pretends to have, may call everywhere."""

    def __init__(self) -> None:
        super().__init__()
        plain = self.core.policy
        credentials = {
            name: tuple(
                DigestCredential(one.value, "tollgate", Ha1.of(one, name, "tollgate", "secret").digest)
                for one in Algorithm
            )
            for name in ("204", "201")
        }
        inside = UserGroup("inside", ClassOfService(frozenset({CallClass.INTERNAL})))
        chief = UserGroup("chief", ClassOfService(frozenset(CallClass)))
        users = [
            User("204", "inside", credentials=credentials["204"]),
            User("201", "chief", caller_number="+12125550201", credentials=credentials["201"]),
        ]
        self.core.policy = Snapshot(plain.plan, [inside, chief], users, CodeTable.of(plain.codes))

    def forged(self, method: str, flow: Flow, claim: str, password: str = "") -> list[int]:
        """Send a request with a claim, after a challenge if there is a password; return its statuses."""
        authorization = ""
        if password:
            first = self._exchange(method, flow, claim, "")
            challenges = [one.headers.get_all("WWW-Authenticate") for one in first if one.status == 401]
            if challenges:
                challenge = choose_challenge(challenges[0])
                assert challenge is not None
                uri = GATE if method in {"REGISTER", "SUBSCRIBE"} else f"sip:{NUMBER}@gate.example.com"
                authorization = "Authorization: " + str(
                    answer_challenge(
                        challenge, method=method, uri=uri, username="204", password=password, cnonce=claim[:4]
                    )
                )
        return [one.status for one in self._exchange(method, flow, claim, authorization)]

    def _exchange(self, method: str, flow: Flow, claim: str, authorization: str) -> list[Response]:
        self._serial += 1
        uri = GATE if method in {"REGISTER", "SUBSCRIBE"} else f"sip:{NUMBER}@gate.example.com"
        own = {
            "Via": f"Via: SIP/2.0/UDP {flow.remote_host}:{flow.remote_port};branch=z9hG4bK{self._serial}",
            "From": "From: <sip:204@gate.example.com>;tag=own",
            "Contact": f"Contact: <sip:204@{flow.remote_host}:{flow.remote_port}>",
        }
        name = claim.partition(":")[0]
        if name == "Via":  # beneath its own, as if it had come through the PBX
            own["Via"] += f"\r\n{claim}"
        else:
            own[name] = claim
        fixed = f"To: <sip:201@gate.example.com>\r\nCall-ID: c{self._serial}\r\nCSeq: 1 {method}"
        lines = [f"{method} {uri} SIP/2.0", *own.values(), fixed, "Max-Forwards: 70", "Event: presence"]
        lines += [authorization] if authorization else []
        data = ("\r\n".join(lines) + "\r\nContent-Length: 0\r\n\r\n").encode()
        self.gate.receive(data, flow, self.now)
        self.gate.settle(self.now)
        found = [parse_message(one.data) for one in self.gate.transmits()]
        return [one for one in found if isinstance(one, Response) and one.status != 100]


@pytest.mark.parametrize("method", METHODS)
class TestFourteenMethods:
    @pytest.mark.parametrize("claim", CLAIMS)
    def test_a_stranger_is_nobody_whoever_it_says_it_is(self, method: str, claim: str) -> None:
        bench = House()
        statuses = bench.forged(method, THIEF, CLAIMS[claim])
        assert not [one for one in statuses if 200 <= one < 300 and method != "OPTIONS"], statuses
        assert not bench.core.calls
        assert not bench.journal.records
        assert not bench.core.registrations or not bench.core.registrations.targets("201")

    @pytest.mark.parametrize("claim", CLAIMS)
    def test_a_phone_is_itself_whoever_it_says_it_is(self, method: str, claim: str) -> None:
        bench = House()
        statuses = bench.forged(method, PHONE, CLAIMS[claim], "secret")
        assert not [one for one in statuses if 200 <= one < 300 and method != "OPTIONS"], statuses
        assert not bench.core.calls
        assert not bench.core.registrations or not bench.core.registrations.targets("201")
        if method == "INVITE":
            (record,) = bench.journal.final
            assert (record.user, record.group, record.disposition) == ("204", "inside", Disposition.BLOCKED)
        else:
            assert not bench.journal.records
