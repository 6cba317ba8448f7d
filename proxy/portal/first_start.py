"""The first account, and the way back in for who has lost his password."""

from __future__ import annotations

import time

from proxy.errors import ConfigurationError
from proxy.portal.passwords import Passwords, one_time_password
from proxy.store import PortalAccount, Role, Store

__all__ = ["FIRST_NAME", "make_first_account", "reset_password"]

FIRST_NAME = "admin"


def make_first_account(store: Store, passwords: Passwords) -> str | None:
    """Make a Decision Maker where there is no account yet.

    Returns its one-time password, which is kept nowhere; None when there are accounts.
    """
    if store.accounts.all():
        return None  # asked first: a hash costs a tenth of a second
    password = one_time_password()
    account = PortalAccount(
        FIRST_NAME, Role.DECISION_MAKER, password_hash=passwords.hash_now(password), must_change=True
    )
    return None if store.accounts.add_first(account, now=time.time()) is None else password


def reset_password(store: Store, passwords: Passwords, name: str) -> str:
    """Give an account another one-time password and return it. Raises `ConfigurationError`."""
    account = store.accounts.by_name(name)
    if account is None:
        known = ", ".join(account.name for account in store.accounts.all()) or "none yet"
        message = f"there is no portal account {name!r}; there are: {known}"
        raise ConfigurationError(message)
    password = one_time_password()
    password_hash = passwords.hash_now(password)
    store.accounts.set_password(account.id, password_hash, now=time.time(), must_change=True)
    return password
