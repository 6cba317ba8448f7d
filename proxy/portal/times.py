"""Moments as pages show them."""

from __future__ import annotations

from datetime import datetime

from proxy.store.days import site_zone

__all__ = ["site_time"]


def site_time(at: float) -> str:
    """Return a moment in the site's own time: ``2026-07-31 14:05:00``."""
    return f"{datetime.fromtimestamp(at, site_zone()):%Y-%m-%d %H:%M:%S}"
