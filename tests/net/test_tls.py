"""TLS without sockets: names in certificates, contexts made from files, two streams back to back."""

from __future__ import annotations

import ssl
import subprocess
import warnings
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import ConfigurationError, RemoteProtocolError
from proxy.net.tls import (
    ClientCertificates,
    TlsConfig,
    TlsContexts,
    TlsStream,
    certificate_names,
    names_match,
)
from tests.support.certificates import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def config(authority: Authority) -> TlsConfig:
    return TlsConfig(authority.issue("gate.pem", "DNS:gate.example.com"), ca=authority.certificate)


def exchange(client: TlsStream, server: TlsStream) -> None:
    """Carry octets over until neither side has more to say."""
    if not client.established:
        client.start()
    while True:
        there, back = client.due(), server.due()
        if not there and not back:
            return
        if there:
            server.receive(there)
        if back:
            client.receive(back)


# Names ------------------------------------------------------------------------------------------------------


def test_rfc5922_7_1_a_sip_uri_without_user_names_a_domain() -> None:
    names = certificate_names([("URI", "sip:Example.COM"), ("URI", "SIP:other.example:5061;lr?a=b")])
    assert names == ("example.com", "other.example")


def test_rfc5922_7_1_dns_names_count_only_without_a_sip_uri() -> None:
    assert certificate_names([("DNS", "Sip.Example.com.")]) == ("sip.example.com",)
    assert certificate_names([("DNS", "host.example.com"), ("URI", "sip:example.com")]) == ("example.com",)


@pytest.mark.parametrize(
    "value", ["sip:204@example.com", "sips:example.com", "https://example.com", "sip:", "sip:[1", ""]
)
def test_rfc5922_7_1_other_uris_name_no_domain(value: str) -> None:
    assert certificate_names([("URI", value)]) == ()


def test_addresses_are_names_too() -> None:
    names = certificate_names(
        [("IP Address", "192.0.2.1"), ("IP Address", "2001:DB8:0:0:0:0:0:1\n"), ("IP Address", "no")]
    )
    assert names == ("192.0.2.1", "2001:db8::1")
    assert names_match(names, "2001:db8:0::1")
    assert not names_match(names, "192.0.2.2")


def test_rfc5922_7_2_names_match_whole_and_without_case() -> None:
    names = ("example.com", "*.example.com")
    assert names_match(names, "Example.com.")
    assert not names_match(names, "sip.example.com")
    assert not names_match(names, "com")
    assert not names_match((), "example.com")


def test_a_wildcard_stands_for_one_label_where_the_settings_allow_it() -> None:
    names = ("*.example.com", "*.com", "*")
    assert names_match(names, "sip.example.com", wildcards=True)
    assert not names_match(names, "a.sip.example.com", wildcards=True)
    assert not names_match(names, "example.com", wildcards=True)
    assert not names_match(names, "localhost", wildcards=True)


@given(st.lists(st.tuples(st.sampled_from(["URI", "DNS", "IP Address", "email"]), st.text())), st.text())
def test_no_certificate_raises(alternatives: list[tuple[str, str]], expected: str) -> None:
    names_match(certificate_names(alternatives), expected, wildcards=True)


# Streams ----------------------------------------------------------------------------------------------------


def test_text_passes_both_ways_and_the_certificate_is_read(config: TlsConfig) -> None:
    contexts = TlsContexts(config)
    client, server = contexts.connect("gate.example.com"), contexts.accept()
    exchange(client, server)
    assert client.established
    assert server.established
    assert client.names == ("gate.example.com",)
    assert server.names == ()
    assert contexts.vouches_for(client.names, "gate.example.com")
    assert not contexts.vouches_for(client.names, "other.example.com")
    assert client.protocol.startswith("TLSv1.3")
    message = b"x" * 100_000
    assert server.receive(client.encrypt(message)) == message
    assert client.receive(server.encrypt(b"pong")) == b"pong"


def test_a_record_in_pieces_gives_its_text_when_it_is_whole(config: TlsConfig) -> None:
    contexts = TlsContexts(config)
    client, server = contexts.connect("192.0.2.1"), contexts.accept()
    exchange(client, server)
    record = client.encrypt(b"ACK")
    assert [server.receive(bytes([octet])) for octet in record] == [b""] * (len(record) - 1) + [b"ACK"]


def test_the_end_is_said_and_heard(config: TlsConfig) -> None:
    contexts = TlsContexts(config)
    client, server = contexts.connect("gate.example.com"), contexts.accept()
    assert client.close() == b""
    exchange(client, server)
    assert server.receive(client.encrypt(b"last") + client.close()) == b"last"
    assert server.closed
    server.close()


def test_what_is_no_tls_is_refused_with_the_reason(config: TlsConfig) -> None:
    server = TlsContexts(config).accept()
    with pytest.raises(RemoteProtocolError, match="TLS: "):
        server.receive(b"OPTIONS sip:gate@example.com SIP/2.0\r\n\r\n")


def test_a_broken_record_is_refused(config: TlsConfig) -> None:
    contexts = TlsContexts(config)
    client, server = contexts.connect("gate.example.com"), contexts.accept()
    exchange(client, server)
    record = bytearray(client.encrypt(b"INVITE"))
    record[-1] ^= 1
    with pytest.raises(RemoteProtocolError, match="bad record mac"):
        server.receive(bytes(record))


def test_a_name_that_no_server_can_have_is_refused(config: TlsConfig) -> None:
    with pytest.raises(RemoteProtocolError, match="no name of a TLS server"):
        TlsContexts(config).connect(".example.com")


