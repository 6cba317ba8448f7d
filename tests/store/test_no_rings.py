"""What a gate writes over and over is freed by its reference counts: while calls are up nothing collects."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from proxy.policy import AccountCode
from proxy.store import Store
from tests.cdr.samples import full_record
from tests.store.test_bindings import stored


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def _rings(work: Callable[[], object]) -> int:
    work()  # what is made once and kept
    gc.collect()
    found = []
    for _ in range(3):  # a thread that another test has left behind makes some too, once
        work()
        found.append(gc.collect())
    return min(found)


@pytest.mark.parametrize("limit", [None, 1_000])
def test_records_with_codes_leave_no_ring(store: Store, limit: int | None) -> None:
    store.codes.add(AccountCode("2263127", max_uses=limit))
    records = iter([replace(full_record(), record_id=name) for name in ("r1", "r2", "r3", "r4")])
    assert not _rings(lambda: store.usage.insert_many([next(records)]))


def test_bindings_leave_no_ring(store: Store) -> None:
    assert not _rings(lambda: store.bindings.replace({"204": [stored()]}))
