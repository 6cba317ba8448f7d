"""The sections of the settings file about the gate's neighbours: PBXs, phones, trunks and the ways to them.

As in `proxy.settings_sections` field names are the names in the file, and times are in seconds.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from proxy.policy import NumberStyle
from proxy.settings_sections import AddressText, Codec, Network, Seconds, Section

__all__ = [
    "DidRouteSettings",
    "PeerSettings",
    "PhonesSettings",
    "RegistrarSettings",
    "SubscriptionSettings",
    "TrunkAccountSettings",
    "TrunkSettings",
]

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")]
LargeRequests = Literal["tcp-first", "tcp", "udp"]
Reliability = Literal["off", "supported", "required"]
Digits = Literal["auto", "rfc4733", "info"]
_USER = r"^[A-Za-z0-9._~+*-]{0,255}$"


class _CallingSide(Section):
    code_mode: Literal["answer", "early"] = "answer"
    """Whether callers are answered before a code is asked, or asked in early media."""
    default_group: str | None = None
    """User group of callers that match no user; without one they are refused."""
    codecs: tuple[Codec, ...] = Field(default=("PCMU", "PCMA", "G722", "OPUS"), min_length=1)
    """Codecs that are taken, the preferred one first."""
    reliable: Reliability = "supported"
    """Which provisional responses to it ask for a PRACK (RFC 3262): none, those with SDP, or all; and whether
    it may or must send its own so. A caller that requires them gets them."""
    digits: Digits = "auto"
    """How it is told keys in talk: telephone-events, else INFO if it knows that, else tones; without INFO; or
    INFO always."""


class PeerSettings(_CallingSide):
    """A PBX trusted by its address, or by its certificate."""

    name: Name
    """Its name, unique among peers and trunks."""
    networks: tuple[Network, ...] = ()
    """Addresses or networks its signalling comes from; all of them if certificate_names are given alone:
    then no name in its Contact leads anywhere but to its ``address``, or back over its connection."""
    certificate_names: tuple[str, ...] = ()
    """Only calls over TLS are its calls, from one who shows a certificate for one of these domains."""
    address: AddressText | None = None
    """Where calls to it go; without one it only places calls. Of a name with several addresses the next one
    is called when one does not answer."""
    tls_name: str = ""
    """What its own certificate must name when the gate connects to it; empty: the host of the address."""
    trusted: bool = True
    """What it says about callers is believed, and it is told about them."""
    drop_headers: tuple[HeaderName, ...] = ()
    """Headers that are not taken from it and not sent to it."""
    large_requests: LargeRequests = "tcp-first"
    """How requests of more than 1300 bytes reach it over UDP: over TCP first, over TCP alone, or as they
    are."""
    latching: Literal["strict", "learning"] = "strict"
    """Whether its media comes from where its SDP says, or (behind NAT) from where it is seen to
    come."""
    srtp: Literal["off", "optional", "required"] = "off"
    """SRTP, keyed in SDP (RFC 4568): the keys are as safe as the signalling, so use TLS."""
    probe_interval: float = Field(default=0.0, ge=0, le=86_400)
    """An OPTIONS goes to each of its addresses so often, so that a dead one is known before a call waits for
    it; 0: never, calls alone tell."""
    pass_refer: bool = False
    """When its party is transferred to another of its own numbers, it is asked to do that itself (REFER)."""

    @model_validator(mode="after")
    def _recognisable(self) -> Self:
        if not (self.networks or self.certificate_names):
            raise ValueError("networks: must be given, or certificate_names")
        return self


class PhonesSettings(_CallingSide):
    """Phones, which prove who they are by digest."""

    enabled: bool = True
    """Phones may register and call."""
    latching: Literal["strict", "learning"] = "learning"
    """Whether their media comes from where their SDP says, or (behind NAT) from where it is seen to
    come."""
    srtp: Literal["off", "optional", "required"] = "off"
    """SRTP, keyed in SDP (RFC 4568): the keys are as safe as the signalling, so use TLS."""

    response_timeout: Seconds = 4.0
    """A phone that says nothing for so long when it is called is given up."""
    ring_time: Seconds = 20.0
    """The contacts of one q ring so long before those of the next lower q do."""


class RegistrarSettings(Section):
    """Registrations of phones. Expiries are in whole seconds."""

    default_expires: int = Field(default=3_600, ge=1, le=86_400)
    """For a contact that names no expiry."""
    min_expires: int = Field(default=60, ge=1, le=3_600)
    """Less is answered with 423."""
    max_expires: int = Field(default=7_200, ge=1, le=86_400)
    """More is shortened to this."""
    max_contacts: int = Field(default=10, ge=1, le=100)
    """Contacts of one user."""
    max_bindings: int = Field(default=100_000, ge=1)
    """Contacts of all users."""
    flow_timer: int = Field(default=120, ge=0, le=3_600)
    """What phones with Outbound on TCP and TLS are told: within so many seconds a keep-alive has to come
    (RFC 5626 §4.4); 0: nothing."""
    path_needs_support: bool = True
    """A Path that the phone does not say it supports is answered with 420."""
    keep_alive: Literal["options", "crlf", "off"] = "options"
    """What keeps a NAT open towards phones on UDP."""
    keep_alive_interval: Seconds = 25.0
    """So often; shortest-lived NATs forget after 30 s."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.min_expires <= self.default_expires <= self.max_expires:
            raise ValueError("min_expires, default_expires and max_expires: each at least the one before")
        return self


