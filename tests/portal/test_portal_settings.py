"""Settings of the portal: nobody's password goes over a network in the clear by mistake."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from proxy.settings_portal import PortalSettings


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"listen": "0.0.0.0:8080"}, "certificate: needed where others than this host come in"),
        ({"listen": "[::]:8080"}, "certificate: needed"),
        ({"listen": "localhost:8080"}, "is no address and port"),
        ({"listen": "127.0.0.1"}, "is no address and port"),
        ({"listen": "127.0.0.1:99999"}, "is no address and port"),
        ({"listen": "127.0.0.1:²"}, "is no address and port"),
        ({"key": "portal.key"}, "certificate: needed with key"),
        ({"public_url": "https://phones.example.com"}, "trusted_proxies: needed with public_url"),
        ({"oidc": {"issuer": "https://a.example", "client_id": "a"}}, "public_url: needed with oidc"),
        ({"public_url": "phones.example.com"}, "write it like https://"),
        ({"public_url": "https://phones.example.com/portal"}, "with nothing behind the name"),
        ({"public_url": "javascript:alert(1)"}, "write it like https://"),
        ({"trusted_proxies": ["anywhere"]}, "is no network"),
        ({"page_size": 100_000}, "less than or equal to 500"),
    ],
)
def test_bad_settings(values: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        PortalSettings.model_validate(values)


@pytest.mark.parametrize(
    ("values", "address", "https"),
    [
        ({}, ("127.0.0.1", 8080), False),
        ({"listen": "[::1]:443"}, ("::1", 443), False),
        ({"listen": "0.0.0.0:443", "certificate": "portal.pem"}, ("0.0.0.0", 443), True),
        ({"listen": "10.0.0.2:80", "trusted_proxies": ["10.0.0.1"]}, ("10.0.0.2", 80), False),
        (
            {"public_url": "https://phones.example.com:8443", "trusted_proxies": ["127.0.0.1"]},
            ("127.0.0.1", 8080),
            True,
        ),
        (
            {"listen": "0.0.0.0:443", "public_url": "https://phones.example.com", "certificate": "a.pem"},
            ("0.0.0.0", 443),
            True,
        ),
    ],
)
def test_good_settings(values: dict[str, object], address: tuple[str, int], https: bool) -> None:
    found = PortalSettings.model_validate(values)
    assert (found.address, found.https) == (address, https)
