"""One webhook: whom it may go to, how it is signed, and what receivers do to it. Servers and TLS are real."""

from __future__ import annotations

import base64
import hashlib
import hmac
import socket
import ssl
import threading
import time
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from proxy.portal.webhook_post import Outcome, Poster, is_public, signature
from proxy.store import WebhookDelivery, WebhookEndpoint
from tests.portal.receiver import Receiver
from tests.support.certificates import Authority

LOOPBACK = [ip_network("127.0.0.0/8"), ip_network("::1/128")]
NOW = 1_790_000_000.0
KEY = b"0123456789abcdef0123456789abcdef"
SECRET = "whsec_" + base64.b64encode(KEY).decode()


def endpoint(url: str) -> WebhookEndpoint:
    return WebhookEndpoint(url, frozenset({"call.ended"}), SECRET, id=1)


DELIVERY = WebhookDelivery(
    7, 1, "r1.call.ended", "call.ended", '{"id":"r1.call.ended","ü":1}', NOW, 1, None, None, 0, ""
)


def patient(tls: ssl.SSLContext | None = None) -> Poster:
    """A poster for a machine that others have too."""
    return Poster(LOOPBACK, tls=tls, patience=60, deadline=100)


def post(receiver: Receiver, poster: Poster | None = None) -> Outcome:
    return (poster or patient()).post(endpoint(receiver.url), DELIVERY, now=NOW)


def test_what_is_received_is_signed_and_verified_as_standard_webhooks_say() -> None:
    with Receiver() as receiver:
        assert post(receiver) == Outcome(204)
    [taken] = receiver.taken
    assert taken.path == "/hook?a=1"
    assert taken.body == DELIVERY.body.encode()
    assert taken.headers["content-type"] == "application/json"
    assert taken.headers["webhook-id"] == "r1.call.ended"
    assert taken.headers["webhook-timestamp"] == "1790000000"
    signed = b"r1.call.ended.1790000000." + taken.body
    expected = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    assert taken.headers["webhook-signature"] == f"v1,{expected}"
    assert SECRET not in repr(taken)


def test_the_signature_is_that_of_the_published_example() -> None:
    # Of the documentation of Standard Webhooks' reference libraries.
    found = signature(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_secret_of_another_form_is_taken_as_it_is() -> None:
    found = signature("given", "id", 1, b"body")
    expected = base64.b64encode(hmac.new(b"given", b"id.1.body", hashlib.sha256).digest()).decode()
    assert found == f"v1,{expected}"
    assert signature("whsec_?", "id", 1, b"body") != found


@pytest.mark.parametrize(
    ("answer", "status", "says"),
    [
        (200, 200, ""),
        (500, 500, "Internal Server Error"),
        (410, 410, "Gone"),
        (302, 302, "redirects are not followed"),
        (307, 307, "redirects are not followed"),
        ("close", 0, ""),
        ("nonsense", 0, ""),
    ],
)
def test_what_receivers_answer(answer: int | str, status: int, says: str) -> None:
    with Receiver([answer]) as receiver:
        outcome = post(receiver)
    assert outcome.status == status
    assert says in outcome.error
    assert (outcome.error == "") is (answer == 200)
    assert len(receiver.taken) == 1, "nothing is asked twice, and nobody is asked elsewhere"


@pytest.mark.parametrize("answer", ["hang", "drip"])
def test_who_takes_for_ever_is_left(answer: str) -> None:
    with Receiver([answer]) as receiver:
        poster = Poster(LOOPBACK, patience=0.3 if answer == "hang" else 30, deadline=0.5)
        assert post(receiver, poster) == Outcome(0, "no answer in time")


@pytest.mark.parametrize("ended_by", ["deadline", "close"])
def test_a_connect_that_takes_for_ever_is_left(ended_by: str) -> None:
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        # Its queue is full: whoever comes now gets no answer, and asks again for minutes.
        first.connect(full.getsockname())
        second.setblocking(False)
        second.connect_ex(full.getsockname())
        poster = Poster(LOOPBACK, patience=3_600, deadline=0.3 if ended_by == "deadline" else 3_600)
        begun = time.monotonic()
        closing = threading.Timer(0.3, poster.close)
        if ended_by == "close":
            closing.start()
        url = f"http://127.0.0.1:{full.getsockname()[1]}/"
        outcome = poster.post(endpoint(url), DELIVERY, now=NOW)
        assert (
            outcome.error
            == {"deadline": "no answer in time", "close": "the portal ended meanwhile"}[ended_by]
        )
        assert time.monotonic() - begun < 60, "by itself it takes twice as long"


def test_nobody_at_the_port_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    outcome = patient().post(endpoint(f"http://127.0.0.1:{port}/"), DELIVERY, now=NOW)
    assert outcome == Outcome(0, "Connection refused")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/",
        "https://127.0.0.1:1/",
        "https://127.1:1/",
        "https://2130706433:1/",
        "https://0x7f000001:1/",
        "https://[::1]:1/",
        "https://[::ffff:127.0.0.1]:1/",
        "https://localhost:1/",
        "https://10.1.2.3/",
        "https://169.254.169.254/latest/meta-data/",
        "https://[fe80::1]/",
        "https://0.0.0.0/",
        "https://[64:ff9b::7f00:1]/",
        "https://[2002:7f00:1::]/",
    ],
)
def test_private_addresses_are_not_asked_whatever_they_are_written_like(url: str) -> None:
    outcome = Poster().post(endpoint(url), DELIVERY, now=NOW)
    assert outcome == Outcome(0, "its address is private, and in none of notify.private_networks")


