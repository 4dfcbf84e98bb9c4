"""The lab server's web page: one document, nothing loaded from anywhere else."""

from __future__ import annotations

import secrets
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, Template
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response


@cache
def _template() -> Template:
    return Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True).get_template("index.html")


async def render_page(_request: Request) -> Response:
    """The page; what it shows it asks of ``/api/overview`` and ``/api/projects/ID``."""
    nonce = secrets.token_urlsafe(16)
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {"content-security-policy": policy, "cache-control": "no-store"}
    return HTMLResponse(_template().render(nonce=nonce), headers=headers)
