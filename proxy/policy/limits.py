"""What the calls of a user group may come to: bounds for what a stolen phone or code can cost."""

from __future__ import annotations

from dataclasses import dataclass, fields

from proxy.errors import ConfigurationError

__all__ = ["NO_LIMITS", "CallLimits"]

_MOST = 1_000_000


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Bounds of paid calls: those that leave the house, toll-free and emergency calls excepted. 0: no
    bound."""

    caller_calls: int = 0
    """Calls of one caller at once."""
    code_calls: int = 0
    """Calls with one account code at once."""
    country_calls: int = 0
    """Calls of the whole group to one foreign country at once."""
    hourly_calls: int = 0
    """Calls of one caller within an hour."""
    talk_seconds: int = 0
    """Longest talk; the caller hears a warning tone a minute before its end."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0 <= getattr(self, field.name) <= _MOST:
                message = f"{field.name} must be 0 (no limit) to {_MOST}"
                raise ConfigurationError(message)

    @property
    def counted(self) -> bool:
        """Some calls have to be counted."""
        return bool(self.caller_calls or self.code_calls or self.country_calls or self.hourly_calls)


NO_LIMITS = CallLimits()
