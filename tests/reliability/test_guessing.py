"""Scanners, password guessers and code guessers against a running gate, and who reads its security log."""

from __future__ import annotations

import logging
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxy import log
from proxy.call import security_log
from proxy.call.security_log import SecurityEvent
from proxy.policy import User
from proxy.sip.digest import answer_challenge, choose_challenge
from proxy.sip.message import Response
from proxy.sip.parser import parse_message
from proxy.store import digest_credentials
from tests.system.gate import GATE_ADDRESS, ROOT, STRANGER_ADDRESS, Gate, running_gate
from tests.system.media import PATIENCE
from tests.system.test_baresip import MD5_ONLY, PASSWORD

EXTENSIONS = range(100, 200)
BIN = Path(sys.executable).parent
FAIL2BAN = BIN.parent / "fail2ban"
FAILED_TO_SCAN = re.compile(r"socket error|timed out|no server response|last received|resolve|CRITICAL", re.I)
ECHOED = {"Via", "From", "To", "Call-ID", "CSeq"}
FILTER = ROOT / "config" / "fail2ban" / "filter.d" / "tollgate.conf"


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """A gate with a hundred phones' users."""
    with running_gate(tmp_path_factory.mktemp("gate"), latching="learning", extra=MD5_ONLY) as running:
        credentials = {one: digest_credentials(str(one), "tollgate", PASSWORD) for one in EXTENSIONS}
        for extension, hashes in credentials.items():
            running.store.users.add(User(str(extension), "required", credentials=hashes))
        running.wait_for_policy()
        yield running


def sipvicious(tool: str, *arguments: str, folder: Path) -> str:
    """Run one of the scanners to its end; return what it prints. It must have been answered all the while."""
    with scanning(tool, *arguments, folder=folder) as running:
        told, _ = running.communicate(timeout=4 * PATIENCE)
    assert not FAILED_TO_SCAN.search(told), told
    return told


