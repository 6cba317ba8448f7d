"""Settings of what the portal tells others: receivers of webhooks, and the mail server."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from proxy.settings_sections import Network, Section

__all__ = ["MailSettings", "NotifySettings"]


class MailSettings(Section):
    """The mail server that takes what is sent by e-mail."""

    server: str = Field(
        default="", pattern=r"^$|^[A-Za-z0-9.\-]+:[0-9]{1,5}$|^\[[0-9A-Fa-f:.]+\]:[0-9]{1,5}$"
    )
    """Host and port, such as ``smtp.example.com:587``; empty: no e-mail is sent."""
    security: Literal["starttls", "tls", "none"] = "starttls"
    """TLS from STARTTLS on, from the first byte on (port 465), or none."""
    sender: str = Field(default="", pattern=r"^$|^[^\s@<>]+@[^\s@<>]+$", max_length=254)
    """Address that e-mail comes from."""
    user: str = ""
    """Name to log in with; empty: without."""
    password: SecretStr = SecretStr("")
    """Password to log in with."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.server and not self.sender:
            raise ValueError("sender: needed with server")
        if self.user and self.security == "none":
            raise ValueError("security: a password is not sent without TLS")
        return self

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.server.rpartition(":")
        return host.removeprefix("[").removesuffix("]"), int(port)


class NotifySettings(Section):
    """Who is told of events: webhooks and e-mail, which the portal sends."""

    location: str = Field(default="", max_length=200)
    """What messages of emergency calls say about where the callers are, such as street and floor."""
    callback: str = Field(default="", max_length=40)
    """The number in such messages for callers who have none that can be called back. Emergency calls of those
    who are neither proved nor registered go out under it; without it, under what they claim, unasserted."""
    private_networks: tuple[Network, ...] = ()
    """Networks in which receivers of webhooks may be, and by plain ``http:`` too; others only at public
    addresses, by ``https:``."""
    mail: MailSettings = MailSettings()
