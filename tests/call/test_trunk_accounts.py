"""The gate's accounts at carriers: registrations kept up, INVITEs with credentials."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import replace

import pytest

from proxy.call import trunk_accounts
from proxy.call.config import Trunk
from proxy.call.trunk_accounts import RegistrationState, RegistrationStatus, TrunkAccounts, TrunkRegistration
from proxy.cdr.record import Disposition
from proxy.sip.config import EndpointConfig
from proxy.sip.digest import Credentials, Ha1, digest_response
from proxy.sip.digest_client import DigestAccount
from proxy.sip.endpoint import Endpoint
from proxy.sip.events import RequestFailed, RequestReceived, ResponseReceived
from proxy.sip.flow import Flow, ListenPoint, Transmit
from proxy.sip.message import Request
from proxy.sip.parser import parse_message
from proxy.sip.timers import NEVER
from tests.support.gate import CARRIER, CARRIER_2, GATE, PBX, STRANGER, GateBench, default_config
from tests.support.ids import CountingIds
from tests.support.network import Address
from tests.support.ua import ANSWER, Step, Ua, UaCall, sdp

TOLL_FREE = "918005550123"
ACCOUNT = DigestAccount("gate-user", "gate-password", ("carrier",), "gate-line")
A, B = Flow("UDP", "198.51.100.1", 5060, 0), Flow("TLS", "2001:db8::2", 5061, 1)
TRUNK = Trunk("carrier", (A,), "carrier.example", account=ACCOUNT, register=True, register_expires=600)
CHALLENGE = 'Digest realm="carrier", nonce="n1", qop="auth"'
CONTACT = "<sip:gate-line@192.0.2.1:5060>"


class Registrar:
    """What a carrier sees of the gate's REGISTERs, and what it answers."""

    def __init__(self, *trunks: Trunk) -> None:
        points = (ListenPoint("UDP", "192.0.2.1", 5060), ListenPoint("TLS", "2001:db8::1", 5061))
        self.endpoint = Endpoint(EndpointConfig(points), CountingIds())
        self.accounts = TrunkAccounts(self.endpoint)
        self.accounts.reconfigure(trunks)
        self.now = 100.0
        self.flow = A
        self._sent: deque[Transmit] = deque()

    def request(self, seconds: float = 0.0) -> Request | None:
        """Let time pass until the gate sends something new; the REGISTER, or None."""
        end = self.now + seconds
        while True:
            self._sent += self.endpoint.transmits()
            if self._sent:
                data, flow = self._sent.popleft()
                request = parse_message(data)
                assert isinstance(request, Request)
                self.flow, self.last = flow, request
                return request
            due = self.accounts.next_timer()
            if due > end:
                self.now = end
                return None
            self.now = max(self.now, due)
            self.accounts.handle_timer(self.now)

    def expect(self, seconds: float = 0.0) -> Request:
        request = self.request(seconds)
        assert request is not None
        assert request.method == "REGISTER"
        return request

    def answer(self, status: int, *headers: str) -> None:
        lines = [f"SIP/2.0 {status} X"]
        lines += [
            f"{name}: {self.last.headers.get(name)}" for name in ("Via", "From", "To", "Call-ID", "CSeq")
        ]
        text = "\r\n".join([*lines, *headers, "Content-Length: 0", "", ""])
        self.endpoint.receive(text.encode(), self.flow, self.now)
        for event in self.endpoint.events():
            assert isinstance(event, ResponseReceived)
            assert isinstance(event.transaction.owner, TrunkRegistration)
            event.transaction.owner.responded(event.transaction, event.response, self.now)

    def fail(self) -> None:
        self.endpoint.transport_failed(self.flow, self.now)
        for event in self.endpoint.events():
            assert isinstance(event, RequestFailed)
            assert isinstance(event.transaction.owner, TrunkRegistration)
            event.transaction.owner.unanswered(event.transaction, self.now)

    @property
    def status(self) -> RegistrationStatus | None:
        return self.accounts.status("carrier")

    @property
    def state(self) -> RegistrationState | None:
        return None if self.status is None else self.status.state


