"""TLS in the settings: what is asked for, and what the rooms get of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from proxy import composition
from proxy.call.identity import PeerTable
from proxy.errors import ConfigurationError
from proxy.net.driver import Listener
from proxy.net.resolver import HostName
from proxy.net.tls import ClientCertificates, TlsConfig
from proxy.settings import Settings, load_settings
from proxy.sip.digest_client import DigestAccount
from proxy.sip.flow import Flow
from proxy.sip.routing import Target

TEXT = """
[sip]
listen = ["udp:192.0.2.20", "tls:192.0.2.20"]
tcp.alias = true
[sip.tls]
certificate = "gate.pem"
key = "gate.key"
ca = "ca.pem"
verify_client = "optional"
handshake_timeout = 2
handshakes = 7
[[peers]]
name = "pbx"
certificate_names = ["PBX.example.com"]
address = "tls:192.0.2.30"
tls_name = "pbx.example.com"
[[peers]]
name = "branch"
networks = ["192.0.2.40"]
certificate_names = ["branch.example.com"]
[[trunks]]
name = "named"
addresses = ["tls:carrier.example"]
[[trunks]]
name = "by-host"
addresses = ["tls:198.51.100.2:5071", "tls:198.51.100.3"]
host = "sip.carrier.example"
certificate_names = ["carrier.example"]
[[trunks]]
name = "by-address"
addresses = ["tls:198.51.100.4"]
host = "198.51.100.9"
"""
BOUND = [("192.0.2.20", 5060), ("192.0.2.20", 5061)]


def _lookup(name: HostName) -> list[Target]:
    assert name == HostName("carrier.example", None, "TLS")
    return [Target("TLS", "198.51.100.1", 5061)]


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("TOLLGATE_"):
            monkeypatch.delenv(name)


def _load(tmp_path: Path, text: str) -> Settings:
    file = tmp_path / "gate.toml"
    file.write_text(text)
    return load_settings(file)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return _load(tmp_path, TEXT)


def test_tls_listens_at_its_own_default_port(settings: Settings) -> None:
    assert composition.listeners(settings)[1] == Listener("TLS", "192.0.2.20", 5061)


def test_rfc3261_18_1_1_via_and_contact_of_tls_say_so(settings: Settings) -> None:
    udp, tls = composition.endpoint_config(settings, BOUND).listen_points
    assert (tls.sent_by, tls.uri_parameters, tls.alias) == ("192.0.2.20:5061", ";transport=tls", True)
    assert not udp.alias


def test_the_files_and_limits_reach_their_rooms(settings: Settings) -> None:
    assert composition.tls_config(settings) == TlsConfig(
        Path("gate.pem"), Path("gate.key"), Path("ca.pem"), ClientCertificates.OPTIONAL
    )
    limits = composition.tcp_limits(settings)
    assert (limits.handshake, limits.handshakes) == (2.0, 7)
    assert composition.tls_config(Settings()) is None


def test_rfc5922_7_3_each_destination_has_the_name_that_the_settings_give(settings: Settings) -> None:
    assert composition.tls_names(settings, _lookup) == {
        ("198.51.100.1", 5061): "carrier.example",
        ("198.51.100.2", 5071): "sip.carrier.example",
        ("198.51.100.3", 5061): "sip.carrier.example",
        ("198.51.100.4", 5061): "198.51.100.4",
        ("192.0.2.30", 5061): "pbx.example.com",
    }


def test_a_peer_is_known_by_its_certificate_alone_or_with_its_address(settings: Settings) -> None:
    peers = PeerTable(composition.gate_config(settings, BOUND, _lookup))

    def found(host: str, *certified: str) -> str | None:
        peer = peers.find(Flow("TLS", host, 40_000, 1, 1, certified))
        return None if peer is None else peer.name

    assert found("203.0.113.1", "pbx.example.com") == "pbx"
    assert found("203.0.113.1", "www.example.com", "pbx.example.com") == "pbx"
    assert found("203.0.113.1", "www.example.com") is None
    assert found("203.0.113.1") is None
    assert found("192.0.2.30") is None, "its address proves nothing"
    assert found("192.0.2.40", "branch.example.com") == "branch"
    assert found("192.0.2.40") is None
    assert found("203.0.113.1", "branch.example.com") is None
    assert found("203.0.113.1", "carrier.example") == "by-host"
    assert found("198.51.100.2") is None
    assert found("198.51.100.1") == "named"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('sip.listen = ["tls:192.0.2.20"]', "sip.tls.certificate: needed with tls:192.0.2.20"),
        ('sip.tls.verify_client = "required"', 'sip.tls.ca: needed with verify_client = "required"'),
        ('[[peers]]\nname = "pbx"', "peers[0].networks: must be given, or certificate_names"),
        (
            '[[trunks]]\nname = "first"\naddresses = ["tls:carrier.example"]',
            "trunks[0].addresses[0]: the gate has no TLS socket; add one to sip.listen",
        ),
        (
            '[[trunks]]\nname = "first"\naddresses = ["dtls:x"]',
            "allowed transports: udp, tcp, tls, sip, sips",
        ),
    ],
)
def test_what_is_missing_is_said(text: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        _load(tmp_path, text)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("realm", "realms"),
    [('"carrier"', ("carrier",)), ('["carrier", "gateway 2"]', ("carrier", "gateway 2")), ('""', ())],
)
def test_an_account_of_a_trunk_reaches_the_call_core_and_hides_its_password(
    tmp_path: Path, realm: str, realms: tuple[str, ...]
) -> None:
    settings = _load(
        tmp_path,
        f"""
        [[trunks]]
        name = "carrier"
        addresses = ["sip:198.51.100.1"]
        register = true
        register_expires = 600
        probe_interval = 30
        account = {{ username = "gate", password = "a-password", realm = {realm} }}
        """,
    )
    (trunk,) = composition.gate_config(settings, BOUND, _lookup).trunks
    assert trunk.account == DigestAccount("gate", "a-password", realms, "gate")
    assert (trunk.register, trunk.register_expires, trunk.probe_interval) == (True, 600, 30.0)
    assert "a-password" not in f"{settings!r}{trunk!r}"


@pytest.mark.parametrize(
    ("words", "name", "user"),
    [
        ('username = "100200@carrier.example"', "100200@carrier.example", "100200"),
        ('username = "a/b c", user = "+12025550100"', "a/b c", "+12025550100"),
    ],
)
def test_an_account_may_prove_itself_by_another_name_than_its_address(
    tmp_path: Path, words: str, name: str, user: str
) -> None:
    settings = _load(tmp_path, _ACCOUNT.format(words))
    (trunk,) = composition.gate_config(settings, BOUND, _lookup).trunks
    assert trunk.account == DigestAccount(name, "a-password", (), user)


@pytest.mark.parametrize("words", ['username = "a/b c"', 'username = "@carrier"', 'username = "ä"'])
def test_an_account_without_a_usable_address_is_refused(tmp_path: Path, words: str) -> None:
    with pytest.raises(ConfigurationError, match="user"):
        _load(tmp_path, _ACCOUNT.format(words))


_ACCOUNT = """
[[trunks]]
name = "carrier"
addresses = ["sip:198.51.100.1"]
account = {{ {}, password = "a-password" }}
"""


def test_a_registration_without_an_account_is_refused(tmp_path: Path) -> None:
    text = '[[trunks]]\nname = "carrier"\naddresses = ["udp:198.51.100.1"]\nregister = true'
    with pytest.raises(ConfigurationError, match="account: needed with register = true"):
        _load(tmp_path, text)
