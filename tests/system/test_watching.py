"""baresip, a real phone, watches its mailbox: registered, its lamp goes on with what the PBX says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system import sipp
from tests.system.baresip import running_phone
from tests.system.gate import GATE_ADDRESS, PBX_ADDRESS, free_port, running_gate

PASSWORD = "a-sip-password"
SETTINGS = """
[auth]
algorithms = ["MD5"]  # the baresip of Debian 12 gives up at the sight of any other
[subscriptions]
mailboxes = "pbx"
"""
HOLDER = Path(__file__).parent / "situations" / "mailbox" / "pbx.xml"

pytestmark = pytest.mark.system


def test_rfc3842_a_phone_shows_a_message(tmp_path: Path) -> None:
    (tmp_path / "gate").mkdir()
    with running_gate(tmp_path / "gate", media="28000-28199", extra=SETTINGS) as gate:
        gate.tollgate("users", "add", "205", "--group", "required", "--password", PASSWORD)
        gate.wait_for_policy()
        holder = sipp.start(
            HOLDER,
            tmp_path,
            name="pbx",
            address=PBX_ADDRESS,
            port=gate.pbx_port,
            media_port=free_port(PBX_ADDRESS),
        )
        try:
            with running_phone(
                tmp_path / "phone",
                address=GATE_ADDRESS,
                proxy=f"127.0.0.1:{gate.port}",
                user="205",
                password=PASSWORD,
                regint=60,
                parameters=";mwi=yes",
                modules=("mwi",),
            ) as phone:
                shown = ""
                while "Messages-Waiting: yes" not in shown:
                    shown = str(phone.wait_for("MWI_NOTIFY").get("param"))
                assert "subscriptions: 1" in gate.tollgate("status").splitlines()
            # On its way out the phone unsubscribes, and so does the gate.
            holder.wait()
        finally:
            holder.stop()
