"""The gate as a client of digest authentication: the credentials of a trunk, and what its challenges ask.

RFC 3261 §22.2, §22.3; RFC 7616 §3.3-§3.6; RFC 8760. A `DigestClient` remembers the last challenge of each
server of one account, so that most requests carry their credentials at once: the registrar and each address
that calls go to may ask in realms of their own. A `DigestAttempt` is one request with its repetitions: two
at most, and none when the server refuses what was made for the very nonce it sent.

A server that only passes on what stands behind it lets a callee ask for credentials too, in a realm of its
own; by the realm alone nobody can tell the two apart. So an account without realms answers calls in the
registrar's realm and in the first that has asked, and in another one only once the answers to those were
refused. Setting the realms is the strict way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from proxy.sip.digest import Challenge, answer_challenge, choose_challenge
from proxy.sip.message import Response

__all__ = ["DigestAccount", "DigestAttempt", "DigestClient"]

logger = logging.getLogger(__name__)

MAX_ANSWERS = 2
"""Challenges that one request answers: the first, and one after the nonce has changed."""
MAX_SERVERS = 64
MAX_REALMS = 8
"""What is remembered of one account's servers, and of one server's realms; the oldest are forgotten."""


@dataclass(frozen=True, slots=True)
class DigestAccount:
    """Who the gate is to a trunk."""

    username: str
    password: str = field(repr=False)
    realms: tuple[str, ...] = ()
    """Only challenges of these are answered; none: the registrar's and those that the trunk's servers ask in
    first (their addresses are checked already: credentials go nowhere else)."""
    user: str = ""
    """User part of the address-of-record and of the Contact that are registered there (RFC 3261 §10.2)."""


class DigestClient:
    """One account at the servers of one trunk. ``cnonces`` gives a fresh random text each time."""

    __slots__ = ("_cnonces", "_servers", "account", "registrar_realm")

    def __init__(self, account: DigestAccount, cnonces: Callable[[], str]) -> None:
        self.account = account
        self._cnonces = cnonces
        self.registrar_realm: str | None = None
        """None while no registrar has asked."""
        self._servers: dict[tuple[bool, str], _Server] = {}
        """By whether it is the registrar, and by address."""

    def attempt(self, host: str = "", *, urgent: bool = False) -> DigestAttempt:
        """Begin a request to the server at ``host``; one for help (``urgent``) answers in any realm, if none
        is prescribed.
        """
        return DigestAttempt(self, host, urgent=urgent)

    def server(self, method: str, host: str) -> _Server:
        """Return what is known of the server that takes such a request at ``host``."""
        key = (True, "") if method == "REGISTER" else (False, host)
        server = self._servers.get(key)
        if server is None:
            if len(self._servers) >= MAX_SERVERS:
                del self._servers[next(iter(self._servers))]
            server = self._servers[key] = _Server()
        return server

    def credentials(self, challenge: Challenge, count: int, method: str, uri: str) -> str:
        """Answer a challenge for the ``count``th time."""
        credentials = answer_challenge(
            challenge,
            method=method,
            uri=uri,
            username=self.account.username,
            password=self.account.password,
            cnonce=self._cnonces(),
            nonce_count=count,
        )
        return str(credentials)

    def may_answer(self, realm: str, server: _Server, *, anyone: bool) -> bool:
        """Say whether a challenge of this realm is answered; ``anyone``: unless the settings forbid it."""
        if self.account.realms:
            return realm in self.account.realms
        return anyone or realm == self.registrar_realm or server.may_ask_in(realm)


class _Asked:
    """A challenge, and how often it was answered."""

    __slots__ = ("challenge", "count")

    def __init__(self, challenge: Challenge) -> None:
        self.challenge = challenge
        self.count = 0


class _Server:
    """What one server has asked for, and a proxy before it."""

    __slots__ = ("_realms", "asked")

    def __init__(self) -> None:
        self.asked: dict[str, _Asked] = {}
        """The last challenges whose answers were not refused, by the headers that answer them: a proxy's
        (407) and the server's own (401) are answered side by side (RFC 3261 §22.3)."""
        self._realms: dict[str, bool] = {}
        """Those it may ask in, each with whether the last answer was refused."""

    def may_ask_in(self, realm: str) -> bool:
        """Say whether it is known by this realm, or by none whose answer it took."""
        return realm in self._realms or all(self._realms.values())

    def take(self, challenge: Challenge, header: str, *, note: bool) -> None:
        """Answer this challenge from now on; ``note``: it may ask in this realm again."""
        asked = self.asked.get(header)
        if asked is None or challenge.nonce != asked.challenge.nonce:
            self.asked[header] = _Asked(challenge)
        else:
            asked.challenge = challenge
        if note:
            if len(self._realms) >= MAX_REALMS and challenge.realm not in self._realms:
                del self._realms[next(iter(self._realms))]
            self._realms[challenge.realm] = False

    def refuse(self, answered: Challenge, header: str) -> None:
        """Note that the answer to a challenge was not the right one."""
        asked = self.asked.get(header)
        if asked is not None and asked.challenge.nonce == answered.nonce:
            del self.asked[header]
        if answered.realm in self._realms:
            self._realms[answered.realm] = True


