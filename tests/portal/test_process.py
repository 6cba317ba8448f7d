"""The portal as a process: alone, with TLS, and beside a gate, whose calls never depend on it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from proxy.errors import ConfigurationError
from proxy.net.control import ask
from proxy.settings import load_settings
from tests.support.certificates import Authority
from tests.support.ports import rtp_ports

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
NEW_PASSWORD = "correct horse battery"


class Program:
    """One run of ``tollgate`` and what it says."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said = ""

    async def says(self, pattern: str) -> re.Match[str]:
        assert self.process.stdout
        async with asyncio.timeout(60):
            while (found := re.search(pattern, self.said)) is None:
                line = await self.process.stdout.readline()
                assert line, f"ended without saying {pattern}: {self.said}"
                self.said += line.decode()
        self.said = self.said[found.end() :]
        return found

    async def ends(self) -> int:
        assert self.process.stdout
        async with asyncio.timeout(60):
            self.said += (await self.process.stdout.read()).decode()
            return await self.process.wait()


class Folder:
    """A settings file and the programs that run with it."""

    def __init__(self, path: Path) -> None:
        self.file = path / "gate.toml"
        self.path = path
        self.temporary = path / "temporary"
        self.temporary.mkdir()
        self.programs: list[Program] = []

    def write(self, *lines: str) -> None:
        own = (f'store.url = "sqlite:///{self.path}/gate.db"', 'sip.listen = ["udp:127.0.0.1:0"]')
        more = (f'media.ports = "{rtp_ports()}"', "[portal]", 'listen = "127.0.0.1:0"')
        self.file.write_text("\n".join((*own, *more, *lines)), encoding="utf-8")

    async def run(self, *arguments: str) -> Program:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "proxy", *arguments, "--config", str(self.file)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=ROOT,
            env=os.environ | {"TMPDIR": str(self.temporary)},
        )
        self.programs.append(Program(process))
        return self.programs[-1]

    async def end(self) -> None:
        for program in self.programs:
            if program.process.returncode is None:
                program.process.kill()
                await program.process.wait()


@pytest_asyncio.fixture
async def folder(tmp_path: Path) -> AsyncIterator[Folder]:
    made = Folder(tmp_path)
    made.write()
    yield made
    await made.end()


async def test_first_start_login_and_end(folder: Folder) -> None:
    portal = await folder.run("portal")
    name, password = (await portal.says(r"log in as (\w+) with (\S+)")).groups()
    url = (await portal.says(r"ready at (http://127.0.0.1:\d+)"))[1]
    async with httpx.AsyncClient(base_url=url, headers={"accept-language": "en"}) as client:
        answer = await client.post("/login", data={"name": name, "password": password})
        assert (answer.status_code, answer.headers["location"]) == (303, "/password")
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("tollgate=")
        assert {"HttpOnly", "Secure", "SameSite=lax"} <= {part.strip() for part in cookie.split(";")}
        assert "server" not in answer.headers
        kept = {"cookie": cookie.partition(";")[0]}
        page = (await client.get("/password", headers=kept)).text
        assert "The gate is not running" in page
        token = re.search(r'name="csrf" value="(\w+)"', page)
        assert token
        fields = {"old": password, "new": NEW_PASSWORD, "again": NEW_PASSWORD, "csrf": token[1]}
        answer = await client.post("/password", data=fields, headers=kept)
        assert answer.headers["location"] == "/password?said=changed"
        kept = {"cookie": answer.headers["set-cookie"].partition(";")[0]}
        assert (await client.get("/codes", headers=kept)).status_code == 200
        found = await client.get("/codes?search=471147", headers=kept)
        assert found.status_code == 200
    portal.process.send_signal(signal.SIGTERM)
    assert await portal.ends() == 0, "what comes after its last answer is done, too"
    assert list(folder.temporary.iterdir()) == []
    assert "471147" not in portal.said, "what is searched for may be a code"
    again = await folder.run("portal")
    await again.says("portal: ready")
    assert "log in as" not in again.said
    again.process.send_signal(signal.SIGTERM)
    await again.ends()
    assert (await (lost := await folder.run("portal", "--new-password", "admin")).ends()) == 0
    assert re.fullmatch(r"admin: \S{23} \(good for one log-in\)\n", lost.said)


async def test_hundreds_of_idle_connections_close_the_portal_for_nobody_else(folder: Folder) -> None:
    portal = await folder.run("portal")
    url = (await portal.says(r"ready at (http://127.0.0.1:\d+)"))[1]
    port = int(url.rpartition(":")[2])
    with contextlib.ExitStack() as idle:
        for _ in range(300):
            idle.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
        elsewhere = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
        async with httpx.AsyncClient(transport=elsewhere, timeout=60) as client:
            assert (await client.get(f"{url}/login")).status_code == 200