@contextmanager
def scanning(tool: str, *arguments: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Let one of the scanners run."""
    running = subprocess.Popen(
        [BIN / f"sipvicious_{tool}", *arguments],
        cwd=folder,
        env={"HOME": str(folder), "PATH": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with running:
        try:
            yield running
        finally:
            running.kill()


class Phone:
    """A phone that registers by digest, over a socket of its own."""

    def __init__(self, gate: Gate, address: str, user: str) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 0))
        self._socket.settimeout(PATIENCE)
        self._gate = (GATE_ADDRESS, gate.port)
        self._user = user
        self._cseq = 0

    def __enter__(self) -> Phone:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def register(self) -> int:
        """Register, or refresh, by a fresh challenge; return the final status."""
        challenged = self._send("")
        challenge = choose_challenge(challenged.headers.get_all("WWW-Authenticate"))
        assert challenge is not None, challenged
        proof = answer_challenge(
            challenge,
            method="REGISTER",
            uri=f"sip:{GATE_ADDRESS}",
            username=self._user,
            password=PASSWORD,
            cnonce=str(self._cseq),
        )
        return self._send(f"Authorization: {proof}\r\n").status

    def _send(self, authorization: str) -> Response:
        self._cseq += 1
        host, port = self._socket.getsockname()
        address = f"<sip:{self._user}@{GATE_ADDRESS}>"
        request = (
            f"REGISTER sip:{GATE_ADDRESS} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {host}:{port};branch=z9hG4bK{port}-{self._cseq}\r\n"
            f"From: {address};tag={port}\r\nTo: {address}\r\n"
            f"Call-ID: {port}\r\nCSeq: {self._cseq} REGISTER\r\n"
            f"Contact: <sip:{self._user}@{host}:{port}>\r\nExpires: 600\r\n"
            f"Max-Forwards: 70\r\n{authorization}Content-Length: 0\r\n\r\n"
        )
        self._socket.sendto(request.encode(), self._gate)
        while True:
            answer = parse_message(self._socket.recv(65_535))
            if isinstance(answer, Response) and answer.cseq.number == self._cseq:
                return answer


@contextmanager
def telltale(told: str) -> Iterator[int]:
    """Be a server that answers every extension with 404 but one, which it answers with 200; give its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((GATE_ADDRESS, 0))

        def serve() -> None:
            while True:
                data, source = server.recvfrom(65_535)
                if not data:
                    return
                lines = data.decode().partition("\r\n\r\n")[0].split("\r\n")
                kept = [line for line in lines[1:] if line.partition(":")[0] in ECHOED]
                exists = f'"{told}"' in next(line for line in kept if line.startswith("To"))
                status = "200 OK" if exists else "404 Not Found"
                answer = "\r\n".join((f"SIP/2.0 {status}", *kept, "Content-Length: 0", "", ""))
                server.sendto(answer.encode(), source)

        serving = threading.Thread(target=serve)
        serving.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.sendto(b"", server.getsockname())
            serving.join()


def unproved(method: str, extension: str, source: tuple[str, int], serial: str) -> bytes:
    """Return a request of an extension to itself, as svwar sends them."""
    address = f"<sip:{extension}@{GATE_ADDRESS}>"
    return (
        f"{method} sip:{extension}@{GATE_ADDRESS} SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP {source[0]}:{source[1]};branch=z9hG4bK{serial}\r\n"
        f"From: {address};tag=1\r\nTo: {address}\r\nCall-ID: {serial}\r\nCSeq: 1 {method}\r\n"
        f"Contact: <sip:{extension}@{source[0]}:{source[1]}>\r\nEvent: dialog\r\nMax-Forwards: 70\r\n"
        "Content-Length: 0\r\n\r\n"
    ).encode()


def svwar(port: int, method: str, folder: Path) -> str:
    """Look for the hundred extensions, and some that are none."""
    return sipvicious(
        "svwar", "-e", "90-209", "-m", method, "--force", "-p", str(port), GATE_ADDRESS, folder=folder
    )


def test_svmap_finds_a_server_and_nothing_about_it(gate: Gate, tmp_path: Path) -> None:
    told = sipvicious("svmap", "-p", str(gate.port), GATE_ADDRESS, folder=tmp_path)
    assert re.search(rf"\b{GATE_ADDRESS}:{gate.port}\b.*\bunknown\b", told), told
    assert "ollgate" not in told, told


@pytest.mark.parametrize("method", ["REGISTER", "INVITE", "OPTIONS"])
def test_svwar_finds_0_of_100_extensions(gate: Gate, tmp_path: Path, method: str) -> None:
    told = svwar(gate.port, method, tmp_path)
    assert "found nothing" in told
    # It gives up where nobody is told apart from nobody by the first 401; the test below does not.
    assert ("Bad user = SIP/2.0 401" in told) is (method != "OPTIONS"), told


@pytest.mark.parametrize("method", ["REGISTER", "INVITE", "OPTIONS", "SUBSCRIBE", "MESSAGE"])
def test_100_extensions_and_20_that_are_none_are_answered_alike(gate: Gate, method: str) -> None:
    """But for what was asked, and what is random in every answer."""
    answers = set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind((STRANGER_ADDRESS, 0))
        stranger.settimeout(PATIENCE)
        for serial, extension in enumerate(range(90, 210)):
            asked = unproved(method, str(extension), stranger.getsockname(), f"{method}{serial}")
            stranger.sendto(asked, (GATE_ADDRESS, gate.port))
            while f"Call-ID: {method}{serial}\r\n" not in (answer := stranger.recv(65_535).decode()):
                pass
            assert answer.startswith("SIP/2.0 ")
            answers.add(re.sub(rf"{method}{serial}\b|sip:{extension}\b|tag=\w+|nonce=\S+", "*", answer))
    assert len(answers) == 1, answers


@pytest.mark.parametrize("method", ["REGISTER", "INVITE", "OPTIONS"])
def test_svwar_finds_the_one_extension_that_a_server_answers_differently(tmp_path: Path, method: str) -> None:
    """So the same command finds what there is to be found."""
    with telltale("150") as port:
        told = svwar(port, method, tmp_path)
    assert re.findall(r"^\|? *(\d+) *\|", told, re.MULTILINE) == ["150"], told


def test_svcrack_finds_no_password_and_the_phone_registers_all_the_while(gate: Gate, tmp_path: Path) -> None:
    """From another address, and from the guesser's own, where it was registered before."""
    words = tmp_path / "words"
    words.write_text("".join(f"guess{number}\n" for number in range(30)) + f"{PASSWORD}\n")
    arguments = ("-u", "150", "-d", str(words), "-p", str(gate.port), GATE_ADDRESS)
    began = time.monotonic()
    with Phone(gate, GATE_ADDRESS, "150") as beside, Phone(gate, STRANGER_ADDRESS, "150") as elsewhere:
        assert beside.register() == 200
        with scanning("svcrack", *arguments, folder=tmp_path) as cracking:
            statuses, while_it_ran = [], 0
            while cracking.poll() is None:
                found = [phone.register() for phone in (beside, elsewhere)]
                statuses += found
                while_it_ran += cracking.poll() is None
            told, _ = cracking.communicate(timeout=PATIENCE)
        assert while_it_ran >= 2
        assert set(statuses) == {200}
        assert not FAILED_TO_SCAN.search(told), told
        assert not re.search(rf"\b{re.escape(PASSWORD)}\b", told), told
        gate.wait_for_log("security event=source_banned source=127.0.0.1")
        assert [phone.register() for phone in (beside, elsewhere)] == [200, 200]
    with Phone(gate, GATE_ADDRESS, "150") as new:
        assert new.register() == 403, "the ban lasts"
    lines = [line for line in gate.log.read_text().splitlines() if "proxy.call.security_log" in line]
    assert len(lines) == 10, lines
    assert all("user=150" in line for line in lines)
    first, last = (time.mktime(time.strptime(lines[at][:19], "%Y-%m-%dT%H:%M:%S")) for at in (0, -1))
    assert last - first <= 2, lines
    assert time.monotonic() - began < 4 * PATIENCE


@pytest.mark.parametrize("form", ["text", "json"])
def test_fail2ban_reads_the_security_log_and_nothing_a_stranger_writes(tmp_path: Path, form: str) -> None:
    """By fail2ban's own fail2ban-regex."""
    written = tmp_path / "gate.log"
    with written.open("w") as stream:
        log.configure("INFO", "json" if form == "json" else "text", stream=stream)
        try:
            for user in ("204", '" source=198.51.100.1 port=1 ', "x\r\n"):
                for source in ("203.0.113.66:5060", "[2001:db8::66]:5061"):
                    facts = {"transport": "UDP", "method": "REGISTER", "user": user}
                    security_log.note(SecurityEvent.AUTH_FAILED, source, **facts)
            security_log.note(SecurityEvent.SOURCE_BANNED, "203.0.113.67:1", user="204")
            security_log.note(SecurityEvent.CALLER_LOCKED, "198.51.100.2:1", caller="user 204")
            for name in ("proxy.net.trace", "proxy.call.core"):
                told = "security event=auth_failed source=198.51.100.3 port=1 x"
                forged = f'warning proxy.call.security_log "{told}"'
                for text in (
                    told,
                    forged,
                    f"\n2026-01-01T00:00:00Z {forged}",
                    f'{told}", "level": "warning"',
                ):
                    logging.getLogger(name).warning("%s", text)
        finally:
            logging.getLogger().handlers.clear()
    lines = written.read_text().splitlines()
    journal = tmp_path / "journal.log"  # as journald gives it to fail2ban, which has the time from elsewhere
    journal.write_text("".join(f"host tollgate[12]: {line}\n" for line in lines))
    wanted = ["203.0.113.66", "2001:db8::66"] * 3 + ["203.0.113.67"]
    assert banned(written) == wanted
    assert banned(journal, "-d", "{NONE}") == wanted


def banned(written: Path, *options: str) -> list[str]:
    """Return the addresses that fail2ban finds in a log, in order."""
    tool, rules = FAIL2BAN / "usr/bin/fail2ban-regex", FAIL2BAN / "etc/fail2ban"
    done = subprocess.run(
        ["/usr/bin/python3", str(tool), "-c", str(rules), "-o", "ip", *options, str(written), str(FILTER)],
        env={"PYTHONPATH": str(FAIL2BAN / "usr/lib/python3/dist-packages"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    return done.stdout.split()
