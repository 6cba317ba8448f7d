"""Digest authentication, both ends (RFC 7616, RFC 8760, RFC 3261 §22)."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import RemoteProtocolError
from proxy.sip.digest import (
    Algorithm,
    Challenge,
    Credentials,
    Ha1,
    answer_challenge,
    choose_challenge,
    digest_response,
    find_credentials,
)
from proxy.sip.digest_server import DigestServer, RecentNonceCounts, Verdict

RFC7616_NONCE = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
RFC7616_CNONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
PASSWORD = "correct horse"
URI = "sip:5550123@example.com"
SOURCE = "192.0.2.1"


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        (Algorithm.MD5, "8ca523f5e9506fed4657c9700eebdbec"),
        (Algorithm.SHA256, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_rfc7616_3_9_1_example(algorithm: Algorithm, response: str) -> None:
    challenge = Challenge("http-auth@example.org", RFC7616_NONCE, algorithm)
    credentials = answer_challenge(
        challenge,
        method="GET",
        uri="/dir/index.html",
        username="Mufasa",
        password="Circle of Life",
        cnonce=RFC7616_CNONCE,
    )
    assert credentials.response == response
    assert (credentials.nonce_count, credentials.qop) == (1, "auth")


def test_rfc7616_3_4_1_without_qop_as_rfc2069() -> None:
    challenge = Challenge.parse('Digest realm="r", nonce="n", opaque=""')
    assert challenge is not None
    assert (challenge.algorithm, challenge.qop) == (Algorithm.MD5, ())
    credentials = answer_challenge(
        challenge, method="INVITE", uri=URI, username="204", password=PASSWORD, cnonce="c"
    )

    def md5(text: str) -> str:
        return hashlib.md5(text.encode()).hexdigest()

    assert credentials.response == md5(f"{md5(f'204:r:{PASSWORD}')}:n:{md5(f'INVITE:{URI}')}")
    assert str(credentials) == (
        f'Digest username="204", realm="r", nonce="n", uri="{URI}", response="{credentials.response}",'
        ' algorithm=MD5, opaque=""'
    )


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=12)


@given(
    st.builds(
        Credentials,
        username=TEXT,
        realm=TEXT,
        nonce=TEXT,
        uri=TEXT,
        response=st.text("0123456789abcdef", min_size=1),
        algorithm=st.sampled_from(Algorithm),
        cnonce=st.none() | TEXT,
        opaque=st.none() | TEXT,
        qop=st.none() | st.just("auth"),
        nonce_count=st.none() | st.integers(0, 2**32 - 1),
    )
)
def test_rfc7616_3_4_credentials_round_trip(credentials: Credentials) -> None:
    assert Credentials.parse(str(credentials)) == credentials


@given(
    st.builds(
        Challenge,
        realm=TEXT,
        nonce=TEXT,
        algorithm=st.sampled_from(Algorithm),
        qop=st.sampled_from([(), ("auth",), ("auth", "auth-int")]),
        opaque=st.none() | TEXT,
        stale=st.booleans(),
    )
)
def test_rfc7616_3_3_challenge_round_trip(challenge: Challenge) -> None:
    assert Challenge.parse(str(challenge)) == challenge


@given(st.text(alphabet='Digest realm="x", nonce=\\', max_size=80))
def test_any_text_parses_or_raises_the_documented_error(text: str) -> None:
    for parse in (Challenge.parse, Credentials.parse):
        try:
            parse("Digest " + text)
        except RemoteProtocolError as error:
            assert error.status_hint == 400  # noqa: PT017 - raising is allowed, not demanded


def test_names_and_scheme_are_case_insensitive() -> None:
    challenge = Challenge.parse(
        'DIGEST Realm="r",NONCE="n",algorithm=sha-256,STALE=TRUE,qop="Auth-Int, AUTH"'
    )
    assert challenge == Challenge("r", "n", Algorithm.SHA256, ("auth-int", "auth"), stale=True)


@pytest.mark.parametrize("parse", [Challenge.parse, Credentials.parse])
@pytest.mark.parametrize("text", ["", "Basic x", "NoOneKnowsThisScheme opaque-data=here"])
def test_rfc4475_3_3_7_another_scheme_is_none(parse: Callable[[str], object], text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "Digest",
        'Digest realm="r"',
        'Digest realm="r", nonce="n", x',
        'Digest realm="r", nonce="n", =x',
        'Digest realm="r", nonce="n", nonce="n"',
        'Digest realm="r", nonce="n',
    ],
)
def test_rfc7616_3_3_malformed_challenges(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        Challenge.parse(text)
    assert choose_challenge([text]) is None


COMPLETE = 'Digest username="u", realm="r", nonce="n", uri="sip:h", response="00"'


@pytest.mark.parametrize("missing", ["username", "realm", "nonce", "uri", "response"])
def test_rfc7616_3_4_each_mandatory_parameter(missing: str) -> None:
    with pytest.raises(RemoteProtocolError):
        Credentials.parse(COMPLETE.replace(missing + "=", "x-" + missing + "="))


@pytest.mark.parametrize("count", ["1", "000000001", "0000000g", "-0000001", ""])
def test_rfc7616_3_4_nonce_count_has_eight_digits(count: str) -> None:
    with pytest.raises(RemoteProtocolError):
        Credentials.parse(f"{COMPLETE}, nc={count}")


def test_rfc3261_22_3_credentials_are_found_by_realm() -> None:
    values = ["Basic x", "Digest broken", COMPLETE, COMPLETE.replace('"r"', '"s"')]
    found = find_credentials(values, "s")
    assert found is not None
    assert found.realm == "s"
    assert find_credentials(values, "t") is None
    assert find_credentials([], "r") is None


def test_rfc8760_2_4_the_topmost_usable_challenge_is_answered() -> None:
    unknown = 'Digest realm="r", nonce="1", algorithm=SHA-512-256, qop="auth"'
    integrity_only = 'Digest realm="r", nonce="2", qop="auth-int"'
    sha = 'Digest realm="r", nonce="3", algorithm=SHA-256, qop="auth"'
    md5 = 'Digest realm="r", nonce="4"'
    for values, nonce in [([unknown, integrity_only, sha, md5], "3"), (["Basic", md5, sha], "4")]:
        chosen = choose_challenge(values)
        assert chosen is not None
        assert chosen.nonce == nonce
    assert choose_challenge([unknown, integrity_only]) is None


def test_unknown_algorithms_are_printed_as_none() -> None:
    assert "algorithm" not in str(Challenge("r", "n", None))
    unknown = Credentials.parse(COMPLETE + ", algorithm=X")
    assert unknown is not None
    assert unknown.algorithm is None
    assert "algorithm" not in str(unknown)


def test_secrets_stay_out_of_traces() -> None:
    ha1 = Ha1.of(Algorithm.MD5, "204", "r", PASSWORD)
    credentials = Credentials.parse(COMPLETE.replace('"00"', '"feed"'))
    assert ha1.digest not in repr(ha1)
    assert "feed" not in repr(credentials)
    assert repr(DigestServer("r", b"key", RecentNonceCounts())) == "DigestServer('r')"


# The challenging side --------------------------------------------------------------------------------------


HA1S = tuple(Ha1.of(algorithm, "204", "example.com", PASSWORD) for algorithm in Algorithm)


def server(limit: int = 10) -> DigestServer:
    return DigestServer("example.com", b"secret key", RecentNonceCounts(limit), lifetime=60.0)


def challenge_of(
    gate: DigestServer, *, now: float = 100.0, salt: str = "1", source: str = SOURCE
) -> Challenge:
    chosen = choose_challenge(gate.challenges(source=source, salt=salt, now=now))
    assert chosen is not None
    return chosen


def answer(challenge: Challenge, *, count: int = 1, password: str = PASSWORD, uri: str = URI) -> Credentials:
    return answer_challenge(
        challenge, method="INVITE", uri=uri, username="204", password=password, cnonce="c", nonce_count=count
    )


def verdict(
    gate: DigestServer,
    credentials: Credentials,
    *,
    method: str = "INVITE",
    uri: str = URI,
    ha1s: tuple[Ha1, ...] = HA1S,
    source: str = SOURCE,
    now: float = 101.0,
) -> Verdict:
    return gate.verify(credentials, method=method, uri=uri, ha1s=ha1s, source=source, now=now)


def test_rfc8760_2_4_sha256_is_challenged_before_md5() -> None:
    challenges = [
        Challenge.parse(text) for text in server().challenges(source=SOURCE, salt="1", now=0, stale=True)
    ]
    assert [challenge and challenge.algorithm for challenge in challenges] == [
        Algorithm.SHA256,
        Algorithm.MD5,
    ]
    assert {challenge and challenge.qop for challenge in challenges} == {("auth",)}
    assert all(challenge and challenge.stale for challenge in challenges)


@pytest.mark.parametrize("algorithm", Algorithm)
def test_rfc7616_3_4_6_a_right_answer(algorithm: Algorithm) -> None:
    gate = server()
    challenge = dataclasses.replace(challenge_of(gate), algorithm=algorithm)
    assert verdict(gate, answer(challenge)) is Verdict.ACCEPTED


def test_rfc7616_3_4_a_nonce_count_is_good_once() -> None:
    gate = server()
    challenge = challenge_of(gate)
    assert verdict(gate, answer(challenge)) is Verdict.ACCEPTED
    assert verdict(gate, answer(challenge)) is Verdict.STALE
    assert verdict(gate, answer(challenge, count=5)) is Verdict.ACCEPTED
    assert verdict(gate, answer(challenge, count=4)) is Verdict.STALE


def test_a_wrong_answer_uses_up_no_nonce_count() -> None:
    gate = server()
    challenge = challenge_of(gate)
    assert verdict(gate, answer(challenge, password="wrong")) is Verdict.REJECTED
    assert verdict(gate, answer(challenge)) is Verdict.ACCEPTED


def test_rfc7616_3_3_a_nonce_lives_its_time() -> None:
    gate = server()
    challenge = challenge_of(gate, now=100.0)
    assert verdict(gate, answer(challenge), now=159.9) is Verdict.ACCEPTED
    assert verdict(gate, answer(challenge, count=2), now=160.0) is Verdict.STALE


def test_rfc7616_5_4_a_nonce_serves_one_source() -> None:
    gate = server()
    assert verdict(gate, answer(challenge_of(gate)), source="198.51.100.1") is Verdict.STALE


def test_a_nonce_of_ours_is_known_however_old_it_is() -> None:
    gate = server()
    nonce = challenge_of(gate).nonce
    assert gate.was_given(nonce, SOURCE)
    assert not gate.was_given(nonce, "198.51.100.1")
    assert not gate.was_given(f"{nonce}0", SOURCE)


@pytest.mark.parametrize("nonce", ["x", "ff.1.00", "", "..", "ü.1.2", "a0.1.ü"])
def test_a_foreign_nonce_with_the_right_password_is_stale(nonce: str) -> None:
    gate = server()
    foreign = Challenge("example.com", nonce, Algorithm.MD5)
    assert verdict(gate, answer(foreign)) is Verdict.STALE
    assert verdict(gate, answer(foreign, password="wrong")) is Verdict.REJECTED


def test_a_changed_nonce_is_none_of_ours() -> None:
    gate = server()
    challenge = challenge_of(gate)
    later = challenge.nonce.replace(challenge.nonce.partition(".")[0], "ffffff", 1)
    assert verdict(gate, answer(dataclasses.replace(challenge, nonce=later))) is Verdict.STALE


def test_two_challenges_of_one_moment_have_two_nonces() -> None:
    gate = server()
    first, second = challenge_of(gate, salt="1"), challenge_of(gate, salt="2")
    assert first.nonce != second.nonce
    assert verdict(gate, answer(first)) is verdict(gate, answer(second)) is Verdict.ACCEPTED


def test_what_is_not_ours_to_accept() -> None:
    gate = server()
    challenge = challenge_of(gate)
    sound = answer(challenge)
    assert verdict(gate, dataclasses.replace(sound, realm="other")) is Verdict.REJECTED
    assert verdict(gate, dataclasses.replace(sound, algorithm=None)) is Verdict.REJECTED
    assert verdict(gate, answer(dataclasses.replace(challenge, qop=()))) is Verdict.REJECTED
    assert verdict(gate, dataclasses.replace(sound, cnonce=None)) is Verdict.REJECTED
    assert verdict(gate, answer(challenge, count=0)) is Verdict.REJECTED
    assert verdict(gate, sound, method="BYE") is Verdict.REJECTED
    assert verdict(gate, sound, ha1s=()) is Verdict.REJECTED
    assert verdict(gate, sound, ha1s=HA1S[1:]) is Verdict.REJECTED
    assert verdict(gate, dataclasses.replace(sound, response="ü")) is Verdict.REJECTED


def test_an_unknown_user_has_no_guessable_ha1() -> None:
    gate = server()
    empty = dataclasses.replace(answer(challenge_of(gate)), response="")
    response = digest_response(Ha1(Algorithm.SHA256, ""), empty, "INVITE")
    assert verdict(gate, dataclasses.replace(empty, response=response), ha1s=()) is Verdict.REJECTED


@pytest.mark.parametrize(
    ("signed", "expected"),
    [
        (URI, Verdict.ACCEPTED),
        (URI + ";transport=tcp", Verdict.ACCEPTED),
        ("sip:example.com:5060", Verdict.ACCEPTED),
        ("sip:5550199@example.com", Verdict.REJECTED),
        ("urn:service:sos", Verdict.REJECTED),
        ("nonsense", Verdict.REJECTED),
    ],
)
def test_rfc7616_3_4_6_the_digest_names_the_number_it_is_for(signed: str, expected: Verdict) -> None:
    gate = server()
    assert verdict(gate, answer(challenge_of(gate), uri=signed)) is expected


def used(counts: RecentNonceCounts, nonce: str, count: int = 1, *, expires: float, now: float) -> bool:
    """Use a nonce; the user is its first letter."""
    return counts.use(nonce, count, user=nonce[0], expires=expires, now=now)


def test_a_flood_of_nonces_costs_bounded_memory() -> None:
    counts = RecentNonceCounts(limit=2, few=0)
    assert used(counts, "a", expires=10.0, now=0.0)
    assert used(counts, "b", expires=20.0, now=0.0)
    assert not used(counts, "c", expires=30.0, now=9.9)
    assert used(counts, "b", 2, expires=20.0, now=9.9)
    assert used(counts, "c", expires=30.0, now=10.0)
    assert not used(counts, "b", 2, expires=20.0, now=10.0)
    assert len(counts) == 2


def test_who_uses_too_many_nonces_has_none_accepted_until_the_own_ones_are_over() -> None:
    counts = RecentNonceCounts(limit=100, most=3)
    assert [used(counts, f"m{number}", expires=10.0, now=0.0) for number in range(5)] == [True] * 3 + [
        False
    ] * 2
    assert not used(counts, "m5", expires=12.0, now=2.0)
    assert used(counts, "m0", 2, expires=10.0, now=2.0)
    assert used(counts, "a0", expires=12.0, now=2.0)
    assert used(counts, "m5", expires=20.0, now=10.0)
    assert len(counts) == 2


def test_many_who_use_many_nonces_leave_a_few_to_everybody() -> None:
    counts = RecentNonceCounts(limit=30, most=10, few=2)
    for user in "mno":
        assert all(used(counts, f"{user}{number}", expires=10.0, now=0.0) for number in range(10))
        assert not used(counts, f"{user}10", expires=10.0, now=0.0)
    for user in "ab":
        taken = [used(counts, f"{user}{number}", expires=10.0, now=1.0) for number in range(4)]
        assert taken == [True, True, False, False]
    assert len(counts) == 34
    assert used(counts, "a9", expires=20.0, now=10.0)
    assert len(counts) == 1


def test_one_user_with_a_right_password_makes_no_other_users_nonce_stale() -> None:
    gate = DigestServer("example.com", b"secret key", RecentNonceCounts(20, most=5), lifetime=60.0)

    def asks(user: str, salt: int, source: str, now: float) -> Verdict:
        credentials = answer_challenge(
            challenge_of(gate, salt=str(salt), source=source, now=now),
            method="INVITE",
            uri=URI,
            username=user,
            password=PASSWORD,
            cnonce="c",
        )
        ha1s = tuple(Ha1.of(algorithm, user, "example.com", PASSWORD) for algorithm in Algorithm)
        return verdict(gate, credentials, ha1s=ha1s, source=source, now=now)

    found = [asks("mallory", number, f"10.0.0.{number}", 100.0) for number in range(100)]
    assert found == [Verdict.ACCEPTED] * 5 + [Verdict.STALE] * 95
    assert asks("204", 1, SOURCE, 101.0) is Verdict.ACCEPTED
    assert asks("mallory", 100, SOURCE, 161.0) is Verdict.ACCEPTED


def test_nonces_go_with_the_second_in_which_they_expire() -> None:
    counts = RecentNonceCounts()
    for number in range(1000):
        assert used(counts, f"n{number}", expires=100.0 + number % 10, now=0.0)
    assert not used(counts, "n3", expires=103.0, now=99.0)
    assert len(counts) == 1000
    assert used(counts, "later", expires=405.0, now=105.0)
    assert len(counts) == 401
    assert not used(counts, "n9", expires=109.0, now=105.0)
    assert used(counts, "n9", 2, expires=109.0, now=105.0)


def test_a_full_memory_takes_no_new_nonce_of_a_known_second_either() -> None:
    counts = RecentNonceCounts(limit=1, few=0)
    assert used(counts, "a", expires=10.0, now=0.0)
    assert not used(counts, "b", expires=10.0, now=0.0)
    assert used(counts, "a", 2, expires=10.0, now=0.0)
    assert used(counts, "b", expires=11.0, now=10.5)
    assert len(counts) == 1
