"""Answering the challenges of a trunk (RFC 3261 §22.2, RFC 7616)."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.sip.digest import Credentials, Ha1, digest_response
from proxy.sip.digest_client import MAX_REALMS, MAX_SERVERS, DigestAccount, DigestAttempt, DigestClient
from proxy.sip.message import Response
from proxy.sip.parser import parse_message

ACCOUNT = DigestAccount("trunk-user", "trunk-password")
URI = "sip:carrier.example"


def client(account: DigestAccount = ACCOUNT) -> DigestClient:
    numbers = count(1)
    return DigestClient(account, lambda: f"cnonce{next(numbers)}")


def refusal(status: int, *challenges: str, method: str = "REGISTER") -> Response:
    name = "Proxy-Authenticate" if status == 407 else "WWW-Authenticate"
    lines = "".join(f"{name}: {challenge}\r\n" for challenge in challenges)
    message = parse_message(
        f"SIP/2.0 {status} No\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n"
        f"To: <sip:a@b>;tag=2\r\nCall-ID: 1\r\nCSeq: 1 {method}\r\n{lines}Content-Length: 0\r\n\r\n".encode()
    )
    assert isinstance(message, Response)
    return message


def challenge(nonce: str = "n1", *, realm: str = "carrier", more: str = ', qop="auth"') -> str:
    return f'Digest realm="{realm}", nonce="{nonce}"{more}'


def checked(headers: tuple[tuple[str, str], ...], method: str = "REGISTER") -> tuple[str, Credentials]:
    """Return the header's name and its credentials, after proving them as a server does."""
    ((name, value),) = headers
    credentials = Credentials.parse(value)
    assert credentials is not None
    assert credentials.algorithm is not None
    ha1 = Ha1.of(credentials.algorithm, "trunk-user", credentials.realm, "trunk-password")
    assert credentials.response == digest_response(ha1, credentials, method)
    assert (credentials.username, credentials.uri) == ("trunk-user", URI)
    return name, credentials


def challenged(attempt: DigestAttempt, status: int = 401, value: str = "") -> bool:
    return attempt.may_repeat(refusal(status, value or challenge()))


@pytest.mark.parametrize(
    ("status", "name"), [(401, "Authorization"), (407, "Proxy-Authorization")], ids=["uas", "proxy"]
)
def test_rfc3261_22_2_a_challenge_is_answered_in_its_own_header(status: int, name: str) -> None:
    attempt = client().attempt()
    assert attempt.headers("REGISTER", URI) == ()
    assert challenged(attempt, status)
    shown, credentials = checked(attempt.headers("REGISTER", URI))
    assert shown == name
    assert (credentials.nonce_count, credentials.qop, credentials.cnonce) == (1, "auth", "cnonce1")


def test_rfc3261_22_3_a_proxy_and_the_server_behind_it_are_answered_side_by_side() -> None:
    one = client()
    attempt = one.attempt()
    assert challenged(attempt, 407, challenge("p1", realm="edge"))
    attempt.headers("REGISTER", URI)
    assert challenged(attempt, 401, challenge("r1"))

    def shown(attempt: DigestAttempt) -> list[tuple[str, str, int | None]]:
        proofs = [checked((header,)) for header in attempt.headers("REGISTER", URI)]
        return [(name, proof.nonce, proof.nonce_count) for name, proof in proofs]

    assert shown(attempt) == [("Proxy-Authorization", "p1", 2), ("Authorization", "r1", 1)]
    # The next request carries both at once; a nonce that has run out is that of one of them.
    later = one.attempt()
    assert shown(later) == [("Proxy-Authorization", "p1", 3), ("Authorization", "r1", 2)]
    assert challenged(later, 401, challenge("r2", more=', qop="auth", stale=true'))
    assert shown(later) == [("Proxy-Authorization", "p1", 4), ("Authorization", "r2", 1)]
    # What is forbidden after it was proved was wrongly proved, whoever asked.
    assert not later.may_repeat(refusal(403))
    assert shown(one.attempt()) == []


def test_rfc7616_3_4_the_next_request_answers_at_once_and_counts() -> None:
    trunk = client()
    first = trunk.attempt()
    first.headers("REGISTER", URI)
    assert challenged(first)
    first.headers("REGISTER", URI)
    _, credentials = checked(trunk.attempt().headers("REGISTER", URI))
    assert (credentials.nonce, credentials.nonce_count, credentials.cnonce) == ("n1", 2, "cnonce2")


def test_rfc8760_2_4_the_topmost_known_algorithm_is_taken() -> None:
    attempt = client().attempt()
    assert attempt.may_repeat(
        refusal(
            401,
            challenge("n1", more=', qop="auth", algorithm=SHA-512-256'),
            challenge("n2", more=', qop="auth", algorithm=SHA-256'),
            challenge("n3", more=""),
        )
    )
    assert checked(attempt.headers("REGISTER", URI))[1].nonce == "n2"


