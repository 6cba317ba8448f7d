"""Users: extensions with a group, a caller number and digest credentials."""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.errors import ConfigurationError
from proxy.policy.dial_string import emergency_readings
from proxy.policy.number_plan import NumberPlan

__all__ = ["DigestCredential", "User", "refuse_emergency_user"]

_TOKEN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.!~*'+")
_HA1_LENGTHS = {"SHA-256": 64, "SHA-512-256": 64, "MD5": 32}


@dataclass(frozen=True, slots=True)
class DigestCredential:
    """H(username:realm:password) of one algorithm and realm (RFC 7616 §3.4.2); no password is stored."""

    algorithm: str
    """``SHA-256``, ``SHA-512-256`` or ``MD5`` (RFC 8760 §2.1)."""
    realm: str
    ha1: str = field(repr=False)
    """Lower-case hexadecimal."""

    def __post_init__(self) -> None:
        length = _HA1_LENGTHS.get(self.algorithm)
        if length is None:
            message = f"digest algorithm {self.algorithm!r}: use one of {', '.join(_HA1_LENGTHS)}"
            raise ConfigurationError(message)
        if len(self.ha1) != length or not set(self.ha1) <= set("0123456789abcdef"):
            message = f"digest HA1 for {self.algorithm}: must be {length} lower-case hexadecimal digits"
            raise ConfigurationError(message)


@dataclass(frozen=True, slots=True)
class User:
    """One extension. `group` names its user group."""

    extension: str
    group: str
    name: str = ""
    """Display name for records."""
    caller_number: str = ""
    """Its number as the outside world sees it, in any dress; also recognises it behind a peer."""
    digest_name: str = ""
    """User name in digest authentication; "" means the extension."""
    credentials: tuple[DigestCredential, ...] = ()
    enabled: bool = True

    def __post_init__(self) -> None:
        if not 1 <= len(self.extension) <= 20 or not (self.extension.isascii() and self.extension.isdigit()):
            message = f"extension {self.extension!r}: write 1 to 20 digits"
            raise ConfigurationError(message)
        if not self.digest_name:
            object.__setattr__(self, "digest_name", self.extension)
        if len(self.digest_name) > 64 or not _TOKEN.issuperset(self.digest_name):
            message = f"user {self.extension}: digest name may hold 1 to 64 letters, digits and -_.!~*'+ only"
            raise ConfigurationError(message)
        if len(self.name) > 128 or not self.name.isprintable():
            message = f"user {self.extension}: name may hold at most 128 printable characters"
            raise ConfigurationError(message)
        if len(self.caller_number) > 64 or not self.caller_number.isprintable():
            message = f"user {self.extension}: caller number may hold at most 64 printable characters"
            raise ConfigurationError(message)
        if not self.group:
            message = f"user {self.extension}: group is missing"
            raise ConfigurationError(message)

    @property
    def outside_number(self) -> str:
        """What it calls from where extensions mean nothing: its caller number undressed, if it has one."""
        undressed = "".join(char for char in self.caller_number if char in "+0123456789*")
        return undressed or self.extension

    def credential(self, algorithm: str, realm: str) -> DigestCredential | None:
        """Return the stored HA1 for an algorithm and realm, or None when the user may not use it."""
        for credential in self.credentials:
            if credential.algorithm == algorithm and credential.realm == realm:
                return credential
        return None


def refuse_emergency_user(user: User, plan: NumberPlan) -> None:
    """Raise ConfigurationError when nobody could call a user, because that places an emergency call."""
    for what, text in (("extension", user.extension), ("caller number", user.caller_number)):
        if any(plan.emergency(reading) is not None for reading in emergency_readings(text)):
            message = f"{what} {text}: dialled, it is an emergency number"
            raise ConfigurationError(message)
