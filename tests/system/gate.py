"""A gate under test: the real `tollgate serve` in its own process and folder, on loopback."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from proxy.cdr.record import CallRecord
from proxy.policy import NumberPlan
from proxy.store import Store
from proxy.store.snapshots import load_snapshot
from tests.support.ports import phone_ports, rtp_ports
from tests.system.media import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
GATE_ADDRESS = "127.0.0.1"
PBX_ADDRESS = "127.0.0.2"
EARLY_PBX_ADDRESS = "127.0.0.3"
STRANGER_ADDRESS = "127.0.0.4"
CARRIER_ADDRESSES = ("127.0.0.10", "127.0.0.11")


def free_port(address: str = GATE_ADDRESS) -> int:
    """Return a port that is free for UDP and TCP at this address now, another one each time."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for port in phone_ports:
        with socket.socket(family, socket.SOCK_DGRAM) as udp, socket.socket(family) as tcp:
            try:
                udp.bind((address, port))
                tcp.bind((address, port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


@dataclass(frozen=True, slots=True)
class Gate:
    """A running gate: where it listens, where its trunks lead, its commands, and its store."""

    port: int
    carrier_ports: tuple[int, int]
    pbx_port: int
    config: Path
    process: subprocess.Popen[str]
    log: Path
    store: Store

    def tollgate(self, *arguments: str) -> str:
        """Run a `tollgate` command on this gate's store; return what it prints."""
        return tollgate(self.config, *arguments)

    def records(self) -> list[CallRecord]:
        """Return the usage log, oldest first."""
        return list(self.store.usage.stream())

    def wait_for_record(self, known: Collection[str]) -> CallRecord:
        """Return the one record that is not among the known ids; fails when none or several come."""
        return self.wait_for_records(1, known)[0]

    def wait_for_records(self, count: int, known: Collection[str] = ()) -> list[CallRecord]:
        """Return all records that are not among the known ids; fails when fewer or more come."""
        until = time.monotonic() + PATIENCE
        while len(new := [record for record in self.records() if record.record_id not in known]) < count:
            assert time.monotonic() < until, f"{len(new)} records in the usage log"
            time.sleep(0.1)
        assert len(new) == count, [record.disposition for record in new]
        return new

    def wait_for_record_of(self, a_call_id: str) -> CallRecord:
        """Return the record of the call that its caller knows by this Call-ID, whatever else is recorded."""
        until = time.monotonic() + PATIENCE
        while not (found := [record for record in self.records() if record.a_call_id == a_call_id]):
            assert time.monotonic() < until, f"no record of {a_call_id} in the usage log"
            time.sleep(0.1)
        (record,) = found
        return record

    def wait_for_policy(self) -> None:
        """Return when the gate decides by what is in the store now."""
        wanted = f"policy change {load_snapshot(self.store.database, NumberPlan()).version} is live"
        self.wait_for_log(wanted)

    def wait_until_idle(self) -> list[str]:
        """Return the lines of the gate's status when no call is left."""
        until = time.monotonic() + PATIENCE
        while "calls: 0" not in (status := self.tollgate("status").splitlines()):
            assert time.monotonic() < until, status
        return status

    def wait_for_log(self, text: str) -> None:
        """Return when the gate has logged this."""
        until = time.monotonic() + PATIENCE
        while text not in self.log.read_text():
            assert time.monotonic() < until, f"no {text!r} in the log"
            time.sleep(0.1)


def tollgate(config: Path, *arguments: str) -> str:
    """Run a `tollgate` command with a configuration file; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "proxy", *arguments, "--config", str(config)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"tollgate {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def configuration(
    folder: Path,
    port: int,
    pbx_port: int,
    carriers: tuple[int, int],
    *,
    latching: str,
    trunk_srtp: str,
    listen: tuple[str, ...],
    first_trunk: str,
    trunk_transport: str,
    wrong_codes: int,
    store_url: str,
) -> str:
    """Return the settings of a gate between a PBX and two carriers, all on loopback."""
    sockets = [f"udp:{GATE_ADDRESS}:{port}", f"tcp:{GATE_ADDRESS}:{port}", *listen]
    return f"""
local_networks = ["{PBX_ADDRESS}/32"]
[sip]
listen = {json.dumps(sockets)}
x_headers = ["X-Allowed-*"]
[media]
address = "{GATE_ADDRESS}"
ports = "{rtp_ports(400)}"
[store]
url = "{store_url}"
[journal]
folder = "{folder}/tollgate.journal"
[control]
socket = "{folder}/tollgate.sock"
[number_plan]
country = "US"
extensions = ["2XX"]
outside_prefix = "9"
[[peers]]
name = "pbx"
networks = ["{PBX_ADDRESS}"]
address = "udp:{PBX_ADDRESS}:{pbx_port}"
default_group = "required"
pass_refer = true
[[peers]]
name = "early-pbx"
networks = ["{EARLY_PBX_ADDRESS}"]
default_group = "required"
code_mode = "early"
[[groups]]
name = "required"
permissions = ["internal", "toll_free"]
collection = "required"
[[groups]]
name = "optional"
permissions = ["internal"]
collection = "optional"
[[groups]]
name = "closed"
permissions = ["internal"]
collection = "off"
[[trunks]]
name = "first"
addresses = ["{trunk_transport}:{CARRIER_ADDRESSES[0]}:{carriers[0]}"]
number_format = {{ style = "e164" }}
codecs = ["PCMU", "PCMA", "G722", "OPUS"]
response_timeout = 2
latching = "{latching}"
srtp = "{trunk_srtp}"
{first_trunk}
[[trunks]]
name = "second"
addresses = ["udp:{CARRIER_ADDRESSES[1]}:{carriers[1]}"]
number_format = {{ style = "e164_without_plus" }}
codecs = ["PCMU", "PCMA", "G722", "OPUS"]
[[did_routes]]
peer = "pbx"
[guessing]
wrong_codes = {wrong_codes}
[timers]
ring_timeout = 4
drain = 2
[log]
level = "debug"
"""


@contextmanager
def running_gate(
    folder: Path,
    *,
    latching: str = "strict",
    trunk_srtp: str = "off",
    trunk_transport: str = "udp",
    first_trunk: str = "",
    first_trunk_port: int = 0,
    listen: tuple[str, ...] = (),
    extra: str = "",
    wrong_codes: int = 0,
    store_url: str = "",
) -> Iterator[Gate]:
    """Start a gate and wait until it says that it is ready; stop it by its process id.

    ``listen`` are sockets besides those over UDP and TCP, ``first_trunk`` more settings of the first trunk,
    ``extra`` more sections of the file. Nobody is locked for wrong codes unless ``wrong_codes`` says after
    how many. Its store is a file in its folder unless ``store_url`` names another.
    """
    store_url = store_url or f"sqlite:///{folder}/tollgate.db"
    port = free_port()
    pbx_port = free_port(PBX_ADDRESS)
    carriers = (first_trunk_port or free_port(CARRIER_ADDRESSES[0]), free_port(CARRIER_ADDRESSES[1]))
    config = folder / "gate.toml"
    settings = configuration(
        folder,
        port,
        pbx_port,
        carriers,
        latching=latching,
        trunk_srtp=trunk_srtp,
        listen=listen,
        first_trunk=first_trunk,
        trunk_transport=trunk_transport,
        wrong_codes=wrong_codes,
        store_url=store_url,
    )
    config.write_text(settings + extra)
    log = folder / "gate.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "proxy", "serve", "--config", str(config)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=out,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline(), f"the gate did not start: {log.read_text()}"
            with Store(store_url) as store:
                yield Gate(port, carriers, pbx_port, config, process, log, store)
            assert process.poll() is None, f"the gate died: {log.read_text()[-2000:]}"
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()  # type: ignore[union-attr]  # a pipe, see above
