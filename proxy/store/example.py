"""Example data for a store that is empty: enough to place a gated call a minute after the set-up."""

from __future__ import annotations

from dataclasses import dataclass, field

from proxy.policy import (
    CallClass,
    ClassOfService,
    CodeCollection,
    NumberPlan,
    Treatment,
    User,
    UserGroup,
    new_code,
)
from proxy.store.credentials import digest_credentials, generate_password
from proxy.store.store import Store

__all__ = ["ExampleUser", "seed_example_data"]

_INTERNAL = ClassOfService(frozenset({CallClass.INTERNAL}))
_LOCAL = ClassOfService(
    frozenset({CallClass.INTERNAL, CallClass.TOLL_FREE, CallClass.LOCAL, CallClass.MOBILE})
)
_NO_PREMIUM = ClassOfService(frozenset(CallClass) - {CallClass.PREMIUM})

_GROUPS = (
    UserGroup("Front desk", permissions=_INTERNAL, collection=CodeCollection.REQUIRED, unlock=_NO_PREMIUM),
    UserGroup(
        "Consultants",
        permissions=_LOCAL,
        collection=CodeCollection.OPTIONAL,
        unlock=_NO_PREMIUM,
        edited={CallClass.INTERNATIONAL: Treatment.REQUIRED_CODE},
    ),
    UserGroup("Lobby phones", permissions=_LOCAL, collection=CodeCollection.OFF),
)

_USERS = (("201", "Front desk"), ("202", "Consultants"), ("203", "Consultants"), ("204", "Front desk"))

_CODES = (
    ("1234", "General"),
    ("ACME-12/7", "Acme, matter 12/7"),
    ("55501", "Internal projects"),
)


@dataclass(frozen=True, slots=True)
class ExampleUser:
    """One user that was made, with the password that is stored nowhere: print it once."""

    extension: str
    group: str
    password: str = field(repr=False)


def seed_example_data(store: Store, plan: NumberPlan, *, realm: str) -> tuple[ExampleUser, ...]:
    """Fill an empty store. Returns the users made; () when there was anything in it before."""
    if store.groups.all() or store.users.all() or store.codes.count():
        return ()
    for group in _GROUPS:
        store.groups.add(group)
    made = tuple(ExampleUser(extension, group, generate_password()) for extension, group in _USERS)
    for user in made:
        credentials = digest_credentials(user.extension, realm, user.password)
        store.users.add(User(user.extension, user.group, f"Phone {user.extension}", credentials=credentials))
    store.codes.upsert_many(
        [new_code(typed, description, plan=plan) for typed, description in _CODES], may_update=False
    )
    return made
