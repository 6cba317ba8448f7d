"""What crosses between the legs and what does not (RFC 7092, RFC 3325; issue: header mapping)."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import pytest

from proxy.call.config import CallerIdPolicy, CodeMode, DidRoute, IdentityHeader, PrivacyPolicy
from proxy.call.headers import Crossing, XHeaders, quote_display_name, wants_anonymity
from proxy.call.loops import LOOP_HEADER
from proxy.call.routing import did_of
from proxy.sip.flow import Flow
from proxy.sip.headers import Headers
from proxy.sip.message import Request
from tests.call.crossing import TOLL_FREE, sent_to_carrier, trunk
from tests.call.phones import PhoneBench
from tests.support.gate import GATE, PBX, GateBench, default_config
from tests.support.ua import Step, sdp

X_ANSWER = (Step(0.0, 200, with_sdp=True, headers=[("X-CRM-Back", "1"), ("X-Back", "2")]),)


def test_unknown_headers_pass_unchanged() -> None:
    invite = sent_to_carrier([("cRM-id", "a;b=<c>, d"), ("Twice", "1"), ("Twice", "2"), ("Subject", "s")])
    lines = invite.headers.lines()
    assert "cRM-id: a;b=<c>, d" in lines
    assert [line for line in lines if line.startswith("Twice")] == ["Twice: 1", "Twice: 2"]
    assert "Subject: s" in lines


@pytest.mark.parametrize(
    "name",
    [
        "Proxy-Authorization",
        "Authorization",
        "Record-Route",
        "Session-Expires",
        "Min-SE",
        "Referred-By",
        "P-Preferred-Identity",
        "Accept-Contact",
        "Path",
    ],
)
def test_hop_dialog_and_credentials_never_cross(name: str) -> None:
    invite = sent_to_carrier([(name, "<sip:x@example.com>")])
    assert "sip:x@example.com" not in "".join(invite.headers.lines())


def test_dialog_of_the_b_leg_is_its_own() -> None:
    with GateBench() as bench:
        call = bench.pbx.call(TOLL_FREE)
        bench.run(0.5)
        a, b = call.last, bench.carrier.calls[0].invite
        assert b is not None
        assert b.call_id != a.call_id
        assert b.from_.tag != a.from_.tag
        assert len(b.headers.get_all("Via")) == 1
        assert PBX[0] not in str(b.headers.get("Contact"))
        call.bye()


def test_max_forwards_is_one_less() -> None:
    with GateBench() as bench:
        call = bench.pbx.call(TOLL_FREE, max_forwards=10)
        bench.run(0.5)
        invite = bench.carrier.calls[0].invite
        assert invite is not None
        assert invite.headers.get("Max-Forwards") == "9"
        call.bye()


def test_missing_max_forwards_counts_as_70() -> None:
    with GateBench() as bench:
        body = sdp()
        data = (
            f"INVITE sip:{TOLL_FREE}@gate.example.com SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {PBX[0]}:{PBX[1]};branch=z9hG4bKraw\r\nFrom: <sip:204@{PBX[0]}>;tag=r1\r\n"
            f"To: <sip:{TOLL_FREE}@gate.example.com>\r\nCall-ID: raw-1\r\nCSeq: 1 INVITE\r\n"
            f"Contact: <sip:204@{PBX[0]}:{PBX[1]}>\r\nContent-Type: application/sdp\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        bench.gate.receive(data, Flow("UDP", *PBX), bench.now)
        bench.run(0.5)
        invite = bench.carrier.calls[0].invite
        assert invite is not None
        assert invite.headers.get("Max-Forwards") == "69"
        bench.carrier.calls[0].bye()
        bench.run(40.0)


def test_location_of_an_ordinary_call_is_told_among_the_trusted_only() -> None:
    location = [("Geolocation", "<https://lis.example.com/1>"), ("Geolocation-Routing", "yes")]
    told = sent_to_carrier(location)
    assert told.headers.get("Geolocation") == "<https://lis.example.com/1>"
    told = sent_to_carrier(location, trunk=trunk(trusted=False))
    assert told.headers.get("Geolocation") is told.headers.get("Geolocation-Routing") is None


class TestXHeaders:
    """Issue 3: headers that begin with ``X-`` cross if they are allowed by name."""

    HEADERS: ClassVar = [("X-CRM-ID", "1"), ("x-acme-site", "2"), ("X-Other", "3"), ("X-ACMEsque", "4")]

    def crossing(self, *patterns: str) -> list[tuple[str, str]]:
        return Crossing(trusted=True, x_headers=XHeaders.of(patterns)).headers(Headers(self.HEADERS))

    def test_none_crosses_by_itself(self) -> None:
        assert self.crossing() == []

    def test_whole_names_and_beginnings_in_any_case(self) -> None:
        assert self.crossing("x-crm-id", "X-Acme-*") == [("X-CRM-ID", "1"), ("x-acme-site", "2")]

    def test_all(self) -> None:
        assert self.crossing("X-*") == self.HEADERS

    def test_the_callers_side_says_which(self) -> None:
        pbx = replace(default_config().peers[0], x_headers=XHeaders.of(["X-CRM-*"]))
        with GateBench(config=default_config(peers=(pbx,)), script=X_ANSWER) as bench:
            call = bench.pbx.call(TOLL_FREE, headers=self.HEADERS)
            bench.run(0.5)
            invite = bench.carrier.calls[0].invite
            assert invite is not None
            crossed = [line for line in invite.headers.lines() if line[:2].lower() == "x-"]
            assert [line for line in crossed if not line.startswith(LOOP_HEADER)] == ["X-CRM-ID: 1"]
            assert call.last.headers.get("X-CRM-Back") == "1"
            assert call.last.headers.get("X-Back") is None
            call.bye()


class TestDropped:
    """What one side does not want neither goes to it nor comes from it."""

    def test_to_the_trunk(self) -> None:
        dropping = trunk(drop_headers=frozenset({"Identity", "User-To-User", "User-to-User"}))
        invite = sent_to_carrier(
            [("y", "abc"), ("User-to-User", "00;encoding=hex"), ("Diversion", "<sip:1@x>")], trunk=dropping
        )
        assert "Identity" not in invite.headers
        assert "User-to-User" not in invite.headers
        assert "Diversion" in invite.headers

    def test_asserted_identity_too(self) -> None:
        dropping = trunk(drop_headers=frozenset({"P-Asserted-Identity"}))
        invite = sent_to_carrier([("P-Asserted-Identity", "<sip:204@x>")], trunk=dropping)
        assert "P-Asserted-Identity" not in invite.headers

    def test_from_the_trunk(self) -> None:
        script = (Step(0.0, 200, with_sdp=True, headers=[("Alert-Info", "<http://x>"), ("Subject", "s")]),)
        config = default_config(
            trunks=(trunk(drop_headers=frozenset({"Alert-Info"})),), code_mode=CodeMode.EARLY
        )
        with GateBench(config=config, script=script) as bench:
            call = bench.pbx.call(TOLL_FREE)
            bench.run(0.5)
            assert call.last.headers.get("Alert-Info") is None
            assert call.last.headers.get("Subject") == "s"
            call.bye()


class TestUserToUser:
    """RFC 7433: what one user tells the other, in the INVITE, its responses and the BYE."""

    def test_in_the_invite(self) -> None:
        invite = sent_to_carrier([("User-to-User", "56a390f3d2b7310023a2;encoding=hex")])
        assert invite.headers.get("User-to-User") == "56a390f3d2b7310023a2;encoding=hex"

    @pytest.mark.parametrize(
        ("headers", "reasons"),
        [
            ([("User-to-User", "01;encoding=hex")], ["Q.850;cause=16"]),
            ([("Reason", "Q.850;cause=31"), ("User-to-User", "01;encoding=hex")], ["Q.850;cause=31"]),
        ],
    )
    def test_in_the_bye_beside_a_reason(self, headers: list[tuple[str, str]], reasons: list[str]) -> None:
        with GateBench() as bench:
            call = bench.pbx.call(TOLL_FREE)
            bench.run(1.0)
            call.bye(headers=headers)
            bench.run(0.5)
            bye = bench.carrier.calls[0].requests[-1]
            assert bye.method == "BYE"
            assert bye.headers.get("User-to-User") == "01;encoding=hex"
            assert bye.headers.get_all("Reason") == reasons

    def test_not_where_it_is_dropped(self) -> None:
        config = default_config(trunks=(trunk(drop_headers=frozenset({"User-to-User"})),))
        with GateBench(config=config) as bench:
            call = bench.pbx.call(TOLL_FREE)
            bench.run(1.0)
            call.bye(headers=[("User-to-User", "01;encoding=hex")])
            bench.run(0.5)
            bye = bench.carrier.calls[0].requests[-1]
            assert "User-to-User" not in bye.headers
            assert bye.headers.get_all("Reason") == ["Q.850;cause=16"]


class TestCallerId:
    OTHERS = (
        ("remote-party-id", "<sip:+19005550100@pbx.example.com>;party=calling"),
        ("Identity", "eyJ;info=<https://x>;alg=ES256"),
        ("P-Asserted-Identity", "<sip:204@pbx.example.com>"),
    )

    @pytest.mark.parametrize("policy", [CallerIdPolicy.USER, CallerIdPolicy.FIXED])
    def test_nobody_elses_word_stands_beside_the_number_that_is_set(self, policy: CallerIdPolicy) -> None:
        fixed = trunk(caller_id=policy, fixed_caller_number="+12125550000")
        invite = sent_to_carrier(list(self.OTHERS), trunk=fixed)
        assert "+19005550100" not in "".join(invite.headers.lines())
        assert "Identity" not in invite.headers

    def test_they_pass_where_the_caller_passes(self) -> None:
        invite = sent_to_carrier(list(self.OTHERS))
        assert [name for name, value in self.OTHERS if invite.headers.get(name) != value] == []

    def test_pass_keeps_the_caller_of_a_trusted_peer(self) -> None:
        invite = sent_to_carrier([], caller="+12125550199")
        assert invite.from_.uri_text == "sip:+12125550199@carrier.example.com"
        assert invite.headers.get("P-Asserted-Identity") == "<sip:+12125550199@carrier.example.com>"

    def test_user_shows_the_number_of_the_user(self) -> None:
        pai = ("P-Asserted-Identity", "<sip:204@pbx.example.com>")
        invite = sent_to_carrier([pai], trunk=trunk(caller_id=CallerIdPolicy.USER))
        assert invite.from_.uri_text == "sip:+12125550204@carrier.example.com"
        assert invite.headers.get_all("P-Asserted-Identity") == ["<sip:+12125550204@carrier.example.com>"]

    def test_user_of_an_unknown_caller_is_the_caller(self) -> None:
        invite = sent_to_carrier([], trunk=trunk(caller_id=CallerIdPolicy.USER), caller="lobby")
        assert invite.from_.uri_text == "sip:lobby@carrier.example.com"

    def test_fixed(self) -> None:
        fixed = trunk(caller_id=CallerIdPolicy.FIXED, fixed_caller_number="+12125550100", trusted=False)
        invite = sent_to_carrier([], trunk=fixed)
        assert invite.from_.uri_text == "sip:+12125550100@carrier.example.com"
        assert invite.headers.get("P-Asserted-Identity") is None

    @pytest.mark.parametrize("privacy", ["id", "user;critical", "none, header", "FULL"])
    def test_anonymous_caller(self, privacy: str) -> None:
        invite = sent_to_carrier([("Privacy", privacy)])
        assert invite.from_.uri_text == "sip:anonymous@anonymous.invalid"
        assert invite.headers.get("P-Asserted-Identity") == "<sip:204@carrier.example.com>"
        assert invite.headers.get("Privacy") == privacy

    def test_privacy_left_to_the_carrier(self) -> None:
        invite = sent_to_carrier([("Privacy", "id")], trunk=trunk(privacy=PrivacyPolicy.HEADER))
        assert invite.from_.uri_text == "sip:204@carrier.example.com"
        assert invite.headers.get("Privacy") == "id"

    def test_rfc3323_5_3_user_level_privacy_hides_what_else_tells_who_calls(self) -> None:
        telling = [
            ("Subject", "s"),
            ("Organization", "o"),
            ("Call-Info", "<http://x>"),
            ("Reply-To", "<sip:1@x>"),
        ]
        invite = sent_to_carrier([("Privacy", "user; critical"), *telling, ("In-Reply-To", "c")])
        for name in ("Subject", "Organization", "Call-Info", "Reply-To", "In-Reply-To"):
            assert name not in invite.headers
        invite = sent_to_carrier([("Privacy", "id"), *telling])
        assert invite.headers.get("Subject") == "s"

    def test_rfc3323_4_2_session_privacy_is_what_a_relay_gives(self) -> None:
        """The callee hears of no address of the caller: neither in SDP nor in Via or Contact."""
        invite = sent_to_carrier([("Privacy", "session;header;critical")])
        text = "".join(invite.headers.lines()) + invite.body.decode()
        assert PBX[0] not in text

    @pytest.mark.parametrize("privacy", ["invisible;critical", "id, critical, x"])
    def test_rfc3323_5_what_nobody_knows_and_is_critical_is_refused(self, privacy: str) -> None:
        with GateBench() as bench:
            call = bench.pbx.call(TOLL_FREE, headers=[("Privacy", privacy)])
            bench.run(0.5)
            assert call.statuses == [500]
            assert not bench.carrier.calls
            helped = bench.pbx.call("911", headers=[("Privacy", privacy)])
            bench.run(0.5)
            assert helped.status == 200
            helped.bye()

    def test_rfc3323_4_2_what_nobody_knows_is_passed_on_otherwise(self) -> None:
        assert sent_to_carrier([("Privacy", "invisible")]).headers.get("Privacy") == "invisible"

    def test_preferred_identity(self) -> None:
        invite = sent_to_carrier(
            [("P-Asserted-Identity", "<sip:204@x>")], trunk=trunk(identity_header=IdentityHeader.PREFERRED)
        )
        assert invite.headers.get("P-Preferred-Identity") == "<sip:204@carrier.example.com>"
        assert "P-Asserted-Identity" not in invite.headers

    def test_no_identity_beside_from(self) -> None:
        invite = sent_to_carrier(
            [("P-Asserted-Identity", "<sip:204@x>")], trunk=trunk(identity_header=IdentityHeader.NONE)
        )
        assert "P-Asserted-Identity" not in invite.headers
        assert "P-Preferred-Identity" not in invite.headers

    def test_from_with_a_host_of_its_own(self) -> None:
        invite = sent_to_carrier([], trunk=trunk(from_host="gate.example.net"))
        assert invite.from_.uri_text == "sip:204@gate.example.net"
        assert invite.headers.get("P-Asserted-Identity") == "<sip:204@gate.example.net>"
        assert invite.uri == "sip:+18005550123@carrier.example.com"

    def test_user_phone_where_the_user_is_a_number(self) -> None:
        invite = sent_to_carrier([], trunk=trunk(user_phone=True), caller="+12125550204")
        assert invite.uri == "sip:+18005550123@carrier.example.com;user=phone"
        assert invite.from_.uri_text == "sip:+12125550204@carrier.example.com;user=phone"
        invite = sent_to_carrier([], trunk=trunk(user_phone=True), caller="lobby")
        assert invite.from_.uri_text == "sip:lobby@carrier.example.com"

    def test_privacy_none(self) -> None:
        assert not wants_anonymity(["none", "session"])


def test_trunk_named_by_an_ipv6_address() -> None:
    invite = sent_to_carrier([], trunk=trunk(host="2001:db8::90"))
    assert invite.uri == "sip:+18005550123@[2001:db8::90]"


def test_reason_and_identity_of_a_provisional_response_reach_the_caller() -> None:
    headers = [
        ("Alert-Info", "<http://example.com/ring>"),
        ("P-Asserted-Identity", "<sip:1@x>"),
        ("Server", "y"),
    ]
    with GateBench(script=(Step(0.0, 180, headers=headers), Step(0.5, 200, with_sdp=True))) as bench:
        call = bench.pbx.call(TOLL_FREE)
        bench.run(0.2)
        assert call.last.headers.get("Alert-Info") == "<http://example.com/ring>"
        assert call.last.headers.get("P-Asserted-Identity") == "<sip:1@x>"
        assert call.last.headers.get("Server") != "y"
        bench.run(1.0)
        call.bye()
    assert GATE


@pytest.mark.parametrize(
    ("name", "quoted"),
    [("Desk", '"Desk"'), ('a"b\\c', '"a\\"b\\\\c"'), ("a\r\nEvil: 1\x7f", '"aEvil: 1"')],
)
def test_display_names_are_quoted_safely(name: str, quoted: str) -> None:
    assert quote_display_name(name) == quoted


@pytest.mark.parametrize(
    ("uri", "user"),
    [
        ("sip:204@x", "204"),
        ("SIPS:204:pw@x", "204"),
        ("sip:+1212;isub=2@x;user=phone", "+1212"),
        ("tel:+1212;phone-context=x", "+1212"),
        ("sip:x.example.com", ""),
        ("urn:service:sos", ""),
    ],
)
def test_user_part_as_it_stands(uri: str, user: str) -> None:
    assert did_of(uri) == user


AUTO_ANSWER = [
    ("Alert-Info", "<http://127.0.0.1/bellcore-dr3>;info=alert-autoanswer"),
    ("alert-info", "Ring Answer"),
    ("Alert-Info", "Auto Answer"),
    ("Call-Info", "<sip:192.0.2.9>;answer-after=0"),
    ("Call-Info", "<sip:192.0.2.9>; Answer-After = 0"),
    ("Call-Info", "<http://example.com/p.jpg>;purpose=icon, <sip:x>;info=ALERT-AUTOANSWER;delay=0"),
    ("P-Auto-answer", "normal"),
    ("Answer-Mode", "Auto;require"),
    ("Priv-Answer-Mode", "Auto"),
]


class TestAlerting:
    """RFC 3261 §20.4, RFC 5373 §6: nobody outside lets a phone answer by itself, and listens."""

    @staticmethod
    def ring(
        headers: list[tuple[str, str]], *, from_trunk: bool = True, auto_answer: bool = False
    ) -> Request:
        routes = (DidRoute("+12125550", user="205"),)
        with PhoneBench(did_routes=routes) as bench:
            peers = tuple(replace(peer, auto_answer=auto_answer) for peer in bench.core.config.peers)
            bench.core.reconfigure(replace(bench.core.config, peers=peers))
            phone = bench.phone("192.0.2.25")
            bench.register(phone, "205")
            if from_trunk:
                call = bench.carrier.call("+12125550205", headers=headers)
            else:
                call = bench.desk.call("205", headers=headers)
            bench.run(2.0)
            invite = phone.calls[0].invite
            assert invite is not None
            call.bye()
            bench.run(0.5)
        return invite

    @pytest.mark.parametrize("header", AUTO_ANSWER)
    def test_what_a_trunk_says_of_it_stays_behind(self, header: tuple[str, str]) -> None:
        assert self.ring([header]).headers.get(header[0]) is None

    def test_other_call_info_crosses(self) -> None:
        value = "<http://example.com/photo.jpg>;purpose=icon"
        assert self.ring([("Call-Info", value)]).headers.get("Call-Info") == value

    @pytest.mark.parametrize("header", AUTO_ANSWER[:-2])
    def test_a_trunk_may_be_allowed_to(self, header: tuple[str, str]) -> None:
        assert self.ring([header], auto_answer=True).headers.get(header[0]) == header[1]

    def test_phones_of_the_house_may_call_one_another_so(self) -> None:
        header = AUTO_ANSWER[3]
        assert self.ring([header], from_trunk=False).headers.get(header[0]) == header[1]

    @pytest.mark.parametrize("name", ["Answer-Mode", "Priv-Answer-Mode"])
    def test_rfc5373_6_no_phone_is_told_by_another_to_answer(self, name: str) -> None:
        assert self.ring([(name, "Auto")], from_trunk=False).headers.get(name) is None
