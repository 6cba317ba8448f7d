"""The database: models, migrations and repositories.

Synchronous, for threads and commands: the call path never touches it (DESIGN contract 3).
"""

from __future__ import annotations

from proxy.store.accounts import AccountsRepository, LockoutRules, LoginGuard, PortalAccount, Role
from proxy.store.audit import Actor, AuditEntry, AuditFilter, AuditHead, AuditLog, AuditVerdict
from proxy.store.bindings import BindingsRepository, BindingWriter
from proxy.store.code_import import ImportPlan, LineResult, LineVerdict, carry_out, plan_import
from proxy.store.codes import CodeOrder, CodesRepository, UpsertResult
from proxy.store.corrections import Correction, CorrectionsRepository
from proxy.store.credentials import digest_credentials, generate_password
from proxy.store.database import StoreUnavailable, public_name
from proxy.store.example import ExampleUser, seed_example_data
from proxy.store.people import GroupsRepository, UsersRepository
from proxy.store.reports import Report, ReportBy, ReportLine, ReportOrder, ReportsRepository, Statement
from proxy.store.schedules import (
    MAILED,
    MailedCalls,
    ReportFormat,
    ReportMail,
    ReportSchedule,
    Rhythm,
    SchedulesRepository,
)
from proxy.store.sessions import ApiToken, PortalSession, SessionsRepository, TokensRepository, secret_hash
from proxy.store.snapshots import SnapshotSource, load_snapshot
from proxy.store.store import Store
from proxy.store.usage import (
    UsageCount,
    UsageEntry,
    UsageFilter,
    UsageOrder,
    UsagePage,
    UsageRepository,
    UsageSink,
)
from proxy.store.versions import VersionConflict, Versioned
from proxy.store.webhooks import WebhookDelivery, WebhookEndpoint, WebhooksRepository

__all__ = [
    "MAILED",
    "AccountsRepository",
    "Actor",
    "ApiToken",
    "AuditEntry",
    "AuditFilter",
    "AuditHead",
    "AuditLog",
    "AuditVerdict",
    "BindingWriter",
    "BindingsRepository",
    "CodeOrder",
    "CodesRepository",
    "Correction",
    "CorrectionsRepository",
    "ExampleUser",
    "GroupsRepository",
    "ImportPlan",
    "LineResult",
    "LineVerdict",
    "LockoutRules",
    "LoginGuard",
    "MailedCalls",
    "PortalAccount",
    "PortalSession",
    "Report",
    "ReportBy",
    "ReportFormat",
    "ReportLine",
    "ReportMail",
    "ReportOrder",
    "ReportSchedule",
    "ReportsRepository",
    "Rhythm",
    "Role",
    "SchedulesRepository",
    "SessionsRepository",
    "SnapshotSource",
    "Statement",
    "Store",
    "StoreUnavailable",
    "TokensRepository",
    "UpsertResult",
    "UsageCount",
    "UsageEntry",
    "UsageFilter",
    "UsageOrder",
    "UsagePage",
    "UsageRepository",
    "UsageSink",
    "UsersRepository",
    "VersionConflict",
    "Versioned",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WebhooksRepository",
    "carry_out",
    "digest_credentials",
    "generate_password",
    "load_snapshot",
    "plan_import",
    "public_name",
    "secret_hash",
    "seed_example_data",
]
