"""Who calls (DESIGN, Identity of the caller): trusted peers by address, phones by digest, strangers not
at all."""

from __future__ import annotations

from ipaddress import ip_network
from typing import ClassVar, Never

import pytest

from proxy.call.authentication import DigestAuthenticator
from proxy.call.config import CallerIdPolicy, CodeMode, GateConfig, Peer, Side, Trunk
from proxy.call.identity import PeerTable
from proxy.cdr.record import Disposition
from proxy.policy import CodeTable, DigestCredential, Snapshot, User
from proxy.sip.digest import Algorithm, Ha1, answer_challenge, choose_challenge
from proxy.sip.digest_server import DigestServer, RecentNonceCounts
from proxy.sip.flow import Flow
from tests.call.phones import PhoneBench, phone_policy
from tests.support.gate import CARRIER, NUMBER, PBX, GateBench, default_config, default_policy

TOLL_FREE = "918005550123"
PHONES = Peer("phones", Side.PHONES, default_group=None, trusted=False)


def digest_bench() -> GateBench:
    server = DigestServer("tollgate", b"k" * 32, RecentNonceCounts())
    salts = iter(f"salt{n}" for n in range(1000))
    authenticator = DigestAuthenticator(server, lambda: next(salts))
    credentials = tuple(
        DigestCredential(algorithm.value, "tollgate", Ha1.of(algorithm, "204", "tollgate", "secret").digest)
        for algorithm in Algorithm
    )
    plain = default_policy()
    users = [
        User("204", "staff", name="Desk 204", caller_number="+1 (212) 555-0204", credentials=credentials),
        User("206", "staff", credentials=credentials, enabled=False),
    ]
    policy = Snapshot(plain.plan, plain.groups.values(), users, CodeTable.of(plain.codes))
    return GateBench(config=default_config(phones=PHONES), policy=policy, authenticator=authenticator)


def authorization(bench: GateBench, uri: str, *, user: str = "204", password: str = "secret") -> str:
    """The Authorization that answers the latest challenge."""
    challenge = choose_challenge(bench.stranger.calls[-1].last.headers.get_all("WWW-Authenticate"))
    assert challenge is not None
    return str(
        answer_challenge(challenge, method="INVITE", uri=uri, username=user, password=password, cnonce="c")
    )


class TestDigest:
    """RFC 3261 §22.1, RFC 7616, RFC 8760."""

    def test_stranger_gets_401_and_nothing_more(self) -> None:
        with digest_bench() as bench:
            call = bench.stranger.call(NUMBER)
            bench.run(1.0)
            assert call.statuses == [401]
            challenges = call.last.headers.get_all("WWW-Authenticate")
            assert ["SHA-256" in challenge for challenge in challenges] == [True, False]
            assert not bench.media.opened
            assert not bench.journal.records
            assert not bench.core.calls

    def test_phone_proves_its_user(self) -> None:
        with digest_bench() as bench:
            uri = f"sip:{NUMBER}@gate.example.com"
            bench.stranger.call(NUMBER)
            bench.run(0.1)
            headers = [
                ("Authorization", authorization(bench, uri)),
                ("P-Asserted-Identity", "<sip:999@example.com>"),
                ("Remote-Party-ID", "<sip:999@example.com>"),
            ]
            call = bench.stranger.call(NUMBER, headers=headers, caller="999")
            bench.run(0.1)
            assert call.statuses == [200]
            bench.press("1234#")
            invite = bench.carrier.calls[0].invite
            assert invite is not None
            assert invite.from_.uri_text == "sip:+12125550204@carrier.example.com"
            assert invite.from_.display_name == "Desk 204"
            assert invite.headers.get_all("P-Asserted-Identity") == ["<sip:+12125550204@carrier.example.com>"]
            assert invite.headers.get("Remote-Party-ID") is None
            assert invite.headers.get("Authorization") is None
            bench.run(1.0)
            call.bye()
        assert bench.record.user == "204"
        assert bench.record.caller_number == "204"
        assert bench.record.peer == ""

    @pytest.mark.parametrize(
        ("user", "password"), [("204", "wrong"), ("999", "secret"), ("206", "secret"), ("", "")]
    )
    def test_unknown_user_and_wrong_password_look_the_same(self, user: str, password: str) -> None:
        with digest_bench() as bench:
            uri = f"sip:{NUMBER}@gate.example.com"
            first = bench.stranger.call(NUMBER)
            bench.run(0.1)
            header = authorization(bench, uri, user=user, password=password)
            second = bench.stranger.call(NUMBER, headers=[("Authorization", header)])
            bench.run(0.1)
            assert second.statuses == [401]
            shapes = [
                [name for name, _ in call.last.headers.items() if name != "Via"] for call in (first, second)
            ]
            assert shapes[0] == shapes[1]
            assert not any("stale" in value for value in second.last.headers.get_all("WWW-Authenticate"))

    def test_replayed_credentials_are_stale(self) -> None:
        with digest_bench() as bench:
            uri = f"sip:{NUMBER}@gate.example.com"
            bench.stranger.call(NUMBER)
            bench.run(0.1)
            headers = [("Authorization", authorization(bench, uri))]
            first = bench.stranger.call(NUMBER, headers=headers)
            bench.run(0.1)
            again = bench.stranger.call(NUMBER, headers=headers)
            bench.run(0.1)
            assert (first.status, again.status) == (200, 401)
            assert "stale=true" in again.last.headers.get_all("WWW-Authenticate")[0]
            first.bye()

    def test_emergency_call_of_a_stranger_is_challenged(self) -> None:
        with digest_bench() as bench:
            call = bench.stranger.call("911")
            bench.run(0.1)
            assert call.statuses == [401]


