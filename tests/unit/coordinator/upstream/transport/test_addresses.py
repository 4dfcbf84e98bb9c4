"""Addresses that a server may name, and what of an address is shown."""

from __future__ import annotations

import pytest

from coordinator.upstream.errors import BadResponse
from coordinator.upstream.transport.addresses import is_this_machine, public, resolve

BASE = "https://farm.example/server/config.php"


@pytest.mark.parametrize(
    ("reference", "url"),
    [
        ("/job", "https://farm.example/job"),
        ("job?id=1", "https://farm.example/server/job?id=1"),
        ("//other.example/job", "https://other.example/job"),
        ("https://other.example:8443/job", "https://other.example:8443/job"),
        ("", BASE),
    ],
)
def test_a_reference_is_read_from_the_address_that_named_it(reference: str, url: str) -> None:
    assert resolve(BASE, reference) == url


@pytest.mark.parametrize(
    "reference",
    ["file:///etc/passwd", "ftp://farm.example/x", "javascript:alert(1)", "gopher://[::1]/"],
)
def test_only_http_and_https_lead_anywhere(reference: str) -> None:
    with pytest.raises(BadResponse, match="neither http nor https"):
        resolve(BASE, reference)


def test_an_address_without_a_host_leads_nowhere() -> None:
    with pytest.raises(BadResponse, match="neither http nor https"):
        resolve("http://farm.example/", "https:///no-host")


def test_a_reference_that_is_no_url_is_an_answer_of_the_server_and_not_our_fault() -> None:
    with pytest.raises(BadResponse, match="no URL"):
        resolve(BASE, "https://[::1/job")


def test_https_is_not_left_and_http_may_become_https() -> None:
    with pytest.raises(BadResponse, match="leave https"):
        resolve(BASE, "http://farm.example/job")
    assert resolve("http://farm.example/", "https://farm.example/job") == "https://farm.example/job"
    assert resolve("http://farm.example/", "/job") == "http://farm.example/job"


def test_what_the_server_named_is_in_no_error() -> None:
    for reference in (
        "ftp://user:s3cret@farm.example/?token=s3cret",
        "http://farm.example/?token=s3cret",
        "https://[/s3cret",
    ):
        with pytest.raises(BadResponse) as refused:
            resolve(BASE, reference)
        assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.8.9.10", "[::1]"])
def test_loopback_is_this_machine(host: str) -> None:
    assert is_this_machine(f"http://user@{host}:8080/x")


@pytest.mark.parametrize("host", ["10.0.0.1", "localhost.example", "127.0.0.1.example", "[::2]", "0.0.0.0", ""])
def test_nothing_else_is_this_machine(host: str) -> None:
    assert not is_this_machine(f"http://{host}/x")


def test_an_address_is_shown_without_user_query_and_fragment() -> None:
    assert public("https://me:s3cret@farm.example:8443/a/b?key=s3cret#s3cret") == "https://farm.example:8443/a/b"
    assert public("http://a@b:s3cret@farm.example/") == "http://farm.example/"
    assert public("http://farm.example") == "http://farm.example"
