"""Puts the portal's pages together."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from urllib.parse import SplitResult, urlsplit

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.datastructures import URL
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from proxy.errors import TollgateError
from proxy.portal import (
    access_pages,
    account_pages,
    audit_pages,
    code_pages,
    group_pages,
    home_pages,
    import_pages,
    live_pages,
    lock_pages,
    prompt_pages,
    record_pages,
    report_pages,
    report_statements,
    schedule_pages,
    second_factor_pages,
    sign_on_pages,
    token_pages,
    trunk_pages,
    usage_pages,
    user_pages,
    webhook_pages,
)
from proxy.portal.account_pages import inside
from proxy.portal.api.app import ROOT, create_api
from proxy.portal.headers import BodyBounds, SecurityHeaders
from proxy.portal.pages import go_to, page
from proxy.portal.permissions import Permission
from proxy.portal.portal import Portal
from proxy.portal.visit import LogInFirst, Needs, Refused, Visit, portal_of, visit_of
from proxy.store import StoreUnavailable

__all__ = ["create_app", "permissions_of", "routes"]

logger = logging.getLogger(__name__)

_UPLOADS = frozenset({"/codes/import", "/groups/prompt"})
_KEYS = {404: "error.not_found", 405: "error.not_found", 400: "error.malformed"}


def routes() -> list[BaseRoute]:
    """Give all routes of the portal. Raises RuntimeError for one that does not say whom it is for."""
    found = [
        *account_pages.router.routes,
        *home_pages.router.routes,
        *live_pages.router.routes,
        *group_pages.router.routes,
        *prompt_pages.router.routes,
        *user_pages.router.routes,
        *lock_pages.router.routes,
        *trunk_pages.router.routes,
        *import_pages.router.routes,
        *code_pages.router.routes,
        *usage_pages.router.routes,
        *record_pages.router.routes,
        *report_pages.router.routes,
        *report_statements.router.routes,
        *schedule_pages.router.routes,
        *audit_pages.router.routes,
        *token_pages.router.routes,
        *webhook_pages.router.routes,
        *access_pages.router.routes,
        *second_factor_pages.router.routes,
        *sign_on_pages.router.routes,
    ]
    for route in found:
        if len(list(permissions_of(route))) != 1:
            message = f"route {route} does not say what it needs"
            raise RuntimeError(message)
    return found


def create_app(portal: Portal) -> ASGIApp:
    """Return the portal as an ASGI application. What it uses is its caller's to close."""
    app = FastAPI(routes=routes(), openapi_url=None, docs_url=None, redoc_url=None)
    app.state.portal = portal
    app.add_exception_handler(LogInFirst, _log_in_first)
    for kind in (Refused, HTTPException, RequestValidationError, TollgateError, Exception):
        app.add_exception_handler(kind, _say_why)
    pages, api = BodyBounds(app, upload_paths=_UPLOADS), create_api(portal)

    async def either(scope: Scope, receive: Receive, send: Send) -> None:
        """Programs and people share an address and nothing else."""
        of_api = scope["type"] == "http" and scope["path"].startswith(f"{ROOT}/")
        await (api if of_api else pages)(scope, receive, send)

    # Around everything: the answer to a fault of our own needs the headers too.
    return SecurityHeaders(either, https=portal.settings.https)


def permissions_of(route: BaseRoute) -> Iterator[Permission]:
    """Give the permissions that a route asks for: one, or the portal does not start."""
    if isinstance(route, APIRoute):
        for dependency in route.dependant.dependencies:
            if isinstance(dependency.call, Needs):
                yield dependency.call.permission


async def _log_in_first(request: Request, _error: Exception) -> Response:
    if "hx-request" in request.headers or request.url.path == live_pages.EVENTS:
        # The page that asks stays, with what was typed into it: its script says why nothing comes.
        return Response(status_code=401)
    where = request.url if request.method == "GET" else _page_before(request)
    following = f"{where.path}?{where.query}" if where.query else where.path
    return go_to("/login", next="" if following == "/" else following)


def _page_before(request: Request) -> SplitResult | URL:
    """Address of the page whose form was sent; that of the overview where there is none to go back to."""
    try:
        before = urlsplit(request.headers.get("referer", ""))
    except ValueError:
        return URL("/")
    own = {request.headers.get("host", ""), urlsplit(portal_of(request).settings.public_url).netloc} - {""}
    scope = {**request.scope, "method": "GET", "path": before.path}
    shown = any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)
    return before if before.netloc in own and shown and inside(before.path) == before.path else URL("/")


async def _say_why(request: Request, error: Exception) -> Response:
    match error:
        case Refused():
            status, key, values = error.status, error.key, error.values
        case HTTPException():
            status, key, values = error.status_code, _KEYS.get(error.status_code, "error.malformed"), {}
        case RequestValidationError():
            # Only the names: what was sent may be a code.
            names = ", ".join(str(problem["loc"][-1]) for problem in error.errors())
            status, key, values = 400, "error.parameter", {"names": names}
        case StoreUnavailable():
            logger.error("portal: %s", error)
            status, key, values = 503, "error.store", {}
        case TollgateError():
            status, key, values = 422, "error.refused", {"reason": error}
        case _:
            status, key, values = 500, "error.own", {}
    visit = await _whoever(request)
    if status == 403 and key == "password.change_first":
        return go_to("/password")
    if isinstance(error, TollgateError):
        values = {name: visit.texts.told(value) for name, value in values.items()}
    return await page(visit, "error.html", status=status, message=visit.texts(key, **values))


async def _whoever(request: Request) -> Visit:
    """Return the visit that failed, or one of nobody."""
    known: Visit | None = getattr(request.state, "visit", None)
    if known is not None:
        return known
    try:
        return await visit_of(request)
    except StoreUnavailable:
        scope = {**request.scope, "headers": [h for h in request.scope["headers"] if h[0] != b"cookie"]}
        return await visit_of(Request(scope))
