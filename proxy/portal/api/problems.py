"""What is said when a request fails: problem details (RFC 9457) that name the field.

``type`` stays ``about:blank`` (§4.2.1): the status says what kind of problem it is, and ``errors`` where it
lies: ``{"field": "codes[3].owner.name", "detail": "..."}``. No value of the request is repeated by the API
itself: it may be an account code.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from proxy.errors import ConfigurationError, TollgateError
from proxy.store import StoreUnavailable

__all__ = ["FieldError", "Problem", "field_path", "naming", "problem_response", "say_problem"]

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing that is wrong, and where."""

    field: str
    detail: str


class Problem(Exception):  # noqa: N818 - it says what is the case
    """The request is answered with problem details."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        field: str = "",
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = tuple(errors) or ((FieldError(field, detail),) if field else ())
        self.headers = dict(headers or {})


@contextlib.contextmanager
def naming(field: str) -> Iterator[None]:
    """Say that whatever is refused within is the fault of this field."""
    try:
        yield
    except ConfigurationError as error:
        raise Problem(422, str(error), field=field) from None


def field_path(location: Sequence[int | str]) -> str:
    """Return a place in a document as people write it: ``codes[3].owner.name``."""
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


def problem_response(problem: Problem) -> JSONResponse:
    """Turn a problem into its answer."""
    body: dict[str, object] = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
    }
    if problem.errors:
        body["errors"] = [{"field": error.field, "detail": error.detail} for error in problem.errors]
    return JSONResponse(body, problem.status, problem.headers, media_type=MEDIA_TYPE)


async def say_problem(_request: Request, error: Exception) -> JSONResponse:
    """Answer for whatever was raised."""
    match error:
        case Problem():
            problem = error
        case RequestValidationError():
            problem = _of_validation(error)
        case HTTPException():
            problem = Problem(error.status_code, str(error.detail), headers=error.headers)
        case StoreUnavailable():
            logger.error("api: %s", error)
            problem = Problem(503, "the store can't be used at the moment", headers={"Retry-After": "5"})
        case TollgateError():
            problem = Problem(422, str(error))
        case _:
            problem = Problem(500, "the API failed; its log says how")
    return problem_response(problem)


def _of_validation(error: RequestValidationError) -> Problem:
    found = []
    for one in error.errors():
        place, *rest = one["loc"]
        if one["type"] == "json_invalid":
            return Problem(400, "the body is not JSON")
        field = field_path(rest) or str(place)
        found.append(FieldError(field, str(one["msg"]).removeprefix("Value error, ")))
    return Problem(422, "the request is not as it should be: see errors", errors=found)
