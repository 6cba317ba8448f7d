"""The whole policy at one moment: immutable, replaced whole when the store changes (DESIGN contract 3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from proxy.policy.code_table import CodeTable
from proxy.policy.groups import UserGroup
from proxy.policy.locks import CallerLock
from proxy.policy.normalise import Normaliser, internal_number
from proxy.policy.number_plan import DialledNumber, NumberPlan, NumberRefused
from proxy.policy.users import User

__all__ = ["Snapshot"]

_LEAST_FULL_NUMBER = 7
"""Digits of an extension that may be a whole national number."""


class Snapshot:
    """Plan, groups, users and codes, with the look-ups that a call needs. Never changes once made."""

    __slots__ = (
        "_by_caller",
        "_by_digest_name",
        "_by_number",
        "_normaliser",
        "codes",
        "groups",
        "locks",
        "plan",
        "users",
        "version",
    )

    def __init__(
        self,
        plan: NumberPlan | None = None,
        groups: Iterable[UserGroup] = (),
        users: Iterable[User] = (),
        codes: CodeTable | None = None,
        *,
        locks: Iterable[CallerLock] = (),
        version: int = 0,
        normaliser: Normaliser | None = None,
    ) -> None:
        plan = NumberPlan() if plan is None else plan
        if normaliser is None or normaliser.plan != plan:
            normaliser = Normaliser(plan)
        self.plan: Final = plan
        self.groups: Final[Mapping[str, UserGroup]] = MappingProxyType(
            {group.name: group for group in groups}
        )
        self.users: Final[Mapping[str, User]] = MappingProxyType({user.extension: user for user in users})
        """By extension."""
        self.codes: Final = CodeTable.of() if codes is None else codes
        self.locks: Final = _by_caller(locks)
        """Callers who have entered too many wrong codes; some of them no longer in force."""
        self.version: Final = version
        """Number of the last change of the store that is in it."""
        self._normaliser = normaliser
        self._by_digest_name = {user.digest_name: user for user in self.users.values()}
        self._by_number = self._index_full_numbers()
        self._by_caller = self._index_callers()

    def with_changes(
        self,
        *,
        version: int,
        plan: NumberPlan | None = None,
        groups: Iterable[UserGroup] | None = None,
        users: Iterable[User] | None = None,
        codes: CodeTable | None = None,
        locks: Iterable[CallerLock] | None = None,
    ) -> Snapshot:
        """Return the next snapshot: what is not given stays. A change of codes or locks alone costs
        microseconds."""
        if plan is None and groups is None and users is None:
            following = object.__new__(Snapshot)
            for name in self.__slots__:
                object.__setattr__(following, name, getattr(self, name))
            object.__setattr__(following, "codes", self.codes if codes is None else codes)
            if locks is not None:
                object.__setattr__(following, "locks", _by_caller(locks))
            object.__setattr__(following, "version", version)
            return following
        return Snapshot(
            self.plan if plan is None else plan,
            self.groups.values() if groups is None else groups,
            self.users.values() if users is None else users,
            self.codes if codes is None else codes,
            locks=self.locks.values() if locks is None else locks,
            version=version,
            normaliser=self._normaliser,
        )

    def normalise(self, text: str) -> DialledNumber | NumberRefused:
        """Return the normal form of a Request-URI or dial string; the extension of a user is internal."""
        number = self._normaliser(text)
        if isinstance(number, DialledNumber) and number.emergency:
            return number
        user = self._user_of(number)
        if user is None:
            return number
        return internal_number(user.extension, f"{number.dialled} is the extension of a user")

    def _user_of(self, number: DialledNumber | NumberRefused) -> User | None:
        """Return the user whose extension this is, in whatever dress."""
        user = self.users.get(number.dialled)
        if user is None and isinstance(number, DialledNumber):
            user = self._by_number.get(number.number)
        return user

    def user_by_digest_name(self, name: str) -> User | None:
        """Return the user who authenticates under this name."""
        return self._by_digest_name.get(name)

    def user_by_caller(self, text: str) -> User | None:
        """Return the user whom a trusted peer names as caller, by extension or caller number in any dress.

        A caller number that several users share names none of them.
        """
        # The host says nothing of who calls; with it, a caller over TCP were another text each time.
        user_part, at, host = text.partition("@")
        number = self._normaliser(user_part + at if "@" not in host else text)
        user = self._user_of(number)
        if user is None and isinstance(number, DialledNumber):
            user = self._by_caller.get(number.number)
        return user

    def sharing_number(self, user: User) -> list[User]:
        """Return the others that a caller number stands for besides a user: its own number or theirs.

        It names none of those who share it, and only the one whose extension it is.
        """
        own = self._caller(user)
        owner = None if own is None else self._user_of(own)
        found = []
        for other in self.users.values():
            theirs = self._caller(other)
            same = own is not None and theirs is not None and own.number == theirs.number
            borrowed = theirs is not None and self._user_of(theirs) == user
            if other.extension != user.extension and (same or borrowed or other is owner):
                found.append(other)
        return found

    def caller_e164(self, number: str, user: User | None) -> str:
        """Return a caller's number in E.164 with ``+``, else that of its user, else ""."""
        for text in (number, "" if user is None else user.caller_number):
            found = self._normaliser(text) if text else None
            if isinstance(found, DialledNumber) and found.number.startswith("+"):
                return found.number
        return ""

    def _index_full_numbers(self) -> dict[str, User]:
        """Find the extensions that are whole numbers: they may be dialled as such too."""
        found: dict[str, User] = {}
        for user in self.users.values():
            if len(user.extension) >= _LEAST_FULL_NUMBER:
                # With this context no area code completes it: 5550100 is a whole number nowhere.
                number = self._normaliser(f"tel:{user.extension};phone-context=+{self.plan.country_code}")
                if isinstance(number, DialledNumber) and number.number.startswith("+"):
                    found[number.number] = user
        return found

    def _index_callers(self) -> dict[str, User]:
        found: dict[str, User] = {}
        shared: set[str] = set()
        for user in self.users.values():
            if (number := self._caller(user)) is not None:
                if number.number in found:
                    shared.add(number.number)
                found[number.number] = user
        for text in shared:
            del found[text]
        return found

    def _caller(self, user: User) -> DialledNumber | None:
        """Return a user's caller number, if it has one that can be read."""
        number = self._normaliser(user.caller_number) if user.caller_number else None
        return number if isinstance(number, DialledNumber) else None


def _by_caller(locks: Iterable[CallerLock]) -> Mapping[str, CallerLock]:
    return MappingProxyType({lock.caller: lock for lock in locks})
