"""One portal as a process: its socket, its certificate, the first account, and the end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
import time
from ipaddress import ip_address
from pathlib import Path

import uvicorn
from uvicorn.server import HANDLED_SIGNALS

from proxy.errors import ConfigurationError
from proxy.policy import NumberPlan
from proxy.portal.app import create_app
from proxy.portal.connections import ConnectionBounds, RequestBounds, bounded_protocol
from proxy.portal.first_start import FIRST_NAME, make_first_account
from proxy.portal.gate_link import GateLink
from proxy.portal.pages import ASSETS, asset
from proxy.portal.passwords import Passwords
from proxy.portal.portal import Portal
from proxy.portal.report_sender import ReportSender
from proxy.portal.single_sign_on import SingleSignOn
from proxy.portal.webhook_doubts import WebhookDoubts
from proxy.portal.webhook_mail import Mailer
from proxy.portal.webhook_post import Poster
from proxy.portal.webhook_sender import WebhookSender
from proxy.settings import Settings
from proxy.store import Store
from proxy.store.call_events import Site

__all__ = ["serve"]

logger = logging.getLogger(__name__)

_KEPT_ALIVE = 30
_LAST_REQUESTS = 5
"""Seconds that requests have to end in."""


def serve(settings: Settings, plan: NumberPlan, *, ends_with_input: bool = False) -> None:
    """Run the portal until SIGTERM or SIGINT; with ``ends_with_input`` until standard input ends too.

    Raises `ConfigurationError` when it can't start.
    """
    for name in ASSETS:
        if asset(name) is None:
            logger.warning("portal: %s is not there: run script/bootstrap; pages look plain without it", name)
    listening = _bind(*settings.portal.address)
    with listening, Store(settings.store.url) as store:
        link, realm = GateLink(settings.control_socket), settings.auth.realm
        prompts = Path(settings.prompts.folder) if settings.prompts.folder else None
        notify = settings.notify
        site = Site(notify.location, notify.callback)
        oidc = settings.portal.oidc
        portal = Portal(
            settings.portal,
            store,
            plan,
            link,
            Passwords(),
            sign_on=SingleSignOn(oidc, settings.portal.public_url, time.time) if oidc.issuer else None,
            mails=bool(notify.mail.server),
            site=site,
            realm=realm,
            prompts=prompts,
            default_groups=settings.default_groups,
            webhook_doubts=WebhookDoubts(bool(notify.mail.server), notify.private_networks),
        )
        mailer = Mailer(notify.mail)
        senders = (
            WebhookSender(store, Poster(notify.private_networks), mailer),
            ReportSender(store, mailer),
        )
        for sender in senders:
            sender.start()
        try:
            if (password := make_first_account(store, portal.passwords)) is not None:
                print(
                    f"portal: log in as {FIRST_NAME} with {password} (told once; you will set another)",
                    flush=True,
                )
            _Server(_config(settings, portal), settings, listening, ends_with_input=ends_with_input).run()
        finally:
            for sender in senders:
                sender.stop()
            portal.close()


def _config(settings: Settings, portal: Portal) -> uvicorn.Config:
    own = settings.portal
    bounds = ConnectionBounds(own.trusted_proxies, only_trusted=not (own.certificate or own.is_local))
    try:
        config = uvicorn.Config(
            RequestBounds(create_app(portal)),
            http=bounded_protocol(bounds),
            loop="uvloop",
            ws="none",
            lifespan="off",
            # No line per request: addresses hold what was searched for, which may be a code.
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=bool(own.trusted_proxies),
            forwarded_allow_ips=[str(network) for network in own.trusted_proxies],
            ssl_certfile=own.certificate or None,
            ssl_keyfile=own.key or None,
            timeout_keep_alive=_KEPT_ALIVE,
            timeout_graceful_shutdown=_LAST_REQUESTS,
        )
        config.load()
    except OSError as error:
        message = f"portal.certificate and portal.key: {error.strerror or error}"
        raise ConfigurationError(message) from None
    return config


class _Server(uvicorn.Server):
    """Says when it is ready, and ends with its parent."""

    def __init__(
        self, config: uvicorn.Config, settings: Settings, listening: socket.socket, *, ends_with_input: bool
    ) -> None:
        super().__init__(config)
        self._listening = listening
        self._ready_line = f"portal: ready at {_url(settings, listening)}"
        self._ends_with_input = ends_with_input

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Run until told to end."""
        for number in HANDLED_SIGNALS:
            # uvicorn raises the signal that has ended it once more, of which a process dies that has still
            # to stop its senders and put its files away.
            signal.signal(number, lambda _number, _frame: self._end())
        super().run(sockets or [self._listening])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer."""
        await super().startup(sockets)
        if self._ends_with_input:
            loop = asyncio.get_running_loop()
            threading.Thread(target=self._wait_for_end_of_input, args=(loop,), daemon=True).start()
        print(self._ready_line, flush=True)

    def _wait_for_end_of_input(self, loop: asyncio.AbstractEventLoop) -> None:
        while os.read(sys.stdin.fileno(), 1024):
            pass
        loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        self.should_exit = True


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        message = f"portal.listen: {host} port {port}: {error.strerror or error}"
        raise ConfigurationError(message) from None
    listening.set_inheritable(False)
    return listening


def _url(settings: Settings, listening: socket.socket) -> str:
    if settings.portal.public_url:
        return settings.portal.public_url
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if settings.portal.certificate else 'http'}://{shown}:{port}"
