"""Settings: defaults that start, overrides by environment, and errors that name the path and the fix."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from proxy.errors import ConfigurationError
from proxy.settings import _FORMS, Address, Settings, load_settings
from proxy.sip.digest import Algorithm


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("TOLLGATE_"):
            monkeypatch.delenv(name)


def _load(tmp_path: Path, text: str) -> Settings:
    file = tmp_path / "gate.toml"
    file.write_text(text, encoding="utf-8")
    return load_settings(file)


def _error(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        _load(tmp_path, text)
    return str(caught.value)


UDP_ONLY = '[sip]\nlisten = ["udp:127.0.0.1"]\n'
TRUNK = """
[[trunks]]
name = "carrier"
addresses = ["udp:198.51.100.1:5060"]
"""


def test_the_defaults_listen_on_loopback_only() -> None:
    settings = load_settings(None)
    assert settings.sip.listen == (Address("UDP", "127.0.0.1", 5060), Address("TCP", "127.0.0.1", 5060))
    assert settings.media.address == "127.0.0.1"
    assert settings.media.port_range == (10_000, 19_999)


def test_journal_and_socket_stand_beside_the_store(tmp_path: Path) -> None:
    settings = _load(tmp_path, '[store]\nurl = "sqlite:////var/lib/tollgate/gate.db"')
    assert settings.journal_folder == Path("/var/lib/tollgate/gate.journal")
    assert settings.control_socket == Path("/var/lib/tollgate/gate.sock")


def test_another_store_needs_them_named(tmp_path: Path) -> None:
    text = _error(tmp_path, '[store]\nurl = "postgresql://db/tollgate"')
    assert "journal.folder and control.socket: both needed" in text


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLGATE_STORE__URL", "sqlite:///other.db")
    settings = _load(tmp_path, '[store]\nurl = "sqlite:///file.db"\n[limits]\nmax_calls = 7')
    assert settings.store.url == "sqlite:///other.db"
    assert settings.limits.max_calls == 7


def test_tables_come_from_the_environment_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLGATE_TRUNKS", '[{"name": "c", "addresses": ["tcp:[2001:db8::1]:5070"]}]')
    assert load_settings(None).trunks[0].addresses == (Address("TCP", "2001:db8::1", 5070),)


def test_bad_json_in_the_environment_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLGATE_TRUNKS", "[{")
    with pytest.raises(ConfigurationError, match=r"TOLLGATE_TRUNKS: .*JSON"):
        load_settings(None)


def test_one_element_of_a_list_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOLLGATE_TRUNKS__0__HOST", "carrier.example.com")
    monkeypatch.setenv("TOLLGATE_TRUNKS__0__NUMBER_FORMAT__STRIP", "2")
    monkeypatch.setenv("TOLLGATE_TRUNKS__1__NAME", "second")
    monkeypatch.setenv("TOLLGATE_TRUNKS__1__ADDRESSES", '["udp:198.51.100.2"]')
    monkeypatch.setenv("TOLLGATE_SIP__LISTEN__0", "udp:127.0.0.1:5070")
    monkeypatch.setenv("TOLLGATE_SIP__USER_AGENT", "Gate")
    settings = _load(tmp_path, TRUNK)
    first, second = settings.trunks
    assert (first.name, first.host, first.number_format.strip) == ("carrier", "carrier.example.com", 2)
    assert (second.name, second.addresses) == ("second", (Address("UDP", "198.51.100.2", None),))
    assert settings.sip.listen == (Address("UDP", "127.0.0.1", 5070),)
    assert settings.sip.user_agent == "Gate"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (
            "TOLLGATE_TRUNKS__0__MAX_CALLS",
            "many",
            "trunks[0].max_calls (from TOLLGATE_TRUNKS__0__MAX_CALLS): ",
        ),
        (
            "TOLLGATE_TRUNKS__3__NAME",
            "x",
            "environment: TOLLGATE_TRUNKS__3__NAME: the list has 1, the next is 1",
        ),
        ("TOLLGATE_TRUNKS__0__CODECS", "[", "environment: TOLLGATE_TRUNKS__0__CODECS is no JSON"),
        ("TOLLGATE_TRUNKS__NAME__0", "x", "environment: TOLLGATE_TRUNKS__NAME__0 leads to no setting"),
        ("TOLLGATE_LIMITS__0", "5", "limits"),
    ],
)
def test_a_bad_element_names_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str
) -> None:
    monkeypatch.setenv(name, value)
    assert expected in _error(tmp_path, TRUNK)


def test_an_unknown_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLGATE_STOER__URL", "x")
    with pytest.raises(ConfigurationError, match="TOLLGATE_STOER__URL is no setting"):
        load_settings(None)


def test_the_option_variable_of_the_command_is_let_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLGATE_CONFIG", "/etc/tollgate/gate.toml")
    load_settings(None)


def test_an_error_in_a_variable_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLGATE_LIMITS__MAX_CALLS", "many")
    assert "limits.max_calls (from TOLLGATE_LIMITS__MAX_CALLS): " in _error(tmp_path, "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[sipp]\n", "sipp: no such setting; allowed here: site, sip, media"),
        ("[limits]\nmaxcalls = 3\n", "limits.maxcalls: no such setting; allowed here: max_calls"),
        (TRUNK + 'codecs = ["PCMU", "G729"]\n', "codecs[1]: 'G729' is not known; allowed: PCMU, PCMA"),
        (TRUNK + "codec = []\n", "trunks[0].codec: no such setting; allowed here: name"),
        (TRUNK + TRUNK, "the name 'carrier' is used twice"),
        ('[[trunks]]\nname = "c"\n', "trunks[0].addresses: must be given"),
        ('[[trunks]]\nname = "c"\naddresses = ["sctp:192.0.2.1"]\n', "[0]: 'sctp:192.0.2.1' is no"),
        ('[[trunks]]\nname = "c"\naddresses = ["udp:192.0.2.1:99999"]\n', "is no SIP address"),
        ('[[trunks]]\nname = "c"\naddresses = ["udp:[2001:db8::1"]\n', "is no SIP"),
        ('[[trunks]]\nname = "c"\naddresses = ["udp:a b:5"]\n', "is no SIP address"),
        ('[[trunks]]\nname = "c"\naddresses = [5]\n', "is no SIP address"),
        (TRUNK + 'caller_id = "fixed"\n', "fixed_caller_number: needed"),
        (TRUNK + 'privacy = "header"\ntrusted = false\n', "trunks[0].privacy: a trunk that is not trusted"),
        (TRUNK + 'drop_headers = ["P-A Identity"]\n', "trunks[0].drop_headers[0]: write "),
        (TRUNK + 'from_host = "a@b"\n', "trunks[0].from_host: write "),
        (
            UDP_ONLY + TRUNK + 'large_requests = "tcp"\n',
            "trunks[0].large_requests: the gate has no TCP socket; add one to sip.listen",
        ),
        (
            UDP_ONLY + '[[peers]]\nname = "p"\nnetworks = ["192.0.2.1"]\nlarge_requests = "tcp"\n',
            "peers[0].large_requests: the gate has no TCP socket",
        ),
        ('[sip]\nx_headers = ["Via"]\n', "sip.x_headers[0]: write "),
        ('[sip]\nx_headers = ["X-*-*"]\n', "sip.x_headers[0]: write "),
        (TRUNK + "[trunks.number_format]\nstyle = \"x\"\n", "allowed: e164, e164_without_plus, national"),
        ('[[peers]]\nname = "pbx"\nnetworks = ["192.0.2.300"]\n', "networks[0]: '192.0.2.300' is"),
        ('[[peers]]\nname = "p b x"\nnetworks = ["192.0.2.3"]\n', "peers[0].name: write "),
        ('[[did_routes]]\npeer = "nobody"\n', "did_routes[0].peer: no peer 'nobody' with an address"),
        ('[[did_routes]]\nprefix = "+1"\n', "did_routes[0]: name either a peer or a user"),
        ('[[did_routes]]\npeer = "pbx"\nuser = "204"\n', "name either a peer or a user"),
        ('[[did_routes]]\nuser = "desk"\n', "did_routes[0].user: "),
        ("[timers]\nsession_expires = 600\nmin_se = 900\n", "session_expires is 0, or at least min_se"),
        ("[timers]\nmin_se = 60\n", "timers.min_se: "),
        ("[registrar]\nmin_expires = 600\ndefault_expires = 300\n", "registrar: min_expires"),
        ('[registrar]\nkeep_alive = "ping"\n', "registrar.keep_alive: "),
        ("[sip.tcp]\nidle_timeout = 60\n", "registrar.flow_timer: sip.tcp.idle_timeout has to be longer"),
        ("[subscriptions]\nmax_expires = 60\n", "subscriptions: min_expires"),
        ('[subscriptions]\nwatching = "some"\n', "subscriptions.watching: "),
        ('[subscriptions]\nmailboxes = "nobody"\n', "subscriptions.mailboxes: no trunk, or peer "),
        ('[sip]\nlisten = ["udp:example.com:5060"]\n', "sip.listen: 'example.com' is no IP address"),
        ('[sip]\nlisten = []\n', "sip.listen: "),
        ('[sip]\nnameservers = ["udp:dns.example"]\n', "sip.nameservers: 'dns.example' is no IP address"),
        ('[sip]\nnameservers = ["tcp:192.0.2.53"]\n', "tcp:192.0.2.53 is no DNS server; write it like udp:"),
        ('[sip]\nadvertised = ["192.0.2.1", "192.0.2.2"]\n', "at most one IPv4 and one IPv6"),
        ('[media]\nports = "20000"\n', "media.ports: '20000' is no range of ports"),
        ('[media]\nports = "20000-20004"\n', "four ports"),
        ('[media]\nports = "20000-20010"\nemergency_ports = 10\n', "more than half"),
        ('[media]\naddress = "example.com"\n', "media.address: 'example.com' is no IP address"),
        ('[store]\nurl = "mysql://x"\n', "store.url: not a store"),
        ('[auth]\nsecret = "short"\n', "auth.secret: at least 16 characters"),
        ('[auth]\nalgorithms = ["SHA-1"]\n', "auth.algorithms[0]: 'SHA-1' is not known"),
        ("[auth]\nalgorithms = []\n", "auth.algorithms: "),
        ("[timers]\nt1 = 0\n", "timers.t1: must be greater than 0"),
        ('[sip]\nlisten = "udp:192.0.2.1:5060"\n', 'sip.listen: write a list, like ["a", "b"]'),
        ('[timers]\ndrain = "long"\n', "timers.drain: write a number"),
        ("[number_plan]\narea_codes = [415]\n", "number_plan.area_codes[0]: write text in quotes"),
        ("[[trunks]]\nname = 'a'\naddresses = []\n", "trunks[0].addresses: name at least 1"),
        ('notify.mail.server = "smtp.example.com"\n', "notify.mail.server: write it like smtp."),
        ('notify.mail.sender = "gate"\n', "notify.mail.sender: write it like gate@example.com"),
        ('sip.x_headers = ["X-Branch", "Via"]\n', "sip.x_headers[1]: write it like X-Customer"),
        ('number_plan.classes = [{pattern = "7.", class = "free"}]\n', "classes[0].class: 'free'"),
        ('[sip]\nlisten = ["tcp:127.0.0.1:0"]\n' + TRUNK, "trunks[0].addresses[0]: the gate has no UDP"),
        ('[sip]\nlisten = ["udp:0.0.0.0:5060"]\n', "sip.advertised: needed with udp:0.0.0.0:5060"),
        ('[media]\naddress = "0.0.0.0"\n', "media.advertised_address: needed"),
        ('[media]\naddress = ""\n', "address or address_ipv6 must be given"),
        ('[media]\naddress = "::1"\n', "media.address: '::1' is no IPv4 address"),
        ('[media]\naddress_ipv6 = "127.0.0.1"\n', "media.address_ipv6: '127.0.0.1' is no IPv6"),
        ("[sip\n", "not TOML"),
    ],
)  # fmt: skip
def test_an_error_names_the_path_and_what_is_allowed(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in _error(tmp_path, text)


def test_each_problem_has_one_line(tmp_path: Path) -> None:
    lines = _error(tmp_path, "[limits]\nmax_calls = 0\n[timers]\nt1 = 0\n").splitlines()
    assert len(lines) == 2
    assert all("gate.toml: " in line for line in lines)


def test_a_list_whose_elements_are_wrong_is_not_called_short_as_well(tmp_path: Path) -> None:
    lines = _error(tmp_path, "[[trunks]]\nname = 'a'\naddresses = ['192.0.2.1']\n").splitlines()
    assert len(lines) == 1
    assert "trunks[0].addresses[0]: '192.0.2.1' is no SIP address" in lines[0]


def test_a_variable_that_is_no_json_is_named_without_its_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOLLGATE_SIP__LISTEN", "udp:192.0.2.77")
    text = _error(tmp_path, "")
    assert text.startswith("environment: TOLLGATE_SIP__LISTEN: lists and tables are given as JSON, like '[")
    assert "192.0.2.77" not in text


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        load_settings(tmp_path / "none.toml")


def test_challenges_are_strongest_first_however_they_are_written(tmp_path: Path) -> None:
    assert _load(tmp_path, "").auth.algorithms == (Algorithm.SHA256, Algorithm.MD5)
    assert _load(tmp_path, '[auth]\nalgorithms = ["MD5"]\n').auth.algorithms == (Algorithm.MD5,)
    both = _load(tmp_path, '[auth]\nalgorithms = ["MD5", "SHA-256"]\n')
    assert both.auth.algorithms == (Algorithm.SHA256, Algorithm.MD5)


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    settings = _load(tmp_path, '[auth]\nsecret = "a-very-long-secret-word"\n')
    assert "very-long" not in repr(settings)
    assert settings.auth.secret.get_secret_value() == "a-very-long-secret-word"


def test_a_bad_secret_is_not_shown_in_its_error(tmp_path: Path) -> None:
    assert "tiny" not in _error(tmp_path, '[auth]\nsecret = "tiny"\n')


def test_a_socket_path_that_the_kernel_refuses_is_said(tmp_path: Path) -> None:
    assert "control.socket: longer than" in _error(tmp_path, f'[control]\nsocket = "/{"x" * 120}"\n')


def test_a_wildcard_address_goes_with_an_advertised_one(tmp_path: Path) -> None:
    settings = _load(tmp_path, 'sip = {listen = ["udp:[::]:5060"], advertised = ["2001:db8::5"]}')
    assert settings.sip.advertised == ("2001:db8::5",)


def test_an_address_prints_as_it_is_written() -> None:
    assert str(Address("TCP", "2001:db8::1", 5060)) == "tcp:[2001:db8::1]:5060"
    assert str(Address("UDP", "example.com", None)) == "udp:example.com"


def test_no_error_shows_a_regular_expression() -> None:
    sections = Settings.model_json_schema()["$defs"].values()
    checked = {
        name
        for section in sections
        for name, setting in section.get("properties", {}).items()
        if "pattern" in setting or "pattern" in setting.get("items", {})
    }
    assert {"server", "x_headers", "realm"} <= checked
    assert checked == set(_FORMS)
