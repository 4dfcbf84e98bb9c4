"""The LAN API against its own description, and its lease paths: whatever is sent, no answer is a failure of ours."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from coordinator.access.roles import Role
from coordinator.access.routes import route_of
from tests.conftest import missing
from tests.support.fuzzing import fuzzed
from tests.unit.coordinator.api.test_app import ADMIN, BEARER, FakeArchives, FakeClaims, create_fake_api

try:
    import schemathesis
except ImportError:  # an environment without the test extra
    schemathesis = None

API = create_fake_api(FakeClaims(), FakeArchives())


def check(case: Any, headers: dict[str, str]) -> None:
    """An answer that says what is wrong with the request, in JSON; never a 500 and never a stack."""
    answer = case.call(headers=headers)
    assert answer.status_code < 500, answer.text
    assert "Traceback" not in answer.text
    if not headers and case.path not in ("/healthz", "/farm-ca.pem"):
        # A certificate is given for a code, which is looked at last: what is no request at all is told before.
        told_apart = (403, 413, 422) if case.path == "/api/certificate" else ()
        assert answer.status_code in (401, 404, 405, 429, *told_apart)


if schemathesis is None:

    def test_no_described_operation_fails() -> None:
        missing("no schemathesis: install the test extra")

else:
    SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", API, headers=ADMIN)
    OPERATIONS = [found.ok() for found in SCHEMA.get_all_operations()]
    CASES = st.sampled_from(OPERATIONS).flatmap(lambda operation: operation.as_strategy())

    def test_every_operation_is_described() -> None:
        assert len(OPERATIONS) >= 10

    @fuzzed(share=0.4)
    @given(case=CASES)
    def test_no_described_operation_fails_for_who_may_ask(case: Any) -> None:
        route = route_of(case.method, case.path)
        check(case, BEARER if route is None or route.role is Role.NODE else ADMIN)

    @fuzzed(share=0.2)
    @given(case=CASES)
    def test_no_described_operation_does_anything_for_a_stranger(case: Any) -> None:
        check(case, {})


@pytest.fixture(scope="module")
def client() -> TestClient:
    return TestClient(API, base_url="http://coordinator:8420")


TEXT = st.text(alphabet=st.characters(codec="utf-8"), max_size=40)
KEYS = st.sampled_from(["node", "attempt", "claim", "name", "md5", "render_s", "memory_kb", "cores", "x"])
VALUES = TEXT | st.sampled_from(["n1", "1", "-1", "1e999", "nan", "0" * 32, "a.png", "../../a.png", "9" * 400])


@fuzzed(share=0.2)
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE"]),
    act=st.sampled_from(["start", "frame", "failure"]) | TEXT,
    query=st.dictionaries(KEYS, VALUES, max_size=9),
    body=st.binary(max_size=300) | st.sampled_from([b"[" * 5000, b'{"kind": 5}', b"null", b'{"log": "\\ud800"}']),
)
def test_no_claim_fails(client: TestClient, method: str, act: str, query: dict[str, str], body: bytes) -> None:
    answer = client.request(
        method, f"/api/leases/ab12/{quote(act, safe='')}", params=query, content=body, headers=BEARER
    )
    assert answer.status_code < 500, answer.text


@fuzzed(share=0.2)
@given(header=st.binary(max_size=60).filter(lambda header: b"\n" not in header and b"\r" not in header))
def test_no_authorization_header_fails_or_opens_anything(client: TestClient, header: bytes) -> None:
    for path in ("/api/leases/ab12/start", "/api/join"):
        answer = client.post(path, headers=[(b"authorization", header)])
        assert answer.status_code in (401, 429), answer.text
