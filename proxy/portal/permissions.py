"""Who may do what in the portal: the one table, and nothing else, says it."""

from __future__ import annotations

import enum

from proxy.store import PortalAccount, Role

__all__ = ["GRANTS", "Permission", "may", "may_see_codes"]


class Permission(enum.StrEnum):
    """What a route of the portal asks for."""

    PUBLIC = "public"
    """Nothing: no log-in either."""
    OWN_PASSWORD = "own_password"  # noqa: S105 - a name
    """To be logged in. All that is left to those who have to change their password first."""
    HOME = "home"
    CODES_VIEW = "codes_view"
    """See account codes with their digits."""
    CODES_CHANGE = "codes_change"
    LIVE_VIEW = "live_view"
    """See live calls; users see their own."""
    CALLS_HANG_UP = "calls_hang_up"
    """End other people's calls, and know of every emergency call at once."""
    USERS_VIEW = "users_view"
    USERS_CHANGE = "users_change"
    GROUPS_VIEW = "groups_view"
    GROUPS_CHANGE = "groups_change"
    """A Decision Maker's; a Phone Manager's who was granted it."""
    TRUNKS_VIEW = "trunks_view"
    USAGE_VIEW = "usage_view"
    """See the usage log; users see their own calls in it."""
    USAGE_ALL = "usage_all"
    """See everybody's calls, with what only engineers need."""
    RECORDS_CORRECT = "records_correct"
    """Set the account code of a finished call."""
    REPORTS_VIEW = "reports_view"
    REPORTS_MAIL = "reports_mail"
    """Have reports sent by e-mail."""
    AUDIT_VIEW = "audit_view"
    TOKENS = "tokens"
    """Let programs ask the API."""
    WEBHOOKS = "webhooks"
    """Say who is told of events."""
    ACCOUNTS = "accounts"
    """Say who may log in, and as what."""


_ALL = frozenset(Role)
_MANAGERS = frozenset({Role.DECISION_MAKER, Role.PHONE_MANAGER})

_TABLE: dict[Permission, frozenset[Role]] = {
    Permission.OWN_PASSWORD: _ALL,
    Permission.HOME: _ALL,
    Permission.CODES_VIEW: _MANAGERS,
    Permission.CODES_CHANGE: _MANAGERS,
    Permission.LIVE_VIEW: _MANAGERS | {Role.USER},
    Permission.CALLS_HANG_UP: _MANAGERS,
    Permission.USERS_VIEW: _MANAGERS,
    Permission.USERS_CHANGE: _MANAGERS,
    Permission.GROUPS_VIEW: _MANAGERS,
    Permission.GROUPS_CHANGE: frozenset({Role.DECISION_MAKER}),
    Permission.TRUNKS_VIEW: _MANAGERS,
    Permission.USAGE_VIEW: _ALL,
    Permission.USAGE_ALL: _ALL - {Role.USER},
    Permission.RECORDS_CORRECT: _MANAGERS,
    Permission.REPORTS_VIEW: frozenset({Role.DECISION_MAKER, Role.BILLING_CONTACT}),
    Permission.REPORTS_MAIL: frozenset({Role.DECISION_MAKER, Role.BILLING_CONTACT}),
    Permission.AUDIT_VIEW: frozenset({Role.DECISION_MAKER}),
    Permission.TOKENS: frozenset({Role.DECISION_MAKER}),
    Permission.WEBHOOKS: frozenset({Role.DECISION_MAKER}),
    Permission.ACCOUNTS: frozenset({Role.DECISION_MAKER}),
}

GRANTS = {"groups_write": Role.PHONE_MANAGER, "see_codes": Role.BILLING_CONTACT}
"""What an account may be granted besides, and to whom that means anything."""


def may(account: PortalAccount | None, permission: Permission) -> bool:
    """Whether an account (None: nobody is logged in) has a permission."""
    if permission is Permission.PUBLIC:
        return True
    if account is None or account.disabled:
        return False
    if account.must_change and permission is not Permission.OWN_PASSWORD:
        return False
    if permission is Permission.GROUPS_CHANGE and account.role is Role.PHONE_MANAGER:
        return account.groups_write
    return account.role in _TABLE[permission]


def may_see_codes(account: PortalAccount) -> bool:
    """Whether an account sees the digits of codes: managers, and Billing Contacts who were granted it.

    Not users, on their own calls neither: somebody else's code may be on a call that they answered.
    """
    granted = account.role is Role.BILLING_CONTACT and account.see_codes
    return may(account, Permission.CODES_VIEW) or granted
