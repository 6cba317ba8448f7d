"""Peers that never read what is sent to them, over real connections on loopback."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import pytest

from proxy.net.connection import Connection
from proxy.net.tcp import TcpLimits
from proxy.net.tls import TlsConfig
from proxy.sip.flow import Flow
from tests.net.test_tcp import MESSAGE, Carrier, Gate, carrier
from tests.net.test_tcp_tls import Side
from tests.net.waiting import until
from tests.support.certificates import Authority

__all__ = ["carrier"]

ANSWER = b"x" * 1_000
OF_A_STRANGER = 64_000


class Silent:
    """A gate with one connection whose peer, having sent a message, never reads."""

    def __init__(self, *, trusted: bool = False, used: bool = False) -> None:
        self.gate = Gate(trusted=trusted)
        self._used = used

    async def __aenter__(self) -> Silent:
        await self.gate.listen()
        reader, self._writer = await asyncio.open_connection(*self.gate.address, limit=1)
        reader.feed_data(b"full")  # so that nothing more is read
        self._writer.write(MESSAGE)
        await until(lambda: self.gate.messages)
        self.flow = self.gate.messages[0][1]
        if self._used:
            self.gate.in_use.add(self.flow.connection)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.gate.table.close()
        self._writer.transport.abort()

    async def most_unsent(self, enough: int) -> int:
        """Send until the connection is cut, or ``enough`` waits; return how much has waited at most."""
        (connection,) = self.gate.table._by_number.values()
        most = 0
        while most < enough and self.gate.table.send(ANSWER, self.flow):
            most = max(most, connection.unsent)
            await asyncio.sleep(0)
        return most


async def test_a_stranger_that_does_not_read_is_cut_at_64_kb() -> None:
    assert OF_A_STRANGER == 64_000
    async with Silent() as silent:
        most = await silent.most_unsent(10 * OF_A_STRANGER)
        assert abs(most - OF_A_STRANGER) <= len(ANSWER)
        await until(lambda: silent.gate.failed)
        assert silent.gate.failed == [silent.flow]
        assert len(silent.gate.table) == 0


@pytest.mark.parametrize(("trusted", "used"), [(True, False), (False, True)])
async def test_a_peer_a_phone_and_a_call_may_be_slow(trusted: bool, used: bool) -> None:
    async with Silent(trusted=trusted, used=used) as silent:
        assert await silent.most_unsent(10 * OF_A_STRANGER) >= 10 * OF_A_STRANGER
        assert not silent.gate.failed
        assert await silent.most_unsent(10_000_000) <= TcpLimits().unsent + len(ANSWER)
        await until(lambda: silent.gate.failed)


async def test_a_connection_that_the_gate_has_opened_is_no_strangers(carrier: Carrier) -> None:
    gate, address = Gate(), await carrier.start()
    flow = Flow("TCP", *address, 2, 0)
    await gate.listen()
    gate.table.send(MESSAGE, flow)
    await until(lambda: carrier.writers)
    cast("asyncio.Transport", carrier.writers[0].transport).pause_reading()
    (connection,) = gate.table._by_number.values()
    while connection.unsent < 2 * OF_A_STRANGER:
        assert gate.table.send(ANSWER, flow)
        await asyncio.sleep(0)
    assert not gate.failed
    await gate.table.close()
    carrier.writers[0].transport.abort()


async def test_what_tls_itself_has_to_say_is_bounded_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An alert for each renegotiation that a peer asks for, say."""
    authority = Authority(tmp_path)
    config = TlsConfig(authority.issue("gate.pem", "DNS:gate.example.com"), ca=authority.certificate)
    gate, caller = (Side(config, TcpLimits(), trusted=False) for _ in range(2))
    gate.address = await gate.table.listen(1, ("127.0.0.1", 0), tls=True)
    await caller.table.listen(1, ("127.0.0.1", 0), tls=True)
    for side in (gate, caller):
        await side.table.start()
    monkeypatch.setattr(Connection, "unsent", property(lambda one: OF_A_STRANGER + (one.wanted is None)))
    flow = caller.to(gate)
    caller.table.send(MESSAGE, flow)
    await until(lambda: caller.failed)
    assert not gate.messages
    assert gate.table.handshakes == 0
    for side in (gate, caller):
        await side.table.close()
