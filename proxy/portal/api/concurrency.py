"""Two programs at one object: entity tags and preconditions (RFC 9110 §8.8.3, §13; RFC 6585 §3)."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import TypeVar

from fastapi import Request, Response

from proxy.portal.api.problems import Problem
from proxy.store import PortalAccount, ReportSchedule, VersionConflict, Versioned

__all__ = ["changed_if_match", "expected_version", "found_row", "not_modified", "preconditions", "tag"]

_Value = TypeVar("_Value")
_Numbered = TypeVar("_Numbered", PortalAccount, ReportSchedule)
_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e]*)"')


def tag(version: int | str) -> str:
    """Return the entity tag of a version."""
    return f'"{version}"'


def expected_version(request: Request, current: int) -> int:
    """Return the version that the request wants to change: the one named by ``If-Match``.

    Raises `Problem` 428 when none is named, and 412 when it is not the ``current`` one.
    """
    tags = _tags(request, "if-match")
    if tags is None:
        raise Problem(
            428, "say with If-Match which version is to be changed: its ETag, or *", field="If-Match"
        )
    # Weak tags never match (§13.1.1).
    if "*" not in tags and tag(current) not in tags:
        raise conflict(current)
    return current


def not_modified(request: Request, response: Response, version: int) -> Response | None:
    """Give the answer its entity tag; returns the whole answer when the program has this version already."""
    response.headers["ETag"] = tag(version)
    tags = _tags(request, "if-none-match")
    if tags is None or not ("*" in tags or tag(version) in {item.removeprefix("W/") for item in tags}):
        return None
    return Response(status_code=304, headers={"ETag": tag(version)})


def found_row(row: _Numbered | None, what: str) -> Versioned[_Numbered]:
    """Return what was looked for, with its version. Raises `Problem` 404 when it is not there."""
    if row is None:
        raise Problem(404, f"there is no such {what}")
    return Versioned(row, row.version, row.id)


def conflict(current: int) -> Problem:
    """Say that somebody else was first."""
    return Problem(
        412,
        "somebody else has changed it meanwhile: read it again",
        field="If-Match",
        headers={"ETag": tag(current)},
    )


def changed_if_match(
    request: Request,
    response: Response,
    read: Callable[[], Versioned[_Value]],
    write: Callable[[_Value, int], None],
) -> _Value:
    """Change what ``If-Match`` names, and give the answer its new entity tag. Blocks; raises `Problem`."""
    old = read()
    version = expected_version(request, old.version)
    with preconditions():
        write(old.value, version)
    changed = read()
    response.headers["ETag"] = tag(changed.version)
    return changed.value


@contextlib.contextmanager
def preconditions() -> Iterator[None]:
    """Turn the store's conflict into the answer 412."""
    try:
        yield
    except VersionConflict as error:
        current = error.current
        known = current.version if isinstance(current, Versioned | PortalAccount | ReportSchedule) else 0
        raise conflict(known) from None


def _tags(request: Request, header: str) -> set[str] | None:
    given = request.headers.get(header)
    if given is None:
        return None
    if given.strip() == "*":
        return {"*"}
    found = {match[0] for match in _TAG.finditer(given)}
    if not found:
        raise Problem(400, f"{header} holds no entity tag", field=header)
    return found
