"""What becomes of each torture message of RFC 4475 and RFC 5118: one line per file.

``kind`` is what parser and validation say. ``answers`` are the final statuses of which an endpoint gives
one by itself; none where the message goes on to the TU, or is dropped.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Kind(enum.Enum):
    REQUEST = "request"
    RESPONSE = "response"
    REFUSED = "refused"
    """A request that gets an error response."""
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Verdict:
    kind: Kind
    why: str
    answers: tuple[int, ...] = ()


def sound(why: str, *answers: int) -> Verdict:
    return Verdict(Kind.REQUEST, why, answers)


def response(why: str) -> Verdict:
    return Verdict(Kind.RESPONSE, why)


def refused(status: int, why: str) -> Verdict:
    return Verdict(Kind.REFUSED, why, (status,))


def dropped(why: str) -> Verdict:
    return Verdict(Kind.DROPPED, why)


RFC4475 = {
    "badaspec.dat": refused(400, "space within the angle brackets"),
    "badbranch.dat": sound("a bare magic cookie is matched as RFC 2543 does"),
    "baddate.dat": sound("Date is not looked at"),
    "baddn.dat": refused(400, "display name with a comma; no empty line either"),
    "badinv01.dat": refused(400, "empty parameters in Via and Contact"),
    "badvers.dat": refused(505, "SIP/7.0"),
    "bcast.dat": dropped("a response with two Via was for someone before us"),
    "bext01.dat": sound("Require of something unknown", 420),
    "bigcode.dat": dropped("status of ten digits"),
    "clerr.dat": refused(400, "body shorter than Content-Length"),
    "cparam01.dat": sound("the parameter is Contact's"),
    "cparam02.dat": sound("the parameter is the URI's"),
    "dblreq.dat": sound("octets behind Content-Length are ignored"),
    "esc01.dat": sound("escapes are undone once"),
    "esc02.dat": sound("an escaped method is another method", 405, 501),
    "escnull.dat": sound("a user part may hold NUL, escaped"),
    "escruri.dat": refused(400, "headers in the Request-URI"),
    "insuf.dat": refused(400, "no From, To, Call-ID"),
    "intmeth.dat": sound("every character a token may have", 405, 501),
    "inv2543.dat": sound("an RFC 2543 INVITE: no branch, From tag, Max-Forwards, Content-Length"),
    "invut.dat": sound("unknown body type", 415),
    "longreq.dat": sound("long header values"),
    "ltgtruri.dat": refused(400, "angle brackets around the Request-URI"),
    "lwsdisp.dat": sound("no space between display name and bracket"),
    "lwsruri.dat": refused(400, "space in the Request-URI"),
    "lwsstart.dat": refused(400, "two spaces in the request line"),
    "mcl01.dat": refused(400, "two Content-Length"),
    "mismatch01.dat": refused(400, "CSeq of another method"),
    "mismatch02.dat": refused(400, "CSeq of another method, the own one unknown"),
    "mpart01.dat": sound("binary body", 405, 415, 501),
    "multi01.dat": refused(400, "two CSeq, Call-ID, To, From"),
    "ncl.dat": refused(400, "negative Content-Length"),
    "noreason.dat": response("empty reason phrase"),
    "novelsc.dat": sound("unknown scheme in the Request-URI", 416),
    "quotbal.dat": refused(400, "open quote in To"),
    "regaut01.dat": sound("unknown authentication scheme: the registrar challenges"),
    "regbadct.dat": refused(400, "a ? outside of angle brackets in Contact"),
    "regescrt.dat": sound("Route escaped within the Contact URI stays there"),
    "scalar02.dat": refused(400, "CSeq and Max-Forwards too large"),
    "scalarlg.dat": dropped("CSeq too large in a response"),
    "sdp01.dat": sound("the caller accepts nothing that can be sent", 400, 406),
    "semiuri.dat": sound("semicolon in the user part"),
    "test.dat": dropped("request line without version, no Via to answer to"),
    "transports.dat": sound("Via of known and unknown transports"),
    "trws.dat": refused(400, "space behind the version"),
    "unkscm.dat": sound("unknown scheme in the Request-URI", 416),
    "unksm2.dat": sound("schemes that the registrar refuses in To"),
    "unreason.dat": response("UTF-8 reason phrase"),
    "wsinv.dat": sound("white space wherever it may stand"),
    "zeromf.dat": sound("Max-Forwards 0 ends at an endpoint without harm"),
}

_RFC5118 = {
    "ipv4-mapped-ipv6.dat": sound("IPv4-mapped addresses"),
    "ipv6-bad.dat": refused(400, "IPv6 address without brackets"),
    "ipv6-bug-abnf-3-colons.dat": sound("three colons are tolerated"),
    "ipv6-correct-abnf-2-colons.dat": sound("IPv6 with an IPv4 tail"),
    "ipv6-good.dat": sound("IPv6 reference"),
    "ipv6-in-sdp.dat": sound("IPv6 in SDP"),
    "mult-ip-in-header.dat": sound("both families in Via", 481),
    "mult-ip-in-sdp.dat": sound("both families in SDP"),
    "port-ambiguous.dat": sound("the last group is no port"),
    "port-unambiguous.dat": sound("port behind the bracket"),
    "via-received-param-no-delim.dat": sound("received without brackets"),
    "via-received-param-with-delim.dat": sound("received with brackets", 481),
}

TORTURE = {
    **{f"rfc4475/{name}": verdict for name, verdict in RFC4475.items()},
    **{f"rfc5118/wire/{name}": verdict for name, verdict in _RFC5118.items()},
    # As published the files end their lines with LF alone, which is understood in a datagram.
    **{f"rfc5118/raw/{name}": verdict for name, verdict in _RFC5118.items()},
    "rfc5118/raw/ipv6-bug-abnf-3-colons.dat": refused(400, "this copy has no empty line"),
    "rfc5118/raw/ipv6-correct-abnf-2-colons.dat": refused(400, "this copy has no empty line"),
    "rfc5118/raw/ipv6-in-sdp.dat": refused(400, "Content-Length counts CRLFs, the body has LFs"),
    "rfc5118/raw/mult-ip-in-sdp.dat": refused(400, "Content-Length counts CRLFs, the body has LFs"),
}
