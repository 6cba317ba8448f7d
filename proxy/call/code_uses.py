"""Uses of account codes with a limit: reserved in memory from acceptance on (DESIGN, Policy model).

A use is reserved when a code is accepted, given back when B never answers, and dropped when a snapshot of the
policy comes that counts it. Codes without a limit are not kept here at all.
"""

from __future__ import annotations

from proxy.policy import AccountCode, CodeTable

__all__ = ["CodeUses"]


class _Book:
    """Uses of one code that the snapshot does not hold yet."""

    __slots__ = ("answered", "open", "seen")

    def __init__(self, seen: int) -> None:
        self.seen = seen
        self.open = 0
        self.answered = 0


class CodeUses:
    """The reservations of all calls."""

    __slots__ = ("_books", "_by_call")

    def __init__(self) -> None:
        self._books: dict[str, _Book] = {}
        self._by_call: dict[str, str] = {}

    def reserved(self, digits: str, but: str = "") -> int:
        """Return how many uses of a code (by dial form) are taken beyond those of the snapshot.

        ``but`` leaves one call out.
        """
        book = self._books.get(digits)
        if book is None:
            return 0
        return book.open + book.answered - (self._by_call.get(but) == digits)

    def reserve(self, record_id: str, code: AccountCode) -> None:
        """Take one use for a call."""
        if code.max_uses is None:
            return
        self._by_call[record_id] = code.digits
        self._books.setdefault(code.digits, _Book(code.uses)).open += 1

    def holds(self, record_id: str) -> bool:
        """Tell whether a call has a use of a limited code that it may still give back."""
        return record_id in self._by_call

    def move(self, record_id: str, to: str) -> None:
        """Let the call's next segment hold the use."""
        digits = self._by_call.pop(record_id, None)
        if digits is not None:
            self._by_call[to] = digits

    def answered(self, record_id: str) -> None:
        """Keep the call's use: B has answered, so it will be counted by the store."""
        digits = self._by_call.pop(record_id, None)
        if digits is not None:
            book = self._books[digits]
            book.open -= 1
            book.answered += 1

    def give_back(self, record_id: str) -> None:
        """Return the call's use, if it has one that was not kept."""
        digits = self._by_call.pop(record_id, None)
        if digits is not None:
            book = self._books[digits]
            book.open -= 1
            if not book.open and not book.answered:
                del self._books[digits]

    def counted(self, codes: CodeTable) -> None:
        """Drop what a new snapshot counts by itself."""
        for digits, book in list(self._books.items()):
            code = codes.get(digits)
            uses = book.seen if code is None else code.uses
            book.answered = 0 if code is None else max(0, book.answered - max(0, uses - book.seen))
            book.seen = uses
            if not book.open and not book.answered:
                del self._books[digits]

    @property
    def held(self) -> int:
        """How many calls hold a use that may still be given back."""
        return len(self._by_call)
