"""A page of another site, in a real Chromium that knows the owner's login, tries to change the lab server."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from tests.support.browser import OWN_HOST, WITHIN_MS, chromium, foreign_page
from tests.support.servers.running_lab import LOGIN, PASSWORD, RunningLab, running_lab

#: By script and by a form, which is followed like a link; the page says when the form's answer is there.
ATTACK = """<body><iframe name="there" onload="window.loads = (window.loads || 0) + 1"></iframe>
<form method="post" action="{url}" target="there"></form><script>
fetch("{url}", {{method: "POST", mode: "no-cors", credentials: "include"}}).finally(() => {{
  window.asked = true; document.forms[0].submit();
}})</script>"""


@pytest.fixture
def lab(tmp_path: Path):
    with running_lab(tmp_path, server_open=False) as lab:
        yield lab


def address(lab: RunningLab, path: str, login: str = "") -> str:
    return f"http://{login}{OWN_HOST}:{urlsplit(lab.url).port}{path}"


def test_a_foreign_page_cannot_cancel_a_project_over_plain_http(lab: RunningLab) -> None:
    project = lab.project()
    cancel = f"/api/projects/{project.id}/cancel"
    with chromium() as browser, foreign_page(ATTACK.format(url=address(lab, cancel))) as evil:
        page = browser.new_page()
        asked: list[tuple[str, int]] = []
        page.on("response", lambda answer: asked.append((answer.request.method, answer.status)))
        page.goto(address(lab, "/api/overview", f"{LOGIN}:{PASSWORD.replace(' ', '%20')}@"), timeout=WITHIN_MS)
        assert asked[-1] == ("GET", 200), "the browser knows the login now"
        # The top window, so that the browser treats it as a link that was followed.
        with page.expect_response(lambda answer: answer.url.endswith("/cancel") and answer.request.method == "POST"):
            page.goto(evil, timeout=WITHIN_MS)
        page.wait_for_function("window.asked && window.loads >= 2", timeout=WITHIN_MS)
        page.evaluate("document.forms[0].target = '_self'; document.forms[0].submit()")
        page.wait_for_url("**/cancel", timeout=WITHIN_MS)
        assert asked[-1] == ("POST", 403)
        assert lab.owner.project(project.id)["state"] == "active"


def test_our_own_page_may_still_cancel(lab: RunningLab) -> None:
    cancel = f"/api/projects/{lab.project().id}/cancel"
    with chromium() as browser:
        page = browser.new_page()
        page.goto(address(lab, "/", f"{LOGIN}:{PASSWORD.replace(' ', '%20')}@"), timeout=WITHIN_MS)
        ask = "path => fetch(location.origin + path, {method: 'POST'}).then(answer => answer.status)"
        assert page.evaluate(ask, cancel) == 200
        assert [project["state"] for project in lab.owner.projects()] == ["cancelled"]


def test_no_other_page_shows_ours_inside_itself(lab: RunningLab) -> None:
    answer = requests.get(f"{lab.url}/", auth=(LOGIN, PASSWORD), timeout=10)
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Frame-Options"] == "DENY"
