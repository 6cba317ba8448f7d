"""What of the account codes a page shows: the part searched for, its order, and which page of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Depends, Query

from proxy.policy import AccountCode
from proxy.store import CodeOrder, CodesRepository, Versioned

__all__ = ["CodeView", "FoundCodes", "InView", "find_codes"]

_LAST_PAGE = 1_000_000


@dataclass(frozen=True, slots=True)
class CodeView:
    """The part of the list that is looked at. Every link and form of the page carries it along."""

    search: str = ""
    order: CodeOrder = CodeOrder.DIGITS
    descending: bool = False
    page: int = 1

    def query(self, **changes: object) -> str:
        """Return the query string that leads back here, with something else or more in it."""
        values: dict[str, object] = {
            "search": self.search,
            "order": "" if self.order is CodeOrder.DIGITS else self.order.value,
            "descending": "true" if self.descending else "",
            "page": "" if self.page == 1 else self.page,
        }
        told = {name: value for name, value in (values | changes).items() if value != ""}
        return f"?{urlencode(told)}" if told else "?"

    def sorted_by(self, order: CodeOrder) -> str:
        """Return the query of the same list sorted by a column; the other way round when it is already."""
        descending = order is self.order and not self.descending
        return self.query(order=order.value, descending="true" if descending else "", page="")


def _view(
    search: Annotated[str, Query(max_length=100)] = "",
    order: CodeOrder = CodeOrder.DIGITS,
    *,
    descending: bool = False,
    page: Annotated[int, Query(ge=1, le=_LAST_PAGE)] = 1,
) -> CodeView:
    return CodeView(search, order, descending, page)


InView = Annotated[CodeView, Depends(_view)]


@dataclass(frozen=True, slots=True)
class FoundCodes:
    """One page of the list."""

    codes: list[Versioned[AccountCode]]
    total: int
    page: int
    pages: int
    first: int
    """Place of the first one in the whole list, counted from 1; 0 of an empty list."""


def find_codes(repository: CodesRepository, view: CodeView, size: int) -> FoundCodes:
    """Return the page that a view asks for; the last one where there are no more so many."""
    total = repository.count(view.search)
    pages = max(1, -(-total // size))
    page = min(view.page, pages)
    codes = repository.versioned_page(
        view.search, offset=(page - 1) * size, limit=size, order=view.order, descending=view.descending
    )
    return FoundCodes(codes, total, page, pages, (page - 1) * size + 1 if codes else 0)