def test_rfc3261_26_3_1_a_certificate_of_an_unknown_authority_is_refused(
    config: TlsConfig, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path, "stranger")
    theirs = TlsContexts(TlsConfig(stranger.issue("gate.pem", "DNS:gate.example.com")))
    client, server = TlsContexts(config).connect("gate.example.com"), theirs.accept()
    with pytest.raises(RemoteProtocolError, match="certificate refused: unable to get local issuer"):
        exchange(client, server)
    assert client.due(), "the server is told by an alert"


def test_the_system_s_authorities_vouch_for_no_certificate_of_a_test(config: TlsConfig) -> None:
    contexts = TlsContexts(replace(config, ca=None))
    with pytest.raises(RemoteProtocolError, match="certificate refused"):
        exchange(contexts.connect("gate.example.com"), contexts.accept())


def test_tls_before_1_2_is_refused(config: TlsConfig) -> None:
    contexts = TlsContexts(config)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname = False
    old.verify_mode = ssl.CERT_NONE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version = ssl.TLSVersion.TLSv1_1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(RemoteProtocolError, match="unsupported protocol"):
        exchange(TlsStream(old, "gate.example.com"), contexts.accept())


@pytest.mark.parametrize("clients", [ClientCertificates.OPTIONAL, ClientCertificates.REQUIRED])
def test_a_client_that_shows_its_certificate_is_known_by_name(
    clients: ClientCertificates, config: TlsConfig
) -> None:
    contexts = TlsContexts(replace(config, clients=clients))
    client, server = contexts.connect("gate.example.com"), contexts.accept()
    exchange(client, server)
    assert server.names == ("gate.example.com",)


def _nameless(config: TlsConfig) -> TlsStream:
    """Return a client that has no certificate of its own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(config.ca)
    return TlsStream(context, "gate.example.com")


def test_a_client_without_certificate_passes_only_where_it_may(config: TlsConfig) -> None:
    server = TlsContexts(replace(config, clients=ClientCertificates.OPTIONAL)).accept()
    exchange(_nameless(config), server)
    assert server.names == ()
    server = TlsContexts(replace(config, clients=ClientCertificates.REQUIRED)).accept()
    with pytest.raises(RemoteProtocolError, match="peer did not return a certificate"):
        exchange(_nameless(config), server)


# Files ------------------------------------------------------------------------------------------------------


def test_the_end_of_validity_is_known(config: TlsConfig) -> None:
    left = TlsContexts(config).expires - datetime.now(UTC)
    assert timedelta(hours=23) < left <= timedelta(days=1)


def test_a_renewed_certificate_holds_for_the_next_handshake(authority: Authority, config: TlsConfig) -> None:
    mine = authority.issue("renewed.pem", "DNS:old.example.com")
    contexts = TlsContexts(replace(config, certificate=mine))
    before = (contexts.connect("old.example.com"), contexts.accept())
    exchange(*before)
    authority.issue("renewed.pem", "DNS:new.example.com")
    contexts.reload()
    after = (contexts.connect("new.example.com"), contexts.accept())
    exchange(*after)
    assert after[0].names == ("new.example.com",)
    assert before[1].receive(before[0].encrypt(b"still here")) == b"still here"


def test_a_bad_certificate_is_refused_and_the_old_one_stays(authority: Authority, config: TlsConfig) -> None:
    mine = authority.issue("spoiled.pem", "DNS:gate.example.com")
    contexts = TlsContexts(replace(config, certificate=mine))
    mine.write_text("spoiled")
    with pytest.raises(ConfigurationError, match=r"sip.tls.certificate: .*spoiled.pem"):
        contexts.reload()
    client, server = contexts.connect("gate.example.com"), contexts.accept()
    exchange(client, server)
    assert client.names == ("gate.example.com",)


def test_a_certificate_that_is_over_is_refused(authority: Authority, config: TlsConfig) -> None:
    over = authority.issue("over.pem", "DNS:gate.example.com", days=-1)
    with pytest.raises(ConfigurationError, match=r"over.pem: .*expired; renew it"):
        TlsContexts(replace(config, certificate=over))


def test_a_certificate_that_is_not_for_servers_is_refused(authority: Authority, config: TlsConfig) -> None:
    client_only = authority.issue("client.pem", "DNS:gate.example.com", usage="clientAuth")
    with pytest.raises(ConfigurationError, match="unsuitable certificate purpose"):
        TlsContexts(replace(config, certificate=client_only))


def test_a_key_of_another_certificate_is_refused(authority: Authority, config: TlsConfig) -> None:
    other = authority.issue("other.pem", "DNS:other.example.com")
    with pytest.raises(ConfigurationError, match=r"sip.tls.key: .*other.key: not the key of the certificate"):
        TlsContexts(replace(config, key=other.with_suffix(".key")))


def test_a_file_that_is_not_there_is_named(config: TlsConfig, tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    for setting, broken in {
        "certificate": replace(config, certificate=missing),
        "key": replace(config, key=missing),
        "ca": replace(config, ca=missing),
    }.items():
        with pytest.raises(ConfigurationError, match=rf"sip.tls.{setting}: .*missing.pem: cannot be read"):
            TlsContexts(broken)


def test_an_authority_file_without_certificates_is_named(config: TlsConfig, tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()
    with pytest.raises(ConfigurationError, match=r"sip.tls.ca: .*empty.pem: no certificates"):
        TlsContexts(replace(config, ca=empty))


def test_an_encrypted_key_is_refused_without_asking(config: TlsConfig, tmp_path: Path) -> None:
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "pkey", "-in", config.certificate, "-aes256", "-passout", "pass:x", "-out", locked],
        check=True,
        capture_output=True,
    )
    with pytest.raises(ConfigurationError, match=r"locked.key: encrypted with a pass phrase"):
        TlsContexts(replace(config, key=locked))
