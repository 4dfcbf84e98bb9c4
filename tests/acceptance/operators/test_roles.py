"""People and nodes are apart at a real coordinator: by HTTP, by the command, and in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from coordinator.access.roles import PEOPLE, Role, may
from coordinator.access.routes import ROUTES, Route
from sheepfold.contract.api_messages import NODE_SECRET_HEADER
from tests.support.browser import OWN_HOST, WITHIN_MS, chromium, foreign_page
from tests.support.farm.faulty_farm import FaultyFarm, Project
from tests.support.farm.running_farm import wait_for

pytestmark = [pytest.mark.redis, pytest.mark.timeout(180)]

OF_PEOPLE = [route for route in ROUTES if route.role in PEOPLE]


@pytest.fixture(scope="module")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyFarm]:
    farm = FaultyFarm(tmp_path_factory.mktemp("roles"))
    try:
        farm.begin("pc-01")
        yield farm
    finally:
        farm.end()


@pytest.fixture
def rendering(farm: FaultyFarm) -> Iterator[Project]:
    """A project whose frame renders until it is ended."""
    project = farm.submit("1", acts={"1:*": "gate"})
    farm.wait_until_started(project, 1)
    yield project
    farm.calm_down("pc-01")


def ask(farm: FaultyFarm, method: str, path: str, secret: str, **headers: str) -> requests.Response:
    shown = {"Authorization": f"Bearer {secret}", **headers}
    return requests.request(method, farm.coordinator_url + path, headers=shown, timeout=30)


def own(route: Route, project: Project) -> str:
    """The route's path about something that is there."""
    # A revoked PC would be gone for all tests that follow.
    path = route.path.replace("{name}", "nobody" if route.path.endswith("/revoke") else "pc-01")
    return f"{path}?job={project.id}&frame=1" if path.startswith(("/api/cancel", "/api/unblock", "/api/log")) else path


def test_a_viewer_looks_and_an_operator_acts(farm: FaultyFarm, rendering: Project) -> None:
    [viewer, operator, admin] = (farm.password_of(role) for role in PEOPLE)
    cancel = f"/api/cancel?job={rendering.id}"
    for password in (viewer, operator, admin):
        [node] = ask(farm, "GET", "/api/status", password).json()["nodes"]
        assert node["name"] == "pc-01"
    refused = ask(farm, "POST", cancel, viewer)
    assert (refused.status_code, refused.json()) == (
        403, {"detail": "this needs the role operator: this password is the viewer's"},
    )  # fmt: skip
    assert farm.active() == 1, "it still renders"
    [stopped] = ask(farm, "POST", cancel, operator).json()["cancelled"]
    assert stopped["frames"] == 1
    wait_for("it has ended", lambda: farm.active() == 0, 10)
    unblocked = ask(farm, "POST", f"/api/unblock?job={rendering.id}", admin)
    assert unblocked.json()["unblocked"], "an admin operates, too"
    login = ask(farm, "GET", "/api/broker", viewer).json()["redis_url"]
    assert login.startswith("redis://sheepfold-flower:"), "no more than Flower may do"


@pytest.mark.parametrize("held", PEOPLE)
def test_each_password_opens_what_the_table_says(farm: FaultyFarm, rendering: Project, held: Role) -> None:
    answers = {route: ask(farm, route.method, own(route, rendering), farm.password_of(held)) for route in OF_PEOPLE}
    allowed = {route for route, answer in answers.items() if answer.status_code not in (401, 403)}
    assert allowed == {route for route in OF_PEOPLE if may(held, route.role)}


def test_the_farm_token_and_a_nodes_secret_are_no_persons(farm: FaultyFarm, rendering: Project) -> None:
    node_secret = (farm.folder / "pc-01" / "node-secret").read_text()
    node_id = farm.node("pc-01")["id"]
    for route in OF_PEOPLE:
        path = own(route, rendering)
        path += f"{'&' if '?' in path else '?'}node={node_id}"
        for more in ({}, {NODE_SECRET_HEADER: node_secret}):
            answer = ask(farm, route.method, path, farm.farm_token, **more)
            assert (answer.status_code, rendering.name in answer.text) == (403, False), f"{route.method} {path}"
    assert farm.active() == 1, "it still renders"