def proved(value: str | None, method: str) -> Credentials:
    """Check credentials as the carrier does."""
    credentials = Credentials.parse(value or "")
    assert credentials is not None
    assert credentials.algorithm is not None
    ha1 = Ha1.of(credentials.algorithm, "gate-user", "carrier", "gate-password")
    assert credentials.response == digest_response(ha1, credentials, method)
    return credentials


def test_rfc3261_10_2_a_register_says_who_and_where() -> None:
    registrar = Registrar(TRUNK)
    register = registrar.expect()
    assert register.uri == "sip:carrier.example"
    assert register.from_.uri_text == register.to.uri_text == "sip:gate-line@carrier.example"
    assert register.headers.get("Contact") == CONTACT
    assert register.headers.get("Expires") == "600"
    assert "Authorization" not in register.headers
    assert registrar.flow == A
    assert registrar.state is RegistrationState.REGISTERING
    assert not registrar.accounts.usable(TRUNK, registrar.now)


def test_rfc3261_22_2_a_challenge_is_answered_and_the_binding_renewed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    registrar = Registrar(TRUNK)
    first = registrar.expect()
    registrar.answer(401, f"WWW-Authenticate: {CHALLENGE}")
    second = registrar.expect()
    assert proved(second.headers.get("Authorization"), "REGISTER").nonce_count == 1
    assert second.call_id == first.call_id
    assert second.from_.tag == first.from_.tag
    assert second.cseq.number == first.cseq.number + 1
    registrar.answer(200, f"Contact: {CONTACT};expires=300")
    assert registrar.status == RegistrationStatus(RegistrationState.REGISTERED, "")
    assert registrar.accounts.usable(TRUNK, registrar.now + 299.9)
    assert not registrar.accounts.usable(TRUNK, registrar.now + 300.0)
    assert registrar.request(239.9) is None
    third = registrar.expect(0.1)
    assert proved(third.headers.get("Authorization"), "REGISTER").nonce_count == 2
    assert (third.call_id, third.cseq.number) == (first.call_id, 3)
    registrar.answer(200, f"Contact: {CONTACT};expires=300")
    assert registrar.accounts.usable(TRUNK, registrar.now + 299.9)
    assert [record.message for record in caplog.records] == ["trunk carrier is registered for 300 s"]
    assert "gate-password" not in caplog.text


STRANGERS = (
    "Contact: <sip:gate-line@198.51.100.9:5060>;expires=50",
    "Contact: <sip:other@192.0.2.1:5060>;expires=50",
)
"""Two bindings that are not the gate's."""


@pytest.mark.parametrize(
    ("headers", "refresh"),
    [
        (("Contact: <sip:other@198.51.100.9>;expires=50", f"Contact: {CONTACT};expires=100"), 80.0),
        ((*STRANGERS, "Expires: 200"), 160.0),
        ((*STRANGERS, "Contact: <sip:gate-line@192.0.2.1>;expires=60"), 48.0),
        ((*STRANGERS, "Contact: <sip:gate-line@[2001:DB8::1];transport=tls>;expires=60"), 48.0),
        ((*STRANGERS, "Contact: <sip:gate-line@[2001:db8::1]:5060>;expires=60"), 480.0),
        (("Contact: <sip:gate-line@203.0.113.5:1024>;expires=60", "Expires: 200"), 48.0),
        (("Contact: <sip:1002@192.0.2.1>;expires=60",), 48.0),
        ((f"Contact: {CONTACT}", "Expires: 200"), 160.0),
        ((f"Contact: {CONTACT};expires=soon",), 480.0),
        ((), 480.0),
        ((f"Contact: {CONTACT};expires=3",), 10.0),
    ],
)
def test_rfc3261_10_2_4_the_granted_expiry_counts(headers: tuple[str, ...], refresh: float) -> None:
    registrar = Registrar(TRUNK)
    registrar.expect()
    registrar.answer(200, *headers)
    assert registrar.request(refresh - 0.1) is None
    registrar.expect(0.1)


def test_a_registrar_that_keeps_no_binding_is_a_failure() -> None:
    registrar = Registrar(TRUNK)
    registrar.expect()
    registrar.answer(200, f"Contact: {CONTACT};expires=0")
    assert registrar.status == RegistrationStatus(RegistrationState.WAITING, "the registrar keeps no binding")


