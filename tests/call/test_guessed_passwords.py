"""Who guesses SIP passwords is banned by source and user; the user's own phone never is, nor is help."""

from __future__ import annotations

import logging
from dataclasses import replace
from ipaddress import ip_network

import pytest

from proxy.call.authentication import DigestAuthenticator
from proxy.call.password_guard import BanRules, Heed, PasswordGuard
from proxy.policy import CodeTable, DigestCredential, Snapshot, User
from proxy.sip.digest import Algorithm, Ha1, answer_challenge, choose_challenge
from proxy.sip.digest_server import DigestServer, RecentNonceCounts
from proxy.sip.flow import Flow
from proxy.sip.message import Response
from proxy.sip.parser import parse_message
from proxy.sip.uri import format_host
from tests.call.phones import PHONES, PhoneBench
from tests.support.gate import NUMBER, GateBench, default_config, default_policy
from tests.support.ua import Step

THIEF = Flow("UDP", "203.0.113.66", 5060)
PHONE = Flow("UDP", "198.51.100.24", 5060)
BESIDE = Flow("UDP", "198.51.100.24", 40_000)
"""Somebody behind the same NAT as the phone."""
PHONE_TCP = Flow("TCP", "198.51.100.24", 5060, connection=7)
BESIDE_TCP = Flow("TCP", "198.51.100.24", 40_000, connection=8)
GATE = "sip:gate.example.com"


class Bench(GateBench):
    """A gate with phone 204, whose password is ``secret``, and packets from anywhere."""

    def __init__(self, *, algorithms: tuple[Algorithm, ...] = tuple(Algorithm), local: str = "") -> None:
        server = DigestServer("tollgate", b"k" * 32, RecentNonceCounts(), algorithms=algorithms)
        salts = iter(f"salt{n}" for n in range(1_000_000))
        credentials = tuple(
            DigestCredential(one.value, "tollgate", Ha1.of(one, "204", "tollgate", "secret").digest)
            for one in Algorithm
        )
        plain = default_policy()
        users = [User("204", "staff", credentials=credentials)]
        config = default_config(phones=PHONES)
        if local:
            object.__setattr__(config, "local_networks", (ip_network(local),))
        authenticator = DigestAuthenticator(server, lambda: next(salts))
        super().__init__(
            config=config,
            policy=Snapshot(plain.plan, plain.groups.values(), users, CodeTable.of(plain.codes)),
            authenticator=authenticator,
        )
        assert self.core.registrations is not None
        authenticator.bindings = self.core.registrations.registrar.bindings
        self._serial = 0

    def send(
        self, method: str, flow: Flow, authorization: str = "", *, uri: str = "", headers: str = ""
    ) -> Response:
        """Send a request from an address; return what comes back at once."""
        (response,) = self.answers(method, flow, authorization, uri=uri, headers=headers)
        return response

    def answers(
        self, method: str, flow: Flow, authorization: str = "", *, uri: str = "", headers: str = ""
    ) -> list[Response]:
        """Send a request from an address; return the responses that come back at once, but 100."""
        self._serial += 1
        uri = uri or (GATE if method in {"REGISTER", "SUBSCRIBE"} else f"sip:{NUMBER}@gate.example.com")
        lines = f"Authorization: {authorization}\r\n" if authorization else ""
        data = (
            f"{method} {uri} SIP/2.0\r\n"
            f"Via: SIP/2.0/{flow.transport} {format_host(flow.remote_host)}:{flow.remote_port}"
            f";branch=z9hG4bK{self._serial}\r\n"
            f"From: <sip:204@gate.example.com>;tag=s{self._serial}\r\nTo: <sip:204@gate.example.com>\r\n"
            f"Call-ID: c{self._serial}\r\nCSeq: {self._serial} {method}\r\n"
            f"Contact: <sip:204@{format_host(flow.remote_host)}:{flow.remote_port}>\r\n"
            f"Max-Forwards: 70\r\n{headers}{lines}Content-Length: 0\r\n\r\n"
        ).encode()
        self.gate.receive(data, flow, self.now)
        self.gate.settle(self.now)
        found = [parse_message(one.data) for one in self.gate.transmits()]
        return [one for one in found if isinstance(one, Response) and one.status != 100]

    def credentials(
        self,
        password: str,
        flow: Flow,
        *,
        method: str = "REGISTER",
        user: str = "204",
        uri: str = "",
        challenged_at: Flow | None = None,
    ) -> str:
        """Get a challenge and answer it."""
        first = self.send(method, challenged_at or flow)
        challenge = choose_challenge(first.headers.get_all("WWW-Authenticate"))
        assert challenge is not None
        uri = uri or (f"sip:{NUMBER}@gate.example.com" if method == "INVITE" else GATE)
        return str(
            answer_challenge(
                challenge, method=method, uri=uri, username=user, password=password, cnonce=str(self._serial)
            )
        )

    def guess(
        self, flow: Flow = THIEF, *, times: int = 1, user: str = "204", method: str = "REGISTER"
    ) -> list[int]:
        found = []
        for number in range(times):
            wrong = self.credentials(f"guess {number}", flow, method=method, user=user)
            found.append(self.send(method, flow, wrong).status)
        return found

    def register(self, flow: Flow = PHONE, *, headers: str = "") -> int:
        """Register, or refresh, with the right password."""
        return self.send("REGISTER", flow, self.credentials("secret", flow), headers=headers).status

    def disable(self) -> None:
        """Disable the user as an administrator does."""
        user = replace(self.core.policy.users["204"], enabled=False)
        self.core.policy = self.core.policy.with_changes(version=1, users=[user])

    def __exit__(self, *_: object) -> None:
        """Bindings outlive the tests; what else is left is the affair of others."""


