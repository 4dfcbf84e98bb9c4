"""The table against what there is: each route of the LAN API and each command of ``sheepfold`` is a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
from fastapi import FastAPI
from starlette.routing import BaseRoute, Route

from coordinator.access.roles import Role
from coordinator.access.routes import LOCAL_COMMANDS, ROUTES, methods_of, route_of
from coordinator.api.app import fastapi_routes
from coordinator.api.lease_routes import ACTS
from sheepfold.cli import app as command_line
from tests.unit.coordinator.api.test_app import FakeArchives, FakeClaims, fake_services

#: HTTP's own, which no route of ours answers.
_EMPTY = frozenset({"HEAD", "OPTIONS"})


def served(app: FastAPI) -> set[tuple[str, str]]:
    """Method and path of everything that the application answers."""
    return {route for found in app.routes for route in _methods(found)}


def _methods(route: BaseRoute) -> Iterator[tuple[str, str]]:
    assert isinstance(route, Route), f"{route} has no methods: no row of the table could be for it"
    for method in (route.methods or set()) - _EMPTY:
        yield method, route.path


def commands(group: Any, names: tuple[str, ...] = ()) -> Iterator[str]:
    """``node release`` and so on."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*names, name))
        else:
            yield " ".join((*names, name))


@pytest.fixture
def app() -> FastAPI:
    return fastapi_routes(fake_services(FakeClaims(), FakeArchives()))


def without_names(method: str, path: str) -> tuple[str, str]:
    """Names of a path's parts are nobody's business."""
    return method, "/".join("*" if part.startswith("{") else part for part in path.split("/"))


def test_every_route_is_a_row_and_every_row_a_route(app: FastAPI) -> None:
    leases = {(method, f"/api/leases/{{lease}}/{act}") for method, act in ACTS}
    rows = [without_names(route.method, route.path) for route in ROUTES]
    assert {without_names(*route) for route in served(app) | leases} == set(rows)
    assert len(rows) == len(set(rows)), "a route has one role"


def test_a_route_that_is_in_no_row_is_seen(app: FastAPI) -> None:
    app.add_api_route("/api/forgotten", lambda: "", methods=["POST"])
    assert {route for route in served(app) if route_of(*route) is None} == {("POST", "/api/forgotten")}


def test_what_changes_something_is_no_viewers(app: FastAPI) -> None:
    # A certificate is given to nobody who has no invitation's code; see test_joining_routes.
    changing = [route for route in ROUTES if route.method != "GET" and route.path != "/api/certificate"]
    assert changing
    assert all(route.role in (Role.NODE, Role.OPERATOR, Role.ADMIN) for route in changing)


def test_every_command_is_in_the_table_once() -> None:
    found = set(commands(typer.main.get_command(command_line)))
    told = Counter([*LOCAL_COMMANDS, *(command for route in ROUTES for command in route.commands)])
    assert set(told) == found
    assert set(told.values()) == {1}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/status"),
        ("GET", "/api/status/"),
        ("GET", "/api/status?x"),
        ("GET", "//api/status"),
        ("POST", "/api/nodes//release"),
        ("POST", "/api/nodes/a/b/release"),
        ("POST", "/api/leases/a/start/"),
        ("HEAD", "/healthz"),
        ("", ""),
    ],
)
def test_what_is_like_a_row_is_none(method: str, path: str) -> None:
    assert route_of(method, path) is None


def test_a_name_in_a_path_may_be_any_text() -> None:
    found = route_of("POST", "/api/nodes/pc 01.lan?/release")
    assert found is not None
    assert found.role is Role.OPERATOR
    assert methods_of("/api/nodes/x/release") == {"POST"}
    assert methods_of("/nothing") == frozenset()
