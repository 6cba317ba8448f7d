"""Turns templates into answers."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse, Response

from proxy.portal.texts import LANGUAGES
from proxy.portal.visit import THEMES, Visit

__all__ = ["ASSETS", "asset", "go_to", "page", "versioned"]

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
    html = _templates.get_template(template).render(
        visit=visit,
        account=visit.account,
        csrf=visit.csrf,
        t=visit.texts,
        theme=visit.theme,
        themes=THEMES,
        languages=LANGUAGES,
        gate=gate,
        asset=versioned,
        path=visit.request.url.path,
        **values,
    )
    return HTMLResponse(html, status)


def go_to(path: str, **query: object) -> RedirectResponse:
    """Send the browser to a page of the portal after a change (RFC 9110 §15.4.4)."""
    told = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in query.items() if value != "")
    return RedirectResponse(f"{path}?{told}" if told else path, 303)
