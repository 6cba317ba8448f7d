"""Accounts, sessions and tokens of the portal on a real SQLite file."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from proxy.errors import ConfigurationError
from proxy.store import (
    Actor,
    LockoutRules,
    LoginGuard,
    PortalAccount,
    Role,
    Store,
    VersionConflict,
    secret_hash,
)
from tests.store.behind import all_that_lies_in

NOW = 1_800_000_000.0
CHIEF = PortalAccount("Chief", Role.DECISION_MAKER, "$argon2id$chief")
MANAGER = PortalAccount("manager", Role.PHONE_MANAGER, "$argon2id$manager")


@pytest.fixture
def chief(store: Store) -> PortalAccount:
    return store.accounts.add(CHIEF, now=NOW)


def test_an_account_comes_back_by_id_and_by_name_in_any_case(store: Store, chief: PortalAccount) -> None:
    assert (chief.id, chief.version, chief.created_at) == (1, 1, NOW)
    assert store.accounts.get(1) == chief
    assert store.accounts.by_name(" cHIEF ") == chief
    assert store.accounts.by_name("nobody") is None
    assert store.accounts.get(2) is None
    assert store.accounts.all() == [chief]


def test_secrets_are_in_no_repr_and_in_no_audit_row(store: Store, chief: PortalAccount) -> None:
    store.accounts.set_totp(chief.id, "JBSWY3DPEHPK3PXP")
    store.accounts.set_password(chief.id, "$argon2id$other", now=NOW)
    found = store.accounts.get(chief.id)
    told = repr(found) + repr(store.audit.page())
    assert "argon2id" not in told
    assert "JBSWY3DPEHPK3PXP" not in told


@pytest.mark.parametrize(
    ("name", "role", "extension"),
    [
        ("", Role.DECISION_MAKER, ""),
        (" a", Role.DECISION_MAKER, ""),
        ("a\n", Role.DECISION_MAKER, ""),
        ("a" * 65, Role.DECISION_MAKER, ""),
        ("\ufb03" * 30, Role.DECISION_MAKER, ""),
        ("a", Role.USER, ""),
        ("a", Role.PHONE_MANAGER, "204"),
    ],
)
def test_what_is_no_account_is_refused(name: str, role: Role, extension: str) -> None:
    with pytest.raises(ConfigurationError):
        PortalAccount(name, role, "x", extension)


def test_a_name_is_taken_in_any_case(store: Store, chief: PortalAccount) -> None:
    with pytest.raises(ConfigurationError, match="'Chief' exists already"):
        store.accounts.add(replace(CHIEF, name="CHIEF"), now=NOW)


def test_only_one_process_makes_the_first_account(store: Store, url: str) -> None:
    made: list[PortalAccount | None] = []

    def work(name: str) -> None:
        with Store(url) as other:
            made.append(other.accounts.add_first(replace(CHIEF, name=name), now=NOW))

    threads = [threading.Thread(target=work, args=(f"chief{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([account for account in made if account is not None]) == 1
    assert len(store.accounts.all()) == 1


def test_the_second_of_two_administrators_sees_what_the_first_did(store: Store, chief: PortalAccount) -> None:
    manager = store.accounts.add(MANAGER, now=NOW)
    first = store.accounts.change(replace(manager, groups_write=True), version=manager.version)
    with pytest.raises(VersionConflict) as caught:
        store.accounts.change(replace(manager, disabled=True), version=manager.version)
    assert caught.value.current == first
    assert store.accounts.get(manager.id) == first
    assert store.accounts.change(first, version=first.version) == first
    with pytest.raises(ConfigurationError, match="does not exist"):
        store.accounts.change(replace(manager, id=99), version=1)


@pytest.mark.parametrize("change", [{"disabled": True}, {"role": Role.PHONE_MANAGER}])
def test_the_last_decision_maker_stays(
    store: Store, chief: PortalAccount, change: dict[str, bool | Role]
) -> None:
    with pytest.raises(ConfigurationError, match="last Decision Maker"):
        store.accounts.change(replace(chief, **change), version=1)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="last Decision Maker"):
        store.accounts.delete(chief.id)
    store.accounts.add(replace(CHIEF, name="other"), now=NOW)
    store.accounts.change(replace(chief, **change), version=1)  # type: ignore[arg-type]
    store.accounts.delete(chief.id)
    assert [account.name for account in store.accounts.all()] == ["other"]


def test_a_session_is_found_until_it_ends(store: Store, chief: PortalAccount) -> None:
    cookie = store.sessions.open(chief.id, source="192.0.2.1", now=NOW, lifetime=3600)
    found = store.sessions.find(cookie, now=NOW + 1, idle=600)
    assert found is not None
    assert found.account == chief
    assert (found.created_at, found.expires_at, found.source) == (NOW, NOW + 3600, "192.0.2.1")
    assert cookie not in repr(found)
    assert found.csrf_secret not in repr(found)
    assert store.sessions.find("guess", now=NOW, idle=600) is None
    assert store.sessions.find(found.session_hash, now=NOW, idle=600) is None
    assert store.sessions.find(cookie, now=NOW + 601, idle=600) is None
    assert store.sessions.find(cookie, now=NOW + 500, idle=600) is not None
    assert store.sessions.find(cookie, now=NOW + 1000, idle=600) is not None
    assert store.sessions.find(cookie, now=NOW + 3600, idle=10_000) is None
    store.sessions.close(cookie)
    assert store.sessions.find(cookie, now=NOW + 1001, idle=600) is None


def test_neither_cookie_nor_token_lies_in_the_store(store: Store, url: str, chief: PortalAccount) -> None:
    cookie = store.sessions.open(chief.id, source="", now=NOW, lifetime=3600)
    secret, _ = store.tokens.add("billing", ["usage:read"], now=NOW)
    store.close()
    dump = all_that_lies_in(url)
    assert cookie not in dump
    assert secret not in dump
    assert secret_hash(cookie) in dump


@pytest.mark.parametrize("what", ["password", "disabled", "role", "deleted"])
def test_what_takes_rights_away_ends_sessions(store: Store, chief: PortalAccount, what: str) -> None:
    manager = store.accounts.add(MANAGER, now=NOW)
    cookie = store.sessions.open(manager.id, source="", now=NOW, lifetime=3600)
    other = store.sessions.open(chief.id, source="", now=NOW, lifetime=3600)
    if what == "password":
        store.accounts.set_password(manager.id, "x", now=NOW)
    elif what == "disabled":
        store.accounts.change(replace(manager, disabled=True), version=1)
    elif what == "role":
        store.accounts.change(replace(manager, role=Role.BILLING_CONTACT), version=1)
    else:
        store.accounts.delete(manager.id)
    assert store.sessions.find(cookie, now=NOW, idle=600) is None
    assert store.sessions.find(other, now=NOW, idle=600) is not None


def test_another_password_or_second_factor_ends_every_session(store: Store, chief: PortalAccount) -> None:
    cookie = store.sessions.open(chief.id, source="", now=NOW, lifetime=3600)
    changed = store.accounts.set_password(chief.id, "$new", now=NOW + 5)
    assert (changed.password_hash, changed.password_changed_at) == ("$new", NOW + 5)
    assert store.sessions.find(cookie, now=NOW, idle=600) is None
    cookie = store.sessions.open(chief.id, source="", now=NOW, lifetime=3600)
    store.accounts.set_totp(chief.id, "SECRET")
    assert store.sessions.find(cookie, now=NOW, idle=600) is None


def test_ended_sessions_are_forgotten(store: Store, chief: PortalAccount) -> None:
    for number in range(5):
        store.sessions.open(chief.id, source="", now=NOW + number, lifetime=1)
    with store.database.read() as connection:
        count = connection.exec_driver_sql("SELECT count(*) FROM portal_sessions").scalar()
    assert count == 1


def test_a_page_does_not_fail_while_an_import_holds_the_store(store: Store, chief: PortalAccount) -> None:
    cookie = store.sessions.open(chief.id, source="", now=NOW, lifetime=3600)
    with store.database.write():
        found = store.sessions.find(cookie, now=NOW + 100, idle=600)
    assert found is not None


def test_rfc6238_5_2_a_one_time_password_is_taken_once(store: Store, chief: PortalAccount) -> None:
    assert store.accounts.set_totp(chief.id, "JBSWY3DPEHPK3PXP").totp_secret
    assert store.accounts.use_totp_step(chief.id, 100)
    assert not store.accounts.use_totp_step(chief.id, 100)
    assert not store.accounts.use_totp_step(chief.id, 99)
    assert store.accounts.use_totp_step(chief.id, 101)
    assert not store.accounts.set_totp(chief.id, "").totp_secret
    assert store.accounts.use_totp_step(chief.id, 1)
    assert not store.accounts.use_totp_step(99, 1)


def test_a_name_is_locked_for_its_source_alone(store: Store) -> None:
    guard = store.logins
    locks = [guard.failed("chief", "192.0.2.1", now=NOW) for _ in range(7)]
    assert locks == [0, 0, 0, 0, 60, 120, 240]
    assert guard.locked_for("CHIEF", "192.0.2.1", now=NOW + 100) == 140
    assert guard.locked_for("chief", "192.0.2.1", now=NOW + 240) == 0
    assert guard.locked_for("chief", "192.0.2.2", now=NOW) == 0
    assert guard.locked_for("other", "192.0.2.1", now=NOW) == 0
    assert [guard.failed("chief", "192.0.2.1", now=NOW) for _ in range(30)][-1] == 3600
    guard.succeeded("chief", "192.0.2.1")
    assert guard.failed("chief", "192.0.2.1", now=NOW) == 0


def test_old_failures_count_no_more(store: Store) -> None:
    for _ in range(4):
        store.logins.failed("chief", "a", now=NOW)
    assert store.logins.failed("chief", "a", now=NOW + 25 * 3600) == 0


def test_a_flood_of_names_fills_no_table(store: Store, url: str) -> None:
    guard = LoginGuard(store.database, LockoutRules(most_rows=10))
    for number in range(50):
        guard.failed(f"hunter{number}", "192.0.2.1", now=NOW + number)
    with store.database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM login_failures").scalar() == 10
    store.close()
    dump = all_that_lies_in(url)
    assert "hunter" not in dump


def test_a_token_is_shown_once_and_found_by_its_secret(store: Store) -> None:
    acting = store.acting(Actor("anna", "decision_maker"))
    secret, token = acting.tokens.add("billing", ["usage:read", "codes"], now=NOW, expires_at=NOW + 60)
    assert token.scopes == {"usage:read", "codes"}
    assert (token.created_by, token.last_used_at) == ("anna", None)
    assert store.tokens.find(secret, now=NOW + 10) == token
    used = store.tokens.find(secret, now=NOW + 11)
    assert used is not None
    assert used.last_used_at == NOW + 10
    assert store.tokens.find(secret, now=NOW + 60) is None
    assert store.tokens.find("tollgate_guess", now=NOW) is None
    assert [found.name for found in store.tokens.all()] == ["billing"]
    acting.tokens.delete(token.id)
    assert store.tokens.find(secret, now=NOW) is None
    with pytest.raises(ConfigurationError, match="does not exist"):
        acting.tokens.delete(token.id)
    assert [entry.action for entry in store.audit.page()] == ["delete", "add"]


@pytest.mark.parametrize(
    ("name", "scopes", "expires_at"),
    [
        ("", ["codes"], None),
        ("a\nb", ["codes"], None),
        ("a" * 65, ["codes"], None),
        ("a", [], None),
        ("a", ["Codes!"], None),
        ("a", ["codes"], NOW),
        ("taken", ["codes"], None),
    ],
)
def test_what_is_no_token_is_refused(
    store: Store, name: str, scopes: list[str], expires_at: float | None
) -> None:
    store.tokens.add("taken", ["codes"], now=NOW)
    with pytest.raises(ConfigurationError):
        store.tokens.add(name, scopes, now=NOW, expires_at=expires_at)


def test_a_row_that_cannot_be_read_is_unavailable(store: Store, chief: PortalAccount) -> None:
    from proxy.store import StoreUnavailable

    store.tokens.add("billing", ["codes"], now=NOW)
    with store.database.write() as connection:
        connection.exec_driver_sql("UPDATE portal_accounts SET role = 'king'")
        connection.exec_driver_sql("UPDATE api_tokens SET scopes = '{'")
    with pytest.raises(StoreUnavailable, match="account"):
        store.accounts.all()
    with pytest.raises(StoreUnavailable, match="token"):
        store.tokens.all()