def told_of(bench: GateBench) -> tuple[str, list[str]]:
    """From, and what is asserted, of the latest call at the carrier."""
    invite = bench.carrier.calls[-1].invite
    assert invite is not None
    asserted = invite.headers.get_all("P-Asserted-Identity") + invite.headers.get_all("P-Preferred-Identity")
    return invite.from_.uri_text, asserted


LIES = (
    ("P-Asserted-Identity", "<sip:+13105550000@x>"),
    ("P-Preferred-Identity", "<sip:+13105550000@x>"),
    ("Remote-Party-ID", "<sip:+13105550000@x>"),
)


class TestEmergencyFromALocalNetwork:
    LOCAL: ClassVar = (ip_network("203.0.113.0/24"),)

    def test_is_never_challenged(self) -> None:
        config = default_config(local_networks=self.LOCAL)
        with GateBench(config=config) as bench:
            call = bench.stranger.call("911", caller="lobby")
            bench.run(0.5)
            assert call.statuses == [200]
            call.bye()
        assert bench.record.emergency
        assert bench.record.caller_number == "lobby"

    @pytest.mark.parametrize("claim", ["+12125559999", "204", "+12125550204"])
    def test_rfc3325_5_a_claimed_number_is_asserted_by_nobody(self, claim: str) -> None:
        with GateBench(config=default_config(local_networks=self.LOCAL)) as bench:
            call = bench.stranger.call("911", caller=claim, headers=LIES)
            bench.run(0.5)
            assert told_of(bench) == (f"sip:{claim}@carrier.example.com", [])
            call.bye()
        record = bench.record
        assert (record.user, record.caller_number, record.caller_e164) == ("", claim, "")
        assert record.reason.endswith("its number is what it claims")

    def test_help_calls_the_site_back_if_that_has_a_number(self) -> None:
        config = default_config(local_networks=self.LOCAL, callback="+1 (212) 555-0100")
        with GateBench(config=config) as bench:
            call = bench.stranger.call("911", caller="+12125559999", headers=LIES)
            bench.run(0.5)
            site = "sip:+12125550100@carrier.example.com"
            assert told_of(bench) == (site, [f"<{site}>"])
            call.bye()
        record = bench.record
        assert (record.caller_number, record.caller_e164) == ("+12125559999", "+12125550100")

    @pytest.mark.parametrize("callback", ["", "ask the porter"])
    def test_a_trunks_fixed_number_is_the_trunks_own(self, callback: str) -> None:
        fixed = Trunk(
            "carrier",
            (Flow("UDP", *CARRIER),),
            "carrier.example.com",
            caller_id=CallerIdPolicy.FIXED,
            fixed_caller_number="+12125550111",
        )
        config = default_config(local_networks=self.LOCAL, trunks=(fixed,), callback=callback)
        with GateBench(config=config) as bench:
            call = bench.stranger.call("911", caller="+12125559999")
            bench.run(0.5)
            line = "sip:+12125550111@carrier.example.com"
            assert told_of(bench) == (line, [f"<{line}>"])
            call.bye()

    @pytest.mark.parametrize("number", [NUMBER, "nonsense"])
    def test_other_calls_are_refused(self, number: str) -> None:
        config = default_config(local_networks=(ip_network("203.0.113.0/24"), ip_network("2001:db8::/32")))
        with GateBench(config=config) as bench:
            call = bench.stranger.call(number)
            bench.run(0.5)
            assert call.statuses == [403]
            assert not bench.journal.records