class TestBan:
    @pytest.mark.parametrize("method", ["REGISTER", "INVITE", "SUBSCRIBE"])
    def test_the_tenth_guess_is_the_last_one_that_is_looked_at(self, method: str) -> None:
        bench = Bench()
        assert bench.guess(times=12, method=method) == [401] * 10 + [403] * 2
        right = bench.credentials("secret", THIEF, method=method)
        response = bench.send(method, THIEF, right)
        assert response.status == 403
        assert "WWW-Authenticate" not in response.headers

    def test_it_is_over_after_five_minutes(self) -> None:
        bench = Bench()
        bench.guess(times=10)
        bench.network.run_for(299.0)
        assert bench.guess() == [403]
        bench.network.run_for(1.0)
        assert bench.send("REGISTER", THIEF, bench.credentials("secret", THIEF)).status == 200

    def test_nine_in_a_minute_again_and_again_are_forgiven(self) -> None:
        bench = Bench()
        for _ in range(5):
            assert bench.guess(times=9) == [401] * 9
            bench.network.run_for(60.0)
        assert bench.send("REGISTER", THIEF, bench.credentials("secret", THIEF)).status == 200

    def test_who_exists_is_not_told_by_it(self) -> None:
        bench = Bench()
        assert bench.guess(times=12, user="999") == bench.guess(times=12, user="204")

    def test_the_users_own_phone_registers_and_calls(self) -> None:
        bench = Bench()
        bench.guess(times=50)
        assert bench.send("REGISTER", PHONE, bench.credentials("secret", PHONE)).status == 200
        invite = bench.credentials("secret", PHONE, method="INVITE")
        bench.answers("INVITE", PHONE, invite)
        assert len(bench.core.calls) == 1

    def test_another_phone_behind_the_same_address_is_not_meant(self) -> None:
        bench = Bench()
        bench.guess(times=50, user="999")
        assert bench.send("REGISTER", THIEF, bench.credentials("secret", THIEF)).status == 200

    def test_help_is_reached_from_a_local_network_and_from_the_address_of_a_phone(self) -> None:
        for bench in (Bench(local="203.0.113.0/24"), Bench()):
            bench.send("REGISTER", THIEF, bench.credentials("secret", THIEF))
            bench.guess(times=20, method="INVITE")
            wrong = bench.credentials("x", THIEF, method="INVITE")
            assert bench.answers("INVITE", THIEF, wrong, uri="sip:911@gate.example.com") == []
            (call,) = bench.core.calls.values()
            assert call.route.emergency

    def test_a_call_for_help_is_challenged_ten_times_and_placed_with_the_right_password(self) -> None:
        bench, help_ = Bench(), "sip:911@gate.example.com"
        assert bench.guess(times=12, method="INVITE")[-1] == 403
        for _ in range(3):
            wrong = bench.credentials("wrong", THIEF, method="INVITE", uri=help_)
            refused = bench.send("INVITE", THIEF, wrong, uri=help_)
            assert (refused.status, "WWW-Authenticate" in refused.headers) == (401, True)
        right = bench.credentials("secret", THIEF, method="INVITE", uri=help_)
        assert bench.answers("INVITE", THIEF, right, uri=help_) == []
        (call,) = bench.core.calls.values()
        assert call.route.emergency
        # For all else the ban goes on, and for help too: ten credentials are looked at while it lasts.
        assert bench.guess(method="INVITE") == bench.guess() == [403]
        subscribed = bench.credentials("secret", THIEF, method="SUBSCRIBE")
        assert bench.send("SUBSCRIBE", THIEF, subscribed, uri=help_).status == 403
        for left in range(6, 0, -1):
            wrong = bench.credentials("wrong", THIEF, method="INVITE", uri=help_)
            assert bench.send("INVITE", THIEF, wrong, uri=help_).status == 401, left
        right = bench.credentials("secret", THIEF, method="INVITE", uri=help_)
        assert bench.send("INVITE", THIEF, right, uri=help_).status == 403
        # Ten tries have not made the ban longer, and the next one spares as many again.
        bench.network.run_for(300.0)
        assert bench.send("REGISTER", THIEF, bench.credentials("secret", THIEF)).status == 200
        bench.guess(times=12)
        right = bench.credentials("secret", THIEF, method="INVITE", uri=help_)
        assert bench.answers("INVITE", THIEF, right, uri=help_) == []

    @pytest.mark.parametrize("disabled", [False, True])
    @pytest.mark.parametrize("old", ["expired", "used", "of elsewhere"])
    def test_an_old_nonce_tells_a_banned_source_nothing_by_a_call_for_help(
        self, old: str, *, disabled: bool
    ) -> None:
        """A right password with it is answered as a wrong one is, and no call is placed."""
        bench, help_, answers = Bench(), "sip:911@gate.example.com", []
        if disabled:
            bench.disable()
        for password in ("wrong", "secret"):
            bench.network.run_for(301.0)  # no ban of before
            nonce_at = PHONE if old == "of elsewhere" else THIEF
            kept = bench.credentials(password, THIEF, method="INVITE", uri=help_, challenged_at=nonce_at)
            if old == "used":
                bench.answers("INVITE", THIEF, kept, uri=help_)
                bench.run(30.0)
            elif old == "expired":
                bench.network.run_for(301.0)
            placed = len(bench.core.calls)
            assert bench.guess(times=12)[-1] == 403
            found = [bench.send("INVITE", THIEF, kept, uri=help_) for _ in range(12)]
            answers.append(
                [(one.status, "stale" in str(one.headers.get("WWW-Authenticate"))) for one in found]
            )
            assert len(bench.core.calls) == placed
        wrong, right = answers
        assert wrong == right
        assert not any(stale for _, stale in right)

    def test_help_spares_a_network_of_ipv6_addresses_no_more_than_one_address(self) -> None:
        guard = PasswordGuard(BanRules(spared=3))
        flows = [Flow("UDP", f"2001:db8::{number:x}", 5060) for number in range(1, 105)]
        for flow in flows[:100]:
            guard.wrong(flow, "204", "REGISTER", genuine=True, now=0.0)
        assert [guard.spares(flow, "204", now=1.0) for flow in flows[100:]] == [True] * 3 + [False]

    def test_it_can_be_switched_off(self) -> None:
        guard = PasswordGuard(BanRules(tries=0))
        for _ in range(100):
            guard.wrong(THIEF, "204", "REGISTER", genuine=True, now=0.0)
        assert guard.heed(THIEF, "204", genuine=True, now=0.0) is Heed.VERIFY

    def test_a_network_of_ipv6_addresses_has_ten_times_the_tries_of_one(self) -> None:
        guard = PasswordGuard(BanRules())
        flows = [Flow("UDP", f"2001:db8::{number:x}", 5060) for number in range(1, 102)]
        for flow in flows[:100]:
            assert guard.heed(flow, "204", genuine=True, now=0.0) is Heed.VERIFY
            guard.wrong(flow, "204", "REGISTER", genuine=True, now=0.0)
        assert guard.heed(flows[100], "204", genuine=True, now=1.0) is Heed.REFUSE
        assert guard.heed(flows[100], "204", genuine=False, now=1.0) is Heed.CHALLENGE
        neighbour = Flow("UDP", "2001:db8:0:1::1", 5060)
        assert guard.heed(neighbour, "204", genuine=True, now=1.0) is Heed.VERIFY
        for number in range(200):
            mapped = Flow("UDP", f"::ffff:192.0.2.{number}", 5060)
            assert guard.heed(mapped, "204", genuine=True, now=1.0) is Heed.VERIFY
            guard.wrong(mapped, "204", "REGISTER", genuine=True, now=1.0)
        link_local = Flow("UDP", "fe80::1%eth0", 5060)
        assert guard.heed(link_local, "204", genuine=True, now=1.0) is Heed.VERIFY

    def test_memory_is_bounded(self) -> None:
        guard = PasswordGuard(BanRules(tries=1))
        for number in range(10_050):
            guard.wrong(THIEF, str(number), "REGISTER", genuine=False, now=0.0)
        assert guard.heed(THIEF, "49", genuine=False, now=1.0) is Heed.VERIFY
        assert guard.heed(THIEF, "50", genuine=False, now=1.0) is Heed.CHALLENGE
        assert guard.heed(THIEF, "10049", genuine=False, now=1.0) is Heed.CHALLENGE

    def test_forged_sources_without_end_push_out_no_ban_and_no_count_of_a_genuine_one(self) -> None:
        guard = PasswordGuard(BanRules(tries=2))
        other = Flow("UDP", "203.0.113.67", 5060)
        for flow in (THIEF, THIEF, other):
            guard.wrong(flow, "204", "REGISTER", genuine=True, now=0.0)
        for number in range(10_050):
            for _ in range(2):
                guard.wrong(Flow("UDP", f"10.0.{number}", 5060), "204", "INVITE", genuine=False, now=1.0)
        assert guard.heed(THIEF, "204", genuine=True, now=2.0) is Heed.REFUSE
        guard.wrong(other, "204", "REGISTER", genuine=True, now=2.0)
        assert guard.heed(other, "204", genuine=True, now=2.0) is Heed.REFUSE