def test_a_challenge_of_rfc2069_has_neither_count_nor_cnonce() -> None:
    attempt = client().attempt()
    assert challenged(attempt, 401, challenge(more=""))
    _, credentials = checked(attempt.headers("REGISTER", URI))
    assert (credentials.qop, credentials.nonce_count, credentials.cnonce) == (None, None, None)


def test_rfc3261_22_1_a_refused_answer_to_the_same_nonce_is_the_end() -> None:
    trunk = client()
    attempt = trunk.attempt()
    assert challenged(attempt)
    attempt.headers("REGISTER", URI)
    assert not challenged(attempt)
    assert trunk.attempt().headers("REGISTER", URI) == (), "what was refused is not sent again"


def test_rfc7616_3_3_a_stale_nonce_is_answered_anew() -> None:
    attempt = client().attempt()
    assert challenged(attempt)
    attempt.headers("REGISTER", URI)
    assert challenged(attempt, 401, challenge("n1", more=', qop="auth", stale=TRUE'))
    assert checked(attempt.headers("REGISTER", URI))[1].nonce_count == 2


def test_a_changed_nonce_is_answered_once_and_not_for_ever() -> None:
    attempt = client().attempt()
    for nonce in ("n1", "n2"):
        assert challenged(attempt, 401, challenge(nonce))
        assert checked(attempt.headers("REGISTER", URI))[1].nonce_count == 1
    assert not challenged(attempt, 401, challenge("n3"))


def test_requests_side_by_side_may_get_the_same_nonce() -> None:
    trunk = client()
    first, second = trunk.attempt(), trunk.attempt()
    assert first.headers("REGISTER", URI) == second.headers("REGISTER", URI) == ()
    assert challenged(first)
    assert challenged(second), "it has answered nothing yet"
    counts = [checked(one.headers("REGISTER", URI))[1].nonce_count for one in (first, second)]
    assert counts == [1, 2]


def test_an_old_refusal_does_not_forget_a_newer_nonce() -> None:
    trunk = client()
    slow, fast = trunk.attempt(), trunk.attempt()
    assert challenged(slow)
    slow.headers("REGISTER", URI)
    assert challenged(fast, 401, challenge("n2"))
    assert not challenged(slow)
    assert checked(trunk.attempt().headers("REGISTER", URI))[1].nonce == "n2"


@pytest.mark.parametrize(
    "value",
    [challenge(realm="elsewhere"), "Basic realm=carrier", "Digest realm=", challenge(more=", qop=auth-int")],
)
def test_what_is_no_challenge_of_this_account_is_not_answered(value: str) -> None:
    attempt = client(DigestAccount("trunk-user", "trunk-password", ("carrier",))).attempt()
    assert not challenged(attempt, 401, value)
    assert attempt.headers("REGISTER", URI) == ()


def test_the_own_realm_is_found_among_others() -> None:
    account = DigestAccount("trunk-user", "trunk-password", ("carrier", "gateway 2"))
    for realm in account.realms:
        attempt = client(account).attempt()
        assert attempt.may_repeat(refusal(407, challenge(realm="elsewhere"), challenge("n2", realm=realm)))
        assert checked(attempt.headers("REGISTER", URI))[1].nonce == "n2"