class TestEmergencyOfARegisteredPhone:
    """Nobody challenges it: whose phone it is stands in its registration."""

    NAT: ClassVar = "203.0.113.7"
    DESK: ClassVar = "sip:+12125550204@carrier.example.com"

    def test_rfc3325_5_it_calls_under_the_number_of_its_user_whatever_it_claims(self) -> None:
        with PhoneBench() as bench:
            bench.register(bench.desk, "204")
            for claim in ("+12125559999", "desk-205", "desk"):
                call = bench.desk.call("911", caller=claim, headers=LIES)
                bench.run(0.5)
                assert told_of(bench) == (self.DESK, [f"<{self.DESK}>"])
                call.bye()
                bench.run(0.5)
        for record in bench.journal.final:
            assert (record.user, record.group, record.caller_name) == ("204", "staff", "Desk 204")
            assert record.caller_number == record.caller_e164 == "+12125550204"

    def test_of_phones_behind_one_nat_the_flow_tells_which(self) -> None:
        with PhoneBench() as bench:
            first = bench.phone("10.0.0.1", seen_as=(self.NAT, 32000))
            second = bench.phone("10.0.0.2", seen_as=(self.NAT, 32001))
            bench.register(first, "204")
            bench.register(second, "206")
            for phone, user in ((first, "204"), (second, "206")):
                call = phone.call("911", caller="+12125550204")
                bench.run(0.5)
                call.bye()
                bench.run(0.5)
                assert bench.journal.final[-1].user == user

    @pytest.mark.parametrize(
        ("claim", "user"), [("+12125550204", "204"), ("desk-206", "206"), ("desk-207", ""), ("+1212555", "")]
    )
    def test_from_names_one_of_those_behind_the_address_and_nobody_else(self, claim: str, user: str) -> None:
        """Two users over one flow, as an edge proxy's are; and a phone there that has not registered."""
        policy = with_names(phone_policy(), "206", "207")
        with PhoneBench(policy=policy) as bench:
            edge = bench.phone("10.0.0.1", seen_as=(self.NAT, 32000))
            other = bench.phone("10.0.0.2", seen_as=(self.NAT, 32001))
            bench.register(edge, "204")
            bench.register(edge, "206")
            for phone in (edge, other):
                call = phone.call("911", caller=claim)
                bench.run(0.5)
                assert call.status == 200
                assert bool(told_of(bench)[1]) == bool(user)
                call.bye()
                bench.run(0.5)
                assert bench.journal.final[-1].user == user

    def test_a_registration_that_has_ended_tells_nothing(self) -> None:
        with PhoneBench() as bench:
            bench.register(bench.desk, "204", headers=["Expires: 60"])
            bench.run(70.0)
            call = bench.desk.call("911", caller="+12125550204")
            bench.run(0.5)
            assert call.status == 401

    def test_it_gives_no_right(self) -> None:
        """Who was only taken for a user transfers nobody anywhere on that user's account."""
        with PhoneBench() as bench:
            bench.register(bench.desk, "204")
            call = bench.desk.call("911", caller="+12125550204")
            bench.run(0.5)
            assert call.status == 200
            call.request("REFER", headers=[("Refer-To", f"<sip:{TOLL_FREE}@gate.example.com>")])
            bench.run(1.0)
            assert call.replies[-1].status >= 400
            assert len(bench.carrier.calls) == 1
            call.bye()
            bench.run(0.5)

    def test_a_policy_that_breaks_stops_no_call(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: object) -> Never:
            raise RuntimeError

        with PhoneBench() as bench:
            bench.register(bench.desk, "204")
            monkeypatch.setattr(Snapshot, "caller_e164", broken)
            call = bench.desk.call("911", caller="+12125559999")
            bench.run(0.5)
            assert call.status == 200
            call.bye()
            bench.run(0.5)
        assert bench.record.emergency


def with_names(policy: Snapshot, *known: str) -> Snapshot:
    """Let users authenticate under another name than their extension."""
    users = [policy.users[one] for one in policy.users if one not in known]
    users += [User(one, "staff", digest_name=f"desk-{one}") for one in known]
    return Snapshot(policy.plan, policy.groups.values(), users, CodeTable.of(policy.codes))


