"""A real Chromium in which names of hosts lead to this machine, as plain HTTP on a LAN looks to a browser."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.conftest import missing

OWN_HOST, FOREIGN_HOST = "farm.lan.test", "evil.test"
#: A page does what its script does within this time (milliseconds).
WITHIN_MS = 10_000


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser of Playwright's, without anything known yet."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not found:
        missing("no Chromium: install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("no Playwright: install the test extra")
    rules = f"MAP {OWN_HOST} 127.0.0.1, MAP {FOREIGN_HOST} 127.0.0.1"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found, args=["--no-sandbox", f"--host-resolver-rules={rules}"]
        )
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def foreign_page(html: str) -> Iterator[str]:
    """The address of a page of another site."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(html.encode())

        def log_message(self, *_arguments: object) -> None:
            """Nothing is printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://{FOREIGN_HOST}:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
