"""What the call core is told about its surroundings: peers, trunks, limits. Values only, times in seconds.

`proxy.settings` makes these from the configuration file; the core takes a new `GateConfig` whole
(`CallCore.reconfigure`) and calls that are under way keep the one they began with.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from proxy.call.code_guard import GuessingRules
from proxy.call.headers import XHeaders
from proxy.call.ports import Latching
from proxy.policy.trunk_format import TrunkNumberFormat
from proxy.sdp import OwnSockets, SrtpPolicy
from proxy.sip.digest_client import DigestAccount
from proxy.sip.flow import Flow
from proxy.sip.large import LargeRequests
from proxy.sip.subscription import Interval

__all__ = [
    "CallerIdPolicy",
    "CodeMode",
    "DidRoute",
    "DigitForm",
    "GateConfig",
    "IdentityHeader",
    "Peer",
    "PrivacyPolicy",
    "Reliability",
    "Side",
    "SubscriptionConfig",
    "Trunk",
    "Watching",
]


class CodeMode(enum.Enum):
    """How the gate reaches the caller's ear to ask for the code (DESIGN 1.6)."""

    ANSWER = "answer"
    """200, then the prompt."""
    EARLY = "early"
    """183 with SDP; the final answer follows the B leg."""


class Side(enum.Enum):
    """Which side of the gate a peer stands on."""

    PBX = "pbx"
    """A PBX trusted by address: its calls are gated, calls from the trunk go to it."""
    TRUNK = "trunk"
    """A carrier: its calls pass ungated to the PBX or phone behind the gate."""
    PHONES = "phones"
    """Phones that prove who they are by digest; their From and P-Asserted-Identity choose nothing."""


class Reliability(enum.Enum):
    """How provisional responses are exchanged with a peer (RFC 3262); whoever requires it gets it."""

    OFF = "off"
    """Not reliably."""
    SUPPORTED = "supported"
    """Reliably where the other side can: those that carry a description, or what it sends so."""
    REQUIRED = "required"
    """All of them reliably: a caller that can't has none, a trunk has to (but for emergency calls)."""


class DigitForm(enum.Enum):
    """How a peer is told the keys that the other side presses in talk."""

    AUTO = "auto"
    """As telephone-events where it takes them, else as INFO if it knows that, else as tones."""
    EVENTS = "rfc4733"
    """As telephone-events, or as tones where it takes none."""
    INFO = "info"


class CallerIdPolicy(enum.Enum):
    """What a peer is told about the caller's number."""

    PASS = "pass"  # noqa: S105  (no password)
    """From as the A leg had it; P-Asserted-Identity kept when the A leg is trusted, made from the user
    otherwise."""
    USER = "user"
    """From and P-Asserted-Identity are the caller number of the user whom the gate identified."""
    FIXED = "fixed"
    """From and P-Asserted-Identity are `fixed_caller_number`."""


class IdentityHeader(enum.Enum):
    """In which header a trusted trunk is told who calls, whatever From says (RFC 3325 §9)."""

    ASSERTED = "asserted"
    """P-Asserted-Identity."""
    PREFERRED = "preferred"
    """P-Preferred-Identity: the carrier asserts, the gate asks for one of its numbers."""
    NONE = "none"
    """From alone."""


class PrivacyPolicy(enum.Enum):
    """How a trunk is told that a caller wants to stay unknown (RFC 3323)."""

    ANONYMOUS = "anonymous"
    """From is anonymous, and Privacy passes."""
    HEADER = "header"
    """Privacy passes, the carrier makes From anonymous: it bills by the number in From."""


_PCM = ("PCMU", "PCMA")


