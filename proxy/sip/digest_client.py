"""The gate as a client of digest authentication: the credentials of a trunk, and what its challenges ask.

RFC 3261 §22.2, §22.3; RFC 7616 §3.3-§3.6; RFC 8760. A `DigestClient` remembers the last challenge of one
server, so that most requests carry their credentials at once. A `DigestAttempt` is one request with its
repetitions: two at most, and none when the server refuses what was made for the very nonce it sent.

A server that only passes on what stands behind it lets a callee ask for credentials too, in a realm of its
own. So an account without a realm keeps the first one that has asked, or that of the registrar.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from proxy.errors import RemoteProtocolError
from proxy.sip.digest import Challenge, answer_challenge, choose_challenge
from proxy.sip.message import Response

__all__ = ["DigestAccount", "DigestAttempt", "DigestClient"]

logger = logging.getLogger(__name__)

MAX_ANSWERS = 2
"""Challenges that one request answers: the first, and one after the nonce has changed."""


@dataclass(frozen=True, slots=True)
class DigestAccount:
    """Who the gate is to a server."""

    username: str
    password: str = field(repr=False)
    realm: str = ""
    """Only challenges of this realm are answered; "": the first one counts (the server's address is checked
    already: credentials go nowhere else)."""


class DigestClient:
    """One account at one server. ``cnonces`` gives a fresh random text each time."""

    __slots__ = ("_challenge", "_cnonces", "_count", "_header", "_realm", "account")

    def __init__(self, account: DigestAccount, cnonces: Callable[[], str]) -> None:
        self.account = account
        self._cnonces = cnonces
        self._challenge: Challenge | None = None
        self._realm = account.realm
        """The one realm that is answered, "" while it is open."""
        self._header = ""
        self._count = 0

    def attempt(self, *, urgent: bool = False) -> DigestAttempt:
        """Begin a request; one for help (``urgent``) answers in another realm too, if none is prescribed."""
        return DigestAttempt(self, urgent=urgent)

    def authorization(self, method: str, uri: str) -> tuple[str, tuple[tuple[str, str], ...]]:
        """Return the nonce that is answered, and the header that does it; "" and nothing while none is
        known.
        """
        challenge = self._challenge
        if challenge is None:
            return "", ()
        self._count += 1
        credentials = answer_challenge(
            challenge,
            method=method,
            uri=uri,
            username=self.account.username,
            password=self.account.password,
            cnonce=self._cnonces(),
            nonce_count=self._count,
        )
        return challenge.nonce, ((self._header, str(credentials)),)

    def challenged(self, response: Response, answered: str, *, urgent: bool = False) -> bool:
        """Take the challenge of a 401 or 407 to a request that answered the nonce ``answered`` ("": none).

        False: there is nothing to answer, or the credentials are not what the server wants.
        """
        kind = "Proxy" if response.status == 407 else "WWW"
        values = response.headers.get_all(f"{kind}-Authenticate")
        registrar = response.cseq.method == "REGISTER"
        realm = self.account.realm if urgent or registrar else self._realm
        challenge = choose_challenge(value for value in values if _is_of(realm, value))
        if challenge is None:
            if values and not self.account.realm:
                name = self.account.username
                logger.warning("account %s is challenged in another realm than before: not answered", name)
            return False
        if challenge.nonce == answered and not challenge.stale:
            if self._challenge is not None and self._challenge.nonce == answered:
                self._challenge = None
                self._realm = self.account.realm  # it was not the right one
            return False
        if registrar or not self._realm:
            self._realm = challenge.realm
        if self._challenge is None or challenge.nonce != self._challenge.nonce:
            self._count = 0
        self._challenge = challenge
        self._header = "Proxy-Authorization" if kind == "Proxy" else "Authorization"
        return True


def _is_of(realm: str, value: str) -> bool:
    """Say whether this is a challenge of a realm; "": of any."""
    try:
        challenge = Challenge.parse(value)
    except RemoteProtocolError:
        return False
    return challenge is not None and realm in {"", challenge.realm}


class DigestAttempt:
    """One request and its repetitions."""

    __slots__ = ("_answered", "_client", "_left", "_urgent")

    def __init__(self, client: DigestClient, *, urgent: bool) -> None:
        self._client = client
        self._urgent = urgent
        self._answered = ""
        self._left = MAX_ANSWERS

    def headers(self, method: str, uri: str) -> tuple[tuple[str, str], ...]:
        """Return what the request is to carry, as far as the server's wishes are known."""
        self._answered, headers = self._client.authorization(method, uri)
        return headers

    def may_repeat(self, response: Response) -> bool:
        """Take a final response; True: send the request again, with new `headers`."""
        if response.status not in {401, 407} or not self._left:
            return False
        self._left -= 1
        return self._client.challenged(response, self._answered, urgent=self._urgent)
