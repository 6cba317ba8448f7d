"""Logging in: sessions, cookies, forged requests, lock-out, passwords."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape

import pytest

from proxy.errors import ConfigurationError
from proxy.portal.first_start import FIRST_NAME, make_first_account, reset_password
from proxy.portal.passwords import Passwords, one_time_password, weakness
from proxy.portal.portal import Portal
from proxy.store import PortalAccount, Role, Store
from tests.portal.conftest import Clock
from tests.portal.person import PASSWORD, Person, notice

Account = Callable[..., PortalAccount]
New = Callable[..., Person]


async def test_no_session_leads_to_the_login_and_back(person: New, account: Account) -> None:
    account(Role.PHONE_MANAGER)
    someone = person()
    answer = await someone.get("/codes?search=acme")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=%2Fcodes%3Fsearch%3Dacme")
    assert 'value="/codes?search=acme"' in (await someone.get(answer.headers["location"])).text
    answer = await someone.log_in("Phone_Manager", next="/codes?search=acme")
    assert (answer.status_code, answer.headers["location"]) == (303, "/codes?search=acme")
    assert (await someone.get("/codes")).status_code == 200
    assert (await someone.get("/login")).status_code == 303


async def test_a_part_of_a_page_without_session_leaves_the_page_where_it_is(person: New) -> None:
    answer = await person().get("/codes", **{"hx-request": "true"})
    assert (answer.status_code, answer.text) == (401, "")
    assert not {"hx-redirect", "location"} & set(answer.headers)
    answer = await person().post("/groups/try", {"number": "1"}, csrf="", **{"hx-request": "true"})
    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("referer", "following"),
    [
        ("https://portal.test/users/edit?extension=204", "?next=%2Fusers%2Fedit%3Fextension%3D204"),
        ("https://portal.test/groups/edit", "?next=%2Fgroups%2Fedit"),
        ("https://portal.test/users/save", ""),
        ("https://portal.test/nowhere", ""),
        ("https://portal.test//evil.test/", ""),
        ("https://evil.test/users", ""),
        ("/users", ""),
        ("https://[", ""),
        ("https://portal.test/", ""),
        ("", ""),
    ],
)
async def test_form_that_was_sent_without_session_is_come_back_to(
    person: New, referer: str, following: str
) -> None:
    answer = await person().post("/users/save", {"extension": "204"}, csrf="", referer=referer)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/login{following}")


@pytest.mark.parametrize(
    "elsewhere",
    ["https://evil.test/", "//evil.test", "/\\evil.test", "javascript:alert(1)", "/\r\nx: y", "evil"],
)
async def test_login_leads_to_no_other_site(person: New, account: Account, elsewhere: str) -> None:
    account(Role.PHONE_MANAGER)
    answer = await person().log_in("phone_manager", next=elsewhere)
    assert answer.headers["location"] == "/"


@pytest.mark.parametrize(
    ("address", "back"),
    [
        ("/codes?search=a%26b&page=2", "/codes?search=a%26b&page=2"),
        ("/codes?search=%22%3E%3Cb%3E", "/codes?search=%22%3E%3Cb%3E"),
        ("/codes", "/codes"),
        ("/codes?search=" + "x" * 90 + "&order=digits" * 40, "/codes"),
    ],
)
async def test_language_is_changed_on_the_page_as_it_is(manager: Person, address: str, back: str) -> None:
    page = await manager.get(address)
    assert page.status_code == 200
    form = page.text.partition('action="/preferences"')[2]
    found = re.search(r'name="next" value="([^"]*)"', form)
    assert found
    answer = await manager.post("/preferences", {"language": "de", "next": unescape(found[1])})
    assert (answer.status_code, answer.headers["location"]) == (303, back)


async def test_language_of_the_login_is_changed_and_it_leads_on(person: New) -> None:
    page = await person().get("/login?next=%2Fcodes%3Fpage%3D2")
    assert 'name="next" value="/login?next=%2Fcodes%3Fpage%3D2"' in page.text
    lost = await person().get("/login/oidc/nothing?code=secret")
    assert "secret" not in lost.text


async def test_cookie_is_kept_from_scripts_other_sites_and_plain_http(person: New, account: Account) -> None:
    account(Role.PHONE_MANAGER)
    cookie = (await person().log_in("phone_manager")).headers["set-cookie"]
    assert cookie.startswith("__Host-tollgate=")
    parts = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert parts == {"httponly", "secure", "samesite=lax", "path=/"}


async def test_every_login_gets_another_session_and_ends_the_last(person: New, account: Account) -> None:
    account(Role.PHONE_MANAGER)
    someone = person()
    await someone.log_in("phone_manager")
    before = someone.client.cookies["__Host-tollgate"]
    answer = await someone.post("/login", {"name": "phone_manager", "password": PASSWORD})
    assert answer.status_code == 303
    after = someone.client.cookies["__Host-tollgate"]
    assert after != before
    thief = person()
    thief.client.cookies.set("__Host-tollgate", before)
    assert (await thief.get("/codes")).status_code == 303


async def test_a_cookie_given_before_login_is_never_taken_over(person: New, account: Account) -> None:
    account(Role.PHONE_MANAGER)
    someone = person()
    someone.client.cookies.set("__Host-tollgate", "planted", domain="portal.test")
    answer = await someone.log_in("phone_manager")
    assert "planted" not in answer.headers["set-cookie"]


async def test_session_ends_when_idle_at_its_end_and_at_logout(manager: Person, clock: Clock) -> None:
    clock.now += 1_700
    assert (await manager.get("/codes")).status_code == 200
    clock.now += 1_700
    assert (await manager.get("/codes")).status_code == 200
    clock.now += 1_801
    assert (await manager.get("/codes")).status_code == 303
    await manager.log_in("phone_manager")
    cookie = manager.client.cookies["__Host-tollgate"]
    answer = await manager.post("/logout")
    assert answer.headers["location"] == "/login"
    assert "Max-Age=0" in answer.headers["set-cookie"]
    manager.client.cookies.set("__Host-tollgate", cookie)
    assert (await manager.get("/codes")).status_code == 303


async def test_session_ends_after_its_lifetime_however_busy(manager: Person, clock: Clock) -> None:
    statuses = []
    for _ in range(int(43_200 / 1_200)):
        clock.now += 1_200
        statuses.append((await manager.get("/")).status_code)
    assert statuses == [200] * 35 + [303]


async def test_disabled_account_is_out_at_once(manager: Person, store: Store) -> None:
    account = store.accounts.by_name("phone_manager")
    assert account
    store.accounts.change(replace(account, disabled=True), version=account.version)
    assert (await manager.get("/codes")).status_code == 303
    answer = await manager.log_in("phone_manager")
    assert (answer.status_code, notice(answer)) == (401, "Name or password is wrong.")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.test"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
async def test_other_sites_can_send_nothing(manager: Person, store: Store, headers: dict[str, str]) -> None:
    answer = await manager.post("/codes", {"code": "4711"}, **headers)
    assert answer.status_code == 403
    assert (await manager.post("/login", {"name": "x", "password": "y"}, **headers)).status_code == 403
    assert store.codes.count() == 0


@pytest.mark.parametrize("token", ["", "0" * 64, "é"])
async def test_change_needs_the_token_of_the_session(manager: Person, store: Store, token: str) -> None:
    answer = await manager.post("/codes", {"code": "4711", "csrf": token}, csrf="")
    assert answer.status_code == 403
    assert "Nothing was changed" in notice(answer)
    assert store.codes.count() == 0


async def test_token_of_another_session_is_refused(manager: Person, person: New, account: Account) -> None:
    account(Role.DECISION_MAKER)
    other = person()
    await other.log_in("decision_maker")
    assert (await manager.post("/codes", {"code": "4711"}, csrf=await other.csrf())).status_code == 403


async def test_token_in_the_header_serves_too(manager: Person, store: Store) -> None:
    answer = await manager.post("/codes", {"code": "4711"}, csrf="", **{"x-csrf-token": await manager.csrf()})
    assert answer.status_code == 303
    assert store.codes.count() == 1


async def test_lock_out_by_name_and_source(person: New, account: Account, clock: Clock) -> None:
    account(Role.PHONE_MANAGER)
    attacker, owner = person("198.51.100.9"), person("192.0.2.7")
    answers = [await attacker.log_in("phone_manager", f"guess {n}") for n in range(6)]
    assert [answer.status_code for answer in answers] == [401, 401, 401, 401, 429, 429]
    assert "Try again in" in notice(answers[-1])
    assert (await attacker.log_in("phone_manager")).status_code == 429  # the right one, but locked
    assert (await owner.log_in("phone_manager")).status_code == 303
    clock.now += 3_600
    assert (await attacker.log_in("phone_manager")).status_code == 303


async def test_names_that_do_not_exist_are_answered_and_locked_alike(person: New) -> None:
    someone = person()
    answers = [await someone.log_in("nobody", "guess") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [401, 401, 401, 401, 429, 429]
    assert notice(answers[0]) == "Name or password is wrong."


async def test_tries_side_by_side_are_no_more_tries(person: New, account: Account, store: Store) -> None:
    account(Role.PHONE_MANAGER)
    someone = person()
    await asyncio.gather(*(someone.log_in("phone_manager", f"guess {n}") for n in range(12)))
    assert (await someone.log_in("phone_manager")).status_code == 429


async def test_who_invents_names_has_so_many_tries_a_minute_and_others_log_in(
    person: New, account: Account, clock: Clock
) -> None:
    account(Role.PHONE_MANAGER)
    stranger = person("198.51.100.66")
    tries = [(await stranger.log_in(f"nobody {number}")).status_code for number in range(40)]
    assert tries == [401] * 30 + [429] * 10
    refused = await stranger.log_in("phone_manager")
    assert refused.status_code == 429, "no password is hashed for this source any more"
    assert notice(refused) == "Too many tries. Try again in 1 min."
    assert (await person("198.51.100.67").log_in("phone_manager")).status_code == 303
    clock.now += 60 / 30
    assert (await stranger.log_in("phone_manager")).status_code == 303, "what is right costs nothing"
    assert (await person("198.51.100.66").log_in("nobody else")).status_code == 401


async def test_ipv6_sources_count_by_their_network(person: New, account: Account) -> None:
    account(Role.PHONE_MANAGER)
    for number in range(5):
        await person(f"2001:db8::{number + 1}").log_in("phone_manager", "guess")
    assert (await person("2001:db8::ffff").log_in("phone_manager")).status_code == 429
    assert (await person("2001:db8:0:1::1").log_in("phone_manager")).status_code == 303


async def test_failed_login_is_logged_without_what_was_typed(
    person: New, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        await person().log_in("my password in the wrong field", "s3cret-typed")
    assert "192.0.2.7 failed" in caplog.text
    assert "s3cret" not in caplog.text
    assert "wrong field" not in caplog.text


async def test_hostile_names_and_passwords_are_wrong_ones(person: New, account: Account) -> None:
    account(Role.PHONE_MANAGER)
    for name, password in (
        ("phone_manager", "x" * 60_000),
        ("\0", "\0"),
        ("é" * 500, ""),
        ("' OR 1=1 --", "x"),
    ):
        assert (await person().log_in(name, password)).status_code == 401


async def test_too_many_at_once_are_told_to_come_back(
    person: New, account: Account, portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    account(Role.PHONE_MANAGER)
    monkeypatch.setattr("proxy.portal.passwords._MOST_WAITING", 0)
    answer = await person().log_in("phone_manager")
    assert answer.status_code == 503
    assert "few seconds" in notice(answer)


async def test_first_start_makes_one_decision_maker_who_has_to_set_a_password(
    person: New, store: Store, passwords: Passwords
) -> None:
    password = make_first_account(store, passwords)
    assert password is not None
    assert make_first_account(store, passwords) is None
    someone = person()
    answer = await someone.log_in(FIRST_NAME, password)
    assert answer.headers["location"] == "/password"
    for path in ("/", "/codes", "/codes/export"):
        answer = await someone.get(path)
        assert (answer.status_code, answer.headers["location"]) == (303, "/password")
    assert (await someone.post("/codes", {"code": "1"})).status_code == 303
    assert store.codes.count() == 0
    fields = {"old": password, "new": PASSWORD, "again": PASSWORD}
    answer = await someone.post("/password", dict(fields))
    assert answer.headers["location"] == "/password?said=changed"
    assert (await someone.get("/codes")).status_code == 200
    assert (await person().log_in(FIRST_NAME, password)).status_code == 401
    assert (await person().log_in(FIRST_NAME)).status_code == 303


async def test_a_lost_password_is_replaced_from_the_command_line(
    manager: Person, person: New, store: Store, passwords: Passwords
) -> None:
    password = reset_password(store, passwords, "PHONE_MANAGER")
    assert (await manager.get("/codes")).status_code == 303, "open sessions end"
    assert (await person().log_in("phone_manager", password)).headers["location"] == "/password"
    with pytest.raises(ConfigurationError, match="no portal account 'nobody'; there are: phone_manager"):
        reset_password(store, passwords, "nobody")


async def test_changed_password_ends_all_other_sessions(manager: Person, person: New) -> None:
    other = person()
    await other.log_in("phone_manager")
    before = manager.client.cookies["__Host-tollgate"]
    fields = {"old": PASSWORD, "new": "another long one", "again": "another long one"}
    answer = await manager.post("/password", dict(fields))
    assert answer.status_code == 303
    assert "changed" in notice(await manager.get(answer.headers["location"]))
    assert manager.client.cookies["__Host-tollgate"] != before
    assert (await other.get("/codes")).status_code == 303


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"old": "wrong"}, "password now is wrong"),
        ({"again": "something else"}, "not the same both times"),
        ({"new": "short", "again": "short"}, "at least 12"),
        ({"new": "x" * 300, "again": "x" * 300}, "at most 256"),
        ({"new": "aaaaaaaaaaaaab", "again": "aaaaaaaaaaaaab"}, "easy to guess"),
        ({"new": "PHONE_MANAGER", "again": "PHONE_MANAGER"}, "easy to guess"),
        ({"new": PASSWORD, "again": PASSWORD}, "is the old one"),
    ],
)
async def test_bad_new_passwords(manager: Person, fields: dict[str, str], complaint: str) -> None:
    answer = await manager.post(
        "/password", {"old": PASSWORD, "new": "another long one", "again": "another long one", **fields}
    )
    assert answer.status_code == 422
    assert complaint in notice(answer)


async def test_an_open_browser_is_no_place_to_guess_the_password(manager: Person) -> None:
    fields = {"old": "guess", "new": "another long one", "again": "another long one"}
    answers = [await manager.post("/password", dict(fields)) for _ in range(6)]
    assert answers[-1].status_code == 429


def test_one_time_passwords_are_accepted_and_differ() -> None:
    made = {one_time_password() for _ in range(50)}
    assert len(made) == 50
    assert not any(weakness(password, "admin") for password in made)


async def test_passwords_are_kept_as_argon2id(store: Store, account: Account) -> None:
    assert account(Role.PHONE_MANAGER).password_hash.startswith("$argon2id$")
    assert Passwords().hash_now("x").startswith("$argon2id$v=19$m=65536,t=3,p=4$")
