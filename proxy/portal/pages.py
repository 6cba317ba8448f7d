"""Turns templates into answers."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse, Response

from proxy.portal.gate_link import LiveCall
from proxy.portal.permissions import Permission
from proxy.portal.texts import LANGUAGES
from proxy.portal.visit import THEMES, Visit

__all__ = ["ASSETS", "asset", "emergencies_of", "go_to", "page", "part", "versioned"]

ASSETS = {
    "portal.css": "text/css",
    "portal.js": "text/javascript",
    "icon.svg": "image/svg+xml",
    "vendor/pico.min.css": "text/css",
    "vendor/htmx.min.js": "text/javascript",
}
"""What browsers load besides pages, and its type. ``vendor/`` is filled by script/bootstrap."""

_templates = Environment(
    loader=PackageLoader("proxy.portal"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@cache
def asset(name: str) -> bytes | None:
    """Return an asset, or None when it is not there."""
    if name not in ASSETS:
        return None
    try:
        return resources.files(__package__).joinpath("assets", name).read_bytes()
    except OSError:
        return None


@cache
def versioned(name: str) -> str:
    """Return the address of an asset: another one whenever it changes, so that browsers may keep it."""
    return f"/assets/{name}?v={hashlib.sha256(asset(name) or b'').hexdigest()[:12]}"


async def page(visit: Visit, template: str, /, *, status: int = 200, **values: object) -> Response:
    """Answer with a page."""
    gate = await run_in_threadpool(visit.portal.gate.state) if visit.account is not None else None
    calls: tuple[LiveCall, ...] = ()
    if gate is not None and gate.facts.get("emergency_calls"):
        found = await run_in_threadpool(visit.portal.gate.calls)
        calls = found or ()
    emergencies = emergencies_of(visit, calls)
    return HTMLResponse(part(visit, template, gate=gate, emergencies=emergencies, **values), status)


def part(visit: Visit, template: str, /, **values: object) -> str:
    """Return the HTML of a page, or of a part of one."""
    return _templates.get_template(template).render(
        visit=visit,
        account=visit.account,
        csrf=visit.csrf,
        t=visit.texts,
        theme=visit.theme,
        themes=THEMES,
        languages=LANGUAGES,
        asset=versioned,
        path=visit.request.url.path,
        **values,
    )


def emergencies_of(visit: Visit, calls: tuple[LiveCall, ...]) -> tuple[LiveCall, ...]:
    """The emergency calls among these, for those who are to know of everybody's at once."""
    if not visit.may(Permission.CALLS_HANG_UP):
        return ()
    return tuple(call for call in calls if call.emergency)


def _elapsed(seconds: float) -> str:
    """Say how long something has lasted: ``0:42``, ``1:02:03``."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


_templates.filters["elapsed"] = _elapsed


def go_to(path: str, **query: object) -> RedirectResponse:
    """Send the browser to a page of the portal after a change (RFC 9110 §15.4.4)."""
    told = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in query.items() if value != "")
    return RedirectResponse(f"{path}?{told}" if told else path, 303)
