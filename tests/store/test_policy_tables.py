"""Codes, groups and users in the store."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from proxy.errors import ConfigurationError
from proxy.policy import (
    AccountCode,
    CallClass,
    ClassOfService,
    CodeCollection,
    CodeOwner,
    NumberPlan,
    OwnerKind,
    Treatment,
    User,
    UserGroup,
    new_code,
    parse_patterns,
)
from proxy.store import (
    CodeOrder,
    Store,
    StoreUnavailable,
    digest_credentials,
    generate_password,
    seed_example_data,
)
from proxy.store.changes import current_version
from proxy.store.codes import UpsertResult

SERVICE = ClassOfService(
    frozenset({CallClass.LOCAL, CallClass.NATIONAL}), parse_patterns(["1900."]), parse_patterns(["+49!"])
)
GROUP = UserGroup(
    "Büro 1",
    permissions=SERVICE,
    collection=CodeCollection.OPTIONAL,
    unlock=SERVICE,
    edited={CallClass.INTERNATIONAL: Treatment.REQUIRED_CODE},
    tries=5,
    first_digit=4.5,
    fixed_length=6,
    prompts="german",
)
USER = User(
    "204",
    GROUP.name,
    "Phone 204",
    "+12125550123",
    "desk",
    digest_credentials("desk", "example.com", "s3cret"),
)


def _version(store: Store) -> int:
    with store.database.read() as connection:
        return current_version(connection)


@pytest.fixture
def people(store: Store) -> Store:
    store.groups.add(GROUP)
    store.users.add(USER)
    return store


def test_groups_and_users_come_back_as_they_were(people: Store) -> None:
    assert people.groups.get(GROUP.name) == GROUP
    assert people.groups.all() == [GROUP]
    assert people.users.get("204") == USER
    assert people.users.all(group=GROUP.name) == [USER]
    assert people.users.all(group="other") == []
    assert people.groups.get("none") is None
    assert people.users.get("999") is None


def test_passwords_are_kept_as_ha1_only(people: Store) -> None:
    with people.database.read() as connection:
        row = str(connection.exec_driver_sql("SELECT * FROM users").one())
    assert "s3cret" not in row
    # RFC 7616 §3.9.1: the example's user, realm and password.
    sha, md5 = digest_credentials("Mufasa", "http-auth@example.org", "Circle of Life")
    assert md5.ha1 == "3d78807defe7de2157e2b0b6573a855f"
    assert sha.algorithm == "SHA-256"
    assert len(digest_credentials("a", "b", "c", md5=False)) == 1
    assert len({generate_password() for _ in range(100)}) == 100


def test_changes_of_groups_and_users_are_logged(people: Store) -> None:
    before = _version(people)
    people.groups.change(replace(GROUP, tries=2))
    people.users.change(replace(USER, enabled=False))
    people.users.delete_many(["204"])
    people.groups.delete(GROUP.name)
    assert _version(people) == before + 4
    assert people.groups.all() == []


def test_what_is_wrong_with_groups_and_users_is_named(people: Store) -> None:
    with pytest.raises(ConfigurationError, match="group 'Büro 1' exists already"):
        people.groups.add(GROUP)
    with pytest.raises(ConfigurationError, match="group 'none' does not exist"):
        people.groups.change(UserGroup("none"))
    with pytest.raises(ConfigurationError, match="group 'none' does not exist"):
        people.groups.delete("none")
    with pytest.raises(ConfigurationError, match="user 204 exists already"):
        people.users.add(USER)
    with pytest.raises(ConfigurationError, match="group 'none' does not exist"):
        people.users.add(User("205", "none"))
    with pytest.raises(ConfigurationError, match="digest name 'desk' is that of user 204"):
        people.users.add(User("205", GROUP.name, digest_name="desk"))
    with pytest.raises(ConfigurationError, match="user 205 does not exist"):
        people.users.change(User("205", GROUP.name))
    with pytest.raises(ConfigurationError, match="user 205 does not exist"):
        people.users.delete_many(["204", "205"])
    assert people.users.get("204") == USER


def test_users_whose_numbers_may_be_the_same_are_found_by_their_ends(people: Store) -> None:
    numbers = {
        "1001": "tel:+1-415-555-0104;phone-context=+1",
        "1002": "sip:4155550104@pbx9.example",
        "1003": "5550105",
        "5550104": "",
        "7": "1001",
    }
    for extension, number in numbers.items():
        people.users.add(User(extension, GROUP.name, caller_number=number))

    def alike(extension: str, number: str) -> list[str]:
        found = people.users.ending_alike(User(extension, GROUP.name, caller_number=number))
        return [user.extension for user in found]

    assert alike("3", "(415) 555-0104") == ["1001", "1002", "5550104"]
    assert alike("1001", "") == ["1001", "7"]
    assert alike("9", "") == []


def test_a_group_or_user_in_use_cannot_be_deleted(people: Store) -> None:
    people.codes.add(AccountCode("11", owner=CodeOwner(OwnerKind.GROUP, GROUP.name)))
    people.codes.add(AccountCode("12", owner=CodeOwner(OwnerKind.USER, "204")))
    with pytest.raises(ConfigurationError, match=r"1 user\(s\) and 1 account code\(s\) belong to it"):
        people.groups.delete(GROUP.name)
    with pytest.raises(ConfigurationError, match=r"user 204 can't be deleted: 1 account code\(s\)"):
        people.users.delete_many(["204"])


def test_a_code_comes_back_as_it_was(people: Store, plan: NumberPlan) -> None:
    template = AccountCode(
        "",
        enabled=False,
        valid_from=date(2026, 1, 1),
        valid_until=date(2026, 12, 31),
        owner=CodeOwner(OwnerKind.USER, "204"),
        class_of_service=SERVICE,
        max_uses=3,
    )
    code = new_code("ACME-12/7", "Acme", plan=plan, template=template)
    people.codes.add(code)
    assert people.codes.get("acme 127") == code
    assert people.codes.get("9999") is None
    changed = replace(code, enabled=True, description="Acme Ltd")
    people.codes.save(changed)
    assert people.codes.get("2263127") == changed


def test_codes_that_dial_the_same_are_refused_with_both_named(store: Store, plan: NumberPlan) -> None:
    store.codes.add(new_code("ACME", plan=plan))
    with pytest.raises(ConfigurationError, match="codes 2263 and ACME both dial 2263"):
        store.codes.add(new_code("2263", plan=plan))
    with pytest.raises(ConfigurationError, match="codes AB and 22 both dial 22"):
        store.codes.upsert_many([new_code("22", plan=plan), new_code("AB", plan=plan)], may_update=True)
    with pytest.raises(ConfigurationError, match="group 'none' does not exist"):
        store.codes.add(AccountCode("33", owner=CodeOwner(OwnerKind.GROUP, "none")))


def test_a_bulk_upsert_is_all_or_nothing(store: Store) -> None:
    store.codes.add(AccountCode("5000"))
    version = _version(store)
    many = [AccountCode(str(number)) for number in range(1000, 6000)]
    with pytest.raises(ConfigurationError, match="code 5000 exists already"):
        store.codes.upsert_many(many, may_update=False)
    assert (store.codes.count(), _version(store)) == (1, version)


def test_a_bulk_upsert_counts_and_reports_progress(store: Store) -> None:
    store.codes.upsert_many([AccountCode("1"), AccountCode("2")], may_update=False)
    seen: list[tuple[int, int]] = []
    many = [
        AccountCode("1"),
        AccountCode("2", description="new"),
        *(AccountCode(f"7{n}") for n in range(3000)),
    ]
    dry = store.codes.upsert_many(many, may_update=True, dry_run=True)
    assert store.codes.count() == 2
    result = store.codes.upsert_many(
        many, may_update=True, progress=lambda done, total: seen.append((done, total))
    )
    assert result == dry == UpsertResult(added=3000, changed=1, unchanged=1)
    assert seen == [(2000, 3001), (3001, 3001)]
    version = _version(store)
    assert store.codes.upsert_many(many, may_update=True).unchanged == 3002
    assert _version(store) == version


def test_codes_are_listed_by_search_and_page(store: Store, plan: NumberPlan) -> None:
    typed = (("ACME-12/7", "Acme"), ("1234", "100 % general"), ("99", "zebra"))
    store.codes.upsert_many([new_code(code, text, plan=plan) for code, text in typed], may_update=False)

    def found(search: str) -> list[str]:
        assert store.codes.count(search) == len(store.codes.page(search))
        return [code.form for code in store.codes.page(search)]

    assert found("") == ["1234", "ACME-12/7", "99"]
    assert found("acme") == ["ACME-12/7"]
    assert found("127") == ["ACME-12/7"]
    assert found("100 %") == ["1234"]
    assert found("%") == ["1234"]
    assert found("#") == []
    newest = store.codes.page(order=CodeOrder.NEWEST)
    assert [code.form for code in newest] == ["99", "1234", "ACME-12/7"]
    by_text = store.codes.page(order=CodeOrder.DESCRIPTION, descending=True, offset=1, limit=1)
    assert [code.description for code in by_text] == ["Acme"]


def test_codes_are_streamed_and_deleted(store: Store) -> None:
    many = [AccountCode(str(number)) for number in range(10_000, 15_000)]
    store.codes.upsert_many(many, may_update=False)
    assert list(store.codes.stream()) == many
    with pytest.raises(ConfigurationError, match="code 7 does not exist"):
        store.codes.delete_many(["10000", "7"])
    assert store.codes.delete_many([code.digits for code in many]) == 5000
    version = _version(store)
    assert store.codes.delete_many([]) == 0
    assert (store.codes.count(), _version(store)) == (0, version)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE groups SET rules = '{}'",
        "UPDATE groups SET rules = 'x'",
        "UPDATE users SET credentials = '[[1]]'",
        "UPDATE account_codes SET class_of_service = '[]'",
    ],
)
def test_a_row_that_cannot_be_read_is_unavailable(people: Store, statement: str) -> None:
    people.codes.add(AccountCode("11"))
    with people.database.write() as connection:
        connection.exec_driver_sql(statement)
    with pytest.raises(StoreUnavailable, match="can't be read"):
        (people.groups.all(), people.users.all(), people.codes.page())


def test_example_data_fill_an_empty_store_once(store: Store, plan: NumberPlan) -> None:
    made = seed_example_data(store, plan, realm="example.com")
    assert [user.extension for user in made] == ["201", "202", "203", "204"]
    assert made[0].password not in repr(made)
    user = store.users.get("204")
    assert user is not None
    assert user.credentials == digest_credentials("204", "example.com", made[3].password)
    assert store.codes.get("ACME-12/7") is not None
    assert {group.collection for group in store.groups.all()} == set(CodeCollection)
    assert seed_example_data(store, plan, realm="example.com") == ()