def test_rfc3261_10_2_8_a_longer_expiry_is_taken() -> None:
    registrar = Registrar(TRUNK)
    registrar.expect()
    registrar.answer(423, "Min-Expires: 1800")
    assert registrar.expect().headers.get("Expires") == "1800"
    registrar.answer(423, "Min-Expires: 900")
    assert registrar.state is RegistrationState.WAITING


@pytest.mark.parametrize("minimum", ["", "Min-Expires: never", "Min-Expires: 99999999"])
def test_a_423_that_cannot_be_met_is_a_failure(minimum: str) -> None:
    registrar = Registrar(TRUNK)
    registrar.expect()
    registrar.answer(423, *([minimum] if minimum else []))
    assert registrar.state is RegistrationState.WAITING


def test_a_wrong_password_is_tried_once_and_then_seldom() -> None:
    registrar = Registrar(TRUNK)
    registrar.expect()
    registrar.answer(401, f"WWW-Authenticate: {CHALLENGE}")
    registrar.expect()
    registrar.answer(401, f"WWW-Authenticate: {CHALLENGE}")
    assert registrar.status == RegistrationStatus(RegistrationState.WAITING, "401 to REGISTER")
    assert registrar.request(trunk_accounts.FIRST_WAIT / 2 - 0.1) is None
    registrar.expect(trunk_accounts.FIRST_WAIT / 2 + 0.1)


def test_a_challenge_of_another_realm_gets_no_credentials() -> None:
    registrar = Registrar(TRUNK)
    registrar.expect()
    registrar.answer(401, f"WWW-Authenticate: {CHALLENGE.replace('carrier', 'elsewhere')}")
    assert registrar.request() is None


def test_rfc5626_4_5_waits_grow_after_failures() -> None:
    registrar = Registrar(TRUNK)
    registrar.expect()
    longest = trunk_accounts.FIRST_WAIT
    for _ in range(8):
        registrar.answer(503)
        before = registrar.now
        registrar.expect(2_000.0)
        longest_now = min(longest, trunk_accounts.LONGEST_WAIT)
        assert longest_now / 2 <= registrar.now - before <= longest_now
        longest *= 2


def test_retry_after_is_heeded_within_bounds() -> None:
    registrar = Registrar(TRUNK)
    registrar.expect()
    registrar.answer(503, "Retry-After: 120 (busy);duration=60")
    assert registrar.request(119.9) is None
    registrar.expect(0.1)


def test_the_next_address_is_tried_at_once() -> None:
    registrar = Registrar(replace(TRUNK, flows=(A, B), host="2001:db8::2"))
    assert registrar.expect().uri == "sip:[2001:db8::2]"
    registrar.fail()
    second = registrar.expect()
    assert registrar.flow == B
    assert second.headers.get("Contact") == "<sip:gate-line@[2001:db8::1]:5061;transport=tls>"
    registrar.fail()
    assert registrar.status == RegistrationStatus(RegistrationState.WAITING, "no answer to REGISTER")
    assert registrar.request(10.0) is None
    registrar.expect(30.0)
    assert registrar.flow == A


def test_a_refresh_that_fails_leaves_the_binding_until_its_end() -> None:
    registrar = Registrar(TRUNK)
    registrar.expect()
    registrar.answer(200, "Expires: 600")
    registrar.expect(480.0)
    registrar.fail()
    assert registrar.state is RegistrationState.WAITING
    assert registrar.accounts.usable(TRUNK, registrar.now + 119.9)
    assert not registrar.accounts.usable(TRUNK, registrar.now + 120.0)


def test_a_trunk_without_an_address_waits_for_one() -> None:
    registrar = Registrar(replace(TRUNK, flows=()))
    assert registrar.request(10.0) is None
    assert registrar.status == RegistrationStatus(RegistrationState.WAITING, "no address")
    registrar.accounts.reconfigure((TRUNK,))
    registrar.expect(30.0)


def test_what_comes_too_late_changes_nothing() -> None:
    registrar = Registrar(TRUNK)
    registrar.expect()
    (one,) = registrar.accounts._registrations.values()
    transaction = one._transaction
    assert transaction is not None
    registrar.answer(200, "Expires: 600")
    one.unanswered(transaction, registrar.now)
    response = parse_message(
        b"SIP/2.0 503 X\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n"
        b"To: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 REGISTER\r\n\r\n"
    )
    assert not isinstance(response, Request)
    one.responded(transaction, response, registrar.now)
    assert registrar.state is RegistrationState.REGISTERED


