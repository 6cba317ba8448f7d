"""Account codes: what an administrator types, what a caller dials, and the rules of creation.

The *dial form* is the digits a caller presses: separators are ignored, letters become their keypad digits
(ITU-T E.161), ``?`` stands for any one digit. It is unique in the whole account.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace
from datetime import date

from proxy.errors import ConfigurationError
from proxy.policy.groups import MAX_CODE_LENGTH, ClassOfService
from proxy.policy.number_plan import NumberPlan

__all__ = [
    "MAX_TYPED_LENGTH",
    "AccountCode",
    "CodeOwner",
    "OwnerKind",
    "dial_form",
    "new_code",
    "refuse_duplicate",
    "refuse_emergency_code",
]

MAX_TYPED_LENGTH = 64
"""Characters of a code as typed, separators included."""
MAX_DESCRIPTION_LENGTH = 255
MAX_USES = 1_000_000_000
"""Fits into every database's integers."""

_KEYPAD = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "22233344455566677778889999")
_WRITTEN_BETWEEN = "- _ . , : / \\ & ' ( ) [ ]"
"""What people write between the parts of a code. Any other sign is an error of typing, and no sign at all."""
_SEPARATORS = str.maketrans("", "", f"{_WRITTEN_BETWEEN} \t\u00a0\u2010\u2011\u2012\u2013\u2014")
_DIALLABLE = frozenset("0123456789?")


class OwnerKind(enum.StrEnum):
    """Who may use a code."""

    ACCOUNT = "account"
    GROUP = "group"
    USER = "user"


@dataclass(frozen=True, slots=True)
class CodeOwner:
    """The owner of a code: everyone, the users of one group, or one user (its extension)."""

    kind: OwnerKind = OwnerKind.ACCOUNT
    name: str = ""
    """Group name or extension; "" for the whole account."""

    def __post_init__(self) -> None:
        if (self.kind is OwnerKind.ACCOUNT) is bool(self.name):
            raise ConfigurationError(
                "code owner: name a group or a user for those kinds, and none for the account"
            )


ACCOUNT_OWNER = CodeOwner()


@dataclass(frozen=True, slots=True)
class AccountCode:
    """One account code. Its digits and typed form stay out of ``repr``.

    Built by `new_code` from what an administrator typed; the constructor trusts its caller (the store).
    """

    digits: str = field(repr=False)
    """Dial form: digits and ``?``."""
    typed: str = field(default="", repr=False)
    """As the administrator typed it, e.g. ``ACME-12/7``; "" means the same as `digits`."""
    description: str = ""
    enabled: bool = True
    valid_from: date | None = None
    """First day on which it is valid, site time; None: always was."""
    valid_until: date | None = None
    """Last day on which it is valid."""
    owner: CodeOwner = ACCOUNT_OWNER
    class_of_service: ClassOfService | None = None
    """Narrows what the group lets a code unlock; None: not narrowed."""
    max_uses: int | None = None
    uses: int = 0
    """Calls that used it up to this snapshot."""

    @property
    def form(self) -> str:
        """The code as an administrator knows it."""
        return self.typed or self.digits

    @property
    def wildcard(self) -> bool:
        """Some or all of its digits are ``?``."""
        return "?" in self.digits

    @property
    def plain(self) -> bool:
        """It has a description and nothing else: no typed form, limit, owner or date of its own."""
        return (
            self.enabled
            and not self.typed
            and self.owner.kind is OwnerKind.ACCOUNT
            and self.valid_from is None
            and self.valid_until is None
            and self.class_of_service is None
            and self.max_uses is None
            and self.uses == 0
        )


def dial_form(typed: str) -> str:
    """Return the digits (and ``?``) that dial a code as typed.

    Raises ConfigurationError for an empty code, one of more than 20 digits, and characters no keypad has.
    """
    if typed.isascii() and typed.isdigit():
        digits = typed
    else:
        if len(typed) > MAX_TYPED_LENGTH:
            message = f"code has {len(typed)} characters: at most {MAX_TYPED_LENGTH} are allowed"
            raise ConfigurationError(message)
        digits = _dialled(typed)
    if not digits:
        raise ConfigurationError("code is empty: write 1 to 20 digits or letters")
    if len(digits) > MAX_CODE_LENGTH:
        message = f"code dials {len(digits)} digits: at most {MAX_CODE_LENGTH} are allowed"
        raise ConfigurationError(message)
    if not _DIALLABLE.issuperset(digits):
        # As it was typed: who wrote a small letter looks for that.
        bad = next(sign for sign in typed if not _DIALLABLE.issuperset(_dialled(sign)))
        if bad in "#*":
            message = f"code holds {bad!r}: while a code is entered, # ends it and * clears it"
        else:
            message = f"code holds {bad!r}: only digits, the letters A-Z, ? and separators are allowed"
            message += f" (spaces and {_WRITTEN_BETWEEN})"
        raise ConfigurationError(message)
    return digits


def _dialled(typed: str) -> str:
    return typed.translate(_SEPARATORS).upper().translate(_KEYPAD)


def new_code(
    typed: str, description: str = "", *, plan: NumberPlan, template: AccountCode | None = None
) -> AccountCode:
    """Return a valid account code from what an administrator typed; other fields come from `template`.

    Raises ConfigurationError that says what is wrong. Uniqueness is not judged here (`refuse_duplicate`).
    """
    typed = typed.strip()
    digits = dial_form(typed)
    refuse_emergency_code(digits, plan)
    description = description.strip()
    if len(description) > MAX_DESCRIPTION_LENGTH:
        message = (
            f"description has {len(description)} characters: at most {MAX_DESCRIPTION_LENGTH} are allowed"
        )
        raise ConfigurationError(message)
    if not description.isprintable():
        raise ConfigurationError("description holds control characters (line break, TAB or such)")
    base = template or AccountCode("")
    if base.valid_from and base.valid_until and base.valid_from > base.valid_until:
        raise ConfigurationError("code validity: the first day lies after the last")
    if base.max_uses is not None and not 1 <= base.max_uses <= MAX_USES:
        message = f"code maximum uses: must be 1 to {MAX_USES}"
        raise ConfigurationError(message)
    if template is None:
        return AccountCode(digits, "" if typed == digits else typed, description)
    return replace(template, digits=digits, typed="" if typed == digits else typed, description=description)


def refuse_emergency_code(digits: str, plan: NumberPlan) -> None:
    """Raise ConfigurationError when a code would dial like an emergency number."""
    if plan.emergency(digits) is not None:
        message = f"code dials {digits}, an emergency number: at the prompt that places the emergency call"
        raise ConfigurationError(message)


def refuse_duplicate(code: AccountCode, present: AccountCode) -> None:
    """Raise ConfigurationError that names both codes which dial the same digits."""
    if code.form == present.form:
        message = f"code {code.form} exists already"
    else:
        message = f"codes {code.form} and {present.form} both dial {code.digits}"
    raise ConfigurationError(message)
