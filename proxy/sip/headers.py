"""The header fields of a message: an ordered multi-map that keeps each line as received (RFC 3261 §7.3).

Look-ups go by canonical name, the long form as the RFCs print it; lines keep their own spelling, so that
headers which only pass through leave as they came.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from proxy.errors import LocalProtocolError, RemoteProtocolError
from proxy.sip.grammar import is_token, split_list

__all__ = ["KNOWN_SPELLINGS", "Entry", "Headers", "canonical_name"]

Entry = tuple[str, str, str]
"""Canonical name, value (unfolded and stripped), and the line without its CRLF."""

_COMPACT: Final = {
    "a": "Accept-Contact",
    "b": "Referred-By",
    "c": "Content-Type",
    "d": "Request-Disposition",
    "e": "Content-Encoding",
    "f": "From",
    "i": "Call-ID",
    "j": "Reject-Contact",
    "k": "Supported",
    "l": "Content-Length",
    "m": "Contact",
    "n": "Identity-Info",
    "o": "Event",
    "r": "Refer-To",
    "s": "Subject",
    "t": "To",
    "u": "Allow-Events",
    "v": "Via",
    "x": "Session-Expires",
    "y": "Identity",
}
"""Compact forms (RFC 3261 §7.3.3 and the IANA registry of header fields)."""

_KNOWN: Final = (
    "Accept",
    "Accept-Encoding",
    "Accept-Language",
    "Alert-Info",
    "Allow",
    "Answer-Mode",
    "Authentication-Info",
    "Authorization",
    "Call-Info",
    "Content-Disposition",
    "Content-Language",
    "CSeq",
    "Date",
    "Diversion",
    "Error-Info",
    "Expires",
    "Flow-Timer",
    "Geolocation",
    "History-Info",
    "In-Reply-To",
    "Join",
    "Max-Breadth",
    "Max-Forwards",
    "MIME-Version",
    "Min-Expires",
    "Min-SE",
    "Organization",
    "P-Access-Network-Info",
    "P-Asserted-Identity",
    "P-Associated-URI",
    "P-Called-Party-ID",
    "P-Charging-Vector",
    "P-Early-Media",
    "P-Preferred-Identity",
    "Path",
    "Priority",
    "Privacy",
    "Proxy-Authenticate",
    "Proxy-Authorization",
    "Proxy-Require",
    "RAck",
    "Reason",
    "Record-Route",
    "Recv-Info",
    "Info-Package",
    "Remote-Party-ID",
    "Replaces",
    "Reply-To",
    "Require",
    "Resource-Priority",
    "Retry-After",
    "Route",
    "RSeq",
    "Server",
    "Service-Route",
    "Session-ID",
    "SIP-ETag",
    "SIP-If-Match",
    "Subscription-State",
    "Timestamp",
    "Unsupported",
    "User-Agent",
    "User-to-User",
    "Warning",
    "WWW-Authenticate",
)

_CANONICAL_NAMES: Final = frozenset((*_KNOWN, *_COMPACT.values()))

KNOWN_SPELLINGS: Final = {
    **{name: name for name in _CANONICAL_NAMES},
    **{name.lower(): name for name in _CANONICAL_NAMES},
    **_COMPACT,
    **{letter.upper(): name for letter, name in _COMPACT.items()},
}
"""Spellings that need no further thought: canonical, lower-case and compact, to the canonical name."""


def canonical_name(name: str) -> str:
    """Give the long name as the RFCs print it; an unknown name in title case, one spelling for each."""
    known = KNOWN_SPELLINGS.get(name)
    if known is not None:
        return known
    lower = name.strip().lower()
    return KNOWN_SPELLINGS.get(lower) or "-".join([word.capitalize() for word in lower.split("-")])


class Headers:
    """Ordered header fields. Methods take names in any spelling; the canonical one is fastest."""

    __slots__ = ("_entries", "_first", "_repeated")

    _entries: list[Entry]
    _first: dict[str, str]
    _repeated: set[str] | None

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        self._entries = []
        self._first = {}
        self._repeated = None
        for name, value in items:
            self.add(name, value)

    @classmethod
    def from_entries(cls, entries: list[Entry]) -> Headers:
        """Take over entries as they are; for the parser and for messages made from another's lines."""
        first: dict[str, str] = {}
        repeated: set[str] | None = None
        for name, value, _ in entries:
            if name not in first:
                first[name] = value
            elif repeated is None:
                repeated = {name}
            else:
                repeated.add(name)
        return cls.from_parts(entries, first, repeated)

    @classmethod
    def from_parts(cls, entries: list[Entry], first: dict[str, str], repeated: set[str] | None) -> Headers:
        """Take over entries with the first value of each name and the names that come more than once."""
        headers = cls.__new__(cls)
        headers._entries = entries
        headers._first = first
        headers._repeated = repeated
        return headers

    def get(self, name: str) -> str | None:
        """First value, unfolded and stripped, or None."""
        value = self._first.get(name)
        if value is None and name not in _CANONICAL_NAMES:
            return self._first.get(canonical_name(name))
        return value

    def require(self, name: str) -> str:
        """First value of a header that a message can't be without, by its canonical name; raises
        `RemoteProtocolError` (400)."""
        value = self._first.get(name)
        if not value:
            raise RemoteProtocolError(f"{name} is missing")
        return value

    def get_all(self, name: str) -> list[str]:
        """One value per header line, in order."""
        value = self._first.get(name)
        if value is None:
            if name in _CANONICAL_NAMES:
                return []
            name = canonical_name(name)
            value = self._first.get(name)
            if value is None:
                return []
        if self._repeated is None or name not in self._repeated:
            return [value]
        return [value for key, value, _ in self._entries if key == name]

    def values(self, name: str) -> list[str]:
        """Elements of a list header, split at top-level commas (RFC 3261 §7.3.1).

        Raises `RemoteProtocolError` (400) where a quote or bracket stays open.
        """
        return [element for value in self.get_all(name) for element in split_list(value)]

    def is_repeated(self, name: str) -> bool:
        """More than one line has this canonical name."""
        return self._repeated is not None and name in self._repeated

    def add(self, name: str, value: str) -> None:
        """Append a header line."""
        name, line = canonical_name(name), _line(name, value)
        self._entries.append((name, value, line))
        if name in self._first:
            self._note_repeated(name)
        else:
            self._first[name] = value

    def prepend(self, name: str, value: str) -> None:
        """Put a header line before all others, as a new Via or Record-Route needs it."""
        name, line = canonical_name(name), _line(name, value)
        self._entries.insert(0, (name, value, line))
        if name in self._first:
            self._note_repeated(name)
        self._first[name] = value

    def set(self, name: str, value: str) -> None:
        """Leave exactly one line of this name: in the place of the first, or at the end."""
        canonical = canonical_name(name)
        if canonical not in self._first:
            self.add(name, value)
            return
        if self.is_repeated(canonical):
            self._drop_after_first(canonical)
        self.replace_first(name, value)

    def replace_first(self, name: str, value: str) -> None:
        """Give the first line of this name another value; the others stay. The name must be there."""
        canonical = canonical_name(name)
        line = _line(name, value)
        for index, entry in enumerate(self._entries):
            if entry[0] == canonical:
                self._entries[index] = (canonical, value, line)
                self._first[canonical] = value
                return
        raise LocalProtocolError(f"no {canonical} header to replace")

    def remove(self, name: str) -> None:
        """Take away every line of this name."""
        name = canonical_name(name)
        if self._first.pop(name, None) is not None:
            self._entries = [entry for entry in self._entries if entry[0] != name]
            if self._repeated is not None:
                self._repeated.discard(name)

    def keep_first(self, names: Iterable[str]) -> None:
        """Leave only the first line of each of these canonical names."""
        for name in names:
            if self.is_repeated(name):
                self._drop_after_first(name)

    def items(self) -> Iterator[tuple[str, str]]:
        """Canonical name and value of every line, in order."""
        return iter([(name, value) for name, value, _ in self._entries])

    def entries(self) -> list[Entry]:
        """Every line with its name and value; not to be changed."""
        return self._entries

    def lines(self) -> list[str]:
        """Every line as it goes on the wire, without CRLF."""
        return [line for _, _, line in self._entries]

    def copy(self) -> Headers:
        """Make an independent copy."""
        return Headers.from_entries(self._entries.copy())

    def _note_repeated(self, name: str) -> None:
        if self._repeated is None:
            self._repeated = {name}
        else:
            self._repeated.add(name)

    def _drop_after_first(self, name: str) -> None:
        seen = False
        kept: list[Entry] = []
        for entry in self._entries:
            if entry[0] != name:
                kept.append(entry)
            elif not seen:
                seen = True
                kept.append(entry)
        self._entries = kept
        repeated = self._repeated or set()
        repeated.discard(name)

    def __contains__(self, name: str) -> bool:
        if name in self._first:
            return True
        return name not in _CANONICAL_NAMES and canonical_name(name) in self._first

    def __len__(self) -> int:
        return len(self._entries)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and self._entries == other._entries

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        # Values stay out: an Authorization header or a body digit must not reach a trace.
        return f"Headers({[name for name, _, _ in self._entries]})"


def _line(name: str, value: str) -> str:
    if "\n" in value or "\r" in value or not is_token(name):
        raise LocalProtocolError("header that would break its line")
    return f"{name}: {value}"