class TestTrustedPeer:
    """RFC 3325 §9.1: the asserted identity, else From."""

    def test_asserted_identity_names_the_user(self) -> None:
        with GateBench() as bench:
            call = bench.pbx.call(
                TOLL_FREE, caller="main", headers=[("P-Asserted-Identity", '"Desk" <tel:+12125550204>')]
            )
            bench.run(0.5)
            call.bye()
        assert bench.record.user == "204"
        assert bench.record.caller_number == "+12125550204"
        assert bench.record.caller_name == "Desk"

    def test_unknown_caller_falls_into_the_default_group(self) -> None:
        with GateBench() as bench:
            call = bench.pbx.call(TOLL_FREE, caller="lobby")
            bench.run(0.5)
            assert call.status == 200
            call.bye()
        assert bench.record.user == ""
        assert bench.record.group == "staff"

    @pytest.mark.parametrize("identity", ['"broken <sip:204@x>', ",", "<sip:204%zz@x>", "<tel:204@x>"])
    def test_malformed_identity_names_nobody(self, identity: str) -> None:
        with GateBench() as bench:
            call = bench.pbx.call(TOLL_FREE, headers=[("P-Asserted-Identity", identity)])
            bench.run(0.5)
            invite = bench.carrier.calls[0].invite
            assert invite is not None
            assert invite.from_.uri_text == "sip:anonymous@anonymous.invalid"
            call.bye()
        assert bench.record.user == ""

    def test_no_default_group_is_refused(self) -> None:
        pbx = Peer("pbx", Side.PBX, networks=(ip_network("192.0.2.10/32"),))
        with GateBench(config=GateConfig(peers=(pbx,))) as bench:
            call = bench.pbx.call(TOLL_FREE, caller="lobby")
            bench.run(0.5)
            assert call.status == 403
        assert bench.record.disposition is Disposition.BLOCKED

    def test_identity_of_an_untrusted_peer_is_not_believed(self) -> None:
        pbx = Peer(
            "pbx", Side.PBX, networks=(ip_network("192.0.2.10/32"),), default_group="staff", trusted=False
        )
        with GateBench(config=default_config(peers=(pbx,))) as bench:
            call = bench.pbx.call(
                TOLL_FREE, caller="lobby", headers=[("P-Asserted-Identity", "<sip:204@example.com>")]
            )
            bench.run(0.5)
            invite = bench.carrier.calls[0].invite
            assert invite is not None
            assert "204" not in str(invite.headers.get("P-Asserted-Identity"))
            call.bye()
        assert bench.record.user == ""


class TestPeerTable:
    def test_narrowest_network_and_own_port_win(self) -> None:
        site = Peer("site", Side.PBX, networks=(ip_network("192.0.2.0/24"),))
        desk = Peer("desk", Side.PBX, networks=(ip_network("192.0.2.10/32"), ip_network("2001:db8::/64")))
        carrier = Peer(
            "carrier", Side.TRUNK, flow=Flow("UDP", *CARRIER), networks=(ip_network("192.0.2.90/32"),)
        )
        table = PeerTable(GateConfig(peers=(site, desk, carrier)))
        assert table.find(Flow("UDP", *PBX)) is desk
        assert table.find(Flow("UDP", *PBX)) is desk
        assert table.find(Flow("UDP", "192.0.2.77", 5060)) is site
        assert table.find(Flow("UDP", *CARRIER)) is carrier
        assert table.find(Flow("UDP", "2001:db8::7", 5060)) is desk
        assert table.find(Flow("UDP", "::ffff:192.0.2.77", 5060)) is site
        assert table.find(Flow("UDP", "fe80::1%eth0", 5060)) is None
        assert table.find(Flow("UDP", "no address", 5060)) is None

    def test_rfc5922_a_certificate_names_the_peer(self) -> None:
        roaming = Peer("roaming", Side.PBX, certificate_names=("pbx.example.com",))
        fixed = Peer(
            "fixed",
            Side.PBX,
            networks=(ip_network("192.0.2.40/32"),),
            certificate_names=("branch.example.com",),
        )
        table = PeerTable(GateConfig(peers=(roaming, fixed)))

        def found(host: str, *certified: str) -> Peer | None:
            return table.find(Flow("TLS", host, 40_000, 0, 1, certified))

        assert found("203.0.113.1", "www.example.com", "pbx.example.com") is roaming
        assert found("203.0.113.1", "www.example.com") is None
        assert found("192.0.2.40", "branch.example.com") is fixed
        assert found("192.0.2.40") is None
        assert found("203.0.113.1", "branch.example.com") is None

    def test_memory_of_strangers_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("proxy.call.identity._REMEMBERED", 10)
        table = PeerTable(GateConfig())
        for last in range(100):
            assert table.find(Flow("UDP", f"198.51.100.{last}", 5060)) is None
        assert len(table._by_host) <= 10


def test_phone_at_a_configured_address_still_proves_itself() -> None:
    phones = Peer("phones", Side.PHONES, networks=(ip_network("203.0.113.0/24"),), trusted=False)
    with GateBench(config=default_config(peers=(phones,), phones=phones)) as bench:
        call = bench.stranger.call(NUMBER)
        bench.run(0.5)
        assert call.status == 403
    assert CodeMode.ANSWER is phones.code_mode