class SubscriptionSettings(Section):
    """Busy lamps and message waiting (RFC 6665). Expiries are in whole seconds."""

    watching: Literal["all", "group", "own"] = "all"
    """Whose lines a user may watch: everybody's, those of its own group, only its own."""
    show_remote: bool = False
    """Lamps also tell with whom a user speaks, unless the caller asked for privacy."""
    mailboxes: str = ""
    """Name of the peer or trunk that holds the users' mailboxes; empty: message-summary gets 489."""
    default_expires: int = Field(default=3_600, ge=1, le=86_400)
    """For a subscription that names no expiry."""
    min_expires: int = Field(default=60, ge=1, le=3_600)
    """Less is answered with 423."""
    max_expires: int = Field(default=7_200, ge=1, le=86_400)
    """More is shortened to this."""
    max_per_user: int = Field(default=200, ge=1)
    """Subscriptions of one user; more get 403."""
    max_subscriptions: int = Field(default=20_000, ge=1)
    """Those of all users; more get 503."""
    max_dialogs: int = Field(default=10, ge=1, le=100)
    """Calls that one NOTIFY tells of."""
    notify_interval: float = Field(default=1.0, ge=0, le=60)
    """Seconds between the NOTIFYs of one subscription on average; a few may follow each other at once."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.min_expires <= self.default_expires <= self.max_expires:
            raise ValueError("min_expires, default_expires and max_expires: each at least the one before")
        return self


class NumberFormatSettings(Section):
    """How a trunk wants numbers written."""

    style: NumberStyle = NumberStyle.E164
    """``+14155550100``, the same without ``+``, or as dialled at home."""
    national_prefix: bool = True
    """With ``national``: the national prefix (``0`` in Germany) stands before the number."""
    strip: int = Field(default=0, ge=0, le=20)
    """Characters taken off the front then."""
    prepend: str = Field(default="", pattern=r"^[0-9*#+]*$")
    """Put in front at last."""


class TrunkAccountSettings(Section):
    """Who the gate is to a trunk."""

    username: str = Field(pattern=r"^[\x20-\x7e]{1,255}$")
    """Name that the carrier gave, by which the gate proves who it is."""
    user: str = Field(default="", pattern=_USER)
    """The account's own address: what stands before the @ where the gate registers, and where the carrier
    calls it; empty: the username, up to its @ if it has one. The number called is then taken from
    P-Called-Party-ID or To."""
    password: SecretStr
    """Password that the carrier gave."""
    realm: tuple[str, ...] = ()
    """One realm or a list: only their challenges are answered. Empty: the registrar's, and what each of the
    trunk's own addresses asks calls for first, or next once the answer to that was refused. A callee behind
    the trunk may have asked that; naming the realm is the strict way."""

    @field_validator("realm", mode="before")
    @classmethod
    def _one_realm(cls, value: object) -> object:
        if isinstance(value, str):
            return (value,) if value else ()
        return value

    @model_validator(mode="after")
    def _addressable(self) -> Self:
        if not (self.own_user and re.match(_USER, self.own_user)):
            raise ValueError("user: needed where the username is no user part of a URI")
        return self

    @property
    def own_user(self) -> str:
        """User part of the account's own address."""
        return self.user or self.username.partition("@")[0]