@dataclass(frozen=True, slots=True)
class Peer:
    """Who may send calls to the gate, and how the gate speaks with it."""

    name: str
    side: Side
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Source addresses; empty for phones, who come from anywhere and prove themselves by digest."""
    certificate_names: tuple[str, ...] = ()
    """Domains in lower case: only who proves one of them by its TLS certificate is this peer; empty
    ``networks`` then let it come from anywhere."""
    flow: Flow | None = None
    """Where calls to this peer go (the PBX for calls from the trunk), or None: it only calls."""
    further_flows: tuple[Flow, ...] = ()
    """Where they go when that fails, in order."""
    shares: tuple[tuple[int, int], ...] = ()
    """As `Trunk.shares`, for all `flows`."""
    host: str = ""
    """Host part of what goes to it; "": the address of ``flow``."""
    default_group: str | None = None
    """User group of callers that match no user; None: such callers have no group and are refused."""
    trusted: bool = True
    """Its P-Asserted-Identity, Privacy, Diversion and the like are believed and passed on."""
    code_mode: CodeMode = CodeMode.ANSWER
    latching: Latching = Latching.STRICT
    srtp: SrtpPolicy = SrtpPolicy.OFF
    """Whether its media is SRTP; emergency calls take plain RTP where it is required, too."""
    codecs: tuple[str, ...] = (*_PCM, "G722", "OPUS")
    """Codecs the gate takes on this side, in the gate's order of preference."""
    allow_refer: bool = False
    """A trunk may transfer the other party to whom that one could dial (REFER); all others always may
    transfer."""
    auto_answer: bool = False
    """Calls of a trunk may say how phones ring, and that they answer by themselves; all others always may."""
    pass_refer: bool = False
    """A PBX: it transfers its own party where it can itself (`proxy.call.passed_refer`)."""
    drop_headers: frozenset[str] = frozenset()
    """Headers (canonical names) that neither come from it nor go to it, beside those that never cross."""
    x_headers: XHeaders = field(default_factory=XHeaders)
    """Which of the headers that begin with ``X-`` cross in its calls."""
    large_requests: LargeRequests = LargeRequests.TCP_FIRST
    """What becomes of requests to it that are too large for a datagram."""
    reliable: Reliability = Reliability.SUPPORTED
    """Which provisional responses to it ask for a PRACK."""
    digits: DigitForm = DigitForm.AUTO
    probe_interval: float = 0.0
    """As `Trunk.probe_interval`, for calls to it."""

    @property
    def flows(self) -> tuple[Flow, ...]:
        """Every way to it, in order."""
        return () if self.flow is None else (self.flow, *self.further_flows)


@dataclass(frozen=True, slots=True)
class Trunk:
    """One way out to the carrier."""

    name: str
    flows: tuple[Flow, ...]
    """Destinations in order; each is an attempt of its own."""
    host: str
    """Host part of Request-URI, To and From of what goes out over this trunk."""
    codecs: tuple[str, ...] = _PCM
    orders_codecs: bool = False
    """The order of `codecs` decides which one is spoken, not the caller's."""
    number_format: TrunkNumberFormat = field(default_factory=TrunkNumberFormat)
    caller_id: CallerIdPolicy = CallerIdPolicy.PASS
    fixed_caller_number: str = ""
    user_phone: bool = False
    """Add ``user=phone`` to the URIs whose user is a number."""
    from_host: str = ""
    """Host part of From and of the gate's own statement about the caller; "": that of `host`."""
    identity_header: IdentityHeader = IdentityHeader.ASSERTED
    privacy: PrivacyPolicy = PrivacyPolicy.ANONYMOUS
    allow_refer: bool = False
    """As `Peer.allow_refer`; the other party pays."""
    drop_headers: frozenset[str] = frozenset()
    """Headers (canonical names) that neither go to it nor come from it, beside those that never cross."""
    large_requests: LargeRequests = LargeRequests.TCP_FIRST
    """What becomes of requests to it that are too large for a datagram (RFC 3261 §18.1.1)."""
    reliable: Reliability = Reliability.SUPPORTED
    """Whether it may, or has to, send its provisional responses reliably."""
    digits: DigitForm = DigitForm.AUTO
    trusted: bool = True
    """Trust headers (P-Asserted-Identity and the like) go to this trunk; otherwise they are removed."""
    latching: Latching = Latching.STRICT
    srtp: SrtpPolicy = SrtpPolicy.OFF
    """Whether its media is SRTP; emergency calls take plain RTP where it is required, too."""
    emergency_calls: int = 1
    """So many of `max_calls` are kept free for emergency calls."""
    max_calls: int = 0
    """Concurrent calls, both directions together; 0: no limit."""
    priority: int = 0
    """Lower ones are tried first."""
    weight: int = 0
    """Trunks of one priority share the calls by it; all 0: they are tried in their order."""
    shares: tuple[tuple[int, int], ...] = ()
    """For each of `flows` a group, the same as that of those beside it which it shares the calls with, and
    its weight in it (RFC 2782); empty: nothing is shared."""
    account: DigestAccount | None = None
    """Answers the trunk's challenges; None: they are refusals."""
    register: bool = False
    """Keep the gate registered there; needs an account. Calls then come to the account's user."""
    register_expires: int = 3600
    probe_interval: float = 0.0
    """An OPTIONS goes to each destination so often; 0: never."""
    response_timeout: float = 4.0
    """Without any response for so long the next trunk is tried."""
    progress_timeout: float = 20.0
    """With nothing but 100 for so long the next trunk is tried."""

    @property
    def room(self) -> int:
        """Concurrent calls up to which a limited trunk takes one that is no emergency call: one at least."""
        return max(1, self.max_calls - self.emergency_calls)


