"""SIP over TLS: two tables of connections on loopback, with certificates of an authority of their own."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.net import tcp
from proxy.net.tcp import TcpConnections, TcpLimits
from proxy.net.tls import ClientCertificates, TlsConfig, TlsContexts
from proxy.sip.flow import Flow
from tests.net.crowds import crowd
from tests.net.test_tcp import MESSAGE
from tests.net.waiting import PATIENCE, until
from tests.support.certificates import Authority

ALIAS = MESSAGE.replace(b"TCP 127.0.0.1:5070", b"TLS 127.0.0.1:5070;alias")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def config(authority: Authority) -> TlsConfig:
    return TlsConfig(authority.issue("gate.pem", "DNS:gate.example.com"), ca=authority.certificate)


@pytest.fixture(scope="module")
def mutual(config: TlsConfig) -> TlsConfig:
    return replace(config, clients=ClientCertificates.REQUIRED)


@pytest.fixture(autouse=True)
def _fast_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "SWEEP_INTERVAL", 0.02)


class Side:
    """A table of connections with one TLS listener, and what it reported."""

    def __init__(self, config: TlsConfig, limits: TcpLimits, *, trusted: bool) -> None:
        self.messages: list[tuple[bytes, Flow]] = []
        self.failed: list[Flow] = []
        self.tls = TlsContexts(config)
        self.table = TcpConnections(
            asyncio.get_running_loop(),
            crowd(lambda data, flow: self.messages.append((data, flow))),
            self.failed.append,
            is_trusted=lambda _host: trusted,
            limits=limits,
            tls=self.tls,
        )
        self.address = ("", 0)

    def to(self, other: Side, *, name: str | None = "gate.example.com") -> Flow:
        """Return the way to another side, whose certificate must name ``name``."""
        if name is not None:
            self.table.tls_names = {other.address: name}
        return Flow("TLS", *other.address, 1, 0)


Make = Callable[..., Awaitable[Side]]


@pytest.fixture
async def make(config: TlsConfig) -> AsyncIterator[Make]:
    sides: list[Side] = []

    async def _make(
        own: TlsConfig | None = None, *, limits: TcpLimits | None = None, trusted: bool = False
    ) -> Side:
        side = Side(own or config, limits or TcpLimits(), trusted=trusted)
        sides.append(side)
        side.address = await side.table.listen(1, ("127.0.0.1", 0), tls=True)
        await side.table.start()
        return side

    yield _make
    for side in sides:
        await side.table.close()


async def test_rfc3261_26_2_1_messages_pass_both_ways_over_one_connection(make: Make) -> None:
    caller, gate = await make(), await make()
    flow = caller.to(gate)
    assert caller.table.send(MESSAGE, flow)
    assert caller.table.send(MESSAGE, flow)
    await until(lambda: len(gate.messages) == 2)
    data, source = gate.messages[0]
    assert data == MESSAGE
    assert (source.transport, source.listener, source.certified) == ("TLS", 1, ())
    assert gate.table.send(b"SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", source)
    await until(lambda: caller.messages)
    assert caller.messages[0][1].certified == ("gate.example.com",)
    assert len(gate.table) == len(caller.table) == 1
    assert (gate.table.handshakes, gate.table.failed_handshakes) == (1, 0)
    assert caller.table.send(MESSAGE, flow)
    await until(lambda: len(gate.messages) == 3)
    assert len(gate.table) == 1


async def test_a_large_message_passes_whole(make: Make) -> None:
    caller, gate = await make(), await make()
    large = MESSAGE.replace(b"Content-Length: 4", b"Content-Length: 60004") + b"x" * 60_000
    assert caller.table.send(large, caller.to(gate))
    await until(lambda: gate.messages)
    assert gate.messages[0][0] == large


async def test_pipelined_messages_pass_in_order_and_whole_before_the_peers_last_word(make: Make) -> None:
    caller, gate = await make(), await make()
    assert caller.table.send(MESSAGE, caller.to(gate))
    await until(lambda: gate.messages)
    # Who closes with something unread resets the connection: the caller reads all that TLS has to say first.
    assert gate.table.send(MESSAGE, gate.messages[0][1])
    await until(lambda: caller.messages)
    many = [MESSAGE.replace(b"Call-ID: 1", b"Call-ID: %d" % number) for number in range(2_000)]
    assert caller.table.send(b"".join(many), caller.to(gate))
    for connection in list(caller.table._by_number.values()):
        connection.close()
    await until(lambda: not len(gate.table))
    assert [data for data, _ in gate.messages[1:]] == many


@pytest.mark.parametrize("name", ["other.example.com", None], ids=["another name", "address only"])
async def test_rfc5922_7_3_a_server_of_another_name_is_refused(name: str | None, make: Make) -> None:
    caller, gate = await make(), await make()
    flow = caller.to(gate, name=name)
    assert caller.table.send(MESSAGE, flow)
    await until(lambda: caller.failed)
    assert caller.failed == [flow]
    await until(lambda: not len(caller.table) and not len(gate.table))
    assert not gate.messages, "nothing was said before the certificate was looked at"
    assert caller.table.failed_handshakes == 1


async def test_a_server_of_an_unknown_authority_is_refused(make: Make, tmp_path: Path) -> None:
    stranger = Authority(tmp_path).issue("gate.pem", "DNS:gate.example.com")
    caller, gate = await make(), await make(TlsConfig(stranger))
    flow = caller.to(gate)
    assert caller.table.send(MESSAGE, flow)
    await until(lambda: caller.failed and gate.table.failed_handshakes)
    assert caller.failed == [flow]
    assert not gate.messages


async def test_a_name_that_a_uri_gave_is_checked_where_none_is_configured(make: Make) -> None:
    caller, gate = await make(), await make()
    caller.table.learn_name(*gate.address, "gate.example.com")
    assert caller.table.send(MESSAGE, caller.to(gate, name=None))
    await until(lambda: gate.messages)


async def test_rfc5922_7_3_another_name_at_the_address_does_not_use_the_connection(make: Make) -> None:
    caller, gate = await make(), await make()
    assert caller.table.send(MESSAGE, caller.to(gate))
    await until(lambda: gate.messages)
    flow = caller.to(gate, name="other.example.com")
    assert caller.table.send(MESSAGE, flow)
    await until(lambda: caller.failed)
    assert caller.failed == [flow]
    assert len(gate.messages) == 1


async def test_learned_names_are_bounded(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "MAX_LEARNED_NAMES", 1)
    caller, gate = await make(), await make()
    caller.table.learn_name(*gate.address, "gate.example.com")
    caller.table.learn_name("192.0.2.1", 5061, "example.com")
    flow = caller.to(gate, name=None)
    assert caller.table.send(MESSAGE, flow)
    await until(lambda: caller.failed)


async def test_a_plain_peer_on_a_tls_port_is_refused(make: Make) -> None:
    gate = await make()
    reader, writer = await asyncio.open_connection(*gate.address)
    writer.write(MESSAGE)
    with contextlib.suppress(ConnectionError):
        await asyncio.wait_for(reader.read(), PATIENCE)
    await until(lambda: not len(gate.table))
    assert gate.table.failed_handshakes == 1
    assert not gate.messages
    assert not gate.failed
    writer.close()


async def test_a_tls_port_that_speaks_plain_text_is_a_failure(make: Make) -> None:
    caller = await make()
    plain = await asyncio.start_server(_greet, "127.0.0.1", 0)
    address = plain.sockets[0].getsockname()
    flow = Flow("TLS", address[0], address[1], 1, 0)
    assert caller.table.send(MESSAGE, flow)
    await until(lambda: caller.failed)
    assert caller.failed == [flow]
    plain.close()


async def _greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    del reader
    writer.write(b"220 mail.example.com\r\n")
    writer.close()


async def test_a_server_that_hangs_up_in_the_handshake_is_a_failure(make: Make) -> None:
    caller = await make()
    deaf = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    address = deaf.sockets[0].getsockname()
    flow = Flow("TLS", address[0], address[1], 1, 0)
    assert caller.table.send(MESSAGE, flow)
    await until(lambda: caller.failed)
    assert caller.failed == [flow]
    deaf.close()


async def test_a_server_that_never_shakes_hands_is_given_up(make: Make) -> None:
    caller = await make(limits=TcpLimits(connect=0.05))
    writers: list[asyncio.StreamWriter] = []
    mute = await asyncio.start_server(lambda _reader, writer: writers.append(writer), "127.0.0.1", 0)
    address = mute.sockets[0].getsockname()
    flow = Flow("TLS", address[0], address[1], 1, 0)
    assert caller.table.send(MESSAGE, flow)
    await until(lambda: caller.failed)
    assert caller.failed == [flow]
    await until(lambda: not len(caller.table))
    for writer in writers:
        writer.close()
    mute.close()


async def test_an_unfinished_handshake_ends_the_connection(make: Make) -> None:
    gate = await make(limits=TcpLimits(handshake=0.05))
    reader, writer = await asyncio.open_connection(*gate.address)
    writer.write(b"\x16\x03\x01\x02\x00\x01")
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
    await until(lambda: not len(gate.table))
    assert gate.table.failed_handshakes == 1
    assert not gate.failed
    writer.close()


async def test_handshakes_under_way_are_bounded_for_strangers(make: Make) -> None:
    gate = await make(limits=TcpLimits(handshakes=2))
    half = [await asyncio.open_connection(*gate.address) for _ in range(2)]
    await until(lambda: len(gate.table) == 2)
    caller = await make()
    assert caller.table.send(MESSAGE, caller.to(gate))
    await until(lambda: gate.messages)
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(half[0][0].read(), PATIENCE) == b""
    assert (gate.table.displaced, gate.table.refused, len(gate.table)) == (1, 0, 2)
    for _, writer in half:
        writer.close()


async def test_a_lost_connection_is_told_to_both_sides(make: Make) -> None:
    caller, gate = await make(), await make()
    flow = caller.to(gate)
    caller.table.send(MESSAGE, flow)
    await until(lambda: gate.messages)
    await gate.table.close()
    await until(lambda: len(caller.failed) == 2)
    assert flow in caller.failed


async def test_a_client_s_end_closes_in_order(make: Make, authority: Authority) -> None:
    gate = await make()
    context = ssl.create_default_context(cafile=str(authority.certificate))
    _, writer = await asyncio.open_connection(*gate.address, ssl=context, server_hostname="gate.example.com")
    writer.write(MESSAGE)
    await until(lambda: gate.messages)
    writer.close()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        await writer.wait_closed()
    await until(lambda: gate.failed)
    assert gate.failed == [gate.messages[0][1]]


async def test_rfc5626_4_4_1_pings_are_answered_over_tls(make: Make, authority: Authority) -> None:
    gate = await make()
    context = ssl.create_default_context(cafile=str(authority.certificate))
    reader, writer = await asyncio.open_connection(
        *gate.address, ssl=context, server_hostname="gate.example.com"
    )
    writer.write(b"\r\n\r\n")
    assert await asyncio.wait_for(reader.readexactly(2), PATIENCE) == b"\r\n"
    writer.close()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        await writer.wait_closed()


# Mutual TLS and connection reuse ----------------------------------------------------------------------------


async def test_a_client_is_known_by_its_certificate(
    make: Make, mutual: TlsConfig, authority: Authority
) -> None:
    pbx = replace(mutual, certificate=authority.issue("pbx.pem", "URI:sip:pbx.example.com"))
    caller, gate = await make(pbx), await make(mutual)
    assert caller.table.send(MESSAGE, caller.to(gate))
    await until(lambda: gate.messages)
    assert gate.messages[0][1].certified == ("pbx.example.com",)


async def test_a_client_without_certificate_is_refused_where_one_is_required(
    make: Make, mutual: TlsConfig, authority: Authority
) -> None:
    gate = await make(mutual)
    context = ssl.create_default_context(cafile=str(authority.certificate))
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        reader, writer = await asyncio.open_connection(
            *gate.address, ssl=context, server_hostname="gate.example.com"
        )
        writer.write(MESSAGE)
        await asyncio.wait_for(reader.read(), PATIENCE)
    await until(lambda: gate.table.failed_handshakes)
    assert not gate.messages


async def _reuse(caller: Side, gate: Side, message: bytes) -> bool:
    """Let ``caller`` send ``message``, then send to the port of its Via; say whether its connection is
    used.
    """
    assert caller.table.send(message, caller.to(gate))
    await until(lambda: gate.messages)
    gate.table.tls_names = {("127.0.0.1", 5070): "gate.example.com"}
    assert gate.table.send(MESSAGE, Flow("TLS", "127.0.0.1", 5070, 1, 0))
    await until(lambda: caller.messages or gate.failed)
    return bool(caller.messages)


async def test_rfc5923_8_a_trusted_peer_s_connection_takes_requests_to_it(
    make: Make, mutual: TlsConfig
) -> None:
    assert await _reuse(await make(mutual), await make(mutual, trusted=True), ALIAS)


@pytest.mark.parametrize(
    ("via", "reused"),
    [("gate.example.com:5070", True), ("gate.example.com", False), ("other.example.com:5070", False)],
)
async def test_rfc5923_8_the_name_in_its_via_means_all_addresses_of_that_name(
    via: str, reused: bool, make: Make, mutual: TlsConfig
) -> None:
    caller, gate = await make(mutual), await make(mutual, trusted=True)
    gate.table.tls_names = {("127.0.0.77", 5070): "gate.example.com"}
    assert caller.table.send(ALIAS.replace(b"127.0.0.1:5070", via.encode()), caller.to(gate))
    await until(lambda: gate.messages)
    assert gate.table.send(MESSAGE, Flow("TLS", "127.0.0.77", 5070, 1, 0))
    await until(lambda: caller.messages or gate.failed)
    assert bool(caller.messages) is reused


async def test_rfc5923_without_alias_the_connection_is_not_used(make: Make, mutual: TlsConfig) -> None:
    assert not await _reuse(await make(mutual), await make(mutual, trusted=True), MESSAGE)


async def test_rfc5923_strangers_cannot_draw_requests_to_their_connection(
    make: Make, mutual: TlsConfig
) -> None:
    assert not await _reuse(await make(mutual), await make(mutual), ALIAS)


async def test_rfc5923_9_without_a_client_certificate_there_is_no_alias(make: Make) -> None:
    assert not await _reuse(await make(), await make(trusted=True), ALIAS)


async def test_rfc5923_9_the_certificate_must_name_who_is_called(
    make: Make, mutual: TlsConfig, authority: Authority
) -> None:
    other = replace(mutual, certificate=authority.issue("other.pem", "DNS:other.example.com"))
    assert not await _reuse(await make(other), await make(mutual, trusted=True), ALIAS)


@pytest.mark.parametrize(
    "message",
    [
        ALIAS.replace(b"Via: SIP/2.0/TLS", b"Via: nonsense"),
        MESSAGE.replace(b"To: ", b'To: "a;alias" '),
    ],
    ids=["malformed", "elsewhere"],
)
async def test_only_the_parameter_of_a_via_makes_an_alias(
    message: bytes, make: Make, mutual: TlsConfig
) -> None:
    assert not await _reuse(await make(mutual), await make(mutual, trusted=True), message)


async def test_a_renewed_certificate_leaves_connections_alone(make: Make, authority: Authority) -> None:
    mine = TlsConfig(authority.issue("mine.pem", "DNS:gate.example.com"), ca=authority.certificate)
    caller, gate = await make(), await make(mine)
    flow = caller.to(gate)
    caller.table.send(MESSAGE, flow)
    await until(lambda: gate.messages)
    authority.issue("mine.pem", "DNS:new.example.com")
    gate.tls.reload()
    caller.table.send(MESSAGE, flow)
    await until(lambda: len(gate.messages) == 2)
    other = await make()
    assert other.table.send(MESSAGE, other.to(gate, name="new.example.com"))
    await until(lambda: len(gate.messages) == 3)
    assert not gate.failed
    assert not caller.failed
