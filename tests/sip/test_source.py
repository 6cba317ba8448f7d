"""Under which names sources are counted."""

from __future__ import annotations

import pytest

from proxy.sip.source import counted_as


@pytest.mark.parametrize(
    ("host", "names"),
    [
        ("192.0.2.1", ("192.0.2.1",)),
        ("::ffff:192.0.2.1", ("::ffff:192.0.2.1",)),
        ("2001:db8:0:7::1", ("2001:db8:0:7::1", "20010db800000007/64")),
        ("2001:db8:0:7:ffff::2", ("2001:db8:0:7:ffff::2", "20010db800000007/64")),
        ("2001:db8:0:8::1", ("2001:db8:0:8::1", "20010db800000008/64")),
        ("fe80::1%eth0", ("fe80::1%eth0", "fe80000000000000/64")),
    ],
)
def test_who_has_a_network_of_addresses_is_counted_by_it_too(host: str, names: tuple[str, ...]) -> None:
    assert counted_as(host) == names
