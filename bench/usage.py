"""What a large usage log costs: lists, filters, counts and reports, their worst cases included.

A store of millions of records is made once, in SQL, and thrown away. Each question is asked several times
with other values; its number is the median. The file is in the system's cache, as on a machine in service.
"""

from __future__ import annotations

import resource
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date
from itertools import islice
from pathlib import Path

from rich.progress import Progress
from sqlalchemy import text

from proxy.cdr.places import place_of
from proxy.cdr.record import CallRecord, Direction, Disposition, UsedCode
from proxy.cdr.usage_log import usage_log_lines
from proxy.policy import AccountCode, NumberPlan
from proxy.policy.code_file import read_code_file
from proxy.portal.usage_workbook import write_workbook
from proxy.store import (
    CodeOrder,
    ReportBy,
    ReportOrder,
    Store,
    UsageFilter,
    UsageOrder,
    carry_out,
    plan_import,
)

BASE = 1_767_225_600  # 2026-01-01 UTC
YEAR = 365 * 86_400
_STEP = 100_000
_REPEATS = 7


@dataclass(frozen=True, slots=True)
class UsageCost:
    """One question: its median and its worst time and the median of the processor's, which no other tenant of
    the machine has a part in; or how many rows there were in a second.
    """

    what: str
    rows: int
    median_ms: float = 0.0
    worst_ms: float = 0.0
    cpu_ms: float = 0.0
    per_second: float = 0.0


def run(*, quick: bool, folder: Path | None = None) -> list[UsageCost]:
    """Measure on this machine. ``folder`` is where a store is kept or found again; None: made and removed."""
    if folder is not None:
        return _run(folder, quick=quick)
    with tempfile.TemporaryDirectory(prefix="tollgate-bench-") as temporary:
        return _run(Path(temporary), quick=quick)


def _run(folder: Path, *, quick: bool) -> list[UsageCost]:
    rows, codes = (100_000, 5_000) if quick else (5_000_000, 100_000)
    file = folder / f"usage-{rows}.db"
    made = file.exists()
    with Store(f"sqlite:///{file}") as store, Progress(transient=True) as bar:
        if not made:
            task = bar.add_task("making a usage log", total=rows)
            make_codes(store, codes)
            make_records(store, rows, codes, lambda done: bar.update(task, completed=done))
        questions = _questions(rows, codes)
        task = bar.add_task("asking", total=len(questions))
        costs = []
        for what, ask in questions:
            costs.append(_ask(store, what, rows, ask))
            bar.advance(task)
        costs.append(_export(store, min(rows, 1_000_000)))
        costs.append(_workbook(store, folder, min(rows, 50_000)))
        costs.append(_insert(store, 2_000 if quick else 20_000))
        costs.append(_import(folder, codes))
        return costs


def _ask(store: Store, what: str, rows: int, ask: Callable[[Store, int], object]) -> UsageCost:
    times, cpu = [], []
    for turn in range(_REPEATS):
        started, cpu_before = time.perf_counter(), time.thread_time()
        ask(store, turn)
        times.append((time.perf_counter() - started) * 1000)
        cpu.append((time.thread_time() - cpu_before) * 1000)
    return UsageCost(what, rows, statistics.median(times), max(times), statistics.median(cpu))


