"""Settings of the Account Portal, a process of its own (DESIGN contract 4)."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from proxy.settings_sections import Network, Seconds, Section

__all__ = ["OidcSettings", "PortalSettings"]


class OidcSettings(Section):
    """Single sign-on: people log in to the portal with OpenID Connect, at a provider that knows them."""

    issuer: str = Field(default="", max_length=500)
    """Address of the provider, such as ``https://login.example.com/realms/office``; empty: there is none."""
    client_id: str = Field(default="", max_length=255)
    """Name that the portal has at the provider. What it has to know there besides is the portal's
    ``public_url`` with ``/login/oidc/answer`` behind it."""
    client_secret: SecretStr = SecretStr("")
    """Empty: the provider knows the portal as a public client."""
    label: str = Field(default="", max_length=60)
    """What the button on the log-in page says behind "Log in with"; empty: the provider's host."""
    scopes: tuple[str, ...] = ("profile", "email")
    """What is asked for besides ``openid``."""
    claim: str = Field(default="preferred_username", min_length=1, max_length=64)
    """Claim of the ID token that holds the name of the portal account. Of ``email`` only an address counts
    that the provider says it has verified."""
    new_accounts: Literal["", "phone_manager", "billing_contact"] = ""
    """Role of the account that is made for somebody who has none; empty: none is made, and nobody gets in."""
    second_factor: tuple[str, ...] = ("mfa",)
    """The portal's own second factor is not asked for when the ID token names one of these in ``amr`` or
    as ``acr``."""

    @field_validator("issuer")
    @classmethod
    def _is_private(cls, issuer: str) -> str:
        parts = urlsplit(issuer)
        if issuer and not (parts.scheme in {"http", "https"} and parts.hostname):
            raise ValueError("write it like https://login.example.com")
        if parts.query or parts.fragment or "@" in parts.netloc:
            raise ValueError("write it without ?, # and user name")
        if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
            raise ValueError("https: is needed, but on this host")
        return issuer

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.issuer and not self.client_id:
            raise ValueError("client_id: needed with issuer")
        return self

    @property
    def name(self) -> str:
        """What the provider is called for people."""
        return self.label or urlsplit(self.issuer).hostname or ""


class PortalSettings(Section):
    """The Account Portal: pages for those who run the system."""

    enabled: bool = False
    """Whether ``tollgate serve`` runs it too, as a second process; ``tollgate portal`` runs it alone."""
    listen: str = "127.0.0.1:8080"
    """Address and TCP port."""
    certificate: str = ""
    """PEM file with its certificate and the intermediates; needed where others than this host come in."""
    key: str = ""
    """Empty: the key is in the file of the certificate."""
    public_url: str = ""
    """What people type, such as ``https://phones.example.com``, where a web server stands before it."""
    trusted_proxies: tuple[Network, ...] = ()
    """Web servers that are believed when they say whom they ask for (``X-Forwarded-For``). Without a
    certificate nobody but them and this host may connect."""
    session_idle: Seconds = 1_800.0
    """A log-in that is not used for so long ends."""
    session_lifetime: Seconds = 43_200.0
    """Every log-in ends after so long."""
    page_size: int = Field(default=100, ge=10, le=500)
    """Lines on one page of a list."""
    api_requests_per_minute: int = Field(default=600, ge=1, le=1_000_000)
    """Requests of one program's token; more get 429 and are told how long to wait."""
    oidc: OidcSettings = OidcSettings()

    @field_validator("listen")
    @classmethod
    def _readable(cls, listen: str) -> str:
        _split(listen)
        return listen

    @field_validator("public_url")
    @classmethod
    def _is_origin(cls, url: str) -> str:
        parts = urlsplit(url)
        if url and not (parts.scheme in {"http", "https"} and parts.hostname and url.count("/") == 2):
            raise ValueError("write it like https://phones.example.com, with nothing behind the name")
        return url

    @model_validator(mode="after")
    def _is_private(self) -> Self:
        if self.key and not self.certificate:
            raise ValueError("certificate: needed with key")
        if self.public_url and not (self.certificate or self.trusted_proxies):
            raise ValueError(
                "trusted_proxies: needed with public_url, or everybody would seem to come from the web server"
            )
        if self.oidc.issuer and not self.public_url:
            raise ValueError("public_url: needed with oidc, whose provider sends people back there")
        if not (self.is_local or self.certificate or self.trusted_proxies):
            raise ValueError(
                "certificate: needed where others than this host come in, or trusted_proxies where a web "
                "server with one stands before the portal"
            )
        return self

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to listen at."""
        return _split(self.listen)

    @property
    def is_local(self) -> bool:
        """Only this host can come in."""
        return _is_loopback(self.address[0])

    @property
    def https(self) -> bool:
        """Browsers come by HTTPS."""
        return bool(self.certificate) or self.public_url.startswith("https://")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _split(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        ip_address(host)
    except ValueError:
        colon = ""
    if not (colon and port.isascii() and port.isdigit() and int(port) <= 65_535):
        message = f"{listen!r} is no address and port; write it like 127.0.0.1:8080 or [::1]:8080"
        raise ValueError(message)
    return host, int(port)