def test_http_without_tls_stays_within_the_networks_that_are_named() -> None:
    outcome = patient().post(endpoint("http://93.184.216.34/"), DELIVERY, now=NOW)
    assert outcome == Outcome(0, "http: goes to notify.private_networks only; use https:")


@pytest.mark.parametrize(
    "url", ["https://no-such-host.invalid/", "https://a..b/", "https://x:99999/", "https://xn--\x7f/"]
)
def test_a_name_that_is_none_is_a_failure_and_nothing_worse(url: str) -> None:
    outcome = Poster().post(endpoint(url), DELIVERY, now=NOW)
    assert outcome.status == 0
    assert outcome.error


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:4700::1111", True),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("fc00::1", False),
        ("ff02::1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:93.184.216.34", True),
        ("64:ff9b::a00:1", False),
        ("64:ff9b::5db8:d822", True),
        ("2002:a00:1::", False),
        ("fec0::1", False),
        ("feff:ffff::1", False),
        ("3fff::1", False),
        ("3fff:fff:ffff::1", False),
        ("2a00:1450::1", True),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(ip_address(address)) is public


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


def test_a_certificate_that_is_right_is_trusted(authority: Authority) -> None:
    with Receiver(certificate=authority.issue("good.pem", "IP:127.0.0.1")) as receiver:
        context = ssl.create_default_context(cafile=authority.certificate)
        assert post(receiver, patient(context)) == Outcome(204)


@pytest.mark.parametrize(
    ("names", "days", "trusted", "says"),
    [
        ("DNS:other.example", 1, True, "IP address mismatch"),
        ("IP:127.0.0.1", -1, True, "expired"),
        ("IP:127.0.0.1", 1, False, "certificate"),
    ],
)
def test_a_certificate_that_is_wrong_is_told_nothing(
    authority: Authority, names: str, days: int, trusted: bool, says: str
) -> None:
    certificate = authority.issue(f"bad{time.monotonic_ns()}.pem", names, days=days)
    with Receiver(certificate=certificate) as receiver:
        context = ssl.create_default_context(cafile=authority.certificate) if trusted else None
        outcome = post(receiver, patient(context))
    assert outcome.status == 0
    assert outcome.error.startswith("certificate: ")
    assert says in outcome.error
    assert receiver.taken == []


def test_a_server_without_tls_at_an_https_address_is_a_failure(tmp_path: Path) -> None:
    with Receiver() as receiver:
        url = receiver.url.replace("http:", "https:")
        outcome = patient().post(endpoint(url), DELIVERY, now=NOW)
    assert (outcome.status, bool(outcome.error)) == (0, True)