def test_rfc3261_10_2_2_the_end_removes_the_binding() -> None:
    registrar = Registrar(TRUNK)
    registrar.expect()
    registrar.answer(401, f"WWW-Authenticate: {CHALLENGE}")
    registrar.expect()
    registrar.answer(200, "Expires: 600")
    registrar.accounts.leave(registrar.now)
    register = registrar.expect()
    assert register.headers.get("Expires") == "0"
    proved(register.headers.get("Authorization"), "REGISTER")
    registrar.answer(200)
    assert registrar.state is RegistrationState.GONE
    assert registrar.accounts.next_timer() == NEVER
    registrar.accounts.leave(registrar.now)
    assert registrar.request(1_000.0) is None


def test_the_end_without_an_answer_is_the_end_too() -> None:
    registrar = Registrar(TRUNK)
    registrar.expect()
    registrar.answer(200, "Expires: 600")
    registrar.accounts.leave(registrar.now)
    registrar.expect()
    registrar.fail()
    assert registrar.state is RegistrationState.GONE


def test_without_an_account_there_is_nothing() -> None:
    registrar = Registrar(Trunk("carrier", (A,), "carrier.example"))
    assert registrar.status is None
    assert registrar.accounts.usable(TRUNK, 0.0)
    assert registrar.accounts.attempt(TRUNK) is None
    assert registrar.accounts.next_timer() == NEVER


def test_an_account_without_registration_answers_challenges_only() -> None:
    registrar = Registrar(replace(TRUNK, register=False))
    assert registrar.request(100.0) is None
    assert registrar.accounts.attempt(TRUNK) is not None
    assert registrar.accounts.usable(TRUNK, 0.0)


def test_a_reload_keeps_registrations_and_leaves_those_that_are_gone() -> None:
    registrar = Registrar(TRUNK)
    registrar.expect()
    registrar.answer(200, "Expires: 600")
    registrar.accounts.reconfigure((replace(TRUNK, codecs=("PCMA",)),))
    assert registrar.status == RegistrationStatus(RegistrationState.REGISTERED, "")
    assert registrar.request(10.0) is None
    other = replace(TRUNK, account=replace(ACCOUNT, password="another"))
    registrar.accounts.reconfigure((other,))
    assert registrar.status == RegistrationStatus(RegistrationState.WAITING, "")
    assert registrar.expect().headers.get("Expires") == "0"
    registrar.answer(200)
    assert registrar.expect().headers.get("Expires") == "600"


# Calls ------------------------------------------------------------------------------------------------------

ONE = Trunk("first", (Flow("UDP", *CARRIER),), "one.example.com", account=ACCOUNT)
TWO = Trunk("second", (Flow("UDP", *CARRIER_2),), "two.example.com")
REFUSED = (Step(0.05, 407, headers=(("Proxy-Authenticate", CHALLENGE),)),)


def test_rfc3261_22_3_an_invite_is_repeated_with_credentials() -> None:
    with GateBench(config=default_config(trunks=(ONE, TWO)), script=REFUSED) as bench:
        call = bench.pbx.call(TOLL_FREE)
        bench.run(0.02)
        bench.carrier.script = ANSWER
        bench.run(0.5)
        assert call.status == 200
        first, second = (one.invite for one in bench.carrier.calls)
        assert first is not None
        assert second is not None
        credentials = proved(second.headers.get("Proxy-Authorization"), "INVITE")
        assert credentials.uri == second.uri
        assert (second.call_id, second.from_.tag) == (first.call_id, first.from_.tag)
        assert second.cseq.number == first.cseq.number + 1
        assert not bench.carrier_2.calls
        call.bye()
        bench.run(0.5)
        again = bench.pbx.call(TOLL_FREE)
        bench.run(0.5)
        third = bench.carrier.calls[2].invite
        assert third is not None
        # The BYE of the call before has shown them too.
        assert proved(third.headers.get("Proxy-Authorization"), "INVITE").nonce_count == 3
        again.bye()
        bench.run(0.5)
    assert [trunk.trunk for trunk in bench.journal.final[0].trunks] == ["first"]


