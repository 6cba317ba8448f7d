"""Registrations of a real gate: over real sockets, in a real store, over a restart."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from proxy import recordings
from proxy.clock import epoch
from proxy.net.control import ask
from proxy.operations import samples
from proxy.policy import CallClass, ClassOfService, User, UserGroup
from proxy.server import Gate
from proxy.settings import Settings, load_settings
from proxy.sip.digest import answer_challenge, choose_challenge
from proxy.sip.message import Response
from proxy.sip.parser import parse_message
from proxy.store import Store, StoreUnavailable, digest_credentials
from proxy.store.bindings import BindingsRepository
from tests.net.waiting import PATIENCE, until
from tests.store.test_bindings import stored
from tests.support.ports import rtp_ports

PASSWORD = "only-for-this-test"
MEDIA_PORTS = rtp_ports()


@pytest.fixture(autouse=True)
def _no_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("TOLLGATE_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(recordings, "_encoded", lambda _library, _codec: [])


def settings(folder: Path, extra: str = "") -> Settings:
    file = folder / "gate.toml"
    file.write_text(
        f"""
        sip.listen = ["udp:127.0.0.1:0"]
        media.ports = "{MEDIA_PORTS}"
        store.url = "sqlite:///{folder}/gate.db"
        phones.codecs = ["PCMU"]
        timers.drain = 1
        {extra}
        """
    )
    return load_settings(file)


def fill_store(wanted: Settings) -> None:
    with Store(wanted.store.url) as store:
        store.groups.add(UserGroup("Staff", permissions=ClassOfService(frozenset({CallClass.INTERNAL}))))
        for extension in ("204", "205"):
            credentials = digest_credentials(extension, wanted.auth.realm, PASSWORD)
            store.users.add(User(extension, "Staff", credentials=credentials))


class Phone:
    """A socket that registers."""

    def __init__(self, gate: Gate) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(PATIENCE)
        self.port = int(self.socket.getsockname()[1])
        self.gate = gate
        self.cseq = 0

    def exchange(self, headers: str, user: str = "204") -> Response:
        self.cseq += 1
        gate_port = self.gate.bound[0][1]
        text = (
            f"REGISTER sip:127.0.0.1:{gate_port} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP 127.0.0.1:{self.port};branch=z9hG4bK-{self.port}-{self.cseq};rport\r\n"
            f"Max-Forwards: 70\r\nFrom: <sip:{user}@127.0.0.1>;tag=f\r\nTo: <sip:{user}@127.0.0.1>\r\n"
            f"Call-ID: {self.port}\r\nCSeq: {self.cseq} REGISTER\r\n{headers}Content-Length: 0\r\n\r\n"
        )
        self.socket.sendto(text.encode(), ("127.0.0.1", gate_port))
        message = parse_message(self.socket.recv(65_535))
        assert isinstance(message, Response)
        return message

    def register(self, user: str = "204", expires: int = 600) -> Response:
        uri = f"sip:127.0.0.1:{self.gate.bound[0][1]}"
        headers = f"Contact: <sip:{user}@127.0.0.1:{self.port}>\r\nExpires: {expires}\r\n"
        challenge = choose_challenge(self.exchange(headers, user).headers.get_all("WWW-Authenticate"))
        assert challenge is not None
        credentials = answer_challenge(
            challenge, method="REGISTER", uri=uri, username=user, password=PASSWORD, cnonce="c"
        )
        return self.exchange(f"{headers}Authorization: {credentials}\r\n", user)


async def opened(wanted: Settings, load: Callable[[], Settings] | None = None) -> Gate:
    gate = Gate(wanted, load=load)
    await gate.start()
    return gate


async def test_rfc7616_3_4_credentials_of_an_earlier_run_are_a_replay(tmp_path: Path) -> None:
    wanted = settings(tmp_path, '[auth]\nsecret = "a key that outlives the process"')
    fill_store(wanted)
    gate = await opened(wanted)
    phone = Phone(gate)
    contact = f"Contact: <sip:204@127.0.0.1:{phone.port}>\r\n"
    uri = f"sip:127.0.0.1:{gate.bound[0][1]}"
    challenged = await asyncio.to_thread(phone.exchange, contact)
    challenge = choose_challenge(challenged.headers.get_all("WWW-Authenticate"))
    assert challenge is not None
    credentials = answer_challenge(
        challenge, method="REGISTER", uri=uri, username="204", password=PASSWORD, cnonce="c"
    )
    proved = f"{contact}Authorization: {credentials}\r\n"
    assert (await asyncio.to_thread(phone.exchange, proved)).status == 200
    await gate.stop()
    phone.socket.close()
    gate = await opened(wanted)
    stranger = Phone(gate)
    answer = await asyncio.to_thread(stranger.exchange, proved)
    assert answer.status == 401
    assert "stale=true" in (answer.headers.get("WWW-Authenticate") or "")
    await gate.stop()
    stranger.socket.close()


async def test_a_registration_survives_a_restart(tmp_path: Path) -> None:
    wanted = settings(tmp_path)
    fill_store(wanted)
    gate = await opened(wanted)
    phone = Phone(gate)
    response = await asyncio.to_thread(phone.register)
    assert response.status == 200
    control = wanted.control_socket
    status = await asyncio.to_thread(ask, control, "status", timeout=PATIENCE)
    assert isinstance(status, dict)
    assert (status["registered_users"], status["registered_contacts"]) == (1, 1)
    assert next(item.value for item in samples(gate) if item.name == "registered_contacts") == 1
    assert status["subscriptions"] == 0
    assert next(item.value for item in samples(gate) if item.name == "subscriptions") == 0
    await gate.stop()

    gate = await opened(wanted)
    assert gate.phones is not None
    registrar = gate.phones.registrations.registrar
    (binding,) = registrar.bindings("204")
    assert binding.contact == f"sip:204@127.0.0.1:{phone.port}"
    assert binding.flow.remote_port == phone.port
    phone.gate = gate
    assert (await asyncio.to_thread(phone.register, expires=0)).status == 200
    assert gate.store is not None
    await until(lambda: gate.store is not None and not gate.store.bindings.all(now=0.0))
    await gate.stop()
    phone.socket.close()


async def test_what_has_ended_while_the_gate_was_away_is_forgotten(tmp_path: Path) -> None:
    wanted = settings(tmp_path)
    fill_store(wanted)
    with Store(wanted.store.url) as store:
        ended, live = replace(stored("204"), expires_at=1.0), replace(stored("205"), expires_at=1e10)
        store.bindings.replace({"204": [ended], "205": [live]})
    gate = await opened(wanted)
    assert gate.store is not None
    assert [binding.user for binding in gate.store.bindings.all(now=0.0)] == ["205"]
    await gate.stop()


async def test_a_user_that_was_deleted_meanwhile_is_not_restored(tmp_path: Path) -> None:
    wanted = settings(tmp_path)
    fill_store(wanted)
    gate = await opened(wanted)
    phones = [Phone(gate), Phone(gate)]
    await asyncio.to_thread(phones[0].register, "204")
    await asyncio.to_thread(phones[1].register, "205")
    await gate.stop()
    with Store(wanted.store.url) as store:
        store.users.delete_many(["205"])
    gate = await opened(wanted)
    assert gate.phones is not None
    assert (gate.phones.users, gate.phones.contacts) == (1, 1)
    await gate.stop()
    for phone in phones:
        phone.socket.close()


async def test_limits_change_while_it_runs(tmp_path: Path) -> None:
    wanted = settings(tmp_path)
    fill_store(wanted)
    gate = await opened(wanted, lambda: settings(tmp_path, "registrar.max_contacts = 1"))
    first, second = Phone(gate), Phone(gate)
    assert (await asyncio.to_thread(first.register)).status == 200
    await gate.reload()
    assert (await asyncio.to_thread(second.register)).status == 403
    await gate.stop()
    first.socket.close()
    second.socket.close()


async def test_another_domain_is_refused_where_domains_are_named(tmp_path: Path) -> None:
    wanted = settings(tmp_path, 'sip.local_domains = ["sip.example.com"]')
    fill_store(wanted)
    gate = await opened(wanted)
    phone = Phone(gate)
    assert (await asyncio.to_thread(phone.register)).status == 200, "an address of the gate is its own"
    await gate.stop()
    phone.socket.close()


async def test_without_phones_nobody_registers(tmp_path: Path) -> None:
    wanted = settings(tmp_path, "phones.enabled = false")
    fill_store(wanted)
    gate = await opened(wanted)
    assert gate.phones is None
    phone = Phone(gate)
    assert (await asyncio.to_thread(phone.exchange, "", "204")).status == 405
    status = await asyncio.to_thread(ask, wanted.control_socket, "status", timeout=PATIENCE)
    assert isinstance(status, dict)
    assert status["registered_users"] == 0
    await gate.stop()
    phone.socket.close()


async def test_a_store_that_can_not_be_read_yet_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = settings(tmp_path)
    fill_store(wanted)
    gate = await opened(wanted)
    phone = Phone(gate)
    await asyncio.to_thread(phone.register)
    await gate.stop()
    phone.socket.close()

    readable = BindingsRepository.all
    tries = 0

    def locked(repository: BindingsRepository, *, now: float) -> object:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise StoreUnavailable("store: locked")
        return readable(repository, now=now)

    monkeypatch.setattr(BindingsRepository, "all", locked)
    gate = await opened(wanted)
    phones = gate.phones
    assert phones is not None
    await until(lambda: phones.contacts == 1)
    assert sum("can't be read yet" in record.message for record in caplog.records) == 1
    await gate.stop()


def test_the_epoch_joins_both_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1_700_000_000.0)
    monkeypatch.setattr("time.monotonic", lambda: 500.0)
    assert epoch() == 1_699_999_500.0