class TestPhoneBehindTheGuessersAddress:
    """A ban is of an address; a registered phone there is known by the flow that it keeps."""

    @pytest.mark.parametrize(("phone", "beside"), [(PHONE, BESIDE), (PHONE_TCP, BESIDE_TCP)])
    def test_it_registers_and_calls_and_the_guesser_does_not(self, phone: Flow, beside: Flow) -> None:
        bench = Bench()
        assert bench.register(phone) == 200
        assert bench.guess(beside, times=12) == [401] * 10 + [403] * 2
        assert bench.register(phone) == 200
        invite = bench.credentials("secret", phone, method="INVITE")
        bench.answers("INVITE", phone, invite)
        assert len(bench.core.calls) == 1
        right = bench.credentials("secret", beside)
        assert bench.send("REGISTER", beside, right).status == 403
        assert bench.guess(beside, times=20, method="INVITE") == [403] * 20
        assert bench.register(phone) == 200

    def test_it_is_heard_where_a_whole_network_of_ipv6_addresses_has_guessed(self) -> None:
        guard = PasswordGuard(BanRules())
        for number in range(2, 102):
            flow = Flow("UDP", f"2001:db8::{number:x}", 5060)
            guard.wrong(flow, "204", "REGISTER", genuine=True, now=0.0)
        phone = Flow("UDP", "2001:db8::1", 5060)
        assert guard.heed(phone, "204", genuine=True, now=1.0) is Heed.REFUSE
        assert guard.heed(phone, "204", genuine=True, own=True, now=1.0) is Heed.VERIFY
        for _ in range(10):
            guard.wrong(phone, "204", "REGISTER", genuine=True, own=True, now=1.0)
        assert guard.heed(phone, "204", genuine=True, own=True, now=2.0) is Heed.REFUSE
        spared = [guard.spares(phone, "204", own=True, now=2.0) for _ in range(12)]
        assert spared == [True] * 10 + [False] * 2

    def test_over_its_flow_there_are_ten_tries_too(self) -> None:
        bench = Bench()
        assert bench.register() == 200
        bench.guess(BESIDE, times=10)
        bench.network.run_for(200.0)
        assert bench.guess(PHONE, times=12) == [401] * 10 + [403] * 2
        assert bench.register() == 403
        bench.network.run_for(150.0)
        assert bench.register(BESIDE) == 200, "tries over the flow make the address's ban no longer"
        assert bench.register() == 403
        bench.network.run_for(150.0)
        assert bench.register() == 200

    def test_tries_over_its_flow_are_tries_of_its_address(self) -> None:
        bench = Bench()
        assert bench.register() == 200
        assert bench.guess(PHONE, times=12) == [401] * 10 + [403] * 2
        assert bench.guess(BESIDE) == [403]

    def test_an_old_nonce_of_its_own_is_stale_as_ever(self) -> None:
        bench = Bench()
        used = bench.credentials("secret", PHONE)
        assert bench.send("REGISTER", PHONE, used).status == 200
        bench.guess(BESIDE, times=10)
        again = bench.send("REGISTER", PHONE, used)
        assert (again.status, "stale=true" in str(again.headers.get("WWW-Authenticate"))) == (401, True)
        assert bench.register() == 200

    def test_what_it_has_sent_tells_the_guesser_nothing(self) -> None:
        """Not even one that has heard it, and so has the right answer to a nonce of this address."""
        bench = Bench()
        heard = bench.credentials("secret", PHONE)
        assert bench.send("REGISTER", PHONE, heard).status == 200
        unused = bench.credentials("secret", PHONE)
        wrong = bench.credentials("wrong", PHONE)
        elsewhere = bench.credentials("secret", PHONE, challenged_at=THIEF)
        bench.guess(BESIDE, times=10)
        assert {bench.send("REGISTER", BESIDE, one).status for one in (heard, unused, wrong)} == {403}
        # Over the phone's flow itself a nonce of elsewhere is worth a challenge, and no word about it.
        told = bench.send("REGISTER", PHONE, elsewhere)
        assert (told.status, "stale" in str(told.headers.get("WWW-Authenticate"))) == (401, False)

    @pytest.mark.parametrize(
        "other",
        [
            PHONE_TCP._replace(connection=9),
            PHONE_TCP._replace(connection=0),
            PHONE._replace(remote_port=5061),
            PHONE,
        ],
    )
    def test_another_connection_port_or_transport_is_not_its_flow(self, other: Flow) -> None:
        bench = Bench()
        assert bench.register(PHONE_TCP) == 200
        bench.guess(BESIDE, times=10)
        assert bench.register(other) == 403

    def test_who_has_unregistered_or_is_another_user_has_no_flow(self) -> None:
        bench = Bench()
        assert bench.register() == 200
        bench.guess(BESIDE, times=10, user="999")
        assert bench.guess(PHONE, user="999") == [403]
        bench.guess(BESIDE, times=10)
        assert bench.register(headers="Expires: 0\r\n") == 200
        assert bench.register() == 403