@dataclass(frozen=True, slots=True)
class DidRoute:
    """Calls from the trunk whose number begins with ``prefix`` go to the peer of this name, or to the phones
    of a user; longest prefix wins."""

    prefix: str
    peer: str = ""
    user: str = ""
    """Extension."""


class Watching(enum.Enum):
    """Whose lines a user may watch."""

    ALL = "all"
    GROUP = "group"
    """Those of the own user group."""
    OWN = "own"


@dataclass(frozen=True, slots=True)
class SubscriptionConfig:
    """What subscriptions may cost, and who gets one (RFC 6665)."""

    interval: Interval = field(default_factory=Interval)
    watching: Watching = Watching.ALL
    max_per_user: int = 200
    """Subscriptions of one watcher; more get 403."""
    max_subscriptions: int = 20_000
    """All together; more get 503 with Retry-After."""
    max_dialogs: int = 10
    """Dialogs that one NOTIFY tells of, the oldest."""
    notify_interval: float = 1.0
    """Seconds between the NOTIFYs of one subscription on average."""
    show_remote: bool = False
    """Tell with whom a user speaks."""


@dataclass(frozen=True, slots=True)
class GateConfig:
    """All the call core needs to know besides the policy."""

    peers: tuple[Peer, ...] = ()
    trunks: tuple[Trunk, ...] = ()
    """In the order in which they are tried."""
    did_routes: tuple[DidRoute, ...] = ()
    """Empty: every number goes to the only PBX."""
    local_domains: tuple[str, ...] = ()
    """Host names and addresses that mean the gate itself, in lower case."""
    own_sockets: OwnSockets = field(default_factory=OwnSockets)
    """Where no peer's media is sent to."""
    site: str = ""
    """Name of the site, for the records."""
    callback: str = ""
    """The site's number for help to call back callers whom nobody has proved; "": what they say is theirs."""
    realm: str = "tollgate"
    phones: Peer | None = None
    """How phones are treated that authenticate by digest; None: only trusted addresses may call."""
    local_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Emergency calls from here are never challenged."""
    max_calls: int = 2000
    """Calls beyond this get 503 without Retry-After; emergency calls never do."""
    emergency_response_timeout: float = 1.0
    """As `Trunk.response_timeout`, for emergency calls."""
    phone_response_timeout: float = 4.0
    """A phone that has said nothing at all by then is given up."""
    phone_ring_time: float = 20.0
    """The contacts of one q ring so long before those of the next lower q do."""
    ring_timeout: float = 180.0
    """From the first B INVITE to its answer."""
    early_gate_bound: float = 120.0
    """The whole gate in early mode (DESIGN 1.6)."""
    subscriptions: SubscriptionConfig = SubscriptionConfig()
    mailboxes: str = ""
    """Name of the trunk or peer that holds the users' mailboxes; "": nobody does."""
    early_repeat: float = 60.0
    """The 183 is repeated so often (RFC 3261 §13.3.1.1)."""
    session_expires: int = 1800
    """Seconds in which a session is refreshed, or over (RFC 4028); 0: the gate asks for no session timer."""
    min_se: int = 90
    """The shortest such interval that is taken, in seconds."""
    max_duration: float = 0.0
    """Talk time after which the gate ends a call; 0: no limit."""
    guessing: GuessingRules = field(default_factory=GuessingRules)
    """What is done about callers who guess codes."""
    silence_window: float = 60.0
    """A talk of this age or more ends when nothing comes from either side: the engine's inactivity time."""
