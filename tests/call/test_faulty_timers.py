"""A timer that raises whenever it runs is not due again at once: it would keep the loop busy for ever."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from proxy.call.core import CallCore
from proxy.sip.digest_client import DigestAccount
from proxy.sip.endpoint import Endpoint
from proxy.sip.events import ClientTransaction
from tests.call.phones import PhoneBench
from tests.call.watching import WatchBench
from tests.support.gate import GateBench

ENOUGH = 20
"""Turns a minute: none of these rooms has more to do."""


def broken(*_arguments: object, **_facts: object) -> ClientTransaction:
    raise RuntimeError("broken")


def turns(core: CallCore, now: float, seconds: float = 60.0) -> int:
    """Return how often a driver would run the core's timers in so many seconds."""
    end, count = now + seconds, 0
    while (at := core.next_timer()) is not None and at <= end and count <= ENOUGH:
        now = max(now, at)
        core.handle_timer(now)
        count += 1
    return count


@pytest.mark.parametrize("what", ["register", "probe_interval"])
def test_of_a_trunk(what: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    with GateBench() as bench:
        (trunk,) = bench.core.config.trunks
        account = DigestAccount("gate-user", "gate-password", ("carrier",))
        trunk = replace(trunk, account=account)
        trunk = replace(trunk, register=True) if what == "register" else replace(trunk, probe_interval=10.0)
        bench.core.reconfigure(replace(bench.core.config, trunks=(trunk,)))
        monkeypatch.setattr(Endpoint, "send_request", broken)
        with caplog.at_level(logging.ERROR):
            assert 2 <= turns(bench.core, bench.now) <= ENOUGH, "it is tried again, now and then"
        assert "a timer of Trunk" in caplog.text
        monkeypatch.undo()
        bench.core.reconfigure(
            replace(bench.core.config, trunks=(replace(trunk, register=False, probe_interval=0.0),))
        )


def test_of_a_mailbox(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    with WatchBench(mailboxes="pbx", pbx=True) as bench:
        bench.watcher.subscribe("205", user="205", event="message-summary", expires=7200)
        bench.run(0.1)
        before = len(bench.holder.subscribes)
        monkeypatch.setattr(Endpoint, "request", broken)
        with caplog.at_level(logging.ERROR):
            assert turns(bench.core, bench.now, 3600.0) <= ENOUGH
        assert "a timer of Subscriptions failed" in caplog.text
        monkeypatch.undo()
        bench.run(3700.0)
        assert len(bench.holder.subscribes) > before, "it has come again"
        while bench.holder.dialogs:
            bench.holder.endpoint.terminate(bench.holder.dialogs.pop())


def test_of_phones_behind_a_nat(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    with PhoneBench() as bench:
        phone = bench.phone("10.0.0.5", seen_as=("203.0.113.7", 32000))
        bench.register(phone, "205")
        monkeypatch.setattr(Endpoint, "ping", broken)
        with caplog.at_level(logging.ERROR):
            assert 1 <= turns(bench.core, bench.now) <= ENOUGH
        assert "a timer of Registrations failed" in caplog.text
        monkeypatch.undo()
        bench.register(phone, "205")
        sent: list[bytes] = []
        bench.network.trace = lambda _at, _sender, _receiver, data: sent.append(data)
        bench.run(60.0)
        assert [data for data in sent if data.startswith(b"OPTIONS ")], "its next REGISTER has mended it"
