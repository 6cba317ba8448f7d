"""Typed settings from one TOML file and the environment; what is wrong is said by its path in the file.

Every setting can be overridden by an environment variable: ``TOLLGATE_`` and the path with ``__`` between
its parts (``TOLLGATE_STORE__URL``). Lists and tables are given as JSON there (``TOLLGATE_TRUNKS='[{...}]'``),
or one element by its place (``TOLLGATE_TRUNKS__0__NAME``); the next place adds one. All settings have a
default with which the gate starts on 127.0.0.1 without any file. Unknown settings are refused: a misspelt
limit must not silently be no limit. Times are in seconds.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self, get_args

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from proxy.errors import ConfigurationError
from proxy.settings_guessing import GuessingSettings
from proxy.settings_notify import NotifySettings
from proxy.settings_portal import PortalSettings
from proxy.settings_sections import (
    Address,
    AuthSettings,
    ControlSettings,
    GroupSettings,
    JournalSettings,
    LimitSettings,
    LogSettings,
    MediaSettings,
    MetricsSettings,
    Network,
    NumberPlanSettings,
    PromptSettings,
    SipSettings,
    StoreSettings,
    TimerSettings,
)
from proxy.settings_sides import (
    DidRouteSettings,
    PeerSettings,
    PhonesSettings,
    RegistrarSettings,
    SubscriptionSettings,
    TrunkSettings,
)

__all__ = [
    "ALL_PHONES",
    "ENV_PREFIX",
    "Address",
    "GroupSettings",
    "PeerSettings",
    "PhonesSettings",
    "Settings",
    "TrunkSettings",
    "load_settings",
]

ENV_PREFIX = "TOLLGATE_"
ALL_PHONES = "[phones]"
"""Stands for all phones where else the name of a peer stands, which no peer can have."""
_ENV_NOT_SETTINGS = frozenset({"TOLLGATE_CONFIG"})
"""Variables of this prefix that are options of the command, not settings."""


class _Environment(EnvSettingsSource):
    """The environment without single elements of lists, which `load_settings` has put into their lists."""

    def __call__(self) -> dict[str, Any]:
        """Return what the environment gives."""
        return {key: value for key, value in super().__call__().items() if not _is_element(value)}


def _is_element(value: object) -> bool:
    """Take out, at any depth, what stands under places of a list; say whether nothing else was there."""
    if not isinstance(value, dict) or not value:
        return False
    for key in [key for key, inner in value.items() if key.isdigit() or _is_element(inner)]:
        del value[key]
    return not value


class Settings(BaseSettings):
    """All settings of one gate."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
    )

    site: str = Field(default="", max_length=64)
    """Name of the site in the usage log (its column Location)."""
    sip: SipSettings = SipSettings()
    media: MediaSettings = MediaSettings()
    store: StoreSettings = StoreSettings()
    journal: JournalSettings = JournalSettings()
    prompts: PromptSettings = PromptSettings()
    number_plan: NumberPlanSettings = NumberPlanSettings()
    peers: tuple[PeerSettings, ...] = ()
    phones: PhonesSettings = PhonesSettings()
    registrar: RegistrarSettings = RegistrarSettings()
    subscriptions: SubscriptionSettings = SubscriptionSettings()
    trunks: tuple[TrunkSettings, ...] = ()
    did_routes: tuple[DidRouteSettings, ...] = ()
    groups: tuple[GroupSettings, ...] = ()
    local_networks: tuple[Network, ...] = ()
    """Emergency calls from here are never challenged."""
    limits: LimitSettings = LimitSettings()
    timers: TimerSettings = TimerSettings()
    auth: AuthSettings = AuthSettings()
    guessing: GuessingSettings = GuessingSettings()
    log: LogSettings = LogSettings()
    control: ControlSettings = ControlSettings()
    metrics: MetricsSettings = MetricsSettings()
    portal: PortalSettings = PortalSettings()
    notify: NotifySettings = NotifySettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file (which comes as arguments); read nothing else."""
        del env_settings, dotenv_settings, file_secret_settings
        return _Environment(settings_cls), init_settings

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _require_unique("peers", [peer.name for peer in self.peers] + [trunk.name for trunk in self.trunks])
        reachable = {peer.name for peer in self.peers if peer.address is not None}
        for index, route in enumerate(self.did_routes):
            if route.peer and route.peer not in reachable:
                known = ", ".join(sorted(reachable)) or "none has one"
                raise ValueError(
                    f"did_routes[{index}].peer: no peer {route.peer!r} with an address; allowed: {known}"
                )
        holders = reachable | {trunk.name for trunk in self.trunks}
        if self.subscriptions.mailboxes and self.subscriptions.mailboxes not in holders:
            known = ", ".join(sorted(holders)) or "there is none"
            raise ValueError(
                f"subscriptions.mailboxes: no trunk, or peer with an address, of this name; allowed: {known}"
            )
        own = {address.transport for address in self.sip.listen}
        for where, address in self._destinations():
            if address.transport != "SIP" and address.socket_transport not in own:
                raise ValueError(
                    f"{where}: the gate has no {address.socket_transport} socket; add one to sip.listen"
                )
        if self.registrar.flow_timer >= self.sip.tcp.idle_timeout:
            raise ValueError("registrar.flow_timer: sip.tcp.idle_timeout has to be longer")
        for where, side in self._sides():
            if side.large_requests == "tcp" and "TCP" not in own:
                raise ValueError(f"{where}.large_requests: the gate has no TCP socket; add one to sip.listen")
        if self.store.sqlite_path is None and not (self.journal.folder and self.control.socket):
            raise ValueError(
                "journal.folder and control.socket: both needed with a store that is no SQLite file"
            )
        if len(os.fsencode(self.control_socket)) > 100:
            raise ValueError("control.socket: longer than the 100 bytes that a Unix socket's path may have")
        return self

    def _sides(self) -> Iterator[tuple[str, TrunkSettings | PeerSettings]]:
        yield from ((f"trunks[{index}]", trunk) for index, trunk in enumerate(self.trunks))
        yield from ((f"peers[{index}]", peer) for index, peer in enumerate(self.peers))

    def _destinations(self) -> Iterator[tuple[str, Address]]:
        for index, trunk in enumerate(self.trunks):
            for number, address in enumerate(trunk.addresses):
                yield f"trunks[{index}].addresses[{number}]", address
        for index, peer in enumerate(self.peers):
            if peer.address is not None:
                yield f"peers[{index}].address", peer.address

    @property
    def default_groups(self) -> dict[str, str | None]:
        """Groups of callers that match no user, by the name of their peer or `ALL_PHONES`."""
        groups = {peer.name: peer.default_group for peer in self.peers}
        if self.phones.enabled:
            groups[ALL_PHONES] = self.phones.default_group
        return groups

    @property
    def journal_folder(self) -> Path:
        """Where the journal's files are."""
        return Path(self.journal.folder) if self.journal.folder else self._beside(".journal")

    @property
    def control_socket(self) -> Path:
        """Path of the control socket."""
        return Path(self.control.socket) if self.control.socket else self._beside(".sock")

    def _beside(self, suffix: str) -> Path:
        return (self.store.sqlite_path or Path("tollgate")).with_suffix(suffix)


