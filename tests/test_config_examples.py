"""Every example configuration loads and means what its comments say."""

from __future__ import annotations

import configparser
import os
from pathlib import Path

import pytest

from proxy import composition
from proxy.call.config import CodeMode, Side
from proxy.policy import CallClass, CodeCollection, DialledNumber, Normaliser, Treatment
from proxy.settings import load_settings
from proxy.sip.flow import Flow

CONFIG = Path(__file__).parent.parent / "config"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("TOLLGATE_"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize("name", sorted(path.name for path in CONFIG.glob("*.toml")))
def test_each_example_loads(name: str) -> None:
    settings = load_settings(CONFIG / name)
    bound = [(address.host, address.port or 5060) for address in settings.sip.listen]
    gate = composition.gate_config(settings, bound, lambda _name: ())
    assert len(gate.trunks) == len(settings.trunks)
    assert len(composition.endpoint_config(settings, bound).listen_points) == len(bound)
    composition.number_plan(settings)
    composition.groups(settings)


def test_every_example_is_named_here() -> None:
    assert {path.name for path in CONFIG.iterdir()} >= {
        "loopback.toml",
        "trunk-insertion.toml",
        "tollgate.service",
    }


def test_loopback_is_open_to_this_machine_only() -> None:
    settings = load_settings(CONFIG / "loopback.toml")
    gate = composition.gate_config(settings, [("127.0.0.1", 5060)] * 2, lambda _name: ())
    assert [str(address) for address in settings.sip.listen] == ["udp:127.0.0.1:5060", "tcp:127.0.0.1:5060"]
    assert settings.media.port_range == (10_000, 19_999)
    assert gate.trunks[0].flows == (Flow("UDP", "127.0.0.1", 5090, 0, 0),)
    assert [(peer.name, peer.side) for peer in gate.peers] == [("generator", Side.PBX)]
    assert [str(network) for peer in gate.peers for network in peer.networks] == ["127.0.0.1/32"]


def test_loopback_asks_for_a_code_except_for_numbers_with_7() -> None:
    settings = load_settings(CONFIG / "loopback.toml")
    (group,) = composition.groups(settings)
    assert group.name == settings.peers[0].default_group
    assert group.permissions.classes == {CallClass.INTERNAL}
    assert group.collection is CodeCollection.REQUIRED
    normalise = Normaliser(composition.number_plan(settings))
    treatments = {}
    for text in ("7005550123", "2025550123", "204"):
        number = normalise(text)
        assert isinstance(number, DialledNumber)
        treatments[text] = group.matrix[number.call_class]
    assert treatments == {
        "7005550123": Treatment.ALLOW,
        "2025550123": Treatment.REQUIRED_CODE,
        "204": Treatment.ALLOW,
    }


def test_trunk_insertion_stands_between_pbx_and_carrier() -> None:
    settings = load_settings(CONFIG / "trunk-insertion.toml")
    gate = composition.gate_config(settings, [("192.0.2.20", 5060)] * 2, lambda _name: ())
    pbx, carrier = gate.peers
    assert (pbx.side, pbx.flow) == (Side.PBX, Flow("UDP", "192.0.2.10", 5060, 0, 0))
    assert pbx.code_mode is CodeMode.ANSWER
    assert carrier.side is Side.TRUNK
    assert [str(network) for network in carrier.networks] == ["198.51.100.1/32"]
    assert gate.trunks[0].max_calls == 30
    assert [str(network) for network in gate.local_networks] == ["192.0.2.0/24"]


def test_trunk_insertion_through_a_nat_tells_the_pbx_the_private_address(tmp_path: Path) -> None:
    text = (CONFIG / "trunk-insertion.toml").read_text()
    for line in ('advertised = ["203.0.113.7"]', 'advertised_address = "203.0.113.7"'):
        assert f"\n# {line}\n" in text
        text = text.replace(f"\n# {line}\n", f"\n{line}\n")
    file = tmp_path / "gate.toml"
    file.write_text(text)
    settings = load_settings(file)
    config = composition.endpoint_config(settings, [("192.0.2.20", 5060)] * 2)
    assert settings.media.advertised_address == "203.0.113.7"
    assert config.point(Flow("UDP", "192.0.2.10", 5060)).host == "192.0.2.20"
    assert config.point(Flow("UDP", "198.51.100.1", 5060)).host == "203.0.113.7"


def test_the_systemd_unit_is_hardened_and_waits_for_running_calls() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(CONFIG / "tollgate.service")
    service = unit["Service"]
    assert service["Type"] == "notify"
    assert float(service["TimeoutStopSec"]) > load_settings(CONFIG / "trunk-insertion.toml").timers.drain
    for name in ("NoNewPrivileges", "ProtectHome", "PrivateTmp", "PrivateDevices", "RestrictNamespaces"):
        assert service[name] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["CapabilityBoundingSet"] == ""
