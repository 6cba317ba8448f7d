"""Run within a network of its own whose packets hold 1500 octets: a SIP request of 65,507 comes in fragments,
and one that large goes out so. Prints what the kernel counted. ``python -m tests.net.fragments``.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
from pathlib import Path

from proxy.sip.flow import Flow
from proxy.sip.large import LargeRequests
from tests.net.test_driver import Gate
from tests.net.test_large_messages import invite, options

MTU = 1500
LARGEST = 65_507
"""A datagram of 65,535 octets, less the headers of IPv4 and UDP."""


async def _exchange() -> None:
    gate = Gate()
    await gate.start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(5)
        peer.sendto(options(peer.getsockname()[1], LARGEST), gate.udp)
        answer = await asyncio.to_thread(peer.recv, 70_000)
        assert answer.startswith(b"SIP/2.0 200 "), answer[:40]
        invite(gate, Flow("UDP", "127.0.0.1", peer.getsockname()[1], 0, 0), 60_000, LargeRequests.UDP)
        received = await asyncio.to_thread(peer.recv, 70_000)
        assert received.startswith(b"INVITE "), received[:40]
        assert received.endswith(b"x" * 60_000)
    await gate.driver.close()


def _main() -> None:
    subprocess.run(["ip", "link", "set", "lo", "mtu", str(MTU), "up"], check=True)
    asyncio.run(_exchange())
    names, values = [
        line.split()[1:] for line in Path("/proc/net/snmp").read_text().splitlines() if line.startswith("Ip:")
    ]
    print(dict(zip(names, values, strict=True))["ReasmOKs"])


if __name__ == "__main__":
    _main()
