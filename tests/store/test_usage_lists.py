"""Lists of the usage log against the plain way of finding the same calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import select

from proxy.cdr.record import CallRecord, Direction, Disposition
from proxy.errors import ConfigurationError
from proxy.store import Store, UsageFilter, UsageOrder, usage_lists
from proxy.store.usage_lists import COLUMNS, choose_access
from tests.cdr.samples import START
from tests.store.calls import many_calls

CALLS = many_calls(3000)


@pytest.fixture(scope="module")
def log(common_url: str) -> Iterator[Store]:
    with Store(common_url) as store:
        store.usage.insert_many(CALLS)
        yield store


_KEYS: dict[UsageOrder, Callable[[CallRecord], str | float]] = {
    UsageOrder.START: lambda call: call.start_time,
    UsageOrder.DURATION: lambda call: call.talk_time,
    UsageOrder.CALLER: lambda call: call.caller_number,
    UsageOrder.DIRECTION: lambda call: call.direction.value,
    UsageOrder.USER: lambda call: call.user,
    UsageOrder.GROUP: lambda call: call.group,
    UsageOrder.DIALLED: lambda call: call.dialled_number,
    UsageOrder.DESTINATION: lambda call: call.destination_user,
    UsageOrder.CLASS: lambda call: call.call_class,
    UsageOrder.CODE: lambda call: "" if call.code is None else call.code.key,
    UsageOrder.RESULT: lambda call: call.disposition.value,
}

_SINCE, _UNTIL = START + 10 * 86_400, START + 40 * 86_400


def _holds(part: str, call: CallRecord) -> bool:
    return any(part in text for text in (call.dialled_number, call.normalised_number, call.caller_number))


def _begins(part: str, call: CallRecord) -> bool:
    numbers = (call.dialled_number, call.normalised_number, call.caller_number)
    return any(text.startswith(part) for text in numbers)


_FILTERS: list[tuple[UsageFilter, Callable[[CallRecord], bool]]] = [
    (UsageFilter(), lambda call: True),
    (UsageFilter(since=START + 5e6), lambda call: call.start_time >= START + 5e6),
    (
        UsageFilter(user="204", disposition=Disposition.BUSY),
        lambda call: "204" in {call.user, call.destination_user} and call.disposition is Disposition.BUSY,
    ),
    (
        UsageFilter(code_key="217", call_class="premium", group="Group 1"),
        lambda call: (
            call.code is not None
            and call.code.key == "217"
            and call.call_class == "premium"
            and call.group == "Group 1"
        ),
    ),
    (UsageFilter(emergency=True), lambda call: call.emergency),
    (
        UsageFilter(emergency=False, direction=Direction.INBOUND),
        lambda call: not call.emergency and call.direction is Direction.INBOUND,
    ),
    (UsageFilter(party="205"), lambda call: "205" in {call.user, call.destination_user}),
    (UsageFilter(number="5550001"), lambda call: _holds("5550001", call)),
    (UsageFilter(number="(212) 555-1"), lambda call: _holds("2125551", call)),
    (UsageFilter(number_prefix="+49 30 0000"), lambda call: _begins("+49300000", call)),
    (
        UsageFilter(number="00", number_prefix="92125551", user="203"),
        lambda call: (
            _holds("00", call) and _begins("92125551", call) and "203" in {call.user, call.destination_user}
        ),
    ),
    (
        UsageFilter(since=_SINCE, until=_UNTIL, call_class="local", number="7"),
        lambda call: _SINCE <= call.start_time < _UNTIL and call.call_class == "local" and _holds("7", call),
    ),
    (UsageFilter(user="nobody"), lambda call: False),
    (UsageFilter(number="no number"), lambda call: False),
    (UsageFilter(user="' OR 1=1 --"), lambda call: False),
]


def _expected(order: UsageOrder, fits: Callable[[CallRecord], bool], *, descending: bool) -> list[str]:
    found = [(_KEYS[order](call), call.start_time, row) for row, call in enumerate(CALLS) if fits(call)]
    found.sort(reverse=descending)
    return [CALLS[row].record_id for _, _, row in found]


def _walk(store: Store, wanted: UsageFilter, order: UsageOrder, *, descending: bool, limit: int) -> list[str]:
    """Forward to the end and backward to the beginning again; both must show the same."""
    pages: list[list[str]] = []
    cursor = ""
    while True:
        page = store.usage.page(wanted, order=order, descending=descending, cursor=cursor, limit=limit)
        pages.append([entry.record.record_id for entry in page.entries])
        assert bool(page.before) is (len(pages) > 1 and bool(page.entries))
        if not page.after:
            break
        cursor = page.after
    forward = [record_id for found in pages for record_id in found]
    while page.before:
        page = store.usage.page(wanted, order=order, descending=descending, cursor=page.before, limit=limit)
        pages.pop()
        assert [entry.record.record_id for entry in page.entries] == pages[-1]
        assert page.after
    assert len(pages) == 1
    return forward


@pytest.fixture(params=["rare filters lead", "orders lead"])
def _leads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "orders lead":
        # As if every filter fitted a large part of millions of calls.
        monkeypatch.setattr(usage_lists, "PROBED", 1)
        monkeypatch.setattr(usage_lists, "_PROBED_IDS", 1)
        monkeypatch.setattr(usage_lists, "_MOST_NUMBERS", 0)


@pytest.mark.usefixtures("_leads")
@pytest.mark.parametrize("number", range(len(_FILTERS)))
def test_every_filter_in_some_orders_both_ways(log: Store, number: int, kind: str) -> None:
    wanted, fits = _FILTERS[number]
    orders = ((UsageOrder.DURATION, False), (UsageOrder.START, True), (UsageOrder.CODE, True))
    for order, descending in orders if kind == "sqlite" else orders[:1]:
        walked = _walk(log, wanted, order, descending=descending, limit=170)
        assert walked == _expected(order, fits, descending=descending)
    oldest_first = _expected(UsageOrder.START, fits, descending=False)
    assert log.usage.count(wanted) == len(oldest_first)
    assert [call.record_id for call in log.usage.stream(wanted)] == oldest_first


@pytest.mark.usefixtures("_leads")
@pytest.mark.parametrize("order", UsageOrder)
@pytest.mark.parametrize("descending", [True, False])
def test_every_order_both_ways(log: Store, order: UsageOrder, descending: bool, kind: str) -> None:
    filters = (_FILTERS[0], _FILTERS[2], _FILTERS[-4])
    # A server is told no index: there an order is one and the same statement with every filter.
    for wanted, fits in filters if kind == "sqlite" else filters[1:2]:
        found = _walk(log, wanted, order, descending=descending, limit=501)
        assert found == _expected(order, fits, descending=descending)


def test_counts_are_exact_up_to_a_bound(log: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = log.usage.count_up_to(bound=10)
    assert (everything.number, everything.exact) == (3000, True)
    some = UsageFilter(since=START)
    assert log.usage.count_up_to(some, bound=3000).exact
    number = UsageFilter(number="5")
    assert log.usage.count_up_to(number, bound=100).number == 100
    monkeypatch.setattr(usage_lists, "_PROBED_IDS", 400)
    at_once = log.usage.count_up_to(number, bound=100)
    assert (at_once.number, at_once.exact) == (100, False)
    over = log.usage.count_up_to(some, bound=2999)
    assert (over.number, over.exact) == (2999, False)


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (UsageFilter(call_class="internal", direction=Direction.INBOUND), "call_class"),
        (UsageFilter(direction=Direction.INBOUND, disposition=Disposition.ANSWERED), "direction"),
        (UsageFilter(group="Group 1", call_class="local", disposition=Disposition.ANSWERED), "group_name"),
    ],
)
def test_what_is_common_and_hardly_meets_is_known_from_one_index_alone(
    log: Store, monkeypatch: pytest.MonkeyPatch, wanted: UsageFilter, index: str
) -> None:
    led = f"call_records INDEXED BY ix_call_records_{index}_start_time_kind"
    together = log.usage.count(wanted)
    for probed, order, source in (
        (together, UsageOrder.START, led),
        (together + 1, UsageOrder.CALLER, led),
        (together, UsageOrder.CALLER, "call_records INDEXED BY ix_call_records_caller_number_start_time"),
    ):
        monkeypatch.setattr(usage_lists, "PROBED", probed)
        with log.database.read() as connection:
            access = choose_access(connection, wanted, order)
            assert str(access.source) == source
            if source == led:
                statement = select(COLUMNS["id"]).select_from(access.source).where(*access.conditions)
                compiled = statement.compile(connection, compile_kwargs={"literal_binds": True})
                plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}").all()
                assert "USING COVERING INDEX" in str(plan)


@pytest.mark.parametrize(
    "cursor", ["x", "a", "a0", "b-1", "a1; DROP", "a99999999999999999999", "a999999", "ä1"]
)
def test_what_is_no_cursor_is_refused(log: Store, cursor: str) -> None:
    with pytest.raises(ConfigurationError, match="page"):
        log.usage.page(cursor=cursor)


def test_new_calls_do_not_shift_a_page(store: Store) -> None:
    store.usage.insert_many(CALLS[:50])
    first = store.usage.page(limit=10)
    second = store.usage.page(limit=10, cursor=first.after)
    store.usage.insert_many(CALLS[50:90])
    assert store.usage.page(limit=10, cursor=first.after).entries == second.entries
    assert store.usage.page(limit=10, cursor=second.before).entries == first.entries


@pytest.mark.parametrize("way", "ab")
def test_a_cursor_is_one_of_the_partys_own_calls(log: Store, way: str) -> None:
    def cursor(own: bool) -> str:
        call = next(call for call in CALLS if ("205" in {call.user, call.destination_user}) is own)
        entry = log.usage.entry(call.record_id)
        assert entry
        return f"{way}{entry.row_id}"

    wanted = UsageFilter(party="205")
    log.usage.page(wanted, order=UsageOrder.CALLER, cursor=cursor(own=True))
    with pytest.raises(ConfigurationError, match="does not exist"):
        log.usage.page(wanted, order=UsageOrder.CALLER, cursor=cursor(own=False))


def test_a_cursor_holds_no_digits_of_a_code(log: Store) -> None:
    page = log.usage.page(UsageFilter(code_key="217"), order=UsageOrder.CODE, limit=2)
    row = page.entries[-1].row_id
    assert page.after == f"a{row}"


def test_one_record_with_all_its_facts(log: Store) -> None:
    entry = log.usage.entry("r000007")
    assert entry is not None
    assert entry.record == entry.shown == CALLS[7]
    assert log.usage.entry("nothing") is None
