"""The registered phones of a running gate and the store: read at the start, written behind while it runs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import datetime

from proxy.call.config import GateConfig
from proxy.call.identity import Authenticator, peer_networks
from proxy.call.registrations import KeepAlive, Registrations
from proxy.clock import epoch
from proxy.composition import registrar_config
from proxy.policy import Snapshot
from proxy.settings import Settings
from proxy.sip.bindings import StoredBinding
from proxy.sip.endpoint import Endpoint
from proxy.sip.gruu import Gruus
from proxy.sip.reachability import Surroundings
from proxy.sip.registrar import Registrar
from proxy.store import BindingWriter, Store, StoreUnavailable

__all__ = ["PhoneRegister"]

logger = logging.getLogger(__name__)


class PhoneRegister:
    """Keeps the bindings of `Registrations` over a restart. Belongs to the event loop's thread."""

    def __init__(
        self,
        settings: Settings,
        config: GateConfig,
        endpoint: Endpoint,
        authenticator: Authenticator,
        *,
        wall_clock: Callable[[], datetime],
        key: bytes,
    ) -> None:
        """``key``: what temporary GRUUs are sealed with."""
        self._points = endpoint.config.listen_points
        registrar = Registrar(registrar_config(settings), self._surroundings(settings, config), Gruus(key))
        self.registrations = Registrations(
            endpoint,
            registrar,
            authenticator,
            wall_clock=wall_clock,
            keep_alive=KeepAlive(settings.registrar.keep_alive),
            interval=settings.registrar.keep_alive_interval,
        )
        self._writer: BindingWriter | None = None
        self._trouble = False

    def reconfigure(self, settings: Settings, config: GateConfig) -> None:
        """Take other limits and names; phones that are registered stay so."""
        registrations = self.registrations
        registrations.registrar.reconfigure(registrar_config(settings), self._surroundings(settings, config))
        registrations.keep_alive = KeepAlive(settings.registrar.keep_alive)
        registrations.interval = settings.registrar.keep_alive_interval

    def _surroundings(self, settings: Settings, config: GateConfig) -> Surroundings:
        # Who names no domains has phones that call the gate by whatever name they were given.
        domains = (*config.local_domains, config.realm.lower()) if settings.sip.local_domains else ()
        return Surroundings(self._points, frozenset(domains), peer_networks(config))

    async def open(self, store: Store | None, policy: Snapshot) -> None:
        """Take over what an earlier run has left, once there is a store; then nothing more.

        Phones that have registered in the meantime keep what they have.
        """
        if store is None or self._writer is not None:
            return
        try:
            stored = await asyncio.to_thread(_left_by_the_last_run, store, time.time())
        except StoreUnavailable as error:
            if not self._trouble:
                logger.warning("the phones of the last run can't be read yet: %s", error)
            self._trouble = True
            return
        count = self.registrations.restore(stored, epoch=epoch(), now=time.monotonic())
        self.registrations.retain({user.extension for user in policy.users.values() if user.enabled})
        self._writer = BindingWriter(store.bindings)
        self._writer.start()
        logger.info("%d contacts of phones are known from the last run", count)

    def write(self) -> None:
        """Hand what has changed to the writer's thread."""
        if self._writer is not None:
            changed = self.registrations.registrar.take_changes()
            if changed:
                self._writer.submit(changed, epoch=epoch())

    def close(self) -> None:
        """Write the last changes down, before the store is closed."""
        self.write()
        if self._writer is not None:
            self._writer.stop()
            self._writer = None

    @property
    def contacts(self) -> int:
        """How many contacts are registered."""
        return len(self.registrations.registrar)

    @property
    def users(self) -> int:
        """How many users have a registered phone."""
        return self.registrations.registrar.users


def _left_by_the_last_run(store: Store, now: float) -> list[StoredBinding]:
    # Of users who have not come back nobody would ever delete what has ended.
    store.bindings.forget_ended(now=now)
    return store.bindings.all(now=now)