class TrunkSettings(Section):
    """One way out to a carrier; the order of the trunks is the order in which they are tried."""

    name: Name
    """Its name, unique among peers and trunks."""
    addresses: tuple[AddressText, ...] = Field(min_length=1)
    """Where its calls go, in the order in which they are tried. A name without port is looked up as RFC
    3263 says."""
    host: str = ""
    """Host part of what goes out; empty: that of the first address."""
    tls_name: str = ""
    """What its certificate must name; empty: the host of each address."""
    networks: tuple[Network, ...] = ()
    """Where its calls come from besides its own addresses."""
    certificate_names: tuple[str, ...] = ()
    """Only calls over TLS are its calls, from one who shows a certificate for one of these domains."""
    inbound: bool = True
    """Calls from it are taken."""
    codecs: tuple[Codec, ...] = Field(default=("PCMU", "PCMA"), min_length=1)
    """Codecs that it takes, the preferred one first."""
    codec_order: Literal["caller", "trunk"] = "caller"
    """Whose order decides which of the codecs is spoken."""
    number_format: NumberFormatSettings = NumberFormatSettings()
    """How it wants numbers written."""
    caller_id: Literal["pass", "user", "fixed"] = "pass"
    """What it is told about the caller's number: as it came, the user's own, or always the same."""
    fixed_caller_number: str = ""
    """The number, with ``caller_id = "fixed"``."""
    identity_header: Literal["asserted", "preferred", "none"] = "asserted"
    """Which header tells the caller's number beside From: P-Asserted-Identity, P-Preferred-Identity or
    none."""
    privacy: Literal["anonymous", "header"] = "anonymous"
    """Who wants to stay unknown is anonymous in From; or From stays and the Privacy header says so, for
    carriers that bill by From."""
    from_host: str = Field(default="", pattern=r"^[A-Za-z0-9._:\[\]-]{0,255}$")
    """Host part of From; empty: that of ``host``."""
    user_phone: bool = False
    """Add ``user=phone`` to numbers in URIs."""
    allow_refer: bool = False
    """It may transfer the other party of a call to whom that one could dial (REFER)."""
    auto_answer: bool = False
    """Its calls may say how phones ring, and that they answer by themselves (Alert-Info, Call-Info): whoever
    calls could listen."""
    drop_headers: tuple[HeaderName, ...] = ()
    """Headers that are not sent to it and not taken from it, such as Identity or Diversion; but an emergency
    call keeps where it comes from."""
    large_requests: LargeRequests = "tcp-first"
    """How requests of more than 1300 bytes reach it over UDP: over TCP first, over TCP alone, or as they
    are."""
    reliable: Reliability = "supported"
    """Whether it may, or must, send provisional responses reliably (RFC 3262); "required" fits a carrier that
    says so, and is not asked of it in emergency calls."""
    digits: Digits = "auto"
    """How it is told keys in talk: telephone-events, else INFO if it knows that, else tones; without INFO; or
    INFO always."""
    trusted: bool = True
    """What it says about callers is believed, and it is told about them."""
    latching: Literal["strict", "learning"] = "strict"
    """Whether its media comes from where its SDP says, or (behind NAT) from where it is seen to
    come."""
    srtp: Literal["off", "optional", "required"] = "off"
    """SRTP, keyed in SDP (RFC 4568): the keys are as safe as the signalling, so use TLS."""
    emergency_calls: int = Field(default=1, ge=0)
    """So many of ``max_calls`` are kept free for emergency calls (all but one at most)."""
    max_calls: int = Field(default=0, ge=0)
    """Calls over it at once, those that come in included; 0: any number. What would go out beyond that goes
    to the next trunk, what comes in beyond gets 503; an emergency call always goes out."""
    priority: int = Field(default=0, ge=0, le=1_000)
    """Lower ones are tried first; within one priority by weight, else in the order of the file."""
    weight: int = Field(default=0, ge=0, le=1_000)
    """Share of the calls among trunks of one priority."""
    account: TrunkAccountSettings | None = None
    """Answers the trunk's challenges, to calls and to registrations."""
    register_here: bool = Field(default=False, alias="register")
    """Keep the gate registered at the trunk, under its account."""
    register_expires: int = Field(default=3_600, ge=60, le=86_400)
    """For so long the gate registers at a time."""
    probe_interval: float = Field(default=0.0, ge=0, le=86_400)
    """An OPTIONS goes to each address so often, so that a dead trunk is known before a call waits for it;
    0: never.
    """
    response_timeout: Seconds = 4.0
    """Without any response for so long the next trunk is tried."""
    progress_timeout: Seconds = 20.0
    """With nothing but 100 for so long the next trunk is tried; an emergency call waits 4 s at first, and
    comes back when the others have failed."""

    @model_validator(mode="after")
    def _caller(self) -> Self:
        if self.caller_id == "fixed" and not self.fixed_caller_number:
            raise ValueError('fixed_caller_number: needed with caller_id = "fixed"')
        if self.privacy == "header" and not self.trusted:
            raise ValueError('privacy: a trunk that is not trusted must not be told; use "anonymous"')
        if self.register_here and self.account is None:
            raise ValueError("account: needed with register = true")
        return self


class DidRouteSettings(Section):
    """Calls from the trunk to numbers with this prefix go to this peer, or to the phones of this user."""

    prefix: str = ""
    """Beginning of the called number as the trunk sends it; the longest that fits counts."""
    peer: str = ""
    """Name of a peer that has an address."""
    user: str = Field(default="", pattern=r"^[0-9]{0,20}$")
    """Extension."""

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if bool(self.peer) == bool(self.user):
            raise ValueError("name either a peer or a user")
        return self