def load_settings(path: Path | None = None) -> Settings:
    """Read the file (none: defaults) and the environment. Raises ConfigurationError, one line per problem."""
    values: dict[str, object] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{path}: not TOML: {error}") from None
    _refuse_unknown_variables(os.environ)
    _put_elements(values, os.environ)
    try:
        return Settings(**values)  # type: ignore[arg-type]  # checked by pydantic itself
    except ValidationError as error:
        where = f"{path}: " if path is not None else ""
        problems = error.errors(include_url=False)
        lines = dict.fromkeys(where + _explain(one) for one in problems if not _follows(one, problems))
        raise ConfigurationError("\n".join(lines)) from None
    except SettingsError as error:
        names = ", ".join(_variables_of(error)) or str(error)
        example = """'["udp:192.0.2.1:5060"]'"""
        raise ConfigurationError(
            f"environment: {names}: lists and tables are given as JSON, like {example}"
        ) from None


def _follows(problem: ErrorDetails, problems: list[ErrorDetails]) -> bool:
    """Say whether a list is too short only because elements of it are wrong, which is said already."""
    loc = problem["loc"]
    return problem["type"] == "too_short" and any(
        len(other["loc"]) > len(loc) and other["loc"][: len(loc)] == loc for other in problems
    )


def _variables_of(error: SettingsError) -> list[str]:
    """Name the variables that hold what is no JSON; their values may be secret."""
    cause = error.__cause__
    text = cause.doc if isinstance(cause, json.JSONDecodeError) else None
    return sorted(
        name for name, value in os.environ.items() if name.upper().startswith(ENV_PREFIX) and value == text
    )


def _refuse_unknown_variables(names: Iterable[str]) -> None:
    known = {ENV_PREFIX + field.upper() for field in Settings.model_fields}
    for name in names:
        upper = name.upper()
        if not upper.startswith(ENV_PREFIX) or upper in _ENV_NOT_SETTINGS:
            continue
        if upper.partition("__")[0] not in known:
            raise ConfigurationError(f"environment: {name} is no setting of this version")


