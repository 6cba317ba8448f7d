"""Kamailio as the carrier's proxy: it challenges, stays on the route of calls, and forks them."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.system.media import PATIENCE

REALM = "carrier.example"

needs_kamailio = pytest.mark.skipif(shutil.which("kamailio") is None, reason="kamailio is not installed")

_ROUTES = """
request_route {
    if (!mf_process_maxfwd_header("10")) { sl_send_reply("483", "Too Many Hops"); exit; }
    if (is_method("CANCEL")) { if (t_check_trans()) t_relay(); exit; }
    if (!is_method("ACK")) { t_check_trans(); }

    # What comes within a dialog must bring the route that record_route() below made.
    if (has_totag()) {
        if (loose_route()) {
            # Some carriers challenge within dialogs as well: here those of calls to one number.
            if ($si == "GATE" && $tU == "+12025550123" && !is_method("ACK")) {
                if (!pv_proxy_authenticate("REALM", "PASSWORD", "0")) { proxy_challenge("REALM", "1"); exit; }
                consume_credentials();
            }
            xlog("L_NOTICE", "[routed $rm from $si over $proto]\\n");
            t_relay();
            exit;
        }
        if (is_method("ACK") && t_check_trans()) { t_relay(); exit; }
        xlog("L_NOTICE", "[unrouted $rm from $si]\\n");
        sl_send_reply("404", "Not Here");
        exit;
    }

    if (is_method("OPTIONS")) { sl_send_reply("200", "OK"); exit; }
    if ($si == "GATE") {
        if (is_method("REGISTER")) {
            if (!pv_www_authenticate("REALM", "PASSWORD", "0")) { www_challenge("REALM", "1"); exit; }
            if (!save("location")) sl_reply_error();
            exit;
        }
        if (!pv_proxy_authenticate("REALM", "PASSWORD", "0")) { proxy_challenge("REALM", "1"); exit; }
        consume_credentials();
        record_route();
FORKS
        t_relay();
        exit;
    }
    # A carrier behind this proxy calls the gate, where it registered.
    record_route();
    $rU = "USER";
    if (!lookup("location")) { sl_send_reply("480", "Not Registered"); exit; }
    $rU = $tU;
    t_relay();
}
"""


@dataclass(frozen=True, slots=True)
class Kamailio:
    """One running Kamailio."""

    port: int
    log: Path

    def said(self, words: str) -> int:
        """Return how often its script logged these words."""
        return self.log.read_text(errors="replace").count(words)

    def wait_for(self, words: str) -> None:
        """Return when its script has logged these words."""
        until = time.monotonic() + PATIENCE
        while not self.said(words):
            assert time.monotonic() < until, f"no {words!r}: {self.log.read_text(errors='replace')[-2000:]}"
            time.sleep(0.05)


@contextmanager
def running_kamailio(
    folder: Path,
    *,
    address: str,
    port: int,
    gate_address: str,
    user: str,
    password: str,
    carriers: tuple[str, ...],
) -> Iterator[Kamailio]:
    """Start a proxy with an account for the gate; its calls go to all ``carriers`` (host:port) at once."""
    folder.mkdir()
    forks = [f'        append_branch("sip:$rU@{carrier}");' for carrier in carriers[1:]]
    forks.append(f'        $ru = "sip:" + $rU + "@{carriers[0]}";')
    words = {
        "GATE": gate_address,
        "REALM": REALM,
        "PASSWORD": password,
        "USER": user,
        "FORKS": "\n".join(forks),
    }
    routes = re.sub("|".join(words), lambda match: words[match[0]], _ROUTES)
    config = folder / "kamailio.cfg"
    config.write_text(
        f"""#!KAMAILIO
debug=1
log_stderror=yes
fork=yes
children=1
tcp_children=1
auto_aliases=no
dns=no
rev_dns=no
server_id=1
listen=udp:{address}:{port}
listen=tcp:{address}:{port}
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "corex.so"
loadmodule "xlog.so"
loadmodule "auth.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
modparam("rr", "enable_full_lr", 1)
modparam("auth", "qop", "auth")
modparam("auth", "nonce_count", 1)
{routes}"""
    )
    log = folder / "kamailio.log"
    command = ["kamailio", "-f", str(config), "-DD", "-E", "-Y", str(folder), "-m", "32", "-M", "8"]
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    try:
        _wait_for_socket(address, port, process, log)
        yield Kamailio(port, log)
        assert process.poll() is None, f"Kamailio died: {log.read_text()[-2000:]}"
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_socket(address: str, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + PATIENCE
    while True:
        assert process.poll() is None, f"Kamailio did not start: {log.read_text()[-2000:]}"
        try:
            socket.create_connection((address, port), timeout=1.0).close()
        except ConnectionRefusedError:
            assert time.monotonic() < until, "Kamailio did not open its socket"
            time.sleep(0.1)
        else:
            return
