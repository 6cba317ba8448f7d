"""Lines that other programs act on: one form, and no way to write another's."""

from __future__ import annotations

import logging
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.call import security_log
from proxy.call.security_log import SecurityEvent

FORM = re.compile(r"security event=[a-z_]+ source=[0-9a-f.:-]+ port=[0-9-]+( [a-z]+=[A-Za-z0-9._~+:@%-]+)*")


def line(caplog: pytest.LogCaptureFixture, source: str, **facts: str | int) -> str:
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        security_log.note(SecurityEvent.AUTH_FAILED, source, **facts)
    (record,) = caplog.records
    assert record.name == "proxy.call.security_log"
    return record.getMessage()


def test_one_form(caplog: pytest.LogCaptureFixture) -> None:
    told = line(caplog, "203.0.113.66:5060", transport="UDP", method="REGISTER", user="204", wrong=3)
    where = "source=203.0.113.66 port=5060 transport=UDP"
    assert told == f"security event=auth_failed {where} method=REGISTER user=204 wrong=3"
    assert line(caplog, "[2001:db8::1]:5061", user="") == (
        "security event=auth_failed source=2001:db8::1 port=5061 user=-"
    )
    assert line(caplog, "", wrong=50) == "security event=auth_failed source=- port=- wrong=50"


@pytest.mark.parametrize(
    "user",
    [
        "204\r\nsecurity event=auth_failed source=198.51.100.1 port=1",
        '204" source=198.51.100.1',
        "204 source=198.51.100.1",
        "204\u2028\u0085\x00\x1b[31m",
        "204\udcff",
        "x" * 100_000,
        "%0a",
        "🦊" * 70,
    ],
)
def test_a_stranger_writes_no_line_and_no_field(caplog: pytest.LogCaptureFixture, user: str) -> None:
    told = line(caplog, "203.0.113.66:5060", user=user)
    assert FORM.fullmatch(told)
    assert told.count("source=") == 1
    assert told.startswith("security event=auth_failed source=203.0.113.66 port=5060 user=")
    assert len(told) < 1_000


@given(st.text())
def test_whatever_it_calls_itself(user: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9._~+:@%-]+", security_log._clean(user))