class DigestAttempt:
    """One request and its repetitions."""

    __slots__ = ("_answered", "_client", "_host", "_left", "_urgent")

    def __init__(self, client: DigestClient, host: str, *, urgent: bool) -> None:
        self._client = client
        self._host = host
        self._urgent = urgent
        self._answered: dict[str, Challenge] = {}
        """By the headers that have answered them."""
        self._left = MAX_ANSWERS

    def headers(self, method: str, uri: str) -> tuple[tuple[str, str], ...]:
        """Return what the request is to carry, as far as the server's wishes are known."""
        server = self._client.server(method, self._host)
        self._answered = {header: asked.challenge for header, asked in server.asked.items()}
        for asked in server.asked.values():
            asked.count += 1
        return tuple(
            (header, self._client.credentials(asked.challenge, asked.count, method, uri))
            for header, asked in server.asked.items()
        )

    def may_repeat(self, response: Response) -> bool:
        """Take a final response; True: send the request again, with new `headers`."""
        status = response.status
        if status not in {401, 403, 407}:
            return False
        client = self._client
        server = client.server(response.cseq.method, self._host)
        repeated = self._left < MAX_ANSWERS
        if status == 403:
            for header, challenge in self._answered.items() if repeated else ():
                server.refuse(challenge, header)
            return False
        kind, header = ("Proxy", "Proxy-Authorization") if status == 407 else ("WWW", "Authorization")
        values = response.headers.get_all(f"{kind}-Authenticate")
        asked = [found for value in values if (found := choose_challenge([value])) is not None]
        answered = self._answered.get(header)
        if answered is not None and _refuses(answered, asked, repeated=repeated):
            server.refuse(answered, header)
        if not asked or not self._left:
            return False
        registering = response.cseq.method == "REGISTER"
        anyone = registering or self._urgent
        chosen = next((one for one in asked if client.may_answer(one.realm, server, anyone=anyone)), None)
        if chosen is None:
            logger.warning(
                "account %s is challenged in another realm than before, which is not answered: "
                "set the account's realm if it is the trunk's own",
                client.account.username,
            )
            return False
        if answered is not None and chosen.nonce == answered.nonce and not chosen.stale:
            return False
        self._left -= 1
        if registering:
            client.registrar_realm = chosen.realm
        server.take(chosen, header, note=not self._urgent)
        return True


def _refuses(answered: Challenge, asked: list[Challenge], *, repeated: bool) -> bool:
    """Say whether a response to what answered a challenge says that the answer was wrong.

    A nonce of an earlier request may have run out meanwhile, even where the server does not call it stale.
    """
    again = next((challenge for challenge in asked if challenge.realm == answered.realm), None)
    return again is not None and not again.stale and (repeated or again.nonce == answered.nonce)