@pytest.mark.parametrize(
    ("name", "way", "own"),
    [
        ("first", STRANGER, False),
        ("first", CARRIER_2, False),
        ("first", CARRIER, True),
        ("carrier", CARRIER_2, True),
    ],
)
def test_no_address_but_the_trunks_own_gets_anything_whatever_way_its_responses_name(
    name: str, way: Address, own: bool
) -> None:
    """Here the BYE, credentials and all: it goes to the proxy that has recorded itself, or back."""
    routed = (Step(0.05, 200, with_sdp=True, headers=(("Record-Route", f"<sip:{way[0]};lr>"),)),)
    trunk = replace(ONE, name=name)
    with GateBench(config=default_config(trunks=(trunk,)), script=REFUSED) as bench:
        sent: list[tuple[Address, bytes]] = []
        bench.network.trace = lambda _at, _sender, receiver, data: sent.append((receiver, data))
        call = bench.pbx.call(TOLL_FREE)
        bench.run(0.02)
        bench.carrier.script = routed
        bench.run(0.5)
        assert call.status == 200
        call.bye()
        bench.run(0.5)
        byes = [(to, data) for to, data in sent if data.startswith(b"BYE") and to != GATE]
        assert {to for to, _ in byes} == {way if own else CARRIER}
        assert all(b"Proxy-Authorization" in data for _, data in byes)
        bench.vanished.add(bench.carrier)  # its BYE may have gone elsewhere


CHALLENGED = (("Proxy-Authenticate", CHALLENGE),)


def challenges(ua: Ua, asked: list[Request]) -> None:
    """Let a UA ask for credentials in every request of the gate within a dialog."""

    def within(call: UaCall, event: RequestReceived) -> bool:
        del call
        asked.append(event.request)
        if "Proxy-Authorization" in event.request.headers:
            return False
        ua.endpoint.respond(event.transaction, 407, headers=CHALLENGED, now=ua.now())
        return True

    ua.within = within


def test_rfc3261_22_3_a_trunk_that_has_called_may_ask_who_changes_and_ends_the_call() -> None:
    with GateBench(config=default_config(trunks=(replace(ONE, name="carrier"),))) as bench:
        bench.pbx.script = ANSWER
        bench.carrier.call("", uri="sip:+12125550204@192.0.2.1")
        asked: list[Request] = []
        challenges(bench.carrier, asked)
        bench.run(0.5)
        (called,) = bench.pbx.calls
        called.request("INVITE", sdp(PBX[0], direction="sendonly", version=2))
        bench.run(0.5)
        assert called.replies[-1].status == 200
        assert [request.method for request in asked] == ["INVITE", "INVITE"]
        proved(asked[-1].headers.get("Proxy-Authorization"), "INVITE")
        called.bye()
        bench.run(0.5)
        assert asked[-1].method == "BYE"
        proved(asked[-1].headers.get("Proxy-Authorization"), "BYE")


def test_an_address_that_is_no_trunks_own_any_more_gets_no_credentials() -> None:
    trunk = replace(ONE, name="carrier", flows=(Flow("UDP", *CARRIER_2),))
    with GateBench(config=default_config(trunks=(trunk,))) as bench:
        bench.pbx.script = ANSWER
        bench.carrier.call("", uri="sip:+12125550204@192.0.2.1")
        bench.run(0.5)
        config = bench.core.config
        peers = tuple(
            replace(peer, networks=(), flow=None) if peer.name == "carrier" else peer for peer in config.peers
        )
        bench.core.reconfigure(replace(config, peers=peers))
        asked: list[Request] = []
        challenges(bench.carrier, asked)
        bench.pbx.calls[0].bye()
        bench.run(0.5)
        assert [request.method for request in asked] == ["BYE"]
        assert "Proxy-Authorization" not in asked[0].headers
        bench.vanished.add(bench.carrier)  # it has refused its BYE


