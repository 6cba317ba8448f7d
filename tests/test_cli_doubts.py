"""What `tollgate check-config` finds behind the settings: certificates, keys, names."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import pytest
from sqlalchemy.dialects import registry
from sqlalchemy.engine.default import DefaultDialect

from proxy.cli import run
from proxy.commands.doubts import unknown_names
from proxy.net.resolver import Resolver
from proxy.policy import User, UserGroup
from proxy.settings import Settings, load_settings
from proxy.store import Store, people
from proxy.store.people import known_names
from tests.support.certificates import Authority
from tests.support.dns_server import running_dns_server

TRUNK = '[[trunks]]\nname = "carrier"\naddresses = ["{}:192.0.2.9"]\n'
SETTINGS = """
local_networks = ["192.0.2.0/24"]
[sip]
listen = ["tls:127.0.0.1:5061"]
[sip.tls]
certificate = "{certificate}"
key = "{key}"
ca = "{ca}"
"""


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.upper().startswith("TOLLGATE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TOLLGATE_STORE__URL", "sqlite:///cli.db")


def written(certificate: str = "", key: str = "", ca: str = "") -> str:
    Path("gate.toml").write_text(
        SETTINGS.format(certificate=certificate, key=key, ca=ca) + TRUNK.format("tls")
    )
    return "gate.toml"


def test_a_good_certificate_is_taken_without_a_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    authority = Authority(tmp_path)
    authority.issue("gate.pem", "DNS:gate.example.com", days=200)
    assert run(["check-config", written("gate.crt", "gate.key", str(authority.certificate))]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("gate.toml: good")
    assert err == ""


@pytest.mark.parametrize(("days", "said"), [(20, "in 19 days"), (1, "today")])
def test_the_end_of_a_certificate_is_foreseen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], days: int, said: str
) -> None:
    Authority(tmp_path).issue("gate.pem", "DNS:gate.example.com", days=days)
    assert run(["check-config", written("gate.pem")]) == 0
    warning = capsys.readouterr().err
    assert f"warning: sip.tls.certificate: gate.pem: ends {said} (" in warning
    assert warning.rstrip().endswith("UTC); renew it")


def test_a_certificate_that_is_over_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Authority(tmp_path).issue("gate.pem", "DNS:gate.example.com", days=-1)
    assert run(["check-config", written("gate.pem")]) == 1
    assert "peers would refuse it: certificate refused: certificate has expired" in capsys.readouterr().err


def test_a_key_of_another_certificate_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    authority = Authority(tmp_path)
    authority.issue("gate.pem", "DNS:gate.example.com")
    authority.issue("other.pem", "DNS:gate.example.com")
    assert run(["check-config", written("gate.crt", "other.key")]) == 1
    assert "sip.tls.key: other.key: not the key of the certificate gate.crt" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        (("nosuch.pem",), "sip.tls.certificate: nosuch.pem: cannot be read: No such file or directory"),
        (("gate.crt", "nosuch.key"), "sip.tls.key: nosuch.key: cannot be read: No such file or directory"),
        (("gate.pem", "", "nosuch.pem"), "sip.tls.ca: nosuch.pem: cannot be read: No such file or directory"),
        (("text.pem",), "no certificate and key in PEM form"),
        (("gate.pem", "", "text.pem"), "sip.tls.ca: text.pem: no certificates in PEM form"),
    ],
)
def test_a_file_that_can_not_be_used_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], files: tuple[str, ...], complaint: str
) -> None:
    Authority(tmp_path).issue("gate.pem", "DNS:gate.example.com")
    Path("text.pem").write_text("no certificate")
    assert run(["check-config", written(*files)]) == 1
    error = capsys.readouterr().err
    assert complaint in error
    assert "PRIVATE KEY" not in error


PORTAL = """
local_networks = ["192.0.2.0/24"]
[portal]
certificate = "{certificate}"
key = "{key}"
"""


def test_the_portals_certificate_is_read_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    authority = Authority(tmp_path)
    authority.issue("portal.pem", "DNS:phones.example.com", days=20)
    authority.issue("other.pem", "DNS:phones.example.com")
    Path("gate.toml").write_text(PORTAL.format(certificate="portal.pem", key=""))
    assert run(["check-config", "gate.toml"]) == 0
    assert "warning: portal.certificate: portal.pem: ends in 19 days" in capsys.readouterr().err
    Path("gate.toml").write_text(PORTAL.format(certificate="portal.crt", key="other.key"))
    assert run(["check-config", "gate.toml"]) == 1
    error = capsys.readouterr().err
    assert "gate.toml: portal.key: other.key: not the key of the certificate portal.crt" in error
    Path("gate.toml").write_text(PORTAL.format(certificate="nosuch.pem", key=""))
    assert run(["check-config", "gate.toml"]) == 1
    assert "portal.certificate: nosuch.pem: cannot be read" in capsys.readouterr().err


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = ["enter_code.wav", "busy.wav", "no_such_sound.wav", "groups/sales/connecting.wav"]
    for name in bad:
        path = tmp_path / "prompts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no WAV")
    Path("gate.toml").write_text(
        '[prompts]\nfolder = "prompts"\n[number_plan]\nextensions = ["2Q"]\n'
        '[portal]\ncertificate = "nosuch.pem"\n'
    )
    assert run(["check-config", "gate.toml"]) == 1
    error = capsys.readouterr().err
    for said in (*bad, "number_plan.extensions", "portal.certificate: nosuch.pem"):
        assert sum(said in line for line in error.splitlines()) == 1, said
    assert all("gate.toml: " in line for line in error.splitlines())


NAMES = """
local_networks = ["192.0.2.0/24"]
[[trunks]]
name = "first"
addresses = ["udp:192.0.2.7", "udp:gone.example:5060", "udp:here.example:5060"]
[[trunks]]
name = "second"
addresses = ["udp:gone.example:5060"]
[[peers]]
name = "pbx"
networks = ["192.0.2.10"]
[[peers]]
name = "branch"
networks = ["192.0.2.11"]
address = "udp:lost.example:5060"
"""


@pytest.fixture
def named() -> Settings:
    Path("gate.toml").write_text(NAMES)
    return load_settings(Path("gate.toml"))


async def test_names_without_address_are_told(named: Settings) -> None:
    async with running_dns_server() as (server, resolver):
        server.zone["here.example", "A"] = (60, ["192.0.2.90"])
        assert await unknown_names(named, Resolver(resolver)) == [
            "trunks[0].addresses[1]: gone.example has no address in DNS now",
            "peers[1].address: lost.example has no address in DNS now",
        ]


def test_without_names_there_is_nothing_to_look_up(capsys: pytest.CaptureFixture[str]) -> None:
    Path("gate.toml").write_text('local_networks = ["192.0.2.0/24"]\n' + TRUNK.format("udp"))
    assert run(["check-config", "--resolve", "gate.toml"]) == 0
    assert capsys.readouterr().err == ""


def test_mail_that_nobody_would_send_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    for portal, told in (("false", 1), ("true", 0)):
        Path("gate.toml").write_text(
            'local_networks = ["192.0.2.0/24"]\n[notify.mail]\nserver = "mail.example.com:587"\n'
            f'sender = "gate@example.com"\n[portal]\nenabled = {portal}\n'
        )
        assert run(["check-config", "gate.toml"]) == 0
        assert capsys.readouterr().err.count("warning: notify.mail: the portal's process sends it") == told


def told(capsys: pytest.CaptureFixture[str], text: str) -> list[str]:
    """Return what is doubted of a file that is taken."""
    Path("gate.toml").write_text('local_networks = ["192.0.2.0/24"]\n' + text)
    assert run(["check-config", "gate.toml"]) == 0
    return capsys.readouterr().err.splitlines()


def test_a_gate_without_a_trunk_is_told_what_it_can_not_do(capsys: pytest.CaptureFixture[str]) -> None:
    says = "trunks: there is none: every call to the outside is refused, emergency calls too"
    assert told(capsys, "") == [f"tollgate: warning: {says}"]
    assert told(capsys, TRUNK.format("udp")) == []


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("sqlite:////proc/nope/x.db", "no store can be made there: No such file or directory"),
        ("sqlite:///gate.toml", "is no SQLite database"),
        ("sqlite:///folder", "Is a directory"),
        ("sqlite:///gate.toml/x.db", "no store can be made there: Not a directory"),
        ("postgresql+nosuch://user:hidden@db/tollgate", "its driver is not installed"),
        ("postgresql://user:hidden@db:hidden/tollgate", "it can't be used (ValueError)"),
        (
            "postgresql+psycopg_refuses://user:hid%40den@db/tollgate?sslpassword=hidden&sslmode=require",
            "user knows no ***, and no ***",
        ),
    ],
)
def test_a_store_that_can_not_be_opened_is_told(
    url: str, why: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOLLGATE_STORE__URL", url)
    monkeypatch.setenv("TOLLGATE_JOURNAL__FOLDER", "journal")
    monkeypatch.setenv("TOLLGATE_CONTROL__SOCKET", "gate.sock")
    registry.register("postgresql.psycopg_refuses", __name__, "Refuses")
    Path("folder").mkdir()
    (said,) = told(capsys, TRUNK.format("udp"))
    assert said.startswith("tollgate: warning: store.url: ")
    assert f": {why} (asked as this user); without a store only emergency calls pass" in said
    assert "hid" not in said


class Refuses(DefaultDialect):
    """A driver whose server takes nobody, and who tells too much of it."""

    driver = "psycopg_refuses"

    @classmethod
    def import_dbapi(cls) -> ModuleType:
        """Give what has a driver's errors."""
        return sqlite3

    def connect(self, *_: object, **given: object) -> NoReturn:
        assert given["connect_timeout"] == 10
        says = "{username} knows no {password}, and no {sslpassword}\nSecond line".format_map(given)
        raise sqlite3.OperationalError(says)


