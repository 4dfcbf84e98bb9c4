"""Who is let to what, over HTTP: every row of the table with every credential there is."""

from __future__ import annotations

import base64

import pytest
from fastapi.testclient import TestClient

from coordinator.access.roles import Role, may
from coordinator.access.routes import ROUTES, Route
from sheepfold.serving.guesses import FREE_GUESSES
from tests.unit.coordinator.api.test_app import (
    ADMIN,
    BEARER,
    OPERATOR,
    PASSWORDS,
    TOKEN,
    VIEWER,
    FakeArchives,
    FakeClaims,
    create_fake_api,
)

SHOWN = {Role.NODE: BEARER, Role.VIEWER: VIEWER, Role.OPERATOR: OPERATOR, Role.ADMIN: ADMIN}
GUARDED = [route for route in ROUTES if route.role is not Role.ANYBODY]
OF_PEOPLE = [route for route in GUARDED if route.role is not Role.NODE]


@pytest.fixture
def claims() -> FakeClaims:
    return FakeClaims()


@pytest.fixture
def client(claims: FakeClaims) -> TestClient:
    return TestClient(create_fake_api(claims, FakeArchives()), base_url="http://coordinator:8420")


def named(route: Route) -> str:
    return f"{route.method} {route.path}"


@pytest.mark.parametrize("route", GUARDED, ids=named)
def test_nothing_is_told_to_a_stranger(client: TestClient, claims: FakeClaims, route: Route) -> None:
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic eDp5"},
        {"Authorization": "Bearer"},
    ):
        answer = client.request(route.method, route.path, headers=headers)
        assert answer.status_code == 401
        named_setting = "SHEEPFOLD_FARM_TOKEN" if route.role is Role.NODE else "SHEEPFOLD_VIEWER_PASSWORD"
        assert route.method != "GET" or named_setting in answer.json()["detail"]
        assert answer.headers["connection"] == "close"
    assert not claims.seen


@pytest.mark.parametrize("route", OF_PEOPLE, ids=named)
@pytest.mark.parametrize("held", SHOWN)
def test_a_role_that_may_not_is_told_which_one_is_needed(client: TestClient, route: Route, held: Role) -> None:
    answer = client.request(route.method, route.path, headers=SHOWN[held])
    if may(held, route.role):
        assert answer.status_code not in (401, 403, 405)
        assert answer.text != '{"detail":"Not Found"}', "no route"
    else:
        assert answer.status_code == 403
        assert f"needs the role {route.role}" in answer.json()["detail"]


@pytest.mark.parametrize("role", PASSWORDS)
def test_no_password_of_people_makes_a_node(client: TestClient, claims: FakeClaims, role: Role) -> None:
    for route in ROUTES:
        if route.role is Role.NODE:
            assert client.request(route.method, route.path, headers=SHOWN[role]).status_code == 401
    assert not claims.seen


@pytest.mark.parametrize("role", PASSWORDS)
def test_a_person_looks_with_a_login_and_changes_nothing(client: TestClient, role: Role) -> None:
    login = (role.value, PASSWORDS[role])
    assert client.get("/", auth=login).status_code == 200
    for route in OF_PEOPLE:
        if route.method != "GET":
            assert client.request(route.method, route.path, auth=login).status_code == 401


@pytest.mark.parametrize("login", ["anybody", "", "node", "operator"])
def test_neither_the_farm_token_nor_another_roles_password_is_a_viewers(client: TestClient, login: str) -> None:
    for password in (TOKEN, PASSWORDS[Role.VIEWER]):
        answer = client.get("/api/status", auth=(login, password))
        assert (answer.status_code, answer.headers["www-authenticate"].partition(" ")[0]) == (401, "Basic")


@pytest.mark.parametrize("text", ["Basic", "Basic !!!", "Basic dmlld2Vy", "Digest x", "bearer", "Basic " + "A" * 4000])
def test_what_is_no_login_is_none(client: TestClient, text: str) -> None:
    assert client.get("/api/status", headers={"Authorization": text}).status_code == 401


def test_a_login_may_hold_any_letters(client: TestClient) -> None:
    shown = base64.b64encode(f"viewer:{PASSWORDS[Role.VIEWER]}".encode()).decode()
    for scheme in ("Basic", "basic", "BASIC"):
        assert client.get("/api/status", headers={"Authorization": f"{scheme} {shown}"}).status_code == 200


def test_guesses_are_slowed_and_told_when_the_next_one_is_looked_at(client: TestClient) -> None:
    for number in range(FREE_GUESSES + 1):
        assert client.get("/api/status", auth=("admin", f"guess-{number}")).status_code == 401
    answer = client.get("/api/status", auth=("admin", PASSWORDS[Role.ADMIN]))
    assert (answer.status_code, answer.headers["connection"]) == (429, "close")
    assert int(answer.headers["retry-after"]) >= 1


def test_what_is_in_no_row_is_not_there(client: TestClient) -> None:
    assert client.get("/api/nothing", headers=ADMIN).status_code == 404
    other = client.put("/api/status", headers=ADMIN)
    assert (other.status_code, other.headers["allow"]) == (405, "GET")


@pytest.mark.parametrize("path", ["/api/cancel?job=7", "/api/ask", "/api/nodes/pc/release"])
def test_a_page_of_another_site_changes_nothing_even_with_the_password(client: TestClient, path: str) -> None:
    foreign = {"Origin": "http://evil.test", "Host": "coordinator:8420"}
    assert client.post(path, headers=OPERATOR | foreign).status_code == 403
    own = {"Origin": "http://coordinator:8420", "Host": "coordinator:8420"}
    assert client.post(path, headers=OPERATOR | own).status_code == 200


@pytest.mark.parametrize("route", ROUTES, ids=named)
@pytest.mark.parametrize("headers", [{}, *SHOWN.values(), {"Origin": "http://evil.test"}])
def test_no_answer_is_shown_in_another_page_or_taken_for_something_else(
    client: TestClient, route: Route, headers: dict[str, str]
) -> None:
    answer = client.request(route.method, route.path, headers=headers)
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"
