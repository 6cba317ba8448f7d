"""The audit log: every change in its own transaction, no row to be changed, every tampering found."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.cli import run
from proxy.errors import ConfigurationError
from proxy.policy import AccountCode, User, UserGroup
from proxy.store import Actor, AuditEntry, AuditFilter, AuditHead, Store, StoreUnavailable
from proxy.store.audit import masked_code, write_audit
from tests.store.behind import tamper

ANNA = Actor("anna", "decision_maker", "192.0.2.7")


@pytest.fixture
def anna(store: Store) -> Store:
    return store.acting(ANNA)


def _tell(store: Store, count: int) -> None:
    with store.database.write() as connection:
        for number in range(count):
            write_audit(connection, ANNA, "change", "group", f"g{number}", after={"tries": number})


def _last(store: Store) -> AuditEntry:
    return store.audit.page(limit=1)[0]


def test_a_change_names_who_what_and_before_and_after(anna: Store) -> None:
    anna.groups.add(UserGroup("Desk"))
    anna.groups.change(UserGroup("Desk", tries=5))
    entry = _last(anna)
    assert (entry.who, entry.role, entry.source) == ("anna", "decision_maker", "192.0.2.7")
    assert (entry.action, entry.kind, entry.name) == ("change", "group", "Desk")
    assert (entry.before, entry.after) == ({"tries": 3}, {"tries": 5})
    assert anna.audit.get(entry.id) == entry
    assert anna.audit.get(99) is None
    anna.groups.delete("Desk")
    assert (_last(anna).action, _last(anna).after) == ("delete", None)


def test_every_kind_of_change_is_told_once(anna: Store) -> None:
    anna.groups.add(UserGroup("Desk"))
    anna.users.add(User("204", "Desk"))
    anna.users.change(User("204", "Desk", "Anna"))
    anna.codes.add(AccountCode("4711", description="Acme"))
    anna.codes.save(AccountCode("4711", description="Acme 2"))
    anna.codes.save(AccountCode("4711", description="Acme 2"))
    anna.codes.delete_many(["4711"])
    anna.users.delete_many(["204"])
    told = [(entry.kind, entry.action) for entry in anna.audit.page()][::-1]
    assert told == [
        ("group", "add"),
        ("user", "add"),
        ("user", "change"),
        ("code", "add"),
        ("code", "change"),
        ("code", "delete"),
        ("user", "delete"),
    ]
    assert anna.audit.verify().whole


def test_a_refused_change_leaves_no_row(anna: Store) -> None:
    with pytest.raises(ConfigurationError):
        anna.groups.delete("nobody")
    with pytest.raises(ConfigurationError):
        anna.users.add(User("204", "nobody"))
    assert anna.audit.page() == []


def test_no_digits_of_a_code_and_no_hash_of_a_password_are_told(anna: Store, url: str) -> None:
    from proxy.store import digest_credentials

    anna.groups.add(UserGroup("Desk"))
    credentials = digest_credentials("204", "example.com", "s3cret")
    anna.users.add(User("204", "Desk", credentials=credentials))
    other = digest_credentials("204", "example.com", "other one")
    anna.users.change(User("204", "Desk", credentials=other))
    assert _last(anna).after == {"password": "changed"}
    anna.codes.add(AccountCode("2263127", "ACME-12/7", "Acme"))
    told = json.dumps([[entry.name, entry.before, entry.after] for entry in anna.audit.page()])
    for secret in ("2263127", "ACME-12", *(item.ha1 for item in (*credentials, *other))):
        assert secret not in told
    assert '"*******/7"' in told


@pytest.mark.parametrize(("form", "shown"), [("", ""), ("4711", "****"), ("ACME-1", "****-1")])
def test_a_masked_code_keeps_its_length(form: str, shown: str) -> None:
    assert masked_code(form) == shown


def test_many_codes_are_told_in_rows_of_some_hundred(anna: Store) -> None:
    codes = [AccountCode(f"{number:06d}", description=f"Client {number}") for number in range(1200)]
    anna.codes.upsert_many(codes, may_update=False)
    entries = anna.audit.page()
    assert [entry.name for entry in entries] == ["200 of 1200", "500 of 1200", "500 of 1200"]
    first = entries[-1].after
    assert isinstance(first, list)
    assert first[0]["description"] == "Client 0"
    assert first[0]["id"] == 1
    assert entries[-1].more
    assert 5 < len(first) < 50, "a page tells of the first only"
    whole = anna.audit.get(entries[-1].id)
    assert whole
    assert not whole.more
    assert isinstance(whole.after, list)
    assert whole.after[: len(first)] == first
    assert [item["id"] for item in whole.after] == list(range(1, 501))


def test_filters_and_pages_newest_first(anna: Store) -> None:
    _tell(anna, 5)
    anna.acting(Actor("bert")).groups.add(UserGroup("Desk"))
    assert [entry.id for entry in anna.audit.page(limit=2)] == [6, 5]
    assert [entry.id for entry in anna.audit.page(limit=2, before_id=5)] == [4, 3]
    assert [entry.name for entry in anna.audit.page(AuditFilter(who="bert"))] == ["Desk"]
    assert [entry.id for entry in anna.audit.page(AuditFilter(kind="group", name="g1"))] == [2]
    now = anna.audit.page(limit=1)[0].at
    assert len(anna.audit.page(AuditFilter(since=now - 60, until=now + 60))) == 6
    assert anna.audit.page(AuditFilter(since=now + 60)) == []


def test_hostile_text_is_kept_as_text(anna: Store) -> None:
    with anna.database.write() as connection:
        actor = Actor("x\0\ud800" + "y" * 500, "r" * 50, "s" * 500)
        write_audit(connection, actor, "a" * 50, "k" * 50, "o" * 500, before={"a": "\ud800\0"}, after={})
    assert _last(anna).before == {"a": "\ud800\0"}
    assert anna.audit.verify().whole


@pytest.mark.parametrize("statement", ["UPDATE audit_log SET who = 'x'", "DELETE FROM audit_log"])
def test_the_store_refuses_to_change_a_row(anna: Store, statement: str) -> None:
    _tell(anna, 1)
    with pytest.raises(StoreUnavailable, match="only grows"), anna.database.write() as connection:
        connection.exec_driver_sql(statement)
    assert anna.audit.verify().whole


_INSERTED = (
    "INSERT INTO audit_log SELECT 0, at_ms, who, role, source, action, kind, object, before, after, "
    "previous_hash, hash FROM audit_log WHERE id = 1"
)


@pytest.mark.parametrize(
    ("statement", "broken", "says"),
    [
        ("UPDATE audit_log SET who = 'x' WHERE id = 3", 3, "not as it was written"),
        ("UPDATE audit_log SET after = NULL WHERE id = 5", 5, "not as it was written"),
        ("UPDATE audit_log SET at_ms = at_ms + 1 WHERE id = 1", 1, "not as it was written"),
        ("DELETE FROM audit_log WHERE id = 3", 3, "missing"),
        ("DELETE FROM audit_log WHERE id = 1", 1, "missing"),
        ("DELETE FROM audit_log WHERE id >= 4", 4, "missing from the end"),
        ("DELETE FROM audit_log", 1, "missing from the end"),
        ("UPDATE audit_log SET previous_hash = hash WHERE id = 2", 2, "does not follow"),
        (
            _INSERTED,
            1,
            "missing",
        ),
        ("UPDATE audit_head SET last_id = 2", 5, "does not end where its head says"),
        ("UPDATE audit_head SET last_hash = ''", 5, "does not end where its head says"),
        ("DELETE FROM audit_head", 5, "does not end where its head says"),
    ],
)
def test_what_was_done_to_the_file_is_found(
    anna: Store, url: str, statement: str, broken: int, says: str
) -> None:
    _tell(anna, 5)
    tamper(url, statement)
    verdict = anna.audit.verify()
    assert not verdict.whole
    assert verdict.broken == broken
    assert says in verdict.reason


def test_a_new_chain_is_found_by_a_head_that_was_kept(anna: Store, url: str) -> None:
    _tell(anna, 5)
    kept = anna.audit.verify().head
    assert anna.audit.verify(kept).whole
    _tell(anna, 5)
    assert anna.audit.verify(kept).whole
    zeros = "0" * 64
    tamper(url, "DELETE FROM audit_log", f"UPDATE audit_head SET last_id = 0, last_hash = '{zeros}'")
    assert anna.audit.verify().whole
    assert anna.audit.verify(kept).broken == 1
    _tell(anna, 9)
    assert anna.audit.verify().whole
    assert anna.audit.verify(kept).broken == 5


def test_without_a_head_nothing_is_written(anna: Store, url: str) -> None:
    tamper(url, "DELETE FROM audit_head")
    with pytest.raises(StoreUnavailable, match="head"):
        anna.groups.add(UserGroup("Desk"))
    assert anna.groups.all() == []
    assert anna.audit.verify().reason


def test_a_body_that_is_no_json_is_shown(anna: Store, url: str) -> None:
    _tell(anna, 1)
    tamper(url, "UPDATE audit_log SET after = '{oops'")
    assert _last(anna).after == "{oops"


def test_two_processes_extend_one_chain(anna: Store, url: str) -> None:
    def work(name: str) -> None:
        with Store(url, actor=Actor(name)) as other:
            for number in range(20):
                other.codes.add(AccountCode(f"{name}{number:02d}"))

    threads = [threading.Thread(target=work, args=(name,)) for name in ("1", "2", "3")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    verdict = anna.audit.verify()
    assert verdict.whole
    assert verdict.rows == 60


def test_a_user_or_group_that_cannot_be_read_can_be_replaced(anna: Store) -> None:
    anna.groups.add(UserGroup("Desk"))
    anna.users.add(User("204", "Desk"))
    with anna.database.write() as connection:
        connection.exec_driver_sql("UPDATE groups SET rules = 'x'")
        connection.exec_driver_sql("UPDATE users SET credentials = 'x'")
    anna.groups.change(UserGroup("Desk"))
    anna.users.change(User("204", "Desk"))
    assert _last(anna).before == dict.fromkeys(_facts(_last(anna)))
    assert anna.users.get("204") == User("204", "Desk")
    with anna.database.write() as connection:
        connection.exec_driver_sql("UPDATE groups SET rules = 'x'")
        connection.exec_driver_sql("UPDATE users SET credentials = 'x'")
    anna.users.delete_many(["204"])
    anna.groups.delete("Desk")
    assert _last(anna).before == {}


def _facts(entry: AuditEntry) -> dict[str, object]:
    assert isinstance(entry.after, dict)
    return entry.after


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOLLGATE_STORE__URL", "sqlite:///cli.db")
    monkeypatch.setenv("LOGNAME", "somebody-else")
    return f"sqlite:///{tmp_path}/cli.db"


def test_commands_are_told_with_the_user_of_the_system(cli: str, capsys: pytest.CaptureFixture[str]) -> None:
    import os
    import pwd

    user = pwd.getpwuid(os.getuid()).pw_name
    assert run(["groups", "add", "Desk"]) == 0
    assert run(["codes", "add", "ACME-12/7", "--description", "Acme"]) == 0
    capsys.readouterr()
    assert run(["audit", "list", "--facts", "--who", f"cli:{user}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[2:9] for line in lines[1:]] == [
        [f"cli:{user}", "", "", "add", "code", "1", "Acme"],
        [f"cli:{user}", "", "", "add", "group", "Desk", ""],
    ]
    assert "Acme" in lines[1]
    assert "2263127" not in "".join(lines)
    assert run(["audit", "list", "--kind", "user"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_audit_verify_says_whole_or_where_not(cli: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b", "c"):
        assert run(["groups", "add", name]) == 0
    capsys.readouterr()
    assert run(["audit", "verify"]) == 0
    out = capsys.readouterr().out
    assert "whole: 3 row(s)" in out
    head = out.split("head is ")[1].split(";")[0]
    assert run(["audit", "verify", "--head", head]) == 0
    assert run(["audit", "verify", "--head", f"2:{'0' * 64}"]) == 1
    assert "row 2" in capsys.readouterr().err
    assert run(["audit", "verify", "--head", "yesterday"]) == 1
    assert "--head" in capsys.readouterr().err
    tamper(cli, "UPDATE audit_log SET object = 'd' WHERE id = 2")
    assert run(["audit", "verify"]) == 1
    assert "row 2: it is not as it was written" in capsys.readouterr().err


def test_a_head_is_written_as_it_is_read() -> None:
    head = AuditHead(3, "a" * 64)
    assert str(head) == "3:" + "a" * 64
    assert replace(head, last_id=4) != head
