"""Every page that a person can open at the site."""

from __future__ import annotations

__all__ = ["PAGES"]

PAGES = {
    "overview": "/",
    "live-calls": "/live",
    "account-codes": "/codes",
    "account-codes-add": "/codes?add=true",
    "account-codes-details": "/codes?panel=1",
    "account-codes-edit": "/codes?edit=1",
    "account-codes-import": "/codes/import",
    "user-groups": "/groups",
    "user-group": "/groups/edit?name=Sales",
    "user-group-new": "/groups/edit",
    "users": "/users",
    "users-locked": "/users/locked",
    "user": "/users/edit?extension=204",
    "user-new": "/users/edit",
    "trunks": "/trunks",
    "usage-log": "/usage",
    "usage-log-call": "/usage/sample",
    "usage-log-export": "/usage/export",
    "reports": "/reports",
    "reports-by-day": "/reports?by=day",
    "reports-by-mail": "/reports/mail",
    "statement": "/reports/statement?code=ACME-12/7",
    "report-by-mail": "/reports/mail/1",
    "audit-log": "/audit",
    "audit-log-verified": "/audit?verify=true",
    "webhooks": "/webhooks",
    "webhook": "/webhooks/1",
    "webhook-deliveries": "/webhooks/deliveries",
    "tokens": "/tokens",
    "accounts": "/accounts",
    "account": "/accounts/edit?id=2",
    "account-new": "/accounts/edit",
    "password": "/password",
    "second-factor": "/password/second-factor",
}