def test_nothing_in_the_state_folder_is_anybody_elses(farm: FaultyFarm, rendering: Project) -> None:
    state = farm.folder / "coordinator"
    names = {str(path.relative_to(state)) for path in state.rglob("*")}
    secrets = {"ledger.sqlite", "ledger.sqlite.key", "redis/redis.json", "redis/redis.conf"}
    assert names >= secrets | {f"{role}-password" for role in PEOPLE}
    open_to_others = [path for path in (state, *state.rglob("*")) if path.lstat().st_mode & 0o077]
    assert [path for path in open_to_others if path.parent in (state, state / "redis", state / "tls")] == []
    assert farm.active() == 1, "it was looked at while the session's cookies are in use"


def run(farm: FaultyFarm, *arguments: str, **environment: str) -> tuple[int, str]:
    """A command on another PC, which has no state folder: its exit code and its last line."""
    away = {"SHEEPFOLD_STATE_DIR": str(farm.folder / "none"), "SHEEPFOLD_FARM_TOKEN": ""}
    ended = farm.run(*arguments, **(away | environment))
    return ended.returncode, (ended.stderr or ended.stdout).splitlines()[-1]


def test_a_command_does_what_its_password_may(farm: FaultyFarm, rendering: Project, tmp_path: Path) -> None:
    (tmp_path / "viewer").write_text(farm.password_of("viewer") + "\n")
    viewer = {"SHEEPFOLD_VIEWER_PASSWORD_FILE": str(tmp_path / "viewer")}
    assert run(farm, "status", **viewer)[0] == 0
    code, line = run(farm, "cancel", str(rendering.id), **viewer)
    assert (code, line.partition(",")[0]) == (2, "SHEEPFOLD_OPERATOR_PASSWORD: this needs the role operator"), line
    code, line = run(farm, "cancel", str(rendering.id), SHEEPFOLD_OPERATOR_PASSWORD=farm.password_of("viewer"))
    assert (code, "says 403" in line) == (3, True), line
    code, line = run(farm, "status", SHEEPFOLD_VIEWER_PASSWORD=farm.farm_token)
    assert (code, "says 403" in line) == (3, True), line
    code, line = run(farm, "status", SHEEPFOLD_VIEWER_PASSWORD="nobody's password")
    assert (code, "says 401" in line) == (3, True), line
    assert farm.active() == 1, "it still renders"
    assert run(farm, "cancel", str(rendering.id), SHEEPFOLD_OPERATOR_PASSWORD=farm.password_of("operator"))[0] == 0
    ended = farm.run("status", SHEEPFOLD_FARM_TOKEN="")
    assert ended.returncode == 0, "on the coordinator's machine the state folder has the password"


def page_of(farm: FaultyFarm) -> str:
    return f"http://{OWN_HOST}:{urlsplit(farm.coordinator_url).port}/"


def signed_in(browser: Any, login: str, password: str) -> Any:
    """A page of somebody who types this where the browser asks for it."""
    return browser.new_context(http_credentials={"username": login, "password": password}).new_page()


@pytest.mark.parametrize("role", PEOPLE)
def test_in_a_browser_a_person_looks_and_changes_nothing(farm: FaultyFarm, rendering: Project, role: Role) -> None:
    with chromium() as browser:
        page = signed_in(browser, role, farm.password_of(role))
        page.goto(page_of(farm), timeout=WITHIN_MS)
        page.get_by_text(f"frame 0001 · {rendering.name}").wait_for(timeout=WITHIN_MS)
        change = "path => fetch(path, {method: 'POST'}).then(answer => answer.status)"
        assert page.evaluate(change, f"api/cancel?job={rendering.id}") == 401
    assert farm.active() == 1, "it still renders"


def test_the_farm_token_shows_no_page(farm: FaultyFarm) -> None:
    with chromium() as browser:
        for login in ("viewer", "anybody"):
            answer = signed_in(browser, login, farm.farm_token).goto(page_of(farm), timeout=WITHIN_MS)
            assert answer.status == 401


def test_no_other_page_shows_ours_inside_itself(farm: FaultyFarm) -> None:
    with chromium() as browser, foreign_page(f'<iframe src="{page_of(farm)}"></iframe>') as evil:
        page = signed_in(browser, "viewer", farm.password_of("viewer"))
        page.goto(page_of(farm), timeout=WITHIN_MS)
        with page.expect_console_message(lambda said: "frame-ancestors" in said.text, timeout=WITHIN_MS):
            page.goto(evil, timeout=WITHIN_MS)
        page.frames[1].wait_for_url("chrome-error:**", timeout=WITHIN_MS)
