"""What a program's token is for. A route of the API asks for exactly one of these."""

from __future__ import annotations

import enum
from collections.abc import Collection

__all__ = ["GRANTABLE", "Scope", "unknown_scopes"]


class Scope(enum.StrEnum):
    """What a route asks for."""

    NONE = "none"
    """Nothing, no token either: the description of the API."""
    CODES_READ = "codes:read"
    """See account codes; without it codes are masked wherever else they stand."""
    CODES_WRITE = "codes:write"
    GROUPS_READ = "groups:read"
    GROUPS_WRITE = "groups:write"
    USERS_READ = "users:read"
    """See users, and which callers are locked."""
    USERS_WRITE = "users:write"
    """Change users, and let locked callers enter codes again."""
    USAGE_READ = "usage:read"
    REPORTS_READ = "reports:read"
    REPORTS_MAIL = "reports:mail"
    """Say which reports, statements and parts of the usage log are sent by e-mail, and to whom."""
    CALLS_READ = "calls:read"
    CALLS_HANGUP = "calls:hangup"
    ACCOUNTS_READ = "accounts:read"
    """See who may log in to the portal."""
    ACCOUNTS_WRITE = "accounts:write"
    """Say who may, which is everything: whoever has such a token can make a Decision Maker."""
    EXPLAIN = "explain"
    """Ask what would happen with a call."""


GRANTABLE = tuple(scope.value for scope in Scope if scope is not Scope.NONE)
"""What a token can be given."""


def unknown_scopes(scopes: Collection[str]) -> list[str]:
    """Return those that no token can be given."""
    return sorted(set(scopes) - set(GRANTABLE))
