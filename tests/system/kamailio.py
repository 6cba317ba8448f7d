"""Kamailio as a proxy: it challenges, stays on the route of calls, and forks them.

As the carrier's it stands between the gate and carriers, over TLS where a test wants that; as the PBX's, or
at the edge of a network, between phones and the gate.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.system.media import PATIENCE

REALM = "carrier.example"

needs_kamailio = pytest.mark.skipif(shutil.which("kamailio") is None, reason="kamailio is not installed")

_BEGINNING = """
request_route {
    if (!mf_process_maxfwd_header("10")) { sl_send_reply("483", "Too Many Hops"); exit; }
    if (is_method("CANCEL")) { if (t_check_trans()) t_relay(); exit; }
    if (!is_method("ACK")) { t_check_trans(); }

    # What comes within a dialog must bring the route that record_route() below made.
    if (has_totag()) {
        if (loose_route()) {
WITHIN
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
"""
_CHALLENGED_WITHIN = """
            # Some carriers challenge within dialogs as well: here those of calls to one number.
            if ($si == "GATE" && $tU == "+12025550123" && !is_method("ACK")) {
                if (!pv_proxy_authenticate("CALLS", "PASSWORD", "0")) { proxy_challenge("CALLS", "1"); exit; }
                consume_credentials();
            }
"""
_CARRIER = """
    if ($si == "GATE") {
        if (is_method("REGISTER")) {
            if (!pv_www_authenticate("REALM", "PASSWORD", "0")) { www_challenge("REALM", "1"); exit; }
            if (!save("location")) sl_reply_error();
            exit;
        }
        if (!pv_proxy_authenticate("CALLS", "PASSWORD", "0")) { proxy_challenge("CALLS", "1"); exit; }
        consume_credentials();
        RECORD_ROUTE;
FORKS
        t_relay();
        exit;
    }
    # A carrier behind this proxy calls the gate at its Contact, where it registered: the number stays in To.
    record_route();
    $rU = "USER";
    if (!lookup("location")) { sl_send_reply("480", "Not Registered"); exit; }
    t_relay();
}
"""
_PBX = """
    record_route();
    if ($si == "GATE") {
FORKS
        t_relay();
        exit;
    }
    # A phone calls: who it is the PBX asks, and tells the gate.
    if (!pv_proxy_authenticate("REALM", "PASSWORD", "0")) { proxy_challenge("REALM", "1"); exit; }
    consume_credentials();
    remove_hf("P-Asserted-Identity");
    append_hf("P-Asserted-Identity: <sip:$au@REALM>\\r\\n");
    $du = "sip:GATE:GATE_PORT";
    t_relay();
}
"""
_EDGE = """
    # A call for a phone has the Path of its REGISTER as Route, which leads to the connection that came by.
    $var(inwards) = $hdr(Route) =~ "sip:edge@";
    loose_route();
    if ($var(inwards)) {
        record_route();
        t_relay();
        exit;
    }
    if (is_method("REGISTER")) { add_path_received("edge", "ob"); } else { record_route(); }
    $du = "sip:GATE:GATE_PORT;transport=tcp";
    t_relay();
}
"""


def carrier_routes(
    *,
    gate_address: str,
    user: str,
    password: str,
    carriers: tuple[str, ...],
    numbers: Mapping[str, str] | None = None,
    calls_realm: str = REALM,
    name: str = "",
) -> str:
    """Return the script of a carrier with an account for the gate; its calls go to all ``carriers``
    (host:port) at once, but those to ``numbers`` to the one that each is at. In Record-Route it has a
    ``name``, if not its address."""
    words = {
        "RECORD_ROUTE": f'record_route_preset("{name}")' if name else "record_route()",
        "WITHIN": _CHALLENGED_WITHIN,
        "GATE": gate_address,
        "CALLS": calls_realm,
        "REALM": REALM,
        "PASSWORD": password,
        "USER": user,
        "FORKS": _alone(numbers or {}) + _forks(carriers),
    }
    alias = f"alias={name}\n" if name else ""
    return alias + _filled(_BEGINNING + _CARRIER, words)


def pbx_routes(*, gate: tuple[str, int], password: str, phones: tuple[str, ...]) -> str:
    """Return the script of a PBX that asks its phones who they are; calls of the gate ring all ``phones``."""
    words = {
        "WITHIN": "",
        "GATE_PORT": str(gate[1]),
        "GATE": gate[0],
        "REALM": REALM,
        "PASSWORD": password,
        "FORKS": _forks(phones),
    }
    return _filled(_BEGINNING + _PBX, words)


def edge_routes(*, address: str, gate: tuple[str, int]) -> str:
    """Return the script of an edge proxy (RFC 3327, RFC 5626) at this address: the gate, where the phones
    behind it register, gets all that they say over TCP."""
    words = {"WITHIN": "", "GATE_PORT": str(gate[1]), "GATE": gate[0]}
    beginning = f'tcp_source_ipv4={address}\nmodparam("path", "use_received", 1)\n'
    return beginning + _filled(_BEGINNING + _EDGE, words)


def _alone(numbers: Mapping[str, str]) -> str:
    return "".join(
        f'        if ($rU == "{number}") {{ $ru = "sip:{number}@{target}"; t_relay(); exit; }}\n'
        for number, target in numbers.items()
    )


def _forks(targets: tuple[str, ...]) -> str:
    branches = [f'        append_branch("sip:$rU@{target}");' for target in targets[1:]]
    return "\n".join([*branches, f'        $ru = "sip:" + $rU + "@{targets[0]}";'])


def _filled(script: str, words: dict[str, str]) -> str:
    script = script.replace("WITHIN", words["WITHIN"])
    return re.sub("|".join(words), lambda match: words[match[0]], script)


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


@dataclass(frozen=True, slots=True)
class Tls:
    """What it needs for TLS; who connects has to show a certificate of the authority as well."""

    port: int
    certificate: Path
    authority: Path


@contextmanager
def running_kamailio(
    folder: Path, *, address: str, port: int, routes: str, tls: Tls | None = None
) -> Iterator[Kamailio]:
    """Start a proxy with this script at a port for UDP and TCP, and at another one for TLS."""
    folder.mkdir()
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
{_tls_socket(address, tls)}
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "path.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "corex.so"
loadmodule "xlog.so"
loadmodule "auth.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
{_tls_module(folder, tls)}
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


def _tls_socket(address: str, tls: Tls | None) -> str:
    return "" if tls is None else f"enable_tls=yes\ntcp_accept_aliases=yes\nlisten=tls:{address}:{tls.port}"


def _tls_module(folder: Path, tls: Tls | None) -> str:
    if tls is None:
        return ""
    both = f"certificate = {tls.certificate}\nprivate_key = {tls.certificate}\nca_list = {tls.authority}\n"
    both += "method = TLSv1.2+\nverify_certificate = yes\nrequire_certificate = yes\n"
    (folder / "tls.cfg").write_text(f"[server:default]\n{both}[client:default]\n{both}")
    return f'loadmodule "tls.so"\nmodparam("tls", "config", "{folder}/tls.cfg")'


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