async def test_port_in_use_and_bad_certificate_are_told_in_one_line(folder: Folder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = folder.file.read_text(encoding="utf-8")
        taken_too = text.replace('listen = "127.0.0.1:0"', f'listen = "127.0.0.1:{port}"')
        folder.file.write_text(taken_too, encoding="utf-8")
        portal = await folder.run("portal")
        assert await portal.ends() == 1
        assert f"tollgate: portal.listen: 127.0.0.1 port {port}: Address already in use; `ss" in portal.said
    folder.write(f'certificate = "{folder.path}/none.pem"')
    portal = await folder.run("portal")
    assert await portal.ends() == 1
    assert "tollgate: portal.certificate and portal.key: No such file or directory" in portal.said
    assert "Traceback" not in portal.said


async def test_https_with_a_certificate_of_its_own(folder: Folder) -> None:
    authority = Authority(folder.path / "tls")
    folder.write(f'certificate = "{authority.issue("portal.pem", "IP:127.0.0.1")}"')
    portal = await folder.run("portal")
    name, password = (await portal.says(r"log in as (\w+) with (\S+)")).groups()
    url = (await portal.says(r"ready at (https://127.0.0.1:\d+)"))[1]
    context = ssl.create_default_context(cafile=authority.certificate)
    async with httpx.AsyncClient(base_url=url, verify=context) as client:
        answer = await client.post("/login", data={"name": name, "password": password})
        assert answer.headers["set-cookie"].startswith("__Host-tollgate=")
        assert "strict-transport-security" in answer.headers
        assert (await client.get("/password")).status_code == 200, "the cookie came back by itself"


async def test_gate_and_portal_run_side_by_side_and_neither_needs_the_other(folder: Folder) -> None:
    folder.write("enabled = true")
    socket_path = load_settings(folder.file).control_socket
    gate = await folder.run("serve")
    url = (await gate.says(r"portal: ready at (\S+)"))[1]
    assert await answers(url)
    portal_id = _child_of(gate.process.pid)
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, portal_id) == min(own + 10, 19), "its work comes after calls"
    os.kill(portal_id, signal.SIGKILL)
    await gate.says("portal ended with status -9")
    assert isinstance(ask(socket_path, "status"), dict), "the gate has not noticed"
    url = (await gate.says(r"portal: ready at (\S+)"))[1]
    assert await answers(url)
    gate.process.send_signal(signal.SIGTERM)
    assert await gate.ends() == 0
    assert not await answers(url)
    with pytest.raises(ConfigurationError):
        ask(socket_path, "status")


async def test_guessing_at_the_portal_keeps_neither_its_pages_nor_the_gate_waiting(folder: Folder) -> None:
    folder.write("enabled = true")
    gate = await folder.run("serve")
    port = int((await gate.says(r"listening on \S*127\.0\.0\.1:(\d+)"))[1])
    url = (await gate.says(r"portal: ready at (\S+)"))[1]
    ends = asyncio.Event()

    async def guess(number: int) -> list[int]:
        told: list[int] = []
        local = httpx.AsyncHTTPTransport(local_address=f"127.0.0.{number}")
        async with httpx.AsyncClient(transport=local, timeout=60) as client:
            while not ends.is_set():
                answer = await client.post(f"{url}/login", data={"name": f"n{number}", "password": "wrong"})
                told.append(answer.status_code)
        return told

    guessing = [asyncio.create_task(guess(number)) for number in range(10, 40)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
        phone.bind(("127.0.0.1", 0))
        phone.setblocking(False)
        for number in range(6):
            assert await answers(url, patience=60)
            assert await _is_heard(phone, port, number)
    ends.set()
    told = [status for statuses in await asyncio.gather(*guessing) for status in statuses]
    assert set(told) <= {401, 429, 503}
    assert {401, 503} <= set(told), "more came at once than are checked at once"


async def test_portal_of_a_killed_gate_ends_and_leaves_its_port(folder: Folder) -> None:
    folder.write("enabled = true")
    gate = await folder.run("serve")
    url = (await gate.says(r"portal: ready at (\S+)"))[1]
    gate.process.kill()
    await gate.ends()  # standard output is the portal's too: its end is told by this
    assert not await answers(url)


async def answers(url: str, *, patience: float = 5.0) -> bool:
    async with httpx.AsyncClient(timeout=patience) as client:
        try:
            return (await client.get(f"{url}/login")).status_code == 200
        except httpx.ConnectError:
            return False


async def _is_heard(phone: socket.socket, port: int, number: int) -> bool:
    """Whether the gate answers an OPTIONS (RFC 3261 §11), which is sent again until it does."""
    request = (
        f"OPTIONS sip:gate@127.0.0.1 SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP 127.0.0.1:{phone.getsockname()[1]};branch=z9hG4bK{number}\r\n"
        f"Max-Forwards: 70\r\nFrom: <sip:a@127.0.0.1>;tag=a\r\nTo: <sip:gate@127.0.0.1>\r\n"
        f"Call-ID: {number}@127.0.0.1\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    ).encode()
    loop = asyncio.get_running_loop()
    for _ in range(60):
        await loop.sock_sendto(phone, request, ("127.0.0.1", port))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                while not (found := await loop.sock_recv(phone, 65_536)).startswith(b"SIP/2.0 200"):
                    pass
            return f"Call-ID: {number}@".encode() in found
    return False


def _child_of(parent: int) -> int:
    [child] = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii").split()
    return int(child)
