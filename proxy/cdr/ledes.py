"""The calls of one client matter as an invoice in LEDES 1998B: what legal billing systems read.

A line of 24 fields per answered call, an expense of code E105 (telephone), in minutes of a tenth begun.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, tzinfo
from decimal import ROUND_HALF_UP, Decimal

from proxy.cdr.usage_log import LocalTime, UsageFacts
from proxy.errors import ConfigurationError

__all__ = ["FIELDS", "LedesInvoice", "ledes_lines"]

FIELDS = (
    "INVOICE_DATE",
    "INVOICE_NUMBER",
    "CLIENT_ID",
    "LAW_FIRM_MATTER_ID",
    "INVOICE_TOTAL",
    "BILLING_START_DATE",
    "BILLING_END_DATE",
    "INVOICE_DESCRIPTION",
    "LINE_ITEM_NUMBER",
    "EXP/FEE/INV_ADJ_TYPE",
    "LINE_ITEM_NUMBER_OF_UNITS",
    "LINE_ITEM_ADJUSTMENT_AMOUNT",
    "LINE_ITEM_TOTAL",
    "LINE_ITEM_DATE",
    "LINE_ITEM_TASK_CODE",
    "LINE_ITEM_EXPENSE_CODE",
    "LINE_ITEM_ACTIVITY_CODE",
    "TIMEKEEPER_ID",
    "LINE_ITEM_DESCRIPTION",
    "LAW_FIRM_ID",
    "LINE_ITEM_UNIT_COST",
    "TIMEKEEPER_NAME",
    "TIMEKEEPER_CLASSIFICATION",
    "CLIENT_MATTER_ID",
)

_TELEPHONE = "E105"
_LONGEST_ID = 20
_HIGHEST_RATE = Decimal(9999)
_CENT = Decimal("0.01")
_UNIT_COST = Decimal("0.0001")
_UNFIT = re.compile(r"[^\x20-\x7e]|[|\[\]]")


@dataclass(frozen=True, slots=True)
class LedesInvoice:
    """What the invoice says besides its calls. Raises `ConfigurationError` naming the field."""

    number: str
    day: date
    client_id: str
    matter_id: str
    law_firm_id: str
    rate: Decimal
    """Per minute."""
    first: date
    last: date
    client_matter_id: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        for name in ("number", "client_id", "matter_id", "law_firm_id", "client_matter_id"):
            text = getattr(self, name)
            least = 0 if name == "client_matter_id" else 1
            if not least <= len(text) <= _LONGEST_ID or _UNFIT.search(text):
                message = f"{name}: write {least} to {_LONGEST_ID} plain characters, none of them | [ or ]"
                raise ConfigurationError(message)
        if not (self.rate.is_finite() and 0 <= self.rate <= _HIGHEST_RATE):
            message = f"rate: write an amount per minute from 0 to {_HIGHEST_RATE}"
            raise ConfigurationError(message)
        if self.rate != self.rate.quantize(_UNIT_COST):
            # The format has no place for more: units times cost would not be the total.
            message = "rate: write at most 4 decimals"
            raise ConfigurationError(message)


def ledes_lines(
    invoice: LedesInvoice, calls: Callable[[], Iterable[UsageFacts]], *, zone: tzinfo
) -> Iterator[str]:
    """The file as lines with their line ends. ``calls`` is asked twice: each line bears the whole sum."""
    total = sum((_amount(invoice, fact) for fact in _answered(calls())), Decimal())
    local = LocalTime(zone)
    yield "LEDES1998B[]\r\n"
    yield "|".join(FIELDS) + "[]\r\n"
    for number, fact in enumerate(_answered(calls()), 1):
        yield "|".join(_fields(invoice, number, fact, total, local)) + "[]\r\n"


def _fields(
    invoice: LedesInvoice, number: int, fact: UsageFacts, total: Decimal, local: LocalTime
) -> tuple[str, ...]:
    day, clock = local(fact.start_time)
    called = fact.normalised_number or fact.dialled_number
    return (
        f"{invoice.day:%Y%m%d}",
        invoice.number,
        invoice.client_id,
        invoice.matter_id,
        f"{total:.2f}",
        f"{invoice.first:%Y%m%d}",
        f"{invoice.last:%Y%m%d}",
        _UNFIT.sub(" ", invoice.description)[:1000],
        str(number),
        "E",
        f"{_minutes(fact):.1f}",
        "0.00",
        f"{_amount(invoice, fact):.2f}",
        day.replace("-", ""),
        "",
        _TELEPHONE,
        "",
        "",
        _UNFIT.sub(" ", f"Telephone call at {clock[:5]} to {called}"),
        invoice.law_firm_id,
        f"{invoice.rate:.4f}",
        "",
        "",
        invoice.client_matter_id,
    )


def _answered(facts: Iterable[UsageFacts]) -> Iterator[UsageFacts]:
    return (fact for fact in facts if fact.talk_time > 0)


def _minutes(fact: UsageFacts) -> Decimal:
    return Decimal(math.ceil(fact.talk_time / 6)) / 10


def _amount(invoice: LedesInvoice, fact: UsageFacts) -> Decimal:
    return (_minutes(fact) * invoice.rate).quantize(_CENT, ROUND_HALF_UP)
