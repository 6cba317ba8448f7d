"""Sends the reports that are due: looks every few seconds, and writes one at a time.

It runs in a thread of the portal's process, beside the sender of webhooks (docs/decisions). Several processes
on one store share the work: each due time is one row, which is taken with a lease.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace

from proxy.errors import TollgateError
from proxy.portal.mailed_reports import NotSendable, report_mail
from proxy.portal.permissions import Permission, may
from proxy.portal.repeating import Repeating
from proxy.portal.webhook_mail import Mailer
from proxy.store import PortalAccount, ReportMail, ReportSchedule, Store

__all__ = ["ReportSender"]

logger = logging.getLogger(__name__)

_EVERY = 5.0
_KEPT = 90 * 86_400.0
"""So long is known when a report was sent."""


class ReportSender:
    """Sends until it is stopped."""

    def __init__(
        self,
        store: Store,
        mailer: Mailer,
        *,
        clock: Callable[[], float] = time.time,
        every: float = _EVERY,
    ) -> None:
        self._store = store
        self._mailer = mailer
        self._clock = clock
        self._looking = Repeating("reports by e-mail", self.look, every=every)

    def start(self) -> None:
        """Begin."""
        self._looking.start()

    def stop(self) -> None:
        """Begin nothing new and break off what is being sent."""
        self._looking.ending = True
        self._mailer.close()
        self._looking.stop()

    def look(self) -> bool:
        """Send one report that is due; False when there was none."""
        schedules, now = self._store.schedules, self._clock()
        if schedules.note_due(now=now):
            schedules.forget(before=now - _KEPT)
        due = schedules.take_due(now=now, limit=1)
        for schedule, mail in due:
            self._send(schedule, mail)
        return bool(due)

    def _send(self, schedule: ReportSchedule, mail: ReportMail) -> None:
        schedules, for_good = self._store.schedules, False
        try:
            message = report_mail(self._store, schedule, mail, self._owner(schedule))
            outcome = self._mailer.send(message)
            if 200 <= outcome.status < 300:
                schedules.sent(mail.id, now=self._clock(), note=outcome.error)
                logger.info("report %d was sent to %d address(es)", schedule.id, len(schedule.recipients))
                return
            reason = f"{outcome.status or ''} {outcome.error}".strip()
        except NotSendable as error:
            reason, for_good = str(error), True
        except (TollgateError, OSError) as error:
            reason = str(error)
        except Exception as error:
            logger.exception("a report failed in a way that nobody thought of")
            reason = type(error).__name__
        if not schedules.failed(mail, reason, now=self._clock(), for_good=for_good):
            logger.warning("report %d was given up: %s", schedule.id, reason)

    def _owner(self, schedule: ReportSchedule) -> PortalAccount:
        """Whose report it is, as long as they may have it."""
        account = self._store.accounts.get(schedule.account_id)
        # A password that is to be changed at the next log-in takes nothing away.
        if account is None or not may(replace(account, must_change=False), Permission.REPORTS_MAIL):
            raise NotSendable("who has made the schedule may not see reports (any more)")
        return account