class TestDisabledUser:
    """DESIGN 1.4: nothing can switch calls for help off."""

    HELP = "sip:911@gate.example.com"

    def test_its_phone_calls_help_with_the_right_password(self) -> None:
        bench = Bench()
        bench.disable()
        right = bench.credentials("secret", PHONE, method="INVITE", uri=self.HELP)
        assert bench.answers("INVITE", PHONE, right, uri=self.HELP) == []
        (call,) = bench.core.calls.values()
        assert call.route.emergency
        assert (call.record.user, call.route.caller.proved) == ("204", None)

    def test_its_phone_calls_help_although_it_was_banned_for_trying_to_register(self) -> None:
        bench = Bench()
        bench.disable()
        rights = [bench.credentials("secret", PHONE) for _ in range(12)]
        assert [bench.send("REGISTER", PHONE, one).status for one in rights][-1] == 403
        right = bench.credentials("secret", PHONE, method="INVITE", uri=self.HELP)
        assert bench.answers("INVITE", PHONE, right, uri=self.HELP) == []

    @pytest.mark.parametrize("method", ["INVITE", "REGISTER", "SUBSCRIBE"])
    def test_it_does_nothing_else_and_a_right_password_is_as_good_as_a_wrong_one(self, method: str) -> None:
        found = []
        for password in ("secret", "wrong"):
            bench = Bench()
            bench.disable()
            tries = [bench.credentials(password, PHONE, method=method) for _ in range(12)]
            found.append([bench.send(method, PHONE, one).status for one in tries])
            assert not bench.core.calls
        assert found[0] == found[1] == [401] * 10 + [403] * 2

    def test_a_wrong_password_calls_no_help(self) -> None:
        bench = Bench()
        bench.disable()
        wrong = bench.credentials("wrong", PHONE, method="INVITE", uri=self.HELP)
        assert bench.send("INVITE", PHONE, wrong, uri=self.HELP).status == 401

    def test_an_old_nonce_is_no_proof_and_the_next_one_is(self) -> None:
        bench = Bench()
        bench.disable()
        old = bench.credentials("secret", PHONE, method="INVITE", uri=self.HELP)
        bench.network.run_for(301.0)
        refused = bench.send("INVITE", PHONE, old, uri=self.HELP)
        assert (refused.status, "stale" in str(refused.headers.get("WWW-Authenticate"))) == (401, False)
        right = bench.credentials("secret", PHONE, method="INVITE", uri=self.HELP)
        assert bench.answers("INVITE", PHONE, right, uri=self.HELP) == []


