"""LEDES 1998B: 24 fields per answered call, sums that add up, and nothing that breaks a line."""

from __future__ import annotations

import datetime
from dataclasses import replace
from datetime import date
from decimal import ROUND_HALF_UP, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cdr.ledes import FIELDS, LedesInvoice, ledes_lines
from proxy.cdr.usage_log import UsageFacts, facts_of
from proxy.errors import ConfigurationError
from tests.cdr.samples import full_record

INVOICE = LedesInvoice(
    number="2026-117",
    day=date(2026, 2, 1),
    client_id="ACME",
    matter_id="ACME-12/7",
    law_firm_id="12-3456789",
    rate=Decimal("0.12"),
    first=date(2026, 1, 1),
    last=date(2026, 1, 31),
    client_matter_id="M-4",
    description="Telephone calls 2026-01 Acme",
)


def fact(talk_time: float, number: str = "+442012345678") -> UsageFacts:
    return facts_of(full_record())._replace(talk_time=talk_time, normalised_number=number)


def read(*facts: UsageFacts, invoice: LedesInvoice = INVOICE) -> list[dict[str, str]]:
    text = "".join(ledes_lines(invoice, lambda: facts, zone=datetime.UTC))
    lines = text.split("\r\n")
    assert lines.pop() == ""
    assert lines[0] == "LEDES1998B[]"
    assert lines[1] == "|".join(FIELDS) + "[]"
    assert all(line.endswith("[]") and line.count("|") == 23 for line in lines[1:])
    return [dict(zip(FIELDS, line.removesuffix("[]").split("|"), strict=True)) for line in lines[2:]]


def test_a_line_has_the_24_fields_of_the_format() -> None:
    assert len(FIELDS) == 24
    [line] = read(fact(60.4))
    assert line == {
        "INVOICE_DATE": "20260201",
        "INVOICE_NUMBER": "2026-117",
        "CLIENT_ID": "ACME",
        "LAW_FIRM_MATTER_ID": "ACME-12/7",
        "INVOICE_TOTAL": "0.13",
        "BILLING_START_DATE": "20260101",
        "BILLING_END_DATE": "20260131",
        "INVOICE_DESCRIPTION": "Telephone calls 2026-01 Acme",
        "LINE_ITEM_NUMBER": "1",
        "EXP/FEE/INV_ADJ_TYPE": "E",
        "LINE_ITEM_NUMBER_OF_UNITS": "1.1",
        "LINE_ITEM_ADJUSTMENT_AMOUNT": "0.00",
        "LINE_ITEM_TOTAL": "0.13",
        "LINE_ITEM_DATE": "20260101",
        "LINE_ITEM_TASK_CODE": "",
        "LINE_ITEM_EXPENSE_CODE": "E105",
        "LINE_ITEM_ACTIVITY_CODE": "",
        "TIMEKEEPER_ID": "",
        "LINE_ITEM_DESCRIPTION": "Telephone call at 00:00 to +442012345678",
        "LAW_FIRM_ID": "12-3456789",
        "LINE_ITEM_UNIT_COST": "0.1200",
        "TIMEKEEPER_NAME": "",
        "TIMEKEEPER_CLASSIFICATION": "",
        "CLIENT_MATTER_ID": "M-4",
    }


def test_calls_that_nobody_answered_cost_nothing_and_are_no_line() -> None:
    assert read(fact(0.0)) == []
    assert [line["LINE_ITEM_NUMBER"] for line in read(fact(0.0), fact(1.0), fact(2.0))] == ["1", "2"]


@pytest.mark.parametrize(
    ("talk_time", "units"), [(0.01, "0.1"), (6.0, "0.1"), (6.01, "0.2"), (60.0, "1.0"), (3_601.0, "60.1")]
)
def test_a_tenth_of_a_minute_that_has_begun_counts(talk_time: float, units: str) -> None:
    assert read(fact(talk_time))[0]["LINE_ITEM_NUMBER_OF_UNITS"] == units


@given(st.lists(st.floats(min_value=0, max_value=40_000), max_size=30), st.decimals("0", "50", places=4))
def test_the_sum_of_the_lines_is_the_total_on_each_of_them(times: list[float], rate: Decimal) -> None:
    lines = read(*map(fact, times), invoice=replace(INVOICE, rate=rate))
    total = sum((Decimal(line["LINE_ITEM_TOTAL"]) for line in lines), Decimal())
    assert {line["INVOICE_TOTAL"] for line in lines} <= {f"{total:.2f}"}
    for line in lines:
        product = Decimal(line["LINE_ITEM_NUMBER_OF_UNITS"]) * Decimal(line["LINE_ITEM_UNIT_COST"])
        assert Decimal(line["LINE_ITEM_TOTAL"]) == product.quantize(Decimal("0.01"), ROUND_HALF_UP)


@given(st.text(), st.text())
def test_no_text_breaks_a_line(number: str, description: str) -> None:
    called = fact(5.0, number)
    [line] = read(called, invoice=replace(INVOICE, description=description))
    assert line["LINE_ITEM_DESCRIPTION"].isascii()


@pytest.mark.parametrize("name", ["number", "client_id", "matter_id", "law_firm_id", "client_matter_id"])
@pytest.mark.parametrize("text", ["a|b", "a[]", "x" * 21, "a\nb", "Ünï"])
def test_ids_that_would_break_a_line_are_refused_by_name(name: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name}: "):
        replace(INVOICE, **{name: text})  # type: ignore[arg-type]


def test_all_ids_but_the_clients_own_are_needed() -> None:
    assert replace(INVOICE, client_matter_id="").client_matter_id == ""
    for name in ("number", "client_id", "matter_id", "law_firm_id"):
        with pytest.raises(ConfigurationError, match=f"^{name}: "):
            replace(INVOICE, **{name: ""})  # type: ignore[arg-type]


@pytest.mark.parametrize("rate", ["-0.01", "0.12345", "10000", "NaN", "Infinity", "-Infinity", "sNaN"])
def test_rates_that_are_none_are_refused(rate: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^rate: "):
        replace(INVOICE, rate=Decimal(rate))
