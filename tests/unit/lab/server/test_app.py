"""Every route of the lab server: no answer is shown in another page or taken for something that it is not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.routing import Route
from starlette.testclient import TestClient

from lab.server.app import build, starlette_routes
from lab.server.fault_injection import FaultPlan
from lab.server.services import LabServices
from lab.settings import ServerSettings

LOGIN, PASSWORD = "anna", "counting sheep"


@pytest.fixture
def services(tmp_path: Path) -> Iterator[LabServices]:
    settings = ServerSettings(login=LOGIN, password=PASSWORD, server_dir=tmp_path / "server", faults=True)  # type: ignore[arg-type]
    services = LabServices(settings)
    yield services
    services.close()


@pytest.mark.parametrize("auth", [None, ("anna", "guess"), (LOGIN, PASSWORD)])
def test_every_answer_of_every_route_says_so(services: LabServices, auth: tuple[str, str] | None) -> None:
    client = TestClient(build(services), base_url="http://127.0.0.1:8421")
    routes = starlette_routes(services, FaultPlan(rate=0.0, seed=None)).routes
    asked = 0
    for route in routes:
        assert isinstance(route, Route)
        path = re.sub(r"\{\w+\}", "1", route.path)
        for method in route.methods or ():
            headers = client.request(method, path, auth=auth).headers
            said = (headers["x-content-type-options"], headers["x-frame-options"], headers["referrer-policy"])
            assert said == ("nosniff", "DENY", "same-origin"), f"{method} {path}"
            assert "frame-ancestors 'none'" in headers["content-security-policy"], f"{method} {path}"
            asked += 1
    assert asked > len(routes) > 20