class TestForgedSource:
    """Packets that say they come from a phone's address: whoever sends them gets no challenge there."""

    def test_they_do_not_ban_the_phone(self) -> None:
        bench = Bench()
        for number in range(50):
            forged = bench.credentials(f"guess {number}", PHONE, challenged_at=THIEF)
            assert bench.send("REGISTER", PHONE, forged).status == 401
        assert bench.send("REGISTER", PHONE, bench.credentials("secret", PHONE)).status == 200

    def test_they_do_not_get_it_banned_by_who_reads_the_log(self, caplog: pytest.LogCaptureFixture) -> None:
        bench = Bench()
        with caplog.at_level(logging.INFO):
            for number in range(50):
                bench.send("REGISTER", PHONE, bench.credentials(f"{number}", PHONE, challenged_at=THIEF))
        assert not [one for one in caplog.records if one.name == "proxy.call.security_log"]

    def test_a_nonce_of_elsewhere_is_no_way_to_try_passwords_for_ever(self) -> None:
        """stale=true tells that the password is right: it is told so often only."""
        bench = Bench()
        for number in range(10):
            bench.send("REGISTER", THIEF, bench.credentials(f"{number}", THIEF, challenged_at=PHONE))
        response = bench.send("REGISTER", THIEF, bench.credentials("secret", THIEF, challenged_at=PHONE))
        assert response.status == 401
        assert "stale" not in (response.headers.get("WWW-Authenticate") or "")


