"""Each folder of ``situations`` is one call, placed by SIPp through a real gate to a SIPp carrier.

Checked are both SIPp ends (their scenarios), the record in the usage log, and that no digit of a code reached
the carrier or the gate's log.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.cdr.record import CallRecord
from tests.support.pcap import Keys, caller_stream, write_pcap
from tests.system import sipp
from tests.system.gate import CARRIER_ADDRESSES, PBX_ADDRESS, Gate, free_port, running_gate

SITUATIONS = sorted(path.parent for path in (Path(__file__).parent / "situations").glob("*/situation.toml"))
CODE = "ACME-12/7"
CODE_DIGITS = "2263127"

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """Run one gate for all situations."""
    with running_gate(tmp_path_factory.mktemp("gate")) as running:
        for extension, group in (
            ("201", "required"),
            ("202", "optional"),
            ("203", "closed"),
            ("205", "required"),
        ):
            running.tollgate("users", "add", extension, "--group", group)
        running.tollgate(
            "groups", "add", "impatient", "--collection", "required", "--tries", "2", "--first-digit", "1"
        )
        running.tollgate("users", "add", "204", "--group", "impatient")
        running.tollgate("codes", "add", CODE, "--description", "Client twelve, matter seven")
        running.tollgate("codes", "add", "1234", "--description", "Office")
        yield running


@pytest.mark.parametrize("folder", SITUATIONS, ids=lambda folder: folder.name)
def test_situation(folder: Path, gate: Gate, tmp_path: Path) -> None:
    situation = tomllib.loads((folder / "situation.toml").read_text())
    known = {record.record_id for record in gate.records()}
    log_before = gate.log.stat().st_size
    carriers = _start_carriers(folder, gate, tmp_path)
    try:
        caller = _start_caller(folder, situation, gate, tmp_path)
        caller.wait()
        for carrier in carriers:
            carrier.wait(20)
    finally:
        for process in carriers:
            process.stop()
    record = gate.wait_for_record(known)
    assert facts(record, situation["record"]) == situation["record"]
    with gate.log.open() as log:
        log.seek(log_before)
        assert CODE_DIGITS not in log.read()
    for carrier in carriers:
        assert CODE_DIGITS not in carrier.messages()


def _start_carriers(folder: Path, gate: Gate, tmp_path: Path) -> list[sipp.Sipp]:
    return [
        sipp.start(
            folder / f"{name}.xml",
            tmp_path,
            name=name,
            address=address,
            port=port,
            media_port=free_port(address),
        )
        for name, address, port in zip(
            ("carrier", "second_carrier"), CARRIER_ADDRESSES, gate.carrier_ports, strict=True
        )
        if (folder / f"{name}.xml").exists()
    ]


def _start_caller(folder: Path, situation: dict[str, Any], gate: Gate, tmp_path: Path) -> sipp.Sipp:
    keys = [Keys(**group) for group in situation.get("keys", [])]
    total_ms = 2000 + max((group.start_ms + 100 * len(group.digits) for group in keys), default=0)
    write_pcap(tmp_path / "keys.pcap", caller_stream(keys, total_ms=total_ms))
    address = situation.get("caller_address", PBX_ADDRESS)
    return sipp.start(
        folder / "caller.xml",
        tmp_path,
        name="caller",
        address=address,
        port=free_port(address),
        media_port=free_port(address),
        remote=f"127.0.0.1:{gate.port}",
        transport=situation.get("transport", "udp"),
        service=situation["dial"],
        keys={"user": situation["user"]},
    )


def facts(record: CallRecord, names: dict[str, Any]) -> dict[str, Any]:
    """Return what the record says on the named facts, in the words of a situation file."""
    special = {"account_code": record.code.form if record.code else ""}
    return {name: special[name] if name in special else getattr(record, name) for name in names}
