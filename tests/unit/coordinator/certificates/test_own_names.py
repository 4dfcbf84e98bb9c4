"""How this machine is reached."""

from __future__ import annotations

import socket

import pytest

from coordinator.certificates.own_names import address_for_others, own_names


def test_the_loopback_the_host_name_and_the_public_name_are_known() -> None:
    names = set(own_names("https://farm.studio:9000"))
    assert {"localhost", "127.0.0.1", "::1", socket.gethostname(), "farm.studio"} <= names
    assert not [name for name in names if "%" in name]
    assert "farm.studio" not in set(own_names(None))


@pytest.mark.parametrize(
    ("host", "public_url", "address"),
    [
        ("192.168.1.10", None, "192.168.1.10:8420"),
        ("fd00::1", None, "[fd00::1]:8420"),
        ("0.0.0.0", "http://farm.studio", "farm.studio:8420"),
        ("0.0.0.0", "https://farm.studio:9000", "farm.studio:9000"),
        # A lab's own address is nobody else's.
        ("192.168.1.10", "http://127.0.0.1:8420", "192.168.1.10:8420"),
    ],
)
def test_other_pcs_are_told_an_address_that_is_theirs_to_reach(host: str, public_url: str | None, address: str) -> None:
    assert address_for_others(host, 8420, public_url) == address


def test_a_server_at_every_address_is_reached_by_one_of_them() -> None:
    host, _, port = address_for_others("0.0.0.0", 8420, None).rpartition(":")
    assert port == "8420"
    assert host not in ("", "0.0.0.0")
