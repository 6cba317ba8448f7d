"""baresip, a real phone, watches its mailbox; a phone that watches a line is told when it no longer may."""

from __future__ import annotations

from pathlib import Path

from proxy.policy import User
from proxy.store import digest_credentials
from tests.call.watching import Watcher
from tests.system import sipp
from tests.system.baresip import running_phone
from tests.system.gate import GATE_ADDRESS, PBX_ADDRESS, STRANGER_ADDRESS, free_port, running_gate
from tests.system.live_uas import LiveUas, authorization

PASSWORD = "a-sip-password"
SETTINGS = """
[auth]
algorithms = ["MD5"]  # the baresip of Debian 12 gives up at the sight of any other
[subscriptions]
mailboxes = "pbx"
"""
HOLDER = Path(__file__).parent / "situations" / "mailbox" / "pbx.xml"


def test_rfc3842_a_phone_shows_a_message(tmp_path: Path) -> None:
    (tmp_path / "gate").mkdir()
    with running_gate(tmp_path / "gate", extra=SETTINGS) as gate:
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


def test_rfc6665_4_2_2_whoever_no_longer_may_watch_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "gate").mkdir()
    with running_gate(tmp_path / "gate") as gate, LiveUas(gate) as uas:
        for extension in ("205", "206"):
            credentials = digest_credentials(extension, "tollgate", PASSWORD)
            gate.store.users.add(User(extension, "required", credentials=credentials))
        gate.wait_for_policy()

        def watch(line: str) -> Watcher:
            watcher, uri = uas.add_watcher(STRANGER_ADDRESS), f"sip:{line}@{GATE_ADDRESS}"
            watcher.subscribe(line, uri=uri, expires=600)
            uas.until(lambda: watcher.responses)
            proof = authorization(watcher.responses[0], "205", PASSWORD, method="SUBSCRIBE", uri=uri)
            watcher.subscribe(line, uri=uri, expires=600, headers=[("Authorization", proof)])
            uas.until(lambda: watcher.states == ["active;expires=600"])
            return watcher

        other, own = watch("206"), watch("205")
        gate.tollgate("users", "delete", "206", "--yes")
        uas.until(lambda: other.states[1:] == ["terminated;reason=noresource"])
        assert len(own.states) == 1
        gate.tollgate("users", "set", "205", "--disable")
        uas.until(lambda: own.states[1:] == ["terminated;reason=rejected"])
        assert "subscriptions: 0" in gate.tollgate("status").splitlines()