def _questions(rows: int, codes: int) -> list[tuple[str, Callable[[Store, int], object]]]:
    def month(turn: int) -> tuple[float, float]:
        return BASE + turn * 30 * 86_400.0, BASE + (turn + 1) * 30 * 86_400.0

    def code(turn: int) -> str:
        return str(200_000 + turn * 997 % codes)

    def page(wanted: Callable[[int], UsageFilter], **how: object) -> Callable[[Store, int], object]:
        order = how.get("order", UsageOrder.START)
        descending = how.get("descending", True) is True
        if not isinstance(order, UsageOrder):
            raise TypeError
        return lambda store, turn: store.usage.page(
            wanted(turn), order=order, descending=descending, limit=100
        )

    def counted(wanted: Callable[[int], UsageFilter]) -> Callable[[Store, int], object]:
        return lambda store, turn: store.usage.count_up_to(wanted(turn))

    filters: dict[str, Callable[[int], UsageFilter]] = {
        "nothing": lambda turn: UsageFilter(),
        "a month": lambda turn: UsageFilter(since=month(turn)[0], until=month(turn)[1]),
        "a user": lambda turn: UsageFilter(user=str(200 + turn * 31)),
        "own calls": lambda turn: UsageFilter(party=str(200 + turn * 31)),
        "a group": lambda turn: UsageFilter(group=f"Group {turn}"),
        "a code": lambda turn: UsageFilter(code_key=code(turn)),
        "a class": lambda turn: UsageFilter(call_class="premium"),
        "a rare result": lambda turn: UsageFilter(disposition=Disposition.INTERRUPTED),
        "a common result": lambda turn: UsageFilter(disposition=Disposition.ANSWERED),
        "a direction": lambda turn: UsageFilter(direction=Direction.INBOUND),
        "emergency calls": lambda turn: UsageFilter(emergency=True),
        "one whole number": lambda turn: UsageFilter(number=f"+1212{4_000_000 + turn * 911:07d}"),
        "a part of few numbers": lambda turn: UsageFilter(number=f"{12_400 + turn * 3}"),
        "a part of many numbers": lambda turn: UsageFilter(number=f"{turn}7"),
        "a part of no number": lambda turn: UsageFilter(number=f"{turn}999999999"),
        "the beginning of numbers": lambda turn: UsageFilter(number_prefix=f"+121240{turn}"),
        "a class, a result and a month": lambda turn: UsageFilter(
            since=month(turn)[0], until=month(turn)[1], call_class="premium", disposition=Disposition.BUSY
        ),
        "a group, a class and a user": lambda turn: UsageFilter(
            group=f"Group {turn}", call_class="premium", user=str(200 + turn)
        ),
        "common things that never meet": lambda turn: UsageFilter(
            call_class="internal", direction=Direction.INBOUND
        ),
    }
    found = [(f"page of {name}", page(wanted)) for name, wanted in filters.items()]
    found += [(f"count of {name}", counted(wanted)) for name, wanted in filters.items()]
    for order in UsageOrder:
        for descending, way in ((True, "falling"), (False, "rising")):
            found.append(
                (f"by {order.value}, {way}", page(filters["nothing"], order=order, descending=descending))
            )
        found.append((f"a month by {order.value}", page(filters["a month"], order=order)))
    found.append(
        (
            "a page in the middle",
            lambda store, turn: store.usage.page(
                cursor=f"a{rows // 2 + turn * 101}", order=UsageOrder.CALLER
            ),
        )
    )
    for by in ReportBy:
        for order_by in ReportOrder:
            found.append((f"month by {by.value}, sorted by {order_by.value}", _report(by, order_by)))
    found.append(
        (
            "month by code, not a whole one",
            lambda store, turn: store.reports.report(
                ReportBy.CODE, date(2026, turn + 1, 2), date(2026, turn + 1, 28)
            ),
        )
    )
    found.append(
        (
            "statement of a code",
            lambda store, turn: list(
                store.usage.stream(store.reports.statement(code(turn), 2026, turn + 1).wanted)
            ),
        )
    )
    for code_order in CodeOrder:
        found.append((f"codes by {code_order.value}, last page", _codes(codes, code_order)))
    found.append(
        (
            "codes searched",
            lambda store, turn: (store.codes.page(f"nt {turn}7"), store.codes.count(f"nt {turn}7")),
        )
    )
    return found


def _report(by: ReportBy, order: ReportOrder) -> Callable[[Store, int], object]:
    days = ((1, 31), (2, 28), (3, 31), (4, 30), (5, 31), (6, 30), (7, 31))
    return lambda store, turn: store.reports.report(
        by, date(2026, *(days[turn][0], 1)), date(2026, *days[turn]), order=order
    )


def _codes(count: int, order: CodeOrder) -> Callable[[Store, int], object]:
    return lambda store, turn: store.codes.page(order=order, offset=count - 100 * (turn + 1), limit=100)


def _export(store: Store, rows: int) -> UsageCost:
    """The CSV of the usage log, as it is streamed to a browser; in seconds of the processor, because a
    machine that is shared takes any time.
    """
    # The places of numbers are loaded once per process, not once per export.
    place_of("+12125550123")
    lines = usage_log_lines(islice(store.usage.facts(), rows))
    next(lines)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    count = sum(1 for _ in lines)
    took = time.process_time() - started
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024
    return UsageCost(f"export as CSV, {grown:.0f} MB more memory", count, per_second=count / took)


