"""Registered contacts on real files: what is written comes back, and the writer's thread loses nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import update

from proxy.sip.bindings import Binding, StoredBinding
from proxy.sip.flow import Flow
from proxy.store import BindingWriter, Store
from proxy.store.bindings import BindingsRepository
from proxy.store.database import Database, StoreUnavailable
from proxy.store.models import bindings

NOW = 1_700_000_000.0
EPOCH = NOW - 500.0


def binding(user: str = "204", host: str = "192.0.2.20") -> Binding:
    return Binding(
        user,
        f"sip:{user}@10.0.0.5:5060",
        ';q=0.5;+sip.instance="<urn:uuid:1>";x="\udcff"',
        0.5,
        500.0 + 600.0,
        "call-id@10.0.0.5",
        7,
        Flow("TCP", host, 41000, 1, 9),
        Flow("TCP", host, 41000, 1, 9),
        True,
        ("<sip:192.0.2.30;lr>",),
        '"<urn:uuid:1>"',
        2,
        "phone/1 é",
    )


def stored(user: str = "204", host: str = "192.0.2.20") -> StoredBinding:
    return StoredBinding.of(binding(user, host), EPOCH)


def test_what_is_written_comes_back(store: Store) -> None:
    first, second = stored(), stored(host="2001:db8::20")
    store.bindings.replace({"204": [first, second], "205": [stored("205")]})
    assert store.bindings.all(now=NOW) == [first, second, stored("205")]
    revived = first.revive(EPOCH, 1)
    assert revived == replace(
        binding(), flow=Flow("TCP", "192.0.2.20", 41000, 1, 0), source=Flow("TCP", "192.0.2.20", 41000, 1, 0)
    )


def test_a_user_has_what_was_written_last(store: Store) -> None:
    store.bindings.replace({"204": [stored(), stored(host="192.0.2.21")], "205": [stored("205")]})
    store.bindings.replace({"204": [stored(host="192.0.2.22")], "205": []})
    assert [item.flow[0] for item in store.bindings.all(now=NOW)] == ["192.0.2.22"]
    store.bindings.replace({})
    assert len(store.bindings.all(now=NOW)) == 1


def test_many_users_at_once(store: Store) -> None:
    users = [str(number) for number in range(20_000, 21_273)]
    store.bindings.replace({user: [stored(user)] for user in users})
    store.bindings.replace({user: [stored(user)] for user in users})
    assert [item.user for item in store.bindings.all(now=NOW)] == users


def test_what_has_ended_is_not_shown_and_can_be_deleted(store: Store) -> None:
    store.bindings.replace({"204": [stored()]})
    assert store.bindings.all(now=NOW + 599.9) == [stored()]
    assert store.bindings.all(now=NOW + 600.0) == []
    store.bindings.forget_ended(now=NOW + 599.9)
    assert len(store.bindings.all(now=NOW)) == 1
    store.bindings.forget_ended(now=NOW + 600.0)
    assert store.bindings.all(now=NOW) == []


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"params": ""}', "null"])
def test_a_spoilt_row_is_passed_over(store: Store, body: str) -> None:
    store.bindings.replace({"204": [stored()], "205": [stored("205")]})
    with store.database.write() as connection:
        connection.execute(update(bindings).where(bindings.c.user == "204").values(body=body))
    assert [item.user for item in store.bindings.all(now=NOW)] == ["205"]


def test_an_address_that_is_none_spoils_a_row(store: Store) -> None:
    store.bindings.replace({"204": [replace(stored(), flow=("192.0.2.20", "x"))]})  # type: ignore[arg-type]
    assert store.bindings.all(now=NOW) == []


# The writer -------------------------------------------------------------------------------------------------


def test_the_thread_writes_what_it_is_given(store: Store) -> None:
    writer = BindingWriter(store.bindings, interval=0.01)
    writer.start()
    writer.submit({"204": (binding(),), "205": (binding("205"),)}, epoch=EPOCH)
    writer.submit({"205": ()}, epoch=EPOCH)
    writer.stop()
    assert writer.waiting == 0
    assert store.bindings.all(now=NOW) == [stored()]


def test_what_comes_before_the_end_is_written(store: Store) -> None:
    writer = BindingWriter(store.bindings, interval=3600.0)
    writer.submit({"204": (binding(),)}, epoch=EPOCH)
    assert writer.waiting == 1
    writer.stop()
    assert store.bindings.all(now=NOW) == [stored()]
    assert writer.write(), "nothing waits"


class Failing(BindingsRepository):
    """A store that is away for the first attempts."""

    def __init__(self, database: Database, failures: int) -> None:
        super().__init__(database)
        self.failures = failures

    def replace(self, changed: object) -> None:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("store: locked")
        super().replace(changed)  # type: ignore[arg-type]


def test_what_can_not_be_written_waits(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    writer = BindingWriter(Failing(store.database, 2))
    writer.submit({"204": (binding(),), "205": (binding("205"),)}, epoch=EPOCH)
    assert not writer.write()
    writer.submit({"205": ()}, epoch=EPOCH)
    assert not writer.write()
    assert writer.waiting == 2
    assert writer.write()
    assert store.bindings.all(now=NOW) == [stored()]
    assert [record.levelname for record in caplog.records if "written down" in record.message] == [
        "WARNING",
        "INFO",
    ]


def test_an_older_store_gets_the_table(url: str) -> None:
    from alembic import command
    from alembic.config import Config

    database = Database(url)
    config = Config()
    config.set_main_option("script_location", "proxy.store:migrations")
    with database.write() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")
    database.close()
    with Store(url) as store:
        assert store.bindings.all(now=0.0) == []