class TestLog:
    def test_each_guess_and_the_ban_have_a_line_with_the_sockets_address(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        bench = Bench()
        with caplog.at_level(logging.WARNING):
            bench.guess(times=40)
        lines = [one.getMessage() for one in caplog.records if one.name == "proxy.call.security_log"]
        facts = "source=203.0.113.66 port=5060 transport=UDP method=REGISTER user=204"
        assert lines == [f"security event=auth_failed {facts}"] * 9 + [
            f"security event=source_banned {facts}"
        ]


class TestDigest:
    """Replay, algorithms, endless challenges, credentials of the wrong side (RFC 7616 §5, RFC 8760 §2)."""

    def test_rfc7616_5_4_a_recorded_register_is_worth_a_stale_challenge_from_anywhere(self) -> None:
        bench = Bench()
        recorded = bench.credentials("secret", PHONE)
        assert bench.send("REGISTER", PHONE, recorded).status == 200
        for flow in (PHONE, THIEF):
            for _ in range(20):
                again = bench.send("REGISTER", flow, recorded)
                assert again.status == 401
                assert "stale=true" in (again.headers.get("WWW-Authenticate") or "")

    def test_rfc7616_3_4_6_a_registers_credentials_place_no_call(self) -> None:
        bench = Bench()
        recorded = bench.credentials("secret", PHONE)
        assert bench.send("INVITE", PHONE, recorded).status == 401

    def test_rfc7616_3_4_6_one_numbers_credentials_place_no_call_to_another(self) -> None:
        bench = Bench()
        recorded = bench.credentials("secret", PHONE, method="INVITE")
        dear = bench.send("INVITE", PHONE, recorded, uri="sip:919005550123@gate.example.com")
        assert dear.status == 401

    def test_rfc8760_an_algorithm_that_is_not_offered_proves_nothing(self) -> None:
        """MD5 credentials for a gate that offers SHA-256 alone, with the right password: a downgrade."""
        bench = Bench(algorithms=(Algorithm.SHA256,))
        first = bench.send("REGISTER", PHONE)
        offered = first.headers.get_all("WWW-Authenticate")
        assert len(offered) == 1
        assert "SHA-256" in offered[0]
        challenge = choose_challenge([offered[0].replace("SHA-256", "MD5")])
        assert challenge is not None
        weak = answer_challenge(
            challenge, method="REGISTER", uri=GATE, username="204", password="secret", cnonce="c"
        )
        assert bench.send("REGISTER", PHONE, str(weak)).status == 401

    def test_rfc8760_an_algorithm_that_the_user_has_no_hash_for_proves_nothing(self) -> None:
        bench = Bench()
        user = bench.core.policy.users["204"]
        strong = tuple(one for one in user.credentials if one.algorithm != "MD5")
        one = User("204", "staff", credentials=strong)
        bench.core.policy = bench.core.policy.with_changes(version=1, users=[one])
        offered = bench.send("REGISTER", PHONE).headers.get_all("WWW-Authenticate")
        challenge = choose_challenge([value for value in offered if "MD5" in value])
        assert challenge is not None
        weak = answer_challenge(
            challenge, method="REGISTER", uri=GATE, username="204", password="secret", cnonce="c"
        )
        assert bench.send("REGISTER", PHONE, str(weak)).status == 401
        assert bench.send("REGISTER", PHONE, bench.credentials("secret", PHONE)).status == 200

    def test_endless_requests_for_a_challenge_cost_nothing_that_stays(self) -> None:
        bench = Bench()
        for port in range(2_000):
            assert bench.send("REGISTER", Flow("UDP", "203.0.113.67", 1024 + port)).status == 401
        assert bench.gate.endpoint.idle
        assert bench.core.idle

    @pytest.mark.parametrize("header", ["Proxy-Authorization", "Authentication-Info", "WWW-Authenticate"])
    def test_credentials_in_the_wrong_header_prove_nothing(self, header: str) -> None:
        bench = Bench()
        right = bench.credentials("secret", PHONE)
        assert bench.send("REGISTER", PHONE, headers=f"{header}: {right}\r\n").status == 401


@pytest.mark.parametrize("status", [401, 407])
@pytest.mark.parametrize("header", ["WWW-Authenticate", "Proxy-Authenticate"])
class TestCredentialsAskedByTheWrongSide:
    """Who is called, or calls, asks the gate for a password: nobody but a trunk with an account gets any, and
    no challenge crosses to the caller, whose phone might answer it."""

    CHALLENGE = 'Digest realm="tollgate", nonce="n", algorithm=MD5, qop="auth"'

    def test_a_trunk_without_an_account_gets_none(self, status: int, header: str) -> None:
        script = (Step(0.0, status, headers=((header, self.CHALLENGE),)),)
        with GateBench(script=script) as bench:
            call = bench.dial_with_code()
            bench.run(5.0)
            asked = [one.invite for one in bench.carrier.calls]
            assert len(asked) == 1
            assert asked[0] is not None
            assert not {"Authorization", "Proxy-Authorization"} & {
                name for name, _ in asked[0].headers.items()
            }
            assert all(
                header not in response.headers and response.status not in {401, 407}
                for response in call.responses
            )
            bench.run(10.0)

    def test_a_phone_that_is_called_gets_none(self, status: int, header: str) -> None:
        with PhoneBench() as bench:
            bench.register(bench.desk, "204")
            bench.desk.script = (Step(0.0, status, headers=((header, self.CHALLENGE),)),)
            call = bench.carrier.call("+12125550204", caller="+13125550100")
            bench.run(5.0)
            (asked,) = [one.invite for one in bench.desk.calls]
            assert asked is not None
            assert not {"Authorization", "Proxy-Authorization"} & {name for name, _ in asked.headers.items()}
            assert all(
                header not in response.headers and response.status not in {401, 407}
                for response in call.responses
            )
