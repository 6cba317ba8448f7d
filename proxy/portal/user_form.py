"""A user as a form sends it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from starlette.datastructures import FormData

from proxy.errors import ConfigurationError, RemoteProtocolError
from proxy.policy import User, refuse_emergency_user
from proxy.policy.dial_string import read_dial_string
from proxy.portal.code_form import text_of
from proxy.portal.texts import Texts
from proxy.portal.visit import Visit
from proxy.store import digest_credentials, generate_password

__all__ = ["LEAST_PASSWORD", "Fields", "fields_from", "fields_of", "user_from"]

Fields = Mapping[str, str]

LEAST_PASSWORD = 8
_NAMES = ("extension", "name", "group", "caller_number", "digest_name", "enabled", "password", "md5")
_KEEP, _MAKE, _SET = "keep", "make", "set"


def fields_from(form: FormData) -> dict[str, str]:
    """Return the fields as they were sent; the password itself is none of what is shown again."""
    return {name: text_of(form, name).strip()[:200] for name in _NAMES}


def fields_of(user: User | None, group: str = "") -> dict[str, str]:
    """Return what stands in the form of a user, or of one that is to be added."""
    if user is None:
        return {
            **dict.fromkeys(_NAMES, ""),
            "group": group,
            "enabled": "yes",
            "password": _MAKE,
            "md5": "yes",
        }
    return {
        "extension": user.extension,
        "name": user.name,
        "group": user.group,
        "caller_number": user.caller_number,
        "digest_name": "" if user.digest_name == user.extension else user.digest_name,
        "enabled": "yes" if user.enabled else "",
        "password": _KEEP,
        "md5": "yes" if _has_md5(user) else "",
    }


def user_from(visit: Visit, fields: Fields, secret: str, old: User | None) -> tuple[User, str]:
    """Return the user, and the SIP password that was made for it and has to be shown ("" for none).

    Raises `ConfigurationError` that says what is wrong. ``secret`` is the password as it was typed.
    """
    texts = visit.texts
    user = User(
        fields["extension"] if old is None else old.extension,
        fields["group"],
        fields["name"],
        _caller_number(fields["caller_number"], texts),
        fields["digest_name"],
        () if old is None else old.credentials,
        enabled=bool(fields["enabled"]),
    )
    refuse_emergency_user(user, visit.portal.plan)
    how = fields["password"]
    if how not in {_KEEP, _MAKE, _SET}:
        raise ConfigurationError(texts("users.bad_choice"))
    if how == _KEEP:
        if old is not None and user.digest_name != old.digest_name and user.credentials:
            raise ConfigurationError(texts("users.digest_needs_password"))
        return user, ""
    made = ""
    if how == _MAKE:
        secret = made = generate_password()
    elif not (LEAST_PASSWORD <= len(secret) <= 128 and secret.isprintable()):
        raise ConfigurationError(texts("users.bad_password", least=LEAST_PASSWORD))
    credentials = digest_credentials(user.digest_name, visit.portal.realm, secret, md5=bool(fields["md5"]))
    return replace(user, credentials=credentials), made


def _has_md5(user: User) -> bool:
    return not user.credentials or any(found.algorithm == "MD5" for found in user.credentials)


def _caller_number(text: str, texts: Texts) -> str:
    if text:
        try:
            read_dial_string(text)
        except RemoteProtocolError as error:
            raise ConfigurationError(texts("users.bad_number", reason=error)) from None
    return text