def _workbook(store: Store, folder: Path, rows: int) -> UsageCost:
    """The same as XLSX, in seconds of the processor too."""
    started = time.process_time()
    facts = islice(store.usage.facts(), rows)
    *_, count = write_workbook(folder / "usage.xlsx", facts, zone=UTC)
    return UsageCost("export as XLSX", count, per_second=count / (time.process_time() - started))


def _import(folder: Path, count: int) -> UsageCost:
    """A file of codes into a store of its own; somebody else writes all the while."""
    text = "Code,Description\n" + "".join(f"C-{n},Client {n}\n" for n in range(200_000, 200_000 + count))
    with (
        tempfile.TemporaryDirectory(dir=folder) as temporary,
        Store(f"sqlite:///{temporary}/import.db") as store,
        Store(f"sqlite:///{temporary}/import.db") as other,
    ):
        ended, waits = threading.Event(), [0.0]

        def write() -> None:
            while not ended.wait(0.02):
                begun = time.perf_counter()
                other.audit.note("change", "account", "someone")
                waits.append(time.perf_counter() - begun)

        writer = threading.Thread(target=write)
        writer.start()
        started = time.perf_counter()
        carry_out(plan_import(read_code_file(text, NumberPlan()), store.codes, may_update=True), store.codes)
        took = time.perf_counter() - started
        ended.set()
        writer.join()
    what = f"codes imported in {took:.1f} s, another writer waited {max(waits):.2f} s at most"
    return UsageCost(what, count, per_second=count / took)


def _insert(store: Store, rows: int) -> UsageCost:
    """Records as they come from the journal."""
    record = CallRecord(
        "",
        0.0,
        answered_after=5.0,
        ended_after=65.0,
        user="204",
        group="Group 1",
        caller_number="+12125550104",
        call_class="national",
        disposition=Disposition.ANSWERED,
    )
    batches = [
        [
            replace(
                record,
                record_id=f"new{number}",
                start_time=BASE + YEAR + number,
                dialled_number=f"91212{number:07d}",
                normalised_number=f"+1212{number:07d}",
                code=UsedCode("", "", str(200_000 + number * 13 % 5_000)),
            )
            for number in range(first, first + 200)
        ]
        for first in range(0, rows, 200)
    ]
    started = time.perf_counter()
    for batch in batches:
        store.usage.insert_many(batch)
    took = time.perf_counter() - started
    with store.database.write() as connection:
        connection.execute(text("DELETE FROM call_records WHERE record_id LIKE 'new%'"))
    return UsageCost("records inserted, 200 at once", rows, per_second=rows / took)


def make_codes(store: Store, count: int) -> None:
    """Add codes as `make_records` uses them."""
    codes = [AccountCode(str(200_000 + n), f"C-{200_000 + n}", f"Client {n}") for n in range(count)]
    store.codes.upsert_many(codes, may_update=False)


