"""Policy values as they lie in the tables: JSON for what is only ever read whole.

Reading trusts nothing: a row that holds something else than this version writes is a `StoreUnavailable`,
and a gate that meets one keeps its last good snapshot.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import date
from typing import TypeVar

from sqlalchemy import RowMapping

from proxy.errors import ConfigurationError
from proxy.policy import (
    AccountCode,
    CallClass,
    CallLimits,
    ClassOfService,
    CodeCollection,
    CodeOwner,
    DigestCredential,
    OwnerKind,
    Treatment,
    User,
    UserGroup,
    parse_patterns,
)
from proxy.policy.codes import ACCOUNT_OWNER
from proxy.store.audit import masked_code
from proxy.store.database import StoreUnavailable

__all__ = [
    "code_facts",
    "code_row",
    "group_facts",
    "group_row",
    "read_code",
    "read_group",
    "read_user",
    "user_facts",
    "user_row",
]

Row = dict[str, str | int | float | bool | date | None]

_Value = TypeVar("_Value")


def _reading(what: str, read: Callable[[], _Value]) -> _Value:
    try:
        return read()
    except (ConfigurationError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreUnavailable(f"store: {what} can't be read: {type(error).__name__}") from error


def _dump(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def _service_json(service: ClassOfService) -> dict[str, list[str]]:
    return {
        "classes": sorted(service.classes),
        "restricted": [pattern.text for pattern in service.restricted],
        "permitted": [pattern.text for pattern in service.permitted],
    }


def _read_service(raw: Mapping[str, list[str]]) -> ClassOfService:
    return ClassOfService(
        frozenset(CallClass(name) for name in raw["classes"]),
        parse_patterns(raw["restricted"]),
        parse_patterns(raw["permitted"]),
    )


def group_facts(group: UserGroup) -> dict[str, object]:
    """A group as the audit log and its row tell it: by names and plain values."""
    return {
        "permissions": _service_json(group.permissions),
        "collection": group.collection.value,
        "unlock": _service_json(group.unlock),
        "edited": {call_class.value: treatment.value for call_class, treatment in group.edited.items()},
        "tries": group.tries,
        "first_digit": group.first_digit,
        "inter_digit": group.inter_digit,
        "whole_entry": group.whole_entry,
        "min_length": group.min_length,
        "max_length": group.max_length,
        "fixed_length": group.fixed_length,
        "prompts": group.prompts,
        "limits": asdict(group.limits),
    }


def group_row(group: UserGroup) -> Row:
    """A group as a row."""
    return {"name": group.name, "rules": _dump(group_facts(group))}


def read_group(row: RowMapping) -> UserGroup:
    """A group from its row."""

    def read() -> UserGroup:
        rules = json.loads(str(row["rules"]))
        fixed = rules["fixed_length"]
        return UserGroup(
            name=str(row["name"]),
            permissions=_read_service(rules["permissions"]),
            collection=CodeCollection(rules["collection"]),
            unlock=_read_service(rules["unlock"]),
            edited={CallClass(name): Treatment(cell) for name, cell in rules["edited"].items()},
            tries=int(rules["tries"]),
            first_digit=float(rules["first_digit"]),
            inter_digit=float(rules["inter_digit"]),
            whole_entry=float(rules["whole_entry"]),
            min_length=int(rules["min_length"]),
            max_length=int(rules["max_length"]),
            fixed_length=None if fixed is None else int(fixed),
            prompts=str(rules["prompts"]),
            limits=CallLimits(**rules.get("limits", {})),
        )

    return _reading(f"group {row['name']!r}", read)


def user_row(user: User) -> Row:
    """A user as a row; of its secrets only the HA1 values are there."""
    return {
        "extension": user.extension,
        "group_name": user.group,
        "name": user.name,
        "caller_number": user.caller_number,
        "digest_name": user.digest_name,
        "credentials": _dump([[item.algorithm, item.realm, item.ha1] for item in user.credentials]),
        "enabled": user.enabled,
    }


def user_facts(user: User) -> dict[str, object]:
    """A user as the audit log tells it: of its secrets only which hashes there are."""
    return {
        "extension": user.extension,
        "group": user.group,
        "name": user.name,
        "caller_number": user.caller_number,
        "digest_name": user.digest_name,
        "hashes": [item.algorithm for item in user.credentials],
        "enabled": user.enabled,
    }


def read_user(row: RowMapping) -> User:
    """A user from its row."""

    def read() -> User:
        credentials = json.loads(str(row["credentials"]))
        return User(
            extension=str(row["extension"]),
            group=str(row["group_name"]),
            name=str(row["name"]),
            caller_number=str(row["caller_number"]),
            digest_name=str(row["digest_name"]),
            credentials=tuple(
                DigestCredential(str(algorithm), str(realm), str(ha1))
                for algorithm, realm, ha1 in credentials
            ),
            enabled=bool(row["enabled"]),
        )

    return _reading(f"user {row['extension']!r}", read)


def code_row(code: AccountCode, change_id: int) -> Row:
    """A code as a row of the change ``change_id``; its ``uses`` are counted by the store and not written
    here.
    """
    owner = code.owner
    service = code.class_of_service
    return {
        "digits": code.digits,
        "typed": code.typed,
        "description": code.description,
        "enabled": code.enabled,
        "valid_from": code.valid_from,
        "valid_until": code.valid_until,
        "owner_group": owner.name if owner.kind is OwnerKind.GROUP else None,
        "owner_user": owner.name if owner.kind is OwnerKind.USER else None,
        "class_of_service": None if service is None else _dump(_service_json(service)),
        "max_uses": code.max_uses,
        "change_id": change_id,
    }


def code_facts(code: AccountCode) -> dict[str, object]:
    """A code as the audit log tells it: masked, because the log outlives the code."""
    owner = code.owner
    return {
        "code": masked_code(code.form),
        "description": code.description,
        "enabled": code.enabled,
        "valid_from": None if code.valid_from is None else code.valid_from.isoformat(),
        "valid_until": None if code.valid_until is None else code.valid_until.isoformat(),
        "owner": f"{owner.kind.value} {owner.name}".strip(),
        "class_of_service": None if code.class_of_service is None else _service_json(code.class_of_service),
        "max_uses": code.max_uses,
    }


def read_code(row: RowMapping) -> AccountCode:
    """A code from its row."""

    def read() -> AccountCode:
        owner = ACCOUNT_OWNER
        if row["owner_group"] is not None:
            owner = CodeOwner(OwnerKind.GROUP, str(row["owner_group"]))
        elif row["owner_user"] is not None:
            owner = CodeOwner(OwnerKind.USER, str(row["owner_user"]))
        service = row["class_of_service"]
        return AccountCode(
            str(row["digits"]),
            str(row["typed"]),
            str(row["description"]),
            bool(row["enabled"]),
            row["valid_from"],
            row["valid_until"],
            owner,
            None if service is None else _read_service(json.loads(str(service))),
            row["max_uses"],
            int(row["uses"]),
        )

    return _reading("an account code", read)
