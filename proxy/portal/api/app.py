"""Puts the API together: its routes, its description, and what stands around every answer."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as AsgiScope

from proxy.errors import TollgateError
from proxy.portal.api import (
    accounts,
    calls,
    codes,
    codes_bulk,
    groups,
    locks,
    reports,
    schedules,
    usage,
    users,
)
from proxy.portal.api.client import Client, GuardedRoute, NeedsScope
from proxy.portal.api.problems import MEDIA_TYPE, Problem, problem_response, say_problem
from proxy.portal.api.scopes import Scope
from proxy.portal.api.values import Values
from proxy.portal.headers import MAX_FORM, MAX_UPLOAD
from proxy.portal.portal import Portal

__all__ = ["ROOT", "api_routes", "create_api", "scopes_of"]

ROOT = "/api/v1"
_UPLOADS = frozenset({"/codes/bulk"})
_LENGTH_DIGITS = 18

description = APIRouter(route_class=GuardedRoute)


@description.get("/openapi.json", include_in_schema=False)
async def show_description(
    request: Request, _client: Annotated[Client, Depends(NeedsScope(Scope.NONE))]
) -> JSONResponse:
    """Describe the API (OpenAPI 3.1)."""
    return JSONResponse(request.app.openapi())


def api_routes() -> list[BaseRoute]:
    """Give all routes of the API. Raises RuntimeError for one that does not say which scope it asks for."""
    rooms = (
        description,
        codes_bulk.router,
        codes.router,
        groups.router,
        users.router,
        locks.router,
        usage.router,
        reports.router,
        schedules.router,
        calls.router,
        accounts.router,
    )
    found = [route for room in rooms for route in room.routes]
    for route in found:
        if not isinstance(route, GuardedRoute):
            message = f"route {route} does not say what it needs"
            raise RuntimeError(message)
    return found


def scopes_of(route: BaseRoute) -> Iterator[Scope]:
    """Give the scopes that a route asks for: one, or the portal does not start."""
    if isinstance(route, GuardedRoute):
        yield route.needs.scope


def create_api(portal: Portal) -> ASGIApp:
    """Return the API as an ASGI application, which knows its own root."""
    app = FastAPI(routes=api_routes(), openapi_url=None, docs_url=None, redoc_url=None)
    app.state.portal = portal
    app.openapi = lambda: _describe(app)  # type: ignore[method-assign]
    for kind in (Problem, HTTPException, RequestValidationError, TollgateError, Exception):
        app.add_exception_handler(kind, say_problem)
    return _Bounded(app)


def _describe(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        document = get_openapi(
            title="Tollgate",
            version=version("tollgate"),
            description="Account codes, groups, users, locked callers, the usage log, reports (by mail too), "
            "accounts and live calls of one gate.",
            routes=app.routes,
            servers=[{"url": ROOT}],
        )
        components = document.setdefault("components", {})
        components["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer", "description": "Made in the portal; has scopes."}
        }
        _describe_problems(document, components["schemas"])
        _describe_body(components["schemas"], codes_bulk.BulkRequest)
        for route in app.routes:
            _describe_scope(document, route)
        app.openapi_schema = document
    return app.openapi_schema


_PROBLEM = {
    "type": "object",
    "description": "Problem details (RFC 9457).",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "detail"],
                "properties": {"field": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
}


def _describe_problems(document: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Say that every refusal has the form of a problem, and nothing of the framework's own form."""
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Problem"] = _PROBLEM
    answer = {
        "description": "Refused: see detail and errors.",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for methods in document["paths"].values():
        for operation in methods.values():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = answer


def _describe_body(schemas: dict[str, Any], model: type[Values]) -> None:
    """Describe a body that its route reads by itself."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    for name, part in {**schema.pop("$defs", {}), model.__name__: schema}.items():
        schemas.setdefault(name, part)


def _describe_scope(document: dict[str, Any], route: BaseRoute) -> None:
    if not isinstance(route, APIRoute) or not route.include_in_schema:
        return
    scope = next(scopes_of(route))
    for method in route.methods or ():
        operation = document["paths"][route.path_format][method.lower()]
        operation["operationId"] = route.name
        # OpenAPI 3.1 §4.8.30: the roles that are needed, for schemes other than OAuth 2.
        operation["security"] = [{"token": [scope.value]}]


class _Bounded:
    """Takes the root off the path, and refuses bodies that are too large while they come."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(ROOT)
        most = MAX_UPLOAD if path in _UPLOADS else MAX_FORM
        too_large, taken = f"the body has more than {most // 1024} KB", 0

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > most:
                raise HTTPException(413, too_large)
            return message

        length = dict(scope["headers"]).get(b"content-length", b"0")
        # Of bytes, isdigit knows ASCII only; more than these digits no integer is made of.
        if not length.isdigit() or len(length) > _LENGTH_DIGITS or int(length) > most:
            await problem_response(Problem(413, too_large))(scope, receive, send)
            return
        await self._app({**scope, "path": path, "raw_path": path.encode()}, bounded, send)