# Each value is a function of the row's number, spread by a factor that has nothing in common with its range.
_RECORDS = """
WITH RECURSIVE numbers(n) AS (SELECT :first UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :last),
facts AS (
  SELECT n, :base + n * :apart AS start_time,
    CASE WHEN n * 7907 % 100 < 70 THEN (n * 6841 % 9000) / 7.0 ELSE 0.0 END AS talk_time,
    CASE WHEN n % 10007 = 0 THEN 'interrupted' WHEN n * 7907 % 100 < 70 THEN 'answered'
      WHEN n * 7907 % 100 < 85 THEN 'no_answer' ELSE 'busy' END AS disposition,
    CASE WHEN n * 104729 % 100 < 15 THEN 'inbound' ELSE 'outbound' END AS direction,
    CASE WHEN n * 104729 % 100 < 15 THEN 'national' WHEN n * 1299709 % 100 < 20 THEN 'internal'
      WHEN n * 1299709 % 100 < 60 THEN 'local' WHEN n * 1299709 % 100 < 99 THEN 'national'
      ELSE 'premium' END AS call_class,
    CAST(200 + n * 15485863 % 1000 AS TEXT) AS "user",
    printf('+1212%07d', 4000000 + n * 32452843 % 300000) AS number,
    CASE WHEN n * 49979687 % 10 < 8 THEN CAST(200000 + n * 67867967 % :codes AS TEXT) ELSE '' END AS code
  FROM numbers
)
INSERT INTO call_records (record_id, start_time, duration, talk_time, direction, caller_number, "user",
  group_name, dialled_number, normalised_number, destination_user, call_class, disposition, emergency,
  code_key, code_form, location, body, day, corrected)
SELECT printf('r%012d', n), start_time, talk_time + 5, talk_time, direction, '+1415555' || "user", "user",
  'Group ' || ("user" % 20), '9' || substr(number, 2), number, CASE WHEN n % 5 = 0 THEN "user" ELSE '' END,
  call_class, disposition, n % 50021 = 0, code, CASE code WHEN '' THEN '' ELSE 'C-' || code END, 'Main site',
  json_object('record_id', printf('r%012d', n), 'start_time', start_time, 'direction', direction,
    'a_call_id', hex(n) || '@192.0.2.1', 'b_call_id', hex(n + 1) || '@192.0.2.9', 'code_entered_after', 4.5,
    'answered_after', CASE WHEN talk_time > 0 THEN 5.0 END, 'ended_after', talk_time + 5.0,
    'caller_number', '+1415555' || "user", 'caller_name', 'Phone ' || "user", 'user', "user",
    'group', 'Group ' || ("user" % 20), 'source_address', '192.0.2.1:5060', 'location', 'Main site',
    'dialled_number', '9' || substr(number, 2), 'normalised_number', number, 'call_class', call_class,
    'treatment', 'required code', 'decision', 'allow', 'reason', 'outside the permissions of the group',
    'disposition', disposition, 'sip_code', 200, 'q850_cause', 16, 'codec', 'PCMU',
    'code', CASE code WHEN '' THEN NULL ELSE json_array('C-' || code, code, code, 'Client') END,
    'trunks', json('[["first",503],["second",200]]'), 'a_media', json('[3000,2990,0,1.25,0]'),
    'b_media', json('[2990,3000,0,0.5,0]'), 'v', 1),
  date(start_time, 'unixepoch'), 0
FROM facts
"""
_TOTALS = (
    ("day", "day", "''", ""),
    ("user", "day", '"user"', ""),
    ("user_month", "substr(day, 1, 7)", '"user"', ""),
    ("group", "day", "group_name", ""),
    ("class", "day", "call_class", ""),
    ("result", "day", "disposition", ""),
    ("code_month", "substr(day, 1, 7)", "code_key", "WHERE code_key <> ''"),
)


def make_records(
    store: Store, rows: int, codes: int, progress: Callable[[int], None] = lambda _done: None
) -> None:
    """Fill the usage log with calls of a year, and its totals and numbers as inserting would."""
    with store.database.read() as connection:
        found = connection.exec_driver_sql(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'call_records' "
            "AND sql IS NOT NULL"
        )
        indexes = [(str(name), str(sql)) for name, sql in found]
    with store.database.write() as connection:
        for name, _ in indexes:
            connection.exec_driver_sql(f"DROP INDEX {name}")
    for first in range(0, rows, _STEP):
        last = min(rows, first + _STEP)
        values = {"first": first, "last": last, "base": BASE, "apart": YEAR / rows, "codes": codes}
        with store.database.write() as connection:
            connection.execute(text(_RECORDS), values)
            # What a record has not is not written: as `encode_record` does it.
            connection.exec_driver_sql(
                "UPDATE call_records SET body = json_remove(body, "
                "CASE WHEN code_key = '' THEN '$.code' ELSE '$.none' END, "
                "CASE WHEN talk_time = 0 THEN '$.answered_after' ELSE '$.none' END) "
                f"WHERE id > {first} AND (code_key = '' OR talk_time = 0)"
            )
        progress(last)
    for _, statement in indexes:
        with store.database.write() as connection:
            connection.exec_driver_sql(statement)
    with store.database.write() as connection:
        for dimension, period, key, condition in _TOTALS:
            connection.exec_driver_sql(
                f"INSERT INTO usage_totals SELECT '{dimension}', {period}, {key}, COUNT(*), "
                "SUM(talk_time > 0.0005), SUM(CAST(ROUND(talk_time * 1000) AS BIGINT)) "
                f"FROM call_records {condition} GROUP BY 2, 3"
            )
        connection.exec_driver_sql(
            "INSERT INTO call_numbers SELECT caller_number FROM call_records UNION SELECT dialled_number "
            "FROM call_records UNION SELECT normalised_number FROM call_records"
        )