class TestRealms:
    """RFC 3261 §22.3, §26.2.3: a callee behind a trunk may ask too, and has no business with its password."""

    @staticmethod
    def invited(attempt: DigestAttempt, realm: str, nonce: str = "n2") -> bool:
        return attempt.may_repeat(refusal(407, challenge(nonce, realm=realm), method="INVITE"))

    def refused(self, trunk: DigestClient, realm: str, nonces: tuple[str, ...]) -> None:
        """Let a call be asked in a realm, and every answer be refused with these nonces."""
        attempt = trunk.attempt()
        assert self.invited(attempt, realm)
        repeats = []
        for nonce in nonces:
            attempt.headers("INVITE", URI)
            repeats.append(self.invited(attempt, realm, nonce))
        assert not repeats[-1]

    def test_without_one_the_first_stays_the_only_one(self, caplog: pytest.LogCaptureFixture) -> None:
        trunk = client()
        assert self.invited(trunk.attempt(), "carrier", "n1")
        assert not self.invited(trunk.attempt(), "callee")
        assert "another realm" in caplog.text
        assert "trunk-password" not in caplog.text
        assert checked(trunk.attempt().headers("INVITE", URI), "INVITE")[1].realm == "carrier"
        assert self.invited(trunk.attempt(), "carrier", "n3")

    @pytest.mark.parametrize("nonces", [("n2",), ("n3", "n4")], ids=["same nonce", "new nonces"])
    def test_another_is_answered_once_this_one_has_refused(self, nonces: tuple[str, ...]) -> None:
        trunk = client()
        self.refused(trunk, "callee", nonces)
        assert self.invited(trunk.attempt(), "carrier", "n5")
        assert checked(trunk.attempt().headers("INVITE", URI), "INVITE")[1].realm == "carrier"
        assert not self.invited(trunk.attempt(), "third", "n6"), "the trunk takes the password"

    def test_a_forbidden_answer_is_a_refused_one(self) -> None:
        trunk = client()
        attempt = trunk.attempt()
        attempt.headers("INVITE", URI)
        assert not attempt.may_repeat(refusal(403, method="INVITE")), "nothing was answered yet"
        assert self.invited(attempt, "callee")
        attempt.headers("INVITE", URI)
        assert not attempt.may_repeat(refusal(403, method="INVITE"))
        assert trunk.attempt().headers("INVITE", URI) == ()
        assert self.invited(trunk.attempt(), "carrier", "n3")

    def test_a_known_one_is_never_locked_out_by_another(self) -> None:
        trunk = client()
        self.refused(trunk, "carrier", ("n2",))
        assert self.invited(trunk.attempt(), "callee", "n3")
        assert self.invited(trunk.attempt(), "carrier", "n4")

    def test_a_nonce_that_has_run_out_is_no_refusal(self) -> None:
        trunk = client()
        assert self.invited(trunk.attempt(), "carrier", "n1")
        later = trunk.attempt()
        checked(later.headers("INVITE", URI), "INVITE")
        assert self.invited(later, "carrier", "n2")
        assert not self.invited(trunk.attempt(), "callee", "n3")

    def test_what_is_refused_side_by_side_is_refused_once(self) -> None:
        trunk = client()
        slow, fast = trunk.attempt(), trunk.attempt()
        assert self.invited(slow, "carrier", "n1")
        assert self.invited(fast, "carrier", "n1")
        fast.headers("INVITE", URI)
        assert not self.invited(fast, "carrier", "n1")
        assert slow.headers("INVITE", URI) == ()
        assert self.invited(slow, "carrier", "n2")

    def test_the_registrar_and_each_address_ask_in_realms_of_their_own(self) -> None:
        trunk = client()
        registered = trunk.attempt("192.0.2.1")
        assert challenged(registered, 401, challenge("r1", realm="registrar"))
        assert checked(registered.headers("REGISTER", URI))[1].realm == "registrar"
        for host in ("192.0.2.1", "192.0.2.2"):
            attempt = trunk.attempt(host)
            assert attempt.headers("INVITE", URI) == ()
            assert self.invited(attempt, f"proxy {host}", host)
            name, credentials = checked(attempt.headers("INVITE", URI), "INVITE")
            assert (name, credentials.realm) == ("Proxy-Authorization", f"proxy {host}")
            assert not self.invited(trunk.attempt(host), "callee")
            assert self.invited(trunk.attempt(host), "registrar", "n9")
        name, credentials = checked(trunk.attempt().headers("REGISTER", URI))
        assert (name, credentials.nonce, credentials.nonce_count) == ("Authorization", "r1", 2)

    def test_the_registrar_may_change_its_realm(self) -> None:
        trunk = client()
        for realm in ("old", "new"):
            assert challenged(trunk.attempt(), 401, challenge(realm, realm=realm))

    def test_what_is_remembered_is_bounded(self) -> None:
        trunk = client()
        for number in range(MAX_REALMS + 1):
            self.refused(trunk, f"realm {number}", ("n2",))
        assert self.invited(trunk.attempt(), "carrier", "n5")
        assert not self.invited(trunk.attempt(), "realm 1", "n6"), "the oldest are forgotten"
        assert self.invited(trunk.attempt(), "realm 8", "n6")
        for number in range(MAX_SERVERS):
            assert trunk.attempt(f"192.0.2.{number}").headers("INVITE", URI) == ()
        assert self.invited(trunk.attempt(), "realm 1", "n7"), "this server is a new one"

    def test_a_call_for_help_answers_in_every_realm_but_not_against_the_settings(self) -> None:
        trunk = client()
        assert self.invited(trunk.attempt(), "carrier", "n1")
        urgent = trunk.attempt(urgent=True)
        assert self.invited(urgent, "second carrier")
        urgent.headers("INVITE", URI)
        assert not self.invited(urgent, "second carrier")
        assert not self.invited(trunk.attempt(), "second carrier")
        assert self.invited(trunk.attempt(), "carrier", "n3"), "it is no news for other calls"
        prescribed = client(DigestAccount("trunk-user", "trunk-password", ("carrier",)))
        assert not self.invited(prescribed.attempt(urgent=True), "second carrier")


@pytest.mark.parametrize("status", [200, 403, 503])
def test_other_responses_ask_for_nothing(status: int) -> None:
    assert not challenged(client().attempt(), status)


def test_the_password_is_in_no_repr() -> None:
    trunk = client()
    assert "trunk-password" not in f"{ACCOUNT!r}{trunk!r}{trunk.attempt()!r}"


@given(
    st.lists(
        st.tuples(
            st.sampled_from([401, 407, 500]),
            st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=40),
        ),
        max_size=5,
    )
)
def test_no_challenge_raises_and_repetitions_end(answers: list[tuple[int, str]]) -> None:
    attempt = client().attempt()
    repeated = 0
    for status, text in [*answers, *[(401, challenge(str(number))) for number in range(5)]]:
        attempt.headers("REGISTER", URI)
        repeated += challenged(attempt, status, f"Digest {text}".rstrip())
    assert repeated <= 2