def test_only_in_its_own_realm() -> None:
    trunk = replace(ONE, name="carrier", account=replace(ACCOUNT, realms=("elsewhere",)))
    with GateBench(config=default_config(trunks=(trunk,))) as bench:
        bench.pbx.script = ANSWER
        bench.carrier.call("", uri="sip:+12125550204@192.0.2.1")
        asked: list[Request] = []
        challenges(bench.carrier, asked)
        bench.run(0.5)
        bench.pbx.calls[0].bye()
        bench.run(40.0)
        (bye,) = asked
        assert bye.method == "BYE"
        assert "Proxy-Authorization" not in bye.headers


@pytest.mark.parametrize(("number", "status"), [(TOLL_FREE, 500), ("911", 200)])
def test_rfc3261_22_3_who_asks_in_another_realm_gets_credentials_for_a_call_for_help_alone(
    number: str, status: int
) -> None:
    asks = [f'Digest realm="{realm}", nonce="{realm} 1", qop="auth"' for realm in ("carrier", "callee")]
    steps = iter([*((Step(0.0, 407, headers=[("Proxy-Authenticate", ask)]),) for ask in asks), ANSWER])
    trunk = replace(ONE, account=replace(ACCOUNT, realms=()))
    with GateBench(config=default_config(trunks=(trunk,))) as bench:
        bench.carrier.script = lambda _call: next(steps)
        call = bench.pbx.call(number)
        bench.run(2.0)
        assert call.status == status
        if status == 200:
            call.bye()


@pytest.mark.parametrize(
    ("registered", "user"), [(True, "gate-line"), (False, "tollgate")], ids=["registered", "account only"]
)
def test_the_contact_of_a_call_is_the_registered_one(registered: bool, user: str) -> None:
    """Carriers that know the gate by its registration look for that user part in the INVITE."""
    trunk = replace(ONE, register=registered)
    with GateBench(config=default_config(trunks=(trunk,)), script=REFUSED) as bench:
        call = bench.pbx.call(TOLL_FREE)
        bench.run(0.02)
        bench.carrier.script = ANSWER
        bench.run(0.5)
        assert call.status == 200
        contacts = [
            one.invite.headers.get("Contact") for one in bench.carrier.calls if one.invite is not None
        ]
        assert contacts == [f"<sip:{user}@192.0.2.1:5060>"] * 2
        call.bye()
        bench.core.reconfigure(default_config(trunks=(TWO,)))  # else there is a registration to try again


def test_refused_credentials_end_the_call_after_two_invites() -> None:
    with GateBench(config=default_config(trunks=(ONE,)), script=REFUSED) as bench:
        call = bench.pbx.call(TOLL_FREE)
        bench.run(2.0)
        assert call.status == 500
        assert len(bench.carrier.calls) == 2
    assert bench.record.disposition is Disposition.TRUNK_FAILED


def test_a_caller_who_hangs_up_between_is_not_called_back() -> None:
    with GateBench(
        config=default_config(trunks=(ONE,)), script=(Step(0.5, 407, headers=REFUSED[0].headers),)
    ) as bench:
        call = bench.pbx.call(TOLL_FREE)
        bench.run(0.4)
        call.cancel()
        bench.run(2.0)
        assert len(bench.carrier.calls) == 1


def test_a_trunk_without_registration_is_tried_last() -> None:
    registering = replace(ONE, register=True)
    with GateBench(config=default_config(trunks=(registering, TWO))) as bench:
        bench.network.drop = lambda _sender, receiver, _data: receiver == CARRIER
        call = bench.pbx.call(TOLL_FREE)
        bench.run(0.5)
        assert call.status == 200
        call.bye()
        bench.run(40.0)
        status = bench.core.accounts.status("first")
        assert status is not None
        assert status.reason == "no answer to REGISTER"
        bench.core.reconfigure(default_config(trunks=(TWO,)))
        bench.run(60.0)
    assert [trunk.trunk for trunk in bench.record.trunks] == ["second"]


def test_a_registration_at_a_carrier_that_knows_no_register() -> None:
    with GateBench(config=default_config(trunks=(replace(ONE, register=True),))) as bench:
        bench.run(1.0)
        status = bench.core.accounts.status("first")
        assert status is not None
        assert status.reason == "405 to REGISTER"
        bench.core.reconfigure(default_config(trunks=(TWO,)))
        bench.run(60.0)