def test_a_store_that_will_be_made_or_is_there_is_no_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOLLGATE_STORE__URL", "sqlite:///var/lib/x.db")
    assert told(capsys, TRUNK.format("udp")) == []
    assert [one.name for one in tmp_path.iterdir()] == ["gate.toml"]
    Store("sqlite:///var/lib/x.db").close()
    before = sorted(tmp_path.rglob("*"))
    assert told(capsys, TRUNK.format("udp")) == []
    assert sorted(tmp_path.rglob("*")) == before
    Path("var/lib/x.db").write_bytes(b"")
    assert told(capsys, TRUNK.format("udp")) == []


def test_an_address_that_this_machine_has_not_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    settings = """
[sip]
listen = ["udp:198.51.100.1:5060", "tcp:198.51.100.1:5060", "udp:127.0.0.1", "udp:[::1]"]
[media]
address = "198.51.100.2"
address_ipv6 = "2001:db8::2"
[portal]
listen = "198.51.100.3:8080"
trusted_proxies = ["192.0.2.4"]
"""
    why = "Cannot assign requested address: is it an address of this machine?"
    assert [one for one in told(capsys, TRUNK.format("udp") + settings) if "an address of" in one] == [
        f"tollgate: warning: sip.listen: 198.51.100.1: {why}",
        f"tollgate: warning: media.address: 198.51.100.2: {why}",
        f"tollgate: warning: media.address_ipv6: 2001:db8::2: {why}",
        f"tollgate: warning: portal.listen: 198.51.100.3: {why}",
    ]
    assert told(capsys, TRUNK.format("udp") + '[media]\naddress = ""\naddress_ipv6 = "::1"\n') == []


