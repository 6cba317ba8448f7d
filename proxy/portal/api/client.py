"""Who asks: a program with a token (RFC 6750), what it may, and how often."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Coroutine, Iterator, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.responses import Response

from proxy.portal.api.problems import FieldError, Problem
from proxy.portal.api.scopes import Scope
from proxy.portal.visit import portal_of, source_of
from proxy.store import Actor, ApiToken, Store

if TYPE_CHECKING:
    from proxy.portal.portal import Portal

__all__ = ["Client", "GuardedRoute", "NeedsScope"]

_BEARER = re.compile(r"[Bb]earer +([A-Za-z0-9._~+/-]+=*) *")
_UNKNOWN_PER_MINUTE = 60
"""Requests with a wrong token that one source has; more are not even looked up."""

_LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class Client:
    """One request of a program."""

    portal: Portal
    token: ApiToken | None
    source: str

    @property
    def store(self) -> Store:
        """The store, which notes whose changes these are."""
        name = "nobody" if self.token is None else self.token.name
        return self.portal.store.acting(Actor(f"token:{name}", "token", self.source))

    def may(self, scope: Scope) -> bool:
        """Whether the token has a scope."""
        return self.token is not None and scope.value in self.token.scopes


class NeedsScope:
    """What a route asks for before it does anything. Every route of the API has one."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    async def __call__(self, request: Request) -> Client:
        """Return who was let in."""
        client: Client = request.state.client
        return client

    async def let_in(self, request: Request) -> None:
        """Let the request in. Raises `Problem` 401, 403 or 429."""
        request.state.client = await self._client(request)

    async def _client(self, request: Request) -> Client:
        portal, source = portal_of(request), source_of(request)
        if self.scope is Scope.NONE:
            return Client(portal, None, source)
        token = await self._token(request, portal, source)
        _count(portal, f"token {token.id}", portal.settings.api_requests_per_minute)
        if self.scope.value not in token.scopes:
            raise Problem(
                403,
                f"the token is not for {self.scope.value}",
                headers={
                    "WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{self.scope.value}"'
                },
            )
        return Client(portal, token, source)

    @staticmethod
    async def _token(request: Request, portal: Portal, source: str) -> ApiToken:
        given = request.headers.get("authorization")
        if given is None:
            raise Problem(401, "a token is needed", headers={"WWW-Authenticate": 'Bearer realm="tollgate"'})
        if portal.limits.wait(f"unknown {source}", _UNKNOWN_PER_MINUTE, portal.clock(), take=False):
            raise _too_many(portal, f"unknown {source}", _UNKNOWN_PER_MINUTE)
        found = _BEARER.fullmatch(given)
        token = None
        if found is not None:
            token = await run_in_threadpool(portal.store.tokens.find, found[1], now=portal.clock())
        if token is None:
            portal.limits.wait(f"unknown {source}", _UNKNOWN_PER_MINUTE, portal.clock())
            raise Problem(
                401,
                "the token is unknown, revoked or expired",
                headers={"WWW-Authenticate": 'Bearer realm="tollgate", error="invalid_token"'},
            )
        return token


class GuardedRoute(APIRoute):
    """Lets a request in before its body is read; a framework's dependency is only asked afterwards.

    A name in the query that the route does not know is refused, as one in a document is (`Values`).
    """

    @property
    def needs(self) -> NeedsScope:
        """What the route asks for. Raises RuntimeError unless it is one scope."""
        found = [one.call for one in self.dependant.dependencies if isinstance(one.call, NeedsScope)]
        if len(found) != 1:
            message = f"route {self.path} does not say what it needs"
            raise RuntimeError(message)
        return found[0]

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Put the guard before what reads the request."""
        needs, answer = self.needs, super().get_route_handler()
        known = frozenset(_query_names(self.dependant))

        async def guarded(request: Request) -> Response:
            await needs.let_in(request)
            _refuse_unknown(request.query_params, known)
            return await answer(request)

        return guarded


def _query_names(needed: Dependant) -> Iterator[str]:
    """Give the parameters that a route, or what it depends on, takes from the query."""
    for field in needed.query_params:
        yield field.alias
    for more in needed.dependencies:
        yield from _query_names(more)


def _refuse_unknown(given: QueryParams, known: Set[str]) -> None:
    """Refuse names that the route does not know: a filter that is misspelt would let everything through."""
    unknown = [name[:_LONGEST_NAME] for name in given if name not in known]
    if unknown:
        knows = f"the names are: {', '.join(sorted(known))}" if known else "there are none here"
        raise Problem(
            422,
            "the address holds parameters that are not known: see errors",
            errors=[FieldError(name, f"this parameter is not known; {knows}") for name in unknown],
        )


def _count(portal: Portal, name: str, per_minute: int) -> None:
    if portal.limits.wait(name, per_minute, portal.clock()):
        raise _too_many(portal, name, per_minute)


def _too_many(portal: Portal, name: str, per_minute: int) -> Problem:
    waits = portal.limits.wait(name, per_minute, portal.clock(), take=False)
    return Problem(
        429,
        f"more than {per_minute} requests in a minute",
        headers={"Retry-After": str(max(1, math.ceil(waits)))},
    )
