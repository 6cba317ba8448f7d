"""Turns templates into answers."""

from __future__ import annotations

import hashlib
from datetime import datetime
from functools import cache
from importlib import resources
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse, Response

from proxy.portal.emergencies import Emergency
from proxy.portal.gate_link import LiveCall
from proxy.portal.permissions import Permission
from proxy.portal.texts import LANGUAGES, Texts
from proxy.portal.visit import THEMES, Visit
from proxy.store.days import site_zone

__all__ = ["ASSETS", "asset", "emergencies_of", "go_to", "mail_part", "page", "part", "versioned"]

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
    emergencies = await run_in_threadpool(_emergencies_now, visit)
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


def mail_part(template: str, texts: Texts, /, **values: object) -> str:
    """Return the HTML of an e-mail, which has no visit around it."""
    return _templates.get_template(template).render(t=texts, **values)


def _emergencies_now(visit: Visit) -> tuple[Emergency, ...]:
    watches = visit.may(Permission.CALLS_HANG_UP)
    return emergencies_of(visit, visit.portal.gate.calls()) if watches else ()


def emergencies_of(visit: Visit, calls: tuple[LiveCall, ...] | None) -> tuple[Emergency, ...]:
    """The emergency calls among these and of the last minutes, for those who are to know of everybody's at
    once. Blocks.
    """
    if not visit.may(Permission.CALLS_HANG_UP):
        return ()
    portal = visit.portal
    return portal.emergencies.to_notice(
        portal.store, portal.site, calls, account=visit.who.id, now=portal.clock()
    )


def _elapsed(seconds: float) -> str:
    """Say how long something has lasted: ``0:42``, ``1:02:03``."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _clock_time(at: float) -> str:
    """Say when something was, by the site's clock: ``14:05``."""
    return datetime.fromtimestamp(at, site_zone()).strftime("%H:%M")


_templates.filters["elapsed"] = _elapsed
_templates.filters["clock_time"] = _clock_time


def go_to(path: str, **query: object) -> RedirectResponse:
    """Send the browser to a page of the portal after a change (RFC 9110 §15.4.4)."""
    told = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in query.items() if value != "")
    return RedirectResponse(f"{path}?{told}" if told else path, 303)