@pytest.mark.parametrize(("network", "is_told"), [("0.0.0.0/0", True), ("::/0", True), ("10.0.0.0/8", False)])
def test_a_peer_that_is_everybody_is_told(
    network: str, capsys: pytest.CaptureFixture[str], *, is_told: bool
) -> None:
    peer = f'[[peers]]\nname = "pbx"\nnetworks = ["{network}"]\n'
    said = told(capsys, TRUNK.format("udp") + peer)
    assert any(f"peers[0].networks: {network}: whoever reaches the gate" in one for one in said) is is_told


def test_a_number_that_leads_to_nobody_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOLLGATE_STORE__URL", "sqlite:///x.db")
    routes = '[[did_routes]]\nprefix = "1555"\nuser = "204"\n[[did_routes]]\nprefix = "1556"\nuser = "999"\n'
    with Store("sqlite:///x.db") as store:
        store.groups.add(UserGroup("staff"))
        store.users.add(User("204", "staff"))
    (said,) = told(capsys, TRUNK.format("udp") + routes)
    assert "did_routes[1].user: there is no user 999 in the store; calls to 1556... are refused" in said


NAMING = """
[phones]
default_group = "staff"
[[did_routes]]
prefix = "1555"
user = "204"
"""


@pytest.mark.parametrize("url", ["sqlite:///gate.toml", f"sqlite:///{'x' * 300}/x.db", "sqlite:///folder"])
def test_of_a_store_that_can_not_be_read_nobody_knows_who_is_in_it(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOLLGATE_STORE__URL", url)
    monkeypatch.setenv("TOLLGATE_JOURNAL__FOLDER", "journal")
    monkeypatch.setenv("TOLLGATE_CONTROL__SOCKET", "gate.sock")
    Path("folder").mkdir()
    (said,) = told(capsys, NAMING + TRUNK.format("udp"))
    assert said.startswith("tollgate: warning: store.url: ")
    assert known_names(url) is None


@pytest.mark.parametrize("store", ["none", "of no octet"])
def test_in_a_store_that_is_not_filled_yet_there_is_nobody(
    store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if store == "of no octet":
        Path("cli.db").touch()
    said = told(capsys, NAMING + TRUNK.format("udp"))
    assert ["phones.default_group" in said[0], "did_routes[0].user" in said[1], len(said)] == [True, True, 2]


def test_a_store_that_can_not_be_opened_is_asked_for_no_names(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOLLGATE_STORE__URL", "sqlite:////proc/nope/x.db")
    monkeypatch.setenv("TOLLGATE_JOURNAL__FOLDER", "journal")
    monkeypatch.setenv("TOLLGATE_CONTROL__SOCKET", "gate.sock")
    # A server that answers nobody lets each of its askers wait.
    asked: list[str] = []
    monkeypatch.setattr(people, "known_names", asked.append)
    (said,) = told(capsys, NAMING + TRUNK.format("udp"))
    assert "store.url: " in said
    assert asked == []
