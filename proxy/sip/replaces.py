"""The Replaces header: which dialog an INVITE is to take the place of (RFC 3891 §6.1)."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.errors import RemoteProtocolError
from proxy.sip.grammar import is_token
from proxy.sip.headers import Headers

__all__ = ["Replaces", "replaces_of"]


@dataclass(frozen=True, slots=True)
class Replaces:
    """One dialog, as the UA that receives the INVITE knows it."""

    call_id: str
    to_tag: str
    """The tag of the UA that receives the INVITE."""
    from_tag: str
    """The tag of its peer."""
    early_only: bool = False
    """Only if nobody has answered yet."""

    @staticmethod
    def parse(text: str) -> Replaces:
        """Parse one value; raises `RemoteProtocolError` (400)."""
        call_id, *parameters = (part.strip() for part in text.split(";"))
        tags: dict[str, str] = {}
        early_only = False
        for parameter in parameters:
            name, equals, value = (part.strip() for part in parameter.partition("="))
            name = name.lower()
            if name == "early-only" and not equals:
                early_only = True
            elif name in {"to-tag", "from-tag"}:
                if name in tags or not is_token(value):
                    raise RemoteProtocolError("Replaces with a tag that is malformed or given twice")
                tags[name] = value
        if not call_id or not call_id.isprintable() or " " in call_id or len(tags) != 2:
            raise RemoteProtocolError("Replaces without a Call-ID and two tags")
        # §6.1: the tag "0" stands for none, as peers of RFC 2543 have it.
        to_tag, from_tag = ("" if tags[name] == "0" else tags[name] for name in ("to-tag", "from-tag"))
        return Replaces(call_id, to_tag, from_tag, early_only)

    def __str__(self) -> str:
        early = ";early-only" if self.early_only else ""
        return f"{self.call_id};to-tag={self.to_tag or '0'};from-tag={self.from_tag or '0'}{early}"


def replaces_of(headers: Headers) -> Replaces | None:
    """Return the one Replaces of an INVITE, if it has one; raises `RemoteProtocolError` (400).

    More than one, or one beside Join, is an error of the sender (§3, RFC 3911 §4).
    """
    lines = headers.get_all("Replaces")
    if not lines:
        return None
    if len(lines) > 1 or "Join" in headers:
        raise RemoteProtocolError("more than one dialog to replace")
    return Replaces.parse(lines[0])
