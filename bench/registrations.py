"""What phones cost that register: registrations per second on one core, and memory once all are bound.

A registration is a REGISTER, its 401 with a challenge, and the REGISTER with the SHA-256 response to it, over
UDP; each phone has a user, Contact and Call-ID of its own.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.gate import GENERATOR_CORE, GateProcess, running_gate
from proxy.policy import User, UserGroup
from proxy.store import Store, digest_credentials

PHONES_ADDRESS = "127.0.0.5"
"""Not that of the trusted peer of config/loopback.toml: whoever calls from here has to prove who it is."""
REALM = "tollgate"
GROUP = "phones"
WINDOW = 50
"""Registrations under way at a time."""
SILENCE = 2.0
"""Seconds without any answer after which the rest counts as failed."""

_NONCE = re.compile(rb'algorithm=SHA-256[^\r]*nonce="([^"]+)"|nonce="([^"]+)"[^\r]*algorithm=SHA-256')
_CALL = re.compile(rb"\r\nCall-ID: (\d+)@")


@dataclass(frozen=True, slots=True)
class RegistrationCost:
    """One run over all phones. ``cpu_ms`` is the gate's CPU per registration, ``memory_mb`` its resident
    memory with all phones bound (``empty_mb`` before the first one)."""

    phones: int
    failed: int
    per_second: float
    cpu_ms: float
    generator_share: float
    empty_mb: float
    memory_mb: float


def run(*, quick: bool) -> list[RegistrationCost]:
    """Register every phone once."""
    phones = 1_000 if quick else 20_000
    names = [str(100_000 + number) for number in range(phones)]
    with running_gate(prepare=lambda url: _add_users(url, names)) as gate:
        return [measure(gate, names)]


def measure(gate: GateProcess, names: list[str]) -> RegistrationCost:
    """Register these users, `WINDOW` at a time, and return what it cost the gate."""
    empty = gate.resident_bytes()
    cpu, own, started = gate.cpu_seconds(), time.process_time(), time.monotonic()
    with _on_the_generators_core():
        bound = _register(gate, names)
    seconds = time.monotonic() - started
    cpu, own = gate.cpu_seconds() - cpu, time.process_time() - own
    return RegistrationCost(
        phones=len(names),
        failed=len(names) - bound,
        per_second=bound / seconds,
        cpu_ms=1000 * cpu / max(bound, 1),
        generator_share=own / seconds,
        empty_mb=empty / 1e6,
        memory_mb=gate.resident_bytes() / 1e6,
    )


def _add_users(url: str, names: list[str]) -> None:
    with Store(url) as store:
        store.groups.add(UserGroup(GROUP))
        for name in names:
            credentials = digest_credentials(name, REALM, _password(name), md5=False)
            store.users.add(User(name, GROUP, credentials=credentials))


def _password(name: str) -> str:
    return f"bench-{name}"


@contextmanager
def _on_the_generators_core() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {GENERATOR_CORE})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _register(gate: GateProcess, names: list[str]) -> int:
    """Return how many got their 200."""
    bound = 0
    waiting = iter(enumerate(names))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
        phone.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        phone.bind((PHONES_ADDRESS, 0))
        phone.connect((gate.host, gate.port))
        phone.settimeout(SILENCE)
        port = phone.getsockname()[1]
        for _ in range(WINDOW):
            _begin(phone, gate, port, waiting)
        while True:
            try:
                answer = phone.recv(4096)
            except TimeoutError:
                return bound
            found = _CALL.search(answer)
            if found is None:
                continue
            number = int(found[1])
            if answer.startswith(b"SIP/2.0 401") and (nonce := _NONCE.search(answer)) is not None:
                proof = _proof(gate, names[number], (nonce[1] or nonce[2]).decode())
                phone.send(_request(gate, port, number, names[number], proof))
                continue
            bound += answer.startswith(b"SIP/2.0 200")
            if bound == len(names):
                return bound
            _begin(phone, gate, port, waiting)


def _begin(phone: socket.socket, gate: GateProcess, port: int, waiting: Iterator[tuple[int, str]]) -> None:
    following = next(waiting, None)
    if following is not None:
        number, name = following
        phone.send(_request(gate, port, number, name))


def _request(gate: GateProcess, port: int, number: int, name: str, proof: str = "") -> bytes:
    here, cseq = f"{PHONES_ADDRESS}:{port}", 2 if proof else 1
    return (
        f"REGISTER sip:{gate.host}:{gate.port} SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP {here};branch=z9hG4bK{number}-{cseq}\r\n"
        "Max-Forwards: 70\r\n"
        f"From: <sip:{name}@{gate.host}>;tag={number}\r\n"
        f"To: <sip:{name}@{gate.host}>\r\n"
        f"Call-ID: {number}@{PHONES_ADDRESS}\r\n"
        f"CSeq: {cseq} REGISTER\r\n"
        f"Contact: <sip:{name}@{here};line={number}>\r\n"
        "Expires: 3600\r\n"
        f"{proof}Content-Length: 0\r\n\r\n"
    ).encode()


def _proof(gate: GateProcess, name: str, nonce: str) -> str:
    """Return the Authorization header line (RFC 7616 §3.4.1)."""
    uri = f"sip:{gate.host}:{gate.port}"
    ha1 = _sha256(f"{name}:{REALM}:{_password(name)}")
    response = _sha256(f"{ha1}:{nonce}:00000001:0a4f113b:auth:{_sha256(f'REGISTER:{uri}')}")
    return (
        f'Authorization: Digest username="{name}", realm="{REALM}", nonce="{nonce}", uri="{uri}", '
        f'response="{response}", algorithm=SHA-256, cnonce="0a4f113b", qop=auth, nc=00000001\r\n'
    )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