def _put_elements(values: dict[str, object], environment: Mapping[str, str]) -> None:
    """Put single elements of lists (``TOLLGATE_TRUNKS__0__NAME``) into the file's values."""
    for name in sorted(environment):
        first, *rest = name.lower().split("__")
        if not first.startswith(ENV_PREFIX.lower()) or not any(part.isdigit() for part in rest):
            continue
        parts = [first.removeprefix(ENV_PREFIX.lower()), *rest]
        text = environment[name]
        element: object = text
        if text[:1] in {"[", "{"}:
            try:
                element = json.loads(text)
            except ValueError:
                raise ConfigurationError(f"environment: {name} is no JSON") from None
        _put(values, parts, element, name)


def _put(holder: object, parts: list[str], element: object, name: str) -> None:
    """Put an element where ``parts`` lead, making the tables and lists on the way."""
    key, *rest = parts
    fresh: object = element if not rest else [] if rest[0].isdigit() else {}
    if isinstance(holder, list) and key.isdigit():
        place = int(key)
        if place > len(holder):
            raise ConfigurationError(
                f"environment: {name}: the list has {len(holder)}, the next is {len(holder)}"
            )
        if place == len(holder):
            holder.append(fresh)
        elif not rest:
            holder[place] = element
        following: object = holder[place]
    elif isinstance(holder, dict) and not key.isdigit():
        if not rest:
            holder[key] = element
        following = holder.setdefault(key, fresh)
    else:
        raise ConfigurationError(f"environment: {name} leads to no setting")
    if rest:
        _put(following, rest, element, name)


_BEGINS_WITH_A_SETTING = re.compile(r"[a-z_]+(\.[a-z_]+)*: ")
_SHAPES = {
    "tuple_type": 'a list, like ["a", "b"]',
    "dict_type": "a table, like { name = value }",
    "string_type": 'text in quotes, like "a"',
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
}
"""What a setting is written like, by pydantic's names of errors."""

_FORMS = {
    "server": "it like smtp.example.com:587",
    "sender": "it like gate@example.com",
    "x_headers": "it like X-Customer, or X-Branch-* for all that begin so",
    "drop_headers": "the name of a header, like Alert-Info",
    "name": "letters, digits and _ . -, like carrier-1",
    "prepend": "digits and * # +, like 00",
    "username": "1 to 255 printable characters of ASCII",
    "user": "it like 204",
    "from_host": "it like sip.example.com",
    "realm": 'it without ", \\ and line breaks',
}
"""What a text is written like whose form is checked, by the name of its setting."""


def _name_of(loc: tuple[int | str, ...]) -> str:
    """Name the setting at a path that may end in places of a list."""
    return next((part for part in reversed(loc) if isinstance(part, str)), "")


def _explain(problem: ErrorDetails) -> str:
    """Say one problem as ``path: what is wrong; allowed: ...``."""
    path = ""
    for part in problem["loc"]:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += f".{part}" if path else part
    variable = "__".join(
        (ENV_PREFIX + str(problem["loc"][0]) if problem["loc"] else "", *map(str, problem["loc"][1:]))
    )
    variable = variable.upper()
    source = f" (from {variable})" if variable in os.environ else ""
    reason = _reason(problem)
    if path and isinstance(problem["input"], dict) and _BEGINS_WITH_A_SETTING.match(reason):
        return f"{path}.{reason}"  # what is wrong between settings of a section names the one to mend
    return f"{path}{source}: {reason}" if path else reason


def _reason(problem: ErrorDetails) -> str:
    context = problem.get("ctx", {})
    match problem["type"]:
        case "extra_forbidden":
            return f"no such setting; allowed here: {_siblings(problem['loc'])}"
        case "literal_error" | "enum":
            allowed = str(context.get("expected", "")).replace("'", "").replace(" or ", ", ")
            return f"{problem['input']!r} is not known; allowed: {allowed}"
        case "missing":
            return "must be given"
        case "value_error":
            return str(context.get("error", problem["msg"]))
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            return problem["msg"].replace("Input should be", "must be")
        case "too_short":
            return f"name at least {context['min_length']}"
        case "string_pattern_mismatch" if (name := _name_of(problem["loc"])) in _FORMS:
            return f"write {_FORMS[name]}"
        case kind if kind in _SHAPES:
            return f"write {_SHAPES[kind]}"
        case _:
            return problem["msg"][:1].lower() + problem["msg"][1:]


def _siblings(loc: tuple[int | str, ...]) -> str:
    """Name the settings that are allowed where an unknown one stood."""
    model: type[BaseModel] = Settings
    for part in loc[:-1]:
        if isinstance(part, str) and part in model.model_fields:
            annotation = model.model_fields[part].annotation
            for candidate in (annotation, *get_args(annotation)):
                if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                    model = candidate
    return ", ".join(field.alias or name for name, field in model.model_fields.items())


def _require_unique(where: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{where}: the name {name!r} is used twice (peers and trunks share their names)")
