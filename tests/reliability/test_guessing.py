"""Scanners, password guessers and code guessers against a running gate, and who reads its security log."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy import log
from proxy.call import security_log
from proxy.call.security_log import SecurityEvent
from proxy.policy import User
from proxy.store import digest_credentials
from tests.system.gate import ROOT, Gate, running_gate
from tests.system.media import PATIENCE
from tests.system.test_baresip import MD5_ONLY, PASSWORD
from tests.system.test_registration import register

EXTENSIONS = range(100, 200)
BIN = Path(sys.executable).parent
FAIL2BAN = BIN.parent / "fail2ban"
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
    """Run one of the scanners to its end; return what it prints."""
    done = subprocess.run(
        [BIN / f"sipvicious_{tool}", *arguments],
        cwd=folder,
        env={"HOME": str(folder), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
        check=False,
    )
    return done.stdout + done.stderr


def test_svmap_finds_a_server_and_nothing_about_it(gate: Gate, tmp_path: Path) -> None:
    told = sipvicious("svmap", f"127.0.0.1:{gate.port}", "-p", str(gate.port), folder=tmp_path)
    assert "ollgate" not in told, told


@pytest.mark.parametrize("method", ["REGISTER", "INVITE", "OPTIONS"])
def test_svwar_finds_0_of_100_extensions(gate: Gate, tmp_path: Path, method: str) -> None:
    told = sipvicious(
        "svwar", "-e", "90-209", "-m", method, "--force", "-p", str(gate.port), "127.0.0.1", folder=tmp_path
    )
    assert "found nothing" in told


def test_svcrack_finds_no_password_and_the_phone_registers_all_the_while(gate: Gate, tmp_path: Path) -> None:
    words = tmp_path / "words"
    words.write_text("".join(f"guess{number}\n" for number in range(30)) + f"{PASSWORD}\n")
    began = time.monotonic()
    told = sipvicious(
        "svcrack", "-u", "150", "-d", str(words), "-p", str(gate.port), "127.0.0.1", folder=tmp_path
    )
    assert not re.search(rf"\b{re.escape(PASSWORD)}\b", told), told
    gate.wait_for_log("security event=source_banned source=127.0.0.1")
    lines = [line for line in gate.log.read_text().splitlines() if "proxy.call.security_log" in line]
    assert len(lines) == 10, lines
    assert all("user=150" in line for line in lines)
    first, last = (time.mktime(time.strptime(lines[at][:19], "%Y-%m-%dT%H:%M:%S")) for at in (0, -1))
    assert last - first <= 2, lines
    assert time.monotonic() - began < 4 * PATIENCE
    register(gate, tmp_path, "register", user="150", password=PASSWORD)


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
