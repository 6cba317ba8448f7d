"""Users and their digest credentials (RFC 7616 §3.4.2, RFC 8760 §2.1)."""

from __future__ import annotations

import pytest

from proxy.errors import ConfigurationError
from proxy.policy import DigestCredential, User, refuse_emergency_user
from tests.policy.support import US

SHA = DigestCredential("SHA-256", "tollgate", "ab" * 32)
MD5 = DigestCredential("MD5", "tollgate", "cd" * 16)


def test_credential_by_algorithm_and_realm() -> None:
    user = User("204", "staff", credentials=(SHA, MD5))
    assert user.credential("MD5", "tollgate") is MD5
    assert user.credential("SHA-256", "tollgate") is SHA
    assert user.credential("SHA-256", "elsewhere") is None
    assert user.credential("SHA-512-256", "tollgate") is None


@pytest.mark.parametrize(
    ("caller_number", "shown"),
    [
        ("", "204"),
        ("+1 (415) 555-0104", "+14155550104"),
        ("sip:+14155550104@x", "+14155550104"),
        ("-", "204"),
    ],
)
def test_what_a_user_calls_from_outside(caller_number: str, shown: str) -> None:
    assert User("204", "staff", caller_number=caller_number).outside_number == shown


def test_ha1_stays_out_of_repr() -> None:
    assert SHA.ha1 not in repr(User("204", "staff", credentials=(SHA,)))


def test_digest_name_defaults_to_the_extension() -> None:
    assert User("204", "staff").digest_name == "204"
    assert User("204", "staff", digest_name="desk-204").digest_name == "desk-204"


@pytest.mark.parametrize(
    ("algorithm", "ha1", "complaint"),
    [
        ("SHA-1", "ab" * 20, "algorithm 'SHA-1'"),
        ("MD5", "ab" * 32, "32 lower-case"),
        ("SHA-256", "AB" * 32, "64 lower-case"),
        ("SHA-256", "zz" * 32, "64 lower-case"),
    ],
)
def test_bad_credential_is_refused_without_telling_it(algorithm: str, ha1: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint) as refused:
        DigestCredential(algorithm, "tollgate", ha1)
    assert ha1 not in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"extension": ""}, "extension ''"),
        ({"extension": "20a"}, "extension '20a'"),
        ({"extension": "٢"}, "extension"),
        ({"extension": "1" * 21}, "extension"),
        ({"digest_name": 'a"b'}, "digest name"),
        ({"digest_name": "x" * 65}, "digest name"),
        ({"name": "x" * 129}, "name may hold"),
        ({"name": "a\r\nb"}, "name may hold"),
        ({"caller_number": "1" * 65}, "caller number may hold"),
        ({"caller_number": "1\n"}, "caller number may hold"),
        ({"group": ""}, "group is missing"),
    ],
)
def test_bad_user_is_refused_by_field(changes: dict[str, str], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        User(**{"extension": "204", "group": "staff", **changes})  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    ("extension", "caller_number", "complaint"),
    [
        ("911", "", "extension 911"),
        ("9911", "", "extension 9911"),
        ("204", "9-1-1", "caller number 9-1-1"),
        ("204", "tel:112", "caller number tel:112"),
    ],
)
def test_a_user_whom_nobody_could_call_is_refused(extension: str, caller_number: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        refuse_emergency_user(User(extension, "staff", caller_number=caller_number), US)
    refuse_emergency_user(User("204", "staff", caller_number="+14155550104"), US)
